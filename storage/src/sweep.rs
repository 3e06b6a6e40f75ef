//! The sweepers: upload sessions that are over, what is left of deleted accounts, marks whose target is gone.
//!
//! Each works in slices, finds its place anew whenever it is asked, and is safe when two do it at once.

use std::collections::{BTreeMap, btree_map};

use chrono::TimeDelta;
use futures::future::try_join_all;
use serde::Serialize;

use crate::{
    Account, Digest, Error, Generation, Repository, Store, Tag, Time,
    backend::Entry,
    generation::{self, GenerationRecord, GenerationState},
    key::{self, DataId},
    member::Member,
    record, referrer,
    tag::TagRecord,
    trash, upload,
};

/// Rows of a page, and of a slice.
const PAGE: usize = 500;
/// Things done at once.
const AT_ONCE: usize = 16;

/// What a slice did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// Upload sessions that were taken away.
    pub uploads: u64,
    /// Marks, entries among referrers and days of pulls of what is gone.
    pub marks: u64,
    /// Keys of deleted accounts.
    pub keys: u64,
}

/// Takes away the sessions of an account that nobody can go on with, a day after their tokens ended, the oldest first. What they
/// hold is left to the trash.
pub async fn uploads(store: &Store, account: &Account) -> Result<Swept, Error> {
    store.writable()?;
    let lives = store.lives();
    let over = store.now() - lives.session - lives.session_grace;
    let prefix = key::uploads(account);
    let mut swept = Swept::default();
    let mut after: Option<String> = None;
    loop {
        let rows = store.records().page(&prefix, after.as_deref(), PAGE).await?;
        for row in &rows {
            let (sid, tail) = row.name.split_once('.').map_or((row.name.as_str(), false), |(sid, _)| (sid, true));
            // Ids are ordered by time.
            if crate::name::upload_time(sid).is_some_and(|at| at > over) {
                return Ok(swept);
            }
            if tail {
                // Sorts after its document: an orphan, or one whose document has just gone.
                if store.records().get(&prefix.record(sid)).await?.is_none() {
                    store.records().delete(&prefix.plain(&row.name)).await?;
                }
            } else {
                match upload::bury(store, account, sid, row.modified).await {
                    Ok(buried) => swept.uploads += u64::from(buried),
                    // It stays, and keeps no other from its turn.
                    Err(Error::Corrupt { what }) => tracing::warn!("an old upload stays: {what}"),
                    Err(other) => return Err(other),
                }
            }
        }
        if rows.len() < PAGE {
            return Ok(swept);
        }
        after = rows.last().map(|row| row.name.clone());
    }
}

/// Takes away marks of a repository whose target is gone: of tags (`y/`), with a tag that an interrupted
/// deletion or push left, of referrers, of last pulls. Only those are touched that nobody has written for a day.
pub async fn marks(store: &Store, repository: &Repository) -> Result<Swept, Error> {
    store.writable()?;
    // The store's time: that of the pass over this repository, or of nothing if it never had one.
    let cursor = store.records().get(&key::cursor(repository)).await?;
    let Some(old) = cursor.map(|found| found.modified - store.lives().in_flight) else { return Ok(Swept::default()) };
    let mut swept = Swept::default();
    for (prefix, kind) in [
        (key::tagged_all(repository), Mark::Tagged),
        (key::referrers_all(repository), Mark::Referrer),
        (key::last_pulls(repository), Mark::LastPull),
    ] {
        let mut after: Option<String> = None;
        loop {
            let rows = store.records().page(&prefix, after.as_deref(), PAGE).await?;
            let aged: Vec<_> = rows.iter().filter(|row| row.modified <= old).collect();
            let (aged, again) = kind.once(aged);
            for some in again.chunks(AT_ONCE) {
                try_join_all(some.iter().map(|row| async {
                    let key = prefix.plain(&row.name);
                    store.records().delete(&key).await
                }))
                .await?;
                swept.marks += some.len() as u64;
            }
            for some in aged.chunks(AT_ONCE) {
                let gone = some.iter().map(|row| kind.sweep(store, repository, &prefix, &row.name, old));
                swept.marks += try_join_all(gone).await?.into_iter().map(u64::from).sum::<u64>();
            }
            if rows.len() < PAGE {
                break;
            }
            after = rows.last().map(|row| row.name.clone());
        }
    }
    Ok(swept)
}

#[derive(Debug, Clone, Copy)]
enum Mark {
    /// `y/M/tag/nonce`; `y/M/tag` of the release before.
    Tagged,
    /// `f/S/type-M`, the referrers of `S`.
    Referrer,
    /// `l/M`, `l/!tag`.
    LastPull,
}

