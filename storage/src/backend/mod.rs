//! The two seams of storage, [`Records`] and [`Bytes`], and their backends.
//!
//! | backend | records | bytes |
//! | --- | --- | --- |
//! | [`local`] | SQLite | files |
//! | [`remote`] | a bucket with conditional PUT | the same bucket |
//! | [`memory`] | a map, with faults on command (tests) | a map |
//!
//! Every flag and every look of the storage protocol is a key of `Records`, linearizable per key on every backend. `Bytes` hold
//! blob content under ids that are never used twice; no decision reads a time, a list or an order of theirs.

pub mod local;
pub mod memory;
pub mod remote;
mod settle;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub(crate) mod tombstone;

use std::{fmt, ops::Range, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Generation,
    clock::Time,
    key::{DataId, PlainKey, Prefix, RecordKey},
    stream::ByteStream,
};

/// The version of a record, opaque: what compare-and-swap compares. Never used twice for one key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version(Arc<str>);

impl Version {
    /// Wraps a backend's own version (an ETag, a counter).
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The backend's own version.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The body of a record, ready to be written: never empty, and unlike every body written before, because it carries a fresh nonce.
#[derive(Debug, Clone)]
pub struct Body {
    /// The encoded record ([`crate::record`]): one JSON line, with manifests followed by their exact bytes.
    pub bytes: bytes::Bytes,
    /// The nonce inside `bytes`. After an ambiguous answer a backend reads back and looks in the record's `hist` for it, and for
    /// that of the version it went upon ([`crate::record::was_written`]).
    pub nonce: String,
}

/// A key that was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The body, as written.
    pub body: bytes::Bytes,
    /// What an update or removal must present.
    pub version: Version,
    /// The store's time of the last write. Compare it with other `modified` of the same store only.
    pub modified: Time,
}

/// One row of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key without the prefix that was paged.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// Size of the body in bytes, above zero.
    pub size: u64,
    /// The store's time of the last write.
    pub modified: Time,
}

/// Small objects under compare-and-swap, in key byte order, with the store's own time.
///
/// Linearizable per key. A page shows every key put before it began and not deleted since; it is not a snapshot.
/// Errors: [`Error::Conflict`] when a condition failed for good and nothing was written, [`Error::Unavailable`] when nothing was applied or it does not
/// matter, [`Error::Unknown`] when a write may or may not have been applied.
#[async_trait]
pub trait Records: fmt::Debug + Send + Sync + 'static {
    /// Reads a record; a removed one is `None`, tombstone or not.
    async fn get(&self, key: &RecordKey) -> Result<Option<Found>, Error>;

    /// Writes a record that is not there. [`Error::Conflict`] if it is, unless it was this very write.
    async fn create(&self, key: &RecordKey, body: &Body) -> Result<Version, Error>;

    /// Replaces the version that was read. [`Error::Conflict`] if it has moved on, unless this very write moved it.
    async fn update(&self, key: &RecordKey, version: &Version, body: &Body) -> Result<Version, Error>;

    /// Removes the version that was read. [`Error::Conflict`] if it has moved on; absent already is `Ok`.
    async fn remove(&self, key: &RecordKey, version: &Version) -> Result<(), Error>;

    /// Reads a plain key.
    async fn get_plain(&self, key: &PlainKey) -> Result<Option<Found>, Error>;

    /// Writes a plain key, whatever is there; writing it again gives it a new `modified`. The body is neither empty nor 16 bytes
    /// long ([`Error::Corrupt`]): a page would take it for what a removed record leaves.
    async fn put(&self, key: &PlainKey, body: bytes::Bytes) -> Result<(), Error>;

    /// Deletes a plain key; absent already is `Ok`.
    async fn delete(&self, key: &PlainKey) -> Result<(), Error>;

    /// At most `limit` keys under `prefix`, those after `after` (a name as in [`Entry::name`], it need not exist), in byte order.
    /// Fewer than `limit` means the end.
    async fn page(&self, prefix: &Prefix, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, Error>;

    /// Whether the store answers now.
    async fn health(&self) -> Result<(), Error>;
}

