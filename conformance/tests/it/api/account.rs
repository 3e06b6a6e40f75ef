//! `/api/v1/accounts`.

use conformance::{Actor, Caller, Harness, Request};
use serde_json::{Value, json};

use super::{invalid, key, owned, post, text, with};

const ACME: &str = "/api/v1/accounts/acme";

async fn operator(harness: &Harness) -> Caller {
    harness.account("first").await.actor(Actor::OperatorKey).await
}

fn change(document: &Value, if_match: &str) -> Request {
    with(Request::patch(ACME), document).header("If-Match", if_match)
}

#[tokio::test]
async fn an_operator_key_makes_an_account_that_works_at_once() {
    let harness = Harness::start().await;
    let operator = operator(&harness).await;
    let request = || post("/api/v1/accounts", &json!({"name": "acme", "display": "ACME Ltd"}));
    let made = operator.send(request()).await.expect(201);
    assert_eq!(made.header("location"), ACME);
    let document = made.json();
    assert_eq!((text(&document, "/name"), text(&document, "/display")), ("acme", "ACME Ltd"));
    assert_eq!((text(&document, "/state"), text(&document, "/on_stale")), ("active", "refuse"));
    assert_eq!(text(&document, "/created_at").len(), "2026-11-21T10:00:00.000Z".len());

    let read = operator.send(Request::get(ACME)).await.expect(200);
    assert_eq!(read.json(), document);
    assert_eq!(read.header("etag"), made.header("etag"));
    operator.send(request()).await.refused(409, "NAME_TAKEN");

    let printed = harness.hythe(&["key", "create", "acme", "--output", "json"]).await.stdout;
    let owner = Caller::bearer(harness.client(), text(&serde_json::from_str(&printed).unwrap(), "/key"));
    assert_eq!(owner.send(Request::get(ACME)).await.expect(200).json(), document);
}

#[tokio::test]
async fn a_name_that_is_none_is_refused_by_its_field() {
    let harness = Harness::start().await;
    let operator = operator(&harness).await;
    for bad in ["", "ACME", "a--b", "-a", "token", "a/b", &"a".repeat(40)] {
        let answer = operator.send(post("/api/v1/accounts", &json!({"name": bad}))).await;
        assert_eq!(invalid(answer), ["/name"], "{bad:?}");
    }
    assert_eq!(invalid(operator.send(post("/api/v1/accounts", &json!({}))).await), ["/name"]);
    assert_eq!(invalid(operator.send(post("/api/v1/accounts", &json!({"name": 1}))).await), ["/name"]);
}

#[tokio::test]
async fn an_owner_neither_makes_nor_lists_nor_deletes_accounts() {
    let (_harness, owner) = owned().await;
    owner.send(post("/api/v1/accounts", &json!({"name": "more"}))).await.refused(403, "DENIED");
    owner.send(Request::get("/api/v1/accounts")).await.refused(403, "DENIED");
    owner.send(Request::delete(ACME).header("If-Match", "*")).await.refused(403, "DENIED");
}

#[tokio::test]
async fn a_change_needs_the_version_it_was_made_from() {
    let (_harness, owner) = owned().await;
    let seen = owner.send(Request::get(ACME)).await.expect(200).header("etag").to_owned();
    let renamed = json!({"display": "ACME"});
    owner.send(with(Request::patch(ACME), &renamed)).await.refused(428, "PRECONDITION_REQUIRED");
    let changed = owner.send(change(&renamed, &seen)).await.expect(200);
    let current = changed.header("etag").to_owned();
    assert_ne!(current, seen);
    assert_eq!(text(&changed.json(), "/display"), "ACME");
    for stale in [seen.as_str(), "\"x\"", &format!("W/{current}")] {
        let refused = owner.send(change(&json!({"display": "lost"}), stale)).await.refused(412, "PRECONDITION_FAILED");
        assert_eq!(refused.header("etag"), current, "{stale}");
    }
    assert_eq!(text(&owner.send(change(&json!({}), "*")).await.expect(200).json(), "/display"), "ACME");
}

