//! Referrers: the manifests that name another one as their subject (distribution-spec, end-12a, end-12b).

use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};

use crate::{
    Algorithm, Digest, Error, Readable, Repository, Store,
    key::{self, PlainKey},
    manifest::{self, Parsed},
};

/// Descriptors on one page.
pub const PAGE: usize = 100;
/// Reads under way at once for one page.
const PARALLEL: usize = 16;
/// Tries at one entry before its contention is an error.
const ATTEMPTS: usize = 16;
/// The mark that a fallback tag exists for the subject; sorts before every entry.
const FALLBACK: &str = "!fallback";

/// One page of referrers.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Descriptors, with artifact type and annotations, ready for an index.
    pub descriptors: Vec<Value>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
}

/// Eight hex characters that stand for an artifact type in a key, so that a filtered list is one range of keys.
fn type_hash(artifact_type: Option<&str>) -> String {
    let digest = Digest::of(Algorithm::Sha256, artifact_type.unwrap_or_default().as_bytes());
    digest.hex().get(..8).unwrap_or_default().to_owned()
}

fn entry(r: &Repository, subject: &Digest, digest: &Digest, artifact_type: Option<&str>) -> PlainKey {
    key::referrer(r, subject, &type_hash(artifact_type), digest)
}

/// Lists a manifest among the referrers of its subject.
pub(crate) async fn put(
    store: &Store,
    repository: &Repository,
    subject: &Digest,
    digest: &Digest,
    parsed: &Parsed,
    size: u64,
) -> Result<(), Error> {
    let mut descriptor = json!({ "mediaType": parsed.media_type, "digest": digest, "size": size });
    if let Some(fields) = descriptor.as_object_mut() {
        if let Some(artifact_type) = &parsed.artifact_type {
            fields.insert("artifactType".into(), artifact_type.as_str().into());
        }
        if let Some(annotations) = &parsed.annotations {
            fields.insert("annotations".into(), annotations.clone());
        }
    }
    let key = entry(repository, subject, digest, parsed.artifact_type.as_deref());
    let body = serde_json::to_vec(&descriptor).map_err(Error::unknown)?;
    store.records().put(&key, body.into()).await
}

/// [`clear`] by what the manifest said.
pub(crate) async fn clear_of(
    store: &Store,
    repository: &Repository,
    subject: &Digest,
    digest: &Digest,
    artifact_type: Option<&str>,
) -> Result<(), Error> {
    clear(store, repository, &entry(repository, subject, digest, artifact_type), digest).await
}

/// Takes the entry of a manifest that is gone away, and lists the manifest again if it is there again: whoever pushed it may have
/// listed it before its entry was cleared. Ends when entry and manifest agree.
pub(crate) async fn clear(
    store: &Store,
    repository: &Repository,
    entry: &PlainKey,
    digest: &Digest,
) -> Result<(), Error> {
    for _ in 0..ATTEMPTS {
        store.records().delete(entry).await?;
        let Some((header, bytes)) = manifest::load(store, repository, digest).await? else { return Ok(()) };
        let parsed = manifest::parse(&header.value.media_type, &bytes)?;
        let Some(subject) = &parsed.subject else { return Ok(()) };
        put(store, repository, subject, digest, &parsed, bytes.len() as u64).await?;
        if manifest::load(store, repository, digest).await?.is_some() {
            return Ok(());
        }
    }
    Err(Error::unavailable("a manifest is pushed and deleted by too many at once"))
}

/// The referrers of `subject`, of one artifact type or all, after `after` (a cursor of an earlier page). Ordered by type and digest;
/// an unknown subject or repository has none.
pub async fn page(
    store: &Store,
    source: &Readable,
    subject: &Digest,
    artifact_type: Option<&str>,
    after: Option<&str>,
) -> Result<Page, Error> {
    let repository = source.repository();
    let prefix = key::referrers(repository, subject);
    let wanted = artifact_type.map(|t| type_hash(Some(t)));
    // Without a cursor a filtered list starts right before its type's first entry.
    let start = after.map(str::to_owned).or_else(|| wanted.clone());
    let mut entries = store.records().page(&prefix, start.as_deref(), PAGE + 2).await?;
    let fallback = after.is_none()
        && match start {
            None => entries.first().is_some_and(|first| first.name == FALLBACK),
            Some(_) => store.records().get_plain(&key::referrer_fallback(repository, subject)).await?.is_some(),
        };
    entries.retain(|entry| {
        entry.name != FALLBACK && wanted.as_ref().is_none_or(|wanted| entry.name.starts_with(wanted.as_str()))
    });
    let more = entries.len() > PAGE;
    entries.truncate(PAGE);
    let next = entries.last().filter(|_| more).map(|last| last.name.clone());

    let keys: Vec<PlainKey> = entries.iter().map(|entry| prefix.plain(&entry.name)).collect();
    let mut descriptors: Vec<Value> = futures::stream::iter(keys)
        .map(|key| async move { store.records().get_plain(&key).await })
        .buffered(PARALLEL)
        .try_filter_map(|found| async move { Ok(found.and_then(|found| serde_json::from_slice(&found.body).ok())) })
        .try_collect()
        .await?;
    if fallback {
        let known: Vec<Value> = descriptors.iter().filter_map(|d| d.get("digest").cloned()).collect();
        let old = manifest::fallback_descriptors(store, source, subject).await?;
        descriptors.extend(old.into_iter().filter(|d| d.get("digest").is_some_and(|digest| !known.contains(digest))));
    }
    if let Some(artifact_type) = artifact_type {
        descriptors.retain(|d| d.get("artifactType").and_then(Value::as_str) == Some(artifact_type));
    }
    Ok(Page { descriptors, next })
}
