//! A replica that cannot know what has ended: it slept, or its wire to the store was cut.

use conformance::{
    Answer, Caller, Credential, Harness, Request, Store,
    fixture::{self, Format},
    harness::until,
    push,
    wire::{Passes, Wire},
};
use rustix::process::Signal;

use super::*;

/// With `HYTHE_LONG=1` thirty seconds, else little more than the bound.
fn pause() -> Duration {
    if env::var_os("HYTHE_LONG").is_some() { Duration::from_secs(30) } else { Duration::from_millis(5500) }
}

async fn passes(time: Duration) {
    let since = Instant::now();
    until("the time passes", async || since.elapsed() >= time).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_slept_through_a_revocation_does_not_begin_with_a_success() {
    let first = Harness::on(Store::Minio).await;
    let sleeper = first.replica(None).await;
    let acme = first.account("acme").await;
    let credential = acme.pull().await;
    let warm = |harness: &Harness| Caller::basic(harness.client(), &credential.username, &credential.password);
    let token = warm(&sleeper).with_token(&[]).await;
    token.send(Request::get("/v2/")).await.expect(200);
    sleeper.signal(Signal::STOP);
    first.hythe(&["credential", "revoke", "acme", &credential.id]).await;
    passes(pause()).await;
    // They wait in the socket when it wakes up.
    let asked = async { ask(&token).await };
    let basic = async { ask(&warm(&sleeper)).await };
    let wakes = async { sleeper.signal(Signal::CONT) };
    let (token, basic, ()) = tokio::join!(asked, basic, wakes);
    assert!([401, 503].contains(&token.status.as_u16()), "{}", token.status);
    assert!([401, 503].contains(&basic.status.as_u16()), "{}", basic.status);
}

/// A server that sleeps longer than a connection may be idle closes it when it wakes up, whatever lies in it; clients then ask again.
async fn ask(caller: &Caller) -> Answer {
    match caller.try_send(Request::get("/v2/")).await {
        Ok(answer) => answer,
        Err(_) => caller.send(Request::get("/v2/")).await,
    }
}

/// A replica behind a wire, with one account that refuses without the log and one that serves.
struct Wired {
    wire: Wire,
    replica: Harness,
    refuse: Caller,
    serve: Caller,
    push: Caller,
    serve_basic: Caller,
    first: Harness,
    revoked: [(String, Credential); 2],
}

impl Wired {
    async fn new() -> Self {
        let first = Harness::on(Store::Minio).await;
        let wire = Wire::to(first.bucket().unwrap()).await;
        let replica = first.replica(Some(wire.address())).await;
        let client = replica.client();
        let mut pulls = Vec::new();
        let mut revoked = Vec::new();
        for (name, on_stale) in [("acme", "refuse"), ("beta", "serve")] {
            let account = first.account(name).await;
            first.hythe(&["account", "set", name, "--on-stale", on_stale]).await;
            let pusher = account.caller(&account.push().await);
            push::bundle(&pusher, &account.repository("web"), "v1", &fixture::image(name, Format::Oci)).await;
            let credential = account.pull().await;
            pulls.push(Caller::basic(client, &credential.username, &credential.password));
            revoked.push((name.to_owned(), credential));
        }
        let pusher = first.account("beta").await.push().await;
        let push = Caller::basic(client, &pusher.username, &pusher.password);
        let serve_basic = pulls.pop().unwrap();
        let refuse = pulls.pop().unwrap().with_token(&["repository:acme/web:pull"]).await;
        let serve = serve_basic.with_token(&["repository:beta/web:pull"]).await;
        let push = push.with_token(&["repository:beta/web:pull,push"]).await;
        for (caller, path) in [(&refuse, "acme"), (&serve, "beta"), (&push, "beta")] {
            caller.send(Request::get(format!("/v2/{path}/web/manifests/v1"))).await.expect(200);
        }
        let revoked = revoked.try_into().unwrap();
        Self { wire, replica, refuse, serve, push, serve_basic, first, revoked }
    }

    /// Ends both pull credentials where the wire does not matter; the instant of the later answer.
    async fn revoke(&self) -> Instant {
        for (account, credential) in &self.revoked {
            self.first.hythe(&["credential", "revoke", account, &credential.id]).await;
        }
        Instant::now()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_cannot_read_the_log_refuses_by_the_bound_and_serves_whom_it_may_for_an_hour() {
    let wired = Wired::new().await;
    let beta = || Request::get("/v2/beta/web/manifests/v1");
    wired.wire.set(Passes::AllBut("sys/authlog"));
    let ended = wired.revoke().await;

    // By the bound it refuses, and says when to come again.
    let mut last = ended;
    until("it refuses", async || {
        let answer = wired.refuse.send(Request::get("/v2/acme/web/manifests/v1")).await;
        if answer.status == 503 {
            assert_eq!((answer.header("retry-after"), answer.code().as_str()), ("1", "UNAVAILABLE"));
            return true;
        }
        assert_eq!(answer.status, 200);
        last = Instant::now();
        false
    })
    .await;
    assert!(last - ended < BOUND, "{:?}", last - ended);
    println!("cut off: the last pull {:?} after the answer to the revocation", last - ended);
    wired.replica.send(Request::get("/readyz")).await.expect(503);
    wired.replica.send(Request::get("/healthz")).await.expect(200);

    // Pulls of the other account go on, content and token, and say how old what is known is. Nothing else does.
    let old = |warning: &str| warning.starts_with("299 - \"revocation state is ") && warning.ends_with(" s old\"");
    let served = wired.serve.send(beta()).await.expect(200);
    assert!(old(served.header("warning")), "{}", served.header("warning"));
    let issued = wired.serve_basic.ask_token(&["repository:beta/web:pull"]).await.expect(200);
    assert!(old(issued.header("warning")), "{}", issued.header("warning"));
    wired.push.send(Request::post("/v2/beta/web/blobs/uploads/")).await.refused(503, "UNAVAILABLE");
    wired.push.send(beta()).await.refused(503, "UNAVAILABLE");
    Caller::anonymous(wired.replica.client()).send(beta()).await.refused(503, "UNAVAILABLE");

    // For an hour, and not longer.
    wired.replica.set_clock(3500);
    wired.serve.send(beta()).await.expect(200);
    wired.replica.set_clock(3700);
    wired.serve.send(beta()).await.refused(503, "UNAVAILABLE");
    wired.replica.set_clock(0);

    wired.wire.set(Passes::Everything);
    until("the revocation is known", async || wired.serve.send(beta()).await.status == 401).await;
    wired.refuse.send(Request::get("/v2/acme/web/manifests/v1")).await.expect(401);
    wired.push.send(beta()).await.expect(200);
    let told = "the log of ended rights is read again";
    until("the log says so", async || wired.replica.log().contains(told)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_wire_is_cut_lets_nothing_through_after_the_bound() {
    let wired = Wired::new().await;
    wired.wire.set(Passes::Nothing);
    let ended = wired.revoke().await;
    let ping = || Request::get("/v2/");
    until("it refuses", async || wired.refuse.send(ping()).await.status == 503).await;
    assert!(ended.elapsed() < BOUND + Duration::from_secs(2), "{:?}", ended.elapsed());
    // What needs no content is served where the account wants it.
    let served = wired.serve.send(ping()).await.expect(200);
    assert!(served.header("warning").contains("revocation state"), "{}", served.header("warning"));
    let since = Instant::now();
    until("a look has failed once more", async || {
        wired.refuse.send(ping()).await.expect(503);
        since.elapsed() > Duration::from_secs(3)
    })
    .await;
    wired.wire.set(Passes::Everything);
    until("the revocation is known", async || wired.refuse.send(ping()).await.status == 401).await;
    wired.serve.send(ping()).await.expect(401);
}
