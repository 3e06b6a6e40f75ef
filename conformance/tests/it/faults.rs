//! A server whose wire to its store goes wrong in every way: what was acknowledged is there, and what was not is said so that a
//! client tries again.

use std::{env, time::Duration};

use conformance::{
    Caller, Harness, Request, Store,
    faults::BadWire,
    fixture::{self, Algorithm, Bundle, Content, Format},
    harness::until,
    linear::{Did, Event, is_linearizable},
    push,
};
use http::Method;
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

const CLIENTS: u64 = 4;
/// Of a thousand requests to the store, so many go wrong.
const OF_THOUSAND: u32 = 150;

/// With `HYTHE_LONG=1` ten minutes, else fifteen seconds.
fn time() -> Duration {
    if env::var_os("HYTHE_LONG").is_some() { Duration::from_mins(10) } else { Duration::from_secs(15) }
}

struct Bad {
    first: Harness,
    wire: BadWire,
    replica: Harness,
    through: Caller,
}

impl Bad {
    async fn new() -> Self {
        let first = Harness::on(Store::Minio).await;
        let seed = rand::random();
        println!("seed {seed}");
        let wire = BadWire::to(first.bucket().unwrap(), OF_THOUSAND, seed).await;
        let replica = first.replica(Some(wire.address())).await;
        let credential = first.account("acme").await.push_delete().await;
        let caller = Caller::basic(replica.client(), &credential.username, &credential.password);
        let through = caller.with_token(&["repository:acme/web:pull,push,delete"]).await;
        wire.set(true);
        Self { first, wire, replica, through }
    }

    fn direct(&self, caller: &Caller) -> Caller {
        Caller::bearer(self.first.client(), caller.authorization().unwrap().trim_start_matches("Bearer "))
    }
}

/// Whether it was acknowledged; anything but that must be worth another try.
async fn acknowledged(caller: &Caller, request: Request, status: u16) -> bool {
    let asked = request.path().to_owned();
    let Ok(answer) = caller.try_send(request).await else { return false };
    let said = answer.status.as_u16();
    assert!(said == status || [500, 502, 503].contains(&said), "{asked}: {said} {}", answer.text());
    said == status
}

/// Pushes a blob until that is acknowledged, in one request or in three.
async fn blob(caller: &Caller, content: &Content, whole: bool) {
    loop {
        let uploads = "/v2/acme/web/blobs/uploads/";
        if whole {
            let post = Request::post(format!("{uploads}?digest={}", content.digest)).body(content.bytes.clone());
            if acknowledged(caller, post, 201).await {
                return;
            }
            continue;
        }
        let Ok(opened) = caller.try_send(Request::post(uploads)).await else { continue };
        if opened.status != 202 {
            assert_eq!(opened.status, 503, "{}", opened.text());
            continue;
        }
        let location = push::location(&opened);
        let patch = push::chunk_request(Method::PATCH, &location, 0, content.bytes.clone());
        let Ok(sent) = caller.try_send(patch).await else { continue };
        if sent.status == 202
            && acknowledged(caller, Request::put(push::with_digest(&push::location(&sent), &content.digest)), 201).await
        {
            return;
        }
    }
}

async fn image(caller: &Caller, bundle: &Bundle, tag: &str) {
    for (at, content) in bundle.blobs.iter().enumerate() {
        blob(caller, content, at % 2 == 0).await;
    }
    // Every blob was acknowledged: a manifest that is told one is unknown has lost it.
    while !acknowledged(caller, push::manifest_request("acme/web", tag, bundle.root()), 201).await {}
}

