//! Accounts and keys that the configuration declares: read and checked here, brought into the store by `apply`.
//!
//! Their secrets are made without a store, so their tags are made under a fixed root that everybody knows. What keeps a guess
//! from costing a read is the configuration itself: it names the ids and the hashes of the only such secrets that are taken.

mod apply;

use std::collections::{HashMap, HashSet};

use config::{DeclaredAccount, DeclaredKey, HumanDuration, Origin};
use storage::{AccountName, Generation, Time};

pub use apply::Departed;

use crate::{
    access_key::actions_of,
    account::{AccountState, LONGEST, OnStale, SHORTEST, check_text},
    host::parse_hosts,
    id::Id,
    network::Networks,
    public::parse_patterns,
    role::Role,
    scope::{Actions, Pattern},
    secret::{Kind, Secret, SecretHash, SecretKeys},
    settings::Settings,
    time::parse_time,
};

/// The root of the tags of declared keys' secrets.
const ROOT: &[u8] = b"declared";

/// A declaration that cannot be used. One line with its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("accounts ({origin}): {rule}")]
pub struct NotDeclared {
    /// Where it stands.
    pub origin: Origin,
    /// What is wrong, and what would be right.
    pub rule: String,
}

/// The accounts and keys of one configuration, checked.
#[derive(Debug, Default)]
pub struct Declared(Vec<Wanted>);

/// An account that shall exist; what is `None` is left as it is.
#[derive(Debug)]
struct Wanted {
    origin: Origin,
    name: AccountName,
    generation: Generation,
    display: Option<String>,
    state: Option<AccountState>,
    public: Option<Vec<Pattern>>,
    on_stale: Option<OnStale>,
    hosts: Option<Vec<String>>,
    ip_allow: Option<Networks>,
    max_ttl_pull: Option<u64>,
    max_ttl_push: Option<u64>,
    keys: Vec<WantedKey>,
}

/// An access key that shall exist.
#[derive(Debug)]
struct WantedKey {
    id: Id,
    hash: SecretHash,
    role: Role,
    actions: Actions,
    patterns: Vec<Pattern>,
    max_ttl: Option<u64>,
    ip_allow: Networks,
    label: String,
    expires: Option<Time>,
}

impl Declared {
    /// Reads what the file says; no store is needed.
    pub fn check(accounts: &[DeclaredAccount]) -> Result<Self, NotDeclared> {
        let (mut names, mut generations, mut ids) = (HashSet::new(), HashSet::new(), HashSet::new());
        let mut read = Vec::new();
        for account in accounts {
            let wanted = Wanted::read(account)?;
            let wrong = |rule| Err(NotDeclared { origin: account.origin.clone(), rule });
            if !names.insert(wanted.name.clone()) {
                return wrong(format!("{} is declared twice", wanted.name));
            }
            if !generations.insert(wanted.generation.clone()) {
                return wrong(format!("gen {} is of another account already", wanted.generation));
            }
            for (key, text) in wanted.keys.iter().zip(&account.keys) {
                if !ids.insert(key.id.clone()) {
                    let rule = format!("key {} is declared twice", key.id);
                    return Err(NotDeclared { origin: text.origin.clone(), rule });
                }
            }
            read.push(wanted);
        }
        Ok(Self(read))
    }

    /// The secrets that are taken from now on.
    fn accepted(&self) -> Accepted {
        let of_one = |wanted: &Wanted| {
            let generation = wanted.generation.clone();
            let key = move |key: &WantedKey| (key.id.clone(), (generation.clone(), key.hash.clone()));
            wanted.keys.iter().map(key).collect::<Vec<_>>()
        };
        Accepted { tags: SecretKeys::new([ROOT]), keys: self.0.iter().flat_map(of_one).collect() }
    }
}

/// The secrets of declared keys that are taken.
#[derive(Debug)]
pub(crate) struct Accepted {
    tags: SecretKeys,
    keys: HashMap<Id, (Generation, SecretHash)>,
}

impl Default for Accepted {
    fn default() -> Self {
        Declared::default().accepted()
    }
}

impl Accepted {
    /// Reads the secret of a declared key; `None` for every other text, without a look at the store.
    pub(crate) fn parse(&self, text: &str) -> Option<Secret> {
        if self.keys.is_empty() {
            return None;
        }
        let secret = self.tags.parse(text).filter(|secret| secret.kind() == Kind::AccessKey)?;
        let (generation, hash) = self.keys.get(secret.id())?;
        (generation == secret.generation() && hash.matches(&secret)).then_some(secret)
    }
}

/// A new secret for an access key that will be declared, and with it the generation, the id and the hash for the file.
pub fn declare_key(generation: &Generation, now: Time) -> Secret {
    SecretKeys::new([ROOT]).mint(Kind::AccessKey, generation, &Id::new(now))
}

