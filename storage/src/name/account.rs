use std::{str::FromStr, sync::Arc};

use rand::Rng;

use super::{NameError, text_name};

/// The name of an account, and the first path segment of every repository it owns.
///
/// - `[a-z0-9]([a-z0-9-]{0,37}[a-z0-9])?`, without `--`: a DNS label and a repository path component at once;
/// - digits alone are fine;
/// - not one of the reserved words `v2 token api console www`.
///
/// ```
/// use storage::AccountName;
/// assert!("acme".parse::<AccountName>().is_ok());
/// assert!("1234567890".parse::<AccountName>().is_ok());
/// for bad in ["", "-a", "a-", "a--b", "Acme", "a_b", "v2", "token"] {
///     assert!(bad.parse::<AccountName>().is_err(), "{bad}");
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountName(Arc<str>);

/// Names that would collide with a path or host of the server itself.
const RESERVED: [&str; 5] = ["v2", "token", "api", "console", "www"];

impl AccountName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = |rule| Err(NameError::new("account name", rule));
        if text.is_empty() || text.len() > 39 {
            return bad("1 to 39 characters");
        }
        if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            return bad("lower-case letters, digits and single hyphens only");
        }
        if text.starts_with('-') || text.ends_with('-') || text.contains("--") {
            return bad("a hyphen stands alone and between two other characters");
        }
        if RESERVED.contains(&text) {
            return bad("this word is reserved for the server");
        }
        Ok(Self(text.into()))
    }
}
text_name!(AccountName);

/// The random id an account gets when it is created, and again each time it is created anew.
///
/// - 12 characters of lower-case Crockford base32 (60 random bits);
/// - never reused, so every key below it dies with the account (STORAGE: `t/G/`, `auth/G/`);
/// - twelve `0` stand for the installation itself ([`Generation::installation`]).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(Arc<str>);

/// Crockford's base32 alphabet in lower case: no `i`, `l`, `o`, `u`.
pub(crate) const CROCKFORD: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// `count` characters of Crockford base32, five random bits each.
pub fn random_text(count: usize) -> String {
    let mut rng = rand::rng();
    (0..count).filter_map(|_| CROCKFORD.get(rng.random_range(0..CROCKFORD.len()))).map(|&b| char::from(b)).collect()
}

impl Generation {
    /// A new generation: 60 random bits.
    pub fn random() -> Self {
        Self(random_text(12).into())
    }

    /// The installation, as if it were an account: owner of operator keys and of the installation's audit.
    pub fn installation() -> Self {
        Self("000000000000".into())
    }

    /// The generation as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Generation {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() == 12 && text.bytes().all(|b| CROCKFORD.contains(&b)) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::new("generation", "12 characters of lower-case Crockford base32"))
        }
    }
}
text_name!(Generation);

/// The tenant every storage call is made for: a name and the generation that the name means now.
///
/// Only a few places may make one (`clippy.toml`): the type is the proof that somebody looked up which generation a name has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Account {
    name: AccountName,
    generation: Generation,
}

impl Account {
    /// Binds a name to the generation it has now.
    pub fn new(name: AccountName, generation: Generation) -> Self {
        Self { name, generation }
    }

    /// The account's name.
    pub fn name(&self) -> &AccountName {
        &self.name
    }

    /// The account's generation.
    pub fn generation(&self) -> &Generation {
        &self.generation
    }
}
