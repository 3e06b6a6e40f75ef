//! The counters of a process, and the sum of everybody's.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::quota::Uploads;
use crate::{
    Account, Error, Generation, Store, Time,
    backend::Version,
    key,
    record::{self, Document},
};

/// How old what is known of other processes' counters may be where a quota is compared with it.
const PERIOD: Duration = Duration::from_secs(1);
/// Accounts whose counters are held; above it those with nothing to write are read again when they are needed.
const MOST: usize = 16_384;
/// An account is near its quota as long as it was pushed to within this.
const REMEMBERED: Duration = Duration::from_hours(1);
/// Tries at one counter before its contention is an error: nobody else writes it.
const ATTEMPTS: usize = 4;
/// Counters written or read at once.
const AT_ONCE: usize = 16;
/// Rows of a page.
const PAGE: usize = 1000;
/// The name of the base among the counters, whose own names are lower-case letters and digits.
pub(super) const BASE: &str = "!base";

/// Members and their bytes: what was made less what was removed, so a process's own may be below zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// Bytes of blobs, once for each repository that contains them.
    pub bytes: i64,
    /// The number of these blobs.
    pub blobs: i64,
}

impl Sum {
    pub(super) fn of(bytes: u64, blobs: u64) -> Self {
        let signed = |number| i64::try_from(number).unwrap_or(i64::MAX);
        Self { bytes: signed(bytes), blobs: signed(blobs) }
    }

    fn plus(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), blobs: self.blobs.saturating_add(other.blobs) }
    }

    fn minus(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_sub(other.bytes), blobs: self.blobs.saturating_sub(other.blobs) }
    }
}

/// `t/<G>/q/!base`: what was counted, and what each counter said then.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Base {
    #[serde(flatten)]
    pub(super) sum: Sum,
    /// A counter that is not here said nothing.
    pub(super) seen: BTreeMap<String, Sum>,
    pub(super) counted_at: Time,
}

/// The sum: the base, and what every counter has moved since.
pub(super) fn total<'a>(base: Option<&Base>, counters: impl Iterator<Item = (&'a str, Sum)>) -> Sum {
    let start = base.map_or_else(Sum::default, |base| base.sum);
    let seen = |name| base.and_then(|base| base.seen.get(name)).copied().unwrap_or_default();
    counters.fold(start, |sum, (name, value)| sum.plus(value.minus(seen(name))))
}

/// What a process knows of the counters of one account.
#[derive(Debug)]
struct Known {
    account: Account,
    /// The name of this process's own counter.
    name: String,
    /// All that this process has noted under that name, and how much of it is known to be written.
    noted: Sum,
    written: Sum,
    /// Whether a write failed, so that the record may say more than `written`.
    doubtful: bool,
    own: Option<Document<Sum>>,
    /// Everybody's, as read last.
    counters: BTreeMap<String, (Version, Sum)>,
    base: Option<Document<Base>>,
    read: Option<Duration>,
    /// The limit it was compared with last, and when.
    limit: Option<(u64, Duration)>,
}

impl Known {
    fn new(account: &Account) -> Self {
        Self {
            account: account.clone(),
            name: crate::random_text(16),
            noted: Sum::default(),
            written: Sum::default(),
            doubtful: false,
            own: None,
            counters: BTreeMap::new(),
            base: None,
            read: None,
            limit: None,
        }
    }

    /// The sum as this process knows it: others' counters as read, its own as it is.
    fn sum(&self) -> Sum {
        let others = self.counters.iter().filter(|(name, _)| **name != self.name);
        let others = others.map(|(name, (_, value))| (name.as_str(), *value));
        let base = self.base.as_ref().map(|base| &base.value);
        total(base, others.chain([(self.name.as_str(), self.noted)]))
    }

    fn used(&self) -> u64 {
        u64::try_from(self.sum().bytes).unwrap_or_default()
    }

    /// Whether the counter has to be written.
    fn moved(&self) -> bool {
        self.doubtful || self.noted != self.written
    }

