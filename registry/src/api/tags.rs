//! Tags of a repository: listed with what they point at, and deleted.

use auth::{Delete, Listing, Pull, authorize_actor};
use http::{StatusCode, header};
use serde::Serialize;
use storage::{Digest, Tag, tag};

use super::{
    Call, Problem,
    envelope::{if_match_text, kept_by, nothing},
    page::{Asked, Filters},
    repositories::millis,
};
use crate::oci::{Answered, Query, empty, set};

/// A tag as the API shows it. Its version, for `If-Match`, is the digest in quotes.
#[derive(Debug, Serialize)]
pub(super) struct TagDocument {
    tag: Tag,
    digest: Digest,
    size_bytes: u64,
    media_type: String,
    updated_at: String,
}

pub(super) async fn list(call: Call) -> Answered {
    let asked = Asked::read(&call, Filters::Tags)?;
    let permit = authorize_actor::<Pull>(&call.actor, &call.repository("repository")?).map_err(Problem::refused)?;
    let after = asked.page.after.as_deref();
    let found = tag::list(&call.app.store, &permit.repository(), after, asked.page.limit).await;
    let found = found.map_err(kept_by("repository"))?;
    let items = found.tags.into_iter().map(|(tag, record)| TagDocument {
        tag,
        digest: record.digest,
        size_bytes: record.size,
        media_type: record.media_type,
        updated_at: millis(record.pushed_at),
    });
    asked.answer(Listing { items: items.collect(), next: found.next })
}

pub(super) async fn delete(call: Call) -> Answered {
    call.parameters(&["repository", "tag"])?;
    let seen = if_match_text(&call.headers)?;
    let name = call.repository("repository")?;
    let permit = authorize_actor::<Delete>(&call.actor, &name).map_err(Problem::refused)?;
    let read = authorize_actor::<Pull>(&call.actor, &name).map_err(Problem::refused)?;
    let query = Query::parse(call.uri.query());
    let tag = query.first("tag").ok_or_else(|| Problem::invalid("?tag", "say which"))?;
    let tag: Tag = tag.parse().map_err(|error: storage::NameError| Problem::invalid("?tag", error.to_string()))?;
    nothing(call.body).await?;
    let store = &call.app.store;
    let now = tag::get(store, &read.repository(), &tag).await.map_err(kept_by("tag"))?.digest;
    // What is no digest of ours is a version that the tag never had.
    if seen.is_some_and(|seen| seen != now.as_str()) {
        return Err(Problem::Changed(now.to_string()).into());
    }
    match tag::delete_seen(store, &permit.repository(), &tag, Some(&now)).await {
        Err(storage::Error::Conflict) => {
            let now = tag::get(store, &read.repository(), &tag).await.map_err(kept_by("tag"))?.digest;
            return Err(Problem::Changed(now.to_string()).into());
        }
        deleted => deleted.map_err(kept_by("tag"))?,
    }
    tracing::info!(event = "tag.delete", repository = %name, tag = %tag, digest = %now, actor = call.actor.label(), "a tag was deleted");
    let entry = auth::Entry::new(auth::Happened::TagDelete, &call.actor).of(permit.account());
    call.app.auth.note(entry.target(format!("{name}:{tag}")));
    let mut response = empty(StatusCode::NO_CONTENT);
    set(&mut response, header::CACHE_CONTROL, "no-store");
    Ok(response)
}
