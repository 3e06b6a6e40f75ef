//! The store under observation: each of its calls is timed, counted, and a span of the trace that it belongs to.

use std::{fmt, ops::Range, sync::Arc};

use async_trait::async_trait;
use storage::{
    Clock, Error, Generation,
    backend::{Append, Body, Bytes, Checkpoint, Claim, Content, Entry, Found, Records, Saved, Version},
    key::{DataId, PlainKey, Prefix, RecordKey},
};
use tracing::{Instrument, Span};

use crate::metrics::{Call, Metrics};

/// Who looks on.
#[derive(Clone)]
struct Observer {
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
    }
}

impl Observer {
    async fn watch<T>(
        &self,
        call: Call,
        span: Span,
        running: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let began = self.clock.elapsed();
        let outcome = running.instrument(span).await;
        let took = self.clock.elapsed().saturating_sub(began);
        self.metrics.store_call(call, took, outcome.as_ref().err().and_then(failure));
        outcome
    }
}

/// The kind of a failure; `None` for outcomes that are in the order of things.
fn failure(error: &Error) -> Option<&'static str> {
    match error {
        Error::Conflict
        | Error::NoBlob
        | Error::NoUpload
        | Error::NoManifest
        | Error::NoRepository
        | Error::Gap { .. }
        | Error::ReadOnly => None,
        Error::Full => Some("full"),
        Error::Unavailable(_) => Some("unavailable"),
        Error::Unknown(_) => Some("unknown"),
        Error::Corrupt { .. } => Some("corrupt"),
        _ => Some("other"),
    }
}

/// Watches a call: its span's name is `part.call`.
macro_rules! watched {
    ($self:ident, $part:literal $call:literal, $running:expr) => {
        $self
            .observer
            .watch(
                Call { part: $part, call: $call },
                tracing::debug_span!(target: "hythe::store", concat!($part, ".", $call)),
                $running,
            )
            .await
    };
}

/// Both halves of a store under observation.
pub(crate) fn store(
    records: Arc<dyn Records>,
    bytes: Arc<dyn Bytes>,
    metrics: &Arc<Metrics>,
    clock: &Arc<dyn Clock>,
) -> (Arc<dyn Records>, Arc<dyn Bytes>) {
    let observer = Observer { metrics: Arc::clone(metrics), clock: Arc::clone(clock) };
    let records = ObservedRecords { inner: records, observer: observer.clone() };
    (Arc::new(records), Arc::new(ObservedBytes { inner: bytes, observer }))
}

#[derive(Debug)]
struct ObservedRecords {
    inner: Arc<dyn Records>,
    observer: Observer,
}

#[async_trait]
impl Records for ObservedRecords {
    async fn get(&self, key: &RecordKey) -> Result<Option<Found>, Error> {
        watched!(self, "records" "get", self.inner.get(key))
    }

    async fn create(&self, key: &RecordKey, body: &Body) -> Result<Version, Error> {
        watched!(self, "records" "create", self.inner.create(key, body))
    }

    async fn update(&self, key: &RecordKey, version: &Version, body: &Body) -> Result<Version, Error> {
        watched!(self, "records" "update", self.inner.update(key, version, body))
    }

    async fn remove(&self, key: &RecordKey, version: &Version) -> Result<(), Error> {
        watched!(self, "records" "remove", self.inner.remove(key, version))
    }

    async fn get_plain(&self, key: &PlainKey) -> Result<Option<Found>, Error> {
        watched!(self, "records" "get_plain", self.inner.get_plain(key))
    }

    async fn put(&self, key: &PlainKey, body: bytes::Bytes) -> Result<(), Error> {
        watched!(self, "records" "put", self.inner.put(key, body))
    }

    async fn delete(&self, key: &PlainKey) -> Result<(), Error> {
        watched!(self, "records" "delete", self.inner.delete(key))
    }

    async fn page(&self, prefix: &Prefix, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, Error> {
        watched!(self, "records" "page", self.inner.page(prefix, after, limit))
    }

    async fn health(&self) -> Result<(), Error> {
        watched!(self, "records" "health", self.inner.health())
    }
}

#[derive(Debug)]
struct ObservedBytes {
    inner: Arc<dyn Bytes>,
    observer: Observer,
}

#[async_trait]
impl Bytes for ObservedBytes {
    fn claim(&self) -> Claim {
        self.inner.claim()
    }

    fn first_part(&self) -> Option<usize> {
        self.inner.first_part()
    }

    async fn begin(&self, x: &DataId, whole: bool, expected: Option<u64>) -> Result<Saved, Error> {
        watched!(self, "bytes" "begin", self.inner.begin(x, whole, expected))
    }

    fn can_grow(&self, saved: &Saved) -> bool {
        self.inner.can_grow(saved)
    }

    async fn open(
        &self,
        x: &DataId,
        saved: &Saved,
        offset: u64,
        tail: Option<bytes::Bytes>,
    ) -> Result<Box<dyn Append>, Error> {
        let inner = watched!(self, "bytes" "open", self.inner.open(x, saved, offset, tail))?;
        Ok(Box::new(ObservedAppend { inner, observer: self.observer.clone() }))
    }

    async fn abort(&self, x: &DataId, saved: &Saved) -> Result<(), Error> {
        watched!(self, "bytes" "abort", self.inner.abort(x, saved))
    }

    async fn read(&self, x: &DataId, range: Option<Range<u64>>) -> Result<Content, Error> {
        watched!(self, "bytes" "read", self.inner.read(x, range))
    }

    async fn delete(&self, x: &DataId) -> Result<(), Error> {
        watched!(self, "bytes" "delete", self.inner.delete(x))
    }

    async fn page(&self, generation: &Generation, after: Option<&str>, limit: usize) -> Result<Vec<DataId>, Error> {
        watched!(self, "bytes" "page", self.inner.page(generation, after, limit))
    }

    async fn admit(&self) -> Result<(), Error> {
        watched!(self, "bytes" "admit", self.inner.admit())
    }
}

struct ObservedAppend {
    inner: Box<dyn Append>,
    observer: Observer,
}

#[async_trait]
impl Append for ObservedAppend {
    /// Not watched: it is called for every buffer of a body, and hands it on.
    async fn append(&mut self, data: bytes::Bytes) -> Result<(), Error> {
        self.inner.append(data).await
    }

    async fn checkpoint(&mut self, end: bool) -> Result<Checkpoint, Error> {
        watched!(self, "bytes" "checkpoint", self.inner.checkpoint(end))
    }

    async fn finish(&mut self, size: u64) -> Result<(), Error> {
        watched!(self, "bytes" "finish", self.inner.finish(size))
    }
}

#[cfg(test)]
mod tests {
    use storage::{
        backend::memory::{MemoryBytes, MemoryRecords},
        clock::SystemClock,
        key,
    };

    use super::*;

    #[tokio::test]
    async fn every_call_is_counted_and_a_lost_race_is_no_failure() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let metrics = Arc::new(Metrics::new(&*clock));
        let records = Arc::new(MemoryRecords::new(Arc::clone(&clock)));
        let (records, bytes) = store(records, Arc::new(MemoryBytes::growing()), &metrics, &clock);
        for _ in 0..2 {
            let _raced = storage::record::create(&*records, &key::authlog(), serde_json::json!({})).await;
        }
        bytes.admit().await.unwrap();
        let text = metrics.render();
        for line in [
            "hythe_store_call_duration_seconds_count{part=\"records\",call=\"create\"} 2",
            "hythe_store_call_duration_seconds_count{part=\"bytes\",call=\"admit\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("hythe_store_errors_total{"), "{text}");
    }
}