    /// A recount has taken the counter into its base and removed it: what was not in it begins a new one.
    fn begin_anew(&mut self) {
        self.noted = self.noted.minus(self.written);
        self.written = Sum::default();
        self.doubtful = false;
        self.own = None;
        self.name = crate::random_text(16);
    }
}

/// The counters that this process keeps and has read.
#[derive(Debug, Default)]
pub struct Counters {
    accounts: Mutex<HashMap<Generation, Known>>,
    /// One writer of this process's counters at a time.
    writing: tokio::sync::Mutex<()>,
    pub(super) uploads: Uploads,
    /// Accounts with a quota that were never counted.
    wanted: Mutex<Vec<Account>>,
}

impl Counters {
    /// Notes that a repository of the account has come to contain a blob of this size.
    pub(crate) fn added(&self, account: &Account, bytes: u64) {
        self.note(account, |noted| noted.plus(Sum::of(bytes, 1)));
    }

    /// Notes that a repository of the account contains a blob of this size no more: whoever removes a member that had bytes says
    /// so here, once, after the removal.
    pub(crate) fn removed(&self, account: &Account, bytes: u64) {
        self.note(account, |noted| noted.minus(Sum::of(bytes, 1)));
    }

    fn note(&self, account: &Account, change: impl FnOnce(Sum) -> Sum) {
        self.with(account, |known| known.noted = change(known.noted));
    }

    fn with<T>(&self, account: &Account, act: impl FnOnce(&mut Known) -> T) -> T {
        let mut accounts = self.accounts.lock();
        if accounts.len() >= MOST && !accounts.contains_key(account.generation()) {
            accounts.retain(|_, known| known.moved());
        }
        act(accounts.entry(account.generation().clone()).or_insert_with(|| Known::new(account)))
    }

    /// How near the nearest account is to its quota, of those that were pushed to through this process within the hour: used
    /// through limit; `None` if none has one.
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn nearest_quota(&self, store: &Store) -> Option<f64> {
        let now = store.elapsed();
        let accounts = self.accounts.lock();
        let ratios = accounts.values().filter_map(|known| {
            let (limit, at) = known.limit?;
            let recent = now.saturating_sub(at) < REMEMBERED;
            recent.then(|| known.used() as f64 / limit.max(1) as f64)
        });
        ratios.max_by(f64::total_cmp)
    }

    pub(super) fn compared(&self, store: &Store, account: &Account, limit: u64) {
        let never_counted = self.with(account, |known| {
            known.limit = Some((limit, store.elapsed()));
            known.base.is_none()
        });
        if never_counted {
            let mut wanted = self.wanted.lock();
            if wanted.len() < MOST && !wanted.contains(account) {
                wanted.push(account.clone());
            }
        }
    }

    /// Accounts that should be counted at once.
    pub(super) fn take_wanted(&self) -> Vec<Account> {
        std::mem::take(&mut *self.wanted.lock())
    }

    /// Writes one counter as it stands.
    async fn write(&self, store: &Store, account: &Account) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            let (name, noted, own) = self.with(account, |known| (known.name.clone(), known.noted, known.own.clone()));
            let key = key::usage(account, &name);
            let written = match own {
                None => record::create(store.records(), &key, noted).await,
                Some(mut own) => {
                    own.value = noted;
                    record::update(store.records(), &key, &mut own).await.map(|()| own)
                }
            };
            match written {
                Ok(own) => {
                    self.with(account, |known| {
                        (known.written, known.doubtful, known.own) = (noted, false, Some(own));
                    });
                    return Ok(());
                }
                // Nobody else writes it: an answer to an earlier write was lost, or a recount has removed it.
                Err(Error::Conflict) => {
                    let found = record::read::<Sum>(store.records(), &key).await?;
                    self.with(account, |known| match found {
                        Some(found) => known.own = Some(found),
                        None => known.begin_anew(),
                    });
                }
                Err(other) => {
                    self.with(account, |known| known.doubtful = true);
                    return Err(other);
                }
            }
        }
        Err(Error::unavailable("a usage counter is changed by somebody else"))
    }

    /// Reads everybody's counters again: one list, and a read of each that has moved.
    async fn refresh(&self, store: &Store, account: &Account) -> Result<(), Error> {
        let known = self.with(account, |known| Read { counters: known.counters.clone(), base: known.base.clone() });
        let read = read(store, account, known).await?;
        self.with(account, |known| {
            (known.counters, known.base) = (read.counters, read.base);
            // Were it there all the same, what it says would be taken for another process's: the sum does not change.
            if known.own.is_some() && !known.counters.contains_key(&known.name) {
                known.begin_anew();
            }
        });
        Ok(())
    }
}

