//! Who takes over what is somebody else's: passwords, keys, whole registries.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use conformance::{
    Actor, Caller, Harness, Request, Store,
    fixture::{Algorithm, Content, Format},
    push,
    tools::Run,
};
use http::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// A server that gives everybody the same answer: its address, and how many have come.
#[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
async fn answering(answer: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (address, count) = (listener.local_addr().unwrap().to_string(), Arc::new(AtomicUsize::new(0)));
    let come = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            come.fetch_add(1, Ordering::SeqCst);
            let mut head = [0; 4096];
            let _read = stream.read(&mut head).await;
            let _sent = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, count)
}

/// CVE-2026-33540 (distribution): an upstream names a realm on another host, and the password for the upstream is sent there. What
/// sends keys here is the command line: it follows no redirect and no challenge.
#[tokio::test]
async fn a_key_goes_to_the_server_that_was_named_and_nowhere_else() {
    let key = format!("hyak_{}", "0".repeat(88));
    let (thief, stolen) = answering("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"items\":[]}".to_owned()).await;
    let closed = "Content-Length: 2\r\nConnection: close\r\n\r\n{}";
    for answer in [
        format!("HTTP/1.1 302 Found\r\nLocation: http://{thief}/api/v1/accounts\r\n{closed}"),
        format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{thief}/\r\n{closed}"),
        format!("HTTP/1.1 308 Permanent Redirect\r\nLocation: //{thief}/\r\n{closed}"),
        format!(
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"http://{thief}/token\",service=\"x\"\r\n{closed}"
        ),
        format!("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"http://{thief}/\"\r\n{closed}"),
    ] {
        let (upstream, asked) = answering(answer).await;
        let run = Run::of(&conformance::harness::binary()).args(["repository", "list", "acme"]);
        let ended = run.env("HYTHE_URL", format!("http://{upstream}")).env("HYTHE_KEY", &key).fails().await;
        assert!(!ended.all().contains(&key), "{}", ended.all());
        assert_eq!(asked.load(Ordering::SeqCst), 1, "{}", ended.all());
    }
    assert_eq!(stolen.load(Ordering::SeqCst), 0);
}

/// The other side of CVE-2026-33540: nobody makes this registry name a realm that is not its own, so no client sends a password there.
#[tokio::test]
async fn a_realm_is_never_what_a_stranger_says_it_is() {
    let evil = "registry.evil.example";
    for arguments in [&[][..], &["--public-url", "https://registry.example"]] {
        let harness = Harness::with(Store::Local, arguments).await;
        let acme = harness.account("acme").await;
        let dead = acme.actor(Actor::Revoked).await;
        for path in ["/v2/", "/v2/acme/web/manifests/v1", "/v2/_catalog", "/token", "/api/v1/accounts/acme"] {
            for (name, value) in [
                ("Host", evil.to_owned()),
                ("Host", format!("{evil}:443")),
                ("Host", format!("{}@{evil}", harness.host())),
                ("Host", format!("{}.{evil}", harness.host())),
                ("Host", "registry.example.evil.example".to_owned()),
                ("Host", "127.0.0.1.evil.example".to_owned()),
                ("Host", String::new()),
            ] {
                for caller in [&Caller::anonymous(harness.client()), &dead] {
                    let answer = caller.send(Request::get(path).header(name, value.clone())).await;
                    assert!([400, 421].contains(&answer.status.as_u16()), "{value}: {}", answer.status);
                    assert_eq!(answer.joined("www-authenticate"), "", "{value}");
                }
            }
            // From whom no proxy was announced these are words, and no more.
            for (name, value) in [
                ("X-Forwarded-Host", evil.to_owned()),
                ("X-Forwarded-Server", evil.to_owned()),
                ("Forwarded", format!("host={evil};proto=https")),
                ("X-Original-Host", evil.to_owned()),
                ("Origin", format!("https://{evil}")),
                ("Referer", format!("https://{evil}/")),
            ] {
                let answer = harness.send(Request::get(path).header(name, value)).await.expect(401);
                assert!(
                    !format!("{:?} {}", answer.headers, answer.text()).contains("evil"),
                    "{name}: {:?}",
                    answer.headers
                );
            }
        }
        // Two hosts, and a request line that names another than the header.
        for head in [
            format!("GET /v2/ HTTP/1.1\r\nHost: {}\r\nHost: {evil}\r\nConnection: close\r\n\r\n", harness.host()),
            format!("GET http://{evil}/v2/ HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", harness.host()),
        ] {
            let answer = harness.client().raw(head.as_bytes()).await.unwrap();
            let answer = String::from_utf8_lossy(&answer).to_lowercase();
            assert!(!answer.contains("www-authenticate"), "{answer}");
        }
    }
}

/// CVE-2022-31667 (Harbor): whoever has rights in one project changes the robots of another by their numbers.
#[tokio::test]
async fn an_id_of_another_account_is_an_id_of_nothing() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let image = conformance::fixture::image("robots", Format::Oci);
    push::bundle(&acme.caller(&acme.push().await), "acme/web", "v1", &image).await;
    let owner = acme.actor(Actor::AccessKey).await;
    let post = |path: &str, document: &Value| {
        Request::post(path).header("Content-Type", "application/json").body(document.to_string())
    };
    let mint = json!({"kind": "pull"});
    let victim = owner.send(post("/api/v1/accounts/acme/credentials", &mint)).await.expect(201).json();
    let made = harness.hythe(&["key", "create", "acme", "--role", "publisher", "--output", "json"]).await;
    let key: Value = serde_json::from_str(&made.stdout).unwrap();
    let (credential, key_id) = (victim["id"].as_str().unwrap(), key["id"].as_str().unwrap());

    let beta = harness.account("beta").await;
    let robber = beta.actor(Actor::AccessKey).await;
    for (kind, id, verbs) in [("credentials", credential, &["revoke"][..]), ("keys", key_id, &["retire", "revoke"])] {
        for (account, status, code) in [("acme", 403, "DENIED"), ("beta", 404, "NOT_FOUND")] {
            let path = format!("/api/v1/accounts/{account}/{kind}/{id}");
            robber.send(Request::get(&*path)).await.refused(status, code);
            for verb in verbs {
                robber.send(Request::post(format!("{path}/{verb}"))).await.refused(status, code);
            }
            for method in [Method::PUT, Method::PATCH, Method::DELETE] {
                let answer = robber.send(Request::new(method, &*path).body("{}")).await;
                assert!(answer.status.is_client_error(), "{}", answer.status);
            }
        }
        // The path says one account and something else another.
        for path in [
            format!("/api/v1/accounts/beta/{kind}/../../acme/{kind}/{id}/revoke"),
            format!("/api/v1/accounts/beta/{kind}/..%2f..%2facme%2f{kind}%2f{id}/revoke"),
            format!("/api/v1/accounts/beta/{kind}/{id}/revoke?account=acme"),
        ] {
            let answer = robber.send(post(&path, &json!({"account": "acme"}))).await;
            assert!(answer.status.is_client_error(), "{path}: {}", answer.status);
        }
    }
    // A mint that names what it replaces ends nothing of others.
    let stolen = json!({"kind": "pull", "replaces": credential});
    robber.send(post("/api/v1/accounts/beta/credentials", &stolen)).await.expect(422);
    let another = json!({"kind": "pull", "repositories": ["acme/**"]});
    robber.send(post("/api/v1/accounts/beta/credentials", &another)).await.expect(422);
    robber.send(post("/api/v1/accounts/acme/credentials", &mint)).await.refused(403, "DENIED");

    harness.set_clock(700);
    let text = |field: &str| victim[field].as_str().unwrap();
    let holder = Caller::basic(harness.client(), text("username"), text("password"));
    holder.send(Request::get("/v2/acme/web/manifests/v1")).await.expect(200);
    let publisher = Caller::bearer(harness.client(), key["key"].as_str().unwrap());
    publisher.send(post("/api/v1/accounts/acme/credentials", &mint)).await.expect(201);
}

