use std::{str::FromStr, sync::Arc};

use super::{Account, AccountName, NameError, text_name};

/// The full name of a repository, `account/path…` (distribution-spec, "Pulling manifests": `<name>`).
///
/// - two segments at least; the first is an [`AccountName`];
/// - every further segment is `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`;
/// - 255 characters at most in all, 240 in the path below the account.
///
/// ```
/// use storage::RepositoryName;
/// let name: RepositoryName = "acme/web/api".parse().unwrap();
/// assert_eq!(name.account().as_str(), "acme");
/// assert_eq!(name.path(), "web/api");
/// for bad in ["acme", "acme/", "/acme", "acme//x", "acme/..", "acme/X", "acme/a..b", "acme/a___b", "acme/-a"] {
///     assert!(bad.parse::<RepositoryName>().is_err(), "{bad}");
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName {
    full: Arc<str>,
    account: AccountName,
}

impl RepositoryName {
    /// The name as text, account included.
    pub fn as_str(&self) -> &str {
        &self.full
    }

    /// The account in the first segment.
    pub fn account(&self) -> &AccountName {
        &self.account
    }

    /// What follows the account: `web/api` of `acme/web/api`.
    pub fn path(&self) -> &str {
        self.full.get(self.account.as_str().len() + 1..).unwrap_or_default()
    }
}

/// Whether one path segment has the form of the distribution-spec.
fn is_component(segment: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = segment.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    if !alphanumeric(first) || !alphanumeric(last) {
        return false;
    }
    // Every run of separators between alphanumerics is one of: "." "_" "__" "-+".
    bytes
        .split(|&b| alphanumeric(b))
        .filter(|run| !run.is_empty())
        .all(|run| matches!(run, b"." | b"_" | b"__") || run.iter().all(|&b| b == b'-'))
}

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = |rule| Err(NameError::new("repository name", rule));
        if text.len() > 255 {
            return bad("at most 255 characters");
        }
        let Some((account, path)) = text.split_once('/') else {
            return bad("a repository is ACCOUNT/NAME");
        };
        let account: AccountName = account.parse()?;
        if path.len() > 240 {
            return bad("at most 240 characters below the account");
        }
        if !path.split('/').all(is_component) {
            return bad("each segment is lower-case letters and digits, with single . _ __ or hyphens between them");
        }
        Ok(Self { full: text.into(), account })
    }
}
text_name!(RepositoryName);

/// A repository of an account in its present generation: what every key of a repository is made from.
///
/// Invariant: the name's first segment is the account's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Repository {
    account: Account,
    name: RepositoryName,
}

impl Repository {
    /// Binds a repository name to its account; `None` if the name belongs to another account.
    pub fn new(account: Account, name: RepositoryName) -> Option<Self> {
        (account.name() == name.account()).then_some(Self { account, name })
    }

    /// The account and its generation.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The full name.
    pub fn name(&self) -> &RepositoryName {
        &self.name
    }
}
