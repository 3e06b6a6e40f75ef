//! Two servers on one bucket behind one address that gives each request to the other one: nobody notices, and what they do at the
//! same time has an order.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use conformance::{
    Caller, Credential, Harness, Request, Store,
    fixture::{self, Algorithm, Content, Format},
    linear::{Did, Event, is_linearizable},
    push,
};
use rand::Rng as _;
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

/// As large as a chunk must be at least, and a bit.
const CHUNK: usize = 5 * 1024 * 1024 + 11;
const REPOSITORY: &str = "acme/web";

struct Two {
    harness: Harness,
    credential: Credential,
}

impl Two {
    async fn new() -> Self {
        Self::on(Store::Minio).await
    }

    async fn on(store: Store) -> Self {
        let harness = Harness::in_turns(store).await;
        let credential = harness.account("acme").await.push_delete().await;
        Self { harness, credential }
    }

    /// Whoever asks in turns.
    fn in_turns(&self) -> Caller {
        Caller::basic(self.harness.client(), &self.credential.username, &self.credential.password)
    }

    /// Callers of one server each.
    fn each(&self) -> [Caller; 2] {
        let callers = self.harness.servers().into_iter();
        let callers: Vec<_> = callers
            .map(|server| Caller::basic(&server, &self.credential.username, &self.credential.password))
            .collect();
        callers.try_into().unwrap()
    }
}

async fn is_there(caller: &Caller, blob: &Content) {
    let there = caller.send(Request::get(format!("/v2/{REPOSITORY}/blobs/{}", blob.digest))).await.expect(200);
    assert!(there.body == blob.bytes, "{} is another blob", blob.digest);
}

#[tokio::test]
async fn the_chunks_of_an_upload_go_to_either_server() {
    let two = Two::new().await;
    let (caller, [first, second]) = (two.in_turns(), two.each());
    let blob = Content::random(Algorithm::Sha256, "in turns", 5 * CHUNK + 1000);
    let mut location = push::open(&caller, REPOSITORY).await;
    for offset in (0..blob.bytes.len()).step_by(CHUNK) {
        let end = blob.bytes.len().min(offset + CHUNK);
        let answer = push::chunk(&caller, &location, offset, blob.bytes.slice(offset..end)).await.expect(202);
        assert_eq!(answer.header("range"), format!("0-{}", end - 1));
        location = push::location(&answer);
        for server in [&first, &second] {
            let status = server.send(Request::get(&location)).await.expect(204);
            assert_eq!(status.header("range"), format!("0-{}", end - 1));
        }
    }
    push::commit(&caller, &location, &blob.digest).await.expect(201);
    is_there(&first, &blob).await;
    is_there(&second, &blob).await;
}

#[tokio::test]
async fn of_two_writers_of_one_upload_one_goes_on_and_the_digest_is_its_own() {
    let two = Two::new().await;
    let callers = two.each();
    for round in 0..10 {
        let location = push::open(&callers[0], REPOSITORY).await;
        let bodies = [0, 1].map(|writer| Content::random(Algorithm::Sha256, &format!("{round} {writer}"), CHUNK));
        let [one, other] =
            [0, 1].map(|writer: usize| push::chunk(&callers[writer], &location, 0, bodies[writer].bytes.clone()));
        let answers: [_; 2] = tokio::join!(one, other).into();
        let winners: Vec<usize> = (0..2).filter(|&writer| answers[writer].status == 202).collect();
        let [winner] = winners[..] else { panic!("round {round}: {} and {}", answers[0].status, answers[1].status) };
        assert_eq!(answers[1 - winner].status, 416, "round {round}");
        // The loser has sent nothing: whichever server commits, the bytes are the winner's.
        let location = push::location(&answers[winner]);
        push::commit(&callers[1 - winner], &location, &bodies[winner].digest).await.expect(201);
        is_there(&callers[winner], &bodies[winner]).await;
    }
}

#[tokio::test]
async fn a_server_that_dies_in_the_middle_of_a_chunk_leaves_the_upload_to_the_other() {
    let mut two = Two::new().await;
    let [first, second] = two.each();
    let blob = Content::random(Algorithm::Sha256, "to be taken over", 8 * CHUNK);
    let location = push::open(&first, REPOSITORY).await;
    let answer = push::chunk(&first, &location, 0, blob.bytes.slice(..CHUNK)).await.expect(202);
    let location = push::location(&answer);

    // More than any buffer between here and there holds, so that the server has begun with it; and then no more.
    let rest = blob.bytes.slice(CHUNK..);
    let head = format!(
        "PATCH {location} HTTP/1.1\r\nHost: {address}\r\nAuthorization: {authorization}\r\nContent-Range: {CHUNK}-{end}\r\n\
         Content-Length: {length}\r\n\r\n",
        address = two.harness.servers()[0].address(),
        authorization = first.authorization().unwrap(),
        end = blob.bytes.len() - 1,
        length = rest.len(),
    );
    let address = two.harness.servers()[0].address();
    let begun = rest.slice(..6 * CHUNK);
    let stream = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&begun).unwrap();
        stream
    });
    let mut stream = stream.await.unwrap();
    // The other one sees that somebody has it.
    push::chunk(&second, &location, CHUNK, Bytes::from_static(b"no")).await.expect(416);
    two.harness.kill();
    assert!(stream.read(&mut [0; 1]).map_or(true, |read| read == 0), "an answer came");

    // Until the dead one's claim is over nobody may go on.
    push::chunk(&second, &location, CHUNK, Bytes::from_static(b"no")).await.expect(416);
    two.harness.set_clock(60);
    let status = second.send(Request::get(&location)).await.expect(204);
    let saved: usize = status.header("range").strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1;
    assert!(saved >= CHUNK && saved < blob.bytes.len(), "{saved}");
    let answer = push::chunk(&second, &location, saved, blob.bytes.slice(saved..)).await.expect(202);
    push::commit(&second, &push::location(&answer), &blob.digest).await.expect(201);
    is_there(&second, &blob).await;
}

