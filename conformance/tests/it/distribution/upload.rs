//! end-4a, 4b, 4c, 5, 6, 13 and 14: uploads.

use bytes::Bytes;
use conformance::{
    Answer, Caller, Request,
    fixture::{Algorithm, Content, hostile},
    push,
};
use http::Method;

use super::{REPOSITORY, blob_path, registry};

/// Chunks as large as the registry announces that they must be.
const CHUNK: usize = 5 * 1024 * 1024;

fn uploads(query: &str) -> String {
    format!("/v2/{REPOSITORY}/blobs/uploads/{query}")
}

/// A commit's answer names the blob, and the blob is there.
async fn is_stored(caller: &Caller, answer: Answer, blob: &Content) {
    let answer = answer.expect(201);
    assert_eq!(answer.header("docker-content-digest"), blob.digest);
    let there = caller.send(Request::get(push::location(&answer))).await.expect(200);
    assert_eq!(there.body, blob.bytes);
}

async fn is_absent(caller: &Caller, blob: &Content) {
    caller.send(Request::head(blob_path(&blob.digest))).await.expect(404);
}

/// A blob whose bytes are not those of its digest.
fn lie(algorithm: Algorithm, seed: &str, size: usize) -> Content {
    let honest = Content::random(algorithm, seed, size);
    let mut bytes = honest.bytes.to_vec();
    bytes.extend_from_slice(b"oh no");
    Content { bytes: bytes.into(), ..honest }
}

/// end-4a, then end-6 with the whole body.
#[tokio::test]
async fn post_then_put_stores_a_blob() {
    let (_harness, vendor) = registry().await;
    for algorithm in Algorithm::ALL {
        let blob = Content::random(algorithm, "post-put", 512);
        let location = push::open(&vendor, REPOSITORY).await;
        let put = Request::put(push::with_digest(&location, &blob.digest)).body(blob.bytes.clone());
        is_stored(&vendor, vendor.send(put).await, &blob).await;
    }
}

/// end-4b: one request is enough.
#[tokio::test]
async fn a_single_post_stores_a_blob() {
    let (_harness, vendor) = registry().await;
    for algorithm in Algorithm::ALL {
        let blob = Content::random(algorithm, "single", 512);
        let post = Request::post(uploads(&format!("?digest={}", blob.digest)))
            .header("Content-Type", "application/octet-stream")
            .body(blob.bytes.clone());
        is_stored(&vendor, vendor.send(post).await, &blob).await;
    }
}

/// end-4c: the algorithm can be announced when the session is opened.
#[tokio::test]
async fn a_session_may_announce_its_digest_algorithm() {
    let (_harness, vendor) = registry().await;
    for algorithm in Algorithm::ALL {
        let blob = Content::random(algorithm, "announced", 3000);
        let opened = vendor.send(Request::post(uploads(&format!("?digest-algorithm={}", algorithm.name())))).await;
        let location = push::location(&opened.expect(202));
        let sent = push::chunk(&vendor, &location, 0, blob.bytes.clone()).await.expect(202);
        is_stored(&vendor, push::commit(&vendor, &push::location(&sent), &blob.digest).await, &blob).await;
    }
    vendor.send(Request::post(uploads("?digest-algorithm=md5"))).await.expect(400);
}

/// end-4a, 5 and 6: one chunk, announced minimum and all.
#[tokio::test]
async fn a_blob_of_one_chunk_is_stored() {
    let (_harness, vendor) = registry().await;
    for algorithm in Algorithm::ALL {
        let blob = Content::random(algorithm, "one chunk", 512);
        let opened = vendor.send(Request::post(uploads(""))).await.expect(202);
        assert_eq!(opened.header("oci-chunk-min-length"), CHUNK.to_string());
        let sent = push::chunk(&vendor, &push::location(&opened), 0, blob.bytes.clone()).await.expect(202);
        assert_eq!(sent.header("range"), "0-511");
        is_stored(&vendor, push::commit(&vendor, &push::location(&sent), &blob.digest).await, &blob).await;
    }
}

/// Sends all chunks in order and gives the location after each; the last one goes with `PUT` if so asked.
async fn send_chunks(caller: &Caller, blob: &Content, put_last: bool, out_of_order: bool) -> Answer {
    let mut location = push::open(caller, REPOSITORY).await;
    let mut offset = 0;
    while offset < blob.size() {
        let end = (offset + CHUNK).min(blob.size());
        if out_of_order {
            location = recovers(caller, blob, &location, offset).await;
        }
        let bytes = blob.bytes.slice(offset..end);
        if put_last && end == blob.size() {
            let last = push::with_digest(&location, &blob.digest);
            return caller.send(push::chunk_request(Method::PUT, &last, offset, bytes)).await;
        }
        let sent = push::chunk(caller, &location, offset, bytes).await.expect(202);
        assert_eq!(sent.header("range"), format!("0-{}", end - 1));
        location = push::location(&sent);
        offset = end;
    }
    push::commit(caller, &location, &blob.digest).await
}

