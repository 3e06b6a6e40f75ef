//! The end of a right: first the truth, then the log.
//!
//! A record is marked, then `sys/authlog` grows by one entry, then the caller is answered. In the other order a replica could
//! cache the old record again after it had read the entry. Only losing a right writes here, so the log is nearly idle.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use storage::{Generation, Time, key, random_text, record};

use crate::{error::Error, id::Id, installation::Auth, refusal::Refusal};

/// Entries that the log remembers; a reader that fell further behind drops all it has cached.
const RING: usize = 512;
/// Entries of one generation before they become one `*`: who revokes in a loop empties only its own cache.
const PER_GENERATION: usize = 16;

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
}

impl What {
    fn text(&self) -> &str {
        match self {
            Self::Subject(id) => id.as_str(),
            Self::Everything => "*",
            Self::Keys => "keys",
            Self::Public => "public",
        }
    }
}

impl What {
    /// What an entry says. A word of a newer release ends everything of its generation.
    fn read(text: &str) -> Self {
        match text {
            "keys" => Self::Keys,
            "public" => Self::Public,
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

    fn append(&mut self, generation: &Generation, what: &What) {
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

/// A right was ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// From then on no replica honours it.
    #[serde(with = "crate::time::millis")]
    pub effective_by: Time,
}

impl Auth {
    /// Tells every replica that a right has ended, after the record that says so was written. Safe to repeat.
    pub(crate) async fn log_end(&self, generation: &Generation, what: What) -> Result<Time, Error> {
        let appended = record::modify(&*self.records, &key::authlog(), |log: &mut AuthLog| {
            log.append(generation, &what);
            Ok::<_, Error>(true)
        })
        .await?;
        let appended = appended.ok_or_else(|| storage::Error::corrupt("sys/authlog is gone"))?;
        // Here it holds from now on; the other replicas see it within the bound.
        self.watch.apply(&appended.value);
        Ok(self.clock.now() + TimeDelta::from_std(self.settings.bound).unwrap_or_default())
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
    fn an_entry_is_three_plain_values() {
        let log = log_of(1, &Generation::installation());
        assert_eq!(serde_json::to_string(&log.ring).unwrap(), r#"[[1,"000000000000","0000000000000000"]]"#);
    }
}
