//! `/healthz`, `/readyz`, `/metrics`, and the metrics themselves.
//!
//! Both listeners answer `/healthz` (the process runs) and `/readyz` (it should get requests); the operator's alone gives the
//! detail, and `/metrics` in Prometheus' text format:
//!
//! | name | kind | labels | meaning |
//! | --- | --- | --- | --- |
//! | `hythe_requests_total` | counter | `operation`, `status` | answered requests |
//! | `hythe_request_duration_seconds` | histogram | `operation` | head of the request to the last byte of its answer |
//! | `hythe_received_bytes_total`, `hythe_sent_bytes_total` | counter | | bytes of bodies |
//! | `hythe_uploads_in_flight` | gauge | | requests that are sending blob bytes |
//! | `hythe_connections` | gauge | | open connections |
//! | `hythe_start_time_seconds` | gauge | | when this process started, Unix time |
//!
//! Other rooms add their own with [`Metrics::watch`].

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use parking_lot::RwLock;
use storage::Clock;

use crate::{
    body::Body,
    server::{Handler, Peer},
};

/// Upper bounds of the histogram's buckets in seconds: from a cached manifest to a layer of many GiB.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 600.0, 3600.0];

/// What is counted in this process.
pub struct Metrics {
    started: f64,
    requests: RwLock<BTreeMap<(&'static str, u16), Arc<AtomicU64>>>,
    durations: RwLock<BTreeMap<&'static str, Arc<Durations>>>,
    received: AtomicU64,
    sent: AtomicU64,
    uploads: Arc<AtomicI64>,
    connections: Arc<AtomicI64>,
    watched: RwLock<BTreeMap<&'static str, Watched>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Whether a watched number only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
}

struct Watched {
    kind: Kind,
    help: &'static str,
    read: Box<dyn Fn() -> f64 + Send + Sync>,
}

#[derive(Default)]
struct Durations {
    buckets: [AtomicU64; BUCKETS.len()],
    count: AtomicU64,
    micros: AtomicU64,
}

/// One more, as long as it lives.
#[derive(Debug)]
pub struct Counted(Arc<AtomicI64>);

impl Counted {
    fn new(gauge: &Arc<AtomicI64>) -> Self {
        gauge.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(gauge))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new(clock: &dyn Clock) -> Self {
        let since_1970 = clock.now().signed_duration_since(storage::Time::UNIX_EPOCH);
        let started = since_1970.to_std().unwrap_or_default().as_secs_f64();
        Self {
            started,
            requests: RwLock::default(),
            durations: RwLock::default(),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            uploads: Arc::default(),
            connections: Arc::default(),
            watched: RwLock::default(),
        }
    }

