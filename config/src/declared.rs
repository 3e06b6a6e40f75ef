//! `[[accounts]]` of the file: accounts and keys that an operator declares instead of making them by hand.
//!
//! What is read here are texts and where they stand; what they mean, `auth` knows.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::{
    Error, Origin,
    load::{line_of, scalar},
};

/// An account that shall exist. What is absent is left as it is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredAccount {
    /// Where it stands.
    pub origin: Origin,
    /// Its name.
    pub name: String,
    /// Its generation: fixed by the file, so that every replica means the same account.
    pub generation: String,
    /// A name for people.
    pub display: Option<String>,
    /// `active`, `read-only` or `suspended`.
    pub state: Option<String>,
    /// Patterns of what anybody may pull.
    pub public: Option<Vec<String>>,
    /// `refuse` or `serve`.
    pub on_stale: Option<String>,
    /// Names of its own.
    pub hosts: Option<Vec<String>>,
    /// Networks that its clients come from.
    pub ip_allow: Option<Vec<String>>,
    /// Longest life of a pull credential, a length of time.
    pub max_ttl_pull: Option<String>,
    /// Longest life of a push credential, a length of time.
    pub max_ttl_push: Option<String>,
    /// Its declared access keys.
    pub keys: Vec<DeclaredKey>,
}

/// An access key that shall exist. What is absent has the value of `hythe key create`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredKey {
    /// Where it stands.
    pub origin: Origin,
    /// Its id.
    pub id: String,
    /// The hash of its secret.
    pub hash: String,
    /// `owner`, `publisher`, `installer` or `viewer`.
    pub role: Option<String>,
    /// Whether a publisher's credentials may delete.
    pub delete: bool,
    /// Patterns of what it reaches.
    pub repositories: Vec<String>,
    /// What people call it.
    pub label: Option<String>,
    /// Longest life of its credentials, a length of time.
    pub max_ttl: Option<String>,
    /// When it ends by itself, a date or a time.
    pub expires: Option<String>,
    /// Networks that it is used from.
    pub ip_allow: Vec<String>,
}

/// The key of the file under which accounts are declared.
pub(crate) const KEY: &str = "accounts";

/// Keys of an account's table, in the order in which they are told.
const ACCOUNT: [&str; 11] = [
    "name",
    "gen",
    "display",
    "state",
    "public",
    "on_stale",
    "hosts",
    "ip_allow",
    "max_ttl_pull",
    "max_ttl_push",
    "keys",
];
/// Keys of an access key's table.
const ACCESS_KEY: [&str; 9] =
    ["id", "hash", "role", "delete", "repositories", "label", "max_ttl", "expires", "ip_allow"];

/// Reads the value of `accounts`, an array of tables that begins at `line`.
pub(crate) fn read(path: &Path, text: &str, line: usize, value: &DeValue<'_>) -> Result<Vec<DeclaredAccount>, Error> {
    let file = File { path, text };
    file.tables(value, &file.at(line), "[[accounts]]")?.into_iter().map(|table| account(&table)).collect()
}

fn account(table: &Table<'_>) -> Result<DeclaredAccount, Error> {
    table.knows(&ACCOUNT)?;
    let keys = match table.value("keys") {
        None => Vec::new(),
        Some((origin, value)) => table.file.tables(value, &origin, "[[accounts.keys]]")?,
    };
    Ok(DeclaredAccount {
        name: table.needed("name")?,
        generation: table.needed("gen")?,
        display: table.one("display")?,
        state: table.one("state")?,
        public: table.list("public")?,
        on_stale: table.one("on_stale")?,
        hosts: table.list("hosts")?,
        ip_allow: table.list("ip_allow")?,
        max_ttl_pull: table.one("max_ttl_pull")?,
        max_ttl_push: table.one("max_ttl_push")?,
        keys: keys.iter().map(access_key).collect::<Result<_, _>>()?,
        origin: table.origin.clone(),
    })
}

