//! The document of an upload session, and what is done to it without new bytes.

use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

use crate::{
    Account, Algorithm, Digest, Error, Repository, Store, Time, UploadId, Writable,
    backend::{Saved, tombstone},
    hash::{HashState, Hasher},
    key::{self, DataId},
    member, record,
    store::Deadline,
};

/// Where a session stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// Waiting for bytes or a commit.
    Open,
    /// A writer has it, until a time that it keeps moving (only where the backend cannot exclude a second one itself).
    Busy {
        /// Random id of the writer.
        claim: String,
        /// When the claim ends if it is not renewed.
        until: Time,
    },
    /// A commit has begun: no byte is added any more. The last state of a session that became a blob.
    Committing {
        /// What it becomes.
        want: Digest,
        /// Since when.
        at: Time,
    },
    /// Ended without a blob.
    Cancelled,
}

/// The end of the bytes that has not filled a part, kept beside the document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tail {
    /// Part of the pieces' keys.
    pub(super) rev: u64,
    /// Number of pieces.
    pub(super) pieces: usize,
    /// Bytes in all.
    pub(super) len: u64,
}

/// The document. From it alone one can tell where the bytes are and which digest they may have been committed under: `want`, or the
/// saved hash finished.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Session {
    pub(super) state: State,
    /// Repository (path in the account).
    pub(super) repository: String,
    /// The data object that the bytes go to. Durable here before the first byte is sent there.
    pub(super) x: String,
    /// A whole object that holds the first bytes and cannot grow: read back into `x` by the next writer, then given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) was: Option<String>,
    pub(super) saved: Saved,
    /// Durable bytes.
    pub(super) offset: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tail: Option<Tail>,
    /// Hash of the first `offset` bytes.
    pub(super) hash: HashState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) want: Option<Digest>,
    /// Chunks so far that were smaller than an object store wants them.
    #[serde(default)]
    pub(super) small_chunks: u32,
}

impl Session {
    /// The data object.
    pub(super) fn data(&self, account: &Account) -> Result<DataId, Error> {
        DataId::parse(account.generation(), &self.x)
            .ok_or_else(|| Error::corrupt("an upload session names no data object"))
    }

    /// Every digest its bytes may have been committed under.
    fn candidates(&self) -> Vec<Digest> {
        let hasher = Hasher::resume(&self.hash);
        let saved = [Algorithm::Sha256, Algorithm::Sha512].into_iter().filter_map(|a| hasher.digest(a));
        let committing = match &self.state {
            State::Committing { want, .. } => Some(want.clone()),
            State::Open | State::Busy { .. } | State::Cancelled => None,
        };
        committing.into_iter().chain(self.want.clone()).chain(saved).collect()
    }
}

/// Goes on with a commit that has begun already: `Ok(None)` if none has.
pub(super) async fn repeat(
    store: &Store,
    target: &Writable,
    id: &UploadId,
    digest: &Digest,
) -> Result<Option<()>, Error> {
    let account = target.repository().account();
    let Some(found) = record::read::<Session>(store.records(), &key::upload(account, id.id())).await? else {
        return Ok(None);
    };
    let session = found.value;
    let State::Committing { want, at } = &session.state else { return Ok(None) };
    if want != digest || store.now() - *at > store.lives().repeat {
        return Err(Error::NoUpload);
    }
    let deadline = Deadline::start(store);
    let x = session.data(account)?;
    let mut append = match store.bytes().open(&x, &session.saved, session.offset, None).await {
        Err(Error::Conflict) => return Err(Error::Gap { have: session.offset }),
        other => other?,
    };
    append.finish(session.offset).await?;
    if Hasher::resume(&session.hash).digest(digest.algorithm()).as_ref() != Some(digest) {
        read_back(store, &x, session.offset, digest).await?;
    }
    super::settle(store, target, id, &session, digest, deadline).await?;
    Ok(Some(()))
}

