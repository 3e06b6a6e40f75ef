//! What an account says of one repository: which of its tags never move.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::RepositoryRecord;
use crate::{Error, NameError, Repository, Store, Tag, Writable, key, record};

/// Most patterns of one repository.
pub const PATTERN_LIMIT: usize = 64;

/// The settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositorySettings {
    /// Tags that match one of these are set once and never moved or deleted by themselves; `*` alone means every tag.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub immutable_tags: Vec<TagPattern>,
}

impl RepositorySettings {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn holds(&self, tag: &Tag) -> bool {
        self.immutable_tags.iter().any(|pattern| pattern.matches(tag))
    }
}

/// A pattern of tags: the characters of a tag, and `*` for any number of any of them.
///
/// ```
/// use storage::repository::TagPattern;
/// let pattern: TagPattern = "v*-lts".parse().unwrap();
/// assert!(pattern.matches(&"v1.2-lts".parse().unwrap()) && pattern.matches(&"v-lts".parse().unwrap()));
/// assert!(!pattern.matches(&"v1.2".parse().unwrap()) && !pattern.matches(&"rv1-lts".parse().unwrap()));
/// for bad in ["", "a b", "v?", "-v", &"a".repeat(129)] {
///     assert!(bad.parse::<TagPattern>().is_err(), "{bad}");
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TagPattern(String);

impl TagPattern {
    /// Whether a tag is meant.
    pub fn matches(&self, tag: &Tag) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|first| tag.as_str().strip_prefix(first)) else { return false };
        let mut parts = parts.peekable();
        if parts.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            match rest.split_once(part) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        false
    }
}

impl FromStr for TagPattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        // A pattern is a tag in which some characters are stars.
        match text.replace('*', "_").parse::<Tag>() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(NameError {
                what: "tag pattern",
                rule: "1 to 128 letters, digits and _ . - *, not starting with . or -",
            }),
        }
    }
}

impl TryFrom<String> for TagPattern {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<TagPattern> for String {
    fn from(pattern: TagPattern) -> Self {
        pattern.0
    }
}

/// Changes the settings; gives the record's `rev`. `seen` is the `rev` that the caller saw ([`Error::Stale`] if it is another).
pub async fn change(
    store: &Store,
    target: &Writable,
    settings: &RepositorySettings,
    seen: Option<u64>,
) -> Result<u64, Error> {
    store.writable()?;
    let key = key::repository_record(target.repository());
    loop {
        let Some(mut found) = record::read::<RepositoryRecord>(store.records(), &key).await? else {
            return Err(Error::NoRepository);
        };
        if seen.is_some_and(|seen| seen != found.rev()) {
            return Err(Error::Stale { rev: found.rev() });
        }
        if found.value.deleting.is_some() {
            return Err(Error::Deleting);
        }
        if found.value.settings == *settings {
            return Ok(found.rev());
        }
        found.value.settings.clone_from(settings);
        match record::update(store.records(), &key, &mut found).await {
            Ok(()) => return Ok(found.rev()),
            Err(Error::Conflict) => {}
            Err(other) => return Err(other),
        }
    }
}

/// [`Error::Immutable`] if the repository's settings keep this tag where it is. Read when a tag that exists would move or go, and
/// at no other time.
pub(crate) async fn movable(store: &Store, repository: &Repository, tag: &Tag) -> Result<(), Error> {
    match immutable(store, repository).await? {
        Some(settings) if settings.holds(tag) => Err(Error::Immutable { tag: tag.clone() }),
        _ => Ok(()),
    }
}

/// The settings, if they make any tag immutable.
pub(crate) async fn immutable(store: &Store, repository: &Repository) -> Result<Option<RepositorySettings>, Error> {
    let found = record::read::<RepositoryRecord>(store.records(), &key::repository_record(repository)).await?;
    Ok(found.map(|found| found.value.settings).filter(|settings| !settings.immutable_tags.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters_and_the_rest_for_itself() {
        for (pattern, yes, no) in [
            ("*", vec!["a", "v1.0"], vec![]),
            ("v*", vec!["v", "v1"], vec!["av1", "V1"]),
            ("*-rc*", vec!["1-rc", "1-rc2"], vec!["1-r", "rc"]),
            ("a*b*a", vec!["aba", "axbxa"], vec!["ab", "aa", "a"]),
            ("1.0", vec!["1.0"], vec!["1x0", "1.0.0"]),
            ("a**a", vec!["aa", "axa"], vec!["a"]),
        ] {
            let parsed: TagPattern = pattern.parse().unwrap();
            for tag in yes {
                assert!(parsed.matches(&tag.parse().unwrap()), "{pattern} {tag}");
            }
            for tag in no {
                assert!(!parsed.matches(&tag.parse().unwrap()), "{pattern} {tag}");
            }
        }
    }
}
