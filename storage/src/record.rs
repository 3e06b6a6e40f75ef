//! Typed JSON records under compare-and-swap: what `auth` and `packages` are built on.
//!
//! Every record is one JSON line, `{"v":1,"rev":n,"nonce":"…","hist":[…8],…}`, the fields of its type following. `rev` counts
//! writes (it is the API's ETag), `nonce` makes every body unique (an S3 ETag is a hash of the body), `hist` holds the last
//! nonces so that an ambiguous write can be settled by reading back. Fields that this build does not know are kept when the
//! record is rewritten; a record of a newer `v` is refused, and nothing but what needs it.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    Error,
    backend::{Body, Found, Records, Version},
    clock::Time,
    key::RecordKey,
};

/// The record version this build reads and writes.
pub const VERSION: u64 = 1;
/// How many nonces a record remembers.
const HISTORY: usize = 8;

/// A record as it was read, with what its next write needs.
#[derive(Debug, Clone)]
pub struct Document<T> {
    /// The typed fields.
    pub value: T,
    version: Version,
    rev: u64,
    history: Vec<String>,
    rest: Map<String, Value>,
    modified: Option<Time>,
}

impl<T> Document<T> {
    /// How often the record has been written: 1 after its creation.
    pub fn rev(&self) -> u64 {
        self.rev
    }

    /// What a compare-and-swap presents.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// The store's time of the last write; `None` for a record this process has just written.
    pub fn modified(&self) -> Option<Time> {
        self.modified
    }
}

/// Decodes a record: the typed fields, and what followed the first line (a manifest's bytes).
pub fn decode<T: DeserializeOwned + Serialize>(
    key: &RecordKey,
    found: &Found,
) -> Result<(Document<T>, bytes::Bytes), Error> {
    let corrupt = |what: String| Error::corrupt(format!("record {key}: {what}"));
    let line_end = found.body.iter().position(|&b| b == b'\n').unwrap_or(found.body.len());
    let trailer = found.body.slice((line_end + 1).min(found.body.len())..);
    let line = found.body.get(..line_end).unwrap_or_default();
    let mut map: Map<String, Value> = serde_json::from_slice(line).map_err(|e| corrupt(e.to_string()))?;
    match map.remove("v").and_then(|v| v.as_u64()) {
        Some(v) if v <= VERSION => {}
        Some(v) => {
            return Err(Error::unavailable(format!(
                "record {key} has layout {v}, this release knows {VERSION}; upgrade it"
            )));
        }
        None => return Err(corrupt("no v".into())),
    }
    let rev = map.remove("rev").and_then(|v| v.as_u64()).ok_or_else(|| corrupt("no rev".into()))?;
    map.remove("nonce");
    let history = map.remove("hist").and_then(|v| serde_json::from_value(v).ok()).unwrap_or_default();
    let value: T = serde_json::from_value(Value::Object(map.clone())).map_err(|e| corrupt(e.to_string()))?;
    // What the type does not write itself is unknown to this build, and is kept.
    if let Ok(Value::Object(known)) = serde_json::to_value(&value) {
        map.retain(|field, _| !known.contains_key(field));
    }
    let document =
        Document { value, version: found.version.clone(), rev, history, rest: map, modified: Some(found.modified) };
    Ok((document, trailer))
}

fn encode<T: Serialize>(
    value: &T,
    rev: u64,
    mut history: Vec<String>,
    rest: &Map<String, Value>,
    trailer: Option<&[u8]>,
) -> Result<(Body, Vec<String>), Error> {
    let nonce = crate::random_text(16);
    history.push(nonce.clone());
    let excess = history.len().saturating_sub(HISTORY);
    history.drain(..excess);
    let mut map = Map::new();
    map.insert("v".into(), VERSION.into());
    map.insert("rev".into(), rev.into());
    map.insert("nonce".into(), nonce.clone().into());
    map.insert("hist".into(), history.clone().into());
    match serde_json::to_value(value) {
        Ok(Value::Object(fields)) => map.extend(fields),
        Ok(_) => return Err(Error::corrupt("a record's type is not an object")),
        Err(e) => return Err(Error::corrupt(format!("a record cannot be written: {e}"))),
    }
    for (field, kept) in rest {
        map.entry(field.clone()).or_insert_with(|| kept.clone());
    }
    let mut bytes = serde_json::to_vec(&map).map_err(|e| Error::corrupt(e.to_string()))?;
    if let Some(trailer) = trailer {
        bytes.push(b'\n');
        bytes.extend_from_slice(trailer);
    }
    Ok((Body { bytes: bytes.into(), nonce }, history))
}

/// The body of a record of another store, to be written here as it is. [`Error::Corrupt`] if it is none.
pub(crate) fn copied(key: &RecordKey, bytes: &bytes::Bytes) -> Result<Body, Error> {
    #[derive(serde::Deserialize)]
    struct Head {
        nonce: String,
    }
    let line = bytes.split(|&b| b == b'\n').next().unwrap_or_default();
    let head: Head = serde_json::from_slice(line).map_err(|e| Error::corrupt(format!("record {key}: {e}")))?;
    Ok(Body { bytes: bytes.clone(), nonce: head.nonce })
}

