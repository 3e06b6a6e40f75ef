//! Tags: one small record each, moved by compare-and-swap, so that a tag is linearizable and no clock decides a winner.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Deletable, Digest, Error, Readable, Repository, Store, Tag, Time, Writable, key, record, repository};

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
/// manifest looks at the marks after it has removed it. The mark is this push's own, so that nobody who clears an older one away
/// takes it.
pub(crate) async fn set(store: &Store, target: &Writable, tag: &Tag, to: &TagRecord) -> Result<(), Error> {
    let repository = target.repository();
    let mark = key::tagged(repository, &to.digest, tag, &crate::random_text(16));
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
                if present.value.digest != to.digest {
                    repository::movable(store, repository, tag).await?;
                }
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

/// [`Error::Immutable`] if a tag may not come to point at `to`: asked of all tags of one push before the first of them is set.
pub(crate) async fn may_point(store: &Store, repository: &Repository, tag: &Tag, to: &Digest) -> Result<(), Error> {
    match record::read::<TagRecord>(store.records(), &key::tag(repository, tag)).await? {
        Some(present) if present.value.digest != *to => repository::movable(store, repository, tag).await,
        _ => Ok(()),
    }
}

/// The subject of a referrers fallback tag, `sha256-<hex>` (distribution-spec, "Referrers Tag Schema").
fn fallback_subject(tag: &Tag) -> Option<Digest> {
    Digest::from_dashed(tag.as_str()).ok()
}

/// Removes a tag; its manifest stays (end-9). [`Error::Immutable`] if the repository's settings keep it.
pub async fn delete(store: &Store, target: &Deletable, tag: &Tag) -> Result<(), Error> {
    delete_seen(store, target, tag, None).await
}

/// The same, if the tag still points at `seen`; [`Error::Conflict`] if it points elsewhere.
pub async fn delete_seen(store: &Store, target: &Deletable, tag: &Tag, seen: Option<&Digest>) -> Result<(), Error> {
    store.writable()?;
    let (work, target, tag, seen) = (store.clone(), target.clone(), tag.clone(), seen.cloned());
    store
        .detached(async move {
            let repository = target.repository();
            work.mark_dirty(repository).await?;
            let key = key::tag(repository, &tag);
            for _ in 0..ATTEMPTS {
                let Some(found) = record::read::<TagRecord>(work.records(), &key).await? else {
                    return Err(repository::absent(&work, repository, Error::NoManifest).await);
                };
                if seen.as_ref().is_some_and(|seen| found.value.digest != *seen) {
                    return Err(Error::Conflict);
                }
                repository::movable(&work, repository, &tag).await?;
                match work.records().remove(&key, found.version()).await {
                    Err(Error::Conflict) => {}
                    other => return other,
                }
            }
            Err(Error::unavailable("a tag is moved by too many at once"))
        })
        .await
}

/// Removes a tag that points at `digest` if that manifest is gone: part of a push that fails. The version is the one that was read
/// before the look at the manifest.
pub(crate) async fn remove_dangling(
    store: &Store,
    repository: &Repository,
    tag: &Tag,
    digest: &Digest,
) -> Result<(), Error> {
    let (key, manifest) = (key::tag(repository, tag), key::manifest(repository, digest));
    for _ in 0..ATTEMPTS {
        let found = record::read::<TagRecord>(store.records(), &key).await?;
        let Some(found) = found.filter(|found| found.value.digest == *digest) else { return Ok(()) };
        if store.records().get(&manifest).await?.is_some() {
            return Ok(());
        }
        match store.records().remove(&key, found.version()).await {
            Err(Error::Conflict) => {}
            other => return other,
        }
    }
    Err(Error::unavailable("a tag is moved by too many at once"))
}

/// Removes a tag if it still points at `digest`: part of the deletion of that manifest.
pub(crate) async fn remove_if(store: &Store, repository: &Repository, tag: &Tag, digest: &Digest) -> Result<(), Error> {
    let key = key::tag(repository, tag);
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

/// A tag that points at `digest` and is immutable, if there is one.
pub(crate) async fn kept(store: &Store, repository: &crate::Repository, digest: &Digest) -> Result<Option<Tag>, Error> {
    const PAGE: usize = 1000;
    let Some(settings) = repository::immutable(store, repository).await? else { return Ok(None) };
    let (marks, mut after) = (key::tagged_of(repository, digest), None::<String>);
    loop {
        let entries = store.records().page(&marks, after.as_deref(), PAGE).await?;
        let tags: BTreeSet<Tag> = entries.iter().filter_map(|entry| key::tag_of_mark(&entry.name)).collect();
        for tag in tags.into_iter().filter(|tag| settings.holds(tag)) {
            let found = record::read::<TagRecord>(store.records(), &key::tag(repository, &tag)).await?;
            if found.is_some_and(|found| found.value.digest == *digest) {
                return Ok(Some(tag));
            }
        }
        if entries.len() < PAGE {
            return Ok(None);
        }
        after = entries.last().map(|entry| entry.name.clone());
    }
}

/// A page of tags and what they point at.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The tags, in byte order.
    pub tags: Vec<(Tag, TagRecord)>,
    /// What `after` is for the next page; `None` at the end.
    pub next: Option<String>,
}

/// At most `limit` tags after `after` with their records: one list and one read a row.
pub async fn list(store: &Store, source: &Readable, after: Option<&str>, limit: usize) -> Result<Listed, Error> {
    const AT_ONCE: usize = 16;
    let (repository, limit) = (source.repository(), limit.max(1));
    let prefix = key::tags(repository);
    let entries = store.records().page(&prefix, after, limit).await?;
    if entries.is_empty() && !repository::exists(store, repository).await? {
        return Err(Error::NoRepository);
    }
    let next = entries.last().filter(|_| entries.len() == limit).map(|entry| entry.name.clone());
    let mut tags = Vec::new();
    for some in entries.chunks(AT_ONCE) {
        let keys: Vec<_> = some.iter().map(|entry| prefix.record(&entry.name)).collect();
        let reads = keys.iter().map(|key| record::read::<TagRecord>(store.records(), key));
        for (entry, found) in some.iter().zip(futures::future::join_all(reads).await) {
            // What vanished between list and read is left out.
            if let (Ok(tag), Some(found)) = (entry.name.parse(), found?) {
                tags.push((tag, found.value));
            }
        }
    }
    Ok(Listed { tags, next })
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