    /// Counts a request that has been answered. `operation` is a name of the closed list, never a client's text.
    pub fn request(&self, operation: &'static str, status: StatusCode, duration: Duration) {
        let key = (operation, status.as_u16());
        let count = self.requests.read().get(&key).cloned();
        count
            .unwrap_or_else(|| Arc::clone(self.requests.write().entry(key).or_default()))
            .fetch_add(1, Ordering::Relaxed);
        let series = self.durations.read().get(operation).cloned();
        let series = series.unwrap_or_else(|| Arc::clone(self.durations.write().entry(operation).or_default()));
        let seconds = duration.as_secs_f64();
        if let Some(bucket) = BUCKETS.iter().zip(&series.buckets).find(|(bound, _)| seconds <= **bound) {
            bucket.1.fetch_add(1, Ordering::Relaxed);
        }
        series.micros.fetch_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        series.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts bytes of request bodies.
    pub fn received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes of response bodies.
    pub fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A request that sends blob bytes, until the guard is dropped.
    pub fn upload(&self) -> Counted {
        Counted::new(&self.uploads)
    }

    /// An open connection, until the guard is dropped.
    pub fn connection(&self) -> Counted {
        Counted::new(&self.connections)
    }

    /// Adds a number that another room keeps; `name` begins with `hythe_`, and says its unit.
    pub fn watch(
        &self,
        kind: Kind,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.watched.write().insert(name, Watched { kind, help, read: Box::new(read) });
    }

    /// Everything in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, to: &mut String) -> fmt::Result {
        head(to, "hythe_requests_total", "Answered requests.", Kind::Counter)?;
        for ((operation, status), count) in self.requests.read().iter() {
            let count = count.load(Ordering::Relaxed);
            writeln!(to, "hythe_requests_total{{operation=\"{operation}\",status=\"{status}\"}} {count}")?;
        }
        let name = "hythe_request_duration_seconds";
        writeln!(to, "# HELP {name} Head of the request to the last byte of its answer.\n# TYPE {name} histogram")?;
        for (operation, series) in self.durations.read().iter() {
            // Read first, so that the infinite bucket is never below a finite one.
            let finite: Vec<u64> = series.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect();
            let mut below = 0;
            for (bound, count) in BUCKETS.iter().zip(&finite) {
                below += count;
                writeln!(to, "{name}_bucket{{operation=\"{operation}\",le=\"{bound}\"}} {below}")?;
            }
            let count = series.count.load(Ordering::Relaxed).max(below);
            let seconds = Duration::from_micros(series.micros.load(Ordering::Relaxed)).as_secs_f64();
            writeln!(to, "{name}_bucket{{operation=\"{operation}\",le=\"+Inf\"}} {count}")?;
            writeln!(to, "{name}_sum{{operation=\"{operation}\"}} {seconds}")?;
            writeln!(to, "{name}_count{{operation=\"{operation}\"}} {count}")?;
        }
        one(
            to,
            "hythe_received_bytes_total",
            "Bytes of request bodies.",
            Kind::Counter,
            self.received.load(Ordering::Relaxed),
        )?;
        one(
            to,
            "hythe_sent_bytes_total",
            "Bytes of response bodies.",
            Kind::Counter,
            self.sent.load(Ordering::Relaxed),
        )?;
        let uploads = self.uploads.load(Ordering::Relaxed);
        one(to, "hythe_uploads_in_flight", "Requests that are sending blob bytes.", Kind::Gauge, uploads)?;
        one(to, "hythe_connections", "Open connections.", Kind::Gauge, self.connections.load(Ordering::Relaxed))?;
        one(to, "hythe_start_time_seconds", "When this process started, Unix time.", Kind::Gauge, self.started)?;
        for (name, watched) in self.watched.read().iter() {
            one(to, name, watched.help, watched.kind, (watched.read)())?;
        }
        Ok(())
    }
}

fn head(to: &mut String, name: &str, help: &str, kind: Kind) -> fmt::Result {
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
    };
    writeln!(to, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

fn one(to: &mut String, name: &str, help: &str, kind: Kind, value: impl fmt::Display) -> fmt::Result {
    head(to, name, help, kind)?;
    writeln!(to, "{name} {value}")
}

/// Looks at one thing that must be well; `Err` says what is not.
pub type Check = Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Whether this replica should get requests.
pub struct Readiness {
    clock: Arc<dyn Clock>,
    checks: Vec<(&'static str, Check)>,
    stop: tokio_util::sync::CancellationToken,
    last: tokio::sync::Mutex<Option<(Duration, Report)>>,
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness").finish_non_exhaustive()
    }
}

/// What each check said.
type Report = Vec<(&'static str, Result<(), String>)>;

impl Readiness {
    /// How long an answer stands: whoever asks oftener costs the store nothing.
    const STANDS: Duration = Duration::from_secs(1);
    /// How long a check may take.
    const PATIENCE: Duration = Duration::from_secs(2);

    /// Ready while every check is well and no order to stop was given.
    pub fn new(
        clock: Arc<dyn Clock>,
        checks: Vec<(&'static str, Check)>,
        stop: tokio_util::sync::CancellationToken,
    ) -> Self {
        Self { clock, checks, stop, last: tokio::sync::Mutex::new(None) }
    }

    async fn report(&self) -> Report {
        let mut report = self.looked().await;
        let draining = if self.stop.is_cancelled() { Err("stopping".to_owned()) } else { Ok(()) };
        report.push(("running", draining));
        report
    }

    async fn looked(&self) -> Report {
        let mut last = self.last.lock().await;
        if let Some((at, report)) = last.as_ref()
            && self.clock.elapsed().saturating_sub(*at) < Self::STANDS
        {
            return report.clone();
        }
        let looks = self.checks.iter().map(|(name, check)| async move {
            let outcome = tokio::time::timeout(Self::PATIENCE, check()).await;
            (*name, outcome.unwrap_or_else(|_| Err(format!("no answer in {} s", Self::PATIENCE.as_secs()))))
        });
        let report = futures::future::join_all(looks).await;
        *last = Some((self.clock.elapsed(), report.clone()));
        report
    }

    /// `/healthz` and `/readyz` of the public listener, without detail; `None` for any other path.
    pub async fn public(&self, path: &str) -> Option<Response<Body>> {
        match path {
            "/healthz" => Some(text(StatusCode::OK, "ok\n".to_owned())),
            "/readyz" => {
                let ready = self.report().await.iter().all(|(_, outcome)| outcome.is_ok());
                Some(if ready {
                    text(StatusCode::OK, "ready\n".to_owned())
                } else {
                    text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned())
                })
            }
            _ => None,
        }
    }

    async fn detail(&self) -> Response<Body> {
        let report = self.report().await;
        let ready = report.iter().all(|(_, outcome)| outcome.is_ok());
        let line = |(name, outcome): &(&str, Result<(), String>)| match outcome {
            Ok(()) => format!("{name}: ok\n"),
            Err(problem) => format!("{name}: {problem}\n"),
        };
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        text(status, report.iter().map(line).collect())
    }
}

/// The operations listener.
#[derive(Debug)]
pub struct Operations {
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// What `/readyz` shows.
    pub readiness: Arc<Readiness>,
}

impl Handler for Operations {
    async fn handle(self: Arc<Self>, request: Request<Incoming>, _: Peer) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n".to_owned());
        }
        match request.uri().path() {
            "/metrics" => {
                let mut response = text(StatusCode::OK, self.metrics.render());
                let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, format);
                response
            }
            "/readyz" => self.readiness.detail().await,
            path => match self.readiness.public(path).await {
                Some(response) => response,
                None => not_found(),
            },
        }
    }
}

