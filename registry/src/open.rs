//! Opening what the configuration names: the store's two halves, and auth over them. `serve` and every command on the store
//! begin here.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use auth::Auth;
use config::{Config, Store};
use storage::{
    Clock, Error,
    backend::{Bytes, Records, local, remote::Bucket},
    format::{self, Mode, Purpose},
    gate::Gate,
};

use crate::{metrics::Metrics, observed, seal};

/// The two halves of a store, and the lock that one server holds.
#[derive(Debug)]
pub struct Opened {
    /// The records.
    pub records: Arc<dyn Records>,
    /// The bytes.
    pub bytes: Arc<dyn Bytes>,
    /// Whether the store said when it was opened that everything but reads is refused: it is being moved.
    pub read_only: bool,
    /// What the records are behind; closed while the store is being moved.
    pub gate: Gate,
    /// The folder whose disk the store fills; a bucket has none.
    folder: Option<PathBuf>,
    held: Held,
}

/// What is held as long as the store is open: the lock of the one server that a folder or a records file may have.
#[derive(Debug)]
enum Held {
    Folder(local::Folder),
    RecordsFile { records: Arc<local::LocalRecords>, _lock: Option<local::ServeLock> },
    Nothing,
}

impl Opened {
    /// A store whose halves somebody else opened: in memory, or watched by a test.
    pub fn over(records: Arc<dyn Records>, bytes: Arc<dyn Bytes>) -> Self {
        Self { records, bytes, read_only: false, gate: Gate::default(), folder: None, held: Held::Nothing }
    }

    /// The folder whose disk the store fills, if it is one of this machine.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// From now on every call of the store is timed and counted.
    pub(crate) fn observe(&mut self, metrics: &Arc<Metrics>, clock: &Arc<dyn Clock>) {
        (self.records, self.bytes) =
            observed::store(Arc::clone(&self.records), Arc::clone(&self.bytes), metrics, clock);
    }

    /// Ends, with the reason, when the records have failed for good; a bucket never does.
    pub async fn failed(&self) -> String {
        match &self.held {
            Held::Folder(folder) => folder.records.failed().await,
            Held::RecordsFile { records, .. } => records.failed().await,
            Held::Nothing => std::future::pending().await,
        }
    }

    /// What the records' own check finds wrong: SQLite has one, a bucket has none.
    pub async fn integrity(&self) -> Result<Vec<String>, Error> {
        match &self.held {
            Held::Folder(folder) => folder.records.integrity_check().await,
            Held::RecordsFile { records, .. } => records.integrity_check().await,
            Held::Nothing => Ok(Vec::new()),
        }
    }
}

/// Opens the store. `serve`: to serve it, which one process does at a time on a folder; else to read and write single records.
/// [`Error::Refused`] is one line with the way out.
pub async fn store(store: &Store, serve: bool, clock: Arc<dyn Clock>) -> Result<Opened, Error> {
    let mut opened = halves(store, serve, environment(), clock).await?;
    opened.read_only = format::open(&*opened.records, mode(store), Purpose::Use).await?.read_only();
    if opened.read_only {
        opened.gate.close().await;
    }
    opened.records = opened.gate.over(opened.records);
    Ok(opened)
}

/// The variables of this process.
pub fn environment() -> Vec<(String, String)> {
    std::env::vars().collect()
}

/// Where records and bytes lie.
pub fn mode(store: &Store) -> Mode {
    match store {
        Store::Folder(_) => Mode::Local,
        Store::Remote { records: None, .. } => Mode::Remote,
        Store::Remote { records: Some(_), .. } => Mode::Split,
    }
}

/// Opens the two halves of a store, whatever state it is in, with no gate before them: for the copier.
pub async fn halves(
    store: &Store,
    serve: bool,
    environment: Vec<(String, String)>,
    clock: Arc<dyn Clock>,
) -> Result<Opened, Error> {
    let options = local::Options { serve, ..local::Options::default() };
    let gate = Gate::default();
    let opened = match store {
        Store::Folder(path) => {
            let path = path.clone();
            let opening = tokio::task::spawn_blocking(move || local::Folder::open(&path, options, clock));
            let folder = opening.await.map_err(Error::unavailable)??;
            let (records, bytes) = (folder.records.clone(), folder.bytes.clone());
            Opened {
                records,
                bytes,
                read_only: false,
                gate,
                folder: Some(folder.path().to_owned()),
                held: Held::Folder(folder),
            }
        }
        Store::Remote { url, records: None } => {
            let bucket = Bucket::parse(url.as_str(), environment)?;
            // Both to their end: the half that is not refused takes its probe's keys away again.
            let (records, bytes) = tokio::join!(bucket.records(), bucket.bytes());
            let (records, bytes) = (records?, bytes?);
            Opened { records, bytes, read_only: false, gate, folder: None, held: Held::Nothing }
        }
        Store::Remote { url, records: Some(path) } => {
            let bucket = Bucket::parse(url.as_str(), environment)?;
            let file = path.clone();
            let opening = tokio::task::spawn_blocking(move || local::open_records(&file, options, clock));
            let (records, lock) = opening.await.map_err(Error::unavailable)??;
            let held = Held::RecordsFile { records: records.clone(), _lock: lock };
            let folder = path.parent().map(Path::to_owned);
            Opened { records, bytes: bucket.bytes().await?, read_only: false, gate, folder, held }
        }
    };
    Ok(opened)
}

/// Between two writes of the log of ended rights that one process makes in a bucket: GCS takes about one a second of one object.
const APPENDS_APART: Duration = Duration::from_secs(1);

/// Opens auth over the records, seeding what a new store has not yet.
pub async fn auth(opened: &Opened, config: &Config, clock: Arc<dyn Clock>) -> Result<Auth, auth::Error> {
    let settings = auth::Settings {
        seal_key: seal::key(config).await?,
        read_only: config.server.read_only || opened.read_only,
        bound: config.server.revocation_bound,
        append_pause: match (&config.store, &opened.held) {
            (Store::Remote { records: None, .. }, Held::Nothing) => APPENDS_APART,
            _ => Duration::ZERO,
        },
        public_names: config.server.public_urls.iter().map(|url| url.host().name().to_owned()).collect(),
        account_domain: config.server.account_domain.as_ref().map(|domain| domain.name().to_owned()),
        default_quota: config.server.default_quota,
        trusted_issuers: config.issuers.trusted.clone(),
        ..auth::Settings::default()
    };
    Auth::open(Arc::clone(&opened.records), clock, settings).await
}
