//! One writer's turn at a session: claim, receive, park or commit.

use std::{collections::VecDeque, time::Duration};

use futures::StreamExt;
use tokio::task::JoinHandle;

use super::{
    Incoming,
    session::{self, Session, State},
};
use crate::{
    Digest, Error, Store, UploadId, Writable,
    backend::{Append, Checkpoint, Claim},
    hash::{HashState, Hasher},
    key::{self, DataId, RecordKey},
    record::{self, Document},
    store::Deadline,
    stream::{Buffer, ByteStream, UPLOAD_BUFFER},
    usage::{self, Room},
};

/// What the writer came for.
#[derive(Debug, Clone)]
pub(super) enum Intent {
    /// More bytes will follow.
    Append,
    /// These are the last ones.
    Commit(Digest),
}

/// How often what has arrived is made durable, and a claim renewed, in the middle of a body.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a claim lasts unless it is renewed.
const CLAIM: chrono::Duration = chrono::Duration::seconds(45);
/// The claim's holder stops this long before others may take it.
const CLAIM_HELD: Duration = Duration::from_secs(30);
/// Chunks below this size are expensive on an object store (`OCI-Chunk-Min-Length`).
pub const CHUNK_MIN: u64 = 5 << 20;
/// How many such chunks one session may send to an object store.
const SMALL_CHUNKS: u32 = 64;

/// The hash of what was received, here or on its blocking thread.
#[expect(
    clippy::large_enum_variant,
    reason = "it moves between here and the thread with every buffer; a box would be one more allocation each"
)]
enum Hashing {
    Idle(Hasher),
    Running(JoinHandle<Hasher>),
    Lost,
}

impl Hashing {
    async fn settle(&mut self) -> Result<&mut Hasher, Error> {
        if let Self::Running(_) = self
            && let Self::Running(task) = std::mem::replace(self, Self::Lost)
        {
            *self = Self::Idle(task.await.map_err(Error::unknown)?);
        }
        match self {
            Self::Idle(hasher) => Ok(hasher),
            Self::Running(_) | Self::Lost => Err(Error::unknown("the hash of an upload was lost")),
        }
    }

    async fn start(&mut self, data: bytes::Bytes) -> Result<(), Error> {
        self.settle().await?;
        if let Self::Idle(mut hasher) = std::mem::replace(self, Self::Lost) {
            *self = Self::Running(tokio::task::spawn_blocking(move || {
                hasher.update(&data);
                hasher
            }));
        }
        Ok(())
    }
}

/// A session that this writer holds.
pub(super) struct Writer {
    store: Store,
    target: Writable,
    id: UploadId,
    key: RecordKey,
    document: Document<Session>,
    append: Box<dyn Append>,
    hashing: Hashing,
    /// Hash states at buffer ends since the last checkpoint: a checkpoint in mid-body ends at one of them.
    states: VecDeque<(u64, HashState)>,
    body: ByteStream,
    /// Bytes read from the body before the claim.
    held_back: VecDeque<bytes::Bytes>,
    /// Bytes taken, durable or not.
    offset: u64,
    /// What the account may still take; `None`: anything.
    room: Option<Room>,
    /// Monotonic time at which the claim is no longer ours.
    held_until: Option<Duration>,
    last_beat: Duration,
}

impl Writer {
    /// Takes the session if it is free and stands where the chunk begins.
    pub(super) async fn claim(
        store: &Store,
        target: &Writable,
        id: &UploadId,
        incoming: Incoming,
        intent: Intent,
    ) -> Result<Self, Error> {
        let key = key::upload(target.repository().account(), id.id());
        let found = record::read::<Session>(store.records(), &key).await?;
        let have = match &found {
            None => 0,
            Some(found) => match &found.value.state {
                State::Committing { .. } | State::Cancelled => return Err(Error::NoUpload),
                State::Busy { until, .. } if *until > store.now() => {
                    return Err(Error::Gap { have: found.value.offset });
                }
                State::Busy { .. } | State::Open => found.value.offset,
            },
        };
        if incoming.start.is_some_and(|start| start != have) {
            return Err(Error::Gap { have });
        }
        let account = target.repository().account();
        if found.is_none() {
            store.usage().may_open(store, account)?;
        }
        let room = usage::room(store, target).await?;
        if let Some(room) = &room {
            room.take(have.saturating_add(incoming.length.unwrap_or_default()))?;
        }
        let mut writer = match store.bytes().claim() {
            Claim::Lock => Self::claim_by_lock(store, target, id, incoming, intent, key, found).await?,
            Claim::Document => Self::claim_by_document(store, target, id, incoming, intent, key, found).await?,
        };
        writer.room = room;
        store.usage().opened(store, account, id.id());
        Ok(writer)
    }

