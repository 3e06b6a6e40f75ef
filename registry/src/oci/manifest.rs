//! Manifests (end-3, end-7, end-9).

use auth::{Delete, Permit, Pull, Push};
use http::{HeaderMap, HeaderName, Response, StatusCode, header};
use packages::View;
use storage::{
    Reference, Store, Tag,
    manifest::{self, SIZE_LIMIT, TAG_LIMIT},
    stream::ByteStream,
    tag,
};

use super::{Answered, CONTENT_DIGEST, Query, empty, set, text, unchanged};
use crate::{
    body::{self, Body},
    error::{Code, Failure},
};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// Names a tag that was set, once for each.
pub(crate) const TAG: HeaderName = HeaderName::from_static("oci-tag");

/// `GET` and `HEAD` (end-3). Whoever asks as a `pusher` is promised what it was told.
pub(crate) async fn get(
    store: &Store,
    permit: &Permit<Pull>,
    pusher: Option<&Permit<Push>>,
    view: View,
    reference: &Reference,
    headers: &HeaderMap,
) -> Answered {
    let View::Live = view;
    let readable = permit.repository();
    let found = match pusher {
        Some(pusher) => manifest::promise(store, &pusher.repository(), reference).await?,
        None => manifest::get(store, &readable, reference).await?,
    };
    store.retention().pulled(store, readable.repository(), reference, &found.digest);
    let mut response = if unchanged(headers, &found.digest) {
        empty(StatusCode::NOT_MODIFIED)
    } else {
        Response::new(Body::full(found.bytes))
    };
    set(&mut response, header::CONTENT_TYPE, &found.media_type);
    set(&mut response, CONTENT_DIGEST, found.digest.as_str());
    set(&mut response, header::ETAG, format!("\"{}\"", found.digest));
    set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    let cache = match reference {
        Reference::Digest(_) => "private, max-age=31536000, immutable",
        Reference::Tag(_) => "private, no-cache",
    };
    set(&mut response, header::CACHE_CONTROL, cache);
    Ok(response)
}

/// `PUT` (end-7a, end-7b).
pub(crate) async fn put(
    store: &Store,
    permit: &Permit<Push>,
    reference: &Reference,
    query: &Query<'_>,
    headers: &HeaderMap,
    body: ByteStream,
) -> Answered {
    // `tag=` belongs to a push by digest; beside a tag in the path it is not defined, and is left alone.
    let mut tags: Vec<Tag> = Vec::new();
    if let Reference::Digest(_) = reference {
        for text in query.all("tag") {
            if tags.len() == TAG_LIMIT {
                return Err(Failure::TooManyTags);
            }
            tags.push(text.parse().map_err(|e: storage::NameError| Failure::Bad(Code::TagInvalid, e.to_string()))?);
        }
    }
    let content_type = text(headers, header::CONTENT_TYPE).unwrap_or_default();
    let content_type = content_type.split(';').next().unwrap_or_default().trim().to_owned();
    let bytes = body::collect(body, SIZE_LIMIT, "a manifest").await?;
    let by = permit.label().to_owned();
    let push = manifest::Push { reference: reference.clone(), tags, content_type, bytes, by };
    let pushed = manifest::put(store, &permit.repository(), push).await?;
    let mut response = empty(StatusCode::CREATED);
    set(&mut response, header::LOCATION, format!("/v2/{}/manifests/{}", permit.name(), pushed.digest));
    set(&mut response, CONTENT_DIGEST, pushed.digest.as_str());
    if let Some(subject) = &pushed.subject {
        set(&mut response, SUBJECT, subject.as_str());
    }
    if let Reference::Digest(_) = reference {
        for tag in &pushed.tags {
            set(&mut response, TAG, tag.as_str());
        }
    }
    Ok(response)
}

/// `DELETE` (end-9): a tag alone, or a manifest with its tags.
pub(crate) async fn delete(store: &Store, permit: &Permit<Delete>, reference: &Reference) -> Answered {
    let target = permit.repository();
    match reference {
        Reference::Tag(tag) => tag::delete(store, &target, tag).await?,
        Reference::Digest(digest) => manifest::delete(store, &target, digest).await?,
    }
    Ok(empty(StatusCode::ACCEPTED))
}
