//! One repository: its records, its blobs, and a last look for what a deletion at the source has overtaken.

use std::sync::atomic::Ordering;

use futures::stream::{FuturesUnordered, StreamExt};

use super::{
    AT_ONCE, Copier, blob, discard,
    merge::{Merge, Row},
    rows::{Done, Family, Tally, write},
};
use crate::{
    Account, Digest, Error, Repository, RepositoryName,
    backend::Found,
    key::{self, Prefix},
    member::Member,
    record,
    repository::RepositoryRecord,
};

/// How often a repository is gone over again because something was deleted meanwhile.
const ROUNDS: usize = 3;
/// How often a blob's record is read again because its bytes are gone.
const ATTEMPTS: usize = 3;

impl Copier<'_> {
    /// Brings a repository of the target to where the source's is; one without a source goes.
    pub(super) async fn repository(&self, account: &Account, row: Row) -> Result<(), Error> {
        if row.source.is_none() && row.target.is_none() {
            return Ok(());
        }
        let prefix = key::repositories(account);
        let name = format!("{}/{}", account.name(), row.name.replace('!', "/")).parse::<RepositoryName>().ok();
        let Some(repository) = name.and_then(|name| Repository::new(account.clone(), name)) else {
            self.problem(account.name(), format!("a repository's key is no name: {}", row.name));
            return Ok(());
        };
        self.counts.repositories.fetch_add(1, Ordering::Relaxed);
        let (own, gone) = (prefix.record(&row.name), row.source.is_none());
        if !gone {
            self.row(&prefix, Family::Records, row).await?;
        }
        for round in 1..=ROUNDS {
            let tally = self.contents(&repository, gone).await?;
            if gone {
                break;
            }
            if tally != Tally::default() {
                self.target.records.put(&key::dirty(self.clock.now(), &repository), ".".into()).await?;
            }
            if !self.overtaken(&repository, tally.removed > 0, round == ROUNDS).await? {
                break;
            }
        }
        if gone {
            record::remove(&*self.target.records, &own).await?;
            self.count(Done::Removed);
            return Ok(());
        }
        let found = record::read::<RepositoryRecord>(&*self.target.records, &own).await?;
        if found.is_some_and(|found| found.value.deleting.is_some()) {
            // The order to delete it is a key of a queue, which is not copied.
            let order = key::repository_deletion(self.clock.now(), &repository);
            self.target.records.put(&order, ".".into()).await?;
        }
        Ok(())
    }

    /// What is in it, referrer before referent: whatever a record names was there when the record was read.
    async fn contents(&self, repository: &Repository, gone: bool) -> Result<Tally, Error> {
        let mut tally = Tally::default();
        for (prefix, family) in [
            (key::tags(repository), Family::Records),
            (key::tagged_all(repository), Family::Fixed),
            (key::referrers_all(repository), Family::Fixed),
            (key::pins(repository), Family::Fixed),
            (key::last_pulls(repository), Family::Changing),
            (key::manifests(repository), Family::Dying),
        ] {
            tally.add(self.rows_of(&prefix, family, gone).await?);
        }
        tally.add(self.members(repository, gone).await?);
        if !gone {
            // A descriptor is written after the manifest that it is of.
            tally.add(self.rows_of(&key::referrers_all(repository), Family::Fixed, gone).await?);
        }
        Ok(tally)
    }

    async fn members(&self, repository: &Repository, gone: bool) -> Result<Tally, Error> {
        let prefix = key::members(repository);
        let mut rows = Merge::new(&prefix, self.source_of(gone), &*self.target.records);
        let (mut running, mut tally) = (FuturesUnordered::new(), Tally::default());
        while let Some(row) = rows.next().await? {
            if let (Some(source), Some(_)) = (&row.source, &row.target)
                && !self.may_be_new(source.modified)
            {
                continue;
            }
            if running.len() >= AT_ONCE
                && let Some(done) = running.next().await
            {
                tally.add(Tally::from(done?));
            }
            running.push(self.member(repository, &prefix, row));
        }
        while let Some(done) = running.next().await {
            tally.add(Tally::from(done?));
        }
        Ok(tally)
    }

    async fn member(&self, repository: &Repository, prefix: &Prefix, row: Row) -> Result<Done, Error> {
        let done = if let Ok(digest) = Digest::from_dashed(&row.name) {
            self.blob(repository, prefix, &digest, &row).await?
        } else {
            self.problem(repository.name(), format!("a blob's key is no digest: {}", row.name));
            Done::Nothing
        };
        self.count(done);
        Ok(done)
    }

    /// A blob: its bytes first, its share second, its record last.
    async fn blob(&self, repository: &Repository, prefix: &Prefix, digest: &Digest, row: &Row) -> Result<Done, Error> {
        let key = prefix.record(&row.name);
        let records = &*self.target.records;
        let present = match &row.target {
            Some(_) => records.get(&key).await?,
            None => None,
        };
        let had = match &present {
            Some(found) => Some(record::decode::<Member>(&key, found)?.0.value),
            None => None,
        };
        let account = repository.account();
        let mut seen = None;
        for _ in 0..ATTEMPTS {
            let source = match &row.source {
                Some(_) => self.source.records.get(&key).await?,
                None => None,
            };
            let Some(source) = source else {
                let (Some(present), Some(had)) = (present, had) else { return Ok(Done::Nothing) };
                self.intend(repository, digest, &had).await?;
                return records.remove(&key, &present.version).await.map(|()| Done::Removed);
            };
            let member = match record::decode::<Member>(&key, &source) {
                Ok((document, _)) => document.value,
                Err(Error::Corrupt { what }) => {
                    self.problem(repository.name(), what);
                    return Ok(Done::Nothing);
                }
                Err(other) => return Err(other),
            };
            if let Some(x) = member.data(account) {
                let outcome = {
                    // Two repositories that share bytes are not to copy them at the same time.
                    let turn = x.id().bytes().map(usize::from).sum::<usize>() % self.turns.len();
                    let _turn = match self.turns.get(turn) {
                        Some(turn) => Some(turn.lock().await),
                        None => None,
                    };
                    let _permit = self.blobs.acquire().await.map_err(Error::unavailable)?;
                    let known =
                        had.as_ref().is_some_and(|had| had.x == member.x) || self.copied.lock().contains(x.id());
                    let outcome = blob::copy(self.source, self.target, &x, digest, member.size, known).await?;
                    if matches!(outcome, blob::Outcome::Copied(_) | blob::Outcome::There) {
                        self.remember(x.id());
                    }
                    outcome
                };
                match outcome {
                    blob::Outcome::There => {}
                    blob::Outcome::Copied(bytes) => {
                        self.counts.blobs.fetch_add(1, Ordering::Relaxed);
                        self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
                    }
                    blob::Outcome::Missing if seen != Some(source.version.clone()) => {
                        // Deleted between its record and its bytes, or lost: the record says which.
                        seen = Some(source.version);
                        continue;
                    }
                    blob::Outcome::Missing => {
                        self.problem(repository.name(), format!("blob {digest} has no bytes (data {})", x.id()));
                        return Ok(Done::Nothing);
                    }
                    blob::Outcome::Damaged(what) => {
                        self.problem(repository.name(), format!("blob {digest} {what} (data {})", x.id()));
                        return Ok(Done::Nothing);
                    }
                }
                if member.origin != repository.name().path() {
                    records.put(&key::share(&x, repository), ".".into()).await?;
                }
            }
            return self.write_member(repository, digest, &key, &source, &member, present.zip(had)).await;
        }
        self.problem(repository.name(), format!("blob {digest} changes faster than it can be copied"));
        Ok(Done::Nothing)
    }

    async fn write_member(
        &self,
        repository: &Repository,
        digest: &Digest,
        key: &key::RecordKey,
        source: &Found,
        member: &Member,
        present: Option<(Found, Member)>,
    ) -> Result<Done, Error> {
        let same = |had: &Member| {
            (&had.x, had.size, &had.origin, &had.sid) == (&member.x, member.size, &member.origin, &member.sid)
        };
        if let Some((_, had)) = &present {
            // A promise that was renewed at the source is renewed here too.
            if same(had) && had.lease >= member.lease {
                return Ok(Done::Nothing);
            }
            if had.x != member.x {
                self.intend(repository, digest, had).await?;
            }
        }
        let body = record::revived(key, &source.body, Some(self.clock.now() + self.options.promise_life))?;
        write(&*self.target.records, key, present.as_ref().map(|(found, _)| found), &body).await?;
        Ok(Done::Written)
    }

    async fn intend(&self, repository: &Repository, digest: &Digest, had: &Member) -> Result<(), Error> {
        match had.data(repository.account()) {
            Some(x) => discard::intend(self.target, self.clock, &x, repository.name().path(), digest, had).await,
            None => Ok(()),
        }
    }

    fn remember(&self, id: &str) {
        let mut copied = self.copied.lock();
        if copied.len() >= super::REMEMBERED {
            copied.clear();
        }
        copied.insert(id.into());
    }
}
