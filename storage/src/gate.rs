//! The gate in front of a store's records: closed while the store is being moved.
//!
//! A move freezes its source by a word in `sys/format`. Each process that works on the store sees it within seconds, closes its
//! gate, and says so in `sys/replicas/` only when no write of its own is under way any more: from then on the source stands still.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use tokio::sync::RwLock;

use crate::{
    Error,
    backend::{Body, Entry, Found, Records, Version},
    key::{self, PlainKey, Prefix, RecordKey},
};

/// Whether this process may write. Clones are one gate.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    closed: AtomicBool,
    /// Held for reading by each write under way.
    writes: RwLock<()>,
}

impl Gate {
    /// Whether writes are refused.
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    /// Refuses writes from now on; returns when none is under way any more.
    pub async fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        drop(self.0.writes.write().await);
    }

    /// Takes writes again: the move was given up.
    pub fn open(&self) {
        self.0.closed.store(false, Ordering::Release);
    }

    /// These records behind this gate: what is closed out is [`Error::ReadOnly`].
    pub fn over(&self, records: Arc<dyn Records>) -> Arc<dyn Records> {
        Arc::new(Gated { gate: self.clone(), records })
    }

    async fn pass<T>(&self, key: &str, write: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        if key::goes_on(key) {
            return write.await;
        }
        let _under_way = self.0.writes.read().await;
        if self.is_closed() { Err(Error::ReadOnly) } else { write.await }
    }
}

#[derive(Debug)]
struct Gated {
    gate: Gate,
    records: Arc<dyn Records>,
}

#[async_trait]
impl Records for Gated {
    async fn get(&self, key: &RecordKey) -> Result<Option<Found>, Error> {
        self.records.get(key).await
    }

    async fn create(&self, key: &RecordKey, body: &Body) -> Result<Version, Error> {
        self.gate.pass(key.as_str(), self.records.create(key, body)).await
    }

    async fn update(&self, key: &RecordKey, version: &Version, body: &Body) -> Result<Version, Error> {
        self.gate.pass(key.as_str(), self.records.update(key, version, body)).await
    }

    async fn remove(&self, key: &RecordKey, version: &Version) -> Result<(), Error> {
        self.gate.pass(key.as_str(), self.records.remove(key, version)).await
    }

    async fn get_plain(&self, key: &PlainKey) -> Result<Option<Found>, Error> {
        self.records.get_plain(key).await
    }

    async fn put(&self, key: &PlainKey, body: bytes::Bytes) -> Result<(), Error> {
        self.gate.pass(key.as_str(), self.records.put(key, body)).await
    }

    async fn delete(&self, key: &PlainKey) -> Result<(), Error> {
        self.gate.pass(key.as_str(), self.records.delete(key)).await
    }

    async fn page(&self, prefix: &Prefix, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, Error> {
        self.records.page(prefix, after, limit).await
    }

    async fn health(&self) -> Result<(), Error> {
        self.records.health().await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::{
        backend::{memory::MemoryRecords, testing},
        clock::SystemClock,
        record,
    };

    #[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
    struct Empty {}

    #[tokio::test]
    async fn a_closed_gate_lets_nothing_through_but_the_audit_and_who_is_there() {
        let gate = Gate::default();
        let records = gate.over(Arc::new(MemoryRecords::new(Arc::new(SystemClock::new()))));
        let repository = testing::repository();
        let tag = |name: &str| key::tag(&repository, &name.parse().unwrap());
        record::create(&*records, &tag("before"), Empty {}).await.unwrap();
        gate.close().await;
        assert!(matches!(record::create(&*records, &tag("after"), Empty {}).await, Err(Error::ReadOnly)));
        assert!(matches!(records.put(&key::hold("x"), ".".into()).await, Err(Error::ReadOnly)));
        let mut found = record::read::<Empty>(&*records, &tag("before")).await.unwrap().unwrap();
        assert!(matches!(record::update(&*records, &tag("before"), &mut found).await, Err(Error::ReadOnly)));
        record::create(&*records, &key::replica("one"), Empty {}).await.unwrap();
        gate.open();
        record::create(&*records, &tag("after"), Empty {}).await.unwrap();
    }

    #[tokio::test]
    async fn a_gate_is_closed_when_no_write_is_under_way() {
        let gate = Gate::default();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let key = key::hold("x");
        let write = gate.pass(key.as_str(), async { ended.await.map_err(Error::unknown) });
        tokio::pin!(write);
        assert!(write.as_mut().now_or_never().is_none());
        let closing = gate.close();
        tokio::pin!(closing);
        assert!(closing.as_mut().now_or_never().is_none());
        end.send(()).unwrap();
        write.await.unwrap();
        closing.await;
    }
}
