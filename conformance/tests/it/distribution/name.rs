//! Names and paths: what breaks the grammar is refused before anything else is asked, with and without credentials.

use conformance::{Request, fixture::hostile};
use http::Method;

use super::registry;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Every end-point that has a name in its path.
fn requests(name: &str) -> Vec<Request> {
    let path = |method: &Method, tail: &str| Request::new(method.clone(), format!("/v2/{name}/{tail}"));
    vec![
        path(&Method::GET, "manifests/v1"),
        path(&Method::PUT, "manifests/v1"),
        path(&Method::DELETE, "manifests/v1"),
        path(&Method::GET, &format!("blobs/{DIGEST}")),
        path(&Method::DELETE, &format!("blobs/{DIGEST}")),
        path(&Method::POST, "blobs/uploads/"),
        path(&Method::GET, "tags/list"),
        path(&Method::GET, &format!("referrers/{DIGEST}")),
    ]
}

#[tokio::test]
async fn a_name_that_breaks_the_grammar_is_refused_for_everyone_alike() {
    let (harness, vendor) = registry().await;
    let long = format!("acme/{}", "a".repeat(300));
    for name in hostile::NAMES.iter().copied().chain([long.as_str()]) {
        for request in requests(name) {
            let known = vendor.send(request.clone()).await.refused(400, "NAME_INVALID");
            let unknown = harness.send(request).await.refused(400, "NAME_INVALID");
            assert_eq!(known.body, unknown.body, "{name}");
        }
    }
}

#[tokio::test]
async fn a_name_of_one_segment_is_told_how_a_name_looks() {
    let (harness, vendor) = registry().await;
    for name in hostile::ONE_SEGMENT {
        for request in requests(name) {
            let refused = vendor.send(request.clone()).await.refused(400, "NAME_INVALID");
            assert!(refused.message().contains("a repository is ACCOUNT/NAME"), "{}", refused.message());
            harness.send(request).await.refused(400, "NAME_INVALID");
        }
    }
}

/// A method that an end-point does not have, and a path that is none: known callers hear so, others are asked to log in.
#[tokio::test]
async fn what_is_no_end_point_is_said_to_known_callers_only() {
    let (harness, vendor) = registry().await;
    for (request, status) in [
        (Request::post("/v2/acme/x/manifests/v1"), 405),
        (Request::put("/v2/acme/x/tags/list"), 405),
        (Request::delete("/v2/acme/x/tags/list"), 405),
        (Request::get("/v2/acme/x/unknown/thing"), 404),
        (Request::get("/v2/acme/x"), 404),
    ] {
        let path = request.path().to_owned();
        let known = vendor.send(request.clone()).await;
        assert_eq!(known.status, status, "{path}: {}", known.text());
        harness.send(request).await.refused(401, "UNAUTHORIZED");
    }
}

/// Tags have a grammar too.
#[tokio::test]
async fn a_tag_that_breaks_the_grammar_is_refused() {
    let (_harness, vendor) = registry().await;
    let long = "t".repeat(129);
    for tag in [".hidden", "-dash", "a+b", "a%2Fb", long.as_str()] {
        for request in [Request::get, Request::put, Request::delete] {
            let answer = vendor.send(request(format!("/v2/acme/web/manifests/{tag}"))).await;
            assert!(matches!(answer.status.as_u16(), 400 | 404), "{tag}: {} {}", answer.status, answer.text());
            assert!(!answer.code().is_empty(), "{tag}: {}", answer.text());
        }
    }
}
