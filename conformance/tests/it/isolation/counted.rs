//! A store in memory that notes which of storage's keys are touched. What `auth` keeps (`sys/`, `gen/`, `acct/`, `auth/`) is not
//! noted: deciding about a cold credential costs reads of its records, and that is no way into a repository.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use parking_lot::Mutex;
use storage::{
    Error, Generation,
    backend::{
        Append, Body, Bytes, Claim, Content, Entry, Found, Records, Saved, Version,
        memory::{MemoryBytes, MemoryRecords},
    },
    key::{DataId, PlainKey, Prefix, RecordKey},
};

/// The records and the bytes under watch.
#[derive(Debug)]
pub(super) struct Counted {
    records: MemoryRecords,
    bytes: MemoryBytes,
    touched: Mutex<Vec<String>>,
    blind: AtomicBool,
}

/// What `auth` and the server itself keep; the queue of work is looked at by the clockwork, and a request that writes there changes
/// the listing.
const NOT_STORAGE: [&str; 6] = ["sys/", "gen/", "acct/", "auth/", "audit/", "w/"];
/// What goes on beside the requests: a server says once a minute that it is there, and writes once a second what was audited and
/// what accounts came to use and what was pulled.
fn beside(key: &str) -> bool {
    let kept = key.strip_prefix("t/").and_then(|rest| rest.split_once('/')).map_or("", |(_, kept)| kept);
    let pull = kept.starts_with("r/") && kept.contains("/l/");
    pull || kept.starts_with("q/") || ["sys/replicas/", "audit/"].iter().any(|beside| key.starts_with(beside))
}

impl Counted {
    pub(super) fn new(clock: Arc<dyn storage::Clock>) -> Self {
        Self {
            records: MemoryRecords::new(clock),
            bytes: MemoryBytes::growing(),
            touched: Mutex::default(),
            blind: AtomicBool::default(),
        }
    }

    /// Storage's keys that were touched since the last call, calls of the bytes included.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.touched.lock())
    }

    /// Every key and its version, what goes on beside the requests left out.
    pub(super) fn listing(&self) -> Vec<(String, Version)> {
        let mut listing = self.records.listing();
        listing.retain(|(key, _)| !beside(key));
        listing
    }

    /// The records, past the count: for what a test itself reads.
    pub(super) fn records(&self) -> &MemoryRecords {
        &self.records
    }

    /// Whether nothing of what rights are decided by can be read any more.
    pub(super) fn blind(&self, blind: bool) {
        self.blind.store(blind, Ordering::SeqCst);
    }

    fn seen(&self, key: &str) -> Result<(), Error> {
        let of_rights = NOT_STORAGE.iter().any(|prefix| key.starts_with(prefix)) && !key.starts_with("w/");
        if of_rights && self.blind.load(Ordering::SeqCst) {
            return Err(Error::unavailable("the wire is cut"));
        }
        Ok(())
    }

    fn wrote(&self, key: &str) {
        if !beside(key) {
            self.touch(key);
        }
    }

    fn touch(&self, key: &str) {
        if !NOT_STORAGE.iter().any(|prefix| key.starts_with(prefix)) {
            self.touched.lock().push(key.to_owned());
        }
    }
}

/// The half that keeps records.
#[derive(Debug)]
pub(super) struct CountedRecords(pub(super) Arc<Counted>);

/// The half that keeps bytes.
#[derive(Debug)]
pub(super) struct CountedBytes(pub(super) Arc<Counted>);

#[async_trait]
impl Records for CountedRecords {
    async fn get(&self, key: &RecordKey) -> Result<Option<Found>, Error> {
        self.0.seen(key.as_str())?;
        self.0.touch(key.as_str());
        self.0.records.get(key).await
    }

    async fn create(&self, key: &RecordKey, body: &Body) -> Result<Version, Error> {
        self.0.wrote(key.as_str());
        self.0.records.create(key, body).await
    }

    async fn update(&self, key: &RecordKey, version: &Version, body: &Body) -> Result<Version, Error> {
        self.0.wrote(key.as_str());
        self.0.records.update(key, version, body).await
    }

    async fn remove(&self, key: &RecordKey, version: &Version) -> Result<(), Error> {
        self.0.touch(key.as_str());
        self.0.records.remove(key, version).await
    }

    async fn get_plain(&self, key: &PlainKey) -> Result<Option<Found>, Error> {
        self.0.touch(key.as_str());
        self.0.records.get_plain(key).await
    }

    async fn put(&self, key: &PlainKey, body: bytes::Bytes) -> Result<(), Error> {
        self.0.wrote(key.as_str());
        self.0.records.put(key, body).await
    }

    async fn delete(&self, key: &PlainKey) -> Result<(), Error> {
        self.0.touch(key.as_str());
        self.0.records.delete(key).await
    }

    async fn page(&self, prefix: &Prefix, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, Error> {
        self.0.touch(prefix.as_str());
        self.0.records.page(prefix, after, limit).await
    }

    async fn health(&self) -> Result<(), Error> {
        self.0.records.health().await
    }
}

#[async_trait]
impl Bytes for CountedBytes {
    fn claim(&self) -> Claim {
        self.0.bytes.claim()
    }

    fn first_part(&self) -> Option<usize> {
        self.0.bytes.first_part()
    }

    async fn begin(&self, x: &DataId, whole: bool, expected: Option<u64>) -> Result<Saved, Error> {
        self.0.touch(&x.object_key());
        self.0.bytes.begin(x, whole, expected).await
    }

    fn can_grow(&self, saved: &Saved) -> bool {
        self.0.bytes.can_grow(saved)
    }

    async fn open(
        &self,
        x: &DataId,
        saved: &Saved,
        offset: u64,
        tail: Option<bytes::Bytes>,
    ) -> Result<Box<dyn Append>, Error> {
        self.0.touch(&x.object_key());
        self.0.bytes.open(x, saved, offset, tail).await
    }

    async fn abort(&self, x: &DataId, saved: &Saved) -> Result<(), Error> {
        self.0.touch(&x.object_key());
        self.0.bytes.abort(x, saved).await
    }

    async fn read(&self, x: &DataId, range: Option<Range<u64>>) -> Result<Content, Error> {
        self.0.touch(&x.object_key());
        self.0.bytes.read(x, range).await
    }

    async fn delete(&self, x: &DataId) -> Result<(), Error> {
        self.0.touch(&x.object_key());
        self.0.bytes.delete(x).await
    }

    async fn page(&self, generation: &Generation, after: Option<&str>, limit: usize) -> Result<Vec<DataId>, Error> {
        self.0.touch(&format!("t/{generation}/d/"));
        self.0.bytes.page(generation, after, limit).await
    }

    async fn admit(&self) -> Result<(), Error> {
        self.0.bytes.admit().await
    }
}
