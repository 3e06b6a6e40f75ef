//! The rules of an account, and their grammar.

use std::{str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Account, Error, NameError, Store, key, record, repository::TagPattern};

/// Most rules of an account.
pub const RULE_LIMIT: usize = 64;
/// Most patterns of tags in a rule.
const TAG_PATTERNS: usize = 64;
/// The largest number of a [`Keep::last`].
const MOST_LAST: u32 = 1000;
/// The longest time in days.
const MOST_DAYS: u32 = 3650;
/// How long it may take until a process knows that an account has rules, or has none any more.
const KNOWN_FOR: Duration = Duration::from_mins(1);

/// All rules of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// The rules; their order means nothing.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which repositories it is for.
    pub repositories: RepositoryPattern,
    /// Which of their tags it is for; none: all of them.
    #[serde(default)]
    pub tags: Vec<TagPattern>,
    /// Which of these stay; without it the rule is not about tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
    /// Manifests go that nothing has named for so many days, as passes saw it, and nobody has pulled for 30; without it they
    /// stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untagged_days: Option<u32>,
    /// What becomes of tags that the repository's settings make immutable.
    #[serde(default)]
    pub immutable: Immutable,
}

/// What a rule keeps: what any of these says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// So many, those that were pushed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u32>,
    /// Those that were pushed within so many days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed_within_days: Option<u32>,
    /// Those that were pulled within so many days; one that never was counts from its push.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulled_within_days: Option<u32>,
}

/// What becomes of immutable tags.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Immutable {
    /// They stay.
    #[default]
    Keep,
    /// They go like others.
    MayRemove,
}

/// A pattern of repositories, by their path in the account: `*` is one segment, `**`, only last, one or more.
///
/// ```
/// use storage::retention::RepositoryPattern;
/// let matches = |pattern: &str, path: &str| pattern.parse::<RepositoryPattern>().unwrap().matches(path);
/// assert!(matches("web/*", "web/api") && matches("web/**", "web/api/v1") && matches("**", "app") && matches("app", "app"));
/// assert!(!matches("web/*", "web/api/v1") && !matches("web/**", "web") && !matches("web/*", "webs/api"));
/// for bad in ["", "/web", "web/", "**/web", "we*", "WEB"] {
///     assert!(bad.parse::<RepositoryPattern>().is_err(), "{bad}");
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryPattern(String);

impl RepositoryPattern {
    /// Whether a repository is meant.
    pub fn matches(&self, path: &str) -> bool {
        let (mut wanted, mut given) = (self.0.split('/'), path.split('/'));
        loop {
            match (wanted.next(), given.next()) {
                (None, None) | (Some("**"), Some(_)) => return true,
                (Some("*"), Some(_)) => {}
                (Some(wanted), Some(given)) if wanted == given => {}
                _ => return false,
            }
        }
    }
}

impl FromStr for RepositoryPattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = NameError {
            what: "repository pattern",
            rule: "a path in the account, in which * is one segment and ** the rest",
        };
        let segments: Vec<_> = text.split('/').collect();
        let last = segments.len() - 1;
        let plain: Vec<_> = segments
            .iter()
            .enumerate()
            .map(|(at, segment)| if *segment == "*" || (*segment == "**" && at == last) { "x" } else { segment })
            .collect();
        // A pattern is a name in which some segments are stars.
        match format!("a/{}", plain.join("/")).parse::<crate::RepositoryName>() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(bad),
        }
    }
}

impl TryFrom<String> for RepositoryPattern {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<RepositoryPattern> for String {
    fn from(pattern: RepositoryPattern) -> Self {
        pattern.0
    }
}

impl Rules {
    /// What is wrong with them, by JSON pointer.
    pub fn check(&self) -> Vec<(String, &'static str)> {
        let mut wrong = Vec::new();
        if self.rules.len() > RULE_LIMIT {
            wrong.push(("/rules".to_owned(), "at most 64 rules"));
        }
        for (at, rule) in self.rules.iter().enumerate() {
            let mut say = |field: &str, what| wrong.push((format!("/rules/{at}{field}"), what));
            if rule.tags.len() > TAG_PATTERNS {
                say("/tags", "at most 64 patterns");
            }
            if rule.untagged_days.is_some_and(|days| !(1..=MOST_DAYS).contains(&days)) {
                say("/untagged_days", "1 to 3650 days");
            }
            match &rule.keep {
                None if rule.untagged_days.is_none() => {
                    say("", "say what is kept (keep), or when untagged manifests go");
                }
                None => {}
                Some(Keep { last: None, pushed_within_days: None, pulled_within_days: None }) => {
                    say("/keep", "say last, pushed_within_days or pulled_within_days");
                }
                Some(keep) => {
                    if keep.last.is_some_and(|last| last > MOST_LAST) {
                        say("/keep/last", "0 to 1000");
                    }
                    let times = [("pushed", keep.pushed_within_days), ("pulled", keep.pulled_within_days)];
                    for (name, days) in times {
                        if days.is_some_and(|days| !(1..=MOST_DAYS).contains(&days)) {
                            say(&format!("/keep/{name}_within_days"), "1 to 3650 days");
                        }
                    }
                }
            }
        }
        wrong
    }

    /// Those that are for a repository, by its path in the account.
    pub fn of(&self, path: &str) -> Vec<&Rule> {
        self.rules.iter().filter(|rule| rule.repositories.matches(path)).collect()
    }
}

/// The rules of an account and how often they were written; 0: never.
pub async fn get(store: &Store, account: &Account) -> Result<(Rules, u64), Error> {
    let found = record::read::<Rules>(store.records(), &key::retention(account)).await?;
    Ok(found.map_or_else(|| (Rules::default(), 0), |found| (found.value.clone(), found.rev())))
}

/// Replaces the rules; gives how often they have been written. `seen` is what the caller saw of that ([`Error::Stale`] if it is
/// not so any more).
pub async fn change(store: &Store, account: &Account, rules: &Rules, seen: Option<u64>) -> Result<u64, Error> {
    store.writable()?;
    let key = key::retention(account);
    loop {
        let found = record::read::<Rules>(store.records(), &key).await?;
        let rev = found.as_ref().map_or(0, record::Document::rev);
        if seen.is_some_and(|seen| seen != rev) {
            return Err(Error::Stale { rev });
        }
        let written = match found {
            None => record::create(store.records(), &key, rules.clone()).await.map(|found| found.rev()),
            Some(mut found) => {
                found.value = rules.clone();
                record::update(store.records(), &key, &mut found).await.map(|()| found.rev())
            }
        };
        match written {
            Err(Error::Conflict) => {}
            Ok(rev) => {
                store.retention().changed(account);
                return Ok(rev);
            }
            Err(other) => return Err(other),
        }
    }
}

/// Whether an account has rules, as was known a minute ago at most.
pub(crate) async fn any(store: &Store, account: &Account) -> Result<bool, Error> {
    let now = store.elapsed();
    if let Some(known) = store.retention().known(account, now, KNOWN_FOR) {
        return Ok(known);
    }
    let (rules, _) = get(store, account).await?;
    let any = !rules.rules.is_empty();
    store.retention().learnt(account, any, now);
    Ok(any)
}
