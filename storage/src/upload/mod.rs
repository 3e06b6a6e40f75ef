//! Uploads: how bytes come in (distribution-spec, end-4 to end-6, end-13, end-14).
//!
//! A session's id is a signed capability, so opening one stores nothing. Its first bytes make the session's document
//! ([`session`]), which names the data object X before a byte is sent there; from then on every step is a compare-and-swap
//! on that document, and one writer at a time is admitted ([`crate::backend::Claim`]). The bytes go straight into X; a
//! commit only fences the document, finishes X and writes the member record. Whatever process dies, another goes on at the
//! offset the document says.

mod session;
mod write;

use crate::{
    Algorithm, Digest, Error, Opener, Store, UploadId, Writable, key, member, record, stream::ByteStream, usage,
};
use session::{Session, State};
pub(crate) use session::{bury, data, left_open, may_commit};
pub use write::CHUNK_MIN;
use write::{Intent, Writer};

/// Opens a session (end-4a, end-4c). Writes nothing; the id is what the upload's `Location` carries.
pub async fn open(
    store: &Store,
    target: &Writable,
    algorithm: Option<Algorithm>,
    opener: Opener,
) -> Result<String, Error> {
    store.writable()?;
    store.bytes().admit().await?;
    store.usage().may_open(store, target.repository().account())?;
    if let Some(room) = usage::room(store, target).await? {
        room.take(1)?;
    }
    let (_, text) = store
        .upload_keys()
        .open(target.repository(), algorithm, opener, store.now())
        .ok_or_else(|| Error::unavailable("this installation has no key that signs upload ids"))?;
    Ok(text)
}

/// Reads the id in an upload's `Location`. [`Error::NoUpload`] if it is not one of this repository, or too old.
pub fn parse(store: &Store, target: &Writable, text: &str) -> Result<UploadId, Error> {
    let id = store.upload_keys().verify(target.repository(), text).ok_or(Error::NoUpload)?;
    if store.now() - id.created() > store.lives().session {
        return Err(Error::NoUpload);
    }
    Ok(id)
}

/// A body on its way in.
pub struct Incoming {
    /// The bytes.
    pub body: ByteStream,
    /// Their number, if the client told it.
    pub length: Option<u64>,
    /// Where the client says they begin (`Content-Range`); without it they are appended.
    pub start: Option<u64>,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("length", &self.length).field("start", &self.start).finish_non_exhaustive()
    }
}

/// Appends a chunk (end-5) and answers the bytes that the session now holds, all of them durable. When the client goes away, what
/// arrived is kept and the body's error is returned. [`Error::Gap`] for a chunk out of order or a second writer.
pub async fn append(store: &Store, target: &Writable, id: &UploadId, incoming: Incoming) -> Result<u64, Error> {
    store.writable()?;
    store.bytes().admit().await?;
    let (work, target, id) = (store.clone(), target.clone(), id.clone());
    store
        .detached(async move {
            let mut writer = Writer::claim(&work, &target, &id, incoming, Intent::Append).await?;
            let received = writer.receive().await;
            let parked = writer.park().await;
            // Why no more was taken says more than why what was taken could not be kept: the disk is full.
            received.and(parked)
        })
        .await
}

/// Bytes that the session holds (end-13).
pub async fn status(store: &Store, target: &Writable, id: &UploadId) -> Result<u64, Error> {
    let key = key::upload(target.repository().account(), id.id());
    match record::read::<Session>(store.records(), &key).await? {
        None => Ok(0),
        Some(found) => match found.value.state {
            State::Open | State::Busy { .. } => Ok(found.value.offset),
            State::Committing { .. } | State::Cancelled => Err(Error::NoUpload),
        },
    }
}

/// Ends a session without a blob (end-14). What it holds is left to the trash.
pub async fn cancel(store: &Store, target: &Writable, id: &UploadId) -> Result<(), Error> {
    store.writable()?;
    let (work, target, id) = (store.clone(), target.clone(), id.clone());
    store
        .detached(async move {
            session::cancel(&work, &target, &id).await?;
            work.usage().closed(target.repository().account(), id.id());
            Ok(())
        })
        .await
}

/// Closes a session (end-6): what it holds and the last bytes of `incoming`, if any, become the blob `digest`, promised and durable
/// before this returns. On [`Error::DigestMismatch`] the session stays open.
pub async fn commit(
    store: &Store,
    target: &Writable,
    id: &UploadId,
    digest: &Digest,
    incoming: Incoming,
) -> Result<(), Error> {
    store.writable()?;
    let (work, target, id, digest) = (store.clone(), target.clone(), id.clone(), digest.clone());
    store
        .detached(async move {
            if let Some(done) = session::repeat(&work, &target, &id, &digest).await? {
                work.usage().closed(target.repository().account(), id.id());
                return Ok(done);
            }
            let mut writer = Writer::claim(&work, &target, &id, incoming, Intent::Commit(digest.clone())).await?;
            if let Err(error) = writer.receive().await {
                // As above: the first error is the one that is told.
                let _parked = writer.park().await;
                return Err(error);
            }
            writer.commit(&digest).await?;
            work.usage().closed(target.repository().account(), id.id());
            Ok(())
        })
        .await
}

/// Pushes a whole blob in one request (end-4b).
pub async fn push(
    store: &Store,
    target: &Writable,
    digest: &Digest,
    opener: Opener,
    incoming: Incoming,
) -> Result<(), Error> {
    let text = open(store, target, Some(digest.algorithm()), opener).await?;
    let id = parse(store, target, &text)?;
    commit(store, target, &id, digest, incoming).await
}

/// The member of a commit whose X is whole.
async fn settle(
    store: &Store,
    target: &Writable,
    id: &UploadId,
    session: &Session,
    digest: &Digest,
    deadline: crate::store::Deadline,
) -> Result<(), Error> {
    let x = session.data(target.repository().account())?;
    let new = member::NewMember { x: &x, size: session.offset, sid: id.id() };
    member::commit(store, target, digest, new, deadline).await
}
