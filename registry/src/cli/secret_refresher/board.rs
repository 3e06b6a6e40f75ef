//! What is known of every Secret that is kept fresh, and its page for Prometheus.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use parking_lot::Mutex;
use storage::{Clock, Time};

use crate::{
    body::Body,
    server::{Handler, Peer},
};

/// A Secret: its namespace and its name.
pub(super) type Place = (String, String);

/// When each Secret ends, how often renewals went well, and whether the cluster has been looked at.
#[derive(Debug)]
pub(super) struct Board {
    clock: Arc<dyn Clock>,
    expires: Mutex<BTreeMap<Place, Option<Time>>>,
    pub(super) renewed: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) ready: AtomicBool,
}

impl Board {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            expires: Mutex::default(),
            renewed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            ready: AtomicBool::new(false),
        }
    }

    /// The Secret at `place` ends then; `None`: it has no login yet.
    pub(super) fn note(&self, place: &Place, expires: Option<Time>) {
        self.expires.lock().insert(place.clone(), expires);
    }

    /// Only these are wanted any longer.
    pub(super) fn keep(&self, wanted: impl Fn(&Place) -> bool) {
        self.expires.lock().retain(|place, _| wanted(place));
    }

    fn render(&self) -> String {
        let mut page = String::new();
        let mut family = |name: &str, kind: &str, help: &str, series: &[(String, String)]| {
            let _infallible = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in series {
                let _infallible = writeln!(page, "{name}{labels} {value}");
            }
        };
        let now = self.clock.now();
        let left = |expires: &Option<Time>| expires.map_or(0.0, |expires| (expires - now).as_seconds_f64());
        let expires = self.expires.lock();
        let secrets: Vec<_> = expires
            .iter()
            // Names of Kubernetes have nothing that would need an escape.
            .map(|((space, name), at)| {
                (format!("{{namespace=\"{space}\",secret=\"{name}\"}}"), format!("{:.0}", left(at)))
            })
            .collect();
        let help = "Seconds until the login in the Secret ends; negative once it has, 0 where there is none.";
        family("hythe_secret_seconds_to_expiry", "gauge", help, &secrets);
        let count = |outcome: &str, count: &AtomicU64| {
            (format!("{{outcome=\"{outcome}\"}}"), count.load(Ordering::Relaxed).to_string())
        };
        let counts = [count("ok", &self.renewed), count("failed", &self.failed)];
        family("hythe_secret_renewals_total", "counter", "Renewals of Secrets, by how they ended.", &counts);
        page
    }
}

impl Handler for Board {
    async fn handle(self: Arc<Self>, request: Request<Incoming>, _: Peer) -> Response<Body> {
        let (status, text) = if matches!(*request.method(), Method::GET | Method::HEAD) {
            match (request.uri().path(), self.ready.load(Ordering::Relaxed)) {
                ("/metrics", _) => (StatusCode::OK, self.render()),
                ("/healthz", _) => (StatusCode::OK, "ok\n".to_owned()),
                ("/readyz", true) => (StatusCode::OK, "ready\n".to_owned()),
                ("/readyz", false) => {
                    (StatusCode::SERVICE_UNAVAILABLE, "the cluster has not been looked at\n".to_owned())
                }
                _ => (StatusCode::NOT_FOUND, "not found\n".to_owned()),
            }
        } else {
            (StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n".to_owned())
        };
        let mut response = Response::new(Body::full(text));
        *response.status_mut() = status;
        let form = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, form);
        response
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use storage::clock::{ManualClock, SystemClock};

    use super::*;

    #[test]
    fn every_secret_has_its_seconds_until_it_is_wanted_no_more() {
        let clock = Arc::new(ManualClock::at(SystemClock::new().now()));
        let board = Board::new(clock.clone());
        let place = |space: &str| (space.to_owned(), "pull".to_owned());
        board.note(&place("a"), Some(clock.now() + Duration::from_mins(1)));
        board.note(&place("b"), None);
        clock.advance(Duration::from_secs(20));
        let page = board.render();
        for line in [
            "hythe_secret_seconds_to_expiry{namespace=\"a\",secret=\"pull\"} 40\n",
            "hythe_secret_seconds_to_expiry{namespace=\"b\",secret=\"pull\"} 0\n",
            "hythe_secret_renewals_total{outcome=\"failed\"} 0\n",
        ] {
            assert!(page.contains(line), "{page}");
        }
        board.keep(|(space, _)| space == "b");
        clock.advance(Duration::from_mins(1));
        assert!(!board.render().contains("\"a\""));
    }
}
