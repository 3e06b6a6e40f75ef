//! One account over stores in memory, and actors that can be stopped.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use chrono::TimeDelta;
use futures::{TryStreamExt, future::BoxFuture};
use parking_lot::Mutex;
use storage::{
    Account, Algorithm, Deletable, Digest, Error, Lives, Opener, Readable, Repository, Settings, Store, UploadKeys,
    Writable,
    backend::{
        Body, Bytes, Entry, Found, Records, Version,
        memory::{MemoryBytes, MemoryRecords},
        testing,
    },
    blob,
    clock::ManualClock,
    gc::{self, Outcome, Pass},
    key::{PlainKey, Prefix, RecordKey},
    manifest::{self, OCI_MANIFEST},
    trash::{self, Emptied},
    upload::{self, Incoming},
};

pub(crate) struct World {
    pub(crate) records: Arc<MemoryRecords>,
    pub(crate) bytes: Arc<MemoryBytes>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) account: Account,
    pub(crate) lives: Lives,
    /// The store as collection sees it: nothing is ever in its way.
    pub(crate) store: Store,
}

/// Production's lives, but that collection may come at once wherever no push can be hurt by it.
pub(crate) fn eager() -> Lives {
    Lives { mark: TimeDelta::zero(), trash: TimeDelta::zero(), ..Lives::default() }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(eager(), true).await
    }

    pub(crate) async fn with(lives: Lives, tombstones: bool) -> Self {
        let clock = Arc::new(ManualClock::at("2026-11-21T12:00:00Z".parse().unwrap()));
        let records = MemoryRecords::new(clock.clone());
        let records = Arc::new(if tombstones { records.with_tombstones() } else { records });
        let bytes = Arc::new(MemoryBytes::in_parts(1 << 20));
        let account = testing::living_account(&*records).await;
        let store = over(records.clone(), &bytes, &clock, lives);
        Self { records, bytes, clock, account, lives, store }
    }

    /// Another process on the same store.
    pub(crate) fn process(&self) -> Store {
        over(self.records.clone(), &self.bytes, &self.clock, self.lives)
    }

    /// A process in whose way `meanwhile` runs to its end before its call `at`.
    pub(crate) fn stopped_at(&self, at: u64, meanwhile: BoxFuture<'static, ()>) -> (Store, Arc<Stopped>) {
        let inner = self.records.clone();
        let stopped = Arc::new(Stopped { inner, calls: AtomicU64::new(0), at, meanwhile: Mutex::new(Some(meanwhile)) });
        (over(stopped.clone(), &self.bytes, &self.clock, self.lives), stopped)
    }

    pub(crate) fn hours(&self, hours: u64) {
        self.clock.advance(std::time::Duration::from_hours(hours));
    }

    pub(crate) fn repository(&self, path: &str) -> Repository {
        Repository::new(self.account.clone(), format!("acme/{path}").parse().unwrap()).unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "a test may make capabilities")]
    pub(crate) fn writable(&self, path: &str) -> Writable {
        Writable::new(self.repository(path))
    }

    #[expect(clippy::disallowed_methods, reason = "a test may make capabilities")]
    pub(crate) fn deletable(&self, path: &str) -> Deletable {
        Deletable::new(self.repository(path))
    }

    #[expect(clippy::disallowed_methods, reason = "a test may make capabilities")]
    pub(crate) fn readable(&self, path: &str) -> Readable {
        Readable::new(self.repository(path))
    }

    pub(crate) async fn push(&self, path: &str, data: &[u8]) -> Digest {
        push_blob(&self.process(), &self.writable(path), data).await.unwrap()
    }

    /// Whether the repository gives the blob's very bytes.
    pub(crate) async fn has(&self, path: &str, data: &[u8]) -> bool {
        let digest = Digest::of(Algorithm::Sha256, data);
        match blob::read(&self.store, &self.readable(path), &digest, &|_| None).await {
            Ok(content) => {
                let parts: Vec<bytes::Bytes> = content.stream.try_collect().await.unwrap();
                assert_eq!(parts.concat(), data);
                true
            }
            Err(Error::NoBlob | Error::NoRepository) => {
                let member = blob::stat(&self.store, &self.readable(path), &digest).await;
                assert!(member.is_err(), "{path}: a member without bytes");
                false
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    pub(crate) async fn collect(&self, path: &str) -> Pass {
        collect(&self.store, &self.repository(path)).await
    }

    pub(crate) async fn empty(&self) -> Emptied {
        trash::empty(&self.store, "trash").await.unwrap().unwrap_or_default()
    }

    /// Data objects that are kept.
    pub(crate) async fn objects(&self) -> usize {
        self.bytes.page(self.account.generation(), None, 1000).await.unwrap().len()
    }

    /// What is under a prefix.
    pub(crate) async fn names(&self, prefix: &Prefix) -> Vec<String> {
        self.records.page(prefix, None, 1000).await.unwrap().into_iter().map(|row| row.name).collect()
    }

    /// Lets everything come to rest: passes, trash and sweeps, days apart, until nothing is left to do.
    pub(crate) async fn rest(&self, paths: &[&str]) {
        for _ in 0..5 {
            self.hours(24 * 4);
            storage::sweep::uploads(&self.store, &self.account).await.unwrap();
            for path in paths {
                self.collect(path).await;
                storage::sweep::marks(&self.store, &self.repository(path)).await.unwrap();
            }
            self.empty().await;
        }
    }
}

fn over(records: Arc<dyn Records>, bytes: &Arc<MemoryBytes>, clock: &Arc<ManualClock>, lives: Lives) -> Store {
    let settings = Settings { lives, ..Settings::default() };
    let tracker = tokio_util::task::TaskTracker::new();
    Store::new(records, bytes.clone(), clock.clone(), UploadKeys::new([&b"key"[..]]), settings, tracker)
}

pub(crate) async fn collect(store: &Store, repository: &Repository) -> Pass {
    match gc::collect(store, repository).await.unwrap() {
        Outcome::Passed(pass) => pass,
        Outcome::Elsewhere | Outcome::TooSoon => Pass::default(),
    }
}

/// Everything that collection does, twice, so that what may go goes.
pub(crate) async fn all_of_collection(store: &Store, repositories: &[Repository]) {
    for _ in 0..2 {
        for repository in repositories {
            collect(store, repository).await;
        }
        trash::empty(store, &storage::random_text(8)).await.unwrap();
    }
}

pub(crate) async fn push_blob(store: &Store, target: &Writable, data: &[u8]) -> Result<Digest, Error> {
    let digest = Digest::of(Algorithm::Sha256, data);
    let opener: Opener = "0000000000000001".parse().unwrap();
    let frame = Ok(bytes::Bytes::copy_from_slice(data));
    let body = Box::pin(futures::stream::iter([frame]));
    let incoming = Incoming { body, length: Some(data.len() as u64), start: None };
    upload::push(store, target, &digest, opener, incoming).await?;
    Ok(digest)
}

/// Runs `scenario` with its process stopped at each of its calls in turn, until it has fewer calls than that.
pub(crate) async fn at_each_call(mut scenario: impl AsyncFnMut(u64) -> bool) {
    let mut at = 0;
    while scenario(at).await {
        at += 1;
        assert!(at < 300, "no operation takes so many calls");
    }
    assert!(at > 0, "the operation was not stopped");
}

/// A manifest of these blobs.
pub(crate) fn image(blobs: &[&[u8]]) -> bytes::Bytes {
    let descriptor = |data: &[u8]| {
        let digest = Digest::of(Algorithm::Sha256, data);
        serde_json::json!({ "mediaType": "application/octet-stream", "digest": digest, "size": data.len() })
    };
    let layers: Vec<_> = blobs.iter().map(|data| descriptor(data)).collect();
    let document = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": layers[0], "layers": layers,
    });
    serde_json::to_vec(&document).unwrap().into()
}

