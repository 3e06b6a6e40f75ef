//! Collection: one bounded pass over one repository, which no push can be hurt by.
//!
//! A push flags first and looks second: it writes *pending*, which names what its manifest will, then looks at every member. A pass
//! does the same the other way round: it marks a member *dying* by compare-and-swap, and only a later pass, one that began after the
//! marking one had ended, looks at pendings and manifests again and removes the member by the version it then reads. So one of the
//! two sees the other, whatever interleaves and whoever dies, and no clock is needed for it. Clocks only bound how long a promise
//! without a manifest lasts.
//!
//! A pass deletes no bytes: it leaves an intent, and [`crate::trash`] looks later whether anybody uses them.

mod filter;
mod mark;
mod member;
pub mod reclaimable;

use std::collections::HashSet;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::{
    Digest, Error, Repository, Store, Time,
    key::{self, PlainKey},
    record::{self, Document},
    work,
};
use member::Verdict;
use reclaimable::Reclaimable;

/// The collection cursor of a repository. Advice: whoever ignores it wastes work and harms nothing, but for `ended`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Cursor {
    /// The pass that began last.
    pass: String,
    /// Whether it goes on.
    #[serde(default)]
    running: bool,
    /// Passes that have ended, the newest last: what they marked was marked before whoever reads this began.
    #[serde(default)]
    ended: Vec<String>,
    /// What they marked and nobody has looked at since.
    #[serde(default)]
    marked: Vec<Digest>,
    /// When the last one ended, and how long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_at: Option<Time>,
    #[serde(default)]
    took_ms: i64,
    /// Digests that its pendings and manifests named, each as often as it was.
    #[serde(default)]
    references: u64,
    /// What the last round found that it could free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reclaimable: Option<Reclaimable>,
}

/// Ended passes that a cursor remembers.
const ENDED: usize = 8;
/// Members that one pass marks at most; the rest is for the next one.
const MARKED: usize = 4096;
/// A pass that began so long ago and has not ended died, or is of a repository so large that a second worker is no waste.
const ABANDONED: TimeDelta = TimeDelta::minutes(30);
/// Rows of a page, and records looked at at once.
const PAGE: usize = 1000;
const AT_ONCE: usize = 16;

/// What a pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Pass {
    /// Manifests that were read.
    pub manifests: u64,
    /// Blobs that the repository contains.
    pub blobs: u64,
    /// Members that were marked.
    pub marked: u64,
    /// Marked ones that something names again.
    pub revived: u64,
    /// Members that were removed, and their bytes. Others may share them.
    pub removed: u64,
    /// See `removed`.
    pub removed_bytes: u64,
    /// Members that nothing names and that are promised still, or marked, and their bytes.
    pub waiting: u64,
    /// See `waiting`.
    pub waiting_bytes: u64,
}

/// What became of a wish to collect a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was collected.
    Passed(Pass),
    /// Somebody else is at it.
    Elsewhere,
    /// The last pass was a moment ago.
    TooSoon,
}

/// Takes one repository whose mark is due, and passes over it. `Ok(None)`: no mark is due.
pub async fn next(store: &Store) -> Result<Option<Outcome>, Error> {
    store.writable()?;
    let prefix = key::dirty_all();
    let (entries, _) = work::page(store, &prefix, None, work::collected_until(store)).await?;
    let Some(oldest) = entries.first().map(|entry| entry.hour) else { return Ok(None) };
    // A random one of the oldest hour, so that replicas seldom take the same.
    let entries: Vec<_> = entries.into_iter().take_while(|entry| entry.hour == oldest).collect();
    let Some(entry) = rand::seq::IndexedRandom::choose(entries.as_slice(), &mut rand::rng()) else { return Ok(None) };
    let Some(repository) = entry.repository(store).await? else {
        // Of an account that is gone: it is swept as a whole.
        store.records().delete(&entry.key).await?;
        return Ok(Some(Outcome::Passed(Pass::default())));
    };
    let outcome = marked(store, &repository, &entry.key).await?;
    Ok(Some(outcome))
}

