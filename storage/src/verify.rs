//! The walk over everything that is kept: tag → manifest → member → bytes, each hashed again.
//!
//! It reads and reports; it repairs nothing. It may run beside a server: what is pushed or deleted meanwhile is either seen whole
//! or looked at again before it is called a problem.

use std::collections::HashSet;

use futures::TryStreamExt;
use serde::Serialize;

use crate::{
    Account, Digest, Error, Readable, Reference, Repository, RepositoryName, Store, generation,
    hash::Hasher,
    key::{self, Prefix},
    manifest::{self, Kind},
    member, record, repository,
    tag::TagRecord,
};

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Living accounts.
    pub accounts: u64,
    /// Repositories.
    pub repositories: u64,
    /// Tags.
    pub tags: u64,
    /// Manifests.
    pub manifests: u64,
    /// Blobs, once for each repository that contains them.
    pub blobs: u64,
    /// Bytes that were hashed.
    pub bytes: u64,
    /// Data objects that no blob, upload or trash intent names; they cost space and harm nothing.
    pub unnamed: u64,
    /// Problems that were found.
    pub problems: u64,
}

/// Something that is not as it was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where: a repository, or an account.
    pub place: String,
    /// What.
    pub what: String,
}

const PAGE: usize = 1000;

/// What the walk meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Something that is not as it was acknowledged.
    Problem(Problem),
    /// A data object that no blob, upload or trash intent names: its account, and its id.
    Unnamed(Problem),
}

struct Walk<'a> {
    store: &'a Store,
    report: Report,
    found: &'a mut (dyn FnMut(Found) + Send),
}

/// Looks at every account; `found` is told what is met. A store that cannot be read ends the walk with its error.
pub async fn everything(store: &Store, found: &mut (dyn FnMut(Found) + Send)) -> Result<Report, Error> {
    let mut walk = Walk { store, report: Report::default(), found };
    let mut after = None;
    loop {
        let (accounts, next) = generation::page(store, after.as_deref()).await?;
        for account in &accounts {
            walk.account(account).await?;
        }
        match next {
            Some(next) => after = Some(next),
            None => return Ok(walk.report),
        }
    }
}