    async fn claim_by_lock(
        store: &Store,
        target: &Writable,
        id: &UploadId,
        incoming: Incoming,
        intent: Intent,
        key: RecordKey,
        found: Option<Document<Session>>,
    ) -> Result<Self, Error> {
        let account = target.repository().account();
        let document = if let Some(found) = found {
            found
        } else {
            let x = DataId::random(account);
            let saved = store.bytes().begin(&x, false, incoming.length).await?;
            let new = new_session(target, id, &x, saved, State::Open, &intent);
            lost_means_gap(record::create(store.records(), &key, new).await, 0)?
        };
        let have = document.value.offset;
        let x = document.value.data(account)?;
        let append = lost_means_gap(store.bytes().open(&x, &document.value.saved, have, None).await, have)?;
        // The lock is ours now; what the document said before may have been overtaken.
        let document = record::read::<Session>(store.records(), &key).await?.ok_or(Error::NoUpload)?;
        match document.value.state {
            State::Open if document.value.offset == have => {}
            State::Open | State::Busy { .. } => return Err(Error::Gap { have: document.value.offset }),
            State::Committing { .. } | State::Cancelled => return Err(Error::NoUpload),
        }
        Ok(Self::new(store, target, id, key, document, append, incoming.body, VecDeque::new()))
    }

    async fn claim_by_document(
        store: &Store,
        target: &Writable,
        id: &UploadId,
        incoming: Incoming,
        intent: Intent,
        key: RecordKey,
        found: Option<Document<Session>>,
    ) -> Result<Self, Error> {
        let account = target.repository().account();
        let busy = State::Busy { claim: crate::random_text(16), until: store.now() + CLAIM };
        let small = matches!(intent, Intent::Append) && incoming.length.is_some_and(|length| length < CHUNK_MIN);
        let mut body = incoming.body;
        let limit = store.bytes().first_part().unwrap_or_default();
        let Some(mut document) = found else {
            let (held_back, ended) = hold_back(&mut body, limit).await;
            let x = DataId::random(account);
            let saved = store.bytes().begin(&x, ended, incoming.length).await?;
            let mut new = new_session(target, id, &x, saved, busy, &intent);
            new.small_chunks = u32::from(small);
            let document = lost_means_gap(record::create(store.records(), &key, new).await, 0)?;
            let append = store.bytes().open(&x, &document.value.saved, 0, None).await?;
            return Ok(Self::new(store, target, id, key, document, append, body, held_back));
        };

        let have = document.value.offset;
        if small {
            document.value.small_chunks += 1;
            if document.value.small_chunks > SMALL_CHUNKS {
                return Err(Error::ChunkSize(format!(
                    "more than {SMALL_CHUNKS} chunks below {CHUNK_MIN} bytes in one upload; send larger chunks (OCI-Chunk-Min-Length)"
                )));
            }
        }
        let (held_back, ended) = hold_back(&mut body, 1).await;
        let nothing_more = ended && held_back.is_empty();
        document.value.state = busy;
        if let Intent::Commit(digest) = &intent {
            document.value.want = Some(digest.clone());
        }
        // Whoever read an outgrown object over died before it was done: its new object is gone on with, from the first part. A commit
        // that brings nothing reads it over too, or it would commit an object that lacks the first bytes.
        let halfway = document.value.was.is_some();
        let outgrown = halfway || (!nothing_more && !store.bytes().can_grow(&document.value.saved));
        if outgrown && !halfway {
            // The session's bytes lie in an object that cannot grow: they become the first bytes of a new one.
            let x = DataId::random(account);
            document.value.saved = store.bytes().begin(&x, false, None).await?;
            document.value.was = Some(std::mem::replace(&mut document.value.x, x.id().to_owned()));
        }
        lost_means_gap(record::update(store.records(), &key, &mut document).await, have)?;
        let x = document.value.data(account)?;
        let mut append;
        if outgrown {
            append = store.bytes().open(&x, &document.value.saved, 0, None).await?;
            // A writer that died before its first bytes were acknowledged may have left no object to read.
            if have > 0 {
                let was = document.value.was.as_ref().and_then(|was| DataId::parse(account.generation(), was));
                let was = was.ok_or_else(|| Error::corrupt("an upload session names no data object"))?;
                let mut content = store.bytes().read(&was, Some(0..have)).await?.stream;
                while let Some(chunk) = content.next().await {
                    append.append(chunk?).await?;
                }
            }
        } else {
            let tail = match &document.value.tail {
                Some(tail) if !nothing_more => {
                    Some(lost_means_gap(session::read_tail(store, account, id, tail).await, have)?)
                }
                Some(_) | None => None,
            };
            append = store.bytes().open(&x, &document.value.saved, have, tail).await?;
        }
        Ok(Self::new(store, target, id, key, document, append, body, held_back))
    }

