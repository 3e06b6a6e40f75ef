//! Opening what the configuration names: the store's two halves, and auth over them. `serve` and every command on the store
//! begin here.

use std::sync::Arc;

use auth::{Auth, SealKey};
use config::{Config, Store};
use storage::{
    Clock, Error,
    backend::{Bytes, Records, local},
    format::{self, Mode, Purpose},
};

/// The two halves of a store, and the lock that one server holds.
#[derive(Debug)]
pub struct Opened {
    /// The records.
    pub records: Arc<dyn Records>,
    /// The bytes.
    pub bytes: Arc<dyn Bytes>,
    /// Whether the store says that everything but reads is refused: it is being moved.
    pub read_only: bool,
    /// Held for its lock, where there is one.
    _folder: Option<local::Folder>,
}

impl Opened {
    /// A store whose halves somebody else opened: in memory, or watched by a test.
    pub fn over(records: Arc<dyn Records>, bytes: Arc<dyn Bytes>) -> Self {
        Self { records, bytes, read_only: false, _folder: None }
    }
}

/// Opens the store. `serve`: to serve it, which one process does at a time on a folder; else to read and write single records.
/// [`Error::Refused`] is one line with the way out.
pub async fn store(store: &Store, serve: bool, clock: Arc<dyn Clock>) -> Result<Opened, Error> {
    match store {
        Store::Folder(path) => {
            let path = path.clone();
            let options = local::Options { serve, ..local::Options::default() };
            let opening = tokio::task::spawn_blocking(move || local::Folder::open(&path, options, clock));
            let folder = opening.await.map_err(Error::unavailable)??;
            let format = format::open(&*folder.records, Mode::Local, Purpose::Use).await?;
            Ok(Opened {
                records: folder.records.clone(),
                bytes: folder.bytes.clone(),
                read_only: format.read_only(),
                _folder: Some(folder),
            })
        }
        Store::Remote { url, .. } => {
            Err(Error::Refused(format!("{url}: this build serves folders alone; name one with --data")))
        }
    }
}

/// Opens auth over the records, seeding what a new store has not yet.
pub async fn auth(opened: &Opened, config: &Config, clock: Arc<dyn Clock>) -> Result<Auth, auth::Error> {
    let seal_key = config.seal_key.as_ref().map(|key| SealKey::new(key.reveal())).transpose()?;
    let settings = auth::Settings {
        seal_key,
        read_only: config.server.read_only || opened.read_only,
        ..auth::Settings::default()
    };
    Auth::open(Arc::clone(&opened.records), clock, settings).await
}
