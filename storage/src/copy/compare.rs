//! Whether two stores that nobody writes to hold the same.

use sha2::{Digest as _, Sha256};

use super::{Copier, merge::Merge};
use crate::{
    Account, Error, Generation, Repository, RepositoryName,
    backend::Records,
    generation::{GenerationRecord, GenerationState},
    key::{self, Prefix},
    member::Member,
    record,
    tag::TagRecord,
};

/// Keys of a page.
const PAGE: usize = 500;
/// Records read at once.
const AT_ONCE: usize = 32;

/// What a repository holds: counts, and one hash over tags, manifests and blobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Content {
    /// Its tags.
    pub tags: u64,
    /// Its manifests.
    pub manifests: u64,
    /// Its blobs.
    pub blobs: u64,
    /// (tag, digest), (manifest, hash of its bytes), (blob, data id, size).
    pub hash: [u8; 32],
}

/// Where two stores are not the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// A repository, or a key.
    pub place: String,
    /// What was found there.
    pub what: String,
}

impl Copier<'_> {
    /// Compares every repository, and what accounts, keys and credentials there are. Gives what is the same, summed up, and up to
    /// a hundred differences.
    pub async fn compare(&self) -> Result<(Content, Vec<Difference>), Error> {
        let (mut sum, mut differences) = (Content::default(), Vec::new());
        let (source, target) = (&*self.source.records, &*self.target.records);
        for prefix in [key::operator_keys(), key::hosts(), key::accounts(), key::generations(), key::authorities()] {
            let mut rows = Merge::new(&prefix, Some(source), target);
            while let Some(row) = rows.next().await? {
                let key = prefix.record(&row.name);
                let (here, there) = tokio::try_join!(source.get(&key), target.get(&key))?;
                if here.map(|found| found.body) != there.map(|found| found.body) {
                    differ(&mut differences, key.as_str(), "is not the same".into());
                }
            }
        }
        let prefix = key::generations();
        let mut generations = Merge::new(&prefix, Some(source), target);
        while let Some(row) = generations.next().await? {
            let Ok(generation) = row.name.parse::<Generation>() else { continue };
            let found = record::read::<GenerationRecord>(source, &key::generation(&generation)).await?;
            let Some(found) = found.filter(|found| found.value.state == GenerationState::Live) else { continue };
            #[expect(clippy::disallowed_methods, reason = "the generation itself was read")]
            let account = Account::new(found.value.name, generation);
            let prefix = key::repositories(&account);
            let mut repositories = Merge::new(&prefix, Some(source), target);
            while let Some(row) = repositories.next().await? {
                let name = format!("{}/{}", account.name(), row.name.replace('!', "/"));
                let parsed = name.parse::<RepositoryName>().ok();
                let Some(repository) = parsed.and_then(|name| Repository::new(account.clone(), name)) else { continue };
                let (here, there) = tokio::try_join!(content(source, &repository), content(target, &repository))?;
                if here != there || row.source.is_none() || row.target.is_none() {
                    differ(&mut differences, &name, format!("{} here, {} there", here.counts(), there.counts()));
                }
                sum.tags += here.tags;
                sum.manifests += here.manifests;
                sum.blobs += here.blobs;
                sum.hash = Sha256::new().chain_update(sum.hash).chain_update(here.hash).finalize().into();
            }
        }
        Ok((sum, differences))
    }
}

impl Content {
    fn counts(&self) -> String {
        format!("{} tags, {} manifests, {} blobs", self.tags, self.manifests, self.blobs)
    }
}

fn differ(differences: &mut Vec<Difference>, place: &str, what: String) {
    const LISTED: usize = 100;
    if differences.len() < LISTED {
        differences.push(Difference { place: place.to_owned(), what });
    }
}

/// Reads what a repository holds.
async fn content(records: &dyn Records, repository: &Repository) -> Result<Content, Error> {
    let mut content = Content::default();
    let mut hash = Sha256::new();
    for (part, prefix) in
        [('t', key::tags(repository)), ('m', key::manifests(repository)), ('b', key::members(repository))]
    {
        let mut after: Option<String> = None;
        loop {
            let page = records.page(&prefix, after.as_deref(), PAGE).await?;
            for some in page.chunks(AT_ONCE) {
                let lines = some.iter().map(|entry| line(records, &prefix, part, &entry.name));
                for line in futures::future::try_join_all(lines).await?.into_iter().flatten() {
                    hash.update(line);
                    match part {
                        't' => content.tags += 1,
                        'm' => content.manifests += 1,
                        _ => content.blobs += 1,
                    }
                }
            }
            if page.len() < PAGE {
                break;
            }
            after = page.last().map(|entry| entry.name.clone());
        }
    }
    content.hash = hash.finalize().into();
    Ok(content)
}

/// What counts of one record.
async fn line(records: &dyn Records, prefix: &Prefix, part: char, name: &str) -> Result<Option<String>, Error> {
    let key = prefix.record(name);
    let Some(found) = records.get(&key).await? else { return Ok(None) };
    Ok(Some(match part {
        't' => format!("t {name} {}\n", record::decode::<TagRecord>(&key, &found)?.0.value.digest),
        'm' => {
            let start = found.body.iter().position(|&b| b == b'\n').unwrap_or(found.body.len());
            format!("m {name} {}\n", hex::encode(Sha256::digest(found.body.get(start..).unwrap_or_default())))
        }
        _ => {
            let member = record::decode::<Member>(&key, &found)?.0.value;
            format!("b {name} {} {}\n", member.x.as_deref().unwrap_or("-"), member.size)
        }
    }))
}
