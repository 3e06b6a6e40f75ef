//! What could be freed, by cause: counted, and nothing touched.

use serde::{Deserialize, Serialize};

use super::{filter::Filter, mark};
use crate::{
    Account, Digest, Error, Repository, Store, Tag, key,
    manifest::{Header, Kind},
    member, record,
    tag::TagRecord,
    trash, upload,
};

/// Bytes that could be freed. What a repository mounted counts where it was pushed to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reclaimable {
    /// Manifests that no tag, index, subject or published version keeps, and the blobs that they alone name. They stay: nothing is
    /// deleted without a rule.
    pub untagged: u64,
    /// Blobs that no manifest names and whose promise or mark has not ended yet. They go by themselves.
    pub grace: u64,
    /// Bytes that nobody uses any more. They go within hours.
    pub trash: u64,
    /// Uploads that were left and whose tokens have ended. They go within a day.
    pub uploads: u64,
}

impl std::ops::AddAssign for Reclaimable {
    fn add_assign(&mut self, other: Self) {
        self.untagged += other.untagged;
        self.grace += other.grace;
        self.trash += other.trash;
        self.uploads += other.uploads;
    }
}

/// Rows of a page, and records read at once.
const PAGE: usize = 1000;
const AT_ONCE: usize = 16;
/// Indexes in indexes that are followed; what lies deeper counts as untagged.
const DEPTH: usize = 4;

/// What one repository could free.
pub async fn repository(store: &Store, repository: &Repository) -> Result<Reclaimable, Error> {
    let all = mark::needed(store, repository, store.now(), 0).await?;
    let size = all.filter.taken();
    let all = mark::needed(store, repository, store.now(), size).await?.filter;
    let kept = kept(store, repository, size).await?;
    let mut named = Filter::sized_for(size);
    let mut found = Reclaimable::default();
    mark::manifests(store, repository, |name, header| match Digest::from_dashed(name) {
        Ok(digest) if !kept.contains(&digest) => found.untagged += header.size,
        _ => header.refs.iter().for_each(|reference| named.insert(&reference.digest)),
    })
    .await?;
    let prefix = key::members(repository);
    let mut after: Option<String> = None;
    loop {
        let entries = store.records().page(&prefix, after.as_deref(), PAGE).await?;
        let free: Vec<_> = entries
            .iter()
            .filter_map(|entry| Digest::from_dashed(&entry.name).ok())
            .filter(|digest| !named.contains(digest))
            .collect();
        for some in free.chunks(AT_ONCE) {
            let reads = some.iter().map(|digest| member::get(store, repository, digest));
            for (digest, member) in some.iter().zip(futures::future::try_join_all(reads).await?) {
                let Some(member) = member.filter(|found| found.value.origin == repository.name().path()) else {
                    continue;
                };
                let cause = if all.contains(digest) { &mut found.untagged } else { &mut found.grace };
                *cause += member.value.size;
            }
        }
        if entries.len() < PAGE {
            return Ok(found);
        }
        after = entries.last().map(|entry| entry.name.clone());
    }
}

/// The manifests that a tag keeps, or a published version, an index that is kept, or a subject that is.
async fn kept(store: &Store, repository: &Repository, size: u64) -> Result<Filter, Error> {
    let mut kept = Filter::sized_for(size);
    let tags = key::tags(repository);
    let mut after: Option<String> = None;
    loop {
        let entries = store.records().page(&tags, after.as_deref(), PAGE).await?;
        let names: Vec<_> = entries.iter().filter_map(|entry| entry.name.parse::<Tag>().ok()).collect();
        for some in names.chunks(AT_ONCE) {
            let reads = some
                .iter()
                .map(|tag| async { record::read::<TagRecord>(store.records(), &key::tag(repository, tag)).await });
            for found in futures::future::try_join_all(reads).await?.into_iter().flatten() {
                kept.insert(&found.value.digest);
            }
        }
        if entries.len() < PAGE {
            break;
        }
        after = entries.last().map(|entry| entry.name.clone());
    }
    let pins = key::pins(repository);
    let mut after: Option<String> = None;
    loop {
        let entries = store.records().page(&pins, after.as_deref(), PAGE).await?;
        let pinned = entries.iter().filter_map(|entry| Digest::from_dashed(entry.name.split('/').next()?).ok());
        pinned.for_each(|digest| kept.insert(&digest));
        if entries.len() < PAGE {
            break;
        }
        after = entries.last().map(|entry| entry.name.clone());
    }
    for _ in 0..DEPTH {
        let before = kept.taken();
        mark::manifests(store, repository, |name, header| keep_what_belongs(&mut kept, name, header)).await?;
        if kept.taken() == before {
            break;
        }
    }
    Ok(kept)
}

/// A manifest is kept by its subject, and keeps its children.
fn keep_what_belongs(kept: &mut Filter, name: &str, header: &Header) {
    let Ok(digest) = Digest::from_dashed(name) else { return };
    if !kept.contains(&digest) && header.subject.as_ref().is_some_and(|subject| kept.contains(subject)) {
        kept.insert(&digest);
    }
    if kept.contains(&digest) {
        for child in header.refs.iter().filter(|reference| reference.kind == Kind::Manifest) {
            if !kept.contains(&child.digest) {
                kept.insert(&child.digest);
            }
        }
    }
}

/// Bytes of uploads of an account that were left and that nobody can go on with.
pub async fn uploads(store: &Store, account: &Account) -> Result<Reclaimable, Error> {
    let over = store.now() - store.lives().session;
    let prefix = key::uploads(account);
    let (mut bytes, mut after) = (0, None::<String>);
    loop {
        let entries = store.records().page(&prefix, after.as_deref(), PAGE).await?;
        for entry in entries.iter().filter(|entry| !entry.name.contains('.')) {
            if crate::name::upload_time(&entry.name).is_none_or(|at| at > over) {
                return Ok(Reclaimable { uploads: bytes, ..Reclaimable::default() });
            }
            bytes += upload::left_open(store, account, &entry.name).await?;
        }
        if entries.len() < PAGE {
            return Ok(Reclaimable { uploads: bytes, ..Reclaimable::default() });
        }
        after = entries.last().map(|entry| entry.name.clone());
    }
}

/// Bytes of every account in the trash.
pub async fn trashed(store: &Store) -> Result<Reclaimable, Error> {
    Ok(Reclaimable { trash: trash::unused(store).await?, ..Reclaimable::default() })
}
