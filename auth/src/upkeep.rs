//! What goes on beside the requests: the day of last use, telling the audit whose time was over, and the removal of what ended long ago. Background work of the server
//! drives it; nothing waits for it.

use std::collections::HashMap;

use chrono::{NaiveDate, SecondsFormat, TimeDelta};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use storage::{
    Account, Time,
    key::{self, Prefix, RecordKey},
    record::{self, Document},
};

use crate::{
    account::LONGEST,
    audit::{Entry, Happened},
    credential::CredentialRecord,
    error::Error,
    federation::{TrustRecord, UsedToken},
    installation::Auth,
    secret::Kind,
};

/// Records whose last use is to be written. More than these of one round are written when they are used again.
const MOST: usize = 65_536;
/// How long an ended credential is still listed.
const KEPT: TimeDelta = TimeDelta::days(7);
/// How much longer a session is, which says whether what was minted in it has ended: as long as that may live.
const KEPT_SESSION: TimeDelta = TimeDelta::seconds(LONGEST.cast_signed());
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

    /// One step of the sweep of an account's credentials: tells the audit of those whose time is over, and removes those that expired or
    /// were revoked more than seven days ago, oldest first, among the hundred after `after`. Returns where the next step begins; `None`
    /// at the end.
    pub async fn sweep_credentials(&self, account: &Account, after: Option<&str>) -> Result<Option<String>, Error> {
        let (now, prefix) = (self.clock.now(), key::credentials(account));
        let rows = self.records.page(&prefix, after, STEP).await?;
        for row in &rows {
            let key = prefix.record(&row.name);
            let Some(mut found) = record::read::<CredentialRecord>(&*self.records, &key).await? else { continue };
            if !self.tell_end(account, &key, &row.name, &mut found, now).await? {
                continue;
            }
            let record = &found.value;
            let end = record.revoked_at.map_or(record.expires, |at| at.min(record.expires));
            let kept = if record.kind == Kind::Session { KEPT + KEPT_SESSION } else { KEPT };
            if end < now - kept {
                self.remove_swept(&key, &found).await?;
            }
        }
        Ok(rows.last().filter(|_| rows.len() == STEP).map(|row| row.name.clone()))
    }

    /// Tells the audit, once, that a credential's time is over. Several processes sweep the same store: the one that marks the record
    /// tells. False: the record was changed meanwhile, and the next round looks again.
    pub(crate) async fn tell_end(
        &self,
        account: &Account,
        key: &RecordKey,
        id: &str,
        found: &mut Document<CredentialRecord>,
        now: Time,
    ) -> Result<bool, Error> {
        let record = &mut found.value;
        if record.end_told || record.expires > now || record.revoked_at.is_some_and(|at| at <= record.expires) {
            return Ok(true);
        }
        record.end_told = true;
        let end = record.expires.to_rfc3339_opts(SecondsFormat::Secs, true);
        match record::update(&*self.records, key, found).await {
            Ok(()) => {}
            Err(storage::Error::Conflict) => return Ok(false),
            Err(other) => return Err(other.into()),
        }
        let entry = Entry::new(Happened::CredentialExpire, Self::REGISTRY).of(account);
        self.note(entry.target(format!("{id} {end}")));
        Ok(true)
    }

    /// A step of the same for the trust policies that were deleted more than seven days ago.
    pub async fn sweep_trusts(&self, account: &Account, after: Option<&str>) -> Result<Option<String>, Error> {
        let gone = self.clock.now() - KEPT;
        self.sweep(&key::trusts(account), after, |found: &Document<TrustRecord>| {
            found.value.deleted_at.is_some_and(|at| at < gone)
        })
        .await
    }

    /// The same for what is remembered of used tokens: until nobody would take them anyway.
    pub async fn sweep_used_tokens(&self, account: &Account, after: Option<&str>) -> Result<Option<String>, Error> {
        let now = self.clock.now();
        self.sweep(&key::used_tokens(account), after, |found: &Document<UsedToken>| found.value.until < now).await
    }

    async fn sweep<T: Serialize + DeserializeOwned>(
        &self,
        prefix: &Prefix,
        after: Option<&str>,
        is_over: impl Fn(&Document<T>) -> bool,
    ) -> Result<Option<String>, Error> {
        let rows = self.records.page(prefix, after, STEP).await?;
        for row in &rows {
            let key = prefix.record(&row.name);
            let Some(found) = record::read::<T>(&*self.records, &key).await? else { continue };
            if is_over(&found) {
                self.remove_swept(&key, &found).await?;
            }
        }
        Ok(rows.last().filter(|_| rows.len() == STEP).map(|row| row.name.clone()))
    }

    async fn remove_swept<T>(&self, key: &RecordKey, found: &Document<T>) -> Result<(), Error> {
        match self.records.remove(key, found.version()).await {
            // Changed meanwhile: the next round looks again.
            Ok(()) | Err(storage::Error::Conflict) => Ok(()),
            Err(other) => Err(other.into()),
        }
    }
}
