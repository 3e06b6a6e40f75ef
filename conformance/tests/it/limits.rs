//! Rates and limits: failures and floods are slowed, and nobody is locked out.

use std::{sync::Arc, time::Duration};

use auth::{Auth, Settings};
use conformance::{Caller, Client, Harness, Request, Store, harness};
use serde_json::{Value, json};
use storage::{
    backend::local::{Folder, Options},
    clock::SystemClock,
    key, record,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{self, Instant},
};

/// Sends requests one after the other until one is slowed; gives how many were not.
async fn until_slowed(caller: &Caller, most: usize, request: impl Fn() -> Request) -> usize {
    for n in 0..most {
        let answer = caller.send(request()).await;
        if answer.status == 429 {
            let answer = answer.refused(429, "TOOMANYREQUESTS");
            assert!(answer.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds >= 1));
            return n;
        }
    }
    panic!("{most} requests, and none was slowed")
}

async fn owner(harness: &Harness) -> Caller {
    harness.account("acme").await.actor(conformance::Actor::AccessKey).await
}

#[tokio::test]
async fn wrong_secrets_slow_an_address_and_a_good_one_from_it_is_served() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let good = acme.caller(&acme.pull().await);
    let owner = owner(&harness).await;
    let wrong = acme.caller(&acme.pull().await.with_wrong_password());
    let slowed_after = until_slowed(&wrong, 1000, || Request::get("/token")).await;
    assert!(slowed_after >= 60, "{slowed_after}");
    // The same user, the same address, in the same second.
    for _ in 0..100 {
        good.ask_token(&["repository:acme/web:pull"]).await.expect(200);
        good.send(Request::get("/v2/")).await.expect(200);
    }
    owner.send(Request::get("/api/v1/accounts/acme")).await.expect(200);
    wrong.send(Request::get("/token")).await.refused(429, "TOOMANYREQUESTS");
}

#[tokio::test]
async fn a_key_that_mints_in_a_loop_is_slowed_and_another_is_not() {
    let harness = Harness::start().await;
    let (loud, quiet) = (owner(&harness).await, owner(&harness).await);
    let mint = || Request::post("/api/v1/accounts/acme/credentials").body(r#"{"kind":"pull"}"#);
    let minted = until_slowed(&loud, 5000, mint).await;
    assert!(minted >= 100, "{minted}");
    quiet.send(mint()).await.expect(201);
}

#[tokio::test]
async fn a_credential_that_asks_for_tokens_in_a_loop_is_slowed_and_another_is_not() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let (loud, quiet) = (acme.caller(&acme.pull().await), acme.caller(&acme.pull().await));
    let (mut served, mut slowed) = (0, 0);
    // Several at once: one after the other may be no more than are allowed.
    while slowed == 0 && served < 20_000 {
        let asked = (0..64).map(|_| loud.ask_token(&[]));
        for answer in futures::future::join_all(asked).await {
            match answer.status.as_u16() {
                200 => served += 1,
                429 => slowed += 1,
                other => panic!("{other}: {}", answer.text()),
            }
        }
    }
    assert!(served >= 200 && slowed > 0, "{served} served, {slowed} slowed");
    quiet.ask_token(&[]).await.expect(200);
}

#[tokio::test]
async fn an_account_that_revokes_in_a_loop_is_slowed_and_another_is_not() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let owner = owner(&harness).await;
    let victim = acme.pull().await.id;
    let end = || Request::post(format!("/api/v1/accounts/acme/credentials/{victim}/revoke"));
    let ended = until_slowed(&owner, 1000, end).await;
    assert!(ended >= 5, "{ended}");
    let beta = harness.account("beta").await;
    let (other, victim) = (beta.actor(conformance::Actor::AccessKey).await, beta.pull().await.id);
    let end = Request::post(format!("/api/v1/accounts/beta/credentials/{victim}/revoke"));
    other.send(end).await.expect(200);
}

#[tokio::test]
async fn a_token_form_has_64_kib_and_64_scopes_at_most() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let credential = acme.pull().await;
    let ask = async |scopes: usize, padding: usize| {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "password").append_pair("username", &credential.username);
        form.append_pair("password", &credential.password).append_pair("client_id", &"x".repeat(padding));
        for n in 0..scopes {
            form.append_pair("scope", &format!("repository:acme/r{n}:pull"));
        }
        let request = Request::post("/token").header("Content-Type", "application/x-www-form-urlencoded");
        harness.send(request.body(form.finish())).await
    };
    let granted = ask(100, 0).await.expect(200).json();
    assert_eq!(granted["scope"].as_str().unwrap().split(' ').count(), 64);
    ask(1, 60 << 10).await.expect(200);
    ask(1, 64 << 10).await.expect(413);
}

