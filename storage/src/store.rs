use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::{
    Clock, Error, Lives, Repository, Time, UploadKeys,
    backend::{Bytes, Claim, Records},
    gate::Gate,
    key,
    repository::Kind,
    retention::Pulls,
    stream::Pool,
    usage::Counters,
};

/// Settings of the storage protocol.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long what is promised, left and forgotten lives.
    pub lives: Lives,
    /// Refuse every write and delete with [`Error::ReadOnly`].
    pub read_only: bool,
    /// Take image manifests whose blobs the repository does not contain (distribution-spec: a registry MAY reject them, and this
    /// one does unless told otherwise). Absent children of an index are always taken.
    pub sparse_manifests: bool,
    /// Closed while the store is being moved: then it is read-only too.
    pub gate: Gate,
    /// Uploads of one account that may be unfinished in this process ([`Error::TooManyUploads`]). Default 1000.
    pub open_uploads: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lives: Lives::default(),
            read_only: false,
            sparse_manifests: false,
            gate: Gate::default(),
            open_uploads: 1000,
        }
    }
}

/// The handles that storage's operations use. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    records: Arc<dyn Records>,
    bytes: Arc<dyn Bytes>,
    clock: Arc<dyn Clock>,
    keys: UploadKeys,
    settings: Settings,
    /// Buffers of uploads to a local folder; a remote backend has a budget of its own.
    pool: Option<Pool>,
    tracker: TaskTracker,
    /// Dirty marks this process has written: key, and when it was (so that the map stays small).
    dirty: Mutex<HashMap<String, Time>>,
    /// Repositories seen to exist and not to be deleted, and when.
    known: Mutex<HashMap<Repository, Duration>>,
    /// What this process has written down of last pushes, and when.
    news: Mutex<HashMap<Repository, (Kind, Duration)>>,
    /// What this process has added to accounts and taken from them.
    usage: Counters,
    /// What it has to write of pulls, and knows of rules.
    retention: Pulls,
    /// Rung when this process has left work in a queue.
    bell: Notify,
    woken: AtomicBool,
}

/// Entries of a bounded table before it is emptied: both tables only save requests.
const TABLE_LIMIT: usize = 4096;
/// How long a repository that was seen is taken to exist still.
const KNOWN_FOR: Duration = Duration::from_secs(5);
/// Buffers of all uploads together.
const POOL_BUFFERS: usize = 24;

impl Store {
    /// A store over two backends.
    pub fn new(
        records: Arc<dyn Records>,
        bytes: Arc<dyn Bytes>,
        clock: Arc<dyn Clock>,
        keys: UploadKeys,
        settings: Settings,
        tracker: TaskTracker,
    ) -> Self {
        let pool = (bytes.claim() == Claim::Lock).then(|| Pool::new(POOL_BUFFERS));
        Self(Arc::new(Inner {
            records,
            bytes,
            clock,
            keys,
            settings,
            pool,
            tracker,
            dirty: Mutex::default(),
            known: Mutex::default(),
            news: Mutex::default(),
            usage: Counters::default(),
            retention: Pulls::default(),
            bell: Notify::new(),
            woken: AtomicBool::new(false),
        }))
    }

    /// The records.
    pub fn records(&self) -> &dyn Records {
        &*self.0.records
    }

    /// The bytes.
    pub fn bytes(&self) -> &dyn Bytes {
        &*self.0.bytes
    }

    /// The counters of what accounts use.
    pub fn usage(&self) -> &Counters {
        &self.0.usage
    }

    /// What this process has to write of pulls, and knows of the rules of retention.
    pub fn retention(&self) -> &Pulls {
        &self.0.retention
    }

    /// Wall-clock time.
    pub fn now(&self) -> Time {
        self.0.clock.now()
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.clock.elapsed()
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// How long things live, and the pace of the work in the background.
    pub fn lives(&self) -> &Lives {
        &self.0.settings.lives
    }

    pub(crate) fn upload_keys(&self) -> &UploadKeys {
        &self.0.keys
    }

    /// Who opened the session that an upload's text names; `None` if the text is no id of this repository. Reads nothing.
    pub fn upload_opener(&self, repository: &Repository, text: &str) -> Option<crate::Opener> {
        self.0.keys.verify(repository, text).map(|id| id.opener().clone())
    }

    pub(crate) fn pool(&self) -> Option<&Pool> {
        self.0.pool.as_ref()
    }

    /// When a promise made now ends.
    pub(crate) fn lease(&self) -> Time {
        self.now() + self.lives().promise
    }

    /// Refuses when the store is read-only: the first line of everything that writes.
    pub(crate) fn writable(&self) -> Result<(), Error> {
        if self.0.settings.read_only || self.0.settings.gate.is_closed() { Err(Error::ReadOnly) } else { Ok(()) }
    }

    /// Runs what must not stop half way: it goes on when the client's connection, and with it the caller, is gone.
    pub(crate) async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        self.0.tracker.spawn(work.in_current_span()).await.map_err(Error::unknown)?
    }

