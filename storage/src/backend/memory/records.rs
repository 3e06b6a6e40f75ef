use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::Faults;
use crate::{
    Error,
    backend::{Body, Entry, Found, Records, Version, settle::settle, tombstone},
    clock::{Clock, Time},
    key::{PlainKey, Prefix, RecordKey},
};

/// Records in a map, with the clock of whoever made it.
#[derive(Debug)]
pub struct MemoryRecords {
    rows: Arc<Mutex<Rows>>,
    tombstones: bool,
    faults: Faults,
}

#[derive(Debug)]
struct Rows {
    map: BTreeMap<String, Row>,
    version: u64,
    modified: Time,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Clone)]
struct Row {
    version: u64,
    modified: Time,
    body: bytes::Bytes,
}

impl Row {
    fn tombstone(&self) -> bool {
        tombstone::is(self.body.len())
    }

    fn found(&self) -> Found {
        Found { body: self.body.clone(), version: Version::new(self.version.to_string()), modified: self.modified }
    }
}

/// What must be true of the stored row for a write to happen.
#[derive(Debug, Clone)]
enum Condition {
    None,
    /// Nothing, or the tombstone that was there when the write was sent.
    Absent(Option<Version>),
    Is(Version),
}

impl Rows {
    /// The row, unless it is a tombstone.
    fn live(&self, key: &str) -> Option<&Row> {
        self.map.get(key).filter(|row| !row.tombstone())
    }

    fn write(&mut self, key: &str, condition: &Condition, body: bytes::Bytes) -> Result<Version, Error> {
        let is = |row: &Row, version: &Version| row.found().version == *version;
        let holds = match condition {
            Condition::None => true,
            Condition::Absent(over) => {
                self.map.get(key).is_none_or(|row| row.tombstone() && over.as_ref().is_some_and(|over| is(row, over)))
            }
            Condition::Is(version) => self.live(key).is_some_and(|row| is(row, version)),
        };
        if !holds {
            return Err(Error::Conflict);
        }
        self.version += 1;
        self.modified = self.modified.max(self.clock.now());
        let row = Row { version: self.version, modified: self.modified, body };
        let version = row.found().version;
        self.map.insert(key.to_owned(), row);
        Ok(version)
    }
}

impl MemoryRecords {
    /// An empty store that keeps time by `clock` and removes records for good.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let rows = Rows { map: BTreeMap::new(), version: 0, modified: clock.now(), clock };
        Self { rows: Arc::new(Mutex::new(rows)), tombstones: false, faults: Faults::default() }
    }

    /// A store without conditional delete: what is removed leaves a tombstone behind.
    #[must_use]
    pub fn with_tombstones(mut self) -> Self {
        self.tombstones = true;
        self
    }

    /// What goes wrong, and the count of calls.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Every key with its version, in order: what a test compares to see whether anything was written. No call and never at fault.
    pub fn listing(&self) -> Vec<(String, Version)> {
        let rows = self.rows.lock();
        rows.map.iter().map(|(key, row)| (key.clone(), row.found().version)).collect()
    }

    fn read(&self, key: &str) -> Result<Option<Found>, Error> {
        self.faults.look()?;
        Ok(self.rows.lock().live(key).map(Row::found))
    }

    /// A record's write, settled as the real stores settle it when it met its own earlier arrival.
    fn record(&self, key: &RecordKey, condition: Condition, body: &Body) -> Result<Version, Error> {
        let (rows, owned, bytes) = (Arc::clone(&self.rows), key.clone(), body.bytes.clone());
        let (answer, repeated) =
            self.faults.write_repeated(move || rows.lock().write(owned.as_str(), &condition, bytes.clone()));
        match answer {
            Err(Error::Conflict) => {
                settle(body, self.rows.lock().live(key.as_str()).map(Row::found).as_ref(), repeated)
            }
            other => other,
        }
    }
}

#[async_trait]
impl Records for MemoryRecords {
    async fn get(&self, key: &RecordKey) -> Result<Option<Found>, Error> {
        self.read(key.as_str())
    }

    async fn create(&self, key: &RecordKey, body: &Body) -> Result<Version, Error> {
        let over = self.rows.lock().map.get(key.as_str()).filter(|row| row.tombstone()).map(|row| row.found().version);
        self.record(key, Condition::Absent(over), body)
    }

    async fn update(&self, key: &RecordKey, version: &Version, body: &Body) -> Result<Version, Error> {
        self.record(key, Condition::Is(version.clone()), body)
    }

    async fn remove(&self, key: &RecordKey, version: &Version) -> Result<(), Error> {
        let (rows, key, condition) = (Arc::clone(&self.rows), key.clone(), Condition::Is(version.clone()));
        let tombstones = self.tombstones;
        self.faults.write(move || {
            let mut rows = rows.lock();
            if rows.live(key.as_str()).is_none() {
                return Ok(());
            }
            rows.write(key.as_str(), &condition, tombstone::fresh())?;
            if !tombstones {
                rows.map.remove(key.as_str());
            }
            Ok(())
        })
    }

    async fn get_plain(&self, key: &PlainKey) -> Result<Option<Found>, Error> {
        self.read(key.as_str())
    }

    async fn put(&self, key: &PlainKey, body: bytes::Bytes) -> Result<(), Error> {
        tombstone::refuse(key, &body)?;
        let (rows, key) = (Arc::clone(&self.rows), key.clone());
        self.faults.write(move || rows.lock().write(key.as_str(), &Condition::None, body.clone()).map(drop))
    }

    async fn delete(&self, key: &PlainKey) -> Result<(), Error> {
        let (rows, key) = (Arc::clone(&self.rows), key.clone());
        self.faults.write(move || {
            rows.lock().map.remove(key.as_str());
            Ok(())
        })
    }

    async fn page(&self, prefix: &Prefix, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, Error> {
        self.faults.look()?;
        let prefix = prefix.as_str();
        let start = match after {
            Some(name) => Bound::Excluded(format!("{prefix}{name}")),
            None => Bound::Included(prefix.to_owned()),
        };
        let rows = self.rows.lock();
        let under =
            rows.map.range((start, Bound::Unbounded)).map_while(|(k, row)| Some((k.strip_prefix(prefix)?, row)));
        let entry = |(name, row): (&str, &Row)| Entry {
            name: name.to_owned(),
            version: row.found().version,
            size: row.body.len() as u64,
            modified: row.modified,
        };
        Ok(under.filter(|(_, row)| !row.tombstone()).take(limit).map(entry).collect())
    }

    async fn health(&self) -> Result<(), Error> {
        self.faults.look()
    }
}
