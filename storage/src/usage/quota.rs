//! What an account may still take.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;

use super::counter::used;
use crate::{Account, AccountName, Error, Generation, Store, Writable};

/// How long an upload that nobody goes on with counts among the unfinished ones.
const UNFINISHED_FOR: Duration = Duration::from_hours(1);
/// Unfinished uploads that are remembered of all accounts together; above it those are forgotten that nobody goes on with.
const MOST: usize = 100_000;

/// What was left of an account's quota when it was asked.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    account: AccountName,
    used: u64,
    limit: u64,
}

impl Room {
    /// [`Error::QuotaExceeded`] unless so many more bytes fit.
    pub(crate) fn take(&self, bytes: u64) -> Result<(), Error> {
        if self.used.saturating_add(bytes) <= self.limit {
            return Ok(());
        }
        Err(Error::QuotaExceeded { account: self.account.clone(), used: self.used, limit: self.limit })
    }
}

/// What the account of `target` may take now; `None`: all there is room for. Asked once in a request. Reads at most once a second,
/// and without a quota never.
pub(crate) async fn room(store: &Store, target: &Writable) -> Result<Option<Room>, Error> {
    let Some(limit) = target.quota() else { return Ok(None) };
    let account = target.repository().account();
    let used = used(store, account).await?;
    store.usage().compared(store, account, limit);
    Ok(Some(Room { account: account.name().clone(), used, limit }))
}

/// A size in bytes for people.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut tenths, mut unit) = (bytes.saturating_mul(10), "B");
    for next in UNITS {
        if tenths < 10_240 {
            break;
        }
        (tenths, unit) = (tenths / 1024, next);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{}.{} {unit}", tenths / 10, tenths % 10) }
}

/// The uploads that came in through this process and have not ended, by account: when each was gone on with last.
#[derive(Debug, Default)]
pub(super) struct Uploads(Mutex<HashMap<Generation, HashMap<String, Duration>>>);

impl Uploads {
    fn live(uploads: &mut HashMap<String, Duration>, now: Duration) -> usize {
        uploads.retain(|_, at| now.saturating_sub(*at) < UNFINISHED_FOR);
        uploads.len()
    }
}

impl super::Counters {
    /// [`Error::TooManyUploads`] when the account has as many unfinished uploads here as it may have.
    pub(crate) fn may_open(&self, store: &Store, account: &Account) -> Result<(), Error> {
        let limit = store.settings().open_uploads;
        let mut accounts = self.uploads.0.lock();
        let Some(uploads) = accounts.get_mut(account.generation()) else { return Ok(()) };
        if uploads.len() < limit || Uploads::live(uploads, store.elapsed()) < limit {
            return Ok(());
        }
        Err(Error::TooManyUploads { account: account.name().clone(), limit })
    }

    /// An upload has a document now, or was gone on with.
    pub(crate) fn opened(&self, store: &Store, account: &Account, id: &str) {
        let now = store.elapsed();
        let mut accounts = self.uploads.0.lock();
        if accounts.values().map(HashMap::len).sum::<usize>() >= MOST {
            accounts.retain(|_, uploads| Uploads::live(uploads, now) > 0);
        }
        accounts.entry(account.generation().clone()).or_default().insert(id.to_owned(), now);
    }

    /// An upload has become a blob, or was cancelled.
    pub(crate) fn closed(&self, account: &Account, id: &str) {
        let mut accounts = self.uploads.0.lock();
        if let Some(uploads) = accounts.get_mut(account.generation()) {
            uploads.remove(id);
            if uploads.is_empty() {
                accounts.remove(account.generation());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_said_in_the_unit_that_fits() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "1638.3 PiB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }
}
