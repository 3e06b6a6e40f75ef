//! The last look at a repository: what names something that was deleted at the source after it had been read.

use std::sync::atomic::Ordering;

use super::{
    Copier,
    merge::Merge,
    rows::{Done, Family},
};
use crate::{
    Digest, Error, Repository,
    backend::Entry,
    key::{self, Prefix},
    record,
    tag::TagRecord,
};

/// Keys of a page.
const PAGE: usize = 500;

impl Copier<'_> {
    /// Takes manifests away that are gone from the source by now, and looks for tags and descriptors that name what is not there.
    /// `removed`: something went from the target in this round. `last`: what is found is left out; otherwise says whether the
    /// repository is to be gone over again.
    pub(super) async fn overtaken(&self, repository: &Repository, removed: bool, last: bool) -> Result<bool, Error> {
        let everything = self.manifests_gone(repository).await? || removed;
        let again = self.dangling_tags(repository, everything, last).await?;
        self.dangling_descriptors(repository, everything).await?;
        Ok(again && !last)
    }

    /// A manifest that is still there had its blobs all the while.
    async fn manifests_gone(&self, repository: &Repository) -> Result<bool, Error> {
        let prefix = key::manifests(repository);
        let mut rows = Merge::new(&prefix, self.source_of(false), &*self.target.records);
        let mut any = false;
        while let Some(row) = rows.next().await? {
            if row.source.is_none() {
                any = true;
                self.row(&prefix, Family::Dying, row).await?;
            }
        }
        Ok(any)
    }

    /// The entries that are to be looked at: all, or those that this pass may have written.
    async fn page(
        &self,
        prefix: &Prefix,
        after: Option<&str>,
        all: bool,
    ) -> Result<(Vec<Entry>, Option<String>), Error> {
        let mut page = self.target.records.page(prefix, after, PAGE).await?;
        let next = page.last().filter(|_| page.len() == PAGE).map(|last| last.name.clone());
        page.retain(|entry| all || self.may_be_of_this_pass(entry.modified));
        Ok((page, next))
    }

    async fn dangling_tags(&self, repository: &Repository, all: bool, last: bool) -> Result<bool, Error> {
        let prefix = key::tags(repository);
        let (mut found, mut after) = (false, None::<String>);
        loop {
            let (page, next) = self.page(&prefix, after.as_deref(), all).await?;
            for some in page.chunks(super::AT_ONCE) {
                let looks = some.iter().map(|entry| self.dangles(repository, &prefix, entry));
                for (entry, lost) in some.iter().zip(futures::future::try_join_all(looks).await?) {
                    let Some(lost) = lost else { continue };
                    found = true;
                    if last {
                        record::remove(&*self.target.records, &prefix.record(&entry.name)).await?;
                        self.count(Done::Removed);
                        self.counts.left_out.fetch_add(1, Ordering::Relaxed);
                        self.tell(
                            repository.name(),
                            format!("tag {} points at {lost}, which is not there: left out", entry.name),
                        );
                    }
                }
            }
            match next {
                Some(next) => after = Some(next),
                None => return Ok(found),
            }
        }
    }

    /// The manifest that a tag names and the target does not have.
    async fn dangles(&self, repository: &Repository, prefix: &Prefix, entry: &Entry) -> Result<Option<Digest>, Error> {
        let records = &*self.target.records;
        let found = record::read::<TagRecord>(records, &prefix.record(&entry.name)).await?;
        let Some(digest) = found.map(|found| found.value.digest) else { return Ok(None) };
        let there = records.get(&key::manifest(repository, &digest)).await?.is_some();
        Ok((!there).then_some(digest))
    }

    async fn dangling_descriptors(&self, repository: &Repository, all: bool) -> Result<(), Error> {
        let prefix = key::referrers_all(repository);
        let mut after = None::<String>;
        loop {
            let (page, next) = self.page(&prefix, after.as_deref(), all).await?;
            for entry in &page {
                // `<S>/<th>-<M>`; the mark of a fallback tag names no manifest.
                let digest = entry.name.split_once('/').and_then(|(_, name)| name.split_once('-'));
                let Some(digest) = digest.and_then(|(_, digest)| Digest::from_dashed(digest).ok()) else { continue };
                if self.target.records.get(&key::manifest(repository, &digest)).await?.is_none() {
                    self.target.records.delete(&prefix.plain(&entry.name)).await?;
                    self.count(Done::Removed);
                }
            }
            match next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }
}
