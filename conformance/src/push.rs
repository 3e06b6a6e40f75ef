//! Pushing through HTTP, step by step, for tests that need something to be there.

use bytes::Bytes;
use http::Method;

use crate::{
    actor::Caller,
    client::{Answer, Request},
    fixture::{Bundle, Content},
};

/// Opens an upload session (end-4a) and gives its location.
pub async fn open(caller: &Caller, repository: &str) -> String {
    let answer = caller.send(Request::post(format!("/v2/{repository}/blobs/uploads/"))).await.expect(202);
    location(&answer)
}

/// The location of an answer, as a path.
///
/// # Panics
/// When there is none, or it is not relative: a relative one is right behind every proxy.
#[track_caller]
pub fn location(answer: &Answer) -> String {
    let location = answer.header("location");
    assert!(location.starts_with('/'), "a relative Location: {:?}", answer.headers);
    location.to_owned()
}

/// Adds a parameter to a location that may have a query already.
pub fn with_parameter(location: &str, name: &str, value: &str) -> String {
    let mark = if location.contains('?') { '&' } else { '?' };
    format!("{location}{mark}{name}={value}")
}

/// Adds the digest that ends an upload.
pub fn with_digest(location: &str, digest: &str) -> String {
    with_parameter(location, "digest", digest)
}

/// Sends a chunk that starts at `offset` with `PATCH` (end-5).
pub async fn chunk(caller: &Caller, location: &str, offset: usize, bytes: Bytes) -> Answer {
    caller.send(chunk_request(Method::PATCH, location, offset, bytes)).await
}

/// A chunk as a request of the given method.
pub fn chunk_request(method: Method, location: &str, offset: usize, bytes: Bytes) -> Request {
    let end = (offset + bytes.len()).saturating_sub(1);
    Request::new(method, location)
        .header("Content-Type", "application/octet-stream")
        .header("Content-Range", format!("{offset}-{end}"))
        .body(bytes)
}

/// Commits an upload with an empty body (end-6).
pub async fn commit(caller: &Caller, location: &str, digest: &str) -> Answer {
    caller.send(Request::put(with_digest(location, digest))).await
}

/// Pushes a blob: `POST`, then `PUT` with the bytes.
pub async fn blob(caller: &Caller, repository: &str, content: &Content) -> Answer {
    let location = open(caller, repository).await;
    let put = Request::put(with_digest(&location, &content.digest))
        .header("Content-Type", "application/octet-stream")
        .body(content.bytes.clone());
    caller.send(put).await.expect(201)
}

/// The `PUT` of a manifest under a tag or digest (end-7a).
pub fn manifest_request(repository: &str, reference: &str, content: &Content) -> Request {
    Request::put(format!("/v2/{repository}/manifests/{reference}"))
        .header("Content-Type", &content.media_type)
        .body(content.bytes.clone())
}

/// Pushes every blob and manifest of a bundle, and its root once more under the tag.
pub async fn bundle(caller: &Caller, repository: &str, tag: &str, bundle: &Bundle) -> Answer {
    for content in &bundle.blobs {
        blob(caller, repository, content).await;
    }
    for content in &bundle.manifests {
        let _pushed = caller.send(manifest_request(repository, &content.digest, content)).await.expect(201);
    }
    caller.send(manifest_request(repository, tag, bundle.root())).await.expect(201)
}
