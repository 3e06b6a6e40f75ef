//! What holds for every operation: who is let in, and what is said of what does not exist.

use std::collections::BTreeSet;

use conformance::{Actor, Caller, Harness, Request};
use registry::api::ApiOperation;
use serde_json::json;

use super::{key, owned, post, text, with};

fn requests() -> impl Iterator<Item = (ApiOperation, Request)> {
    ApiOperation::ALL.into_iter().map(|operation| {
        let path = operation.path().replace("{account}", "acme").replace("{id}", "0k3v9x0a2m4p6r1t");
        (operation, Request::new(operation.method(), path))
    })
}

#[tokio::test]
async fn only_a_living_key_comes_in_and_strangers_learn_nothing_of_the_paths() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let (_, made) = key(&acme, &harness, &[]).await;
    let secret = text(&made, "/key");
    let pull = acme.pull().await;
    let client = harness.client();
    let strangers = [
        Caller::anonymous(client),
        Caller::bearer(client, "hyak_garbage"),
        Caller::bearer(client, &pull.password),
        Caller::basic(client, "acme", secret),
        Caller::basic(client, "", secret),
        acme.caller(&pull),
        acme.caller(&pull).with_token(&["repository:acme/x:pull"]).await,
    ];
    for (i, stranger) in strangers.iter().enumerate() {
        let known = stranger.send(Request::get("/api/v1/accounts/acme")).await.refused(401, "UNAUTHORIZED");
        assert_eq!(known.header("www-authenticate"), "Bearer", "stranger {i}");
        let unknown = stranger.send(Request::get("/api/v1/nothing")).await.refused(401, "UNAUTHORIZED");
        assert_eq!(known.body, unknown.body, "stranger {i}");
        stranger.send(Request::put("/api/v1/accounts/acme")).await.refused(401, "UNAUTHORIZED");
    }
    for (operation, request) in requests() {
        let answer = harness.send(request).await.refused(401, "UNAUTHORIZED");
        assert_eq!(answer.header("www-authenticate"), "Bearer", "{operation:?}");
    }
}

#[tokio::test]
async fn who_comes_in_is_told_what_there_is() {
    let (_harness, owner) = owned().await;
    owner.send(Request::get("/api/v1/nothing")).await.refused(404, "NOT_FOUND");
    owner.send(Request::get("/api/v1/accounts/acme/")).await.refused(404, "NOT_FOUND");
    let answer = owner.send(Request::put("/api/v1/accounts/acme")).await.refused(405, "UNSUPPORTED");
    let allowed: BTreeSet<_> = answer.header("allow").split(", ").collect();
    assert_eq!(allowed, BTreeSet::from(["GET", "HEAD", "PATCH", "DELETE"]));
    let head = owner.send(Request::head("/api/v1/accounts/acme")).await.expect(200);
    assert!(head.body.is_empty() && !head.header("etag").is_empty());
    for path in ["/api/v1/accounts/acme/keys/0k3v9x0a2m4p6r1t", "/api/v1/accounts/acme/keys/no-id"] {
        owner.send(Request::get(path)).await.refused(404, "NOT_FOUND");
    }
}

/// What is refused is the same for what exists and what does not, in every byte.
#[tokio::test]
async fn another_account_is_refused_the_same_whether_it_exists_or_not() {
    let (harness, owner) = owned().await;
    let (_, beta_key) = key(&harness.account("beta").await, &harness, &[]).await;
    for operation in ApiOperation::ALL.into_iter().filter(|operation| operation.path().contains("{account}")) {
        let mut bodies = BTreeSet::new();
        for account in ["beta", "nobody", "Not%20a%20name"] {
            for id in [text(&beta_key, "/id"), "0k3v9x0a2m4p6r1t", "no-id"] {
                let path = operation.path().replace("{account}", account).replace("{id}", id);
                for body in ["", "{", r#"{"x":1}"#] {
                    let request = Request::new(operation.method(), path.as_str()).body(body);
                    bodies.insert(owner.send(request).await.refused(403, "DENIED").text());
                }
            }
        }
        assert_eq!(bodies.len(), 1, "{operation:?}: {bodies:?}");
    }
}