pub(crate) async fn push_manifest(
    store: &Store,
    target: &Writable,
    tag: &str,
    bytes: bytes::Bytes,
) -> Result<Digest, Error> {
    let push = manifest::Push {
        reference: tag.parse().unwrap(),
        tags: Vec::new(),
        content_type: OCI_MANIFEST.into(),
        bytes,
        by: "test".into(),
    };
    Ok(manifest::put(store, target, push).await?.digest)
}

/// Records of a process that is stopped before one of its calls until others have run.
pub(crate) struct Stopped {
    inner: Arc<MemoryRecords>,
    calls: AtomicU64,
    at: u64,
    meanwhile: Mutex<Option<BoxFuture<'static, ()>>>,
}

impl std::fmt::Debug for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stopped").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Stopped {
    /// Whether the call was reached.
    pub(crate) fn reached(&self) -> bool {
        self.meanwhile.lock().is_none()
    }

    async fn pass_by(&self) {
        if self.calls.fetch_add(1, Ordering::SeqCst) == self.at {
            let meanwhile = self.meanwhile.lock().take();
            meanwhile.unwrap().await;
        }
    }
}

#[async_trait::async_trait]
impl Records for Stopped {
    async fn get(&self, key: &RecordKey) -> Result<Option<Found>, Error> {
        self.pass_by().await;
        self.inner.get(key).await
    }

    async fn create(&self, key: &RecordKey, body: &Body) -> Result<Version, Error> {
        self.pass_by().await;
        self.inner.create(key, body).await
    }

    async fn update(&self, key: &RecordKey, version: &Version, body: &Body) -> Result<Version, Error> {
        self.pass_by().await;
        self.inner.update(key, version, body).await
    }

    async fn remove(&self, key: &RecordKey, version: &Version) -> Result<(), Error> {
        self.pass_by().await;
        self.inner.remove(key, version).await
    }

    async fn get_plain(&self, key: &PlainKey) -> Result<Option<Found>, Error> {
        self.pass_by().await;
        self.inner.get_plain(key).await
    }

    async fn put(&self, key: &PlainKey, body: bytes::Bytes) -> Result<(), Error> {
        self.pass_by().await;
        self.inner.put(key, body).await
    }

    async fn delete(&self, key: &PlainKey) -> Result<(), Error> {
        self.pass_by().await;
        self.inner.delete(key).await
    }

    async fn page(&self, prefix: &Prefix, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, Error> {
        self.pass_by().await;
        self.inner.page(prefix, after, limit).await
    }

    async fn health(&self) -> Result<(), Error> {
        self.inner.health().await
    }
}