/// Hashes a finished object for a digest whose state was not kept.
pub(super) async fn read_back(store: &Store, x: &DataId, size: u64, digest: &Digest) -> Result<(), Error> {
    let mut hasher = Hasher::new(Some(digest.algorithm()));
    let content = store.bytes().read(x, None).await?;
    let mut rest = size;
    let mut stream = content.stream;
    while rest > 0 {
        let Some(mut chunk) = stream.try_next().await? else { break };
        chunk.truncate(usize::try_from(rest).unwrap_or(usize::MAX));
        rest -= chunk.len() as u64;
        hasher = hasher.update_detached(chunk).await?;
    }
    match hasher.digest(digest.algorithm()) {
        Some(actual) if actual == *digest && rest == 0 => Ok(()),
        Some(actual) => Err(Error::DigestMismatch { expected: digest.clone(), actual }),
        None => Err(Error::corrupt("a hash that was asked for was not run")),
    }
}

/// Ends a session without a blob.
pub(super) async fn cancel(store: &Store, target: &Writable, id: &UploadId) -> Result<(), Error> {
    let repository = target.repository();
    let key = key::upload(repository.account(), id.id());
    loop {
        let Some(mut found) = record::read::<Session>(store.records(), &key).await? else {
            // Nothing has arrived; the document only keeps the id from being used again.
            let ended = Session {
                state: State::Cancelled,
                repository: repository.name().path().to_owned(),
                x: DataId::random(repository.account()).id().to_owned(),
                was: None,
                saved: Saved(serde_json::Value::Null),
                offset: 0,
                tail: None,
                hash: Hasher::new(None).save(),
                want: None,
                small_chunks: 0,
            };
            match record::create(store.records(), &key, ended).await {
                Err(Error::Conflict) => continue,
                other => return other.map(|_| ()),
            }
        };
        if matches!(found.value.state, State::Committing { .. } | State::Cancelled) {
            return Err(Error::NoUpload);
        }
        found.value.state = State::Cancelled;
        match record::update(store.records(), &key, &mut found).await {
            Ok(()) => {}
            Err(Error::Conflict) => continue,
            Err(other) => return Err(other),
        }
        abandon(store, repository, id.id(), &found.value).await?;
        return drop_tail(store, repository.account(), id, found.value.tail.as_ref()).await;
    }
}

/// Gives up the bytes of a session that has ended.
async fn abandon(store: &Store, repository: &Repository, sid: &str, session: &Session) -> Result<(), Error> {
    // A session that was cancelled before its first byte has nothing.
    if session.saved.0.is_null() {
        return Ok(());
    }
    let x = session.data(repository.account())?;
    store.bytes().abort(&x, &session.saved).await?;
    let candidates = session.candidates();
    member::give_up(store, repository, &x, &candidates, session.offset, Some(sid)).await?;
    give_up_predecessor(store, repository, sid, session).await
}

/// Whether an X that this session stored may yet become a member: somebody may go on with the session, or its commit is under way or
/// may be repeated. `now` is the store's time, a moment ago.
pub(crate) async fn may_commit(store: &Store, account: &Account, sid: &str, now: Time) -> Result<bool, Error> {
    let found = record::read::<Session>(store.records(), &key::upload(account, sid)).await?;
    Ok(found.is_some_and(|found| match found.value.state {
        State::Open | State::Busy { .. } => true,
        State::Committing { at, .. } => {
            let young = |at: Time, now: Time| now - at < store.lives().commit;
            young(at, store.now()) || found.modified().is_some_and(|at| young(at, now))
        }
        State::Cancelled => false,
    }))
}

/// Bytes of a session that was left open.
pub(crate) async fn left_open(store: &Store, account: &Account, sid: &str) -> Result<u64, Error> {
    let found = record::read::<Session>(store.records(), &key::upload(account, sid)).await?;
    Ok(found.map_or(0, |found| match found.value.state {
        State::Open | State::Busy { .. } => found.value.offset,
        State::Committing { .. } | State::Cancelled => 0,
    }))
}

/// The data objects of a session, for the sweep of an account that is gone.
pub(crate) async fn data(store: &Store, account: &Account, sid: &str) -> Result<Vec<DataId>, Error> {
    let Some(found) = record::read::<Session>(store.records(), &key::upload(account, sid)).await? else {
        return Ok(Vec::new());
    };
    let session = found.value;
    let x = session.data(account)?;
    if !session.saved.0.is_null() {
        store.bytes().abort(&x, &session.saved).await?;
    }
    let was = session.was.and_then(|was| DataId::parse(account.generation(), &was));
    Ok(std::iter::once(x).chain(was).collect())
}