impl Mark {
    /// Of marks that are a day old the newest of each manifest and tag, and the others, which say nothing beside it: pushes of the
    /// same manifest to the same tag each leave one. The newest, because another sweep may be about to clear an older one away,
    /// having seen the tag elsewhere before it came back.
    fn once(self, aged: Vec<&Entry>) -> (Vec<&Entry>, Vec<&Entry>) {
        if !matches!(self, Self::Tagged) {
            return (aged, Vec::new());
        }
        let about = |row: &Entry| row.name.splitn(3, '/').take(2).map(str::to_owned).collect::<Vec<_>>();
        let (mut newest, mut others) = (BTreeMap::<Vec<String>, &Entry>::new(), Vec::new());
        for row in aged {
            match newest.entry(about(row)) {
                btree_map::Entry::Vacant(first) => {
                    first.insert(row);
                }
                btree_map::Entry::Occupied(mut known) if known.get().modified < row.modified => {
                    others.push(known.insert(row));
                }
                btree_map::Entry::Occupied(_) => others.push(row),
            }
        }
        (newest.into_values().collect(), others)
    }

    /// Takes a mark away if its target is gone; whether it was.
    async fn sweep(
        self,
        store: &Store,
        repository: &Repository,
        prefix: &key::Prefix,
        name: &str,
        old: Time,
    ) -> Result<bool, Error> {
        let records = store.records();
        let tag_of = |text: &str| text.parse::<Tag>().ok().map(|tag| key::tag(repository, &tag));
        match self {
            Self::Tagged => {
                let Some((digest, mark)) = name.split_once('/') else { return Ok(false) };
                let (Ok(digest), Some(tag)) = (Digest::from_dashed(digest), key::tag_of_mark(mark)) else {
                    return Ok(false);
                };
                if !tagged(store, repository, &digest, &tag, old).await? {
                    return Ok(false);
                }
                // Who points the tag here later writes a mark of its own.
                records.delete(&prefix.plain(name)).await?;
                Ok(true)
            }
            Self::Referrer => {
                // `S/type-M`; of `S/!fallback` the tag may come back at any time.
                let digest = name.split_once('/').and_then(|(_, entry)| entry.split_once('-'));
                let Some(Ok(digest)) = digest.map(|(_, digest)| Digest::from_dashed(digest)) else { return Ok(false) };
                let gone = records.get(&key::manifest(repository, &digest)).await?.is_none();
                if gone {
                    // A deletion died between the manifest and its entry.
                    referrer::clear(store, repository, &prefix.plain(name), &digest).await?;
                }
                Ok(gone)
            }
            Self::LastPull => {
                let target = match name.strip_prefix('!') {
                    Some(tag) => tag_of(tag),
                    None => Digest::from_dashed(name).ok().map(|digest| key::manifest(repository, &digest)),
                };
                let Some(target) = target else { return Ok(false) };
                let gone = records.get(&target).await?.is_none();
                if gone {
                    records.delete(&prefix.plain(name)).await?;
                }
                Ok(gone)
            }
        }
    }
}

/// Whether a mark that is a day old says nothing any more: its tag points elsewhere, or did until here, because the manifest was
/// gone and nobody is pushing it to the tag.
async fn tagged(store: &Store, repository: &Repository, digest: &Digest, tag: &Tag, old: Time) -> Result<bool, Error> {
    let (records, manifest, key) = (store.records(), key::manifest(repository, digest), key::tag(repository, tag));
    let found = record::read::<TagRecord>(records, &key).await?;
    let Some(found) = found.filter(|found| found.value.digest == *digest) else { return Ok(true) };
    if records.get(&manifest).await?.is_some() {
        return Ok(false);
    }
    // A deletion or a push died between the manifest and its tag; or somebody has just set the tag, whose mark is young: he looks
    // at the manifest himself. Marks are looked at after the tag was read, and the manifest after the marks.
    let all = key::tagged_by(repository, digest, tag);
    let once = records.get_plain(&key::tagged_once(repository, digest, tag)).await?;
    if once.is_some_and(|mark| mark.modified > old) {
        return Ok(false);
    }
    let mut after: Option<String> = None;
    loop {
        let marks = records.page(&all, after.as_deref(), PAGE).await?;
        if marks.iter().any(|mark| mark.modified > old) {
            return Ok(false);
        }
        if marks.len() < PAGE {
            break;
        }
        after = marks.last().map(|mark| mark.name.clone());
    }
    if records.get(&manifest).await?.is_some() {
        return Ok(false);
    }
    match records.remove(&key, found.version()).await {
        Ok(()) => Ok(true),
        Err(Error::Conflict) => Ok(false),
        Err(other) => Err(other),
    }
}