/// A pass over a repository that a mark names. The mark goes last, so that a pass that died begins again.
async fn marked(store: &Store, repository: &Repository, mark: &PlainKey) -> Result<Outcome, Error> {
    let passed = pass(store, repository, false).await;
    let again = match &passed {
        Ok((Outcome::Passed(_), again)) => *again,
        // Whoever is at it now may have begun before what this mark is about.
        Ok((Outcome::Elsewhere | Outcome::TooSoon, _)) => Some(store.now()),
        // A repository that cannot be collected must not keep the others from their turn.
        Err(_) => Some(store.now() + store.lives().mark),
    };
    let left = match again {
        Some(when) => Some(work::collect_at(store, repository, when).await?),
        None => None,
    };
    if left.as_ref() != Some(mark) {
        store.records().delete(mark).await?;
    }
    passed.map(|(outcome, _)| outcome)
}

/// Passes over a repository, whether a mark names it or not; what is left to do is left to a mark.
pub async fn collect(store: &Store, repository: &Repository) -> Result<Outcome, Error> {
    left_to_a_mark(store, repository, false).await
}

/// The same by hand: however short ago the last pass was.
pub async fn collect_now(store: &Store, repository: &Repository) -> Result<Outcome, Error> {
    left_to_a_mark(store, repository, true).await
}

async fn left_to_a_mark(store: &Store, repository: &Repository, now: bool) -> Result<Outcome, Error> {
    store.writable()?;
    let (outcome, again) = pass(store, repository, now).await?;
    if let Some(when) = again {
        work::collect_at(store, repository, when).await?;
    }
    Ok(outcome)
}

/// The slow round's visit: a pass if none was made within a day, for work that no mark leads to; and what the repository
/// could free.
pub async fn visit(store: &Store, repository: &Repository) -> Result<(Outcome, Reclaimable), Error> {
    store.writable()?;
    let key = key::cursor(repository);
    if let Some(found) = record::read::<Cursor>(store.records(), &key).await?
        && let Some(known) = found.value.reclaimable
        && found.value.ended_at.is_some_and(|at| store.now() < at + store.lives().round)
    {
        return Ok((Outcome::TooSoon, known));
    }
    let outcome = collect(store, repository).await?;
    let reclaimable = reclaimable::repository(store, repository).await?;
    record::modify::<Cursor, Error>(store.records(), &key, |cursor| {
        cursor.reclaimable = Some(reclaimable);
        Ok(true)
    })
    .await?;
    Ok((outcome, reclaimable))
}

/// One pass, and when the next one has something to do.
async fn pass(store: &Store, repository: &Repository, now: bool) -> Result<(Outcome, Option<Time>), Error> {
    let key = key::cursor(repository);
    let found = record::read::<Cursor>(store.records(), &key).await?;
    if found.is_none()
        && store.records().page(&key::members(repository), None, 1).await?.is_empty()
        && store.records().page(&key::pendings(repository), None, 1).await?.is_empty()
    {
        return Ok((Outcome::Passed(Pass::default()), None));
    }
    let before = found.as_ref().map(|found| found.value.clone()).unwrap_or_default();
    if found.as_ref().is_some_and(|found| busy(store, found)) {
        return Ok((Outcome::Elsewhere, None));
    }
    // A twentieth of one worker's time, at most, goes to one repository.
    let apart = TimeDelta::milliseconds(before.took_ms.saturating_mul(i64::from(store.lives().rest) + 1));
    if !now && before.ended_at.is_some_and(|at| store.now() < at + apart) {
        return Ok((Outcome::TooSoon, None));
    }
    let begun = store.elapsed();
    let id = crate::random_text(16);
    let taken = Cursor { pass: id.clone(), running: true, ..before.clone() };
    let written = match found {
        None => record::create(store.records(), &key, taken).await.map(|_| ()),
        Some(mut found) => {
            found.value = taken;
            record::update(store.records(), &key, &mut found).await
        }
    };
    match written {
        Ok(()) => {}
        Err(Error::Conflict) => return Ok((Outcome::Elsewhere, None)),
        Err(other) => return Err(other),
    }
    // The store's own time of what was just written: every age below is against it.
    let Some(began) = record::read::<Cursor>(store.records(), &key).await?.and_then(|found| found.modified()) else {
        return Ok((Outcome::Elsewhere, None));
    };

    let needed = mark::needed(store, repository, began, before.references + before.references / 4).await?;
    let mut sweep = Sweep {
        store,
        repository,
        id: &id,
        began,
        ended: &before.ended,
        listed: before.marked.iter().cloned().collect(),
        needed: needed.filter,
        pass: Pass { manifests: needed.manifests, ..Pass::default() },
        marked: Vec::new(),
        again: None,
    };
    sweep.run().await?;
    let Sweep { pass, marked, again, needed: filter, .. } = sweep;

    let took_ms = i64::try_from(store.elapsed().saturating_sub(begun).as_millis()).unwrap_or(i64::MAX);
    let ended_at = store.now();
    record::modify::<Cursor, Error>(store.records(), &key, |cursor| {
        if cursor.pass == id {
            cursor.running = false;
        }
        cursor.ended.push(id.clone());
        let excess = cursor.ended.len().saturating_sub(ENDED);
        cursor.ended.drain(..excess);
        // What another worker marked meanwhile stays listed beside ours.
        let handled: HashSet<&Digest> = before.marked.iter().chain(&marked).collect();
        cursor.marked.retain(|digest| !handled.contains(digest));
        cursor.marked.extend(marked.iter().cloned());
        cursor.marked.truncate(MARKED);
        (cursor.ended_at, cursor.took_ms, cursor.references) = (Some(ended_at), took_ms, filter.taken());
        Ok(true)
    })
    .await?;
    Ok((Outcome::Passed(pass), again))
}