    /// Runs what nobody waits for: loss is harmless, shutdown still awaits it.
    pub(crate) fn afterwards(
        &self,
        what: &'static str,
        work: impl Future<Output = Result<(), Error>> + Send + 'static,
    ) {
        self.0.tracker.spawn(async move {
            if let Err(error) = work.await {
                tracing::debug!(error = &error as &dyn std::error::Error, "{what} was left out");
            }
        });
    }

    /// Writes the mark that `repository` has work for collection in this hour, once per process, repository and hour.
    pub(crate) async fn mark_dirty(&self, repository: &Repository) -> Result<(), Error> {
        let now = self.now();
        let mark = key::dirty(now, repository);
        // Once is enough while a mark is taken away after its hour only.
        let stays = self.lives().mark >= chrono::Duration::hours(1);
        if stays && self.0.dirty.lock().contains_key(mark.as_str()) {
            return Ok(());
        }
        self.records().put(&mark, bytes::Bytes::from_static(b".")).await?;
        let mut dirty = self.0.dirty.lock();
        if dirty.len() >= TABLE_LIMIT {
            dirty.retain(|_, &mut at| now - at < chrono::Duration::hours(1));
            if dirty.len() >= TABLE_LIMIT {
                dirty.clear();
            }
        }
        dirty.insert(mark.as_str().to_owned(), now);
        Ok(())
    }

    /// Whether this process saw `repository` exist a moment ago.
    pub(crate) fn recently_seen(&self, repository: &Repository) -> bool {
        let now = self.elapsed();
        self.0.known.lock().get(repository).is_some_and(|&at| now.saturating_sub(at) < KNOWN_FOR)
    }

    pub(crate) fn seen(&self, repository: &Repository) {
        let now = self.elapsed();
        let mut known = self.0.known.lock();
        if known.len() >= TABLE_LIMIT {
            known.retain(|_, &mut at| now.saturating_sub(at) < KNOWN_FOR);
            if known.len() >= TABLE_LIMIT {
                known.clear();
            }
        }
        known.insert(repository.clone(), now);
    }
}

impl Store {
    /// Forgets that `repository` was seen.
    pub(crate) fn unseen(&self, repository: &Repository) {
        self.0.known.lock().remove(repository);
    }

    /// Whether the last push to a repository is to be written down: it is of another kind than this process wrote last, or that
    /// was longer ago than `every`.
    pub(crate) fn news(&self, repository: &Repository, kind: Kind, every: Duration) -> bool {
        let now = self.elapsed();
        let mut news = self.0.news.lock();
        let told = |&(before, at): &(Kind, Duration)| before == kind && now.saturating_sub(at) < every;
        if news.get(repository).is_some_and(told) {
            return false;
        }
        if news.len() >= TABLE_LIMIT {
            news.clear();
        }
        news.insert(repository.clone(), (kind, now));
        true
    }

    /// Says that a queue has work.
    pub(crate) fn wake(&self) {
        self.0.woken.store(true, Ordering::Release);
        self.0.bell.notify_one();
    }

    pub(crate) fn stay_woken(&self) {
        self.0.woken.store(true, Ordering::Release);
    }

    pub(crate) fn take_woken(&self) -> bool {
        self.0.woken.swap(false, Ordering::AcqRel)
    }

    /// Ends when this process has left work in a queue, for whoever sees to queues.
    pub async fn woken(&self) {
        self.0.bell.notified().await;
    }
}

/// Ten minutes of monotonic time ([`Lives::deadline`]) for a write of several steps, checked before each: a replica that was paused
/// for longer gives up instead of writing into a world that has moved on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Duration);

impl Deadline {
    pub(crate) fn start(store: &Store) -> Self {
        Self(store.elapsed() + store.lives().deadline)
    }

    /// [`Error::Unknown`] when the time is over.
    pub(crate) fn check(self, store: &Store) -> Result<(), Error> {
        if store.elapsed() < self.0 {
            Ok(())
        } else {
            Err(Error::unknown("a write of several steps took too long and was given up"))
        }
    }
}
