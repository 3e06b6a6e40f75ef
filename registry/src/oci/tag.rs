//! Tag lists (end-8a, end-8b) and the catalog.

use auth::{Permit, Pull};
use http::{Response, header};
use packages::View;
use serde_json::json;
use storage::{Account, RepositoryName, Store, repository, tag};

use super::{Answered, Query, page, set};
use crate::body::Body;

fn document(json: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Body::full(json.to_string()));
    set(&mut response, header::CONTENT_TYPE, "application/json");
    set(&mut response, header::CACHE_CONTROL, "no-store");
    response
}

/// `GET /v2/<name>/tags/list` (end-8a, end-8b).
pub(crate) async fn list(store: &Store, permit: &Permit<Pull>, view: View, query: &Query<'_>) -> Answered {
    let View::Live = view;
    let limit = page::limit(query)?;
    let found = tag::page(store, &permit.repository(), query.first("last"), limit).await?;
    let mut response = document(&json!({ "name": permit.name(), "tags": found.tags }));
    if let (true, Some(last)) = (found.more, found.tags.last()) {
        let path = format!("/v2/{}/tags/list", permit.name());
        set(&mut response, header::LINK, page::next(&path, limit, last.as_str()));
    }
    Ok(response)
}

/// `GET /v2/_catalog`: the repositories of one account.
pub(crate) async fn catalog(store: &Store, account: &Account, query: &Query<'_>) -> Answered {
    let limit = page::limit(query)?;
    let last: Option<RepositoryName> = query.first("last").and_then(|last| last.parse().ok());
    let found = repository::page(store, account, last.as_ref(), limit).await?;
    let mut response = document(&json!({ "repositories": found.names }));
    if let (true, Some(last)) = (found.more, found.names.last()) {
        set(&mut response, header::LINK, page::next("/v2/_catalog", limit, last.as_str()));
    }
    Ok(response)
}
