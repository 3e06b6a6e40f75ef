//! A server that is stopped under load: every request that it took is answered whole, and the next server takes over.
//!
//! What is promised after SIGTERM: what is under way is finished (within `limits.drain_timeout`); a connection at rest is kept for
//! a second, and the answer to a request that comes on it says that it is the last; HTTP/2 connections are told to go away; who is
//! in the system's queue is taken; who comes later is refused before a byte is read, so a client may ask the next server.

use std::{
    convert::Infallible,
    env,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use conformance::{
    Harness, Request, Store,
    fixture::{self, Algorithm, Content, Format},
    push,
};
use futures::{SinkExt, channel::mpsc};
use http::{Method, Version, header};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::{
    body::Frame,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use sha2::{Digest, Sha256};
use tokio::{net::TcpStream, task::JoinSet, time};

const CLIENTS: usize = 6;
const STREAMS: usize = 4;
const PART: usize = 1 << 20;

/// How many parts a large transfer has.
fn parts() -> usize {
    if env::var_os("HYTHE_LONG").is_some() { 1024 } else { 32 }
}

/// What happened to all requests.
#[derive(Debug, Default)]
struct Tally {
    answered: AtomicUsize,
    /// Answers that said that they were the connection's last.
    last: AtomicUsize,
    /// Connections that were refused: nothing of a request was sent.
    refused: AtomicUsize,
    /// Connections that came in between the last look at the system's queue and its end: closed without a byte.
    turned_away: AtomicUsize,
    done: AtomicBool,
}

impl Tally {
    fn count(of: &AtomicUsize) {
        of.fetch_add(1, Ordering::Relaxed);
    }

    fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    fn done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits until so many more requests have been answered.
    async fn more(&self, number: usize) {
        let wanted = self.answered() + number;
        let mut looks = time::interval(Duration::from_millis(5));
        while self.answered() < wanted {
            looks.tick().await;
        }
    }
}

type Body = Either<Full<Bytes>, StreamBody<mpsc::Receiver<Result<Frame<Bytes>, Infallible>>>>;

/// Who asks, and whom.
#[derive(Debug, Clone)]
struct Client {
    address: SocketAddr,
    authorization: String,
    tag: Content,
}

impl Client {
    fn request(&self, version: Version, method: Method, path: &str, body: Body) -> http::Request<Body> {
        let (uri, host) = match version {
            Version::HTTP_2 => (format!("http://{}{path}", self.address), None),
            _ => (path.to_owned(), Some(self.address.to_string())),
        };
        let mut request = http::Request::builder().method(method).uri(uri).version(version);
        if let Some(host) = host {
            request = request.header(header::HOST, host);
        }
        let request = request.header(header::AUTHORIZATION, &self.authorization);
        request.header(header::CONTENT_TYPE, &self.tag.media_type).body(body).unwrap()
    }

    /// One of what a registry's clients do all day, and the status that it must have.
    fn next(&self, version: Version, number: usize) -> (http::Request<Body>, u16) {
        let empty = || Either::Left(Full::default());
        match number % 4 {
            0 => (self.request(version, Method::GET, "/v2/acme/web/manifests/v1", empty()), 200),
            1 => {
                let blob = Content::random(Algorithm::Sha256, &format!("{version:?} {number}"), 2048);
                let path = format!("/v2/acme/web/blobs/uploads/?digest={}", blob.digest);
                (self.request(version, Method::POST, &path, Either::Left(Full::new(blob.bytes))), 201)
            }
            2 => {
                let tag = Either::Left(Full::new(self.tag.bytes.clone()));
                (self.request(version, Method::PUT, "/v2/acme/web/manifests/moved", tag), 201)
            }
            _ => (self.request(version, Method::HEAD, "/v2/acme/web/manifests/v1", empty()), 200),
        }
    }

    async fn connect(&self, tally: &Tally) -> TcpStream {
        let mut tries = time::interval(Duration::from_millis(5));
        loop {
            match TcpStream::connect(self.address).await {
                Ok(stream) => return stream,
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{error}");
                    Tally::count(&tally.refused);
                    tries.tick().await;
                }
            }
        }
    }

    async fn http1(&self, tally: &Tally) -> (http1::SendRequest<Body>, JoinSet<()>) {
        let stream = self.connect(tally).await;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let mut driver = JoinSet::new();
        // How it ended is told by its requests.
        driver.spawn(async move { drop(connection.await) });
        (sender, driver)
    }

    /// Asks on one connection until an answer says that it is the last, then on the next.
    async fn keep_asking(self, first: usize, tally: Arc<Tally>) {
        let mut number = first;
        while !tally.done() {
            let (mut sender, _driver) = self.http1(&tally).await;
            for asked in 0.. {
                let (request, expected) = self.next(Version::HTTP_11, number);
                number += CLIENTS;
                let answer = match sender.send_request(request).await {
                    Ok(answer) => answer,
                    Err(error) if asked == 0 => {
                        assert!(!error.is_parse() && !error.is_body_write_aborted(), "{error:?}");
                        Tally::count(&tally.turned_away);
                        break;
                    }
                    Err(error) => panic!("a request on a connection that was kept was lost: {error:?}"),
                };
                let status = answer.status();
                let last = answer.headers().get(header::CONNECTION).is_some_and(|value| value == "close");
                let body = answer.into_body().collect().await.expect("the whole answer").to_bytes();
                assert_eq!(status, expected, "{}", String::from_utf8_lossy(&body));
                Tally::count(&tally.answered);
                if last {
                    Tally::count(&tally.last);
                }
                if last || tally.done() {
                    break;
                }
            }
        }
    }

    /// Asks on one HTTP/2 connection, several requests at a time, until it is told to go away, then on the next.
    async fn keep_streaming(self, tally: Arc<Tally>) {
        let mut connections = 0;
        while !tally.done() {
            let stream = self.connect(&tally).await;
            let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
            let Ok((sender, connection)) = handshake else {
                Tally::count(&tally.turned_away);
                continue;
            };
            let mut driver = JoinSet::new();
            driver.spawn(async move { drop(connection.await) });
            connections += 1;
            let mut streams = JoinSet::new();
            for stream in 0..STREAMS {
                let (mut sender, client, tally) = (sender.clone(), self.clone(), Arc::clone(&tally));
                streams.spawn(async move {
                    for number in 0.. {
                        if tally.done() || sender.ready().await.is_err() {
                            return;
                        }
                        let number = (connections * 1_000_000 + number) * STREAMS + stream;
                        let (request, expected) = client.next(Version::HTTP_2, number);
                        let answer = match sender.send_request(request).await {
                            Ok(answer) => answer,
                            // What a goodbye leaves out was not begun, and may be asked elsewhere (RFC 9113 §6.8).
                            Err(error) => {
                                let text = format!("{error:?}");
                                let left_out = ["NO_ERROR", "REFUSED_STREAM", "Canceled", "ChannelClosed"];
                                assert!(left_out.iter().any(|reason| text.contains(reason)), "{text}");
                                return;
                            }
                        };
                        let status = answer.status();
                        let body = answer.into_body().collect().await.expect("the whole answer").to_bytes();
                        assert_eq!(status, expected, "{}", String::from_utf8_lossy(&body));
                        Tally::count(&tally.answered);
                    }
                });
            }
            streams.join_all().await;
        }
    }
}

/// A large layer on its way up: some parts of it now, the rest when it is told.
struct Upload {
    body: mpsc::Sender<Result<Frame<Bytes>, Infallible>>,
    answer: JoinSet<http::StatusCode>,
    part: Bytes,
}

impl Upload {
    async fn begin(client: &Client, tally: &Tally) -> Self {
        let part = Bytes::from(vec![42; PART]);
        let mut hash = Sha256::new();
        for _ in 0..parts() {
            hash.update(&part);
        }
        let path = format!("/v2/acme/web/blobs/uploads/?digest=sha256:{}", hex::encode(hash.finalize()));
        let (body, parts) = mpsc::channel(0);
        let request = client.request(Version::HTTP_11, Method::POST, &path, Either::Right(StreamBody::new(parts)));
        let (mut sender, driver) = client.http1(tally).await;
        let mut answer = JoinSet::new();
        answer.spawn(async move {
            let answer = sender.send_request(request).await.expect("a large upload is answered");
            let status = answer.status();
            answer.into_body().collect().await.expect("the whole answer");
            drop(driver);
            status
        });
        Self { body, answer, part }
    }

    async fn send(&mut self, parts: usize) {
        for _ in 0..parts {
            self.body.send(Ok(Frame::data(self.part.clone()))).await.expect("the server takes it");
        }
    }

    async fn end(mut self) {
        drop(self.body);
        assert_eq!(self.answer.join_next().await.unwrap().unwrap(), 201);
    }
}

async fn stop_under_load(store: Store) {
    let mut harness = Harness::on(store).await;
    let acme = harness.account("acme").await;
    let caller = acme.caller(&acme.push().await);
    drop(acme);
    let image = fixture::image("stop", Format::Oci);
    push::bundle(&caller, "acme/web", "v1", &image).await;
    let large = Content::random(Algorithm::Sha256, "a large layer", parts() * PART);
    push::blob(&caller, "acme/web", &large).await;
    let client = Client {
        address: harness.client().address(),
        authorization: caller.authorization().unwrap().to_owned(),
        tag: image.root().clone(),
    };
    let tally = Arc::new(Tally::default());
    let mut clients = JoinSet::new();
    for first in 0..CLIENTS {
        clients.spawn(client.clone().keep_asking(first, Arc::clone(&tally)));
    }
    clients.spawn(client.clone().keep_streaming(Arc::clone(&tally)));

    let mut upload = Upload::begin(&client, &tally).await;
    upload.send(parts() / 2).await;
    let (mut sender, driver) = client.http1(&tally).await;
    let path = format!("/v2/acme/web/blobs/{}", large.digest);
    let get = client.request(Version::HTTP_11, Method::GET, &path, Either::Left(Full::default()));
    let mut download = sender.send_request(get).await.unwrap().into_body();
    let mut downloaded = Sha256::new();
    downloaded.update(download.frame().await.unwrap().unwrap().into_data().unwrap());
    // A client at rest: its next request comes after the order to stop.
    let (mut resting, resting_driver) = client.http1(&tally).await;
    let ping = || client.next(Version::HTTP_11, 0).0;
    resting.send_request(ping()).await.unwrap().into_body().collect().await.unwrap();
    tally.more(100).await;

    harness.signal(Signal::TERM);
    while harness.client().try_send(Request::get("/readyz")).await.is_ok_and(|answer| answer.status == 200) {
        tokio::task::yield_now().await;
    }
    let late = resting.send_request(ping()).await.expect("a request on a connection at rest is answered");
    assert_eq!((late.status().as_u16(), late.headers()[header::CONNECTION].to_str().unwrap()), (200, "close"));
    late.into_body().collect().await.unwrap();
    upload.send(parts() - parts() / 2).await;
    upload.end().await;
    while let Some(frame) = download.frame().await {
        downloaded.update(frame.expect("the rest of a large download").into_data().unwrap());
    }
    assert_eq!(format!("sha256:{}", hex::encode(downloaded.finalize())), large.digest);
    drop((driver, resting_driver));
    assert_eq!(harness.ended().await, Some(0), "{}", harness.log());
    let by_the_first = tally.answered();
    harness.boot().await;
    tally.more(100).await;
    tally.done.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.expect("no request was lost");
    }
    eprintln!("{store:?}: {by_the_first} requests answered by the first server; in all {tally:?}");
    assert!(tally.last.load(Ordering::Relaxed) > 0, "no connection was told that it ends");
    harness.stop().await;
    harness.hythe(&["verify"]).await.says(": 0 problems");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_loses_no_request_on_a_folder() {
    stop_under_load(Store::Local).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_loses_no_request_on_a_bucket() {
    stop_under_load(Store::Minio).await;
}

/// Whoever ends a key while the server dies has ended it if the command said so.
#[tokio::test]
async fn a_revocation_beside_a_dying_server_holds_if_it_was_acknowledged() {
    let mut harness = Harness::start().await;
    let mut acknowledged = 0;
    for (round, signal) in [Signal::KILL, Signal::TERM, Signal::KILL, Signal::TERM].into_iter().enumerate() {
        let acme = harness.account("acme").await;
        let credential = acme.pull().await;
        let caller = acme.caller(&credential);
        drop(acme);
        caller.send(Request::get("/v2/")).await.expect(200);
        let args = ["credential", "revoke", "acme", &credential.id];
        let revoking = harness.run_at(0, &args).end();
        let dying = async {
            for _ in 0..round * 8 {
                tokio::task::yield_now().await;
            }
            harness.signal(signal);
        };
        let (revoked, ()) = tokio::join!(revoking, dying);
        harness.ended().await;
        harness.boot().await;
        if revoked.success {
            caller.send(Request::get("/v2/")).await.expect(401);
            acknowledged += 1;
        }
        harness.hythe(&args).await;
        caller.send(Request::get("/v2/")).await.expect(401);
    }
    assert!(acknowledged > 0, "the store cannot be written while its server dies");
}