/// How a backend of bytes admits one writer to an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The open [`Append`] itself excludes others (a kernel lock on the file).
    Lock,
    /// The session's document does, by compare-and-swap; the backend excludes nobody.
    Document,
}

/// Where an upload stands, opaque to the engine, kept in the session's document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Saved(pub(crate) serde_json::Value);

/// What is durable of an upload.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// What [`Bytes::open`] needs to go on.
    pub saved: Saved,
    /// Bytes that are durable, `tail` included.
    pub offset: u64,
    /// The last bytes, fewer than a part: the engine keeps them with the records and hands them to [`Bytes::open`].
    pub tail: Option<bytes::Bytes>,
}

/// The content of a data object, or a range of it.
pub struct Content {
    /// Size of the whole object in bytes.
    pub size: u64,
    /// The bytes of the range that was asked for.
    pub stream: ByteStream,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("size", &self.size).finish_non_exhaustive()
    }
}

/// Blob content under ids that are used once: written once, never renamed, never copied.
#[async_trait]
pub trait Bytes: fmt::Debug + Send + Sync + 'static {
    /// How one writer at a time is admitted.
    fn claim(&self) -> Claim;

    /// Bytes that the engine should hold back before it chooses between [`Bytes::begin`]'s two forms; `None` where there is no
    /// choice (files grow). A body that ends within them is stored as one whole object.
    fn first_part(&self) -> Option<usize>;

    /// Prepares an upload to `x` and sends none of its bytes. `whole`: everything is at hand and fits the first part, so
    /// the object is put at once and cannot grow; otherwise it can. `expected` is the size if the client told it.
    async fn begin(&self, x: &DataId, whole: bool, expected: Option<u64>) -> Result<Saved, Error>;

    /// Whether an upload that stands at `saved` can take more bytes.
    fn can_grow(&self, saved: &Saved) -> bool;

    /// Opens an upload that stands at `saved` with `offset` bytes, of which `tail` (as [`Checkpoint::tail`] gave it) is the end.
    /// [`Error::Conflict`] if another writer has it ([`Claim::Lock`]).
    async fn open(
        &self,
        x: &DataId,
        saved: &Saved,
        offset: u64,
        tail: Option<bytes::Bytes>,
    ) -> Result<Box<dyn Append>, Error>;

    /// Gives up an upload that was not finished. A finished object is not touched. Idempotent.
    async fn abort(&self, x: &DataId, saved: &Saved) -> Result<(), Error>;

    /// The bytes of `range`, clipped to the object (`None`: all); an empty range reads nothing but the size.
    /// [`Error::NoBlob`] if there is no such object.
    async fn read(&self, x: &DataId, range: Option<Range<u64>>) -> Result<Content, Error>;

    /// Deletes an object, finished or not. Unconditional and idempotent: ids are never used twice.
    async fn delete(&self, x: &DataId) -> Result<(), Error>;

    /// At most `limit` ids of a generation after `after`, in some fixed order: for `verify`, `move` and `restore` alone.
    async fn page(&self, generation: &Generation, after: Option<&str>, limit: usize) -> Result<Vec<DataId>, Error>;

    /// Whether new uploads have room. [`Error::Full`] below the reserve.
    async fn admit(&self) -> Result<(), Error>;
}

/// One writer's hold on an upload. Dropping it gives the claim back and loses what was not checkpointed.
#[async_trait]
pub trait Append: Send {
    /// Takes the next bytes. They may still be on their way when it returns; an earlier failure shows here or at the checkpoint.
    async fn append(&mut self, data: bytes::Bytes) -> Result<(), Error>;

    /// Makes durable what it can. `end`: everything, because no more bytes come from this writer; otherwise whole parts only.
    async fn checkpoint(&mut self, end: bool) -> Result<Checkpoint, Error>;

    /// After a checkpoint with `end`: makes of the `size` bytes a finished object. An object that an earlier attempt finished with
    /// this size is a success; [`Error::NoUpload`] if the upload is gone or holds parts of another writer.
    async fn finish(&mut self, size: u64) -> Result<(), Error>;
}
