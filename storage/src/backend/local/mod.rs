//! One folder: records in SQLite, bytes in files.
//!
//! | path | content |
//! | --- | --- |
//! | `records.db` (and `-wal`, `-shm`) | every key of [`super::Records`] |
//! | `data/<G>/<2 characters>/<X>` | data objects, never renamed, never copied |
//! | `serve.lock` | locked by the server; names its process |
//!
//! One process serves a folder. Others may open it beside the server and write single records: SQLite keeps them safe.

mod append;
mod bytes;
mod lock;
mod pool;
mod records;
mod space;
mod writer;

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use self::space::Space;
pub use self::{bytes::LocalBytes, lock::ServeLock, records::LocalRecords, space::Disk};
use crate::{Clock, Error};

/// How a folder is opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Take the lock that one server holds. Commands that write single records leave it.
    pub serve: bool,
    /// Use a folder on a network file system although its locks and syncs cannot be trusted.
    pub force_network: bool,
}

/// An open data folder.
#[derive(Debug)]
pub struct Folder {
    /// Its records.
    pub records: Arc<LocalRecords>,
    /// Its bytes.
    pub bytes: Arc<LocalBytes>,
    path: PathBuf,
    lock: Option<ServeLock>,
}

impl Folder {
    /// Opens a data folder, making it if it is not there. Blocks.
    ///
    /// [`Error::Refused`] says in one line what is wrong and the way out: the folder cannot be made or written, its disk is full,
    /// it lies on a network file system, another process serves it, or its `records.db` is not one.
    pub fn open(path: &Path, options: Options, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        make(path)?;
        refuse_network(path, options)?;
        let lock = lock(&path.join("serve.lock"), options)?;
        let records = LocalRecords::open(&path.join("records.db"), clock)?;
        let data = path.join("data");
        make(&data)?;
        let folder =
            Self { records: Arc::new(records), bytes: Arc::new(LocalBytes::new(data)), path: path.to_owned(), lock };
        if folder.copied() {
            tracing::warn!(
                folder = %path.display(),
                "this folder was copied since it was last served; if its server was running then, run `hythe verify`"
            );
        }
        Ok(folder)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was copied, moved between disks or restored since it was last served; known to the server only.
    pub fn copied(&self) -> bool {
        self.lock.as_ref().is_some_and(ServeLock::copied)
    }
}

/// Opens records alone, for bytes that lie in a bucket. The lock lies beside the file.
pub fn open_records(
    path: &Path,
    options: Options,
    clock: Arc<dyn Clock>,
) -> Result<(Arc<LocalRecords>, Option<ServeLock>), Error> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make(folder)?;
    refuse_network(folder, options)?;
    let lock = lock(&path.with_extension("lock"), options)?;
    Ok((Arc::new(LocalRecords::open(path, clock)?), lock))
}

/// The disk that `folder` lies on; `None` when the system does not tell.
pub fn disk(folder: &Path) -> Option<Disk> {
    Space::of(folder).disk().ok()
}

fn make(path: &Path) -> Result<(), Error> {
    // Records hold the keys of every account.
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| refused(path, &e))
}

fn lock(path: &Path, options: Options) -> Result<Option<ServeLock>, Error> {
    if options.serve { ServeLock::take(path).map(Some) } else { lock::touch(path).map(|_| None) }
}

fn refuse_network(path: &Path, options: Options) -> Result<(), Error> {
    match Space::of(path).network()? {
        Some(kind) if !options.force_network => Err(Error::Refused(format!(
            "{} lies on a network file system ({kind}), whose locks and syncs cannot be trusted; use a local disk, or a bucket",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// The operator's line for a folder that cannot be used.
fn refused(path: &Path, error: &io::Error) -> Error {
    let way_out = match error.kind() {
        io::ErrorKind::PermissionDenied => "give this user the right to write there, or name another folder",
        io::ErrorKind::ReadOnlyFilesystem => "mount it writable, or name another folder",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free space on its disk",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "something that is no folder is in the way; name another"
        }
        _ => "name another folder",
    };
    Error::Refused(format!("the data folder {} cannot be used: {error}; {way_out}", path.display()))
}

/// What an error of a file means to the caller of storage.
fn failed(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full,
        _ => Error::unavailable(error),
    }
}

/// Runs what blocks off the runtime's own threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(Error::unavailable)?
}

#[cfg(test)]
mod tests;
