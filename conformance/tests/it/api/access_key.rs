//! `/api/v1/accounts/{account}/keys`.

use conformance::{Caller, Harness, Request};
use serde_json::{Value, json};

use super::{holder, invalid, key, mint, owned, post, pull, text};

const KEYS: &str = "/api/v1/accounts/acme/keys";

async fn make(owner: &Caller, harness: &Harness, document: &Value) -> (Caller, Value) {
    let made = owner.send(post(KEYS, document)).await.expect(201);
    let document = made.json();
    assert_eq!(made.header("location"), format!("{KEYS}/{}", text(&document, "/id")));
    (Caller::bearer(harness.client(), text(&document, "/key")), document)
}

async fn end(owner: &Caller, key: &Value, how: &str) {
    let path = format!("{KEYS}/{}/{how}", text(key, "/id"));
    // An end is repeatable.
    for _ in 0..2 {
        let ended = owner.send(Request::post(path.as_str())).await.expect(200).json();
        assert!(!text(&ended, "/effective_by").is_empty(), "{ended}");
    }
}

#[tokio::test]
async fn an_owner_makes_a_key_that_works_and_is_shown_once() {
    let (harness, owner) = owned().await;
    let wanted = json!({
        "role": "publisher", "label": "ci", "repositories": ["acme/web/*"], "max_ttl_seconds": 3600, "delete": true,
    });
    let (publisher, made) = make(&owner, &harness, &wanted).await;
    assert!(text(&made, "/key").starts_with("hyak_"), "{made}");
    for (field, value) in [
        ("account", json!("acme")),
        ("role", json!("publisher")),
        ("label", json!("ci")),
        ("repositories", json!(["acme/web/*"])),
        ("actions", json!(["pull", "push", "delete"])),
        ("max_ttl_seconds", json!(3600)),
        ("expires_at", Value::Null),
        ("state", json!("active")),
    ] {
        assert_eq!(made[field], value, "{field}");
    }
    assert_eq!(mint(&publisher, &pull()).await["repositories"], json!(["acme/web/*"]));

    let mut shown = owner.send(Request::get(format!("{KEYS}/{}", text(&made, "/id")))).await.expect(200).json();
    shown.as_object_mut().unwrap().remove("last_used_on");
    let mut without = made.clone();
    without.as_object_mut().unwrap().remove("key");
    assert_eq!(shown, without);
    let list = owner.send(Request::get(KEYS)).await.expect(200).text();
    assert!(list.contains(text(&made, "/id")) && !list.contains("hyak_"), "{list}");
}

#[tokio::test]
async fn a_key_is_refused_by_every_field_that_is_wrong() {
    let (_harness, owner) = owned().await;
    let wrong = json!({
        "role": "viewer", "delete": true, "repositories": ["acme/web/*", "beta/**", "acme"], "max_ttl_seconds": 1,
        "expires_at": "2020-01-01T00:00:00Z", "ip_allow": ["10.0.0.0/8", "here"],
    });
    let fields = invalid(owner.send(post(KEYS, &wrong)).await);
    let expected = ["/delete", "/max_ttl_seconds", "/expires_at", "/repositories/1", "/repositories/2", "/ip_allow/1"];
    assert_eq!(fields, expected);
    assert_eq!(invalid(owner.send(post(KEYS, &json!({"role": "king"}))).await), ["/role"]);
}

#[tokio::test]
async fn no_key_makes_one_that_reaches_further_than_itself() {
    let (harness, owner) = owned().await;
    let (narrow, _) = make(&owner, &harness, &json!({"repositories": ["acme/web/*"], "max_ttl_seconds": 600})).await;
    assert_eq!(invalid(narrow.send(post(KEYS, &json!({}))).await), ["/repositories/0", "/max_ttl_seconds"]);
    let inside = json!({"repositories": ["acme/web/api"], "max_ttl_seconds": 600});
    narrow.send(post(KEYS, &inside)).await.expect(201);
}