/// A chunk out of order is refused with 416, and the session's status (end-13) says where to go on.
async fn recovers(caller: &Caller, blob: &Content, location: &str, offset: usize) -> String {
    let ahead = if offset + CHUNK < blob.size() { offset + CHUNK } else { 0 };
    let wrong = blob.bytes.slice(ahead..(ahead + CHUNK).min(blob.size()));
    push::chunk(caller, location, ahead, wrong).await.refused(416, "BLOB_UPLOAD_INVALID");
    let status = caller.send(Request::get(location)).await.expect(204);
    assert_eq!(status.header("range"), format!("0-{}", offset.saturating_sub(1)));
    push::location(&status)
}

/// end-5 and 6: three chunks, the last one by `PATCH` or with the `PUT`.
#[tokio::test]
async fn a_blob_of_three_chunks_is_stored() {
    let (_harness, vendor) = registry().await;
    for algorithm in Algorithm::ALL {
        for put_last in [false, true] {
            let blob = Content::random(algorithm, &format!("chunks {put_last}"), CHUNK * 3 - 5);
            is_stored(&vendor, send_chunks(&vendor, &blob, put_last, false).await, &blob).await;
        }
    }
}

/// end-5, 6 and 13.
#[tokio::test]
async fn a_chunk_out_of_order_is_refused_and_the_upload_goes_on() {
    let (_harness, vendor) = registry().await;
    for algorithm in Algorithm::ALL {
        for put_last in [false, true] {
            let blob = Content::random(algorithm, &format!("order {put_last}"), CHUNK * 3 - 5);
            is_stored(&vendor, send_chunks(&vendor, &blob, put_last, true).await, &blob).await;
        }
    }
}

/// end-6: the last chunk with `PUT` is held to its offset like every other.
#[tokio::test]
async fn a_last_chunk_out_of_order_is_refused() {
    let (_harness, vendor) = registry().await;
    let blob = Content::random(Algorithm::Sha256, "last out of order", CHUNK + 100);
    let location = push::open(&vendor, REPOSITORY).await;
    let last = push::with_digest(&location, &blob.digest);
    let put = push::chunk_request(Method::PUT, &last, CHUNK, blob.bytes.slice(CHUNK..));
    vendor.send(put).await.refused(416, "BLOB_UPLOAD_INVALID");
    is_absent(&vendor, &blob).await;
    let location = push::location(&vendor.send(Request::get(location)).await.expect(204));
    let sent = push::chunk(&vendor, &location, 0, blob.bytes.slice(..CHUNK)).await.expect(202);
    let last = push::with_digest(&push::location(&sent), &blob.digest);
    let put = push::chunk_request(Method::PUT, &last, CHUNK, blob.bytes.slice(CHUNK..));
    is_stored(&vendor, vendor.send(put).await, &blob).await;
}

/// end-5: a body without length or range is appended.
#[tokio::test]
async fn a_streamed_body_of_unknown_length_is_stored() {
    let (_harness, vendor) = registry().await;
    for algorithm in Algorithm::ALL {
        let blob = Content::random(algorithm, "stream", 200_000);
        let location = push::open(&vendor, REPOSITORY).await;
        let chunks: Vec<Bytes> = blob.bytes.chunks(7000).map(Bytes::copy_from_slice).collect();
        let sent = vendor.send(Request::patch(location).chunks(chunks)).await.expect(202);
        is_stored(&vendor, push::commit(&vendor, &push::location(&sent), &blob.digest).await, &blob).await;
    }
}

/// end-13: what a session holds is told before the first byte and after each.
#[tokio::test]
async fn the_status_of_a_session_says_what_has_arrived() {
    let (_harness, vendor) = registry().await;
    let location = push::open(&vendor, REPOSITORY).await;
    let fresh = vendor.send(Request::get(location.clone())).await.expect(204);
    assert_eq!(fresh.header("range"), "0-0");
    let sent = push::chunk(&vendor, &location, 0, Bytes::from_static(b"0123456789")).await.expect(202);
    let status = vendor.send(Request::get(push::location(&sent))).await.expect(204);
    assert_eq!(status.header("range"), "0-9");
}

/// end-14.
#[tokio::test]
async fn a_cancelled_upload_is_gone() {
    let (_harness, vendor) = registry().await;
    for opened_only in [true, false] {
        let mut location = push::open(&vendor, REPOSITORY).await;
        if !opened_only {
            let sent = push::chunk(&vendor, &location, 0, Bytes::from_static(b"some bytes")).await.expect(202);
            location = push::location(&sent);
        }
        vendor.send(Request::delete(location.clone())).await.expect(204);
        vendor.send(Request::get(location.clone())).await.refused(404, "BLOB_UPLOAD_UNKNOWN");
        vendor.send(Request::delete(location)).await.refused(404, "BLOB_UPLOAD_UNKNOWN");
    }
}

