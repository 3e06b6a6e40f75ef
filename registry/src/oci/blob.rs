//! Blobs (end-2, end-10).

use auth::{Delete, Permit, Pull, Push};
use http::{HeaderMap, Response, StatusCode, header};
use packages::View;
use storage::{Digest, Store, blob};

use super::{Answered, CONTENT_DIGEST, empty, range::Asked, set, text, unchanged};
use crate::{body::Body, error::Failure};

fn describe(response: &mut Response<Body>, digest: &Digest) {
    set(response, CONTENT_DIGEST, digest.as_str());
    set(response, header::ETAG, format!("\"{digest}\""));
    // A digest's bytes never change; whether this reader may have them can.
    set(response, header::CACHE_CONTROL, "private, max-age=31536000, immutable");
    set(response, header::CONTENT_TYPE, "application/octet-stream");
    set(response, header::ACCEPT_RANGES, "bytes");
    // A pushed HTML page must never run as a page of this host.
    set(response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(response, header::CONTENT_SECURITY_POLICY, "sandbox");
}

/// `GET` (end-2).
pub(crate) async fn get(
    store: &Store,
    permit: &Permit<Pull>,
    view: View,
    digest: &Digest,
    headers: &HeaderMap,
) -> Answered {
    let View::Live = view;
    let readable = permit.repository();
    if unchanged(headers, digest) {
        blob::stat(store, &readable, digest).await?;
        let mut response = empty(StatusCode::NOT_MODIFIED);
        describe(&mut response, digest);
        return Ok(response);
    }
    let asked = text(headers, header::RANGE).and_then(Asked::parse);
    let content = blob::read(store, &readable, digest, &|size| asked.map(|a| a.within(size).unwrap_or(0..0))).await?;
    let size = content.size;
    let mut response = match asked.map(|asked| asked.within(size)) {
        None => Response::new(Body::stream(content.stream, size)),
        Some(None) => return Err(Failure::Range(size)),
        Some(Some(range)) => {
            let mut partial = Response::new(Body::stream(content.stream, range.end - range.start));
            *partial.status_mut() = StatusCode::PARTIAL_CONTENT;
            set(&mut partial, header::CONTENT_RANGE, format!("bytes {}-{}/{size}", range.start, range.end - 1));
            partial
        }
    };
    describe(&mut response, digest);
    Ok(response)
}

/// Who asks for a blob's head: who may push relies on the answer, so it is a promise.
#[derive(Debug)]
pub(crate) enum Asker {
    /// May only read.
    Reader(Permit<Pull>),
    /// May push.
    Pusher(Permit<Push>),
}

/// `HEAD` (end-2).
pub(crate) async fn head(store: &Store, asker: &Asker, digest: &Digest) -> Answered {
    let size = match asker {
        Asker::Reader(permit) => blob::stat(store, &permit.repository(), digest).await?,
        Asker::Pusher(permit) => blob::promise(store, &permit.repository(), digest).await?,
    };
    let mut response = empty(StatusCode::OK);
    describe(&mut response, digest);
    set(&mut response, header::CONTENT_LENGTH, size.to_string());
    Ok(response)
}

/// `DELETE` (end-10).
pub(crate) async fn delete(store: &Store, permit: &Permit<Delete>, digest: &Digest) -> Answered {
    blob::delete(store, &permit.repository(), digest).await?;
    let mut response = empty(StatusCode::ACCEPTED);
    set(&mut response, CONTENT_DIGEST, digest.as_str());
    set(
        &mut response,
        header::WARNING,
        "299 - \"manifests of this repository that use the blob cannot be pulled until it is pushed again\"",
    );
    Ok(response)
}
