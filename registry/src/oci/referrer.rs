//! Referrers (end-12a, end-12b).

use auth::{Permit, Pull};
use http::{HeaderName, Response, header};
use packages::View;
use serde_json::json;
use storage::{Digest, Store, manifest::OCI_INDEX, referrer};

use super::{Answered, Query, set};
use crate::body::Body;

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// `GET /v2/<name>/referrers/<digest>`: never 404.
pub(crate) async fn list(
    store: &Store,
    permit: &Permit<Pull>,
    view: View,
    subject: &Digest,
    query: &Query<'_>,
) -> Answered {
    let View::Live = view;
    let artifact_type = query.first("artifactType").filter(|t| !t.is_empty());
    let found = referrer::page(store, &permit.repository(), subject, artifact_type, query.first("after")).await?;
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found.descriptors });
    let mut response = Response::new(Body::full(index.to_string()));
    set(&mut response, header::CONTENT_TYPE, OCI_INDEX);
    set(&mut response, header::CACHE_CONTROL, "no-store");
    if artifact_type.is_some() {
        set(&mut response, FILTERS_APPLIED, "artifactType");
    }
    if let Some(after) = found.next {
        let mut link = url::form_urlencoded::Serializer::new(String::new());
        if let Some(artifact_type) = artifact_type {
            link.append_pair("artifactType", artifact_type);
        }
        let link = link.append_pair("after", &after).finish();
        let path = format!("/v2/{}/referrers/{subject}", permit.name());
        set(&mut response, header::LINK, format!("<{path}?{link}>; rel=\"next\""));
    }
    Ok(response)
}
