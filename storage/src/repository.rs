//! Repositories: their existence, which a push makes, and the page of an account's repositories.

use serde::{Deserialize, Serialize};

use crate::{Account, Error, Readable, Repository, RepositoryName, Store, Time, Writable, key, record};

/// The record of a repository.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RepositoryRecord {
    created: Time,
    /// Set while the repository is being deleted: nothing is pushed to it until that is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deleting: Option<serde_json::Value>,
}

/// Makes the repository at the first push to it. [`Error::Deleting`] while it is being deleted.
pub(crate) async fn ensure(store: &Store, target: &Writable) -> Result<(), Error> {
    store.writable()?;
    let repository = target.repository();
    if store.recently_seen(repository) {
        return Ok(());
    }
    let key = key::repository_record(repository);
    match record::read::<RepositoryRecord>(store.records(), &key).await? {
        Some(found) if found.value.deleting.is_some() => return Err(Error::Deleting),
        Some(_) => {}
        None => {
            let new = RepositoryRecord { created: store.now(), deleting: None };
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

/// A page of repository names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The names, in the byte order of their keys.
    pub names: Vec<RepositoryName>,
    /// Whether more follow.
    pub more: bool,
}

/// At most `limit` repositories of one account, those after `after`. An empty account costs one request.
pub async fn page(
    store: &Store,
    account: &Account,
    after: Option<&RepositoryName>,
    limit: usize,
) -> Result<Page, Error> {
    if limit == 0 {
        return Ok(Page { names: Vec::new(), more: false });
    }
    let after = after.map(|name| key::bang(name.path()));
    let mut entries =
        store.records().page(&key::repositories(account), after.as_deref(), limit.saturating_add(1)).await?;
    let more = entries.len() > limit;
    entries.truncate(limit);
    let names = entries
        .iter()
        .filter_map(|entry| format!("{}/{}", account.name(), entry.name.replace('!', "/")).parse().ok())
        .collect();
    Ok(Page { names, more })
}
