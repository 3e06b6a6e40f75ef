//! Repository patterns and actions, and the scopes of the distribution token protocol.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use storage::{AccountName, RepositoryName};

/// A set of actions on a repository. As JSON a list: `["pull","push"]`.
///
/// `push` implies `pull` in the same repositories, because clients HEAD and mount while they push; `delete` is never implied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[must_use]
pub struct Actions(u8);

impl Actions {
    /// None.
    pub const NONE: Self = Self(0);
    /// Read.
    pub const PULL: Self = Self(1);
    /// Write; implies [`Actions::PULL`] where it is used.
    pub const PUSH: Self = Self(2);
    /// Delete tags, manifests, blobs.
    pub const DELETE: Self = Self(4);
    /// All of them.
    pub const ALL: Self = Self(7);
    const NAMES: [(Self, &'static str); 3] = [(Self::PULL, "pull"), (Self::PUSH, "push"), (Self::DELETE, "delete")];

    /// Both sets.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What both sets have.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether `other` lies in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// With what is implied.
    pub const fn closed(self) -> Self {
        if self.contains(Self::PUSH) { self.union(Self::PULL) } else { self }
    }

    /// The one action of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|&(_, n)| n == name).map(|(action, _)| action)
    }

    /// The names, in the order pull, push, delete.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |&(action, _)| self.contains(action)).map(|(_, name)| name)
    }
}

impl fmt::Display for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join(","))
    }
}

impl Serialize for Actions {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

impl<'de> Deserialize<'de> for Actions {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        names.iter().try_fold(Self::NONE, |all, name| {
            let action =
                Self::named(name).ok_or_else(|| serde::de::Error::custom("actions are pull, push and delete"))?;
            Ok(all.union(action))
        })
    }
}

/// A set of repositories of one account.
///
/// - segments between `/`, at least two; the first is always the literal account name;
/// - `*` is exactly one segment, `**` one or more and only last;
/// - matched segment by segment, never by prefix: `acme/web/*` has nothing to do with `acme/webshop/x`.
///
/// ```
/// use auth::Pattern;
/// let pattern: Pattern = "acme/web/*".parse().unwrap();
/// assert!(pattern.matches(&"acme/web/api".parse().unwrap()));
/// assert!(!pattern.matches(&"acme/webshop/api".parse().unwrap()));
/// assert!(!pattern.matches(&"acme/web/api/v2".parse().unwrap()));
/// for bad in ["acme", "*/web", "**", "acme/**/x", "acme/we*", "acme//x", "acme/.."] {
///     assert!(bad.parse::<Pattern>().is_err(), "{bad}");
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(Box<str>);

/// Why a text is not a [`Pattern`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a pattern is ACCOUNT/NAME, ACCOUNT/PATH/* or ACCOUNT/**: the account in full, `*` for one segment, `**` only as the last"
)]
pub struct PatternError;

