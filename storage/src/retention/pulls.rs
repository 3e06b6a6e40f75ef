//! Who was pulled when: a day for each tag and manifest, and what a process remembers of it and of rules.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use chrono::NaiveDate;
use parking_lot::Mutex;

use crate::{
    Account, Digest, Error, Generation, Reference, Repository, Store,
    key::{self, PlainKey},
};

/// Marks that wait to be written; above it a pull is not noted.
const WAITING: usize = 10_000;
/// Marks of today that are remembered, so that each is written once; above it they are forgotten and written again.
const REMEMBERED: usize = 50_000;
/// Marks written at once, and in one go.
const AT_ONCE: usize = 16;
const IN_ONE_GO: usize = 500;
/// Accounts of which it is remembered whether they have rules.
const ACCOUNTS: usize = 16_384;

/// What this process has to write of pulls, and knows of rules.
#[derive(Debug, Default)]
pub struct Pulls {
    marks: Mutex<Marks>,
    rules: Mutex<HashMap<Generation, (bool, Duration)>>,
    /// Accounts whose rules were changed here.
    changed: Mutex<Vec<Account>>,
}

#[derive(Debug, Default)]
struct Marks {
    day: NaiveDate,
    noted: HashSet<PlainKey>,
    waiting: Vec<PlainKey>,
}

impl Pulls {
    /// Notes that a manifest was pulled, by a tag or by its digest: it waits for nothing and may be lost.
    pub fn pulled(&self, store: &Store, repository: &Repository, reference: &Reference, digest: &Digest) {
        if store.writable().is_err() {
            return;
        }
        let today = store.now().date_naive();
        let mut marks = self.marks.lock();
        if marks.day != today || marks.noted.len() >= REMEMBERED {
            (marks.day, marks.noted) = (today, HashSet::new());
        }
        let tag = match reference {
            Reference::Tag(tag) => Some(key::last_pull_tag(repository, tag)),
            Reference::Digest(_) => None,
        };
        for mark in tag.into_iter().chain([key::last_pull(repository, digest)]) {
            if marks.waiting.len() < WAITING && marks.noted.insert(mark.clone()) {
                marks.waiting.push(mark);
            }
        }
    }

    pub(super) fn known(&self, account: &Account, now: Duration, no_longer: Duration) -> Option<bool> {
        let rules = self.rules.lock();
        rules.get(account.generation()).filter(|(_, at)| now.saturating_sub(*at) < no_longer).map(|(any, _)| *any)
    }

    pub(super) fn learnt(&self, account: &Account, any: bool, now: Duration) {
        let mut rules = self.rules.lock();
        if rules.len() >= ACCOUNTS {
            rules.clear();
        }
        rules.insert(account.generation().clone(), (any, now));
    }

    pub(super) fn changed(&self, account: &Account) {
        self.rules.lock().remove(account.generation());
        let mut changed = self.changed.lock();
        if !changed.contains(account) {
            changed.push(account.clone());
        }
    }

    pub(super) fn take_changed(&self) -> Vec<Account> {
        std::mem::take(&mut *self.changed.lock())
    }
}

/// Writes what was noted of pulls, a bounded number of marks. Called once a second, and when the last request has ended.
pub async fn flush(store: &Store) -> Result<(), Error> {
    let (day, marks) = {
        let mut marks = store.retention().marks.lock();
        let rest = marks.waiting.len().saturating_sub(IN_ONE_GO);
        (marks.day, marks.waiting.split_off(rest))
    };
    let mut outcome = Ok(());
    for some in marks.chunks(AT_ONCE) {
        let puts = some.iter().map(|mark| store.records().put(mark, day.to_string().into()));
        for (mark, put) in some.iter().zip(futures::future::join_all(puts).await) {
            if put.is_err() {
                // The next pull of today tries again.
                store.retention().marks.lock().noted.remove(mark);
            }
            outcome = outcome.and(put);
        }
    }
    outcome
}

/// The day that a mark says, if it is there.
pub(super) async fn day(store: &Store, mark: &PlainKey) -> Result<Option<NaiveDate>, Error> {
    let found = store.records().get_plain(mark).await?;
    Ok(found.and_then(|found| std::str::from_utf8(&found.body).ok()?.parse().ok()))
}