/// end-4b, 5 and 6: however it comes, a body that does not hash to its digest is refused and not readable.
#[tokio::test]
async fn a_digest_that_lies_is_refused() {
    let (_harness, vendor) = registry().await;
    for algorithm in Algorithm::ALL {
        let single = lie(algorithm, "lie single", 3000);
        let post = Request::post(uploads(&format!("?digest={}", single.digest))).body(single.bytes.clone());
        vendor.send(post).await.refused(400, "DIGEST_INVALID");
        is_absent(&vendor, &single).await;

        let whole = lie(algorithm, "lie whole", 3000);
        let location = push::open(&vendor, REPOSITORY).await;
        let put = Request::put(push::with_digest(&location, &whole.digest)).body(whole.bytes.clone());
        vendor.send(put).await.refused(400, "DIGEST_INVALID");
        is_absent(&vendor, &whole).await;

        let streamed = lie(algorithm, "lie streamed", 3000);
        let location = push::open(&vendor, REPOSITORY).await;
        let sent = vendor.send(Request::patch(location).chunks(vec![streamed.bytes.clone()])).await.expect(202);
        let refused = push::commit(&vendor, &push::location(&sent), &streamed.digest).await;
        refused.refused(400, "DIGEST_INVALID");
        is_absent(&vendor, &streamed).await;

        for put_last in [false, true] {
            let chunked = lie(algorithm, &format!("lie chunked {put_last}"), CHUNK * 3 - 5);
            send_chunks(&vendor, &chunked, put_last, false).await.refused(400, "DIGEST_INVALID");
            is_absent(&vendor, &chunked).await;
        }
    }
}

/// end-6: the session outlives a wrong digest, and the right one still ends it.
#[tokio::test]
async fn a_wrong_digest_does_not_cost_the_bytes_already_sent() {
    let (_harness, vendor) = registry().await;
    let blob = Content::random(Algorithm::Sha256, "survives", 3000);
    let location = push::open(&vendor, REPOSITORY).await;
    let sent = push::chunk(&vendor, &location, 0, blob.bytes.clone()).await.expect(202);
    let location = push::location(&sent);
    let wrong = Content::random(Algorithm::Sha256, "another", 10);
    push::commit(&vendor, &location, &wrong.digest).await.refused(400, "DIGEST_INVALID");
    is_stored(&vendor, push::commit(&vendor, &location, &blob.digest).await, &blob).await;
}

/// end-5: an upload goes on after the server was killed, from what it acknowledged.
#[tokio::test]
async fn an_upload_is_resumed_after_a_kill() {
    let (mut harness, vendor) = registry().await;
    let blob = Content::random(Algorithm::Sha256, "killed", CHUNK * 2);
    let location = push::open(&vendor, REPOSITORY).await;
    let sent = push::chunk(&vendor, &location, 0, blob.bytes.slice(..CHUNK)).await.expect(202);
    harness.restart().await;
    let status = vendor.send(Request::get(push::location(&sent))).await.expect(204);
    assert_eq!(status.header("range"), format!("0-{}", CHUNK - 1));
    let sent = push::chunk(&vendor, &push::location(&status), CHUNK, blob.bytes.slice(CHUNK..)).await.expect(202);
    is_stored(&vendor, push::commit(&vendor, &push::location(&sent), &blob.digest).await, &blob).await;
}

/// end-5, 6, 13 and 14: a session belongs to the repository it was opened in, and to nobody who made it up.
#[tokio::test]
async fn a_session_of_another_repository_is_unknown() {
    let (_harness, vendor) = registry().await;
    let location = push::open(&vendor, REPOSITORY).await;
    let moved = location.replace(REPOSITORY, "acme/other");
    let (head, id) = location.rsplit_once('/').unwrap();
    let forged = format!("{head}/{}", id.chars().rev().collect::<String>());
    for path in [moved, forged, format!("{head}/00000000-0000-0000-0000-000000000000")] {
        vendor.send(Request::get(path.clone())).await.refused(404, "BLOB_UPLOAD_UNKNOWN");
        let patch = Request::patch(path.clone()).body("bytes");
        vendor.send(patch).await.refused(404, "BLOB_UPLOAD_UNKNOWN");
        vendor.send(Request::delete(path)).await.refused(404, "BLOB_UPLOAD_UNKNOWN");
    }
}

/// end-5.
#[tokio::test]
async fn what_is_no_range_is_refused_and_the_session_goes_on() {
    let (_harness, vendor) = registry().await;
    let blob = Content::random(Algorithm::Sha256, "no range", 64);
    let location = push::open(&vendor, REPOSITORY).await;
    for range in hostile::CONTENT_RANGES {
        let patch = Request::patch(location.clone()).header("Content-Range", *range).body(blob.bytes.clone());
        let answer = vendor.send(patch).await;
        assert!(matches!(answer.status.as_u16(), 400 | 416), "{range}: {} {}", answer.status, answer.text());
        assert_eq!(answer.code(), "BLOB_UPLOAD_INVALID", "{range}");
    }
    let put = Request::put(push::with_digest(&location, &blob.digest)).body(blob.bytes.clone());
    is_stored(&vendor, vendor.send(put).await, &blob).await;
}
