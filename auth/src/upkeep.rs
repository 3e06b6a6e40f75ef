//! What goes on beside the requests: the day of last use, and the removal of what ended long ago. Background work of the server
//! drives it; nothing waits for it.

use std::collections::HashMap;

use chrono::{NaiveDate, TimeDelta};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use storage::{
    Account, Time,
    key::{self, RecordKey},
    record,
};

use crate::{credential::CredentialRecord, error::Error, installation::Auth};

/// Records whose last use is to be written. More than these of one round are written when they are used again.
const MOST: usize = 65_536;
/// How long an ended credential is still listed.
const KEPT: TimeDelta = TimeDelta::days(7);
/// Records of one step of the sweep.
const STEP: usize = 100;

/// Keys and credentials that were used and whose record says another day.
#[derive(Debug, Default)]
pub(crate) struct Used(Mutex<HashMap<RecordKey, NaiveDate>>);

/// The one field of a key or a credential that matters here; the others ride along.
#[derive(Serialize, Deserialize)]
struct LastUse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_used_day: Option<NaiveDate>,
}

impl Used {
    pub(crate) fn note(&self, key: RecordKey, known: Option<NaiveDate>, now: Time) {
        let today = now.date_naive();
        if known == Some(today) {
            return;
        }
        let mut used = self.0.lock();
        if used.len() < MOST {
            used.insert(key, today);
        }
    }
}

impl Auth {
    /// Writes the day of last use of what was used since the last call, once a day per record. A lost race is dropped: the
    /// winner was a change that matters more, and the next use notes it again. Returns how many were written.
    pub async fn write_last_use(&self) -> Result<usize, Error> {
        let used = std::mem::take(&mut *self.used.0.lock());
        let mut written = 0;
        for (key, today) in used {
            let Some(mut document) = record::read::<LastUse>(&*self.records, &key).await? else { continue };
            if document.value.last_used_day.is_some_and(|day| day >= today) {
                continue;
            }
            document.value.last_used_day = Some(today);
            match record::update(&*self.records, &key, &mut document).await {
                Ok(()) => written += 1,
                Err(storage::Error::Conflict) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Ok(written)
    }

    /// One step of the sweep of an account's credentials: removes those that expired or were revoked more than seven days ago,
    /// oldest first, among the hundred after `after`. Returns where the next step begins; `None` at the end.
    pub async fn sweep_credentials(&self, account: &Account, after: Option<&str>) -> Result<Option<String>, Error> {
        let gone = self.clock.now() - KEPT;
        let prefix = key::credentials(account);
        let rows = self.records.page(&prefix, after, STEP).await?;
        for row in &rows {
            let key = prefix.record(&row.name);
            let Some(found) = record::read::<CredentialRecord>(&*self.records, &key).await? else { continue };
            let ended = found.value.revoked_at.map_or(found.value.expires, |at| at.min(found.value.expires));
            if ended < gone {
                match self.records.remove(&key, found.version()).await {
                    // Changed meanwhile: the next round looks again.
                    Ok(()) | Err(storage::Error::Conflict) => {}
                    Err(other) => return Err(other.into()),
                }
            }
        }
        Ok(rows.last().filter(|_| rows.len() == STEP).map(|row| row.name.clone()))
    }
}
