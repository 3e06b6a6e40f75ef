//! Manifests that nothing names: marked in one pass, looked at again and removed in a later one.

use std::{collections::HashSet, hash::BuildHasher};

use super::{
    pass::{Gone, Pass, What},
    pulls,
};
use crate::{
    Deletable, Digest, Error, Repository, Store, Time,
    blob::pinned_by,
    key,
    manifest::{self, Kind, ManifestReference, Retired},
    record, tag,
};
use chrono::{NaiveDate, TimeDelta};

/// Younger manifests, in the store's own time, are not marked: what will name them may be on its way.
const YOUNG: TimeDelta = TimeDelta::days(1);
/// Nothing goes that was pulled within so many days.
const PULLED: i64 = 30;
/// Manifests in flight that are older than this, in the store's own time, were given up.
const IN_FLIGHT: TimeDelta = TimeDelta::hours(24);
/// Children of indexes that one pass can hold in memory; a repository with more keeps its manifests.
const CHILDREN: usize = 1 << 20;
/// Marked manifests that one pass looks at again.
const MARKED: usize = 4096;
const PAGE: usize = 500;

/// What is named by an index, or by a manifest in flight, as hashes with a seed of this pass: two that fall together keep one too
/// many.
struct Named {
    seed: std::hash::RandomState,
    children: HashSet<u64>,
}

impl Named {
    fn add(&mut self, references: &[ManifestReference]) -> bool {
        for reference in references.iter().filter(|reference| reference.kind == Kind::Manifest) {
            self.children.insert(self.seed.hash_one(&reference.digest));
        }
        self.children.len() <= CHILDREN
    }

    fn has(&self, digest: &Digest) -> bool {
        self.children.contains(&self.seed.hash_one(digest))
    }
}

/// A pass over the manifests of a repository.
pub(super) struct Sweep<'a> {
    store: &'a Store,
    repository: &'a Repository,
    named: Named,
    /// The store's time when the pass began, before it looked at anything.
    began: Time,
    /// How long a manifest was marked before it goes: a day at least, so longer than any write that began before the mark may take.
    marked_for: TimeDelta,
}

impl<'a> Sweep<'a> {
    /// Looks at what is named: manifests in flight first, then those that are there. Gives the marked ones beside it; `None` where
    /// there is too much to hold.
    async fn begin(
        store: &'a Store,
        repository: &'a Repository,
        began: Time,
        days: u32,
    ) -> Result<Option<(Self, Vec<Digest>)>, Error> {
        let named = Named { seed: std::hash::RandomState::new(), children: HashSet::new() };
        let marked_for = TimeDelta::days(days.max(1).into());
        let mut sweep = Self { store, repository, named, began, marked_for };
        let pendings = key::pendings(repository);
        let mut after = None::<String>;
        loop {
            let entries = store.records().page(&pendings, after.as_deref(), PAGE).await?;
            for entry in entries.iter().filter(|entry| began - entry.modified < IN_FLIGHT) {
                let Some(found) = store.records().get_plain(&pendings.plain(&entry.name)).await? else { continue };
                let pending: manifest::Pending<'_> = serde_json::from_slice(&found.body)
                    .map_err(|error| Error::corrupt(format!("pending {}: {error}", entry.name)))?;
                if !sweep.named.add(&pending.refs) {
                    return Ok(None);
                }
            }
            if entries.len() < PAGE {
                break;
            }
            after = entries.last().map(|entry| entry.name.clone());
        }
        let (mut marked, mut after) = (Vec::new(), None::<String>);
        loop {
            let entries = store.records().page(&key::manifests(repository), after.as_deref(), PAGE).await?;
            for entry in &entries {
                let Ok(digest) = Digest::from_dashed(&entry.name) else { continue };
                let Some((header, _)) = manifest::load(store, repository, &digest).await? else { continue };
                if !sweep.named.add(&header.value.refs) {
                    return Ok(None);
                }
                if header.value.is_marked() && marked.len() < MARKED {
                    marked.push(digest);
                }
            }
            if entries.len() < PAGE {
                return Ok(Some((sweep, marked)));
            }
            after = entries.last().map(|entry| entry.name.clone());
        }
    }

    /// Whether anything but time speaks for a manifest.
    async fn is_named(&self, digest: &Digest, header: &manifest::Header) -> Result<bool, Error> {
        if self.named.has(digest) || header.is_leased(self.store.now()) {
            return Ok(true);
        }
        if let Some(subject) = &header.subject
            && manifest::load(self.store, self.repository, subject).await?.is_some()
        {
            return Ok(true);
        }
        let pulled = pulls::day(self.store, &key::last_pull(self.repository, digest)).await?;
        if pulled.is_some_and(|day| self.recent(day)) {
            return Ok(true);
        }
        if pinned_by(self.store, &key::pins_of(self.repository, digest)).await?.is_some() {
            return Ok(true);
        }
        self.is_tagged(digest).await
    }