/// `GET /`: what this is, for whoever opens it in a browser.
pub(crate) fn root(hosts: &crate::hosts::Hosts) -> Response<Body> {
    let document = serde_json::json!({
        "name": "hythe",
        "version": env!("CARGO_PKG_VERSION"),
        "docs": format!("{}/api/v1/openapi.json", hosts.canonical()),
    });
    let mut response = text(StatusCode::OK, format!("{document}\n"));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// No such path.
pub(crate) fn not_found() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "not found\n".to_owned())
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use storage::clock::{ManualClock, SystemClock};
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[test]
    fn the_text_has_what_was_counted() {
        let metrics = Metrics::new(&SystemClock::new());
        metrics.request("blob_get", StatusCode::OK, Duration::from_millis(3));
        metrics.request("blob_get", StatusCode::OK, Duration::from_secs(9999));
        metrics.request("blob_get", StatusCode::NOT_FOUND, Duration::ZERO);
        metrics.received(7);
        metrics.watch(Kind::Gauge, "hythe_authlog_age_seconds", "Age.", || 0.5);
        let upload = metrics.upload();
        let text = metrics.render();
        for line in [
            "hythe_requests_total{operation=\"blob_get\",status=\"200\"} 2",
            "hythe_requests_total{operation=\"blob_get\",status=\"404\"} 1",
            "hythe_request_duration_seconds_bucket{operation=\"blob_get\",le=\"0.0025\"} 1",
            "hythe_request_duration_seconds_bucket{operation=\"blob_get\",le=\"0.005\"} 2",
            "hythe_request_duration_seconds_bucket{operation=\"blob_get\",le=\"3600\"} 2",
            "hythe_request_duration_seconds_bucket{operation=\"blob_get\",le=\"+Inf\"} 3",
            "hythe_request_duration_seconds_sum{operation=\"blob_get\"} 9999.003",
            "hythe_received_bytes_total 7",
            "hythe_uploads_in_flight 1",
            "hythe_authlog_age_seconds 0.5",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        drop(upload);
        assert!(metrics.render().contains("\nhythe_uploads_in_flight 0\n"));
    }

    async fn said(response: Response<Body>) -> (u16, String) {
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_tells_the_public_nothing_and_asks_the_store_once_a_second() {
        let clock = Arc::new(ManualClock::at(SystemClock::new().now()));
        let asked = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&asked);
        let check: Check = Box::new(move || {
            let nth = counter.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move { if nth == 0 { Err("the bucket is away".to_owned()) } else { Ok(()) } })
        });
        let stop = CancellationToken::new();
        let readiness = Readiness::new(clock.clone(), vec![("store", check)], stop.clone());
        assert_eq!(said(readiness.public("/readyz").await.unwrap()).await, (503, "not ready\n".to_owned()));
        assert_eq!(said(readiness.detail().await).await, (503, "store: the bucket is away\nrunning: ok\n".to_owned()));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        clock.advance(Duration::from_secs(1));
        assert_eq!(said(readiness.public("/readyz").await.unwrap()).await, (200, "ready\n".to_owned()));
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        stop.cancel();
        assert_eq!(said(readiness.public("/readyz").await.unwrap()).await.0, 503);
        assert_eq!(said(readiness.public("/healthz").await.unwrap()).await.0, 200);
        assert!(readiness.public("/metrics").await.is_none());
    }
}
