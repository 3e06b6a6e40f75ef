//! One copier for backup, restore and move: from one pair of stores into another, while the source is served.
//!
//! Bytes never change and records are read referrer before referent, so what was copied is never ahead of what it needs; a pass
//! that is repeated copies what has changed since, and one that was killed is gone on with. The target is `filling` and is
//! refused by `serve` until all of it is there.
//!
//! - Keys, data ids and bodies stay as they are, so every credential, digest and pull Secret goes on working.
//! - A blob's bytes are there before the record that names them, and hashed on the way. What does not hash to its digest is left
//!   out and listed.
//! - Not copied: upload sessions, manifests in flight, work queues, holds, running servers. Made anew: shares, leases (from now
//!   on), marks for collection, orders to delete a repository. What was marked as dying lives.
//! - What is gone from the source goes from the target; bytes by way of a trash intent, as everywhere.
//!
//! Every source is read so, a folder's records too: no snapshot of them is needed.

mod blob;
mod compare;
mod discard;
mod hold;
mod mark;
mod merge;
mod overtaken;
mod repository;
mod rows;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use chrono::TimeDelta;
use futures::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Semaphore;

pub use self::{
    compare::{Content, Difference},
    mark::{Aim, agreed, release},
};
use self::{hold::Hold, merge::Merge, rows::Family};
use crate::{
    Account, Clock, Error, Generation, Time,
    backend::{Bytes, Records},
    format::{self, Mode, State},
    generation::{GenerationRecord, GenerationState},
    key, record,
};

/// The two halves of a store.
#[derive(Debug, Clone)]
pub struct Half {
    /// Its records.
    pub records: Arc<dyn Records>,
    /// Its bytes.
    pub bytes: Arc<dyn Bytes>,
}

/// Blobs under way at once.
const BLOBS: usize = 8;
/// Ids fall into so many turns.
const TURNS: usize = 64;
/// Repositories under way at once.
const REPOSITORIES: usize = 4;
/// Records of one list under way at once.
const AT_ONCE: usize = 16;
/// Data ids that are remembered as copied; more are forgotten, which costs a look and no more.
const REMEMBERED: usize = 100_000;
/// How far a bucket's time may be off from one key to the next. A folder's is exact.
const WOBBLE: TimeDelta = TimeDelta::minutes(10);

/// What a copy did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Repositories that were looked at.
    pub repositories: u64,
    /// Records, marks and descriptors that were written.
    pub records: u64,
    /// What was taken away because the source does not have it any more.
    pub removed: u64,
    /// Blobs whose bytes were copied.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What named something that was deleted meanwhile, and was left out.
    pub left_out: u64,
    /// What could not be copied because the source is damaged there.
    pub problems: u64,
}

/// [`Report`] while it grows.
#[derive(Debug, Default)]
struct Counts {
    repositories: AtomicU64,
    records: AtomicU64,
    removed: AtomicU64,
    blobs: AtomicU64,
    bytes: AtomicU64,
    left_out: AtomicU64,
    problems: AtomicU64,
}

/// Something that a person should know of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// Where: a repository, or a key.
    pub place: String,
    /// What.
    pub what: String,
}

/// How a copy is made.
pub struct Options<'a> {
    /// What for.
    pub aim: Aim,
    /// Where the records of the source lie.
    pub source_mode: Mode,
    /// Where those of the target lie.
    pub target_mode: Mode,
    /// How the operator names the source: a repeated copy from there copies what has changed.
    pub place: &'a str,
    /// How long promises last that are made anew.
    pub promise_life: TimeDelta,
    /// Told of what is damaged or left out, as it is met.
    pub told: &'a (dyn Fn(Told) + Sync),
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("aim", &self.aim).field("place", &self.place).finish_non_exhaustive()
    }
}

/// A copy under way.
pub struct Copier<'a> {
    source: &'a Half,
    target: &'a Half,
    clock: &'a dyn Clock,
    options: Options<'a>,
    hold: Hold<'a>,
    /// The same key in the target: what it is for is the target's time.
    stamp: Hold<'a>,
    counts: Counts,
    blobs: Semaphore,
    /// Held by whoever copies bytes of an id that falls there.
    turns: [tokio::sync::Mutex<()>; TURNS],
    copied: Mutex<HashSet<Box<str>>>,
    /// What the target has is the source's as it was then or later.
    floor: Mutex<Option<Time>>,
    /// When the pass began, in the target's time.
    began: Mutex<Time>,
}

