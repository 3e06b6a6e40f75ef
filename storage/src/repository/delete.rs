//! The deletion of a repository: an order that is durable before it is answered, and the work, which any process may go on with.
//!
//! The order sets `deleting` in the repository's record, after a mark in the queue of work, and looks at pins last (publishing
//! pins first and looks at `deleting` last). Whoever ordered may have died before it looked, so the work looks at pins too before
//! it begins, and takes the order back. Otherwise it takes tags, manifests and blobs away by the ways on which they go one by
//! one; what is left is what is left to do, so a crash costs nothing but the time until somebody looks at the queue again. Bytes
//! are left to trash intents. Two workers at once only waste work.

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};

use super::{Deleting, RepositoryRecord};
use crate::{
    Deletable, Digest, Error, Repository, Store, Time, blob, generation,
    key::{self, PlainKey, Prefix},
    manifest, record,
};

/// Rows of a page.
const PAGE: usize = 500;
/// Things removed at once.
const PARALLEL: usize = 16;
/// An order as old as this is nobody's work any more; a younger one was seen to by the process that took it.
const ABANDONED: Duration = Duration::from_mins(2);

/// Orders the deletion of a repository, its tags, immutable ones too, manifests and blobs. [`Error::Pinned`] if a published version
/// needs something in it, [`Error::Stale`] if `seen` is not the record's `rev`. Pushes to it are [`Error::Deleting`] until
/// it is done; ordering it again is harmless.
pub async fn delete(store: &Store, target: &Deletable, seen: Option<u64>) -> Result<(), Error> {
    store.writable()?;
    let (work, target) = (store.clone(), target.clone());
    store.detached(async move { order(&work, target.repository(), seen).await }).await
}

async fn order(store: &Store, repository: &Repository, seen: Option<u64>) -> Result<(), Error> {
    let key = key::repository_record(repository);
    let mark = async || store.records().put(&key::repository_deletion(store.now(), repository), ".".into()).await;
    let mut marked = false;
    loop {
        let Some(mut found) = record::read::<RepositoryRecord>(store.records(), &key).await? else {
            return Err(Error::NoRepository);
        };
        if found.value.deleting.is_some() {
            // Whoever gave the order may have died before its second mark.
            mark().await?;
            store.wake();
            return Ok(());
        }
        if seen.is_some_and(|seen| seen != found.rev()) {
            return Err(Error::Stale { rev: found.rev() });
        }
        if !marked {
            mark().await?;
            marked = true;
        }
        found.value.deleting = Some(Deleting { since: store.now() });
        match record::update(store.records(), &key, &mut found).await {
            Ok(()) => {}
            Err(Error::Conflict) => continue,
            Err(other) => return Err(other),
        }
        // Again: a round that met the first mark before the order took it away.
        mark().await?;
        store.unseen(repository);
        if let Some(by) = blob::pinned_by(store, &key::pins(repository)).await? {
            take_back(store, repository).await?;
            return Err(Error::Pinned { by });
        }
        store.wake();
        return Ok(());
    }
}

/// Takes an order back: the repository can be pushed to again.
async fn take_back(store: &Store, repository: &Repository) -> Result<(), Error> {
    let key = key::repository_record(repository);
    record::modify::<RepositoryRecord, Error>(store.records(), &key, |record| Ok(record.deleting.take().is_some()))
        .await?;
    Ok(())
}

/// One round over the queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pass {
    /// Orders that are done with: their repositories are gone, or they were taken back.
    pub done: usize,
    /// Repositories that a push is still in flight to, or whose removal failed: another round is needed.
    pub left: usize,
}

/// Goes on with every deletion that was ordered: all of them, or those of this process and the `abandoned` ones of others. A
/// repository that cannot be deleted now is left for the next round.
pub async fn finish_deletions(store: &Store, all: bool) -> Result<Pass, Error> {
    store.writable()?;
    let prefix = key::repository_deletions();
    let (mut pass, mut after) = (Pass::default(), None::<String>);
    let mine = store.take_woken();
    loop {
        let entries = store.records().page(&prefix, after.as_deref(), PAGE).await?;
        for entry in &entries {
            let age = (store.now() - entry.modified).to_std().unwrap_or_default();
            if !all && !mine && age < ABANDONED {
                continue;
            }
            let mark = prefix.plain(&entry.name);
            match finish(store, &entry.name, &mark).await {
                Ok(true) => pass.done += 1,
                Ok(false) => pass.left += 1,
                Err(error) => {
                    pass.left += 1;
                    tracing::warn!(error = &error as &dyn std::error::Error, "a repository was not deleted yet");
                }
            }
        }
        if entries.len() < PAGE {
            if pass.left > 0 {
                // The next round takes them again, however young they are.
                store.stay_woken();
            }
            return Ok(pass);
        }
        after = entries.last().map(|entry| entry.name.clone());
    }
}

