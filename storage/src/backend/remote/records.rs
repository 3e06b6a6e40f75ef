use std::time::Duration;

use async_trait::async_trait;
use object_store::{
    Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion, path::Path,
};

use super::{Listed, Place};
use crate::{
    Error,
    backend::{Body, Entry, Found, Records, Version, settle::settle, tombstone},
    key::{self, PlainKey, Prefix, RecordKey},
};

/// Requests of one conditional write, waits between them included; what it comes to then is said, not guessed.
const ATTEMPTS: u32 = 6;
const WAIT: Duration = Duration::from_millis(25);
/// Stands between an `ETag` and a store's version in a [`Version`].
const SEPARATOR: char = '\u{1f}';

/// Records as objects, compared and swapped by `ETag`.
///
/// What is removed leaves a tombstone behind: few stores delete under a condition, an unconditional DELETE that arrives late would hit
/// a record made anew, and where nothing is left a creation that arrives again makes the record again. A tombstone is a nonce: an
/// `ETag` may be a hash of the content, and no version may come twice.
#[derive(Debug)]
pub struct RemoteRecords {
    once: Place,
    steady: Place,
    by_version: bool,
}

/// How one conditional request ended.
enum Answer {
    Done(Version),
    /// The condition did not hold, or the request lost a race inside the store.
    Refused,
    /// It may have been applied.
    Lost(StoreError),
    /// It cannot succeed as it is.
    Denied(StoreError),
}

/// Whether it is what a removed record left.
fn tombstone(stored: &Found) -> bool {
    tombstone::is(stored.body.len())
}

fn version(e_tag: Option<&str>, version: Option<&str>) -> Version {
    let e_tag = e_tag.unwrap_or_default();
    version.map_or_else(|| Version::new(e_tag), |version| Version::new(format!("{e_tag}{SEPARATOR}{version}")))
}

/// A request that cannot succeed says nothing of the one before it.
fn denied(lost: Option<StoreError>, denied: StoreError) -> Error {
    lost.map_or_else(|| Error::unavailable(denied), Error::unknown)
}

async fn pause(attempt: u32) {
    if attempt > 0 {
        tokio::time::sleep(WAIT * 2u32.pow(attempt - 1)).await;
    }
}

impl RemoteRecords {
    pub(super) fn new(once: Place, steady: Place, by_version: bool) -> Self {
        Self { once, steady, by_version }
    }

    /// An object as it is stored, tombstones included.
    async fn fetch(&self, path: &Path) -> Result<Option<Found>, StoreError> {
        let got = match self.steady.objects.get(path).await {
            Err(StoreError::NotFound { .. }) => return Ok(None),
            got => got?,
        };
        let version = version(got.meta.e_tag.as_deref(), got.meta.version.as_deref());
        let modified = got.meta.last_modified;
        let body = got.bytes().await?;
        Ok(Some(Found { body, version, modified }))
    }

    async fn read(&self, key: &str) -> Result<Option<Found>, Error> {
        let stored = self.fetch(&self.steady.path(key)?).await.map_err(Error::unavailable)?;
        Ok(stored.filter(|stored| !tombstone(stored)))
    }

    /// The condition "still at this version". `None` if it is known not to be.
    async fn still(&self, path: &Path, version: &Version) -> Result<Option<PutMode>, StoreError> {
        let (e_tag, mut number) = match version.as_str().split_once(SEPARATOR) {
            Some((e_tag, number)) => (e_tag, Some(number.to_owned())),
            None => (version.as_str(), None),
        };
        if self.by_version && number.is_none() {
            // A list gives no version where one is needed.
            number = match self.steady.objects.head(path).await {
                Ok(meta) if meta.e_tag.as_deref() == Some(e_tag) => meta.version,
                Ok(_) | Err(StoreError::NotFound { .. }) => return Ok(None),
                Err(e) => return Err(e),
            };
        }
        Ok(Some(PutMode::Update(UpdateVersion { e_tag: Some(e_tag.to_owned()), version: number })))
    }

    async fn put_once(&self, path: &Path, body: bytes::Bytes, mode: PutMode) -> Answer {
        let put = self.once.objects.put_opts(path, PutPayload::from(body), PutOptions::from(mode));
        match put.await {
            Ok(put) => Answer::Done(version(put.e_tag.as_deref(), put.version.as_deref())),
            Err(
                StoreError::AlreadyExists { .. }
                | StoreError::Precondition { .. }
                | StoreError::NotModified { .. }
                | StoreError::NotFound { .. },
            ) => Answer::Refused,
            Err(
                e @ (StoreError::PermissionDenied { .. }
                | StoreError::Unauthenticated { .. }
                | StoreError::NotSupported { .. }
                | StoreError::NotImplemented { .. }
                | StoreError::InvalidPath { .. }),
            ) => Answer::Denied(e),
            Err(e) => Answer::Lost(e),
        }
    }

