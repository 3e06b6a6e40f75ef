//! A bad wire between a server and its store: what goes over it is delayed, refused, cut off, done twice, done later once more, or
//! done without an answer. It reads requests whole, so that it can do with them what a network and a store between them can.

#![expect(clippy::panic, reason = "a wire that cannot be laid ends the test with the reason")]

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode, request::Parts};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tokio::{net::TcpListener, task::JoinSet, time};

/// What may become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is done, later.
    Delay,
    /// It is refused as by a store that has too much to do, or is broken; nothing was done.
    Refuse(u16),
    /// The connection ends before it comes to the store.
    Cut,
    /// It is done and the connection ends before the answer.
    LoseAnswer,
    /// It is done twice; the first answer comes back.
    Twice,
    /// It is done, and once more when its answer is long there.
    OnceMoreLater,
}

impl Fault {
    /// Every one of them.
    pub const ALL: [Self; 8] = [
        Self::Delay,
        Self::Refuse(500),
        Self::Refuse(503),
        Self::Refuse(409),
        Self::Cut,
        Self::LoseAnswer,
        Self::Twice,
        Self::OnceMoreLater,
    ];
}

/// The wire. It ends with this value.
#[derive(Debug)]
pub struct BadWire {
    address: SocketAddr,
    shared: Arc<Shared>,
    // Ends with the wire.
    _accepting: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    store: Client<HttpConnector, Full<Bytes>>,
    bad: AtomicBool,
    /// Of a thousand requests, so many.
    of_thousand: u32,
    random: parking_lot::Mutex<StdRng>,
    requests: AtomicU64,
    faults: AtomicU64,
    /// What will be done once more.
    later: parking_lot::Mutex<JoinSet<()>>,
}

impl BadWire {
    /// Lays a wire to `target` on which of a thousand requests so many meet a fault, by the choices of `seed`. It is good until
    /// [`BadWire::set`] says otherwise.
    ///
    /// # Panics
    /// When loopback has no free port.
    pub async fn to(target: SocketAddr, of_thousand: u32, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|error| panic!("loopback: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("loopback: {error}"));
        let shared = Arc::new(Shared {
            target,
            store: Client::builder(TokioExecutor::new()).set_host(false).build(HttpConnector::new()),
            bad: AtomicBool::new(false),
            of_thousand,
            random: parking_lot::Mutex::new(StdRng::seed_from_u64(seed)),
            requests: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            later: parking_lot::Mutex::default(),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, _accepting: accepting }
    }

    /// This end of it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether faults happen from now on.
    pub fn set(&self, bad: bool) {
        self.shared.bad.store(bad, Ordering::SeqCst);
    }

    /// Requests so far, and how many of them met a fault.
    pub fn counts(&self) -> (u64, u64) {
        (self.shared.requests.load(Ordering::SeqCst), self.shared.faults.load(Ordering::SeqCst))
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(move |request: http::Request<Incoming>| {
                let shared = Arc::clone(&shared);
                async move { shared.carry(request).await }
            });
            // An error of the service is a connection that is cut.
            let _ended = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(near), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

impl Shared {
    fn chosen(&self) -> Option<(Fault, Duration)> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        if !self.bad.load(Ordering::SeqCst) {
            return None;
        }
        let mut random = self.random.lock();
        if random.random_range(0..1000) >= self.of_thousand {
            return None;
        }
        self.faults.fetch_add(1, Ordering::SeqCst);
        let delay = Duration::from_millis(random.random_range(1..400));
        Fault::ALL.choose(&mut *random).map(|&fault| (fault, delay))
    }

    async fn carry(self: Arc<Self>, request: http::Request<Incoming>) -> Result<Response<Full<Bytes>>, String> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        let Some((fault, delay)) = self.chosen() else { return self.ask(&head, &body).await };
        match fault {
            Fault::Delay => {
                wait(delay).await;
                self.ask(&head, &body).await
            }
            Fault::Refuse(status) => Ok(refusal(status)),
            Fault::Cut => Err("cut".to_owned()),
            Fault::LoseAnswer => {
                self.ask(&head, &body).await?;
                Err("the answer is lost".to_owned())
            }
            Fault::Twice => {
                let first = self.ask(&head, &body).await;
                let _second = self.ask(&head, &body).await;
                first
            }
            Fault::OnceMoreLater => {
                let first = self.ask(&head, &body).await;
                let shared = Arc::clone(&self);
                let again = async move {
                    wait(delay * 10).await;
                    let _answer = shared.ask(&head, &body).await;
                };
                let mut later = self.later.lock();
                while later.try_join_next().is_some() {}
                later.spawn(again);
                first
            }
        }
    }

    async fn ask(&self, head: &Parts, body: &Bytes) -> Result<Response<Full<Bytes>>, String> {
        let path = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let mut request =
            http::Request::builder().method(head.method.clone()).uri(format!("http://{}{path}", self.target));
        if let Some(headers) = request.headers_mut() {
            headers.clone_from(&head.headers);
        }
        let request = request.body(Full::new(body.clone())).map_err(|error| error.to_string())?;
        let answer = self.store.request(request).await.map_err(|error| error.to_string())?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok(Response::from_parts(head, Full::new(body)))
    }
}

/// What a delay is made of.
async fn wait(delay: Duration) {
    let _over: Result<Infallible, _> = time::timeout(delay, std::future::pending()).await;
}

fn refusal(status: u16) -> Response<Full<Bytes>> {
    let code = match status {
        409 => "ConditionalRequestConflict",
        503 => "SlowDown",
        _ => "InternalError",
    };
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code></Error>");
    let mut refusal = Response::new(Full::new(body.into()));
    *refusal.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    refusal.headers_mut().insert("content-type", http::HeaderValue::from_static("application/xml"));
    refusal
}
