//! `/api/v1/accounts/{account}/credentials`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use conformance::{Harness, Request};
use serde_json::{Value, json};

use super::{holder, invalid, key, mint, owned, post, pull, text};

const CREDENTIALS: &str = "/api/v1/accounts/acme/credentials";

fn revoke(credential: &Value) -> Request {
    Request::post(format!("{CREDENTIALS}/{}/revoke", text(credential, "/id")))
}

#[tokio::test]
async fn one_call_answers_with_everything_that_a_holder_needs() {
    let (harness, owner) = owned().await;
    let request = json!({"kind": "push", "repositories": ["acme/web/*"], "ttl_seconds": 600, "label": "build 7"});
    let answer = owner.send(post(CREDENTIALS, &request)).await.expect(201);
    let minted = answer.json();
    assert_eq!(answer.header("location"), format!("{CREDENTIALS}/{}", text(&minted, "/id")));
    assert_eq!(answer.header("cache-control"), "no-store");
    let (user, password) = (text(&minted, "/username"), text(&minted, "/password"));
    assert_eq!(user, format!("acme.push.{}", text(&minted, "/id")));
    assert_eq!((password.len(), &password[..5]), (93, "hyps_"));
    for (field, value) in [
        ("account", json!("acme")),
        ("host", json!(harness.host())),
        ("kind", json!("push")),
        ("actions", json!(["pull", "push"])),
        ("repositories", json!(["acme/web/*"])),
        ("label", json!("build 7")),
    ] {
        assert_eq!(minted[field], value, "{field}");
    }
    let config: Value = serde_json::from_slice(&STANDARD.decode(text(&minted, "/dockerconfigjson")).unwrap()).unwrap();
    assert_eq!(config["auths"][harness.host()]["password"], password);
    for (field, wanted) in [
        ("docker_login", format!("docker login {} -u {user} --password-stdin", harness.host())),
        ("helm_login", format!("helm registry login {} -u {user} --password-stdin", harness.host())),
        ("kubernetes_secret", text(&minted, "/dockerconfigjson").to_owned()),
    ] {
        assert!(text(&minted, &format!("/{field}")).contains(&wanted), "{field} in {minted}");
    }
    let time = |field| chrono::DateTime::parse_from_rfc3339(text(&minted, field)).unwrap();
    assert_eq!((time("/expires_at") - time("/created_at")).num_seconds(), 600);

    let pusher = holder(&harness, &minted);
    pusher.send(Request::post("/v2/acme/web/api/blobs/uploads/")).await.expect(202);
    pusher.send(Request::post("/v2/acme/other/blobs/uploads/")).await.refused(403, "DENIED");
}

/// Behind a public name the renderings carry that name, whichever way the call came.
#[tokio::test]
async fn a_credential_names_the_public_host() {
    let url = "https://registry.example";
    let harness = Harness::with(conformance::Store::Local, &["--public-url", url]).await;
    let (owner, _) = key(&harness.account("acme").await, &harness, &[]).await;
    let minted = mint(&owner, &pull()).await;
    assert_eq!(text(&minted, "/host"), "registry.example");
    assert!(text(&minted, "/docker_login").contains("docker login registry.example -u"), "{minted}");
}

