use std::{
    collections::HashMap,
    fs::File,
    io,
    num::NonZeroU64,
    os::unix::fs::FileExt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use parking_lot::Mutex;
use rustix::fs::{Advice, FlockOperation, fadvise, flock};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, futures::Notified},
    task::JoinHandle,
};

use super::{blocking, bytes::Root, failed};
use crate::{
    Error,
    backend::{Append, Checkpoint, Saved},
    key::DataId,
    stream::UPLOAD_BUFFER,
};

/// Bytes that wait before they are worth a write.
const WORTH_A_WRITE: usize = UPLOAD_BUFFER / 2;
/// Bytes that wait at most while others are being written; then the sender waits.
const WAITING: usize = 2 * UPLOAD_BUFFER;
/// Bytes after which the kernel is told to start writing to the disk.
const FLUSH: u64 = 64 << 20;

/// The uploads that this process has open.
#[derive(Debug, Default)]
pub(super) struct Claims(Arc<Open>);

#[derive(Debug, Default)]
struct Open {
    held: Mutex<HashMap<DataId, Weak<Held>>>,
    released: Notify,
}

impl Claims {
    /// Ends when any claim of this process is given back.
    pub(super) fn released(&self) -> Notified<'_> {
        self.0.released.notified()
    }

    /// Whether this process's claim was dropped and only its last write is still under way, or has just ended.
    pub(super) fn closing(&self, x: &DataId) -> bool {
        self.0
            .held
            .lock()
            .get(x)
            .is_some_and(|held| held.upgrade().is_none_or(|held| held.closing.load(Ordering::SeqCst)))
    }
}

/// A file under the kernel's lock: while it is open, no other writer of any process opens it.
///
/// The lock is the claim of an upload. A stalled writer cannot be overtaken, so a late write cannot make a digest lie; a dead one
/// lets go at once.
#[derive(Debug)]
pub(super) struct Held {
    file: File,
    x: DataId,
    closing: AtomicBool,
    open: Arc<Open>,
}

impl Held {
    /// Locks a file. [`Error::Conflict`] if another writer has it.
    pub(super) fn claim(claims: &Claims, x: &DataId, file: File) -> Result<Arc<Self>, Error> {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::Conflict),
            Err(e) => return Err(Error::unavailable(e)),
        }
        let held = Arc::new(Self { file, x: x.clone(), closing: AtomicBool::new(false), open: Arc::clone(&claims.0) });
        claims.0.held.lock().insert(x.clone(), Arc::downgrade(&held));
        Ok(held)
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Known as closing until the lock is free; the entry may by then be the next holder's, which lives.
        let _closes_anyway = flock(&self.file, FlockOperation::Unlock);
        let mut held = self.open.held.lock();
        if held.get(&self.x).is_some_and(|held| held.strong_count() == 0) {
            held.remove(&self.x);
        }
        drop(held);
        self.open.released.notify_waiters();
    }
}

/// A writer of one file: while one run of bytes is written on a blocking thread, the next is received and hashed.
pub(super) struct FileAppend {
    root: Arc<Root>,
    x: DataId,
    held: Arc<Held>,
    /// Where the next run is written.
    offset: u64,
    waiting: Vec<bytes::Bytes>,
    waiting_size: usize,
    /// The share of the process's memory that `waiting` has, as far as there was any.
    credit: Option<OwnedSemaphorePermit>,
    running: Option<JoinHandle<Result<(), Error>>>,
    /// Whether a write has failed, after which nothing of this writer counts.
    broken: bool,
    /// Whether there is anything that a sync has not covered.
    dirty: bool,
    /// Whether the file's own entry may still be lost.
    unlisted: bool,
}

impl FileAppend {
    /// What a session keeps of an upload to a file: nothing, the offset says it all.
    pub(super) fn saved() -> Saved {
        Saved(serde_json::Value::String("file".into()))
    }

    pub(super) fn new(root: Arc<Root>, x: DataId, held: Arc<Held>, offset: u64) -> Self {
        let unlisted = offset == 0;
        let (waiting, waiting_size) = (Vec::new(), 0);
        Self {
            root,
            x,
            held,
            offset,
            waiting,
            waiting_size,
            credit: None,
            running: None,
            broken: false,
            dirty: unlisted,
            unlisted,
        }
    }