    /// Writes `body` where nothing is (`expected` is `None`) or over one version, and settles every answer that is not clear by
    /// reading back.
    async fn swap(&self, key: &RecordKey, expected: Option<&Version>, body: &Body) -> Result<Version, Error> {
        let path = self.once.path(key.as_str())?;
        let mut mode = match expected {
            None => PutMode::Create,
            Some(version) => match self.still(&path, version).await.map_err(Error::unavailable)? {
                Some(mode) => mode,
                None => return Err(Error::Conflict),
            },
        };
        let (mut lost, mut over) = (None, None);
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            match self.put_once(&path, body.bytes.clone(), mode.clone()).await {
                Answer::Done(version) => return Ok(version),
                Answer::Denied(e) => return Err(denied(lost, e)),
                Answer::Refused => {}
                Answer::Lost(e) => lost = Some(e),
            }
            // The condition guards a repetition: no version comes twice.
            let Ok(stored) = self.fetch(&path).await else { continue };
            match (expected, stored) {
                (None, None) => mode = PutMode::Create,
                (None, Some(stored)) if tombstone(&stored) => {
                    let version = stored.version;
                    if over.as_ref() == Some(&version) {
                        continue;
                    }
                    // What was removed here may be what this creation made.
                    if let Some(e) = lost {
                        return Err(Error::unknown(e));
                    }
                    if let Some(next) = self.still(&path, &version).await.map_err(Error::unavailable)? {
                        (mode, over) = (next, Some(version));
                    }
                }
                (Some(version), Some(stored)) if stored.version == *version => {}
                (_, stored) => {
                    let live = stored.filter(|stored| !tombstone(stored));
                    return settle(body, live.as_ref(), lost.is_some());
                }
            }
        }
        match lost {
            Some(e) => Err(Error::unknown(e)),
            None => Err(Error::unavailable(format!("record {key} is changed by too many at once"))),
        }
    }
}

#[async_trait]
impl Records for RemoteRecords {
    async fn get(&self, key: &RecordKey) -> Result<Option<Found>, Error> {
        self.read(key.as_str()).await
    }

    async fn create(&self, key: &RecordKey, body: &Body) -> Result<Version, Error> {
        self.swap(key, None, body).await
    }

    async fn update(&self, key: &RecordKey, version: &Version, body: &Body) -> Result<Version, Error> {
        self.swap(key, Some(version), body).await
    }

    async fn remove(&self, key: &RecordKey, version: &Version) -> Result<(), Error> {
        let path = self.once.path(key.as_str())?;
        let Some(mode) = self.still(&path, version).await.map_err(Error::unavailable)? else {
            return if self.read(key.as_str()).await?.is_none() { Ok(()) } else { Err(Error::Conflict) };
        };
        let (mut lost, body) = (None, tombstone::fresh());
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            match self.put_once(&path, body.clone(), mode.clone()).await {
                Answer::Done(_) => return Ok(()),
                Answer::Denied(e) => return Err(denied(lost, e)),
                Answer::Refused => {}
                Answer::Lost(e) => lost = Some(e),
            }
            match self.fetch(&path).await {
                Ok(None) => return Ok(()),
                Ok(Some(stored)) if tombstone(&stored) => return Ok(()),
                // What is there may have been made after this removal, and is not to be removed for it.
                Ok(Some(stored)) if stored.version != *version => {
                    return Err(lost.map_or(Error::Conflict, Error::unknown));
                }
                Ok(Some(_)) | Err(_) => {}
            }
        }
        match lost {
            Some(e) => Err(Error::unknown(e)),
            None => Err(Error::unavailable(format!("record {key} is changed by too many at once"))),
        }
    }

    async fn get_plain(&self, key: &PlainKey) -> Result<Option<Found>, Error> {
        let stored = self.fetch(&self.steady.path(key.as_str())?).await.map_err(Error::unavailable)?;
        Ok(stored.filter(|stored| !stored.body.is_empty()))
    }

    async fn put(&self, key: &PlainKey, body: bytes::Bytes) -> Result<(), Error> {
        tombstone::refuse(key, &body)?;
        let path = self.steady.path(key.as_str())?;
        self.steady.objects.put(&path, body.into()).await.map(drop).map_err(Error::unknown)
    }

    async fn delete(&self, key: &PlainKey) -> Result<(), Error> {
        self.steady.delete(key.as_str()).await
    }

    async fn page(&self, prefix: &Prefix, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        let mut after = after.unwrap_or_default().to_owned();
        while entries.len() < limit {
            let wanted = limit - entries.len();
            let (listed, more) = self.steady.list(prefix.as_str(), &after, wanted).await.map_err(Error::unavailable)?;
            match listed.last() {
                Some(last) => after.clone_from(&last.name),
                None if more => return Err(Error::unavailable("the store ended a list before its end")),
                None => {}
            }
            entries.extend(
                listed
                    .into_iter()
                    .filter(|listed| !tombstone::is(usize::try_from(listed.meta.size).unwrap_or(usize::MAX)))
                    .map(|Listed { name, meta }| Entry {
                        name,
                        version: version(meta.e_tag.as_deref(), meta.version.as_deref()),
                        size: meta.size,
                        modified: meta.last_modified,
                    }),
            );
            if !more {
                break;
            }
        }
        Ok(entries)
    }

    async fn health(&self) -> Result<(), Error> {
        self.read(key::format().as_str()).await.map(drop)
    }
}