impl Pattern {
    /// Everything of an account.
    pub fn everything(account: &AccountName) -> Self {
        Self(format!("{account}/**").into())
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is of this account.
    pub fn is_of(&self, account: &AccountName) -> bool {
        self.0.split('/').next() == Some(account.as_str())
    }

    /// Whether the repository lies in it.
    pub fn matches(&self, repository: &RepositoryName) -> bool {
        includes(self.0.split('/'), repository.as_str().split('/'))
    }

    /// Whether every repository of `other` lies in it.
    pub fn covers(&self, other: &Self) -> bool {
        includes(self.0.split('/'), other.0.split('/'))
    }
}

/// Whether the segments of `inner`, a name or a pattern, lie within those of `outer`. `*` and `**` are no segments of a name,
/// so for a name the arms that name them in `inner` are never taken.
fn includes<'a>(mut outer: impl Iterator<Item = &'a str>, mut inner: impl Iterator<Item = &'a str>) -> bool {
    loop {
        match (outer.next(), inner.next()) {
            (None, None) | (Some("**"), Some(_)) => return true,
            (Some("*"), Some(segment)) if segment != "**" => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (account, path) = text.split_once('/').ok_or(PatternError)?;
        account.parse::<AccountName>().map_err(|_| PatternError)?;
        // A name with each wildcard written as a letter has the form of a repository exactly if the pattern's literals do.
        let count = path.split('/').count();
        let literal: Vec<&str> = path
            .split('/')
            .enumerate()
            .map(|(i, segment)| match segment {
                "*" => "x",
                "**" if i + 1 == count => "x",
                other => other,
            })
            .collect();
        format!("{account}/{}", literal.join("/")).parse::<RepositoryName>().map_err(|_| PatternError)?;
        if text.len() > 255 {
            return Err(PatternError);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Pattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One scope of the token protocol (distribution, "Token Scope Documentation").
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// `repository:NAME:ACTIONS`.
    Repository {
        /// The repository.
        name: RepositoryName,
        /// What is asked, or granted; [`Actions::ALL`] for `*`.
        actions: Actions,
    },
    /// `registry:catalog:*`.
    Catalog,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository { name, actions } => write!(f, "repository:{name}:{actions}"),
            Self::Catalog => f.write_str("registry:catalog:*"),
        }
    }
}

/// Several scopes; as text joined by spaces, as they stand in a challenge and in a token answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scopes(Vec<Scope>);

/// How many scopes of one request are read.
const MOST_SCOPES: usize = 64;

impl Scopes {
    /// No scope: what `/v2/` asks for.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// What reading a repository asks for.
    pub fn pull(name: &RepositoryName) -> Self {
        Self::of(name, Actions::PULL)
    }

    /// What writing to a repository asks for.
    pub fn push(name: &RepositoryName) -> Self {
        Self::of(name, Actions::PULL.union(Actions::PUSH))
    }

    /// What deleting from a repository asks for.
    pub fn delete(name: &RepositoryName) -> Self {
        Self::of(name, Actions::DELETE)
    }

    /// What `_catalog` asks for.
    pub fn catalog() -> Self {
        Self(vec![Scope::Catalog])
    }

    /// These actions on a repository.
    pub fn of(name: &RepositoryName, actions: Actions) -> Self {
        Self(vec![Scope::Repository { name: name.clone(), actions }])
    }

    /// Both, in order: a mount asks to push to one repository and to pull from another.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The single scopes.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads scope parameters, each of which may hold several joined by spaces. `host` is the host the client used: in front
    /// of a name it is taken off. What is malformed, of another type, or past the 64th, is left out: a token request never
    /// fails for its scopes.
    pub fn parse<'a>(parameters: impl IntoIterator<Item = &'a str>, host: Option<&str>) -> Self {
        let words = parameters.into_iter().flat_map(|p| p.split(' ')).filter(|word| !word.is_empty());
        Self(words.take(MOST_SCOPES).filter_map(|word| parse_scope(word, host)).collect())
    }
}