#[tokio::test]
async fn a_retired_key_mints_no_more_and_what_it_minted_lives_on() {
    let (harness, owner) = owned().await;
    let (publisher, made) = make(&owner, &harness, &json!({"role": "publisher"})).await;
    let minted = mint(&publisher, &pull()).await;
    end(&owner, &made, "retire").await;
    let refused = publisher.send(post("/api/v1/accounts/acme/credentials", &pull())).await.refused(403, "DENIED");
    assert!(refused.message().contains("retired"), "{}", refused.message());
    holder(&harness, &minted).send(Request::get("/v2/")).await.expect(200);
    let shown = owner.send(Request::get(format!("{KEYS}/{}", text(&made, "/id")))).await.expect(200).json();
    assert_eq!(text(&shown, "/state"), "retired");
}

#[tokio::test]
async fn a_revoked_key_is_dead_and_so_is_what_it_minted() {
    let (harness, owner) = owned().await;
    let (publisher, made) = make(&owner, &harness, &json!({"role": "publisher"})).await;
    let minted = mint(&publisher, &pull()).await;
    let token = holder(&harness, &minted).with_token(&["repository:acme/x:pull"]).await;
    token.send(Request::get("/v2/acme/x/tags/list")).await.refused(404, "NAME_UNKNOWN");
    end(&owner, &made, "revoke").await;
    end(&owner, &made, "retire").await;
    let refused = publisher.send(Request::get("/api/v1/accounts/acme")).await.refused(401, "UNAUTHORIZED");
    assert!(refused.message().contains("revoked at"), "its holder is told: {}", refused.message());
    holder(&harness, &minted).send(Request::get("/v2/")).await.refused(401, "UNAUTHORIZED");
    token.send(Request::get("/v2/acme/x/tags/list")).await.refused(401, "UNAUTHORIZED");
    let shown = owner.send(Request::get(format!("{KEYS}/{}", text(&made, "/id")))).await.expect(200).json();
    assert_eq!(text(&shown, "/state"), "revoked", "retiring it afterwards changes nothing");
}

#[tokio::test]
async fn keys_are_the_owner_s_and_a_viewer_reads_them() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let (viewer, made) = key(&acme, &harness, &["--role", "viewer"]).await;
    let list = viewer.send(Request::get(KEYS)).await.expect(200).json();
    assert_eq!(text(&list, "/items/0/id"), text(&made, "/id"));
    viewer.send(post(KEYS, &json!({}))).await.refused(403, "DENIED");
    viewer.send(Request::post(format!("{KEYS}/{}/revoke", text(&made, "/id")))).await.refused(403, "DENIED");
    for role in ["publisher", "installer"] {
        let (caller, _) = key(&acme, &harness, &["--role", role]).await;
        caller.send(Request::get(KEYS)).await.refused(403, "DENIED");
        caller.send(post(KEYS, &json!({}))).await.refused(403, "DENIED");
    }
}

#[tokio::test]
async fn a_list_of_keys_goes_on_where_its_token_says_and_nowhere_else() {
    let (_harness, owner) = owned().await;
    for label in ["a", "b", "c"] {
        owner.send(post(KEYS, &json!({"role": "viewer", "label": label}))).await.expect(201);
    }
    let page = owner.send(Request::get(format!("{KEYS}?limit=2"))).await.expect(200).json();
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    let token = text(&page, "/next_token");
    let rest = owner.send(Request::get(format!("{KEYS}?next_token={token}"))).await.expect(200).json();
    assert_eq!(rest["items"].as_array().unwrap().len(), 2);
    assert!(rest.get("next_token").is_none(), "{rest}");
    let elsewhere = format!("/api/v1/accounts/acme/credentials?next_token={token}");
    owner.send(Request::get(elsewhere)).await.refused(400, "INVALID_TOKEN");
    owner.send(Request::get(format!("{KEYS}?expiring=7d&next_token={token}"))).await.refused(400, "INVALID_TOKEN");
}
