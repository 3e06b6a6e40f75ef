//! Rules of retention through the API, and what they do on a running server.

use conformance::{
    Actor, Caller, Harness, Request, Store,
    fixture::{self, Format},
    harness::until,
    push,
};
use serde_json::{Value, json};

const RULES: &str = "/api/v1/accounts/acme/retention";

fn put(rules: &Value) -> Request {
    let request = Request::put(RULES).header("If-Match", "*").header("Content-Type", "application/json");
    request.body(json!({ "rules": rules }).to_string())
}

async fn tags(caller: &Caller) -> Vec<String> {
    let listed = caller.send(Request::get("/v2/acme/app/tags/list")).await.expect(200).json();
    listed["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn tags_that_no_rule_keeps_go_within_seconds_and_their_digests_stay() {
    for store in Store::ALL {
        let harness = Harness::on(store).await;
        let acme = harness.account("acme").await;
        let (owner, pusher) = (acme.actor(Actor::AccessKey).await, acme.caller(&acme.push().await));
        let image = fixture::image("one", Format::Oci);
        for n in 0..4 {
            push::bundle(&pusher, "acme/app", &format!("pr-{n}"), &image).await;
        }
        push::bundle(&pusher, "acme/app", "v1", &image).await;
        let rules = json!([{"repositories": "app", "tags": ["pr-*"], "keep": {"last": 1}}]);
        let asked = json!({"repository": "app", "rules": rules}).to_string();
        let tested = owner.send(Request::post(format!("{RULES}/test")).body(asked)).await.expect(200).json();
        let named: Vec<_> =
            tested["items"].as_array().unwrap().iter().map(|gone| gone["tag"].as_str().unwrap()).collect();
        assert_eq!(named, ["pr-0", "pr-1", "pr-2"], "{tested}");
        assert_eq!(tags(&pusher).await.len(), 5, "a test changes nothing");
        owner.send(put(&rules)).await.expect(200);
        until("the tags are gone", async || tags(&pusher).await == ["pr-3", "v1"]).await;
        let digest = format!("/v2/acme/app/manifests/{}", image.root().digest);
        pusher.send(Request::get(digest)).await.expect(200);
        assert!(harness.log().contains("a rule let a tag go"));
    }
}

#[tokio::test]
async fn a_manifest_that_nothing_names_goes_after_its_days_and_one_that_is_named_stays() {
    let mut harness = Harness::on(Store::Local).await;
    let (old, new) = (fixture::image("old", Format::Oci), fixture::image("new", Format::Oci));
    let rules = json!([{"repositories": "**", "untagged_days": 40}]);
    let key = {
        let acme = harness.account("acme").await;
        let pusher = acme.caller(&acme.push().await);
        for image in [&old, &new] {
            push::bundle(&pusher, "acme/app", "v1", image).await;
        }
        let owner = acme.actor(Actor::AccessKey).await;
        owner.authorization().unwrap().trim_start_matches("Bearer ").to_owned()
    };
    // Marked two days later, and looked at again when its days are over.
    for (days, there) in [(2, true), (40, true), (43, false)] {
        harness.set_clock(days * 86_400);
        harness.restart().await;
        let owner = Caller::bearer(harness.client(), &key);
        owner.send(put(&rules)).await.expect(200);
        let done = match days {
            2 => "manifests_marked=1",
            43 => "manifests_removed=1",
            _ => "rules were set",
        };
        until(done, async || harness.log().contains(done)).await;
        let asked = json!({"repository": "app"}).to_string();
        let tested = owner.send(Request::post(format!("{RULES}/test")).body(asked)).await.expect(200).json();
        let named: Vec<_> = tested["items"].as_array().unwrap().iter().map(|gone| gone["digest"].clone()).collect();
        let expected: Vec<Value> = if there { vec![old.root().digest.clone().into()] } else { vec![] };
        assert_eq!(named, expected, "day {days}: {tested}");
    }
    let minted = owner_reads(&harness, &key).await;
    minted.send(Request::get("/v2/acme/app/manifests/v1")).await.expect(200);
    minted
        .send(Request::get(format!("/v2/acme/app/manifests/{}", old.root().digest)))
        .await
        .refused(404, "MANIFEST_UNKNOWN");
}

async fn owner_reads(harness: &Harness, key: &str) -> Caller {
    let mint = Request::post("/api/v1/accounts/acme/credentials").body(r#"{"kind":"pull"}"#);
    let minted = Caller::bearer(harness.client(), key).send(mint).await.expect(201).json();
    let text = |field: &str| minted[field].as_str().unwrap().to_owned();
    Caller::basic(harness.client(), &text("username"), &text("password"))
}

#[tokio::test]
async fn rules_that_cannot_be_kept_are_refused_by_their_fields() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let owner = acme.actor(Actor::AccessKey).await;
    assert_eq!(owner.send(Request::get(RULES)).await.expect(200).json(), json!({"rules": []}));
    for (rule, field) in [
        (json!({"repositories": "a"}), "/rules/0"),
        (json!({"repositories": "a", "keep": {}}), "/rules/0/keep"),
        (json!({"repositories": "a", "keep": {"last": 1001}}), "/rules/0/keep/last"),
        (json!({"repositories": "a", "keep": {"pulled_within_days": 0}}), "/rules/0/keep/pulled_within_days"),
        (json!({"repositories": "A", "untagged_days": 1}), "/rules/0/repositories"),
        (json!({"repositories": "a", "untagged_days": 1, "tags": ["?"]}), "/rules/0/tags/0"),
    ] {
        let refused = owner.send(put(&json!([rule]))).await.refused(422, "VALIDATION").json();
        assert_eq!(refused["errors"][0]["detail"]["field"], field, "{refused}");
    }
    let unknown = json!([{"repositories": "a", "untagged_days": 1, "days": 1}]);
    owner.send(put(&unknown)).await.refused(400, "UNKNOWN_FIELD");
    let set = owner.send(put(&json!([{"repositories": "a", "untagged_days": 1}]))).await.expect(200);
    let stale = Request::put(RULES).header("If-Match", "\"7\"").body(r#"{"rules":[]}"#);
    let refused = owner.send(stale).await.refused(412, "PRECONDITION_FAILED");
    assert_eq!(refused.header("etag"), set.header("etag"));
    let narrow = ["key", "create", "acme", "--repository", "acme/web/*", "--output", "json"];
    let made: Value = serde_json::from_str(&harness.hythe(&narrow).await.stdout).unwrap();
    let narrow = Caller::bearer(harness.client(), made["key"].as_str().unwrap());
    narrow.send(Request::get(RULES)).await.refused(403, "DENIED");
    narrow.send(put(&json!([]))).await.refused(403, "DENIED");
}
