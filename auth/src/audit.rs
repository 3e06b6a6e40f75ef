//! The audit: who did what, and who let whom do what, one JSON line an event, kept apart for each account.
//!
//! - Lines are written in batches that nothing changes later. Each batch names the one before it by its SHA-256, one chain for
//!   each process and account ([`batch`]); [`verify`] follows the chains, and a head kept elsewhere binds even who can rewrite the
//!   store.
//! - What grants or ends a right is written before the caller is answered ([`Auth::record`]); what only uses one waits for the next
//!   batch ([`Auth::note`]) and never makes anybody wait. While the store is away a bounded number of lines waits; the rest is
//!   counted, in a metric and in the next batch of the account.
//! - No line holds a secret, a token or a hash of one: what clients write freely is cut short and relieved of anything that looks
//!   like a secret of ours ([`event`]).

mod batch;
mod chain;
pub mod csv;
mod event;
mod origin;
mod points;
mod read;
mod stale;
mod sweep;
mod throttle;
mod verify;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use storage::Generation;
use tokio::sync::Notify;

use self::{chain::Chain, stale::Stale, throttle::Throttled};
pub use self::{
    event::{Entry, Event, Happened, Outcome, Party, PartyKind},
    origin::Origin,
    verify::{Break, Head, Verified},
};
use crate::{error::Error, id::Id, installation::Auth};

/// Bytes of one batch, from which on it is not waited for more.
const BATCH: usize = 256 << 10;
/// Bytes of lines that wait, over all accounts.
const WAITING: usize = 16 << 20;
/// The part of them that only what grants or ends a right may use.
const RESERVED: usize = 1 << 20;
/// Chains that are remembered; one that is forgotten at rest ends, and the account's next event begins another.
const CHAINS: usize = 16_384;
/// Accounts whose batches are written at once.
const AT_ONCE: usize = 16;

/// What waits to be written, and where the chains stand.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    chains: Mutex<HashMap<Generation, Arc<Chain>>>,
    waiting: AtomicUsize,
    written: AtomicU64,
    dropped: AtomicU64,
    full: Notify,
    pub(crate) throttled: Throttled,
    pub(crate) stale: Stale,
}

/// How much of the audit a process has written, and has yet to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditCounts {
    /// Events that are in the store.
    pub written: u64,
    /// Events that were lost because too many waited.
    pub dropped: u64,
    /// Bytes of events that wait.
    pub waiting: usize,
}

impl Auth {
    /// Notes what has been done or refused: it is written with the next batch. Never waits; what finds no room is counted.
    pub fn note(&self, entry: Entry) {
        self.wait(entry, WAITING - RESERVED);
    }

    /// Writes down what granted or ended a right, before its caller is answered. [`Error::NotAudited`] if it is not in the store:
    /// what was done is done, and the line is written when the store is back.
    pub async fn record(&self, entry: Entry) -> Result<(), Error> {
        let full = || Error::NotAudited(storage::Error::unavailable("too much of the audit waits to be written"));
        let (chain, ticket) = self.wait(entry, WAITING).ok_or_else(full)?;
        self.write(&chain, ticket + 1).await.map_err(Error::NotAudited)
    }

    /// Puts an event into its account's next batch.
    fn wait(&self, entry: Entry, most: usize) -> Option<(Arc<Chain>, u64)> {
        let now = self.clock.now();
        let (generation, line) = entry.line(now);
        let audit = &self.audit;
        let mut chains = audit.chains.lock();
        if chains.len() >= CHAINS && !chains.contains_key(&generation) {
            chains.retain(|_, chain| Arc::strong_count(chain) > 1 || !chain.rests());
        }
        let chain = chains
            .entry(generation)
            .or_insert_with_key(|generation| Arc::new(Chain::new(generation.clone(), Id::new(now))));
        let before = audit.waiting.load(Ordering::Relaxed);
        if before + line.len() > most {
            chain.lose();
            audit.dropped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        audit.waiting.fetch_add(line.len(), Ordering::Relaxed);
        let (ticket, bytes) = chain.wait(line);
        if bytes >= BATCH {
            audit.full.notify_one();
        }
        Some((Arc::clone(chain), ticket))
    }

    /// Writes what waits in a chain below this ticket, in batches.
    async fn write(&self, chain: &Chain, below: u64) -> Result<(), storage::Error> {
        let mut writer = chain.writer.lock().await;
        while writer.durable < below {
            let Some(body) = writer.next(chain, self.clock.now()) else { break };
            self.records.put(&body.key, body.bytes.clone()).await?;
            let (lines, bytes) = writer.advance(chain);
            self.audit.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.audit.written.fetch_add(lines, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Writes what waits now, of every account; the first failure, after all were tried.
    pub async fn flush_audit(&self) -> Result<(), Error> {
        self.audit.throttled.tick(self.clock.elapsed());
        if self.stands() {
            self.note_stale();
        }
        let chains: Vec<_> = self.audit.chains.lock().values().filter(|chain| !chain.rests()).cloned().collect();
        let mut outcomes = Vec::new();
        for chains in chains.chunks(AT_ONCE) {
            let writes = chains.iter().map(|chain| self.write(chain, chain.tickets()));
            outcomes.extend(futures::future::join_all(writes).await);
        }
        Ok(outcomes.into_iter().collect::<Result<(), _>>()?)
    }

    /// Ends when an account has a whole batch waiting.
    pub async fn audit_full(&self) {
        self.audit.full.notified().await;
    }

    /// How much of the audit this process has written, lost, and has waiting.
    pub fn audit_counts(&self) -> AuditCounts {
        let audit = &self.audit;
        AuditCounts {
            written: audit.written.load(Ordering::Relaxed),
            dropped: audit.dropped.load(Ordering::Relaxed),
            waiting: audit.waiting.load(Ordering::Relaxed),
        }
    }
}
