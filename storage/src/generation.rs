//! Generations: which accounts there are, for work that concerns every one of them (`verify`, later collection and sweeps).
//!
//! Requests never page generations: they come with an account that somebody looked up.

use serde::{Deserialize, Serialize};

use crate::{Account, AccountName, Error, Generation, Repository, Store, Time, key, record};

/// `gen/<G>`: written before the account that means it, by whoever makes accounts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GenerationRecord {
    /// A label: which generation a name means is what `acct/<NAME>` says.
    pub name: AccountName,
    /// Whether it lives.
    pub state: GenerationState,
    /// Since when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Time>,
}

/// Whether a generation lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GenerationState {
    /// An account means it, or is about to.
    Live,
    /// Its account was deleted; what lies below it is swept.
    Deleted,
}

/// Living generations after `after`, and where the next page begins.
pub(crate) async fn page(store: &Store, after: Option<&str>) -> Result<(Vec<Account>, Option<String>), Error> {
    const PAGE: usize = 100;
    let prefix = key::generations();
    let entries = store.records().page(&prefix, after, PAGE).await?;
    let next = entries.last().filter(|_| entries.len() == PAGE).map(|last| last.name.clone());
    let mut accounts = Vec::new();
    for entry in &entries {
        let found = record::read::<GenerationRecord>(store.records(), &prefix.record(&entry.name)).await?;
        let Ok(generation) = entry.name.parse::<Generation>() else { continue };
        if let Some(found) = found.filter(|found| found.value.state == GenerationState::Live) {
            #[expect(clippy::disallowed_methods, reason = "the generation itself was read")]
            accounts.push(Account::new(found.value.name, generation));
        }
    }
    Ok((accounts, next))
}

/// The account of a generation, while it lives.
pub(crate) async fn living(store: &Store, generation: Generation) -> Result<Option<Account>, Error> {
    let found = record::read::<GenerationRecord>(store.records(), &key::generation(&generation)).await?;
    let living = found.map(|found| found.value).filter(|found| found.state == GenerationState::Live);
    #[expect(clippy::disallowed_methods, reason = "the generation itself was read")]
    let account = living.map(|found| Account::new(found.name, generation));
    Ok(account)
}

/// The repository that an entry of a queue names by generation and path (`!` for `/`), while its account lives.
pub(crate) async fn repository(store: &Store, generation: &str, path: &str) -> Result<Option<Repository>, Error> {
    let Ok(generation) = generation.parse::<Generation>() else { return Ok(None) };
    Ok(living(store, generation).await?.and_then(|account| repository_of(account, path)))
}

/// The repository of an account at a path, with `!` for `/`.
pub(crate) fn repository_of(account: Account, path: &str) -> Option<Repository> {
    let name = format!("{}/{}", account.name(), path.replace('!', "/")).parse().ok()?;
    Repository::new(account, name)
}

/// A round over the accounts that live, a page at a time.
#[derive(Debug, Default)]
pub(crate) enum Round {
    /// None is under way.
    #[default]
    Over,
    /// It goes on behind this generation, or begins.
    Behind(Option<String>),
}

impl Round {
    /// Begins one, unless one is under way.
    pub(crate) fn begin(&mut self) {
        if let Self::Over = self {
            *self = Self::Behind(None);
        }
    }

    /// The next accounts; `None` when the round is over.
    pub(crate) async fn next(&mut self, store: &Store) -> Result<Option<Vec<Account>>, Error> {
        let Self::Behind(after) = self else { return Ok(None) };
        let (accounts, next) = page(store, after.as_deref()).await?;
        *self = next.map_or(Self::Over, |next| Self::Behind(Some(next)));
        Ok(Some(accounts))
    }
}
