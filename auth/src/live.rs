//! How many credentials are alive: of one key exactly, of a whole account to within a second; and how near to its limit any of them
//! came.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use storage::{Account, Generation, Time, key, record};

use crate::{error::Error, id::Id, installation::Auth};

/// The name of an account's own count among those of its issuers, whose ids have 16 characters.
const WHOLE: &str = "account";
/// How often a process reads and writes an account's count.
const PERIOD: Duration = Duration::from_secs(1);
/// Accounts whose counts are remembered; above it those with nothing to write are read again when they mint next.
const MOST: usize = 16_384;

/// `auth/GEN/count/KEYID`, and the same for the account: how many credentials end in which hour. A revoked one counts until it would
/// have ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Counts {
    hours: BTreeMap<String, u64>,
}

impl Counts {
    fn hour(at: Time) -> String {
        at.format("%Y%m%d%H").to_string()
    }

    /// Forgets the hours that are over.
    fn tidy(&mut self, now: Time) {
        self.hours = self.hours.split_off(&Self::hour(now));
    }

    fn live(&self) -> u64 {
        self.hours.values().sum()
    }

    fn add(&mut self, expires: Time) {
        *self.hours.entry(Self::hour(expires)).or_default() += 1;
    }

    fn remove(&mut self, expires: Time) {
        let hour = Self::hour(expires);
        if let Some(count) = self.hours.get_mut(&hour) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.hours.remove(&hour);
            }
        }
    }

    fn replace(&mut self, change: &Change) {
        if let Some(expires) = change.left {
            self.remove(expires);
        }
    }
}

/// A credential that came, and the end of the one that it replaced.
#[derive(Debug, Clone, Copy)]
struct Change {
    came: Time,
    left: Option<Time>,
}

/// What this process knows of accounts' counts and has not written yet, and how near to the limits it saw any count.
#[derive(Debug, Default)]
pub(crate) struct Live {
    accounts: Mutex<HashMap<Generation, Known>>,
    nearest_account: Nearest,
    nearest_key: Nearest,
}

/// How long at least it is remembered how near a count came to its limit.
const REMEMBERED: Duration = Duration::from_hours(1);

/// The largest part of a limit that a count came to lately, whoever's it was, so that it costs no memory to know.
#[derive(Debug, Default)]
struct Nearest(Mutex<Window>);

/// The time that runs, and the one before it. In ten-thousandths.
#[derive(Debug, Default)]
struct Window {
    since: Duration,
    now: u32,
    before: u32,
}

impl Window {
    fn turn(&mut self, elapsed: Duration) {
        let over = elapsed.saturating_sub(self.since);
        if over < REMEMBERED {
            return;
        }
        let before = if over < 2 * REMEMBERED { self.now } else { 0 };
        *self = Self { since: elapsed, now: 0, before };
    }
}

impl Nearest {
    fn came(&self, live: u64, most: u64, elapsed: Duration) {
        let part = u32::try_from(live.saturating_mul(10_000) / most.max(1)).unwrap_or(u32::MAX);
        let mut window = self.0.lock();
        window.turn(elapsed);
        window.now = window.now.max(part);
    }

    fn part(&self, elapsed: Duration) -> f64 {
        let mut window = self.0.lock();
        window.turn(elapsed);
        f64::from(window.now.max(window.before)) / 10_000.0
    }
}

#[derive(Debug, Default)]
struct Known {
    live: u64,
    read: Option<Duration>,
    changes: Vec<Change>,
}

impl Known {
    fn now(&self) -> u64 {
        let left = self.changes.iter().filter(|change| change.left.is_some()).count();
        (self.live + self.changes.len() as u64).saturating_sub(left as u64)
    }
}

impl Auth {
    /// Counts one more live credential of an issuer and of its account, in the place of the one that it replaces.
    pub(crate) async fn count(
        &self,
        account: &Account,
        issuer: &Id,
        expires: Time,
        replaced: Option<Time>,
    ) -> Result<(), Error> {
        let most = self.settings.live_credentials_per_account;
        let in_account = self.counted(account).await?;
        self.live.nearest_account.came(in_account, most, self.clock.elapsed());
        if in_account >= most && replaced.is_none() {
            return Err(Error::Limit(format!(
                "account {} has {most} live credentials, the most that one account may have: wait for some to end, or mint with \
                 `replaces`",
                account.name()
            )));
        }
        let (now, change) = (self.clock.now(), Change { came: expires, left: replaced });
        let most = self.settings.live_credentials_per_key;
        let counted = self.change_counts(account, issuer.as_str(), |counts| {
            counts.tidy(now);
            counts.replace(&change);
            if counts.live() >= most {
                return Err(Error::Limit(format!(
                    "this key has {most} live credentials, the most that one key may have: wait for some to end, or mint with \
                     `replaces`"
                )));
            }
            counts.add(expires);
            Ok(())
        });
        let counted = counted.await;
        match &counted {
            Ok(live) => self.live.nearest_key.came(*live, most, self.clock.elapsed()),
            Err(Error::Limit(_)) => self.live.nearest_key.came(most, most, self.clock.elapsed()),
            Err(_) => {}
        }
        counted?;
        self.live.accounts.lock().entry(account.generation().clone()).or_default().changes.push(change);
        Ok(())
    }

    /// How many credentials of an account live: as it was written a second ago at most, and what this process has minted since.
    async fn counted(&self, account: &Account) -> Result<u64, Error> {
        let elapsed = self.clock.elapsed();
        let due = {
            let mut table = self.live.accounts.lock();
            if table.len() >= MOST {
                table.retain(|_, known| !known.changes.is_empty());
            }
            let known = table.entry(account.generation().clone()).or_default();
            if known.read.is_some_and(|at| elapsed.saturating_sub(at) < PERIOD) {
                return Ok(known.now());
            }
            // Whoever mints meanwhile goes by what was known.
            known.read = Some(elapsed);
            std::mem::take(&mut known.changes)
        };
        let now = self.clock.now();
        let written = self
            .change_counts(account, WHOLE, |counts| {
                counts.tidy(now);
                for change in &due {
                    counts.replace(change);
                    counts.add(change.came);
                }
                Ok(())
            })
            .await;
        let mut table = self.live.accounts.lock();
        let known = table.entry(account.generation().clone()).or_default();
        match written {
            Ok(live) => known.live = live,
            Err(error) => {
                known.changes.extend(due);
                known.read = None;
                return Err(error);
            }
        }
        Ok(known.now())
    }

    /// The part of its limit of live credentials that the nearest key, and the nearest account, had come to when it was minted for here
    /// within the last hour or two. At 1 mints are refused.
    pub fn nearest_limits(&self) -> [(&'static str, f64); 2] {
        let now = self.clock.elapsed();
        [("key", self.live.nearest_key.part(now)), ("account", self.live.nearest_account.part(now))]
    }

    /// Changes a count under compare-and-swap, making it if there is none; gives what it comes to.
    async fn change_counts(
        &self,
        account: &Account,
        name: &str,
        change: impl Fn(&mut Counts) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let count_key = key::credential_count(account, name);
        for _ in 0..2 {
            let changed = record::modify(&*self.records, &count_key, |counts: &mut Counts| {
                let before = counts.hours.clone();
                change(counts)?;
                Ok::<_, Error>(counts.hours != before)
            });
            if let Some(written) = changed.await? {
                return Ok(written.value.live());
            }
            match record::create(&*self.records, &count_key, Counts::default()).await {
                Ok(_) | Err(storage::Error::Conflict) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Err(storage::Error::unavailable("a count of credentials comes and goes").into())
    }
}
