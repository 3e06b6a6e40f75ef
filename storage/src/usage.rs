//! How much an account keeps, counted when it is asked for, a bounded slice at a time.
//!
//! There is no running total: what is told is what was there while it was counted. A slice costs one list per repository and
//! thousand rows and one read per blob, [`BUDGET`] rows at most; who adds the slices up has the whole.

use serde::Serialize;

use crate::{
    Account, Error, Repository, Store,
    key::{self, Prefix},
    member::Member,
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
    /// Bytes of blobs in the repositories that they were pushed to: what is kept, but for blobs that outlived theirs.
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
            let (bytes, stored) =
                sizes(store, &prefix, entries.iter().map(|entry| entry.name.as_str()), &at.path).await?;
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

/// Bytes of some members, and of those the bytes that their own repository's push stored.
async fn sizes(
    store: &Store,
    prefix: &Prefix,
    names: impl Iterator<Item = &str>,
    path: &str,
) -> Result<(u64, u64), Error> {
    let keys: Vec<_> = names.map(|name| prefix.record(name)).collect();
    let (mut bytes, mut stored) = (0, 0);
    for some in keys.chunks(AT_ONCE) {
        let reads = some.iter().map(|key| record::read::<Member>(store.records(), key));
        for found in futures::future::join_all(reads).await {
            let Some(member) = found?.map(|found| found.value).filter(|member| member.x.is_some()) else { continue };
            bytes += member.size;
            if member.origin == path {
                stored += member.size;
            }
        }
    }
    Ok((bytes, stored))
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