#[tokio::test]
async fn what_was_minted_is_never_shown_again() {
    let (_harness, owner) = owned().await;
    let minted = mint(&owner, &pull()).await;
    for path in [CREDENTIALS.to_owned(), format!("{CREDENTIALS}/{}", text(&minted, "/id"))] {
        let shown = owner.send(Request::get(path)).await.expect(200).text();
        assert!(shown.contains(text(&minted, "/username")), "{shown}");
        for secret in ["hypl_", "password", "docker_login", "helm_login", "dockerconfigjson", "kubernetes_secret"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}

#[tokio::test]
async fn a_publisher_mints_within_its_key_and_is_told_each_field_beyond() {
    let harness = Harness::start().await;
    let limits = ["--role", "publisher", "--repository", "acme/web/*", "--max-ttl", "1h"];
    let (publisher, _) = key(&harness.account("acme").await, &harness, &limits).await;
    let inside = json!({"kind": "push", "repositories": ["acme/web/api"], "ttl_seconds": 3600});
    assert_eq!(mint(&publisher, &inside).await["repositories"], json!(["acme/web/api"]));
    assert_eq!(mint(&publisher, &pull()).await["repositories"], json!(["acme/web/*"]));

    let refused = async |request: Value| invalid(publisher.send(post(CREDENTIALS, &request)).await);
    let beyond = json!({
        "kind": "push", "repositories": ["acme/web/*", "acme/**", "acme/webshop/x", "beta/web/*"],
        "actions": ["push", "delete"], "ttl_seconds": 3601,
    });
    assert_eq!(
        refused(beyond).await,
        ["/repositories/3", "/actions/1", "/ttl_seconds"],
        "first what is no pattern here"
    );
    let beyond = json!({
        "kind": "push", "repositories": ["acme/web/*", "acme/**", "acme/webshop/x"],
        "actions": ["push", "delete"], "ttl_seconds": 3601,
    });
    assert_eq!(refused(beyond).await, ["/repositories/1", "/repositories/2", "/actions/1", "/ttl_seconds"]);
    assert_eq!(refused(json!({"kind": "pull", "actions": ["push"]})).await, ["/actions/0"]);
    assert_eq!(refused(json!({"kind": "both"})).await, ["/kind"]);
    assert_eq!(refused(json!({"kind": "pull", "ttl_seconds": 59})).await, ["/ttl_seconds"]);
    assert_eq!(refused(json!({"kind": "pull", "repositories": []})).await, ["/repositories"]);
}

#[tokio::test]
async fn an_installer_mints_to_pull_and_ends_its_own_only() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let limits = ["--role", "installer", "--repository", "acme/web/*"];
    let (installer, _) = key(&acme, &harness, &limits).await;
    let minted = mint(&installer, &pull()).await;
    assert_eq!((&minted["actions"], &minted["repositories"]), (&json!(["pull"]), &json!(["acme/web/*"])));
    let pusher = installer.send(post(CREDENTIALS, &json!({"kind": "push"}))).await.refused(403, "DENIED");
    assert!(pusher.message().contains("installer"), "{}", pusher.message());
    installer.send(Request::get(CREDENTIALS)).await.refused(403, "DENIED");

    let strange = acme.pull().await;
    installer.send(revoke(&strange.document)).await.refused(403, "DENIED");
    acme.caller(&strange).send(Request::get("/v2/")).await.expect(200);
    installer.send(revoke(&minted)).await.expect(200);
    holder(&harness, &minted).send(Request::get("/v2/")).await.refused(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn a_viewer_lists_and_mints_nothing() {
    let (harness, owner) = owned().await;
    let (viewer, _) = key(&harness.account("acme").await, &harness, &["--role", "viewer"]).await;
    let minted = mint(&owner, &pull()).await;
    let list = viewer.send(Request::get(CREDENTIALS)).await.expect(200).json();
    assert_eq!(text(&list, "/items/0/id"), text(&minted, "/id"));
    assert_eq!(text(&list, "/items/0/issuer/type"), "key");
    viewer.send(post(CREDENTIALS, &pull())).await.refused(403, "DENIED");
    viewer.send(revoke(&minted)).await.refused(403, "DENIED");
}

#[tokio::test]
async fn a_revoked_credential_logs_in_no_more_and_its_token_is_refused() {
    let (harness, owner) = owned().await;
    let minted = mint(&owner, &json!({"kind": "push"})).await;
    let logged_in = holder(&harness, &minted);
    let token = logged_in.with_token(&["repository:acme/x:pull,push"]).await;
    token.send(Request::post("/v2/acme/x/blobs/uploads/")).await.expect(202);
    for _ in 0..2 {
        let ended = owner.send(revoke(&minted)).await.expect(200).json();
        assert!(!text(&ended, "/effective_by").is_empty(), "an end is repeatable: {ended}");
    }
    let refused = token.send(Request::post("/v2/acme/x/blobs/uploads/")).await.refused(401, "UNAUTHORIZED");
    assert!(refused.header("www-authenticate").contains("error=\"invalid_token\""), "{:?}", refused.headers);
    let refused = logged_in.ask_token(&["repository:acme/x:pull"]).await.refused(401, "UNAUTHORIZED");
    assert!(refused.message().contains("revoked at"), "{}", refused.message());
    let shown = owner.send(Request::get(format!("{CREDENTIALS}/{}", text(&minted, "/id")))).await.expect(200).json();
    assert!(!text(&shown, "/revoked_at").is_empty(), "{shown}");
}

#[tokio::test]
async fn a_successor_leaves_its_predecessor_ten_minutes() {
    let (harness, owner) = owned().await;
    let first = mint(&owner, &pull()).await;
    let second = mint(&owner, &json!({"kind": "pull", "replaces": first["id"]})).await;
    for credential in [&first, &second] {
        holder(&harness, credential).send(Request::get("/v2/")).await.expect(200);
    }
    harness.set_clock(601);
    holder(&harness, &first).send(Request::get("/v2/")).await.refused(401, "UNAUTHORIZED");
    holder(&harness, &second).send(Request::get("/v2/")).await.expect(200);
    let (other, _) = key(&harness.account("acme").await, &harness, &[]).await;
    let stolen = json!({"kind": "pull", "replaces": second["id"]});
    assert_eq!(invalid(other.send(post(CREDENTIALS, &stolen)).await), ["/replaces"]);
}

#[tokio::test]
async fn a_list_is_filtered_by_what_ends_soon() {
    let (_harness, owner) = owned().await;
    let soon = mint(&owner, &json!({"kind": "pull", "ttl_seconds": 600})).await;
    let dead = mint(&owner, &json!({"kind": "pull", "ttl_seconds": 600})).await;
    mint(&owner, &json!({"kind": "pull", "ttl_seconds": 86400})).await;
    owner.send(revoke(&dead)).await.expect(200);
    let listed = async |query: &str| {
        let list = owner.send(Request::get(format!("{CREDENTIALS}{query}"))).await.expect(200).json();
        let items = list["items"].as_array().unwrap();
        items.iter().map(|credential| text(credential, "/id").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed("").await.len(), 3);
    assert_eq!(listed("?expiring=1h").await, [text(&soon, "/id")]);
    assert_eq!(listed("?expiring=7d").await.len(), 2);
}

/// The command line through a server: the same documents as on the store.
#[tokio::test]
async fn the_command_line_mints_lists_and_revokes_through_the_server() {
    let harness = Harness::start().await;
    let (_, made) = key(&harness.account("acme").await, &harness, &[]).await;
    let url = format!("http://{}", harness.host());
    let run = async |args: &[&str]| {
        let run = conformance::tools::Run::of(&conformance::harness::binary()).args(args).args(["--url", &url]);
        let ended = run.env("HYTHE_KEY", text(&made, "/key")).ok().await;
        serde_json::from_str::<Value>(&ended.stdout).unwrap()
    };
    let minted = run(&["credential", "create", "acme", "--kind", "pull", "--output", "json"]).await;
    holder(&harness, &minted).send(Request::get("/v2/")).await.expect(200);
    let list = run(&["credential", "list", "acme", "--output", "json"]).await;
    assert_eq!(text(&list, "/0/id"), text(&minted, "/id"));
    run(&["credential", "revoke", "acme", text(&minted, "/id"), "--output", "json"]).await;
    holder(&harness, &minted).send(Request::get("/v2/")).await.refused(401, "UNAUTHORIZED");
}
