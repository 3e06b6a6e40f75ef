//! Where the helper's logins come from: for each host a file with an access key, or the environment for one host.

use std::{collections::BTreeMap, path::PathBuf};

use config::{HostName, PublicUrl, Scheme, Secret};
use serde::{Deserialize, Serialize};
use storage::AccountName;

use super::super::{
    login::{Kind, Order},
    output,
    private_file::{self, Readers},
    server::variable,
    store::seconds,
};

/// An access key for a host, and what is minted with it. The file `HOST.toml` in the folder of sources.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    /// Whose repositories.
    pub(super) account: String,
    /// `pull` or `push`.
    #[serde(default)]
    pub(super) kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// A file of the owner's that holds the key, instead of `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    repositories: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ca_file: Option<PathBuf>,
}

/// A source whose every part can be used.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) url: PublicUrl,
    pub(super) account: AccountName,
    pub(super) key: Secret,
    pub(super) order: Order,
    pub(super) ca_file: Option<PathBuf>,
}

impl Source {
    /// What `store` is given: an access key, and for whom. `ACCOUNT` and `ACCOUNT.pull` pull, `ACCOUNT.push` pushes.
    pub(super) fn stored(username: &str, key: &str, url: Option<String>) -> Result<Self, String> {
        if !key.starts_with("hyak_") {
            return Err(
                "this helper keeps access keys (hyak_…), from which it mints logins; mint one with: hythe key create \
                        ACCOUNT"
                    .to_owned(),
            );
        }
        let (account, kind) = match username.rsplit_once('.') {
            None => (username, Kind::Pull),
            Some((account, "pull")) => (account, Kind::Pull),
            Some((account, "push")) => (account, Kind::Push),
            Some(_) => return Err(format!("user name {username}: expected ACCOUNT, ACCOUNT.pull or ACCOUNT.push")),
        };
        let name = account.parse::<AccountName>().map_err(|error| format!("user name {account}: {error}"))?;
        Ok(Self { account: name.to_string(), kind, key: Some(key.to_owned()), url, ..Self::default() })
    }

    fn from_environment() -> Option<(String, Self)> {
        let url: PublicUrl = variable("HYTHE_URL")?.parse().ok()?;
        let source = Self {
            account: variable("HYTHE_ACCOUNT")?,
            kind: if variable("HYTHE_KIND").as_deref() == Some("push") { Kind::Push } else { Kind::Pull },
            key: Some(variable("HYTHE_KEY")?),
            url: Some(url.to_string()),
            ca_file: variable("HYTHE_CA_FILE").map(PathBuf::from),
            ..Self::default()
        };
        Some((url.host().to_string(), source))
    }

    pub(super) fn check(self, host: &HostName) -> Result<Checked, String> {
        let url = match &self.url {
            Some(url) => url.parse().map_err(|rule| format!("url {url}: expected {rule}"))?,
            // As docker does: loopback is the place where registries without TLS are.
            None if host.is_loopback() => PublicUrl::new(Scheme::Http, host.clone()),
            None => PublicUrl::new(Scheme::Https, host.clone()),
        };
        let key = match (self.key, &self.key_file) {
            (Some(key), None) => Secret::new(key),
            (None, Some(file)) => private_file::read(file, Readers::Owner)?,
            _ => return Err(format!("the source of {host} needs either key or key_file")),
        };
        let account = self.account.parse().map_err(|error| format!("account {}: {error}", self.account))?;
        let ttl = self.ttl.as_deref().map(seconds).transpose().map_err(|rule| format!("ttl: {rule}"))?;
        let label = "docker-credential-hythe".to_owned();
        let order = Order { kind: self.kind, repositories: self.repositories, ttl, label };
        Ok(Checked { url, account, key, order, ca_file: self.ca_file })
    }
}

/// Every source of this user.
#[derive(Debug)]
pub(super) struct Sources {
    folder: PathBuf,
}

impl Sources {
    pub(super) fn open(folder: PathBuf) -> Result<Self, String> {
        private_file::folder(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self { folder })
    }

    /// The source of this host: the environment's, or else that of its file.
    pub(super) fn of(&self, host: &HostName) -> Result<Option<Source>, String> {
        if let Some((name, source)) = Source::from_environment()
            && name == host.to_string()
        {
            return Ok(Some(source));
        }
        let path = self.path(host);
        if !path.exists() {
            return Ok(None);
        }
        let text = private_file::read(&path, Readers::Owner)?;
        toml::from_str(text.reveal()).map(Some).map_err(|error| format!("{}: {}", path.display(), error.message()))
    }

    /// Every host with a source, in the order of their names.
    pub(super) fn all(&self) -> Result<BTreeMap<String, Source>, String> {
        let told = |error: std::io::Error| format!("{}: {error}", self.folder.display());
        let mut sources = BTreeMap::new();
        for entry in std::fs::read_dir(&self.folder).map_err(told)? {
            let name = entry.map_err(told)?.file_name();
            let host = name.to_str().and_then(|name| name.strip_suffix(".toml")).and_then(|name| name.parse().ok());
            if let Some(host) = host
                && let Some(source) = self.of(&host)?
            {
                sources.insert(host.to_string(), source);
            }
        }
        sources.extend(Source::from_environment());
        Ok(sources)
    }

    pub(super) fn keep(&self, host: &HostName, source: &Source) -> Result<(), String> {
        let text = toml::to_string(source).map_err(|error| error.to_string())?;
        output::write_private(&self.path(host), &text).map_err(|error| error.to_string())
    }

    fn path(&self, host: &HostName) -> PathBuf {
        self.folder.join(format!("{host}.toml"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_access_keys_are_kept_and_the_user_name_says_for_what() {
        let stored = |name: &str, key: &str| Source::stored(name, key, None).map(|s| (s.account, s.kind));
        assert_eq!(stored("acme", "hyak_x").unwrap(), ("acme".to_owned(), Kind::Pull));
        assert_eq!(stored("acme.push", "hyak_x").unwrap(), ("acme".to_owned(), Kind::Push));
        assert!(stored("acme.pull.0123456789abcdef", "hyak_x").is_err());
        assert!(stored("Acme", "hyak_x").is_err() && stored("", "hyak_x").is_err());
        assert!(stored("acme", "hypl_x").unwrap_err().contains("access keys"));
    }

    #[test]
    fn a_source_survives_its_file_and_unknown_words_do_not() {
        let host: HostName = "127.0.0.1:5080".parse().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let sources = Sources::open(dir.path().join("sources")).unwrap();
        sources.keep(&host, &Source::stored("acme.push", "hyak_x", None).unwrap()).unwrap();
        let checked = sources.of(&host).unwrap().unwrap().check(&host).unwrap();
        assert_eq!(checked.url.to_string(), "http://127.0.0.1:5080");
        assert_eq!((checked.key.reveal(), checked.order.kind), ("hyak_x", Kind::Push));
        assert_eq!(sources.all().unwrap().into_keys().collect::<Vec<_>>(), ["127.0.0.1:5080"]);
        output::write_private(&sources.path(&host), "account = \"acme\"\nkey = \"hyak_x\"\nkeys = 1\n").unwrap();
        assert!(sources.of(&host).unwrap_err().contains("keys"));
    }
}