async fn is_whole(caller: &Caller, bundle: &Bundle) {
    let manifest = format!("/v2/acme/web/manifests/{}", bundle.root().digest);
    assert!(caller.send(Request::get(manifest)).await.expect(200).body == bundle.root().bytes);
    for content in &bundle.blobs {
        let blob = caller.send(Request::get(format!("/v2/acme/web/blobs/{}", content.digest))).await.expect(200);
        assert!(blob.body == content.bytes, "{} is another blob", content.digest);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_over_a_bad_wire_is_there() {
    let bad = Bad::new().await;
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let caller = bad.through.clone();
        clients.spawn(async move {
            let mut pushed = Vec::new();
            while begun.elapsed() < time() {
                let bundle = fixture::image(&format!("bad {client} {}", pushed.len()), Format::Oci);
                image(&caller, &bundle, &format!("client{client}")).await;
                pushed.push(bundle);
            }
            (client, pushed)
        });
    }
    let pushed: Vec<(u64, Vec<Bundle>)> = clients.join_all().await;
    bad.wire.set(false);
    let (requests, faults) = bad.wire.counts();
    let direct = bad.direct(&bad.through);
    for (client, images) in &pushed {
        let head = direct.send(Request::head(format!("/v2/acme/web/manifests/client{client}"))).await.expect(200);
        let at = images.iter().position(|image| image.root().digest == head.header("docker-content-digest"));
        assert_eq!(at, Some(images.len() - 1), "where the tag of client {client} points, of {} images", images.len());
        for bundle in images {
            is_whole(&direct, bundle).await;
        }
    }
    bad.first.hythe(&["verify"]).await;
    let images: usize = pushed.iter().map(|(_, images)| images.len()).sum();
    println!(
        "{images} images acknowledged, {requests} requests to the store, {faults} of them with a fault: nothing is missing"
    );
    assert!(images > 0 && faults > 0);
}

/// Clients move, delete and read one tag through the bad wire; others read it beside them, through a good one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_tag_is_wrong_over_a_bad_wire() {
    let bad = Bad::new().await;
    let begun = Instant::now();
    let mut histories = 0;
    while begun.elapsed() < time() {
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (caller, direct) = (bad.through.clone(), bad.direct(&bad.through));
            clients.spawn(async move {
                let mut events = Vec::new();
                for step in 0..6 {
                    let called = begun.elapsed();
                    let did = if client == 0 {
                        read(&direct, histories).await
                    } else if step % 3 == 2 {
                        read(&caller, histories).await
                    } else {
                        write(&caller, histories, client * 100 + step).await
                    };
                    if let Some(did) = did {
                        events.push(Event { called, returned: begun.elapsed(), did });
                    }
                }
                events
            });
        }
        let events: Vec<Event> = clients.join_all().await.into_iter().flatten().collect();
        assert!(is_linearizable(&events), "tag t{histories}: {events:#?}");
        histories += 1;
    }
    let (requests, faults) = bad.wire.counts();
    println!("{histories} histories, {requests} requests to the store, {faults} of them with a fault: 0 violations");
    assert!(histories > 0 && faults > 0);
}

fn manifest(value: u64) -> Content {
    let extra = json!({"annotations": {"value": value.to_string()}});
    fixture::index_of(Algorithm::Sha256, &[], extra.as_object().unwrap())
}

/// The value comes back with the manifest itself.
async fn read(caller: &Caller, history: usize) -> Option<Did> {
    let answer = caller.try_send(Request::get(format!("/v2/acme/web/manifests/t{history}"))).await.ok()?;
    match answer.status.as_u16() {
        200 => Some(Did::Read(Some(answer.json()["annotations"]["value"].as_str().unwrap().parse().unwrap()))),
        404 => Some(Did::Read(None)),
        500 | 502 | 503 => None,
        other => panic!("{other}: {}", answer.text()),
    }
}

async fn write(caller: &Caller, history: usize, value: u64) -> Option<Did> {
    let answer = caller.try_send(push::manifest_request("acme/web", &format!("t{history}"), &manifest(value))).await;
    match answer.map(|answer| answer.status.as_u16()) {
        Ok(201) => Some(Did::Wrote(Some(value))),
        Ok(500 | 502 | 503) | Err(_) => Some(Did::MayHaveWritten(Some(value))),
        Ok(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn an_end_is_heard_of_over_a_bad_wire() {
    let bad = Bad::new().await;
    let acme = bad.first.account("acme").await;
    let credential = acme.pull().await;
    let caller = Caller::basic(bad.replica.client(), &credential.username, &credential.password);
    until("it logs in", async || caller.send(Request::get("/v2/")).await.status == 200).await;
    acme.revoke(&credential).await;
    until("it is refused", async || caller.send(Request::get("/v2/")).await.status == 401).await;
}