/// Split at the first and at the last colon, because a name may hold `host:port`.
fn parse_scope(word: &str, host: Option<&str>) -> Option<Scope> {
    let (kind, rest) = word.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    match kind {
        "registry" if name == "catalog" && actions.split(',').any(|a| a == "*") => Some(Scope::Catalog),
        "repository" | "repository(plugin)" => {
            let name = host.and_then(|host| name.strip_prefix(host)?.strip_prefix('/')).unwrap_or(name);
            let named = |action| if action == "*" { Some(Actions::ALL) } else { Actions::named(action) };
            let actions = actions.split(',').filter_map(named).fold(Actions::NONE, Actions::union);
            (!actions.is_empty()).then_some(())?;
            Some(Scope::Repository { name: name.parse().ok()?, actions })
        }
        _ => None,
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().collect())
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, scope) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{scope}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, written as slowly and plainly as possible.
    fn naive(pattern: &[&str], name: &[&str]) -> bool {
        match pattern {
            [] => name.is_empty(),
            ["**"] => !name.is_empty(),
            ["*", rest @ ..] => !name.is_empty() && naive(rest, &name[1..]),
            [literal, rest @ ..] => name.first() == Some(literal) && naive(rest, &name[1..]),
        }
    }

    fn segments() -> impl Strategy<Value = Vec<&'static str>> {
        prop::collection::vec(prop::sample::select(vec!["a", "b", "web", "webshop", "x-y"]), 1..5)
    }

    fn pattern() -> impl Strategy<Value = String> {
        let segment = prop::sample::select(vec!["a", "b", "web", "webshop", "x-y", "*"]);
        (prop::sample::select(vec!["acme", "acme-prod"]), prop::collection::vec(segment, 1..4), any::<bool>()).prop_map(
            |(account, mut path, deep)| {
                if deep {
                    path.push("**");
                }
                format!("{account}/{}", path.join("/"))
            },
        )
    }

    fn name() -> impl Strategy<Value = String> {
        (prop::sample::select(vec!["acme", "acme-prod"]), segments())
            .prop_map(|(account, path)| format!("{account}/{}", path.join("/")))
    }

    proptest! {
        #[test]
        fn patterns_match_by_segments_as_the_plain_definition_does(pattern in pattern(), name in name()) {
            let expected = naive(&pattern.split('/').collect::<Vec<_>>(), &name.split('/').collect::<Vec<_>>());
            let pattern: Pattern = pattern.parse().unwrap();
            prop_assert_eq!(pattern.matches(&name.parse().unwrap()), expected);
        }

        #[test]
        fn a_pattern_covers_only_what_it_matches(outer in pattern(), inner in pattern(), name in name()) {
            let (outer, inner): (Pattern, Pattern) = (outer.parse().unwrap(), inner.parse().unwrap());
            let name = name.parse().unwrap();
            prop_assert!(outer.covers(&outer));
            if outer.covers(&inner) && inner.matches(&name) {
                prop_assert!(outer.matches(&name));
            }
        }

        #[test]
        fn no_text_makes_the_scope_parser_fail_or_grow(text in "\\PC{0,200}") {
            let scopes = Scopes::parse([text.as_str()], Some("registry.example"));
            prop_assert!(scopes.iter().count() <= MOST_SCOPES);
        }
    }

    #[test]
    fn scopes_are_read_repeated_joined_and_with_the_host_in_front() {
        let read = |parameters: &[&str]| Scopes::parse(parameters.iter().copied(), Some("127.0.0.1:5080")).to_string();
        assert_eq!(
            read(&["repository:acme/x:push,pull repository:acme/y:pull", "", "registry:catalog:*"]),
            "repository:acme/x:pull,push repository:acme/y:pull registry:catalog:*"
        );
        assert_eq!(read(&["repository:127.0.0.1:5080/acme/x:pull"]), "repository:acme/x:pull");
        assert_eq!(read(&["repository(plugin):acme/x:*"]), "repository:acme/x:pull,push,delete");
        assert_eq!(read(&["repository:acme/x:pull,fly"]), "repository:acme/x:pull");
        for dropped in
            ["repository:acme:pull", "repository:acme/../x:pull", "repository:acme/x:", "registry:other:*", "x", "::"]
        {
            assert_eq!(read(&[dropped]), "", "{dropped}");
        }
    }

    #[test]
    fn scopes_past_the_64th_are_dropped() {
        let many = "repository:acme/x:pull ".repeat(100);
        assert_eq!(Scopes::parse([many.as_str()], None).iter().count(), 64);
    }

    #[test]
    fn push_brings_pull_and_nothing_brings_delete() {
        assert!(Actions::PUSH.closed().contains(Actions::PULL));
        assert!(!Actions::PUSH.closed().contains(Actions::DELETE));
        assert_eq!(serde_json::to_string(&Actions::ALL).unwrap(), r#"["pull","push","delete"]"#);
        assert!(serde_json::from_str::<Actions>(r#"["admin"]"#).is_err());
    }
}