/// CVE-2026-4404 (Harbor): everybody knows the password that it comes with. This one comes with none, nothing to set it at, and says
/// none where a log would keep it.
#[tokio::test]
async fn a_new_registry_has_no_password_that_anybody_knows() {
    let harness = Harness::with(Store::Local, &["--account", "acme", "--trusted-proxy", "127.0.0.0/8"]).await;
    let log = harness.log();
    for prefix in ["hypl_", "hyps_", "hyak_", "hyop_"] {
        assert!(!log.contains(prefix), "{log}");
    }
    let mut guesses = 0_u32;
    for user in ["admin", "root", "hythe", "acme", "robot", "anonymous", "_json_key", "AWS", "token", ""] {
        for password in ["Harbor12345", "admin", "password", "hythe", "acme", "changeme", "root", ""] {
            guesses += 1;
            let caller = Caller::basic(harness.client(), user, password);
            // Each from an address of its own: what is shown is that it is wrong, not that it was too often.
            let from =
                |request: Request| request.header("X-Forwarded-For", Ipv4Addr::from_bits(guesses << 8).to_string());
            caller.send(from(Request::get("/v2/"))).await.refused(401, "UNAUTHORIZED");
            caller.send(from(Request::get("/token?scope=registry:catalog:*"))).await.refused(401, "UNAUTHORIZED");
            caller.send(from(Request::get("/api/v1/accounts"))).await.refused(401, "UNAUTHORIZED");
        }
    }
    // The first visitor finds no form to become somebody.
    for path in
        ["/setup", "/install", "/api/v1/setup", "/api/v1/users", "/c/login", "/service/token", "/signup", "/v1/users"]
    {
        for method in [Method::GET, Method::POST, Method::PUT] {
            let answer = harness.send(Request::new(method, path).body("{}")).await;
            assert!([401, 404, 405].contains(&answer.status.as_u16()), "{path}: {}", answer.status);
        }
    }
    harness.send(Request::post("/api/v1/accounts").body(r#"{"name":"mine"}"#)).await.refused(401, "UNAUTHORIZED");
    // Who has the store makes the first key, on a terminal of their own.
    let made = harness.hythe(&["key", "create", "acme", "--output", "json"]).await;
    let made: Value = serde_json::from_str(&made.stdout).unwrap();
    let owner = Caller::bearer(harness.client(), made["key"].as_str().unwrap());
    owner.send(Request::get("/api/v1/accounts/acme")).await.expect(200);
}

/// A page that somebody pushed would act for whoever looks at it, if the registry's host served it as one.
#[tokio::test]
async fn what_was_pushed_is_never_a_page_of_this_host() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let vendor = acme.actor(Actor::PushDelete).await;
    let page = "<!doctype html><script>fetch('/api/v1/accounts')</script>";
    let page = Content::new(Algorithm::Sha256, "text/html", page);
    push::blob(&vendor, "acme/web", &page).await;
    let blob = format!("/v2/acme/web/blobs/{}", page.digest);
    for request in [
        Request::get(&*blob),
        Request::get(&*blob).header("Accept", "text/html"),
        Request::get(&*blob).header("Range", "bytes=0-20"),
        Request::head(&*blob),
    ] {
        let served = vendor.send(request).await;
        assert!(served.status.is_success(), "{}", served.status);
        for (name, value) in [
            ("content-type", "application/octet-stream"),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "sandbox"),
        ] {
            assert_eq!(served.header(name), value, "{name}");
        }
    }
    // Nor is it a manifest, and nothing that comes back in an error is a page.
    for kind in ["text/html", "application/xhtml+xml", "image/svg+xml"] {
        let put = Request::put("/v2/acme/web/manifests/v1").header("Content-Type", kind).body(page.bytes.clone());
        vendor.send(put).await.refused(400, "MANIFEST_INVALID");
    }
    let image = conformance::fixture::image("<script>", Format::Oci);
    push::bundle(&vendor, "acme/web", "v1", &image).await;
    let manifest = vendor.send(Request::get("/v2/acme/web/manifests/v1")).await.expect(200);
    assert_eq!(manifest.header("x-content-type-options"), "nosniff");
    assert_eq!(manifest.header("content-type"), image.root().media_type);
    for path in
        ["/v2/acme/<script>alert(1)</script>/tags/list", "/%3Cscript%3E", "/token?service=<script>", "/api/v1/<script>"]
    {
        let raw = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAccept: text/html\r\nConnection: close\r\n\r\n",
            harness.host()
        );
        let answer = harness.client().raw(raw.as_bytes()).await.unwrap();
        let answer = String::from_utf8_lossy(&answer).to_lowercase();
        let head = answer.split("\r\n\r\n").next().unwrap_or_default();
        assert!(!head.contains("text/html"), "{answer}");
    }
}