    /// Waits for the write that is under way.
    async fn settle(&mut self) -> Result<(), Error> {
        if let Some(running) = &mut self.running {
            let outcome = running.await;
            self.running = None;
            let outcome = outcome.map_err(Error::unavailable).flatten();
            self.broken |= outcome.is_err();
            outcome?;
        }
        if self.broken { Err(Error::unavailable("an earlier write of this upload failed")) } else { Ok(()) }
    }

    /// Starts to write what waits, once what is under way is done.
    async fn start(&mut self) -> Result<(), Error> {
        self.settle().await?;
        if self.waiting.is_empty() {
            return Ok(());
        }
        let run = std::mem::take(&mut self.waiting);
        let (root, held, start) = (Arc::clone(&self.root), Arc::clone(&self.held), self.offset);
        let credit = self.credit.take();
        self.offset += std::mem::take(&mut self.waiting_size) as u64;
        self.dirty = true;
        self.running = Some(tokio::task::spawn_blocking(move || {
            let _credit = credit;
            root.space.admit()?;
            write(&held, &run, start).map_err(failed)
        }));
        Ok(())
    }
}

/// Writes a run of buffers at `start`.
fn write(held: &Held, run: &[bytes::Bytes], start: u64) -> io::Result<()> {
    let mut at = start;
    for buffer in run {
        if held.closing.load(Ordering::SeqCst) {
            return Err(io::Error::other("the upload was given up"));
        }
        held.file.write_all_at(buffer, at)?;
        at += buffer.len() as u64;
    }
    if start / FLUSH != at / FLUSH {
        // Starts the writing of these pages and waits for none: the sync at the end then finds little left to do.
        let from = (at / FLUSH - 1) * FLUSH;
        let _unsupported = fadvise(&held.file, from, NonZeroU64::new(FLUSH), Advice::DontNeed);
    }
    Ok(())
}

impl Drop for FileAppend {
    fn drop(&mut self) {
        self.held.closing.store(true, Ordering::SeqCst);
    }
}

#[async_trait]
impl Append for FileAppend {
    async fn append(&mut self, data: bytes::Bytes) -> Result<(), Error> {
        if self.running.as_ref().is_some_and(JoinHandle::is_finished) || self.broken {
            self.settle().await?;
        }
        let credit = u32::try_from(data.len()).map(|size| Arc::clone(&self.root.memory).try_acquire_many_owned(size));
        self.waiting_size += data.len();
        self.waiting.push(data);
        match (credit, &mut self.credit) {
            (Ok(Ok(more)), Some(credit)) => credit.merge(more),
            (Ok(Ok(more)), credit) => *credit = Some(more),
            // No memory left for waiting: these bytes are written before more are taken, and no other upload is waited for.
            _ => {
                self.start().await?;
                return self.settle().await;
            }
        }
        let idle = self.running.is_none();
        if (idle && self.waiting_size >= WORTH_A_WRITE) || self.waiting_size >= WAITING {
            self.start().await?;
        }
        Ok(())
    }

    /// Everything is made durable, whatever `end` says: a file has no parts.
    async fn checkpoint(&mut self, _end: bool) -> Result<Checkpoint, Error> {
        self.start().await?;
        self.settle().await?;
        if self.dirty {
            let (root, held, x, unlisted) =
                (Arc::clone(&self.root), Arc::clone(&self.held), self.x.clone(), self.unlisted);
            let synced = blocking(move || {
                held.file.sync_data().map_err(failed)?;
                if unlisted { root.sync_entry(&x) } else { Ok(()) }
            });
            let synced = synced.await;
            // What a failed sync leaves behind cannot be known; the next writer starts from what was saved before.
            self.broken |= synced.is_err();
            synced?;
            (self.dirty, self.unlisted) = (false, false);
        }
        Ok(Checkpoint { saved: Self::saved(), offset: self.offset, tail: None })
    }

    async fn finish(&mut self, size: u64) -> Result<(), Error> {
        self.checkpoint(true).await?;
        let held = Arc::clone(&self.held);
        blocking(move || {
            let length = held.file.metadata().map_err(failed)?.len();
            if length < size {
                return Err(Error::NoUpload);
            }
            if length > size {
                // A crash left bytes beyond what was saved.
                held.file.set_len(size).and_then(|()| held.file.sync_data()).map_err(failed)?;
            }
            Ok(())
        })
        .await
    }
}
