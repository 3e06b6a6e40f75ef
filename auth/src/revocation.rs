//! The end of a right: first the truth, then the log.
//!
//! A record is marked, then `sys/authlog` grows by one entry, then the caller is answered. In the other order a replica could
//! cache the old record again after it had read the entry. Only losing a right writes here, so the log is nearly idle.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use chrono::TimeDelta;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use storage::{Generation, Time, backend::Records, key, random_text, record};

use crate::{error::Error, id::Id, installation::Auth, refusal::Refusal};

/// Entries that the log remembers; a reader that fell further behind drops all it has cached.
const RING: usize = 512;
/// Entries of one generation before they become one `*`: who revokes in a loop empties only its own cache.
const PER_GENERATION: usize = 16;

/// Entries of one append before they become one that ends everything.
const PER_APPEND: usize = 200;

/// `sys/authlog`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AuthLog {
    seq: u64,
    /// Changes when the store is restored from a backup.
    epoch: String,
    ring: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry(u64, Generation, String);

/// What ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// A key, a credential, or anything else that is a parent of credentials.
    Subject(Id),
    /// Something of the whole account.
    Everything,
    /// Signing keys.
    Keys,
    /// What is public.
    Public,
    /// Names of the account's own.
    Hosts,
    /// Everything of every account: more ended at once than is worth telling apart.
    All,
}

impl What {
    fn text(&self) -> &str {
        match self {
            Self::Subject(id) => id.as_str(),
            Self::Everything => "*",
            Self::Keys => "keys",
            Self::Public => "public",
            Self::Hosts => "hosts",
            Self::All => "all",
        }
    }
}

impl What {
    /// What an entry says. A word of a newer release ends everything of its generation.
    fn read(text: &str) -> Self {
        match text {
            "keys" => Self::Keys,
            "public" => Self::Public,
            "hosts" => Self::Hosts,
            "all" => Self::All,
            id => id.parse().map_or(Self::Everything, Self::Subject),
        }
    }
}

impl AuthLog {
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    pub(crate) fn epoch(&self) -> &str {
        &self.epoch
    }

    /// The oldest entry's number; of an empty log, what the first one will have.
    pub(crate) fn oldest(&self) -> u64 {
        self.ring.first().map_or(self.seq + 1, |entry| entry.0)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (u64, &Generation, What)> {
        self.ring.iter().map(|Entry(seq, generation, what)| (*seq, generation, What::read(what)))
    }

    /// A new installation's: empty.
    pub(crate) fn first() -> Self {
        Self { seq: 0, epoch: random_text(12), ring: Vec::new() }
    }

    fn append_group(&mut self, group: &[(Generation, What)]) {
        if group.len() > PER_APPEND {
            self.append(&Generation::installation(), &What::All);
        } else {
            for (generation, what) in group {
                self.append(generation, what);
            }
        }
    }

    pub(crate) fn append(&mut self, generation: &Generation, what: &What) {
        self.seq += 1;
        let mut what = what.text();
        let own = |entry: &Entry| entry.1 == *generation;
        if self.ring.iter().filter(|entry| own(entry)).count() >= PER_GENERATION {
            // The account's entries are dropped for one that says more than all of them and is newer than each.
            self.ring.retain(|entry| !own(entry));
            what = "*";
        }
        self.ring.push(Entry(self.seq, generation.clone(), what.to_owned()));
        let excess = self.ring.len().saturating_sub(RING);
        self.ring.drain(..excess);
    }
}

/// Begins a new epoch of the log of ended rights: whoever cached anything of this store before forgets it. For a store that was
/// restored and is not served yet.
pub async fn new_epoch(records: &dyn Records) -> Result<(), Error> {
    record::modify(records, &key::authlog(), |log: &mut AuthLog| {
        log.epoch = random_text(12);
        Ok::<_, Error>(true)
    })
    .await
    .map(drop)
}

/// A right was ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// From then on no replica honours it.
    #[serde(with = "crate::time::millis")]
    pub effective_by: Time,
}

/// Ends of rights on their way into the log. The first goes at once; what comes while it is on its way, or within the pause after
/// it, goes together: some buckets take one write a second of one object.
#[derive(Debug, Default)]
pub(crate) struct Appends {
    next: Mutex<Arc<Group>>,
    /// When the last append began; whoever holds this appends.
    turn: tokio::sync::Mutex<Option<Duration>>,
}

/// What goes into the log together.
#[derive(Debug, Default)]
struct Group {
    ends: Mutex<Vec<(Generation, What)>>,
    /// How it went; until then each who waits for it is ready to do it.
    outcome: OnceLock<Result<(), String>>,
}

