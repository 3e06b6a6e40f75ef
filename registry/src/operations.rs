//! `/healthz`, `/readyz` and `/metrics`.
//!
//! Both listeners answer `/healthz` (the process runs) and `/readyz` (it should get requests); the operator's alone gives the
//! detail, and `/metrics` ([`crate::metrics`]) in Prometheus' text format.

use std::{fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use storage::Clock;

use crate::{
    body::Body,
    metrics::Metrics,
    server::{Handler, Peer},
};

/// Looks at one thing that must be well: `Ok` says how it is, `Err` what is not.
pub type Check = Box<dyn Fn() -> BoxFuture<'static, Result<String, String>> + Send + Sync>;

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
type Report = Vec<(&'static str, Result<String, String>)>;

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
        let draining = if self.stop.is_cancelled() { Err("stopping".to_owned()) } else { Ok("ok".to_owned()) };
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
        let line = |(name, Ok(said) | Err(said)): &(&str, Result<String, String>)| format!("{name}: {said}\n");
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
    use std::sync::atomic::{AtomicU64, Ordering};

    use http_body_util::BodyExt;
    use storage::clock::{ManualClock, SystemClock};
    use tokio_util::sync::CancellationToken;

    use super::*;

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
            Box::pin(async move { if nth == 0 { Err("the bucket is away".to_owned()) } else { Ok("ok".to_owned()) } })
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