/// A key of an account that its holder calls with, and its id.
async fn key_of(harness: &Harness, account: &str) -> (Caller, String) {
    harness.account(account).await;
    let made = harness.hythe(&["key", "create", account, "--output", "json"]).await.stdout;
    let made: Value = serde_json::from_str(&made).unwrap();
    (Caller::bearer(harness.client(), made["key"].as_str().unwrap()), made["id"].as_str().unwrap().to_owned())
}

/// Writes how many credentials of an issuer, or with `account` of a whole account, live until tomorrow: who would mint a million?
async fn seed(harness: &Harness, account: &str, of: &str, live: u64) {
    let clock: Arc<dyn storage::Clock> = Arc::new(SystemClock::new());
    let folder =
        Folder::open(&harness.data(), Options { serve: false, ..Options::default() }, Arc::clone(&clock)).unwrap();
    let tomorrow = (clock.now() + chrono::TimeDelta::days(1)).format("%Y%m%d%H").to_string();
    let auth = Auth::open(folder.records.clone(), clock, Settings::default()).await.unwrap();
    let account = auth.resolve(&account.parse().unwrap()).await.unwrap().unwrap();
    let counts = json!({"hours": {tomorrow: live}});
    record::create(&*folder.records, &key::credential_count(&account, of), counts).await.unwrap();
}

fn mint(account: &str) -> Request {
    Request::post(format!("/api/v1/accounts/{account}/credentials")).body(r#"{"kind":"pull"}"#)
}

#[tokio::test]
async fn a_key_has_ten_thousand_live_credentials_and_an_account_a_million() {
    let operations = harness::free_address();
    let harness = Harness::with(Store::Local, &["--operations", &operations.to_string()]).await;
    let nearest = async |of: &str| {
        let page = Client::new(operations).send(Request::get("/metrics")).await.expect(200).text();
        let series = format!("hythe_live_credentials_limit_ratio{{of=\"{of}\"}} ");
        page.lines().find_map(|line| line.strip_prefix(&series)?.parse::<f64>().ok()).unwrap()
    };
    let (full, id) = key_of(&harness, "acme").await;
    let (other, _) = key_of(&harness, "acme").await;
    seed(&harness, "acme", &id, 9_999).await;
    assert!(nearest("key").await < 0.5);
    let last = full.send(mint("acme")).await.expect(201).json();
    let told = full.send(mint("acme")).await.refused(429, "TOOMANYREQUESTS").message();
    assert!(told.starts_with("this key has 10000 live credentials, the most that one key may have: "), "{told}");
    full.send(Request::post("/api/v1/session")).await.refused(429, "TOOMANYREQUESTS");
    let renewed = json!({"kind": "pull", "replaces": last["id"]});
    full.send(Request::post("/api/v1/accounts/acme/credentials").body(renewed.to_string())).await.expect(201);
    other.send(mint("acme")).await.expect(201);
    assert!((nearest("key").await - 1.0).abs() < f64::EPSILON);
    assert!(nearest("account").await < 0.5);

    let (one, _) = key_of(&harness, "beta").await;
    let (two, _) = key_of(&harness, "beta").await;
    seed(&harness, "beta", "account", 999_999).await;
    one.send(mint("beta")).await.expect(201);
    for key in [&one, &two] {
        let told = key.send(mint("beta")).await.refused(429, "TOOMANYREQUESTS").message();
        let text = "account beta has 1000000 live credentials, the most that one account may have: ";
        assert!(told.starts_with(text), "{told}");
    }
    other.send(mint("acme")).await.expect(201);
    assert!((nearest("account").await - 1.0).abs() < f64::EPSILON);
}

/// The limit on stillness does not see a body that comes a byte at a time; a form has ten seconds whatever it does.
#[tokio::test]
async fn a_form_of_a_login_has_ten_seconds_however_steadily_it_trickles() {
    let harness = Harness::start().await;
    let mut stream = TcpStream::connect(harness.host()).await.unwrap();
    let head = format!(
        "POST /token HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 60000\r\n\r\n",
        harness.host()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let (began, mut drops, mut answer) = (Instant::now(), time::interval(Duration::from_millis(100)), vec![0; 4096]);
    let read = loop {
        assert!(began.elapsed() < Duration::from_mins(1), "it is waited for");
        tokio::select! {
            read = stream.read(&mut answer) => break read.unwrap(),
            _ = drops.tick() => {}
        }
        stream.write_all(b"a").await.unwrap();
    };
    let (answer, after) = (String::from_utf8_lossy(&answer[..read]), began.elapsed());
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("10 s"), "{answer}");
    assert!((Duration::from_secs(9)..Duration::from_secs(30)).contains(&after), "{after:?}");
}

#[tokio::test]
async fn a_head_has_16_kib_at_most() {
    let harness = Harness::start().await;
    let ask =
        async |padding: usize| harness.send(Request::get("/token").header("X-Padding", "x".repeat(padding))).await;
    ask(15 << 10).await.refused(401, "UNAUTHORIZED");
    ask(16 << 10).await.refused(431, "SIZE_INVALID");
}