/// Everybody's counters as they were read.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) counters: BTreeMap<String, (Version, Sum)>,
    pub(super) base: Option<Document<Base>>,
}

impl Read {
    /// What each counter says.
    pub(super) fn sums(&self) -> BTreeMap<String, Sum> {
        self.counters.iter().map(|(name, (_, sum))| (name.clone(), *sum)).collect()
    }
}

/// Reads the counters of an account; of what `known` holds nothing is read again that has not moved.
pub(super) async fn read(store: &Store, account: &Account, mut known: Read) -> Result<Read, Error> {
    let prefix = key::usages(account);
    let (mut read, mut base, mut moved, mut after) = (Read::default(), None, Vec::new(), None::<String>);
    loop {
        let entries = store.records().page(&prefix, after.as_deref(), PAGE).await?;
        after = entries.last().filter(|_| entries.len() == PAGE).map(|entry| entry.name.clone());
        for entry in entries {
            if entry.name == BASE {
                base = Some(entry.version);
                continue;
            }
            match known.counters.remove(&entry.name) {
                Some((version, sum)) if version == entry.version => {
                    read.counters.insert(entry.name, (version, sum));
                }
                _ => moved.push(entry.name),
            }
        }
        if after.is_none() {
            break;
        }
    }
    for names in moved.chunks(AT_ONCE) {
        let keys: Vec<_> = names.iter().map(|name| prefix.record(name)).collect();
        let reads = keys.iter().map(|key| record::read::<Sum>(store.records(), key));
        for (name, found) in names.iter().zip(futures::future::join_all(reads).await) {
            if let Some(found) = found? {
                read.counters.insert(name.clone(), (found.version().clone(), found.value));
            }
        }
    }
    // The base after the counters: a counter is removed only when a base holds what it said.
    read.base = match (base, known.base) {
        (None, _) => None,
        (Some(version), Some(base)) if *base.version() == version => Some(base),
        (Some(_), _) => record::read(store.records(), &prefix.record(BASE)).await?,
    };
    Ok(read)
}

/// Writes the counters of this process that have moved since they were written: one write an account. Called once a second, and when
/// the last request has ended. A counter that could not be written is written next time; gives the first error.
pub async fn flush(store: &Store) -> Result<(), Error> {
    let counters = store.usage();
    let _alone = counters.writing.lock().await;
    let moved: Vec<_> = {
        let accounts = counters.accounts.lock();
        accounts.values().filter(|known| known.moved()).map(|known| known.account.clone()).collect()
    };
    let mut outcome = Ok(());
    for some in moved.chunks(AT_ONCE) {
        for written in futures::future::join_all(some.iter().map(|account| counters.write(store, account))).await {
            outcome = outcome.and(written);
        }
    }
    outcome
}

/// Bytes that an account uses, as every process's counters said a second ago at most, and this process's say now.
pub async fn used(store: &Store, account: &Account) -> Result<u64, Error> {
    let (counters, now) = (store.usage(), store.elapsed());
    let known = counters.with(account, |known| {
        let fresh = known.read.is_some_and(|at| now.saturating_sub(at) < PERIOD);
        let first = known.read.is_none();
        if !fresh && !first {
            // Whoever asks meanwhile goes by what was known.
            known.read = Some(now);
        }
        fresh.then(|| known.used())
    });
    if let Some(used) = known {
        return Ok(used);
    }
    let refreshed = counters.refresh(store, account).await;
    counters.with(account, |known| {
        known.read = refreshed.is_ok().then_some(now);
        refreshed.map(|()| known.used())
    })
}
