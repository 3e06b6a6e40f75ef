//! The count: what is there while it is counted, a bounded slice at a time.
//!
//! A slice costs one list per repository and thousand rows, one read per blob, two or three for one that was mounted, [`BUDGET`]
//! rows at most; who adds the slices up has the whole.

use serde::Serialize;

use crate::{
    Account, Digest, Error, Repository, Store,
    key::{self, DataId, Prefix},
    member::{self, Member},
    record,
};

/// Rows that one slice looks at.
pub const BUDGET: usize = 1000;
/// Records read at once.
const AT_ONCE: usize = 32;

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Repositories.
    pub repositories: u64,
    /// Tags.
    pub tags: u64,
    /// Manifests.
    pub manifests: u64,
    /// Blobs, once for each repository that contains them.
    pub blobs: u64,
    /// Bytes of these blobs: what the account would keep if nothing were shared.
    pub bytes: u64,
    /// Bytes that are kept: blobs that several repositories share are counted in the one that they were pushed to, or in the first
    /// of those that are left.
    pub stored_bytes: u64,
}

/// Where a count goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// The repository's path.
    path: String,
    part: Part,
    after: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Tags,
    Manifests,
    Blobs,
    /// The repository is counted; the next one begins.
    End,
}

impl Part {
    const ALL: [(Self, &'static str); 4] =
        [(Self::Tags, "t"), (Self::Manifests, "m"), (Self::Blobs, "b"), (Self::End, "-")];

    fn next(self) -> Self {
        match self {
            Self::Tags => Self::Manifests,
            Self::Manifests => Self::Blobs,
            Self::Blobs | Self::End => Self::End,
        }
    }
}

impl Place {
    fn text(&self) -> String {
        let part = Part::ALL.iter().find(|(part, _)| *part == self.part).map_or("-", |(_, text)| text);
        format!("{part} {} {}", self.path, self.after.as_deref().unwrap_or_default())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(3, ' ');
        let (part, path, after) = (words.next()?, words.next()?, words.next()?);
        let (part, _) = Part::ALL.into_iter().find(|(_, text)| *text == part)?;
        Some(Self { path: path.to_owned(), part, after: Some(after.to_owned()).filter(|after| !after.is_empty()) })
    }
}

/// Counts one slice of an account from `from` on, a place that an earlier slice ended at; gives the place where this one ended, `None`
/// when the account is counted. A place that makes no sense is the beginning.
pub async fn count(store: &Store, account: &Account, from: Option<&str>) -> Result<(Usage, Option<String>), Error> {
    let (mut usage, mut budget) = (Usage::default(), BUDGET);
    let mut place = from.and_then(Place::parse);
    let repositories = key::repositories(account);
    while budget > 0 {
        if place.as_ref().is_none_or(|place| place.part == Part::End) {
            let after = place.as_ref().map(|place| key::bang(&place.path));
            let entries = store.records().page(&repositories, after.as_deref(), 1).await?;
            let Some(entry) = entries.first() else { return Ok((usage, None)) };
            usage.repositories += 1;
            budget -= 1;
            place = Some(Place { path: entry.name.replace('!', "/"), part: Part::Tags, after: None });
        }
        let Some(at) = place.as_mut() else { continue };
        let name = format!("{}/{}", account.name(), at.path).parse().ok();
        let Some(repository) = name.and_then(|name| Repository::new(account.clone(), name)) else {
            at.part = Part::End;
            continue;
        };
        let (prefix, counter) = match at.part {
            Part::Tags => (key::tags(&repository), &mut usage.tags),
            Part::Manifests => (key::manifests(&repository), &mut usage.manifests),
            Part::Blobs => (key::members(&repository), &mut usage.blobs),
            Part::End => continue,
        };
        let entries = store.records().page(&prefix, at.after.as_deref(), budget).await?;
        *counter += entries.len() as u64;
        if at.part == Part::Blobs {
            let names = entries.iter().map(|entry| entry.name.as_str());
            let (bytes, stored) = sizes(store, &repository, &prefix, names).await?;
            usage.bytes += bytes;
            usage.stored_bytes += stored;
        }
        let whole = entries.len() < budget;
        budget -= entries.len();
        if whole {
            (at.part, at.after) = (at.part.next(), None);
        } else {
            at.after = entries.last().map(|entry| entry.name.clone());
        }
    }
    Ok((usage, place.map(|place| place.text())))
}

/// Bytes of some members, and of those the bytes that are counted here because no other repository counts them.
async fn sizes(
    store: &Store,
    repository: &Repository,
    prefix: &Prefix,
    names: impl Iterator<Item = &str>,
) -> Result<(u64, u64), Error> {
    let names: Vec<_> = names.collect();
    let (mut bytes, mut stored) = (0, 0);
    for some in names.chunks(AT_ONCE) {
        let sizes = some.iter().map(|name| async move {
            let found = record::read::<Member>(store.records(), &prefix.record(name)).await?;
            let Some(member) = found.map(|found| found.value) else { return Ok::<_, Error>((0, 0)) };
            let Some(x) = member.data(repository.account()) else { return Ok((0, 0)) };
            let here = member.origin == repository.name().path() || heir(store, repository, name, &member, &x).await?;
            Ok((member.size, if here { member.size } else { 0 }))
        });
        for size in futures::future::join_all(sizes).await {
            let (size, here) = size?;
            bytes += size;
            stored += here;
        }
    }
    Ok((bytes, stored))
}

/// Whether a repository that did not push a blob counts it: the one that did contains it no more, and this is the first of those
/// that share it.
async fn heir(store: &Store, repository: &Repository, name: &str, member: &Member, x: &DataId) -> Result<bool, Error> {
    let Ok(digest) = Digest::from_dashed(name) else { return Ok(false) };
    let contains = async |path: &str| {
        let Some(other) = member::sibling(repository, path) else { return Ok::<_, Error>(false) };
        let found = member::get(store, &other, &digest).await?;
        Ok(found.is_some_and(|found| found.value.x.as_deref() == Some(x.id())))
    };
    if contains(&member.origin).await? {
        return Ok(false);
    }
    let (shares, mut after) = (key::shares(x), None::<String>);
    loop {
        let entries = store.records().page(&shares, after.as_deref(), AT_ONCE).await?;
        for entry in &entries {
            let path = entry.name.replace('!', "/");
            if path == repository.name().path() {
                return Ok(true);
            }
            if contains(&path).await? {
                return Ok(false);
            }
        }
        if entries.len() < AT_ONCE {
            // A member without its share: nobody else counts it.
            return Ok(true);
        }
        after = entries.last().map(|entry| entry.name.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        for (part, after) in [(Part::Tags, None), (Part::Blobs, Some("sha256-00")), (Part::End, None)] {
            let place = Place { path: "web/api".into(), part, after: after.map(str::to_owned) };
            assert_eq!(Place::parse(&place.text()), Some(place));
        }
        for bad in ["", "x a b", "t", "t a"] {
            assert_eq!(Place::parse(bad), None, "{bad}");
        }
    }
}
