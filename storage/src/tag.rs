//! Tags: one small record each, moved by compare-and-swap, so that a tag is linearizable and no clock decides a winner.

use serde::{Deserialize, Serialize};

use crate::{Deletable, Digest, Error, Readable, Store, Tag, Time, Writable, key, record, repository};

/// The record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagRecord {
    /// The manifest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// When the tag was moved here.
    pub pushed_at: Time,
    /// Who moved it: the credential's id.
    pub by: String,
}

/// Tries at one tag before its contention is an error.
const ATTEMPTS: usize = 16;

/// What a tag points at. [`Error::NoManifest`] if there is no such tag.
pub async fn get(store: &Store, source: &Readable, tag: &Tag) -> Result<TagRecord, Error> {
    let repository = source.repository();
    match record::read::<TagRecord>(store.records(), &key::tag(repository, tag)).await? {
        Some(found) => Ok(found.value),
        None => Err(repository::absent(store, repository, Error::NoManifest).await),
    }
}

/// Moves a tag, whatever it points at. The mark that the tag may point at the manifest is written first: a deletion of that
/// manifest looks at the marks after it has removed it.
pub(crate) async fn set(store: &Store, target: &Writable, tag: &Tag, to: &TagRecord) -> Result<(), Error> {
    let repository = target.repository();
    let mark = key::tagged(repository, &to.digest, tag);
    store.records().put(&mark, bytes::Bytes::from_static(b".")).await?;
    if let Some(subject) = fallback_subject(tag) {
        let mark = key::referrer_fallback(repository, &subject);
        store.records().put(&mark, bytes::Bytes::from_static(b".")).await?;
    }
    let key = key::tag(repository, tag);
    for _ in 0..ATTEMPTS {
        let moved = match record::read::<TagRecord>(store.records(), &key).await? {
            None => record::create(store.records(), &key, to.clone()).await.map(|_| ()),
            Some(mut present) => {
                present.value = to.clone();
                record::update(store.records(), &key, &mut present).await
            }
        };
        match moved {
            Err(Error::Conflict) => {}
            other => return other,
        }
    }
    Err(Error::unavailable("a tag is moved by too many at once"))
}

/// The subject of a referrers fallback tag, `sha256-<hex>` (distribution-spec, "Referrers Tag Schema").
fn fallback_subject(tag: &Tag) -> Option<Digest> {
    Digest::from_dashed(tag.as_str()).ok()
}

/// Removes a tag; its manifest stays (end-9).
pub async fn delete(store: &Store, target: &Deletable, tag: &Tag) -> Result<(), Error> {
    store.writable()?;
    let (work, target, tag) = (store.clone(), target.clone(), tag.clone());
    store
        .detached(async move {
            let repository = target.repository();
            work.mark_dirty(repository).await?;
            let key = key::tag(repository, &tag);
            for _ in 0..ATTEMPTS {
                let Some(found) = work.records().get(&key).await? else {
                    return Err(repository::absent(&work, repository, Error::NoManifest).await);
                };
                match work.records().remove(&key, &found.version).await {
                    Err(Error::Conflict) => {}
                    other => return other,
                }
            }
            Err(Error::unavailable("a tag is moved by too many at once"))
        })
        .await
}

/// Removes a tag if it still points at `digest`: part of the deletion of that manifest.
pub(crate) async fn remove_if(store: &Store, target: &Deletable, tag: &Tag, digest: &Digest) -> Result<(), Error> {
    let key = key::tag(target.repository(), tag);
    for _ in 0..ATTEMPTS {
        let Some(found) = record::read::<TagRecord>(store.records(), &key).await? else { return Ok(()) };
        if found.value.digest != *digest {
            return Ok(());
        }
        match store.records().remove(&key, found.version()).await {
            Err(Error::Conflict) => {}
            other => return other,
        }
    }
    Err(Error::unavailable("a tag is moved by too many at once"))
}

/// A page of tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The tags, in byte order.
    pub tags: Vec<Tag>,
    /// Whether more follow.
    pub more: bool,
}

/// At most `limit` tags after `after`, which need not exist (end-8a, end-8b).
pub async fn page(store: &Store, source: &Readable, after: Option<&str>, limit: usize) -> Result<Page, Error> {
    let repository = source.repository();
    if limit == 0 {
        return Ok(Page { tags: Vec::new(), more: false });
    }
    let mut entries = store.records().page(&key::tags(repository), after, limit.saturating_add(1)).await?;
    if entries.is_empty() && !repository::exists(store, repository).await? {
        return Err(Error::NoRepository);
    }
    let more = entries.len() > limit;
    entries.truncate(limit);
    let tags = entries.iter().filter_map(|entry| entry.name.parse().ok()).collect();
    Ok(Page { tags, more })
}
