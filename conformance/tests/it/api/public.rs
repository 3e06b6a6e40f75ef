//! `/api/v1/accounts/{account}/public`.

use conformance::{
    Caller, Request,
    fixture::{self, Format},
    push,
};
use serde_json::{Value, json};

use super::{invalid, key, owned, text, with};

const PUBLIC: &str = "/api/v1/accounts/acme/public";

fn set(patterns: &Value, if_match: &str) -> Request {
    with(Request::put(PUBLIC), &json!({ "patterns": patterns })).header("If-Match", if_match)
}

#[tokio::test]
async fn what_is_public_is_pulled_by_anybody_until_it_is_no_longer() {
    let (harness, owner) = owned().await;
    let acme = harness.account("acme").await;
    let bundle = fixture::image("public", Format::Oci);
    push::bundle(&acme.caller(&acme.push().await), "acme/open/web", "v1", &bundle).await;
    let nobody = Caller::anonymous(harness.client());
    let manifest = || Request::get("/v2/acme/open/web/manifests/v1");
    nobody.send(manifest()).await.refused(401, "UNAUTHORIZED");

    let before = owner.send(Request::get(PUBLIC)).await.expect(200);
    assert_eq!(before.json(), json!({"patterns": []}));
    let opened = owner.send(set(&json!(["acme/open/*"]), before.header("etag"))).await.expect(200);
    assert_eq!(opened.json(), json!({"patterns": ["acme/open/*"]}));
    assert_eq!(nobody.send(manifest()).await.expect(200).body, bundle.root().bytes);
    nobody.send(Request::get("/v2/acme/closed/manifests/v1")).await.refused(401, "UNAUTHORIZED");

    let read = owner.send(Request::get(PUBLIC)).await.expect(200);
    assert_eq!((read.header("etag"), read.json()), (opened.header("etag"), opened.json()));
    owner.send(set(&json!([]), opened.header("etag"))).await.expect(200);
    nobody.send(manifest()).await.refused(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn it_is_replaced_from_the_version_it_was_read_with() {
    let (_harness, owner) = owned().await;
    let patterns = json!(["acme/a"]);
    owner.send(with(Request::put(PUBLIC), &json!({"patterns": []}))).await.refused(428, "PRECONDITION_REQUIRED");
    let first = owner.send(Request::get(PUBLIC)).await.expect(200).header("etag").to_owned();
    let current = owner.send(set(&patterns, &first)).await.expect(200).header("etag").to_owned();
    let refused = owner.send(set(&json!([]), &first)).await.refused(412, "PRECONDITION_FAILED");
    assert_eq!(refused.header("etag"), current);
    assert_eq!(owner.send(Request::get(PUBLIC)).await.expect(200).json()["patterns"], patterns);
}

#[tokio::test]
async fn only_patterns_of_the_account_are_taken_and_only_from_its_owner() {
    let (harness, owner) = owned().await;
    let acme = harness.account("acme").await;
    assert_eq!(
        invalid(owner.send(set(&json!(["acme/a", "beta/a", "acme"]), "*")).await),
        ["/patterns/1", "/patterns/2"]
    );
    let missing = owner.send(with(Request::put(PUBLIC), &json!({})).header("If-Match", "*")).await;
    assert_eq!(invalid(missing), ["/patterns"]);
    for (role, reads) in [("publisher", true), ("viewer", true), ("installer", false)] {
        let (caller, _) = key(&acme, &harness, &["--role", role]).await;
        caller.send(Request::get(PUBLIC)).await.expect(if reads { 200 } else { 403 });
        let refused = caller.send(set(&json!([]), "*")).await.refused(403, "DENIED");
        assert!(text(&refused.json(), "/errors/0/message").contains(role), "{}", refused.text());
    }
}