/// The same, of a record that may be marked as dying: it lives, and is promised until `lease`.
pub(crate) fn revived(key: &RecordKey, bytes: &bytes::Bytes, lease: Option<Time>) -> Result<Body, Error> {
    let body = copied(key, bytes)?;
    let end = bytes.iter().position(|&b| b == b'\n').unwrap_or(bytes.len());
    let corrupt = |e: serde_json::Error| Error::corrupt(format!("record {key}: {e}"));
    let mut map: Map<String, Value> = serde_json::from_slice(bytes.get(..end).unwrap_or_default()).map_err(corrupt)?;
    let dying = map.get("state").is_some_and(|state| state == "dying");
    if !dying && lease.is_none() {
        return Ok(body);
    }
    if dying {
        map.insert("state".into(), "live".into());
        map.remove("marked_by_pass");
    }
    if let Some(lease) = lease {
        map.insert("lease".into(), serde_json::to_value(lease).map_err(corrupt)?);
    }
    let mut line = serde_json::to_vec(&map).map_err(corrupt)?;
    line.extend_from_slice(bytes.get(end..).unwrap_or_default());
    Ok(Body { bytes: line.into(), ..body })
}

/// The nonces of the last writes of an encoded record, its own the last.
fn nonces(body: &[u8]) -> Vec<String> {
    #[derive(Default, serde::Deserialize)]
    struct Head {
        #[serde(default)]
        hist: Vec<String>,
    }
    let line = body.split(|&b| b == b'\n').next().unwrap_or_default();
    serde_json::from_slice::<Head>(line).unwrap_or_default().hist
}

/// Whether `write` is the last write of the record `stored` or one of the seven before it: how a backend settles an ambiguous answer.
///
/// `None` when nobody can tell: the version that it went upon is not among them either. Then the record has moved on too far, or
/// was removed and made again, and a new record says nothing of what became of the old one. A creation went upon nothing, so
/// without its nonce that is always the answer.
pub fn was_written(stored: &[u8], write: &Body) -> Option<bool> {
    let (stored, written) = (nonces(stored), nonces(&write.bytes));
    let upon = written.iter().rev().nth(1);
    if stored.contains(&write.nonce) {
        Some(true)
    } else if upon.is_some_and(|upon| stored.contains(upon)) {
        Some(false)
    } else {
        None
    }
}

/// Reads a record.
pub async fn read<T: DeserializeOwned + Serialize>(
    records: &dyn Records,
    key: &RecordKey,
) -> Result<Option<Document<T>>, Error> {
    match records.get(key).await? {
        Some(found) => decode(key, &found).map(|(document, _)| Some(document)),
        None => Ok(None),
    }
}

/// Writes a record that is not there; [`Error::Conflict`] if it is.
pub async fn create<T: Serialize>(records: &dyn Records, key: &RecordKey, value: T) -> Result<Document<T>, Error> {
    create_with(records, key, value, None).await
}

/// [`create`], with bytes after the first line.
pub async fn create_with<T: Serialize>(
    records: &dyn Records,
    key: &RecordKey,
    value: T,
    trailer: Option<&[u8]>,
) -> Result<Document<T>, Error> {
    let (body, history) = encode(&value, 1, Vec::new(), &Map::new(), trailer)?;
    let version = records.create(key, &body).await?;
    Ok(Document { value, version, rev: 1, history, rest: Map::new(), modified: None })
}

/// Writes `document.value` over the version that was read; [`Error::Conflict`] if the record has moved on.
/// On success the document stands for what was written.
pub async fn update<T: Serialize>(
    records: &dyn Records,
    key: &RecordKey,
    document: &mut Document<T>,
) -> Result<(), Error> {
    update_with(records, key, document, None).await
}

/// [`update`], with bytes after the first line.
pub async fn update_with<T: Serialize>(
    records: &dyn Records,
    key: &RecordKey,
    document: &mut Document<T>,
    trailer: Option<&[u8]>,
) -> Result<(), Error> {
    let (body, history) = encode(&document.value, document.rev + 1, document.history.clone(), &document.rest, trailer)?;
    document.version = records.update(key, &document.version, &body).await?;
    document.rev += 1;
    document.history = history;
    document.modified = None;
    Ok(())
}

/// Removes a record, whatever it says.
pub(crate) async fn remove(records: &dyn Records, key: &RecordKey) -> Result<(), Error> {
    for _ in 0..MODIFY_ATTEMPTS {
        let Some(found) = records.get(key).await? else { return Ok(()) };
        match records.remove(key, &found.version).await {
            Err(Error::Conflict) => {}
            other => return other,
        }
    }
    Err(Error::unavailable(format!("record {key} is changed by too many at once")))
}

/// How often [`modify`] tries again when others change the record at the same time.
const MODIFY_ATTEMPTS: usize = 16;

/// Reads, changes and writes a record until no one else changed it in between. `change` says whether there is anything to write.
/// `Ok(None)` if the record does not exist; [`Error::Unavailable`] when 16 tries in a row lost.
pub async fn modify<T, E>(
    records: &dyn Records,
    key: &RecordKey,
    mut change: impl FnMut(&mut T) -> Result<bool, E>,
) -> Result<Option<Document<T>>, E>
where
    T: Serialize + DeserializeOwned,
    E: From<Error>,
{
    for _ in 0..MODIFY_ATTEMPTS {
        let Some(mut document) = read::<T>(records, key).await? else { return Ok(None) };
        if !change(&mut document.value)? {
            return Ok(Some(document));
        }
        match update(records, key, &mut document).await {
            Ok(()) => return Ok(Some(document)),
            Err(Error::Conflict) => {}
            Err(other) => return Err(other.into()),
        }
    }
    Err(Error::unavailable(format!("record {key} is changed by too many at once")).into())
}