fn access_key(table: &Table<'_>) -> Result<DeclaredKey, Error> {
    table.knows(&ACCESS_KEY)?;
    let delete = match table.one("delete")?.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(table.wrong("delete: expected true or false".to_owned())),
    };
    Ok(DeclaredKey {
        id: table.needed("id")?,
        hash: table.needed("hash")?,
        role: table.one("role")?,
        delete,
        repositories: table.list("repositories")?.unwrap_or_default(),
        label: table.one("label")?,
        max_ttl: table.one("max_ttl")?,
        expires: table.one("expires")?,
        ip_allow: table.list("ip_allow")?.unwrap_or_default(),
        origin: table.origin.clone(),
    })
}

#[derive(Clone, Copy)]
struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl<'a> File<'a> {
    fn at(&self, line: usize) -> Origin {
        Origin::File { path: self.path.to_owned(), line }
    }

    /// The tables of an array, each with the line of its first key.
    fn tables(self, value: &'a DeValue<'a>, origin: &Origin, what: &str) -> Result<Vec<Table<'a>>, Error> {
        let rule = || Error::Invalid { key: KEY, origin: origin.clone(), rule: format!("expected tables, {what}") };
        let DeValue::Array(array) = value else { return Err(rule()) };
        let table = |value: &'a toml::Spanned<DeValue<'a>>| {
            let DeValue::Table(table) = value.get_ref() else { return Err(rule()) };
            let first = table.iter().map(|(name, _)| name.span().start).min().unwrap_or(value.span().start);
            Ok(Table { file: self, keys: table, origin: self.at(line_of(self.text, first)) })
        };
        array.iter().map(table).collect()
    }
}

struct Table<'a> {
    file: File<'a>,
    keys: &'a DeTable<'a>,
    origin: Origin,
}

impl<'a> Table<'a> {
    fn value(&self, name: &str) -> Option<(Origin, &'a DeValue<'a>)> {
        let (key, value) = self.keys.iter().find(|(key, _)| key.get_ref() == name)?;
        Some((self.file.at(line_of(self.file.text, key.span().start)), value.get_ref()))
    }

    fn knows(&self, names: &[&'static str]) -> Result<(), Error> {
        match self.keys.iter().map(|(key, _)| key).find(|key| !names.contains(&key.get_ref().as_ref())) {
            None => Ok(()),
            Some(unknown) => Err(Error::Invalid {
                key: KEY,
                origin: self.file.at(line_of(self.file.text, unknown.span().start)),
                rule: format!("there is no {} here; there are {}", unknown.get_ref(), names.join(", ")),
            }),
        }
    }

    fn wrong(&self, rule: String) -> Error {
        Error::Invalid { key: KEY, origin: self.origin.clone(), rule }
    }

    fn one(&self, name: &str) -> Result<Option<String>, Error> {
        let Some((origin, value)) = self.value(name) else { return Ok(None) };
        let text = match value {
            // TOML has dates of its own.
            DeValue::Datetime(at) => Some(at.to_string()),
            value => scalar(value),
        };
        let rule = || Error::Invalid { key: KEY, origin, rule: format!("{name}: expected one value") };
        text.map(Some).ok_or_else(rule)
    }

    fn needed(&self, name: &str) -> Result<String, Error> {
        self.one(name)?.ok_or_else(|| self.wrong(format!("{name} is missing; hythe key declare prints it")))
    }

    fn list(&self, name: &str) -> Result<Option<Vec<String>>, Error> {
        let Some((origin, value)) = self.value(name) else { return Ok(None) };
        let texts = match value {
            DeValue::Array(array) => array.iter().map(|one| scalar(one.get_ref())).collect(),
            _ => None,
        };
        let rule = || Error::Invalid { key: KEY, origin, rule: format!("{name}: expected an array of strings") };
        texts.map(Some).ok_or_else(rule)
    }
}