/// Takes away the document of a session that is over for good, after its bytes are somebody's: a member's, or the trash's.
/// `written_since`: a document that was written after this time is somebody's still. `false` if it stays.
pub(crate) async fn bury(store: &Store, account: &Account, sid: &str, written_since: Time) -> Result<bool, Error> {
    let key = key::upload(account, sid);
    let Some(found) = record::read::<Session>(store.records(), &key).await? else { return Ok(true) };
    if found.modified().is_some_and(|at| at > written_since) {
        return Ok(false);
    }
    let session = &found.value;
    let Some(repository) = crate::generation::repository_of(account.clone(), &session.repository) else {
        return Err(Error::corrupt("an upload session names no repository"));
    };
    let became = match &session.state {
        State::Committing { want, .. } => member::get(store, &repository, want).await?,
        State::Open | State::Busy { .. } | State::Cancelled => None,
    };
    if became.is_none_or(|member| member.value.x.as_ref() != Some(&session.x)) {
        abandon(store, &repository, sid, session).await?;
    }
    match store.records().remove(&key, found.version()).await {
        Ok(()) => {}
        Err(Error::Conflict) => return Ok(false),
        Err(other) => return Err(other),
    }
    // Where a removal leaves an empty object, every upload would leave one. This one goes: its id is used once and its token is
    // refused by now, so nobody makes this record again.
    store.records().delete(&key::uploads(account).plain(sid)).await?;
    Ok(true)
}

/// Gives up the whole object that the session outgrew.
pub(super) async fn give_up_predecessor(
    store: &Store,
    repository: &Repository,
    sid: &str,
    session: &Session,
) -> Result<(), Error> {
    let was = session.was.as_ref().and_then(|was| DataId::parse(repository.account().generation(), was));
    match was {
        Some(was) => member::give_up(store, repository, &was, &[], session.offset, Some(sid)).await,
        None => Ok(()),
    }
}

/// Largest piece of a tail, so that no record grows past what stores and caches expect.
const TAIL_PIECE: usize = 8 << 20;

/// Keeps the end of the bytes with the records.
pub(super) async fn put_tail(
    store: &Store,
    account: &Account,
    id: &UploadId,
    rev: u64,
    tail: &bytes::Bytes,
) -> Result<Tail, Error> {
    let mut pieces = 0;
    let mut start = 0;
    while start < tail.len() {
        let mut end = tail.len().min(start + TAIL_PIECE);
        if tombstone::is(end - start) {
            // A body of this size is refused.
            end -= 1;
        }
        store.records().put(&key::upload_tail(account, id.id(), rev, pieces), tail.slice(start..end)).await?;
        pieces += 1;
        start = end;
    }
    Ok(Tail { rev, pieces, len: tail.len() as u64 })
}

/// Reads the end of the bytes back.
pub(super) async fn read_tail(
    store: &Store,
    account: &Account,
    id: &UploadId,
    tail: &Tail,
) -> Result<bytes::Bytes, Error> {
    let mut whole = Vec::with_capacity(usize::try_from(tail.len).unwrap_or_default());
    for piece in 0..tail.pieces {
        let key = key::upload_tail(account, id.id(), tail.rev, piece);
        let found = store.records().get_plain(&key).await?;
        // Another writer has taken the session meanwhile and cleared it away.
        whole.extend_from_slice(&found.ok_or(Error::Conflict)?.body);
    }
    if whole.len() as u64 == tail.len { Ok(whole.into()) } else { Err(Error::Conflict) }
}

/// Clears a tail that the document no longer names.
pub(super) async fn drop_tail(
    store: &Store,
    account: &Account,
    id: &UploadId,
    tail: Option<&Tail>,
) -> Result<(), Error> {
    if let Some(tail) = tail {
        for piece in 0..tail.pieces {
            store.records().delete(&key::upload_tail(account, id.id(), tail.rev, piece)).await?;
        }
    }
    Ok(())
}
