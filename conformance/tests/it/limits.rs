//! Rates and limits: failures and floods are slowed, and nobody is locked out.

use conformance::{Caller, Harness, Request};

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
