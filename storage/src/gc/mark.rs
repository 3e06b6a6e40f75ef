//! Phase A: what the repository needs. Pendings are looked at before manifests, because a push writes its manifest before its
//! pending goes: whatever was pending when this began is seen in one of the two.

use futures::future::try_join_all;

use super::filter::Filter;
use crate::{
    Error, Repository, Store, Time,
    backend::Entry,
    key,
    manifest::{Header, ManifestReference, Pending},
    record,
};

/// Rows of a page.
const PAGE: usize = 1000;
/// Bodies in memory at once: this many bytes, one at least, and this many reads.
const WINDOW: u64 = 1 << 20;
const AT_ONCE: usize = 16;

/// What phase A saw.
pub(super) struct Needed {
    pub(super) filter: Filter,
    pub(super) manifests: u64,
}

/// Every digest that a push under way or a manifest names. Any error ends it: what was not seen might be needed.
pub(super) async fn needed(
    store: &Store,
    repository: &Repository,
    began: Time,
    expected: u64,
) -> Result<Needed, Error> {
    let mut needed = Needed { filter: Filter::sized_for(expected), manifests: 0 };
    pending(store, repository, began - store.lives().in_flight, &mut needed).await?;
    manifests(store, repository, |_, header| {
        needed.manifests += 1;
        needed.take(&header.refs);
    })
    .await?;
    Ok(needed)
}

async fn pending(store: &Store, repository: &Repository, dead: Time, needed: &mut Needed) -> Result<(), Error> {
    let prefix = key::pendings(repository);
    let mut after: Option<String> = None;
    loop {
        let entries = store.records().page(&prefix, after.as_deref(), PAGE).await?;
        for some in portions(&entries) {
            let keys = some.iter().map(|entry| (entry.modified <= dead, prefix.plain(&entry.name)));
            let bodies = try_join_all(keys.map(|(dead, key)| async move {
                // Who only counts takes nothing away.
                if dead && store.writable().is_ok() {
                    store.records().delete(&key).await?;
                }
                if dead {
                    return Ok(None);
                }
                // Gone by now: then its manifest is there, and manifests are listed after this.
                store.records().get_plain(&key).await
            }));
            for found in bodies.await?.into_iter().flatten() {
                let pending: Pending<'_> = serde_json::from_slice(&found.body)
                    .map_err(|error| Error::corrupt(format!("a pending under {prefix}: {error}")))?;
                needed.take(&pending.refs);
            }
        }
        if entries.len() < PAGE {
            return Ok(());
        }
        after = entries.last().map(|entry| entry.name.clone());
    }
}

/// Shows every manifest of a repository, by the name of its key.
pub(super) async fn manifests(
    store: &Store,
    repository: &Repository,
    mut show: impl FnMut(&str, &Header) + Send,
) -> Result<(), Error> {
    let prefix = key::manifests(repository);
    let mut after: Option<String> = None;
    loop {
        let entries = store.records().page(&prefix, after.as_deref(), PAGE).await?;
        for some in portions(&entries) {
            let keys = some.iter().map(|entry| prefix.record(&entry.name));
            let headers =
                try_join_all(keys.map(|key| async move { record::read::<Header>(store.records(), &key).await }));
            for (entry, header) in some.iter().zip(headers.await?) {
                if let Some(header) = header {
                    show(&entry.name, &header.value);
                }
            }
        }
        if entries.len() < PAGE {
            return Ok(());
        }
        after = entries.last().map(|entry| entry.name.clone());
    }
}

impl Needed {
    pub(super) fn take(&mut self, references: &[ManifestReference]) {
        for reference in references {
            self.filter.insert(&reference.digest);
        }
    }
}

/// The rows in portions whose bodies fit into memory together.
fn portions(entries: &[Entry]) -> Vec<&[Entry]> {
    let (mut portions, mut rest) = (Vec::new(), entries);
    while !rest.is_empty() {
        let mut size = 0;
        let fits = rest.iter().take(AT_ONCE).take_while(|entry| {
            size += entry.size;
            size <= WINDOW
        });
        let (some, others) = rest.split_at(fits.count().max(1));
        portions.push(some);
        rest = others;
    }
    portions
}