    fn recent(&self, day: NaiveDate) -> bool {
        (self.store.now().date_naive() - day).num_days() <= PULLED
    }

    /// Whether a tag points at it: the marks are hints, the tags are asked.
    async fn is_tagged(&self, digest: &Digest) -> Result<bool, Error> {
        let (marks, mut after) = (key::tagged_of(self.repository, digest), None::<String>);
        loop {
            let entries = self.store.records().page(&marks, after.as_deref(), PAGE).await?;
            for entry in &entries {
                let Some(name) = key::tag_of_mark(&entry.name) else { continue };
                let key = key::tag(self.repository, &name);
                let found = record::read::<tag::TagRecord>(self.store.records(), &key).await?;
                if found.is_some_and(|found| found.value.digest == *digest) {
                    return Ok(true);
                }
            }
            if entries.len() < PAGE {
                return Ok(false);
            }
            after = entries.last().map(|entry| entry.name.clone());
        }
    }

    /// Looks again at what an earlier pass marked.
    async fn again(&self, target: &Deletable, marked: &[Digest], pass: &mut Pass) -> Result<(), Error> {
        for digest in marked {
            let Some((header, bytes)) = manifest::load(self.store, self.repository, digest).await? else { continue };
            let early = header.modified().is_none_or(|modified| self.began - modified < self.marked_for);
            if early || !header.value.is_marked() {
                continue;
            }
            let named = self.is_named(digest, &header.value).await?;
            let retired = manifest::retire(self.store, target, digest, header, &bytes, named).await?;
            pass.manifests_removed += u64::from(retired == Retired::Gone);
        }
        Ok(())
    }

    /// A page of those that nothing names and that are not marked, and where the next one begins.
    async fn unnamed(&self, after: Option<&str>) -> Result<(Vec<Digest>, Option<String>), Error> {
        let entries = self.store.records().page(&key::manifests(self.repository), after, PAGE).await?;
        let mut unnamed = Vec::new();
        for entry in entries.iter().filter(|entry| self.began - entry.modified > YOUNG) {
            let Ok(digest) = Digest::from_dashed(&entry.name) else { continue };
            let Some((header, _)) = manifest::load(self.store, self.repository, &digest).await? else { continue };
            if !header.value.is_marked() && !self.is_named(&digest, &header.value).await? {
                unnamed.push(digest);
            }
        }
        let next = entries.last().filter(|_| entries.len() == PAGE).map(|entry| entry.name.clone());
        Ok((unnamed, next))
    }
}

/// Lets manifests of `target` go that nothing has named for `days`.
pub(super) async fn sweep(store: &Store, target: &Deletable, days: u32, pass: &mut Pass) -> Result<(), Error> {
    let repository = target.repository();
    let stamp = key::retention_stamp(repository);
    store.records().put(&stamp, ".".into()).await?;
    let Some(began) = store.records().get_plain(&stamp).await?.map(|found| found.modified) else { return Ok(()) };
    let Some((sweep, marked)) = Sweep::begin(store, repository, began, days).await? else { return Ok(()) };
    sweep.again(target, &marked, pass).await?;
    let (mut count, mut after) = (0, None);
    loop {
        let (unnamed, next) = sweep.unnamed(after.as_deref()).await?;
        for digest in &unnamed {
            // What was looked at is read again: the mark is for what is there now.
            if let Some((header, bytes)) = manifest::load(store, repository, digest).await?
                && !header.value.is_leased(store.now())
                && manifest::mark(store, repository, digest, header, &bytes).await?
            {
                count += 1;
            }
        }
        after = next;
        if after.is_none() || count >= MARKED {
            break;
        }
    }
    pass.manifests_marked += count as u64;
    Ok(())
}

/// What would go and when, without a mark.
pub(super) async fn preview(
    store: &Store,
    repository: &Repository,
    days: u32,
    most: usize,
    gone: &mut Vec<Gone>,
) -> Result<bool, Error> {
    let Some((sweep, marked)) = Sweep::begin(store, repository, store.now(), days).await? else { return Ok(false) };
    let mut fits = |digest: Digest, why: String| {
        let fits = gone.len() < most;
        if fits {
            gone.push(Gone { what: What::Manifest(digest), why });
        }
        fits
    };
    for digest in marked {
        let Some((header, _)) = manifest::load(store, repository, &digest).await? else { continue };
        if header.value.is_marked() && !sweep.is_named(&digest, &header.value).await? {
            let since = header.modified().unwrap_or(sweep.began);
            let until = (since + sweep.marked_for).date_naive();
            if !fits(digest, format!("nothing has named it since {}: goes on {until}", since.date_naive())) {
                return Ok(true);
            }
        }
    }
    let mut after = None;
    loop {
        let (unnamed, next) = sweep.unnamed(after.as_deref()).await?;
        for digest in unnamed {
            if !fits(digest, format!("nothing names it: goes in {days} days")) {
                return Ok(true);
            }
        }
        after = next;
        if after.is_none() {
            return Ok(false);
        }
    }
}
