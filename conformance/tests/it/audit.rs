//! The audit through HTTP: every event with all its fields, nothing secret in it, and whole after a kill.

use std::{collections::BTreeSet, sync::Arc};

use auth::Happened;
use conformance::{
    Actor, Answer, Caller, Harness, Request, Store,
    fixture::{self, Format},
    harness::{until, write_file},
    push,
};
use serde_json::{Value, json};
use storage::{
    Generation,
    backend::{
        Records as _,
        local::{Folder, Options},
    },
    clock::SystemClock,
    key,
};

const AGENT: &str = "seen/1.0";
const CLIENT: &str = "203.0.113.7";

/// Every line of an audit that this caller may read.
async fn lines(caller: &Caller, path: &str) -> Vec<Value> {
    let (mut lines, mut query) = (Vec::new(), "?limit=100".to_owned());
    loop {
        let page = caller.send(Request::get(format!("{path}{query}"))).await.expect(200).json();
        lines.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next_token"].as_str() {
            Some(token) => query = format!("?limit=100&next_token={token}"),
            None => return lines,
        }
    }
}

async fn of_acme(caller: &Caller) -> Vec<Value> {
    lines(caller, "/api/v1/accounts/acme/audit").await
}

fn names(lines: &[Value]) -> BTreeSet<&str> {
    lines.iter().filter_map(|line| line["event"].as_str()).collect()
}

/// Everything that is kept of every audit, as it lies in the store.
async fn kept(harness: &Harness) -> Vec<(Generation, String, String)> {
    let folder = Folder::open(&harness.data(), Options::default(), Arc::new(SystemClock::new())).unwrap();
    let generations = folder.records.page(&key::generations(), None, 100).await.unwrap();
    let generations = generations.iter().map(|row| row.name.parse().unwrap());
    let mut kept = Vec::new();
    for generation in generations.chain([Generation::installation()]) {
        let prefix = key::audits(&generation);
        for row in folder.records.page(&prefix, None, 10_000).await.unwrap() {
            let found = folder.records.get_plain(&prefix.plain(&row.name)).await.unwrap().unwrap();
            kept.push((generation.clone(), row.name, String::from_utf8(found.body.to_vec()).unwrap()));
        }
    }
    kept
}

/// What was asked and has to be told.
struct Told {
    event: Happened,
    request: String,
    outcome: &'static str,
    actor: &'static str,
}

/// Each of what was asked has one line, with every field.
#[track_caller]
fn told_of(read: &[Value], told: &[Told]) {
    // A dead key is refused before it is looked at what it asks for.
    let without = &told[4].request;
    for Told { event, request, outcome, actor } in told {
        let of_it = |line: &&Value| line["event"] == event.as_str() && line["request_id"] == request.as_str();
        let [line] = read.iter().filter(of_it).collect::<Vec<_>>()[..] else {
            panic!("{event:?} of request {request}: {read:#?}");
        };
        let fields: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        let columns =
            ["ts", "event", "account", "gen", "actor", "target", "ip", "user_agent", "request_id", "outcome", "reason"];
        assert_eq!(fields, columns);
        assert_eq!(
            (&line["account"], &line["ip"], &line["user_agent"]),
            (&json!("acme"), &json!(CLIENT), &json!(AGENT))
        );
        assert_eq!((&line["outcome"], &line["actor"]["type"]), (&json!(outcome), &json!(actor)), "{line}");
        assert_eq!(line["actor"]["id"].as_str().map(str::len), Some(16), "{line}");
        assert_eq!(line["gen"].as_str().map(str::len), Some(12), "{line}");
        assert_eq!(line["reason"].is_string(), *outcome == "denied", "{line}");
        assert_eq!(line["target"].is_null(), request == without, "{line}");
    }
}

/// Asks from elsewhere, as a client with a name.
async fn ask(caller: &Caller, request: Request, status: u16) -> Answer {
    caller.send(request.header("X-Forwarded-For", CLIENT).header("User-Agent", AGENT)).await.expect(status)
}