impl Wanted {
    fn read(account: &DeclaredAccount) -> Result<Self, NotDeclared> {
        let wrong = |rule: String| NotDeclared { origin: account.origin.clone(), rule };
        let name: AccountName = account.name.parse().map_err(|error| wrong(format!("name: {error}")))?;
        let generation = account.generation.parse::<Generation>().ok().filter(|g| *g != Generation::installation());
        let generation = generation.ok_or_else(|| {
            wrong("gen: expected 12 characters of lower-case Crockford base32; hythe key declare makes one".to_owned())
        })?;
        if account.display.as_deref().is_some_and(|text| check_text("", text).is_some()) {
            return Err(wrong("display: expected at most 200 characters on one line".to_owned()));
        }
        let state = match account.state.as_deref() {
            None => None,
            Some("active") => Some(AccountState::Active),
            Some("read-only") => Some(AccountState::ReadOnly),
            Some("suspended") => Some(AccountState::Suspended),
            Some(_) => return Err(wrong("state: expected active, read-only or suspended".to_owned())),
        };
        let on_stale = match account.on_stale.as_deref() {
            None => None,
            Some("refuse") => Some(OnStale::Refuse),
            Some("serve") => Some(OnStale::Serve),
            Some(_) => return Err(wrong("on_stale: expected refuse or serve".to_owned())),
        };
        let public = account.public.as_deref().map(|texts| patterns(&name, "public", texts)).transpose();
        let ip_allow = account.ip_allow.as_deref().map(networks).transpose();
        let hosts = account.hosts.as_deref().map(hosts).transpose();
        let life = |field, text: &Option<String>| life(field, text.as_deref(), Some(LONGEST));
        Ok(Self {
            display: account.display.clone(),
            state,
            public: public.map_err(wrong)?,
            on_stale,
            hosts: hosts.map_err(wrong)?,
            ip_allow: ip_allow.map_err(wrong)?,
            max_ttl_pull: life("max_ttl_pull", &account.max_ttl_pull).map_err(wrong)?,
            max_ttl_push: life("max_ttl_push", &account.max_ttl_push).map_err(wrong)?,
            keys: account.keys.iter().map(|key| WantedKey::read(&name, key)).collect::<Result<_, _>>()?,
            origin: account.origin.clone(),
            name,
            generation,
        })
    }
}

impl WantedKey {
    fn read(account: &AccountName, key: &DeclaredKey) -> Result<Self, NotDeclared> {
        let wrong = |rule: String| NotDeclared { origin: key.origin.clone(), rule };
        let id = key.id.parse::<Id>().map_err(|error| wrong(format!("id: {error}")))?;
        let hash = SecretHash::from_hex(&key.hash);
        let hash =
            hash.ok_or_else(|| wrong("hash: expected 64 hexadecimal digits, as hythe key declare prints".into()))?;
        let role = key.role.as_deref().map_or(Ok(Role::Owner), str::parse);
        let role = role.map_err(|rule: &str| wrong(format!("role: {rule}")))?;
        if key.delete && !matches!(role, Role::Owner | Role::Publisher) {
            return Err(wrong("delete: only a publisher's or an owner's credentials may delete".to_owned()));
        }
        let label = key.label.clone().unwrap_or_default();
        if check_text("", &label).is_some() {
            return Err(wrong("label: expected at most 200 characters on one line".to_owned()));
        }
        let all = [format!("{account}/**")];
        let texts = if key.repositories.is_empty() { &all[..] } else { &key.repositories };
        let expires = key.expires.as_deref().map(parse_time).transpose();
        Ok(Self {
            id,
            hash,
            role,
            actions: actions_of(role, key.delete),
            patterns: patterns(account, "repositories", texts).map_err(wrong)?,
            max_ttl: life("max_ttl", key.max_ttl.as_deref(), None).map_err(wrong)?,
            ip_allow: networks(&key.ip_allow).map_err(wrong)?,
            label,
            expires: expires.map_err(|rule| wrong(format!("expires: {rule}")))?,
        })
    }
}

fn patterns(account: &AccountName, field: &str, texts: &[String]) -> Result<Vec<Pattern>, String> {
    let told = |invalid: Vec<crate::Invalid>| {
        let told: Vec<_> = invalid.into_iter().map(|one| one.message).collect();
        format!("{field}: {}", told.join("; "))
    };
    parse_patterns(account, field, texts).map_err(told)
}

/// What the registry itself is called is looked at when they are brought.
fn hosts(texts: &[String]) -> Result<Vec<String>, String> {
    parse_hosts("hosts", texts, &Settings::default()).map_err(|invalid| {
        format!("hosts: {}", invalid.into_iter().map(|one| one.message).collect::<Vec<_>>().join("; "))
    })
}

fn networks(texts: &[String]) -> Result<Networks, String> {
    Networks::parse(texts).map_err(|(_, rule)| format!("ip_allow: {rule}"))
}

fn life(field: &str, text: Option<&str>, most: Option<u64>) -> Result<Option<u64>, String> {
    let Some(text) = text else { return Ok(None) };
    let life = text.parse::<HumanDuration>().map_err(|rule| format!("{field}: expected {rule}"))?.duration().as_secs();
    if life < SHORTEST {
        return Err(format!("{field}: expected 60 seconds or more"));
    }
    if most.is_some_and(|most| life > most) {
        return Err(format!("{field}: expected 90 days at most"));
    }
    Ok(Some(life))
}