impl std::fmt::Debug for Copier<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copier").field("options", &self.options).field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl<'a> Copier<'a> {
    /// Makes the target one of this copy, or goes on with it. [`Error::Refused`] says in one line why not.
    pub async fn begin(
        source: &'a Half,
        target: &'a Half,
        clock: &'a dyn Clock,
        options: Options<'a>,
    ) -> Result<Self, Error> {
        let copied = mark::claim(source, target, options.target_mode, options.place, options.aim).await?;
        Ok(Self {
            source,
            target,
            clock,
            options,
            hold: Hold::new(&*source.records, clock),
            stamp: Hold::new(&*target.records, clock),
            counts: Counts::default(),
            blobs: Semaphore::new(BLOBS),
            turns: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            copied: Mutex::default(),
            floor: Mutex::new(copied.floor),
            began: Mutex::default(),
        })
    }

    /// What was done so far.
    pub fn report(&self) -> Report {
        let now = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.counts;
        Report {
            repositories: now(&counts.repositories),
            records: now(&counts.records),
            removed: now(&counts.removed),
            blobs: now(&counts.blobs),
            bytes: now(&counts.bytes),
            left_out: now(&counts.left_out),
            problems: now(&counts.problems),
        }
    }

    /// Does something under the hold: while it goes on, the source deletes no bytes.
    pub async fn held<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.hold.put().await?;
        let outcome = tokio::select! {
            outcome = work => outcome,
            lost = self.hold.keep() => Err(lost),
        };
        self.hold.release().await;
        outcome
    }

    /// Brings the target to where the source is now: all that is not there, all that has changed, and nothing that is gone.
    pub async fn pass(&self) -> Result<(), Error> {
        let began = self.hold.put().await? - wobble(self.options.source_mode);
        let here = self.stamp.put().await? - wobble(self.options.target_mode);
        *self.began.lock() = here;
        // What a killed first run leaves behind was read after this.
        mark::began(&*self.target.records, began).await?;
        for key in [key::install(), key::signing_keys(), key::authlog(), key::public_accounts()] {
            self.single(&key).await?;
        }
        for prefix in [key::operator_keys(), key::hosts(), key::accounts(), key::generations(), key::authorities()] {
            self.rows(&prefix, Family::Records).await?;
        }
        self.audit().await?;
        let prefix = key::generations();
        let mut generations = Merge::new(&prefix, Some(&*self.source.records), &*self.target.records);
        while let Some(row) = generations.next().await? {
            let Ok(generation) = row.name.parse::<Generation>() else { continue };
            let key = key::generation(&generation);
            // Read from the target: what was made since belongs to the next pass.
            let Some(found) = record::read::<GenerationRecord>(&*self.target.records, &key).await? else { continue };
            #[expect(clippy::disallowed_methods, reason = "the generation itself was read")]
            let account = Account::new(found.value.name, generation);
            self.account(&account, found.value.state == GenerationState::Live).await?;
        }
        discard::discard(self.target).await?;
        *self.floor.lock() = Some(began);
        self.stamp.release().await;
        mark::reached(&*self.target.records, began).await
    }

    /// The audit alone: what a source that is not served any more has said last.
    pub async fn audit(&self) -> Result<(), Error> {
        self.rows(&key::all_audits(), Family::Fixed).await.map(drop)
    }

    /// What an account stores.
    async fn account(&self, account: &Account, living: bool) -> Result<(), Error> {
        let prefix = key::repositories(account);
        let mut all = Merge::new(&prefix, Some(&*self.source.records), &*self.target.records);
        let mut running = FuturesUnordered::new();
        while let Some(mut row) = all.next().await? {
            if !living {
                // What lies below a generation that was deleted is swept at the source.
                row.source = None;
            }
            if running.len() >= REPOSITORIES
                && let Some(outcome) = running.next().await
            {
                outcome?;
            }
            running.push(self.repository(account, row));
        }
        while let Some(outcome) = running.next().await {
            outcome?;
        }
        if living {
            self.rows(&key::all_news(account), Family::Changing).await?;
            self.rows(&key::hints(account), Family::Records).await?;
            self.rows(&key::usages(account), Family::Records).await?;
            self.single(&key::retention(account)).await?;
        }
        Ok(())
    }

    /// The store of bytes and records is complete and may be served. Of a backup the mark stays, so that it can be repeated.
    pub async fn open(&self) -> Result<(), Error> {
        format::set_state(&*self.target.records, State::Open).await?;
        if self.options.aim == Aim::Backup { Ok(()) } else { mark::release(&*self.target.records).await }
    }

    /// Remembers in the target that it is the same as the frozen source, which may be marked as moved from now on.
    pub async fn agree(&self) -> Result<(), Error> {
        mark::same(&*self.target.records).await
    }

    /// Whether this pass may have written what the target has had since `modified`.
    fn may_be_of_this_pass(&self, modified: Time) -> bool {
        modified >= *self.began.lock()
    }

    fn tell(&self, place: &(impl ToString + ?Sized), what: impl Into<String>) {
        (self.options.told)(Told { place: place.to_string(), what: what.into() });
    }

    fn problem(&self, place: &(impl ToString + ?Sized), what: impl Into<String>) {
        self.counts.problems.fetch_add(1, Ordering::Relaxed);
        self.tell(place, what);
    }

    /// Whether what was written at `modified` may be newer than what the target has of it.
    fn may_be_new(&self, modified: Time) -> bool {
        self.floor.lock().is_none_or(|floor| modified >= floor)
    }
}

/// How far the time of a store may be off.
fn wobble(mode: Mode) -> TimeDelta {
    match mode {
        Mode::Local | Mode::Split => TimeDelta::zero(),
        Mode::Remote => WOBBLE,
    }
}
