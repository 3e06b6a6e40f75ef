use std::{sync::Arc, time::Duration};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use tokio::sync::{mpsc, oneshot, watch};

use super::records::{advance, apply, checkpoint, failed, find, last, version};
use crate::{
    Clock, Error, Time,
    backend::{Body, Version, settle::settle},
};

/// One transaction takes no more than this, so that the first of a long queue does not wait for the last.
const BATCH: usize = 256;
/// Bytes of bodies after which the log is moved into the file.
const CHECKPOINT: u64 = 4 << 20;
/// What a row weighs in the log besides its body.
const ROW: u64 = 8 << 10;

/// A write that waits.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) key: String,
    pub(super) write: Write,
    pub(super) reply: oneshot::Sender<Result<Version, Error>>,
}

/// What it does.
#[derive(Debug)]
pub(super) enum Write {
    Create(Body),
    Update(i64, Body),
    Remove(i64),
    Put(bytes::Bytes),
    Delete,
}

impl Write {
    fn weight(&self) -> u64 {
        let body = match self {
            Self::Create(body) | Self::Update(_, body) => body.bytes.len(),
            Self::Put(body) => body.len(),
            Self::Remove(_) | Self::Delete => 0,
        };
        ROW + body as u64
    }
}

/// The thread that writes: what arrived while one transaction was synced is the next one.
pub(super) struct Writer {
    connection: Connection,
    jobs: mpsc::Receiver<Job>,
    clock: Arc<dyn Clock>,
    started: Time,
    elapsed: Duration,
    failure: watch::Sender<Option<Arc<str>>>,
    logged: u64,
}

/// Why a transaction did not happen, or may not have.
enum Failure {
    RolledBack(rusqlite::Error),
    Commit(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::RolledBack(error)
    }
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        jobs: mpsc::Receiver<Job>,
        clock: Arc<dyn Clock>,
        failure: watch::Sender<Option<Arc<str>>>,
    ) -> Self {
        let (started, elapsed) = (clock.now(), clock.elapsed());
        Self { connection, jobs, clock, started, elapsed, failure, logged: 0 }
    }

    /// Works until nobody can send any more.
    pub(super) fn run(mut self) {
        while let Some(first) = self.jobs.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(job) = self.jobs.try_recv()
            {
                batch.push(job);
            }
            self.write(batch);
            if self.logged >= CHECKPOINT {
                self.checkpoint();
            }
        }
    }

    fn write(&mut self, batch: Vec<Job>) {
        if let Some(reason) = self.failure.borrow().clone() {
            for job in batch {
                let _gone = job.reply.send(Err(Error::unavailable(&*reason)));
            }
            return;
        }
        match self.commit(&batch) {
            Ok(answers) => {
                for (job, answer) in batch.into_iter().zip(answers) {
                    self.logged += job.write.weight();
                    let _gone = job.reply.send(answer);
                }
            }
            // On a full disk one by one: what frees space may still fit.
            Err(Failure::RolledBack(_)) if batch.len() > 1 => {
                for job in batch {
                    self.write(vec![job]);
                }
            }
            Err(Failure::RolledBack(error)) => {
                let mut error = Some(error);
                for job in batch {
                    let answer = error.take().map_or_else(|| Error::unavailable("rolled back"), failed);
                    let _gone = job.reply.send(Err(answer));
                }
            }
            Err(Failure::Commit(error)) => {
                self.fail(&error);
                for job in batch {
                    let _gone = job.reply.send(Err(Error::unknown(error.to_string())));
                }
            }
        }
    }

    /// One transaction: everything of the batch or nothing.
    fn commit(&mut self, batch: &[Job]) -> Result<Vec<Result<Version, Error>>, Failure> {
        let running = self.clock.elapsed().saturating_sub(self.elapsed);
        let now = (self.started + running).timestamp_millis();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (first, modified) = last(&transaction)?;
        // No process's clock may take the store's time back.
        let (mut next, now) = (first, now.max(modified));
        let mut answers = Vec::with_capacity(batch.len());
        let mut rows = 0;
        for job in batch {
            next += 1;
            let changed = apply(&transaction, &job.key, &job.write, next, now)?;
            rows += changed;
            answers.push(match (&job.write, changed) {
                (Write::Create(body) | Write::Update(_, body), 0) => {
                    settle(body, find(&transaction, &job.key)?.as_ref(), false)
                }
                (Write::Remove(_), 0) if find(&transaction, &job.key)?.is_some() => Err(Error::Conflict),
                _ => Ok(version(next)),
            });
        }
        if rows == 0 {
            // Nothing to sync: a lost race costs no disk.
            return Ok(answers);
        }
        advance(&transaction, next, now)?;
        match transaction.commit() {
            Ok(()) => Ok(answers),
            Err(error) => Err(match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy) => Failure::RolledBack(error),
                _ => Failure::Commit(error),
            }),
        }
    }

    fn checkpoint(&mut self) {
        match checkpoint(&self.connection) {
            Ok(()) => self.logged = 0,
            Err(error) => match error.sqlite_error_code() {
                // The log keeps everything; the next one may find room, or the reader gone.
                Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {}
                _ => self.fail(&error),
            },
        }
    }

    fn fail(&self, error: &rusqlite::Error) {
        tracing::error!(%error, "the disk failed under records.db; what it still shows cannot be trusted");
        self.failure.send_replace(Some(format!("the disk failed under records.db: {error}").into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn writer(path: &std::path::Path) -> Writer {
        drop(super::super::LocalRecords::open(path, Arc::new(SystemClock::new())).unwrap());
        let (_, jobs) = mpsc::channel(1);
        let (failure, _) = watch::channel(None);
        Writer::new(Connection::open(path).unwrap(), jobs, Arc::new(SystemClock::new()), failure)
    }

    fn job(key: &str, write: Write) -> (Job, oneshot::Receiver<Result<Version, Error>>) {
        let (reply, answer) = oneshot::channel();
        (Job { key: key.to_owned(), write, reply }, answer)
    }

    #[test]
    fn a_full_disk_is_answered_and_space_that_returns_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = writer(&folder.path().join("records.db"));
        let put = |key: &str| job(key, Write::Put(vec![b'.'; 40_000].into()));
        let (first, mut answer) = put("first");
        writer.write(vec![first]);
        answer.try_recv().unwrap().unwrap();
        let pages: i64 = writer.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        writer.connection.pragma_update(None, "max_page_count", pages).unwrap();

        let ((large, mut refused), (delete, mut deleted)) = (put("large"), job("first", Write::Delete));
        writer.write(vec![large, delete]);
        assert!(matches!(refused.try_recv().unwrap(), Err(Error::Full)));
        deleted.try_recv().unwrap().unwrap();
        assert!(writer.failure.borrow().is_none());

        let (again, mut answer) = put("large");
        writer.write(vec![again]);
        answer.try_recv().unwrap().unwrap();
    }

    #[test]
    fn after_the_disk_failed_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = writer(&folder.path().join("records.db"));
        writer.fail(&rusqlite::Error::InvalidQuery);
        let (put, mut answer) = job("key", Write::Put(".".into()));
        writer.write(vec![put]);
        assert!(matches!(answer.try_recv().unwrap(), Err(Error::Unavailable(_))));
        assert!(find(&writer.connection, "key").unwrap().is_none());
    }
}