#[tokio::test]
async fn what_one_server_acknowledged_the_other_has() {
    for store in [Store::Minio, Store::Versitygw] {
        acknowledged_by_one_is_there_at_the_other(&Two::on(store).await).await;
    }
}

async fn acknowledged_by_one_is_there_at_the_other(two: &Two) {
    let caller = two.in_turns();
    for (round, format) in [Format::Oci, Format::Docker].into_iter().cycle().take(6).enumerate() {
        let image = fixture::image(&format!("in turns {round}"), format);
        let pushed = push::bundle(&caller, REPOSITORY, "latest", &image).await;
        for server in two.each() {
            let pulled = server.send(Request::get(format!("/v2/{REPOSITORY}/manifests/latest"))).await.expect(200);
            assert_eq!(pulled.header("docker-content-digest"), pushed.header("docker-content-digest"), "round {round}");
        }
        caller.send(Request::delete(format!("/v2/{REPOSITORY}/manifests/latest"))).await.expect(202);
        for server in two.each() {
            server.send(Request::head(format!("/v2/{REPOSITORY}/manifests/latest"))).await.expect(404);
        }
    }
}

/// Clients of a history, each asking as fast as it is answered.
const CLIENTS: u64 = 8;
/// What each of them asks for.
const OPERATIONS: usize = 8;

/// Eight clients move, delete and read one tag at once, half of them on each server; what they were told has an order. With
/// `HYTHE_LONG=1` two thousand tags, else twenty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_history_of_a_tag_is_linearizable() {
    let histories = if std::env::var_os("HYTHE_LONG").is_some() { 2000 } else { 20 };
    let two = Two::new().await;
    let mut callers = Vec::new();
    for server in two.each() {
        callers.push(server.with_token(&["repository:acme/web:pull,push,delete"]).await);
    }
    // What the tag is moved to: indexes of nothing, told apart by an annotation.
    let manifest = |value: u64| {
        let extra = json!({"annotations": {"value": value.to_string()}});
        fixture::index_of(Algorithm::Sha256, &[], extra.as_object().unwrap())
    };
    let manifests: Arc<Vec<Content>> = Arc::new((0..CLIENTS * OPERATIONS as u64).map(manifest).collect());
    let values: Arc<HashMap<String, u64>> =
        Arc::new(manifests.iter().zip(0..).map(|(manifest, value)| (manifest.digest.clone(), value)).collect());
    let (mut operations, mut refused) = (0, 0);
    for history in 0..histories {
        let begun = Instant::now();
        let next = Arc::new(AtomicU64::new(0));
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let caller = callers[usize::try_from(client).unwrap() % 2].clone();
            let (next, manifests, values) = (Arc::clone(&next), Arc::clone(&manifests), Arc::clone(&values));
            clients.spawn(async move {
                let mut events = Vec::new();
                let path = format!("/v2/{REPOSITORY}/manifests/t{history}");
                for _ in 0..OPERATIONS {
                    let choice = rand::rng().random_range(0..10);
                    let called = begun.elapsed();
                    let did = match choice {
                        0..5 => {
                            let value = next.fetch_add(1, Ordering::Relaxed);
                            let manifest = &manifests[usize::try_from(value).unwrap()];
                            let put = push::manifest_request(REPOSITORY, &format!("t{history}"), manifest);
                            match caller.send(put).await.status.as_u16() {
                                201 => Did::Wrote(Some(value)),
                                // Given up after many tries: nothing was written by it.
                                503 => continue,
                                500 => Did::MayHaveWritten(Some(value)),
                                other => panic!("{other}"),
                            }
                        }
                        5 => match caller.send(Request::delete(&path)).await.status.as_u16() {
                            202 => Did::Wrote(None),
                            404 => Did::Read(None),
                            503 => continue,
                            500 => Did::MayHaveWritten(None),
                            other => panic!("{other}"),
                        },
                        _ => {
                            let answer = caller.send(Request::head(&path)).await;
                            match answer.status.as_u16() {
                                200 => Did::Read(Some(values[answer.header("docker-content-digest")])),
                                404 => Did::Read(None),
                                other => panic!("{other}"),
                            }
                        }
                    };
                    events.push(Event { called, returned: begun.elapsed(), did });
                }
                events
            });
        }
        let events: Vec<Event> = clients.join_all().await.into_iter().flatten().collect();
        operations += events.len();
        refused += usize::try_from(CLIENTS).unwrap() * OPERATIONS - events.len();
        assert!(is_linearizable(&events), "tag t{history}: {events:#?}");
    }
    println!(
        "{histories} histories of {CLIENTS} clients on 2 servers, {operations} operations, {refused} given up: 0 violations"
    );
}
