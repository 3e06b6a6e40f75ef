//! The recount: an account is counted, and if no counter moved meanwhile the count is the new base.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{
    count,
    counter::{BASE, Base, Read, Sum, read},
};
use crate::{
    Account, Error, Store,
    generation::Round,
    key,
    record::{self, Document},
};

/// How long after the count the counters are looked at again: every process has written what it had noted by then.
const SETTLED: Duration = Duration::from_secs(3);
/// A base as old as this is made anew if a counter has moved.
const MOVED: chrono::Duration = chrono::Duration::days(1);
/// And whatever the counters say: what a process lost with its life moved none.
const OLD: chrono::Duration = chrono::Duration::days(7);
/// A counter that its process has not written for so long goes once a base holds it.
const FORGOTTEN: chrono::Duration = chrono::Duration::days(2);

/// What a turn of a [`Recounter`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// A part of some account was counted; the next turn goes on.
    Counted,
    /// Waits for every process to have written its counter.
    Settling,
    /// An account has a new base.
    Made,
    /// A counter moved meanwhile: the count is worth nothing. The account waits for the next round, or if it was never counted for
    /// its next turn.
    Moved,
    /// There is nothing to count.
    Idle,
}

/// Recounts accounts, a bounded slice a turn: those of a round over all of them, and before these any that has a quota and was
/// never counted.
#[derive(Debug, Default)]
pub struct Recounter {
    queue: VecDeque<Account>,
    round: Round,
    now: Option<Recount>,
}

impl Recounter {
    /// Begins a round over all accounts, unless one is under way.
    pub fn begin_round(&mut self) {
        self.round.begin();
    }

    /// Does one bounded piece of work. Two processes at once waste work and harm nothing.
    pub async fn turn(&mut self, store: &Store) -> Result<Turn, Error> {
        store.writable()?;
        if let Some(mut recount) = self.now.take() {
            let first = recount.base.is_none();
            let turn = recount.go_on(store).await?;
            match turn {
                Turn::Counted | Turn::Settling => self.now = Some(recount),
                // One that was never counted is tried again after the others.
                Turn::Moved if first => self.queue.push_back(recount.account),
                Turn::Made | Turn::Moved | Turn::Idle => {}
            }
            return Ok(turn);
        }
        for account in store.usage().take_wanted() {
            self.queue.push_front(account);
        }
        if let Some(account) = self.queue.pop_front() {
            self.now = Recount::begin(store, account).await?;
            return Ok(Turn::Counted);
        }
        let Some(accounts) = self.round.next(store).await? else { return Ok(Turn::Idle) };
        self.queue.extend(accounts);
        Ok(Turn::Counted)
    }
}

/// One account on its way to a new base.
#[derive(Debug)]
struct Recount {
    account: Account,
    before: BTreeMap<String, Sum>,
    base: Option<Document<Base>>,
    place: Option<String>,
    sum: (u64, u64),
    /// When the count ended.
    counted: Option<Duration>,
}

impl Recount {
    /// `None` if the account's base is good.
    async fn begin(store: &Store, account: Account) -> Result<Option<Self>, Error> {
        let read = read(store, &account, Read::default()).await?;
        let before = read.sums();
        if let Some(base) = &read.base {
            let age = store.now() - base.value.counted_at;
            if age < MOVED || (age < OLD && before == base.value.seen) {
                return Ok(None);
            }
        } else if before.is_empty() && store.records().page(&key::repositories(&account), None, 1).await?.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self { account, before, base: read.base, place: None, sum: (0, 0), counted: None }))
    }

    async fn go_on(&mut self, store: &Store) -> Result<Turn, Error> {
        let Some(counted) = self.counted else {
            let (slice, next) = count::count(store, &self.account, self.place.as_deref()).await?;
            self.sum = (self.sum.0 + slice.bytes, self.sum.1 + slice.blobs);
            self.counted = next.is_none().then(|| store.elapsed());
            self.place = next;
            return Ok(Turn::Counted);
        };
        if store.elapsed().saturating_sub(counted) < SETTLED {
            return Ok(Turn::Settling);
        }
        let after = read(store, &self.account, Read::default()).await?;
        if after.sums() != self.before {
            return Ok(Turn::Moved);
        }
        let base = Base {
            sum: Sum::of(self.sum.0, self.sum.1),
            seen: std::mem::take(&mut self.before),
            counted_at: store.now(),
        };
        let key = key::usage(&self.account, BASE);
        let written = match self.base.take() {
            None => record::create(store.records(), &key, base).await.map(|_| ()),
            Some(mut document) => {
                document.value = base;
                record::update(store.records(), &key, &mut document).await
            }
        };
        match written {
            Ok(()) => {}
            // Another process has counted the same.
            Err(Error::Conflict) => return Ok(Turn::Moved),
            Err(other) => return Err(other),
        }
        fold(store, &self.account, &after).await?;
        Ok(Turn::Made)
    }
}

/// Removes the counters of processes that are gone, now that a base holds what they said. One that lives all the same begins another.
async fn fold(store: &Store, account: &Account, seen: &Read) -> Result<(), Error> {
    let entries = store.records().page(&key::usages(account), None, 1000).await?;
    // The store's own time: the base has just been written.
    let Some(now) = entries.iter().find(|entry| entry.name == BASE).map(|entry| entry.modified) else { return Ok(()) };
    for entry in entries.iter().filter(|entry| entry.name != BASE && now - entry.modified > FORGOTTEN) {
        let same = seen.counters.get(&entry.name).filter(|(version, _)| *version == entry.version);
        let Some((version, _)) = same else { continue };
        match store.records().remove(&key::usage(account, &entry.name), version).await {
            Ok(()) | Err(Error::Conflict) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(())
}