    #[expect(clippy::too_many_arguments, reason = "the two ways to a claim end here with the same eight things")]
    fn new(
        store: &Store,
        target: &Writable,
        id: &UploadId,
        key: RecordKey,
        document: Document<Session>,
        append: Box<dyn Append>,
        body: ByteStream,
        held_back: VecDeque<bytes::Bytes>,
    ) -> Self {
        let now = store.elapsed();
        let held_until = matches!(document.value.state, State::Busy { .. }).then(|| now + CLAIM_HELD);
        Self {
            hashing: Hashing::Idle(Hasher::resume(&document.value.hash)),
            states: VecDeque::new(),
            offset: document.value.offset,
            store: store.clone(),
            target: target.clone(),
            id: id.clone(),
            key,
            document,
            append,
            room: None,
            body,
            held_back,
            held_until,
            last_beat: now,
        }
    }

    /// Takes the whole body. On an error what arrived before it has been taken, and can be parked.
    pub(super) async fn receive(&mut self) -> Result<(), Error> {
        let mut buffer = next_buffer(&self.store).await;
        let ended = loop {
            let frame = match self.held_back.pop_front() {
                Some(frame) => Some(Ok(frame)),
                None => match tokio::time::timeout(HEARTBEAT, self.body.next()).await {
                    Ok(frame) => frame,
                    Err(_idle) => {
                        self.beat().await?;
                        continue;
                    }
                },
            };
            let mut frame = match frame {
                None => break Ok(()),
                Some(Err(error)) => break Err(error),
                Some(Ok(frame)) => frame,
            };
            while !frame.is_empty() {
                // Buffers end at multiples of their size, so that parts end where a buffer does and the hash there is known.
                let position = usize::try_from(self.offset % UPLOAD_BUFFER as u64).unwrap_or_default();
                let room = UPLOAD_BUFFER - position - buffer.len();
                let part = frame.split_to(frame.len().min(room));
                buffer.extend(&part);
                if part.len() == room {
                    let full = std::mem::replace(&mut buffer, Buffer::empty());
                    self.take(full).await?;
                    buffer = next_buffer(&self.store).await;
                    if self.store.elapsed().saturating_sub(self.last_beat) >= HEARTBEAT {
                        self.beat().await?;
                    }
                }
            }
        };
        if !buffer.is_empty() {
            self.take(buffer).await?;
        }
        ended
    }

    /// Hashes and writes one buffer, both behind our back while the next one fills.
    async fn take(&mut self, buffer: Buffer) -> Result<(), Error> {
        self.still_ours()?;
        if let Some(room) = &self.room {
            room.take(self.offset.saturating_add(buffer.len() as u64))?;
        }
        let data = buffer.freeze();
        if self.held_until.is_some() {
            let state = self.hashing.settle().await?.save();
            self.states.push_back((self.offset, state));
        }
        self.offset += data.len() as u64;
        self.hashing.start(data.clone()).await?;
        self.append.append(data).await
    }

    fn still_ours(&self) -> Result<(), Error> {
        match self.held_until {
            Some(until) if self.store.elapsed() >= until => Err(Error::Gap { have: self.document.value.offset }),
            Some(_) | None => Ok(()),
        }
    }

    /// Makes durable what can be in the middle of a body, and renews the claim.
    async fn beat(&mut self) -> Result<(), Error> {
        self.still_ours()?;
        self.last_beat = self.store.elapsed();
        let Checkpoint { saved, offset, tail } = self.append.checkpoint(false).await?;
        let state = if offset == self.offset {
            Some(self.hashing.settle().await?.save())
        } else {
            while self.states.front().is_some_and(|(at, _)| *at < offset) {
                self.states.pop_front();
            }
            self.states.front().filter(|(at, _)| *at == offset).map(|(_, state)| state.clone())
        };
        // While an outgrown object is read over, the document goes on naming it until everything is in the new one.
        if let Some(state) = state
            && tail.is_none()
            && self.document.value.was.is_none()
            && offset > self.document.value.offset
        {
            let session = &mut self.document.value;
            (session.saved, session.offset, session.hash) = (saved, offset, state);
            session.tail = None;
        }
        if let State::Busy { until, .. } = &mut self.document.value.state {
            *until = self.store.now() + CLAIM;
            self.held_until = Some(self.last_beat + CLAIM_HELD);
        }
        let have = self.document.value.offset;
        lost_means_gap(record::update(self.store.records(), &self.key, &mut self.document).await, have)
    }

    /// Makes everything durable and gives the session back, open. Answers the bytes it holds.
    pub(super) async fn park(mut self) -> Result<u64, Error> {
        self.still_ours()?;
        let checkpoint = self.append.checkpoint(true).await?;
        self.save_open(checkpoint).await
    }