fn api(method: http::Method, rest: &str, document: &Value) -> Request {
    let request = Request::new(method, format!("/api/v1/accounts/acme{rest}"));
    request.header("Content-Type", "application/json").header("If-Match", "*").body(document.to_string())
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, in which every event happens once")]
async fn every_event_is_told_with_all_its_fields_and_holds_no_secret() {
    use Happened as H;
    let harness = Harness::with(Store::Local, &["--trusted-proxy", "127.0.0.0/8"]).await;
    let acme = harness.account("acme").await;
    let owner = acme.actor(Actor::AccessKey).await;
    let operator = acme.actor(Actor::OperatorKey).await;
    let (mut told, mut secrets) = (Vec::new(), Vec::new());
    secrets.extend([&owner, &operator].map(|c| c.authorization().unwrap().trim_start_matches("Bearer ").to_owned()));
    let mut note = |event, answer: &Answer, outcome, actor| {
        let request = answer.header("x-request-id").to_owned();
        told.push(Told { event, request, outcome, actor });
    };
    let post = |rest: &str, document: &Value| api(http::Method::POST, rest, document);
    let post_at = |path: &str| Request::post(path);

    // Keys.
    let made = ask(&owner, post("/keys", &json!({"role": "viewer", "label": "ci"})), 201).await;
    note(H::KeyCreate, &made, "ok", "key");
    let viewer = Caller::bearer(harness.client(), made.json()["key"].as_str().unwrap());
    secrets.push(made.json()["key"].as_str().unwrap().to_owned());
    let id = made.json()["id"].as_str().unwrap().to_owned();
    note(H::KeyUseDenied, &ask(&viewer, post("/credentials", &json!({"kind": "pull"})), 403).await, "denied", "key");
    note(H::KeyRetire, &ask(&owner, post(&format!("/keys/{id}/retire"), &json!({})), 200).await, "ok", "key");
    note(H::KeyRevoke, &ask(&owner, post(&format!("/keys/{id}/revoke"), &json!({})), 200).await, "ok", "key");
    note(H::KeyUseDenied, &ask(&viewer, Request::get("/api/v1/accounts/acme"), 401).await, "denied", "key");

    // Sessions.
    let opened = ask(&owner, post_at("/api/v1/session"), 201).await;
    note(H::SessionOpen, &opened, "ok", "key");
    let cookie = opened.header("set-cookie").split(';').next().unwrap().to_owned();
    secrets.push(cookie.split_once('=').unwrap().1.to_owned());
    let close = post_at("/api/v1/session/close").header("Cookie", cookie).header("X-Hythe", "1");
    let close = close.header("Origin", format!("http://{}", harness.host()));
    note(H::SessionClose, &ask(&Caller::anonymous(harness.client()), close, 200).await, "ok", "session");

    // Credentials.
    let mut mint = async |event, document: Value| {
        let minted = ask(&owner, post("/credentials", &document), 201).await;
        note(event, &minted, "ok", "key");
        let document = minted.json();
        let text = |field: &str| document[field].as_str().unwrap().to_owned();
        secrets.push(text("password"));
        (text("id"), Caller::basic(harness.client(), &text("username"), &text("password")))
    };
    let (first, _) = mint(H::CredentialMint, json!({"kind": "pull"})).await;
    let (second, ended) = mint(H::CredentialRenew, json!({"kind": "pull", "replaces": first})).await;
    let (_, pusher) = mint(H::CredentialMint, json!({"kind": "push", "actions": ["push", "delete"]})).await;
    let (_, away) = mint(H::CredentialMint, json!({"kind": "pull", "ip_allow": ["192.0.2.0/24"]})).await;
    let revoked = ask(&owner, post(&format!("/credentials/{second}/revoke"), &json!({})), 200).await;
    note(H::CredentialRevoke, &revoked, "ok", "key");
    note(H::TokenDeny, &ask(&ended, Request::get("/token"), 401).await, "denied", "credential");
    note(H::IpDeny, &ask(&away, Request::get("/v2/"), 403).await, "denied", "credential");
    let issued = ask(&pusher, Request::get("/token?scope=repository:acme/web:pull,push"), 200).await;
    note(H::TokenIssue, &issued, "ok", "credential");
    secrets.push(issued.json()["token"].as_str().unwrap().to_owned());

    // The account, and what is public.
    let patch = |rest: &str, document: Value| api(http::Method::PATCH, rest, &document);
    note(H::AccountChange, &ask(&owner, patch("", json!({"display": "Acme"})), 200).await, "ok", "key");
    for (event, patterns) in [(H::RepoPublic, json!(["acme/open"])), (H::RepoPrivate, json!([]))] {
        let put = api(http::Method::PUT, "/public", &json!({"patterns": patterns}));
        note(event, &ask(&owner, put, 200).await, "ok", "key");
    }

    // Content.
    let bundle = fixture::image("audit", Format::Oci);
    push::bundle(&pusher, "acme/web", "v0", &bundle).await;
    let root = bundle.root();
    let pushed = ask(&pusher, push::manifest_request("acme/web", "v1", root), 201).await;
    note(H::ManifestPush, &pushed, "ok", "credential");
    note(H::TagMove, &pushed, "ok", "credential");
    let asked = Request::head("/v2/acme/web/manifests/v1");
    let looked = ask(&pusher, asked, 200).await.header("x-request-id").to_owned();
    let pulled = ask(&pusher, Request::get("/v2/acme/web/manifests/v1"), 200).await;
    note(H::ManifestPull, &pulled, "ok", "credential");
    let by_tag = ask(&pusher, Request::delete("/v2/acme/web/manifests/v1"), 202).await;
    note(H::TagDelete, &by_tag, "ok", "credential");
    let tag = "/repository-tags?repository=web&tag=v0";
    note(H::TagDelete, &ask(&owner, api(http::Method::DELETE, tag, &json!({})), 204).await, "ok", "key");
    let by_digest = ask(&pusher, Request::delete(format!("/v2/acme/web/manifests/{}", root.digest)), 202).await;
    note(H::ManifestDelete, &by_digest, "ok", "credential");
    let settings = json!({"settings": {"immutable_tags": ["v*"]}});
    note(H::RepoChange, &ask(&owner, patch("/repositories?name=web", settings), 200).await, "ok", "key");
    let delete = api(http::Method::DELETE, "/repositories?name=web", &json!({}));
    note(H::RepoDelete, &ask(&owner, delete, 202).await, "ok", "key");

    let all: BTreeSet<_> = told.iter().map(|told| told.event.as_str()).collect();
    until("all is written", async || all.is_subset(&names(&of_acme(&owner).await))).await;
    let read = of_acme(&owner).await;
    told_of(&read, &told);
    assert!(!read.iter().any(|line| line["request_id"] == looked.as_str()), "to ask whether it is there is no pull");
    let of = |event: H| read.iter().find(|line| line["event"] == event.as_str()).unwrap();
    let digest = &root.digest;
    assert_eq!(of(H::ManifestPull)["target"], format!("acme/web:v1@{digest}"));
    assert_eq!(of(H::ManifestDelete)["target"], format!("acme/web@{digest}"));
    assert_eq!(of(H::CredentialRenew)["target"], format!("{second} {first}"));
    assert_eq!(of(H::TokenIssue)["target"], "repository:acme/web:pull,push");

    // What is the operator's.
    for state in ["suspended", "active"] {
        ask(&operator, patch("", json!({"state": state})), 200).await;
    }
    for hosts in [json!(["registry.acme.example"]), json!([])] {
        ask(&operator, patch("", json!({"hosts": hosts})), 200).await;
    }
    let made: Value =
        serde_json::from_str(&harness.hythe(&["operator-key", "create", "--output", "json"]).await.stdout).unwrap();
    secrets.push(made["key"].as_str().unwrap().to_owned());
    harness.hythe(&["operator-key", "revoke", made["id"].as_str().unwrap()]).await;
    harness.account("gone").await;
    harness.hythe(&["account", "delete", "gone"]).await;
    harness.hythe(&["signing-key", "rotate", "--now"]).await;
    let installation = lines(&operator, "/api/v1/audit").await;
    let expected = [
        "account.create",
        "account.change",
        "account.suspend",
        "account.resume",
        "account.delete",
        "host.approve",
        "host.withdraw",
        "operator_key.create",
        "operator_key.revoke",
        "signing_key.rotate",
    ];
    assert_eq!(names(&installation), BTreeSet::from(expected));
    let told: BTreeSet<_> = all.into_iter().chain(expected).collect();
    // Of a declared key, of days and lives that are over, of a store that was away: `auth`'s own tests have them;
    // exchanges need an issuer.
    let elsewhere = [
        H::KeyChange,
        H::AuditSweep,
        H::CredentialExpire,
        H::StaleServe,
        H::ExchangeOk,
        H::ExchangeDeny,
        H::TrustCreate,
        H::TrustDelete,
    ];
    let elsewhere = elsewhere.map(H::as_str);
    let list = H::ALL.iter().map(|happened| happened.as_str()).filter(|name| !elsewhere.contains(name));
    assert_eq!(told, list.collect(), "every event of the list was seen");

    let kept: String = kept(&harness).await.into_iter().map(|(_, _, text)| text).collect();
    assert!(kept.contains("manifest.pull") && secrets.len() == 10, "{} secrets", secrets.len());
    for secret in &secrets {
        for piece in secret.as_bytes().windows(40).map(|piece| std::str::from_utf8(piece).unwrap()) {
            assert!(!kept.contains(piece), "{piece}");
        }
    }
}

#[tokio::test]
async fn nobody_else_reads_an_account_s_audit() {
    let harness = Harness::start().await;
    let (acme, beta) = (harness.account("acme").await, harness.account("beta").await);
    let owner = acme.actor(Actor::AccessKey).await;
    let stranger = beta.actor(Actor::AccessKey).await;
    let operator = acme.actor(Actor::OperatorKey).await;
    let token = of_acme(&owner).await;
    assert!(token.len() >= 2);
    for caller in [&stranger, &operator] {
        caller.send(Request::get("/api/v1/accounts/acme/audit")).await.refused(403, "DENIED");
    }
    for caller in [&stranger, &owner] {
        caller.send(Request::get("/api/v1/audit")).await.refused(403, "DENIED");
    }
    let page = owner.send(Request::get("/api/v1/accounts/acme/audit?limit=1")).await.expect(200).json();
    let token = page["next_token"].as_str().unwrap();
    let path = format!("/api/v1/accounts/beta/audit?next_token={token}");
    stranger.send(Request::get(path)).await.refused(400, "INVALID_TOKEN");
    let own = lines(&stranger, "/api/v1/accounts/beta/audit").await;
    assert!(own.iter().all(|line| line["account"] == "beta" && !line.to_string().contains("acme")), "{own:?}");
    // Whose credential it is that pulls what is public, the account is not told.
    let public = r#"{"patterns":["acme/open"]}"#;
    owner.send(Request::put("/api/v1/accounts/acme/public").header("If-Match", "*").body(public)).await.expect(200);
    let pusher = acme.caller(&acme.push().await);
    let bundle = fixture::image("open", Format::Oci);
    push::bundle(&pusher, "acme/open", "v1", &bundle).await;
    let foreign = beta.caller(&beta.pull().await);
    foreign.send(Request::get("/v2/acme/open/manifests/v1")).await.expect(200);
    until("the pull is written", async || names(&of_acme(&owner).await).contains("manifest.pull")).await;
    let read = of_acme(&owner).await;
    let pull = read.iter().find(|line| line["event"] == "manifest.pull").unwrap();
    assert_eq!(pull["actor"], json!({"type": "anonymous", "id": null, "label": null}));
}

/// What lets somebody do something is there although the server was killed the moment it had said so, and what else there is
/// forms whole chains.
#[tokio::test]
async fn after_a_kill_the_chains_are_whole_and_no_grant_is_missing() {
    for store in Store::ALL {
        let mut harness = Harness::on(store).await;
        let acme = harness.account("acme").await;
        let owner = acme.actor(Actor::AccessKey).await;
        let pusher = acme.caller(&acme.push().await);
        push::bundle(&pusher, "acme/web", "v1", &fixture::image("kill", Format::Oci)).await;
        let mut granted = BTreeSet::new();
        for _ in 0..3 {
            let pulls = async { while pusher.try_send(Request::get("/v2/acme/web/manifests/v1")).await.is_ok() {} };
            let mint = Request::post("/api/v1/accounts/acme/credentials").body(r#"{"kind":"pull"}"#);
            let minting = async {
                let minted = owner.send(mint).await.expect(201).json();
                let key = owner.send(Request::post("/api/v1/accounts/acme/keys").body("{}")).await.expect(201).json();
                harness.signal(rustix::process::Signal::KILL);
                [minted, key].map(|made| made["id"].as_str().unwrap().to_owned())
            };
            let ((), made) = tokio::join!(pulls, minting);
            granted.extend(made);
            harness.restart().await;
        }
        let exported = harness.hythe(&["audit", "export", "acme"]).await.stdout;
        let read: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let told: BTreeSet<_> = read.iter().filter_map(|line| Some(line["target"].as_str()?.to_owned())).collect();
        assert!(told.is_superset(&granted), "{granted:?} in {told:?}");
        harness.hythe(&["audit", "verify"]).await.says("as it was written");
    }
}

#[tokio::test]
async fn the_command_line_finds_what_was_taken_out_and_what_was_changed() {
    let harness = Harness::on(Store::Local).await;
    let acme = harness.account("acme").await;
    let owner = acme.actor(Actor::AccessKey).await;
    for _ in 0..3 {
        owner.send(Request::post("/api/v1/accounts/acme/credentials").body(r#"{"kind":"pull"}"#)).await.expect(201);
    }
    let heads = harness.hythe(&["audit", "export", "--heads"]).await.stdout;
    let file = harness.scratch("heads").join("heads.jsonl");
    write_file(&file, heads.as_bytes());
    let file = file.display().to_string();
    harness.hythe(&["audit", "verify", "--head", &file]).await;
    let generation = of_acme(&owner).await[0]["gen"].as_str().unwrap().to_owned();
    // The chain of the server: three batches, the last of them bound by its head alone.
    let kept = kept(&harness).await;
    let chain = |name: &str| name.rsplit('-').nth(1).unwrap().to_owned();
    let last = kept.iter().rfind(|(of, _, _)| of.to_string() == generation).unwrap();
    let own: Vec<_> = kept.iter().filter(|(_, name, _)| chain(name) == chain(&last.1)).collect();
    assert_eq!(own.len(), 3);
    let folder = Folder::open(&harness.data(), Options::default(), Arc::new(SystemClock::new())).unwrap();
    let prefix = key::audits(&last.0);
    for (at, (_, name, text)) in own.iter().enumerate() {
        let key = prefix.plain(name);
        folder.records.put(&key, text.replace("credential.mint", "credential.null").into()).await.unwrap();
        let changed = harness.run_at(0, &["audit", "verify", "--head", &file]).fails().await;
        changed.says(name);
        folder.records.delete(&key).await.unwrap();
        harness.run_at(0, &["audit", "verify", "--head", &file]).fails().await.says("is missing");
        let without = harness.run_at(0, &["audit", "verify", "acme"]);
        if at == 2 {
            without.ok().await
        } else {
            without.fails().await
        };
        folder.records.put(&key, text.clone().into()).await.unwrap();
    }
    harness.hythe(&["audit", "verify", "acme", "--head", &file]).await.says("as it was written");
}

#[tokio::test]
async fn a_slowed_address_is_told_of_once_in_the_log_and_in_no_audit() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let owner = acme.actor(Actor::AccessKey).await;
    let wrong = acme.actor(Actor::WrongKey).await;
    let before = of_acme(&owner).await.len();
    while wrong.send(Request::get("/token")).await.status != 429 {}
    for _ in 0..5 {
        wrong.send(Request::get("/token")).await;
    }
    assert_eq!(harness.log().matches("throttle.start").count(), 1, "{}", harness.log());
    assert_eq!(of_acme(&owner).await.len(), before);
}
