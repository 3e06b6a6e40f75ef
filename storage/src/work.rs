//! Queues of work by hour (`z/`, `x/`): opaque ids for whoever works in the background; no request reads them.
//!
//! An entry's hour says when it was left, and so when it is due. Two workers may take the same entry: all they do is safe twice.

use chrono::{DurationRound, NaiveDateTime, TimeDelta};

use crate::{
    Error, Repository, Store, Time, generation,
    key::{self, PlainKey, Prefix},
};

/// Rows of one look.
const PAGE: usize = 200;

/// One entry of a queue.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The key, to delete it when the work is done.
    pub(crate) key: PlainKey,
    /// When the hour began under which it lies.
    pub(crate) hour: Time,
    /// The account it belongs to.
    pub(crate) generation: String,
    /// What it is about: a repository's path with `!` for `/`, a data id.
    pub(crate) what: String,
    /// The store's time at which it was written last.
    pub(crate) modified: Time,
}

impl Entry {
    fn parse(prefix: &Prefix, row: &crate::backend::Entry) -> Option<Self> {
        let mut parts = row.name.splitn(3, '/');
        let (hour, generation, what) = (parts.next()?, parts.next()?, parts.next()?);
        // `%H` alone is no time to chrono: the minutes make it one.
        let hour = NaiveDateTime::parse_from_str(&format!("{hour}00"), "%Y%m%d%H%M").ok()?.and_utc();
        Some(Self {
            key: prefix.plain(&row.name),
            hour,
            generation: generation.to_owned(),
            what: what.to_owned(),
            modified: row.modified,
        })
    }

    /// The repository that it is about, while its account lives.
    pub(crate) async fn repository(&self, store: &Store) -> Result<Option<Repository>, Error> {
        generation::repository(store, &self.generation, &self.what).await
    }
}

/// One page of the entries after `after` whose hour began at `until` or before, and where the next page begins. Names that are no
/// entries, which sort first, are not among them.
pub(crate) async fn page(
    store: &Store,
    prefix: &Prefix,
    after: Option<&str>,
    until: Time,
) -> Result<(Vec<Entry>, Option<String>), Error> {
    // Hours begin with a digit, which is the next character after this one.
    let rows = store.records().page(prefix, Some(after.unwrap_or("/")), PAGE).await?;
    let mut entries: Vec<_> = rows.iter().filter_map(|row| Entry::parse(prefix, row)).collect();
    let due = entries.iter().take_while(|entry| entry.hour <= until).count();
    let more = rows.len() == PAGE && due == entries.len();
    entries.truncate(due);
    Ok((entries, rows.last().filter(|_| more).map(|row| row.name.clone())))
}

/// Leaves a repository to be collected at `when` or within the hour after: its mark is one that a push of a promise's life before
/// would have left.
pub(crate) async fn collect_at(store: &Store, repository: &Repository, when: Time) -> Result<PlainKey, Error> {
    let mark = key::dirty(when - store.lives().promise, repository);
    store.records().put(&mark, bytes::Bytes::from_static(b".")).await?;
    Ok(mark)
}

/// The last hour whose marks of repositories are due.
pub(crate) fn collected_until(store: &Store) -> Time {
    store.now() - store.lives().promise - store.lives().mark
}

/// The beginning of the hour of `at`.
pub(crate) fn hour_of(at: Time) -> Time {
    at.duration_trunc(TimeDelta::hours(1)).unwrap_or(at)
}

/// Marks a repository's collection as due now, by hand.
pub async fn collect_now(store: &Store, repository: &Repository) -> Result<(), Error> {
    let at = hour_of(collected_until(store));
    let mark = key::dirty(at, repository);
    store.records().put(&mark, bytes::Bytes::from_static(b".")).await
}
