//! What is counted in this process, for `/metrics`.
//!
//! [`family::ALL`] is the list. What happens on the way of a request is counted here; what another room knows anyhow (a disk's
//! free space, a certificate's end) is read when it is asked for ([`Metrics::watch`]).

pub mod family;
mod histogram;
mod process;

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Write},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use parking_lot::RwLock;
use storage::Clock;

use self::histogram::Histogram;

/// What is counted in this process.
pub struct Metrics {
    requests: Counters<(&'static str, u16)>,
    durations: Histogram<Operation>,
    incomplete: Counters<&'static str>,
    refused: Counters<&'static str>,
    in_flight: Arc<AtomicI64>,
    received: AtomicU64,
    sent: AtomicU64,
    uploads: Arc<AtomicI64>,
    connections: Arc<AtomicI64>,
    store_durations: Histogram<Call>,
    store_errors: Counters<(Call, &'static str)>,
    watched: RwLock<BTreeMap<&'static str, Read>>,
}

/// Gives each series' labels and number.
type Read = Box<dyn Fn() -> Vec<(String, String)> + Send + Sync>;

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Operation(&'static str);

impl Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "operation=\"{}\"", self.0)
    }
}

/// A call of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Call {
    /// `records` or `bytes`.
    pub(crate) part: &'static str,
    /// The call's name.
    pub(crate) call: &'static str,
}

impl Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "part=\"{}\",call=\"{}\"", self.part, self.call)
    }
}

/// Counters by labels from closed lists, so that their number is bounded.
#[derive(Debug)]
struct Counters<K>(RwLock<BTreeMap<K, Arc<AtomicU64>>>);

impl<K> Default for Counters<K> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<K: Ord + Copy> Counters<K> {
    fn count(&self, key: K) {
        let count = self.0.read().get(&key).cloned();
        count.unwrap_or_else(|| Arc::clone(self.0.write().entry(key).or_default())).fetch_add(1, Ordering::Relaxed);
    }