/// A slice of what a deleted account has left: what it stored, then its keys and credentials, and in the end its generation, once its
/// audit has gone too. Until then it is swept again, because a write that began before the deletion may come late. Says whether
/// nothing is left to do now.
pub async fn generation(store: &Store, generation: &Generation) -> Result<(Swept, bool), Error> {
    store.writable()?;
    let key = key::generation(generation);
    let mut swept = Swept::default();
    let Some(found) = record::read::<GenerationRecord>(store.records(), &key).await? else { return Ok((swept, true)) };
    // An upload that was between its document and its bytes when the account was deleted is over by then.
    let since = found.value.deleted_at.map_or(TimeDelta::MAX, |at| store.now() - at);
    if found.value.state != GenerationState::Deleted || since < store.lives().trash {
        return Ok((swept, true));
    }
    #[expect(clippy::disallowed_methods, reason = "the generation itself was read, and it is dead")]
    let account = Account::new(found.value.name.clone(), generation.clone());
    let stored = key::stored(generation);
    // Where one bucket holds both, data objects lie among the records; they go with what names them.
    let mut after: Option<String> = None;
    while swept.keys < PAGE as u64 {
        let rows = store.records().page(&stored, after.as_deref(), AT_ONCE).await?;
        let names: Vec<_> = rows.iter().map(|row| row.name.as_str()).filter(|name| !name.starts_with("d/")).collect();
        try_join_all(names.iter().map(|name| forget(store, &account, name))).await?;
        swept.keys += names.len() as u64;
        if rows.len() < AT_ONCE {
            break;
        }
        // `0` follows `/`: behind all data objects.
        let among_data = rows.last().is_some_and(|row| row.name.starts_with("d/"));
        after = if among_data { Some("d0".to_owned()) } else { rows.last().map(|row| row.name.clone()) };
    }
    let authority = key::authority(generation);
    while swept.keys < PAGE as u64 {
        let rows = store.records().page(&authority, None, AT_ONCE).await?;
        try_join_all(rows.iter().map(|row| async {
            let key = authority.plain(&row.name);
            store.records().delete(&key).await
        }))
        .await?;
        swept.keys += rows.len() as u64;
        if rows.len() < AT_ONCE {
            break;
        }
    }
    if swept.keys > 0 {
        return Ok((swept, swept.keys < PAGE as u64));
    }
    // What was long ago before this slice found nothing is what counts: nothing of that time can come any more.
    if since >= store.lives().generation && store.records().page(&key::audits(generation), None, 1).await?.is_empty() {
        match store.records().remove(&key, found.version()).await {
            Ok(()) | Err(Error::Conflict) => {}
            Err(other) => return Err(other),
        }
    }
    Ok((swept, true))
}

/// Takes away one key of a dead account, after the bytes that it names. Records go by a plain delete here, and here alone: their
/// generation is never used again.
async fn forget(store: &Store, account: &Account, name: &str) -> Result<(), Error> {
    let prefix = key::stored(account.generation());
    let mut parts = name.split('/');
    let data = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("u"), Some(sid), None, None) if !sid.contains('.') => upload::data(store, account, sid).await,
        (Some("r"), Some(_), Some("b"), Some(_)) => record::read::<Member>(store.records(), &prefix.record(name))
            .await
            .map(|member| member.and_then(|member| member.value.data(account)).into_iter().collect()),
        _ => Ok(Vec::new()),
    };
    let data: Vec<DataId> = match data {
        Err(Error::Corrupt { what }) => {
            tracing::warn!("a record of a deleted account names no bytes that could be deleted: {what}");
            Vec::new()
        }
        other => other?,
    };
    for x in &data {
        trash::delete(store, x).await?;
    }
    store.records().delete(&prefix.plain(name)).await
}

/// A slow round over everything: what no mark leads to is found by it.
#[derive(Debug, Default)]
pub struct Round {
    generation: Option<String>,
    account: Option<Account>,
    repository: Option<String>,
}

/// Where a round is.
#[derive(Debug, Clone)]
pub enum Stop {
    /// At a living account.
    Account(Account),
    /// At a repository.
    Repository(Repository),
    /// At what a deleted account has left.
    Deleted(Generation),
    /// At the end; the next step begins anew.
    End,
}

impl Round {
    /// The next account, living or deleted.
    pub async fn next_account(&mut self, store: &Store) -> Result<Stop, Error> {
        let prefix = key::generations();
        loop {
            let rows = store.records().page(&prefix, self.generation.as_deref(), 1).await?;
            let Some(row) = rows.into_iter().next() else {
                *self = Self::default();
                return Ok(Stop::End);
            };
            let generation = row.name.parse::<Generation>().ok();
            self.generation = Some(row.name);
            let Some(generation) = generation else { continue };
            return Ok(match generation::living(store, generation.clone()).await? {
                Some(account) => Stop::Account(account),
                None => Stop::Deleted(generation),
            });
        }
    }

    /// The next living account, each of its repositories after it, or what is left of a deleted one.
    pub async fn next_repository(&mut self, store: &Store) -> Result<Stop, Error> {
        loop {
            let Some(account) = &self.account else {
                let stop = self.next_account(store).await?;
                if let Stop::Account(account) = &stop {
                    (self.account, self.repository) = (Some(account.clone()), None);
                }
                return Ok(stop);
            };
            let rows = store.records().page(&key::repositories(account), self.repository.as_deref(), 1).await?;
            let Some(row) = rows.into_iter().next() else {
                self.account = None;
                continue;
            };
            let found = generation::repository_of(account.clone(), &row.name);
            self.repository = Some(row.name);
            if let Some(repository) = found {
                return Ok(Stop::Repository(repository));
            }
        }
    }
}