#[tokio::test]
async fn an_owner_lowers_its_policy_and_the_operator_raises_it() {
    let (harness, owner) = owned().await;
    let operator = operator(&harness).await;
    let life = |seconds: Value| json!({"policy": {"max_ttl_pull": seconds}});
    let lowered = owner.send(change(&life(json!(3600)), "*")).await.expect(200).json();
    assert_eq!(lowered["policy"], json!({"max_ttl_pull": 3600}));
    assert_eq!(invalid(owner.send(change(&life(json!(7200)), "*")).await), ["/policy/max_ttl_pull"]);
    assert_eq!(invalid(owner.send(change(&life(Value::Null), "*")).await), ["/policy/max_ttl_pull"]);
    owner.send(change(&json!({"state": "read-only"}), "*")).await.refused(403, "DENIED");
    assert_eq!(operator.send(change(&life(Value::Null), "*")).await.expect(200).json()["policy"], json!({}));
}

#[tokio::test]
async fn a_read_only_account_refuses_changes_and_goes_on_minting() {
    let (harness, owner) = owned().await;
    let operator = operator(&harness).await;
    operator.send(change(&json!({"state": "read-only"}), "*")).await.expect(200);
    let refused = owner.send(change(&json!({"display": "x"}), "*")).await.refused(405, "UNSUPPORTED");
    assert_eq!(refused.message(), "account acme is read-only");
    owner.send(post(&format!("{ACME}/keys"), &json!({}))).await.refused(405, "UNSUPPORTED");
    let minted = super::mint(&owner, &super::pull()).await;
    let path = format!("{ACME}/credentials/{}/revoke", text(&minted, "/id"));
    owner.send(Request::post(path)).await.expect(200);
    operator.send(change(&json!({"state": "active"}), "*")).await.expect(200);
    owner.send(change(&json!({"display": "x"}), "*")).await.expect(200);
}

#[tokio::test]
async fn a_deleted_account_is_gone_with_its_keys_and_one_made_anew_knows_none_of_them() {
    let (harness, owner) = owned().await;
    let operator = operator(&harness).await;
    operator.send(Request::delete(ACME)).await.refused(428, "PRECONDITION_REQUIRED");
    let stale = operator.send(Request::delete(ACME).header("If-Match", "\"999\"")).await;
    let current = stale.refused(412, "PRECONDITION_FAILED").header("etag").to_owned();
    let ended = operator.send(Request::delete(ACME).header("If-Match", current)).await.expect(200).json();
    assert!(!text(&ended, "/effective_by").is_empty(), "{ended}");
    operator.send(Request::get(ACME)).await.refused(404, "NOT_FOUND");
    owner.send(Request::get(ACME)).await.refused(401, "UNAUTHORIZED");
    operator.send(post("/api/v1/accounts", &json!({"name": "acme"}))).await.expect(201);
    owner.send(Request::get(ACME)).await.refused(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn accounts_are_listed_in_pages_by_name() {
    let harness = Harness::start().await;
    let operator = operator(&harness).await;
    for name in ["echo", "alpha", "delta", "bravo", "charlie"] {
        operator.send(post("/api/v1/accounts", &json!({"name": name}))).await.expect(201);
    }
    let (mut names, mut query) = (Vec::new(), "?limit=2".to_owned());
    loop {
        let page = operator.send(Request::get(format!("/api/v1/accounts{query}"))).await.expect(200).json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2, "{page}");
        names.extend(items.iter().map(|account| text(account, "/name").to_owned()));
        match text(&page, "/next_token") {
            "" => break,
            token => query = format!("?limit=2&next_token={token}"),
        }
    }
    assert_eq!(names, ["alpha", "bravo", "charlie", "delta", "echo", "first"]);
    operator.send(Request::get("/api/v1/accounts?next_token=AAAA")).await.refused(400, "INVALID_TOKEN");
    for bad in ["0", "101", "x"] {
        assert_eq!(invalid(operator.send(Request::get(format!("/api/v1/accounts?limit={bad}"))).await), ["?limit"]);
    }
}

#[tokio::test]
async fn a_viewer_reads_its_account_and_changes_nothing() {
    let harness = Harness::start().await;
    let (viewer, _) = key(&harness.account("acme").await, &harness, &["--role", "viewer"]).await;
    viewer.send(Request::get(ACME)).await.expect(200);
    viewer.send(change(&json!({"display": "x"}), "*")).await.refused(403, "DENIED");
}