impl Auth {
    /// Tells every replica that a right has ended, after the record that says so was written. Safe to repeat.
    pub(crate) async fn log_end(&self, generation: &Generation, what: What) -> Result<Time, Error> {
        let group = {
            let next = self.appends.next.lock();
            next.ends.lock().push((generation.clone(), what));
            Arc::clone(&next)
        };
        let mut turn = self.appends.turn.lock().await;
        if group.outcome.get().is_none() {
            if let Some(last) = *turn {
                let since = self.clock.elapsed().saturating_sub(last);
                tokio::time::sleep(self.settings.append_pause.saturating_sub(since)).await;
            }
            // Nobody joins any more. Whoever waits finds the group done, or does it if this caller is gone before it is.
            let ends = {
                let mut next = self.appends.next.lock();
                if Arc::ptr_eq(&next, &group) {
                    *next = Arc::default();
                }
                group.ends.lock().clone()
            };
            *turn = Some(self.clock.elapsed());
            let appended = self.append(&ends).await;
            let _first = group.outcome.set(match &appended {
                Ok(()) => Ok(()),
                Err(error) => Err(error.to_string()),
            });
            appended?;
        }
        drop(turn);
        match group.outcome.get() {
            Some(Ok(())) => Ok(self.clock.now() + TimeDelta::from_std(self.settings.bound).unwrap_or_default()),
            Some(Err(error)) => Err(storage::Error::unavailable(error.clone()).into()),
            None => Err(storage::Error::unavailable("sys/authlog was not written").into()),
        }
    }

    async fn append(&self, ends: &[(Generation, What)]) -> Result<(), Error> {
        let appended = record::modify(&*self.records, &key::authlog(), |log: &mut AuthLog| {
            log.append_group(ends);
            Ok::<_, Error>(true)
        })
        .await?;
        let appended = appended.ok_or_else(|| storage::Error::corrupt("sys/authlog is gone"))?;
        // Here it holds from now on; the other replicas see it within the bound.
        self.watch.apply(&appended.value);
        Ok(())
    }

    /// The admission that one revocation needs: five a second in one account, so that nobody floods the log.
    pub(crate) fn revocation<'a>(&'a self, generation: &'a Generation) -> Admission<'a> {
        Admission { auth: self, generation, given: false }
    }
}

/// Asked for once it is known that there is something to end and that the caller may end it: a key that may not, which may be
/// a customer's, uses up nothing.
pub(crate) struct Admission<'a> {
    auth: &'a Auth,
    generation: &'a Generation,
    given: bool,
}

impl Admission<'_> {
    /// Takes one of the account's; asking again, as a change that lost a race does, takes no second.
    pub(crate) fn ask(&mut self) -> Result<(), Refusal> {
        if !self.given {
            let (auth, generation) = (self.auth, self.generation.clone());
            auth.revocations.take(generation, auth.clock.elapsed()).map_err(Refusal::Throttled)?;
            self.given = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_of(entries: usize, generation: &Generation) -> AuthLog {
        let mut log = AuthLog::first();
        for _ in 0..entries {
            log.append(generation, &What::Subject(Id::operator()));
        }
        log
    }

    #[test]
    fn one_account_s_many_entries_become_one_that_says_everything() {
        let (loud, quiet) = (Generation::random(), Generation::random());
        let mut log = AuthLog::first();
        log.append(&quiet, &What::Public);
        for _ in 0..=PER_GENERATION {
            log.append(&loud, &What::Subject(Id::operator()));
        }
        assert_eq!(log.seq, 18);
        assert_eq!(log.ring, [Entry(1, quiet, "public".into()), Entry(18, loud, "*".into())]);
    }

    #[test]
    fn the_ring_is_bounded_and_keeps_the_newest() {
        let mut log = AuthLog::first();
        for _ in 0..2000 {
            log.append(&Generation::random(), &What::Everything);
        }
        assert_eq!(log.ring.len(), RING);
        assert_eq!(log.ring.last().map(|entry| entry.0), Some(2000));
        assert_eq!(log.ring.first().map(|entry| entry.0), Some(1489));
    }

    #[test]
    fn very_many_at_once_become_one_that_says_all() {
        let group = |size| (0..size).map(|_| (Generation::random(), What::Everything)).collect::<Vec<_>>();
        let mut log = AuthLog::first();
        log.append_group(&group(PER_APPEND));
        assert_eq!((log.seq, log.ring.len()), (200, 200));
        log.append_group(&group(PER_APPEND + 1));
        assert_eq!(log.ring.last(), Some(&Entry(201, Generation::installation(), "all".into())));
    }

    #[test]
    fn an_entry_is_three_plain_values() {
        let log = log_of(1, &Generation::installation());
        assert_eq!(serde_json::to_string(&log.ring).unwrap(), r#"[[1,"000000000000","0000000000000000"]]"#);
    }
}