impl Walk<'_> {
    fn problem(&mut self, place: &(impl ToString + ?Sized), what: impl Into<String>) {
        self.report.problems += 1;
        (self.found)(Found::Problem(Problem { place: place.to_string(), what: what.into() }));
    }

    async fn account(&mut self, account: &Account) -> Result<(), Error> {
        self.report.accounts += 1;
        let mut named = HashSet::new();
        let mut after: Option<RepositoryName> = None;
        loop {
            let page = repository::page(self.store, account, after.as_ref(), PAGE).await?;
            for name in &page.names {
                if let Some(repository) = Repository::new(account.clone(), name.clone()) {
                    self.repository(&repository, &mut named).await?;
                }
            }
            after = page.names.last().cloned();
            if !page.more {
                break;
            }
        }
        self.unnamed(account, &named).await
    }

    async fn repository(&mut self, repository: &Repository, named: &mut HashSet<String>) -> Result<(), Error> {
        self.report.repositories += 1;
        for name in names(self.store, &key::members(repository)).await? {
            match Digest::from_dashed(&name) {
                Ok(digest) => self.blob(repository, &digest, named).await?,
                Err(_) => self.problem(repository.name(), format!("a blob's key is no digest: {name}")),
            }
        }
        for name in names(self.store, &key::manifests(repository)).await? {
            match Digest::from_dashed(&name) {
                Ok(digest) => self.manifest(repository, &digest).await?,
                Err(_) => self.problem(repository.name(), format!("a manifest's key is no digest: {name}")),
            }
        }
        for name in names(self.store, &key::tags(repository)).await? {
            self.tag(repository, &name).await?;
        }
        Ok(())
    }

    async fn blob(
        &mut self,
        repository: &Repository,
        digest: &Digest,
        named: &mut HashSet<String>,
    ) -> Result<(), Error> {
        let Some(found) = member::get(self.store, repository, digest).await? else { return Ok(()) };
        let Some(x) = found.value.data(repository.account()) else { return Ok(()) };
        self.report.blobs += 1;
        // Two repositories that share bytes need them hashed once.
        if !named.insert(x.id().to_owned()) {
            return Ok(());
        }
        let size = found.value.size;
        let range = (size > 0).then_some(0..size);
        let content = match self.store.bytes().read(&x, range).await {
            Ok(content) => content,
            Err(Error::NoBlob) => {
                // Deleted under the walk, or lost: only what is still promised is a loss.
                if member::get(self.store, repository, digest).await?.is_some() {
                    self.problem(repository.name(), format!("blob {digest} has no bytes (data {})", x.id()));
                }
                return Ok(());
            }
            Err(other) => return Err(other),
        };
        if content.size < size {
            let have = content.size;
            self.problem(repository.name(), format!("blob {digest} has {have} bytes, its record says {size}"));
            return Ok(());
        }
        let mut hasher = Hasher::new(Some(digest.algorithm()));
        let mut stream = content.stream;
        if size > 0 {
            while let Some(chunk) = stream.try_next().await? {
                self.report.bytes += chunk.len() as u64;
                hasher = hasher.update_detached(chunk).await?;
            }
        }
        if hasher.digest(digest.algorithm()).as_ref() != Some(digest) {
            self.problem(repository.name(), format!("blob {digest} does not hash to its digest (data {})", x.id()));
        }
        Ok(())
    }

    async fn manifest(&mut self, repository: &Repository, digest: &Digest) -> Result<(), Error> {
        self.report.manifests += 1;
        #[expect(clippy::disallowed_methods, reason = "the walk reads every repository, for the operator")]
        let readable = Readable::new(repository.clone());
        let manifest = match manifest::get(self.store, &readable, &Reference::Digest(digest.clone())).await {
            Ok(manifest) => manifest,
            Err(Error::NoManifest | Error::NoRepository) => return Ok(()),
            Err(Error::Corrupt { what }) => {
                self.problem(repository.name(), format!("manifest {digest}: {what}"));
                return Ok(());
            }
            Err(other) => return Err(other),
        };
        self.report.bytes += manifest.bytes.len() as u64;
        if Digest::of(digest.algorithm(), &manifest.bytes) != *digest {
            self.problem(repository.name(), format!("manifest {digest} does not hash to its digest"));
        }
        let sparse = self.store.settings().sparse_manifests;
        for reference in manifest.references.iter().filter(|_| !sparse) {
            if reference.kind == Kind::Blob && member::get(self.store, repository, &reference.digest).await?.is_none() {
                let lost = &reference.digest;
                self.problem(repository.name(), format!("manifest {digest} needs blob {lost}, which is not there"));
            }
        }
        Ok(())
    }

    async fn tag(&mut self, repository: &Repository, name: &str) -> Result<(), Error> {
        self.report.tags += 1;
        let key = key::tags(repository).record(name);
        let Some(found) = record::read::<TagRecord>(self.store.records(), &key).await? else { return Ok(()) };
        if name.parse::<crate::Tag>().is_err() {
            self.problem(repository.name(), format!("a tag's key is no tag: {name}"));
        }
        let target = key::manifest(repository, &found.value.digest);
        if self.store.records().get(&target).await?.is_none() {
            // Moved or deleted under the walk?
            let now = record::read::<TagRecord>(self.store.records(), &key).await?;
            if now.is_some_and(|now| now.value.digest == found.value.digest) {
                let lost = found.value.digest;
                self.problem(repository.name(), format!("tag {name} points at {lost}, which is not there"));
            }
        }
        Ok(())
    }

    /// Data that nothing names: what an upload or the trash still names is theirs.
    async fn unnamed(&mut self, account: &Account, named: &HashSet<String>) -> Result<(), Error> {
        let uploads = upload_data(self.store, account).await?;
        let mut trashed = None;
        let mut after: Option<String> = None;
        loop {
            let page = self.store.bytes().page(account.generation(), after.as_deref(), PAGE).await?;
            for x in page.iter().filter(|x| !named.contains(x.id()) && !uploads.contains(x.id())) {
                // Read as late as can be: what was given up a moment ago waits in the trash by now.
                if trashed.is_none() {
                    trashed = Some(trash(self.store, account).await?);
                }
                if !trashed.as_ref().is_some_and(|trashed| trashed.contains(x.id())) {
                    self.report.unnamed += 1;
                    let what = format!("data {} is named by nothing", x.id());
                    (self.found)(Found::Unnamed(Problem { place: account.name().to_string(), what }));
                }
            }
            if page.len() < PAGE {
                return Ok(());
            }
            after = page.last().map(|x| x.id().to_owned());
        }
    }
}

async fn names(store: &Store, prefix: &Prefix) -> Result<Vec<String>, Error> {
    let mut all = Vec::new();
    loop {
        let after = all.last().cloned();
        let page: Vec<_> = store.records().page(prefix, after.as_deref(), PAGE).await?;
        let end = page.len() < PAGE;
        all.extend(page.into_iter().map(|entry| entry.name));
        if end {
            return Ok(all);
        }
    }
}

/// The data objects of an account that wait in the trash.
async fn trash(store: &Store, account: &Account) -> Result<HashSet<String>, Error> {
    let names = names(store, &key::trash_all()).await?;
    let own = format!("/{}/", account.generation());
    Ok(names.iter().filter_map(|name| name.split_once(&own)).map(|(_, id)| id.to_owned()).collect())
}

/// The data objects that upload sessions name.
async fn upload_data(store: &Store, account: &Account) -> Result<HashSet<String>, Error> {
    #[derive(serde::Deserialize)]
    struct Named {
        x: String,
        was: Option<String>,
    }
    let prefix = key::uploads(account);
    let mut data = HashSet::new();
    for name in names(store, &prefix).await? {
        if name.contains('.') {
            continue;
        }
        if let Some(found) = store.records().get(&prefix.record(&name)).await?
            && let Ok(session) = serde_json::from_slice::<Named>(&found.body)
        {
            data.insert(session.x);
            data.extend(session.was);
        }
    }
    Ok(data)
}