/// Whatever the request's document says: the role alone decides.
#[tokio::test]
async fn a_role_is_refused_before_its_document_is_read() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let may = |role: &str| match role {
        "installer" => vec!["openapi", "credential_mint", "credential_revoke", "session_open"],
        _ => vec![
            "openapi",
            "account_get",
            "public_get",
            "key_list",
            "key_get",
            "credential_list",
            "credential_get",
            "trust_list",
            "trust_get",
            "repository_list",
            "tag_list",
            "retention_get",
            "retention_test",
            "usage_get",
            "audit_list",
            "session_open",
        ],
    };
    // A key is told that it is no session, whatever its role.
    let of_sessions = ["session_get", "session_close"];
    for role in ["installer", "viewer"] {
        let (caller, _) = key(&acme, &harness, &["--role", role]).await;
        for (operation, request) in requests() {
            let answer = caller.send(request.body("nonsense")).await;
            let denied = answer.status == 403;
            assert_eq!(denied, !may(role).contains(&operation.label()), "{role} {operation:?}: {}", answer.text());
            let told = if of_sessions.contains(&operation.label()) { "no session" } else { role };
            assert!(!denied || answer.message().contains(told), "{}", answer.text());
        }
    }
}

#[tokio::test]
async fn an_operator_key_keeps_accounts_and_nothing_in_them() {
    let harness = Harness::start().await;
    let operator = harness.account("acme").await.actor(Actor::OperatorKey).await;
    let accounts = [
        "openapi",
        "account_list",
        "account_create",
        "account_get",
        "account_change",
        "account_delete",
        "usage_get",
        "usage_list",
        "installation_audit_list",
    ];
    for (operation, request) in requests() {
        let denied = operator.send(request).await.status == 403;
        assert_eq!(denied, !accounts.contains(&operation.label()), "{operation:?}");
    }
}

#[tokio::test]
async fn a_document_with_an_unknown_field_is_refused_and_the_field_is_named() {
    let (_harness, owner) = owned().await;
    let request = post("/api/v1/accounts/acme/credentials", &json!({"kind": "pull", "ttl": 60}));
    let answer = owner.send(request).await.refused(400, "UNKNOWN_FIELD").json();
    assert_eq!(text(&answer, "/errors/0/detail/field"), "/ttl");
    let request = with(Request::patch("/api/v1/accounts/acme"), &json!({"policy": {"max_ttl": 60}}));
    let answer = owner.send(request.header("If-Match", "*")).await.refused(400, "UNKNOWN_FIELD").json();
    assert_eq!(text(&answer, "/errors/0/detail/field"), "/policy/max_ttl");
    let answer = owner.send(Request::get("/api/v1/accounts/acme/keys?lmit=1")).await.refused(400, "UNKNOWN_FIELD");
    assert_eq!(text(&answer.json(), "/errors/0/detail/field"), "?lmit");
}

#[tokio::test]
async fn a_body_is_json_and_at_most_a_mebibyte() {
    let (_harness, owner) = owned().await;
    let path = "/api/v1/accounts/acme/credentials";
    owner.send(Request::post(path)).await.refused(400, "INVALID_JSON");
    owner.send(Request::post(path).body("kind=pull")).await.refused(400, "INVALID_JSON");
    let padded = |bytes: usize| format!("{{\"kind\":\"pull\"{}}}", " ".repeat(bytes - 15));
    owner.send(Request::post(path).body(padded(1 << 20))).await.expect(201);
    owner.send(Request::post(path).body(padded((1 << 20) + 1))).await.refused(413, "TOO_LARGE");
}

#[tokio::test]
async fn the_openapi_document_lists_every_operation() {
    let (_harness, owner) = owned().await;
    let document = owner.send(Request::get("/api/v1/openapi.json")).await.expect(200).json();
    for operation in ApiOperation::ALL {
        let method = operation.method().as_str().to_lowercase();
        assert_eq!(document["paths"][operation.path()][&method]["operationId"], operation.label());
    }
}

/// What the log of the server says of a call: who by id, which operation, and never a secret.
#[tokio::test]
async fn a_call_is_logged_by_operation_and_key_without_any_secret() {
    let (harness, owner) = owned().await;
    let minted = super::mint(&owner, &super::pull()).await;
    let made = owner.send(post("/api/v1/accounts/acme/keys", &json!({"role": "viewer"}))).await.expect(201).json();
    let log = harness.log();
    for wanted in ["credential_mint", "key_create", text(&minted, "/id"), text(&made, "/id")] {
        assert!(log.contains(wanted), "{wanted} in {log}");
    }
    for secret in [text(&minted, "/password"), text(&made, "/key"), "hyak_", "hypl_"] {
        assert!(!log.contains(secret), "a secret in {log}");
    }
}