fn busy(store: &Store, found: &Document<Cursor>) -> bool {
    let age = found.modified().map(|at| store.now() - at);
    // Under test everything is short, and a pass that died is not waited for.
    let abandoned = ABANDONED.min(store.lives().in_flight);
    found.value.running && age.is_some_and(|age| age < abandoned)
}

/// Phase B.
struct Sweep<'a> {
    store: &'a Store,
    repository: &'a Repository,
    id: &'a str,
    began: Time,
    ended: &'a [String],
    /// What earlier passes marked: looked at although its mark is young.
    listed: HashSet<Digest>,
    needed: filter::Filter,
    pass: Pass,
    marked: Vec<Digest>,
    again: Option<Time>,
}

impl Sweep<'_> {
    async fn run(&mut self) -> Result<(), Error> {
        let prefix = key::members(self.repository);
        let young = self.began - self.store.lives().promise;
        let mut after: Option<String> = None;
        loop {
            let entries = self.store.records().page(&prefix, after.as_deref(), PAGE).await?;
            let mut looked_at = Vec::new();
            for entry in &entries {
                self.pass.blobs += 1;
                let Ok(digest) = Digest::from_dashed(&entry.name) else { continue };
                let listed = self.listed.contains(&digest);
                if self.needed.contains(&digest) && !listed {
                    continue;
                }
                if entry.modified > young && !listed {
                    // Its lease cannot have ended.
                    self.pass.waiting += 1;
                    self.again_at(entry.modified + self.store.lives().promise);
                    continue;
                }
                looked_at.push(digest);
            }
            for some in looked_at.chunks(AT_ONCE) {
                self.look_at(some).await?;
            }
            if entries.len() < PAGE {
                return Ok(());
            }
            after = entries.last().map(|entry| entry.name.clone());
        }
    }

    async fn look_at(&mut self, digests: &[Digest]) -> Result<(), Error> {
        let room = MARKED.saturating_sub(self.marked.len());
        let this = &*self;
        let judged = digests.iter().enumerate().map(|(n, digest)| this.judge(digest, n < room));
        let verdicts = futures::future::try_join_all(judged).await?;
        for (verdict, digest) in verdicts.into_iter().zip(digests) {
            match verdict {
                Verdict::Stays => {}
                Verdict::Revived => self.pass.revived += 1,
                Verdict::Waits { until, bytes } => {
                    self.pass.waiting += 1;
                    self.pass.waiting_bytes += bytes;
                    self.again_at(until);
                }
                Verdict::Marked { bytes } => {
                    self.pass.marked += 1;
                    self.pass.waiting += 1;
                    self.pass.waiting_bytes += bytes;
                    self.marked.push(digest.clone());
                    self.again_at(self.store.now());
                }
                Verdict::Removed { bytes } => {
                    self.pass.removed += 1;
                    self.pass.removed_bytes += bytes;
                }
            }
        }
        Ok(())
    }

    fn again_at(&mut self, when: Time) {
        let when = when.max(self.store.now());
        self.again = Some(self.again.map_or(when, |before| before.min(when)));
    }
}
