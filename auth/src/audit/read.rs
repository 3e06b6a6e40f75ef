//! Lines by the time they were written, a page at a time.

use storage::{
    AccountName, Generation, Time,
    generation::GenerationRecord,
    key::{self, AuditBatch, Prefix},
    record,
};

use super::{
    batch::{Opening, lines},
    event::Event,
};
use crate::{
    error::Error,
    installation::Auth,
    page::{Listing, Page},
    principal::Actor,
    right::Right,
};

/// Most events of a page.
const MOST: usize = 1000;
/// Batches that are looked up at once.
const BATCHES: usize = 100;
/// Batches of a page that are read at once.
const AT_ONCE: usize = 8;

impl Auth {
    /// The audit of an account from `since` on, oldest first; the owner's and a viewer's. [`Page::after`] is what
    /// [`Listing::next`] gave, and a page may be shorter than its limit.
    pub async fn audit(
        &self,
        actor: &Actor,
        name: &AccountName,
        since: Option<Time>,
        page: &Page,
    ) -> Result<Listing<Event>, Error> {
        self.admit(actor, Right::ReadAudit, Some(name))?;
        let account = self.living(name).await?.value.account();
        self.events(account.generation(), since, page).await
    }

    /// The installation's own audit: operator keys, signing keys, and what happened to accounts; the operator's.
    pub async fn installation_audit(
        &self,
        actor: &Actor,
        since: Option<Time>,
        page: &Page,
    ) -> Result<Listing<Event>, Error> {
        self.admit(actor, Right::ReadInstallationAudit, None)?;
        self.events(&Generation::installation(), since, page).await
    }

    async fn events(&self, generation: &Generation, since: Option<Time>, page: &Page) -> Result<Listing<Event>, Error> {
        let limit = page.limit.clamp(1, MOST);
        let prefix = key::audits(generation);
        let mut found = Found { since, limit, items: Vec::new(), at: None };
        // A page may end within a batch: the next one begins there.
        let mut after = since.map(AuditBatch::written_from);
        if let Some((name, seen)) = page.after.as_deref().and_then(|after| after.rsplit_once('#')) {
            let batch = self.batch(&prefix, name).await?;
            found.add(name, batch.as_deref(), seen.parse().unwrap_or_default());
            after = Some(name.to_owned());
        }
        while !found.full() {
            let entries = self.records.page(&prefix, after.as_deref(), BATCHES).await?;
            for entries in entries.chunks(AT_ONCE) {
                let reads = entries.iter().map(|entry| self.batch(&prefix, &entry.name));
                for (entry, batch) in entries.iter().zip(futures::future::try_join_all(reads).await?) {
                    found.add(&entry.name, batch.as_deref(), 0);
                }
                if found.full() {
                    break;
                }
            }
            if entries.len() < BATCHES {
                break;
            }
            after = entries.last().map(|entry| entry.name.clone());
        }
        Ok(Listing { next: found.at.filter(|_| found.items.len() == limit), items: found.items })
    }

    /// The bytes of a batch, if it is there.
    async fn batch(&self, prefix: &Prefix, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let found = self.records.get_plain(&prefix.plain(name)).await?;
        Ok(found.map(|found| found.body.to_vec()))
    }

    /// Whose audits there are, deleted accounts' among them, those after `after`: generation and name. The installation's own is in
    /// no list.
    pub async fn audited(&self, page: &Page) -> Result<Listing<(Generation, AccountName)>, Error> {
        let prefix = key::generations();
        let rows = self.records.page(&prefix, page.after.as_deref(), page.limit).await?;
        let next = rows.last().filter(|_| rows.len() == page.limit).map(|row| row.name.clone());
        let mut items = Vec::new();
        for row in &rows {
            let read = record::read::<GenerationRecord>(&*self.records, &prefix.record(&row.name)).await?;
            let (Ok(generation), Some(found)) = (row.name.parse(), read) else { continue };
            items.push((generation, found.value.name));
        }
        Ok(Listing { items, next })
    }
}

/// The events of a page, as they are found.
struct Found {
    since: Option<Time>,
    limit: usize,
    items: Vec<Event>,
    /// The place of the last of them: its batch, and how many lines of it are behind.
    at: Option<String>,
}

impl Found {
    fn full(&self) -> bool {
        self.items.len() >= self.limit
    }

    /// Adds what of a batch there is room for. A line that cannot be read is left out: `verify` tells of it.
    fn add(&mut self, name: &str, batch: Option<&[u8]>, seen: usize) {
        let Some((_, rest)) = batch.and_then(Opening::read) else { return };
        for (i, line) in lines(rest).enumerate().skip(seen) {
            if self.full() {
                return;
            }
            let Ok(event) = serde_json::from_slice::<Event>(line) else { continue };
            if self.since.is_none_or(|since| event.ts >= since) {
                self.items.push(event);
                self.at = Some(format!("{name}#{}", i + 1));
            }
        }
    }
}
