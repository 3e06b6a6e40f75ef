//! end-2: `GET` and `HEAD /v2/<name>/blobs/<digest>`.

use conformance::{
    Request,
    fixture::{Algorithm, Content, hostile},
    push,
};

use super::{REPOSITORY, blob_path, registry};

/// end-2.
#[tokio::test]
async fn a_pushed_blob_comes_back_byte_for_byte() {
    let (_harness, vendor) = registry().await;
    for algorithm in Algorithm::ALL {
        let blob = Content::random(algorithm, "whole", 100_000);
        push::blob(&vendor, REPOSITORY, &blob).await;
        let answer = vendor.send(Request::get(blob_path(&blob.digest))).await.expect(200);
        assert_eq!(answer.body, blob.bytes);
        assert_eq!(answer.header("docker-content-digest"), blob.digest);
        assert_eq!(answer.header("content-length"), "100000");
    }
}

/// end-2.
#[tokio::test]
async fn head_says_of_a_blob_what_get_would_and_sends_nothing() {
    let (_harness, vendor) = registry().await;
    for algorithm in Algorithm::ALL {
        let blob = Content::random(algorithm, "head", 512);
        push::blob(&vendor, REPOSITORY, &blob).await;
        let answer = vendor.send(Request::head(blob_path(&blob.digest))).await.expect(200);
        assert!(answer.body.is_empty());
        assert_eq!(answer.header("content-length"), "512");
        assert_eq!(answer.header("docker-content-digest"), blob.digest);
    }
}

/// end-2: `BLOB_UNKNOWN` in a repository that exists, `NAME_UNKNOWN` in one that does not.
#[tokio::test]
async fn a_blob_that_was_not_pushed_is_unknown() {
    let (_harness, vendor) = registry().await;
    for algorithm in Algorithm::ALL {
        let absent = Content::random(algorithm, "absent", 512);
        let _no_repository = vendor
            .send(Request::get("/v2/acme/empty/blobs/".to_owned() + &absent.digest))
            .await
            .refused(404, "NAME_UNKNOWN");
        push::blob(&vendor, REPOSITORY, &Content::random(algorithm, "present", 512)).await;
        vendor.send(Request::get(blob_path(&absent.digest))).await.refused(404, "BLOB_UNKNOWN");
        let head = vendor.send(Request::head(blob_path(&absent.digest))).await.expect(404);
        assert!(head.body.is_empty());
    }
}

/// end-2: a range (RFC 9110, 14) gives exactly its bytes.
#[tokio::test]
async fn a_range_of_a_blob_is_served_exactly() {
    let (_harness, vendor) = registry().await;
    for algorithm in Algorithm::ALL {
        let blob = Content::random(algorithm, "range", 2048);
        push::blob(&vendor, REPOSITORY, &blob).await;
        for (range, from, to) in [
            ("bytes=500-1499", 500, 1500),
            ("bytes=500-", 500, 2048),
            ("bytes=-500", 1548, 2048),
            ("bytes=2000-5000", 2000, 2048),
            ("bytes=0-0", 0, 1),
            ("bytes=-5000", 0, 2048),
        ] {
            let answer = vendor.send(Request::get(blob_path(&blob.digest)).header("Range", range)).await.expect(206);
            assert_eq!(answer.body, blob.bytes.slice(from..to), "{range}");
            assert_eq!(answer.header("content-length"), (to - from).to_string(), "{range}");
            assert_eq!(answer.header("content-range"), format!("bytes {from}-{}/2048", to - 1), "{range}");
        }
    }
}

/// end-2.
#[tokio::test]
async fn a_range_outside_the_blob_is_not_satisfiable() {
    let (_harness, vendor) = registry().await;
    for algorithm in Algorithm::ALL {
        let blob = Content::random(algorithm, "outside", 2048);
        push::blob(&vendor, REPOSITORY, &blob).await;
        for range in hostile::UNSATISFIABLE_RANGES {
            let get = Request::get(blob_path(&blob.digest)).header("Range", *range);
            let answer = vendor.send(get).await;
            assert_eq!(answer.status, 416, "{range}");
        }
    }
}

/// end-2: the blobs that everyone pushes, of zero and of two bytes.
#[tokio::test]
async fn the_empty_blob_and_the_empty_object_are_blobs_like_others() {
    let (_harness, vendor) = registry().await;
    for algorithm in Algorithm::ALL {
        for bytes in ["", "{}"] {
            let blob = Content::new(algorithm, "application/octet-stream", bytes);
            push::blob(&vendor, REPOSITORY, &blob).await;
            let head = vendor.send(Request::head(blob_path(&blob.digest))).await.expect(200);
            assert_eq!(head.header("content-length"), bytes.len().to_string());
            let get = vendor.send(Request::get(blob_path(&blob.digest))).await.expect(200);
            assert_eq!(get.body, bytes);
        }
    }
}

/// end-2.
#[tokio::test]
async fn what_is_no_digest_names_no_blob() {
    let (_harness, vendor) = registry().await;
    for digest in hostile::DIGESTS {
        vendor.send(Request::get(blob_path(digest))).await.refused(400, "DIGEST_INVALID");
    }
}