    async fn save_open(&mut self, checkpoint: Checkpoint) -> Result<u64, Error> {
        let repository = self.target.repository();
        let account = repository.account();
        let have = self.document.value.offset;
        // A turn that brought nothing has not read the tail either: it stays as it is.
        let brought = checkpoint.offset != have || self.document.value.was.is_some();
        let old_tail = if brought { self.document.value.tail.take() } else { None };
        if let (Some(tail), true) = (&checkpoint.tail, brought) {
            let rev = self.document.rev() + 1;
            self.document.value.tail = Some(session::put_tail(&self.store, account, &self.id, rev, tail).await?);
        }
        session::give_up_predecessor(&self.store, repository, self.id.id(), &self.document.value).await?;
        let hash = self.hashing.settle().await?.save();
        let session = &mut self.document.value;
        session.was = None;
        session.state = State::Open;
        (session.saved, session.offset, session.hash) = (checkpoint.saved, checkpoint.offset, hash);
        lost_means_gap(record::update(self.store.records(), &self.key, &mut self.document).await, have)?;
        session::drop_tail(&self.store, account, &self.id, old_tail.as_ref()).await?;
        Ok(self.document.value.offset)
    }

    /// Closes the session: everything it holds becomes the blob `digest`.
    pub(super) async fn commit(mut self, digest: &Digest) -> Result<(), Error> {
        self.still_ours()?;
        let checkpoint = self.append.checkpoint(true).await?;
        let deadline = Deadline::start(&self.store);
        let hasher = self.hashing.settle().await?;
        let known = hasher.digest(digest.algorithm());
        let hash = hasher.save();
        if let Some(actual) = &known
            && actual != digest
        {
            let mismatch = Error::DigestMismatch { expected: digest.clone(), actual: actual.clone() };
            self.save_open(checkpoint).await?;
            return Err(mismatch);
        }
        let repository = self.target.repository();
        let account = repository.account();
        session::give_up_predecessor(&self.store, repository, self.id.id(), &self.document.value).await?;
        let session = &mut self.document.value;
        session.was = None;
        let old_tail = session.tail.take();
        session.state = State::Committing { want: digest.clone(), at: self.store.now() };
        (session.saved, session.offset, session.hash) = (checkpoint.saved, checkpoint.offset, hash);
        let (size, x) = (session.offset, session.data(account)?);
        // The fence: from here no writer can claim the session, so nothing is added to X.
        lost_means_gap(record::update(self.store.records(), &self.key, &mut self.document).await, size)?;
        self.append.finish(size).await?;
        if known.is_none()
            && let Err(error) = session::read_back(&self.store, &x, size, digest).await
        {
            crate::member::give_up(&self.store, repository, &x, &[], size, Some(self.id.id())).await?;
            return Err(error);
        }
        super::settle(&self.store, &self.target, &self.id, &self.document.value, digest, deadline).await?;
        if let Some(tail) = old_tail {
            let (store, account, id) = (self.store.clone(), account.clone(), self.id.clone());
            self.store.afterwards("an upload's old tail", async move {
                session::drop_tail(&store, &account, &id, Some(&tail)).await
            });
        }
        Ok(())
    }
}

fn new_session(
    target: &Writable,
    id: &UploadId,
    x: &DataId,
    saved: crate::backend::Saved,
    state: State,
    intent: &Intent,
) -> Session {
    let want = match intent {
        Intent::Append => None,
        Intent::Commit(digest) => Some(digest.clone()),
    };
    let announced = id.algorithm().or(want.as_ref().map(Digest::algorithm));
    Session {
        state,
        repository: target.repository().name().path().to_owned(),
        x: x.id().to_owned(),
        was: None,
        saved,
        offset: 0,
        tail: None,
        hash: Hasher::new(announced).save(),
        want,
        small_chunks: 0,
    }
}

async fn next_buffer(store: &Store) -> Buffer {
    match store.pool() {
        Some(pool) => pool.take().await,
        None => Buffer::detached(),
    }
}

/// Somebody else's compare-and-swap or lock came first: they hold the session.
fn lost_means_gap<T>(result: Result<T, Error>, have: u64) -> Result<T, Error> {
    result.map_err(|error| match error {
        Error::Conflict => Error::Gap { have },
        other => other,
    })
}

/// Reads at least `limit` bytes of the body, or all of it; says which. A body that fails here fails again when it is received.
async fn hold_back(body: &mut ByteStream, limit: usize) -> (VecDeque<bytes::Bytes>, bool) {
    let mut held = VecDeque::new();
    let mut length = 0;
    while length < limit {
        match body.next().await {
            None => return (held, true),
            Some(Ok(frame)) => {
                length += frame.len();
                held.push_back(frame);
            }
            Some(Err(error)) => {
                let rest = std::mem::replace(body, Box::pin(futures::stream::empty()));
                *body = Box::pin(futures::stream::once(async move { Err(error) }).chain(rest));
                return (held, false);
            }
        }
    }
    (held, false)
}