    fn series(&self, labels: impl Fn(K) -> String) -> Vec<(String, String)> {
        let counts = self.0.read();
        counts.iter().map(|(key, count)| (labels(*key), count.load(Ordering::Relaxed).to_string())).collect()
    }
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
        let metrics = Self {
            requests: Counters::default(),
            durations: Histogram::default(),
            incomplete: Counters::default(),
            refused: Counters::default(),
            in_flight: Arc::default(),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            uploads: Arc::default(),
            connections: Arc::default(),
            store_durations: Histogram::default(),
            store_errors: Counters::default(),
            watched: RwLock::default(),
        };
        let since_1970 = clock.now().signed_duration_since(storage::Time::UNIX_EPOCH);
        let started = since_1970.to_std().unwrap_or_default().as_secs_f64();
        metrics.watch(family::STARTED, move || vec![(String::new(), started.to_string())]);
        metrics.watch(family::BUILD, || vec![(format!("version=\"{}\"", env!("CARGO_PKG_VERSION")), "1".to_owned())]);
        process::watch(&metrics);
        metrics
    }

    /// Counts a request that has ended. `operation` is a name of the closed list, never a client's text.
    pub fn request(&self, operation: &'static str, status: StatusCode, duration: Duration) {
        self.requests.count((operation, status.as_u16()));
        self.durations.observe(Operation(operation), duration);
    }

    /// Counts a request whose answer was not taken whole.
    pub fn incomplete(&self, operation: &'static str) {
        self.incomplete.count(operation);
    }

    /// Counts a request that was refused for who asked.
    pub fn refused(&self, reason: &'static str) {
        self.refused.count(reason);
    }

    /// Counts bytes of request bodies.
    pub fn received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes of response bodies.
    pub fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A request that is being answered, until the guard is dropped.
    pub fn in_flight(&self) -> Counted {
        Counted::new(&self.in_flight)
    }

    /// A request that sends blob bytes, until the guard is dropped.
    pub fn upload(&self) -> Counted {
        Counted::new(&self.uploads)
    }

    /// An open connection, until the guard is dropped.
    pub fn connection(&self) -> Counted {
        Counted::new(&self.connections)
    }

    /// Counts a call of the store, and its failure by kind.
    pub(crate) fn store_call(&self, call: Call, duration: Duration, error: Option<&'static str>) {
        self.store_durations.observe(call, duration);
        if let Some(error) = error {
            self.store_errors.count((call, error));
        }
    }

    /// Says how a metric of [`family::ALL`] is read that another room keeps: each series' labels (`a="b"`) and number.
    pub fn watch(&self, name: &'static str, read: impl Fn() -> Vec<(String, String)> + Send + Sync + 'static) {
        self.watched.write().insert(name, Box::new(read));
    }

    /// Everything in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, to: &mut String) -> fmt::Result {
        for family in family::ALL {
            let name = family.name;
            writeln!(to, "# HELP {name} {}\n# TYPE {name} {}", family.help, family.kind.as_str())?;
            match name {
                family::REQUEST_DURATION => self.durations.write(name, to)?,
                family::STORE_DURATION => self.store_durations.write(name, to)?,
                _ => {
                    for (labels, number) in self.series(name) {
                        if labels.is_empty() {
                            writeln!(to, "{name} {number}")?;
                        } else {
                            writeln!(to, "{name}{{{labels}}} {number}")?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The series of a metric that is no histogram.
    fn series(&self, name: &str) -> Vec<(String, String)> {
        let alone = |number: &dyn Display| vec![(String::new(), number.to_string())];
        match name {
            family::REQUESTS => {
                self.requests.series(|(operation, status)| format!("operation=\"{operation}\",status=\"{status}\""))
            }
            family::INCOMPLETE => self.incomplete.series(|operation| Operation(operation).to_string()),
            family::REFUSED => self.refused.series(|reason| format!("reason=\"{reason}\"")),
            family::STORE_ERRORS => self.store_errors.series(|(call, error)| format!("{call},error=\"{error}\"")),
            family::IN_FLIGHT => alone(&self.in_flight.load(Ordering::Relaxed)),
            family::RECEIVED => alone(&self.received.load(Ordering::Relaxed)),
            family::SENT => alone(&self.sent.load(Ordering::Relaxed)),
            family::UPLOADS => alone(&self.uploads.load(Ordering::Relaxed)),
            family::CONNECTIONS => alone(&self.connections.load(Ordering::Relaxed)),
            watched => self.watched.read().get(watched).map(|read| read()).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use storage::clock::SystemClock;

    use super::*;

    #[test]
    fn the_text_has_what_was_counted() {
        let metrics = Metrics::new(&SystemClock::new());
        metrics.request("blob_get", StatusCode::OK, Duration::from_millis(3));
        metrics.request("blob_get", StatusCode::OK, Duration::from_secs(9999));
        metrics.request("blob_get", StatusCode::NOT_FOUND, Duration::ZERO);
        metrics.received(7);
        metrics.store_call(Call { part: "bytes", call: "read" }, Duration::ZERO, Some("unavailable"));
        metrics.watch(family::DISK_FREE, || vec![(String::new(), "5".to_owned())]);
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
            "hythe_store_call_duration_seconds_count{part=\"bytes\",call=\"read\"} 1",
            "hythe_store_errors_total{part=\"bytes\",call=\"read\",error=\"unavailable\"} 1",
            "hythe_disk_free_bytes 5",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        drop(upload);
        assert!(metrics.render().contains("\nhythe_uploads_in_flight 0\n"));
    }

    #[test]
    fn the_process_says_what_it_uses() {
        let text = Metrics::new(&SystemClock::new()).render();
        for name in [family::CPU, family::MEMORY, family::ANONYMOUS, family::OPEN_FILES, family::MAX_FILES] {
            let number = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
            assert!(number.is_some_and(|number| number >= 0.0), "{name} is not in\n{text}");
        }
    }
}
