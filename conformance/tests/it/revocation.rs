//! A right that has ended is honoured nowhere any more: within five seconds of the answer that said so, on every replica.

mod away;
mod cut;

use std::{env, time::Duration};

use conformance::{
    AccountUnderTest, Caller, Harness, Request, Store,
    fixture::{self, Format},
    harness, push,
};
use serde_json::{Value, json};
use storage::{Clock, clock::SystemClock};
use tokio::{task::JoinSet, time::Instant};

/// What is promised.
const BOUND: Duration = Duration::from_secs(5);
/// Fifty a second.
const APART: Duration = Duration::from_millis(20);

/// What ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    Credential,
    Key,
    Account,
    Public,
}

/// Three servers on one bucket, an account on them, and its image.
struct Three {
    servers: Vec<Harness>,
    owner: String,
    operator: String,
}

const MANIFEST: &str = "/v2/acme/web/manifests/v1";

fn json_request(request: Request, document: &Value) -> Request {
    request.header("Content-Type", "application/json").header("If-Match", "*").body(document.to_string())
}

fn text(document: &Value, field: &str) -> String {
    document.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A new owner's key of an account, and its id.
async fn key(account: &AccountUnderTest<'_>, harness: &Harness) -> (String, String) {
    let made = harness.hythe(&["key", "create", account.name(), "--output", "json"]).await;
    let made: Value = serde_json::from_str(&made.stdout).unwrap();
    (text(&made, "key"), text(&made, "id"))
}

impl Three {
    async fn new(on_stale: &str) -> Self {
        let first = Harness::on(Store::Minio).await;
        let acme = first.account("acme").await;
        first.hythe(&["account", "set", "acme", "--on-stale", on_stale]).await;
        let pusher = acme.caller(&acme.push().await);
        push::bundle(&pusher, "acme/web", "v1", &fixture::image("revoked", Format::Oci)).await;
        let (owner, _) = key(&acme, &first).await;
        let made = first.hythe(&["operator-key", "create", "--output", "json"]).await;
        let operator = text(&serde_json::from_str(&made.stdout).unwrap(), "key");
        let (second, third) = tokio::join!(first.replica(None), first.replica(None));
        Self { servers: vec![first, second, third], owner, operator }
    }

    fn by(&self, key: &str, server: usize) -> Caller {
        Caller::bearer(self.servers[server].client(), key)
    }

    /// One round: who pulls on every server, and the request that ends it.
    async fn begin(&self, ends: Ends, server: usize) -> (Vec<Caller>, Caller, Request) {
        let owner = self.by(&self.owner, server);
        let path = "/api/v1/accounts/acme";
        let (minter, end) = match ends {
            Ends::Public => {
                let open = json_request(Request::put(format!("{path}/public")), &json!({"patterns": ["acme/web"]}));
                owner.send(open).await.expect(200);
                let close = json_request(Request::put(format!("{path}/public")), &json!({"patterns": []}));
                let anyone = self.servers.iter().map(|server| Caller::anonymous(server.client())).collect();
                return (anyone, owner, close);
            }
            Ends::Account => {
                let operator = self.by(&self.operator, server);
                let state = |state: &str| json_request(Request::patch(path), &json!({"state": state}));
                operator.send(state("active")).await.expect(200);
                (self.owner.clone(), Some((operator, state("suspended"))))
            }
            Ends::Key => {
                let (key, id) = key(&self.servers[0].account("acme").await, &self.servers[0]).await;
                (key, Some((owner.clone(), Request::post(format!("{path}/keys/{id}/revoke")))))
            }
            Ends::Credential => (self.owner.clone(), None),
        };
        let mint = json_request(Request::post(format!("{path}/credentials")), &json!({"kind": "pull"}));
        // Where it was set to live again, it lives at once.
        let minted = self.by(&minter, server).send(mint).await.expect(201).json();
        let mut callers = Vec::new();
        for server in &self.servers {
            let caller = Caller::basic(server.client(), &text(&minted, "username"), &text(&minted, "password"));
            harness::until("the account lives on every server", async || {
                caller.send(Request::get("/v2/")).await.status == 200
            })
            .await;
            callers.push(caller.with_token(&["repository:acme/web:pull"]).await);
        }
        let (who, request) =
            end.unwrap_or_else(|| (owner, Request::post(format!("{path}/credentials/{}/revoke", text(&minted, "id")))));
        (callers, who, request)
    }

    /// How long after the answer to the end each server last let a pull through.
    async fn round(&self, ends: Ends, server: usize) -> Vec<Duration> {
        let (callers, who, end) = self.begin(ends, server).await;
        let mut pulls = JoinSet::new();
        let ended = tokio::sync::watch::Sender::new(None::<Instant>);
        let (warm, mut warmed) = tokio::sync::mpsc::channel(1);
        for caller in callers {
            harness::until("the pull goes on every server", async || {
                caller.send(Request::get(MANIFEST)).await.status == 200
            })
            .await;
            let (ended, warm) = (ended.subscribe(), warm.clone());
            pulls.spawn(async move { pull(&caller, ended, warm).await });
        }
        for _ in &self.servers {
            warmed.recv().await.unwrap();
        }
        let answer = who.send(end).await.expect(200);
        ended.send_replace(Some(Instant::now()));
        if let Some(by) = answer.json().get("effective_by").and_then(Value::as_str) {
            let left = chrono::DateTime::parse_from_rfc3339(by).unwrap().to_utc() - SystemClock::new().now();
            assert!(left <= chrono::TimeDelta::seconds(5), "{by}");
        }
        pulls.join_all().await
    }
}

/// Pulls fifty times a second, with what was warm before the end, until nothing was let through for as long as the bound.
async fn pull(
    caller: &Caller,
    ended: tokio::sync::watch::Receiver<Option<Instant>>,
    warm: tokio::sync::mpsc::Sender<()>,
) -> Duration {
    let mut ticks = tokio::time::interval(APART);
    let (mut good, mut last, mut refused_since) = (0, Instant::now(), None::<Instant>);
    loop {
        ticks.tick().await;
        let status = caller.send(Request::get(MANIFEST)).await.status;
        let now = Instant::now();
        if status == 200 {
            (last, refused_since) = (now, None);
            good += 1;
            if good == 10 {
                warm.send(()).await.unwrap();
            }
        } else {
            assert!([401, 503].contains(&status.as_u16()), "{status}");
            assert!(good >= 10, "{status} before anything ended");
            let since = *refused_since.get_or_insert(now);
            if let Some(at) = *ended.borrow()
                && now - since > Duration::from_secs(1)
            {
                return last.saturating_duration_since(at);
            }
        }
        if let Some(at) = *ended.borrow() {
            assert!(now - at < 3 * BOUND, "still let through {:?} after the end", now - at);
        }
    }
}

/// With `HYTHE_LONG=1` a hundred rounds of each, else five.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_ended_is_refused_on_three_replicas_within_the_bound() {
    let rounds = if env::var_os("HYTHE_LONG").is_some() { 100 } else { 5 };
    // While the store is there, what an account chose for the time without it changes nothing.
    let three = Three::new("serve").await;
    for ends in [Ends::Credential, Ends::Key, Ends::Public, Ends::Account] {
        let mut lasted = Vec::new();
        for round in 0..rounds {
            lasted.extend(three.round(ends, round % 3).await);
        }
        lasted.sort();
        let part = |percent: usize| lasted[(lasted.len() - 1) * percent / 100].as_millis();
        println!(
            "{ends:?}: {rounds} rounds on 3 replicas; the last pull after the answer: p50 {} ms, p99 {} ms, max {} ms",
            part(50),
            part(99),
            part(100)
        );
        assert!(lasted.iter().all(|lasted| *lasted < BOUND), "{ends:?}: {lasted:?}");
    }
}