/// Sees to one entry, `HOUR/G/R!`; whether it is done with.
async fn finish(store: &Store, entry: &str, mark: &PlainKey) -> Result<bool, Error> {
    let mut parts = entry.splitn(3, '/').skip(1);
    let (generation, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let repository = generation::repository(store, generation, path).await?;
    // What belongs to nobody any more is swept with its generation.
    let Some(repository) = repository else {
        store.records().delete(mark).await?;
        return Ok(true);
    };
    let key = key::repository_record(&repository);
    let found = record::read::<RepositoryRecord>(store.records(), &key).await?;
    // Done by somebody else; or the order died before it was given, or was taken back.
    let Some(ordered) = found.filter(|found| found.value.deleting.is_some()) else {
        store.records().delete(mark).await?;
        return Ok(true);
    };
    if let Some(by) = blob::pinned_by(store, &key::pins(&repository)).await? {
        take_back(store, &repository).await?;
        store.records().delete(mark).await?;
        tracing::warn!(repository = %repository.name(), by, "the repository is not deleted: a published version needs it");
        return Ok(true);
    }
    tracing::info!(repository = %repository.name(), "the repository is being deleted");
    if !emptied(store, &repository).await? {
        return Ok(false);
    }
    // The record goes last but for the mark: without it nobody would look here again.
    record::remove(store.records(), &key::cursor(&repository)).await?;
    store.records().delete(&key::news(&repository)).await?;
    match store.records().remove(&key, ordered.version()).await {
        Ok(()) => {}
        Err(Error::Conflict) => return Ok(false),
        Err(other) => return Err(other),
    }
    store.records().delete(mark).await?;
    store.unseen(&repository);
    tracing::info!(repository = %repository.name(), "the repository was deleted");
    Ok(true)
}

/// Removes all that is in a repository; `false` while a push is in flight to it.
async fn emptied(store: &Store, repository: &Repository) -> Result<bool, Error> {
    #[expect(clippy::disallowed_methods, reason = "the right was spent when the deletion was ordered")]
    let target = &Deletable::new(repository.clone());
    store.mark_dirty(repository).await?;
    loop {
        // In flight first: a push's pending goes after its last write.
        let in_flight = in_flight(store, repository).await?;
        let mut removed = 0;
        for what in [What::Tags, What::Manifests, What::Blobs] {
            let prefix = what.prefix(repository);
            removed += each(store, &prefix, |name| what.remove(store, target, &prefix, name).boxed()).await?;
        }
        if removed > 0 {
            continue;
        }
        if in_flight {
            return Ok(false);
        }
        for prefix in [key::tagged_all(repository), key::referrers_all(repository), key::last_pulls(repository)] {
            each(store, &prefix, |name| {
                let key = prefix.plain(&name);
                async move { store.records().delete(&key).await }.boxed()
            })
            .await?;
        }
        return Ok(true);
    }
}

/// What a repository is made of, in the order in which it goes.
#[derive(Debug, Clone, Copy)]
enum What {
    Tags,
    Manifests,
    Blobs,
}

impl What {
    fn prefix(self, repository: &Repository) -> Prefix {
        match self {
            Self::Tags => key::tags(repository),
            Self::Manifests => key::manifests(repository),
            Self::Blobs => key::members(repository),
        }
    }

    async fn remove(self, store: &Store, target: &Deletable, prefix: &Prefix, name: String) -> Result<(), Error> {
        let gone = match (self, Digest::from_dashed(&name)) {
            (Self::Manifests, Ok(digest)) => manifest::delete_whatever(store, target, &digest).await,
            (Self::Blobs, Ok(digest)) => blob::delete_now(store, target, &digest).await,
            (Self::Tags, _) | (_, Err(_)) => Err(Error::NoManifest),
        };
        match gone {
            // A tag, or what is there and counts as absent: the record alone.
            Err(Error::NoManifest | Error::NoBlob | Error::NoRepository) => {
                record::remove(store.records(), &prefix.record(&name)).await
            }
            other => other,
        }
    }
}

/// Removes everything under a prefix as it stands now; gives how much that was.
async fn each<'a>(
    store: &Store,
    prefix: &Prefix,
    remove: impl Fn(String) -> BoxFuture<'a, Result<(), Error>>,
) -> Result<usize, Error> {
    let (mut count, mut after) = (0, None::<String>);
    loop {
        let entries = store.records().page(prefix, after.as_deref(), PAGE).await?;
        for some in entries.chunks(PARALLEL) {
            futures::future::try_join_all(some.iter().map(|entry| remove(entry.name.clone()))).await?;
        }
        count += entries.len();
        if entries.len() < PAGE {
            return Ok(count);
        }
        after = entries.last().map(|entry| entry.name.clone());
    }
}

/// Whether a manifest is on its way into the repository; what died on its way is cleared.
async fn in_flight(store: &Store, repository: &Repository) -> Result<bool, Error> {
    let prefix = key::pendings(repository);
    let entries = store.records().page(&prefix, None, PAGE).await?;
    // Its push gives up at its deadline.
    let deadline = store.lives().deadline;
    let dead_after = deadline + deadline / 2;
    let dead = |modified: Time| (store.now() - modified).to_std().is_ok_and(|age| age > dead_after);
    let mut alive = entries.len() == PAGE;
    for entry in &entries {
        if dead(entry.modified) {
            store.records().delete(&prefix.plain(&entry.name)).await?;
        } else {
            alive = true;
        }
    }
    Ok(alive)
}
