//! Repositories: their existence, which a push makes, their settings, the page of an account's repositories, and their deletion.

mod delete;
mod settings;
mod summary;

use serde::{Deserialize, Serialize};

pub use delete::{Pass, delete, finish_deletions};
pub use settings::{PATTERN_LIMIT, RepositorySettings, TagPattern, change};
pub(crate) use settings::{immutable, movable};
pub(crate) use summary::note;
pub use summary::{Found, Kind, Page, Summary, TAGS_COUNTED, get, page, summaries};

use crate::{Error, Readable, Repository, Store, Time, Writable, key, record};

/// The record of a repository.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RepositoryRecord {
    pub(crate) created: Time,
    #[serde(default, skip_serializing_if = "RepositorySettings::is_default")]
    pub(crate) settings: RepositorySettings,
    /// Set while the repository is being deleted: nothing is pushed to it until that is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deleting: Option<Deleting>,
}

/// The order to delete a repository. What is left of it is what is left to do, so nothing more has to be remembered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Deleting {
    pub(crate) since: Time,
}

/// Makes the repository at the first push to it. [`Error::Deleting`] while it is being deleted.
pub(crate) async fn ensure(store: &Store, target: &Writable) -> Result<(), Error> {
    store.writable()?;
    if store.recently_seen(target.repository()) {
        return Ok(());
    }
    ensure_now(store, target.repository()).await
}

/// The same, looking at the record itself: a manifest's push does so after its pending is written, and a deletion sets its flag
/// before it looks at pendings, so one of the two sees the other.
pub(crate) async fn ensure_now(store: &Store, repository: &Repository) -> Result<(), Error> {
    let key = key::repository_record(repository);
    match record::read::<RepositoryRecord>(store.records(), &key).await? {
        Some(found) if found.value.deleting.is_some() => {
            store.unseen(repository);
            return Err(Error::Deleting);
        }
        Some(_) => {}
        None => {
            let new =
                RepositoryRecord { created: store.now(), settings: RepositorySettings::default(), deleting: None };
            match record::create(store.records(), &key, new).await {
                // Another first push was faster; that is as good.
                Ok(_) | Err(Error::Conflict) => {}
                Err(other) => return Err(other),
            }
        }
    }
    store.seen(repository);
    Ok(())
}

/// Whether the repository exists. Asked only where something in it was not found, and then always.
pub(crate) async fn exists(store: &Store, repository: &Repository) -> Result<bool, Error> {
    Ok(store.records().get(&key::repository_record(repository)).await?.is_some())
}

/// What an absent thing inside `repository` is: `absent` if the repository is there, [`Error::NoRepository`] otherwise.
pub(crate) async fn absent(store: &Store, repository: &Repository, absent: Error) -> Error {
    match exists(store, repository).await {
        Ok(true) => absent,
        Ok(false) => Error::NoRepository,
        Err(error) => error,
    }
}

/// [`Error::NoRepository`] unless the repository exists.
pub async fn require(store: &Store, source: &Readable) -> Result<(), Error> {
    if exists(store, source.repository()).await? { Ok(()) } else { Err(Error::NoRepository) }
}
