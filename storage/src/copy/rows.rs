//! The rows of one list: what is to be done with each.

use std::sync::atomic::Ordering;

use futures::stream::{FuturesUnordered, StreamExt};

use super::{
    AT_ONCE, Copier,
    merge::{Merge, Row},
};
use crate::{
    Error,
    backend::{Body, Found, Records},
    key::{Prefix, RecordKey},
    record,
};

/// What kind of keys a list has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// Records.
    Records,
    /// Records that may be marked as dying; in the target they live.
    Dying,
    /// Plain keys whose body never changes.
    Fixed,
    /// Plain keys that are written again with other bodies.
    Changing,
}

/// What became of a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) written: u64,
    pub(super) removed: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.written += other.written;
        self.removed += other.removed;
    }
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    Nothing,
    Written,
    Removed,
}

impl From<Done> for Tally {
    fn from(done: Done) -> Self {
        Self { written: u64::from(done == Done::Written), removed: u64::from(done == Done::Removed) }
    }
}

/// Writes a record whatever is there, which nobody else does at the same time. Whether that changed anything.
pub(super) async fn write(
    records: &dyn Records,
    key: &RecordKey,
    present: Option<&Found>,
    body: &Body,
) -> Result<(), Error> {
    let written = match present {
        Some(present) => records.update(key, &present.version, body).await,
        None => records.create(key, body).await,
    };
    match written {
        Ok(_) => Ok(()),
        Err(Error::Conflict) => Err(Error::Refused(format!(
            "somebody else writes the target of this copy (record {key}); stop that server"
        ))),
        Err(other) => Err(other),
    }
}

impl Copier<'_> {
    /// Brings a list of the target to where the source's is.
    pub(super) async fn rows(&self, prefix: &Prefix, family: Family) -> Result<Tally, Error> {
        self.rows_of(prefix, family, false).await
    }

    /// The same; of what is gone from the source as a whole nothing is left.
    pub(super) async fn rows_of(&self, prefix: &Prefix, family: Family, gone: bool) -> Result<Tally, Error> {
        let mut rows = Merge::new(prefix, self.source_of(gone), &*self.target.records);
        let mut running = FuturesUnordered::new();
        let mut tally = Tally::default();
        while let Some(row) = rows.next().await? {
            if running.len() >= AT_ONCE
                && let Some(done) = running.next().await
            {
                tally.add(Tally::from(done?));
            }
            running.push(self.row(prefix, family, row));
        }
        while let Some(done) = running.next().await {
            tally.add(Tally::from(done?));
        }
        Ok(tally)
    }

    pub(super) fn source_of(&self, gone: bool) -> Option<&dyn Records> {
        (!gone).then_some(&*self.source.records)
    }

    pub(super) async fn row(&self, prefix: &Prefix, family: Family, row: Row) -> Result<Done, Error> {
        let done = match family {
            Family::Records | Family::Dying => self.record(&prefix.record(&row.name), family, row).await?,
            Family::Fixed | Family::Changing => self.plain(prefix, family, row).await?,
        };
        self.count(done);
        Ok(done)
    }

    pub(super) fn count(&self, done: Done) {
        match done {
            Done::Nothing => {}
            Done::Written => {
                self.counts.records.fetch_add(1, Ordering::Relaxed);
            }
            Done::Removed => {
                self.counts.removed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// One record that has a key of its own.
    pub(super) async fn single(&self, key: &RecordKey) -> Result<(), Error> {
        let (source, present) = (self.source.records.get(key).await?, self.target.records.get(key).await?);
        let done = self.bring(key, source.as_ref(), present.as_ref()).await?;
        self.count(done);
        Ok(())
    }

    async fn record(&self, key: &RecordKey, family: Family, row: Row) -> Result<Done, Error> {
        if let (Some(source), Some(_)) = (&row.source, &row.target)
            && !self.may_be_new(source.modified)
        {
            return Ok(Done::Nothing);
        }
        let mut source = match row.source {
            Some(_) => self.source.records.get(key).await?,
            None => None,
        };
        if let (Family::Dying, Some(found)) = (family, &mut source) {
            match record::revived(key, &found.body, None) {
                Ok(body) => found.body = body.bytes,
                Err(Error::Corrupt { what }) => {
                    self.problem(key, what);
                    return Ok(Done::Nothing);
                }
                Err(other) => return Err(other),
            }
        }
        let present = match row.target {
            Some(_) => self.target.records.get(key).await?,
            None => None,
        };
        self.bring(key, source.as_ref(), present.as_ref()).await
    }

    /// Makes of a record of the target what the source has.
    async fn bring(&self, key: &RecordKey, source: Option<&Found>, present: Option<&Found>) -> Result<Done, Error> {
        let records = &*self.target.records;
        match (source, present) {
            (None, None) => Ok(Done::Nothing),
            (None, Some(present)) => records.remove(key, &present.version).await.map(|()| Done::Removed),
            (Some(source), Some(present)) if source.body == present.body => Ok(Done::Nothing),
            (Some(source), present) => match record::copied(key, &source.body) {
                Ok(body) => write(records, key, present, &body).await.map(|()| Done::Written),
                Err(Error::Corrupt { what }) => {
                    self.problem(key, what);
                    Ok(Done::Nothing)
                }
                Err(other) => Err(other),
            },
        }
    }

    async fn plain(&self, prefix: &Prefix, family: Family, row: Row) -> Result<Done, Error> {
        let key = prefix.plain(&row.name);
        let records = &*self.target.records;
        let source = match (&row.source, &row.target) {
            (Some(source), Some(present)) if source.size == present.size => {
                if family == Family::Fixed || !self.may_be_new(source.modified) {
                    return Ok(Done::Nothing);
                }
                self.source.records.get_plain(&key).await?
            }
            (Some(_), _) => self.source.records.get_plain(&key).await?,
            (None, _) => None,
        };
        match source {
            Some(source) => records.put(&key, source.body).await.map(|()| Done::Written),
            None if row.target.is_some() => records.delete(&key).await.map(|()| Done::Removed),
            None => Ok(Done::Nothing),
        }
    }
}
