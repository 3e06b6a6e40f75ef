//! Access keys: long-lived, shown once, stored hashed. A key mints; it never pulls.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use storage::{AccountName, Time, key, record};

use crate::{
    account::{SHORTEST, check_text},
    audit::{Entry, Happened},
    error::{Error, Invalid},
    id::Id,
    installation::Auth,
    network::Networks,
    page::{Listing, Page, one_page},
    principal::Actor,
    public::parse_patterns,
    revocation::{Ended, What},
    right::Right,
    role::Role,
    scope::{Actions, Pattern},
    secret::{Kind, SecretHash},
};

/// What a key can still do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Everything its role allows.
    Active,
    /// It mints no more; what it minted lives out its time.
    Retired,
    /// It and everything it minted are dead.
    Revoked,
}

/// `auth/GEN/key/ID`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KeyRecord {
    pub(crate) account: AccountName,
    pub(crate) hash: SecretHash,
    pub(crate) role: Role,
    pub(crate) actions: Actions,
    pub(crate) patterns: Vec<Pattern>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_ttl: Option<u64>,
    #[serde(default, skip_serializing_if = "Networks::is_empty")]
    pub(crate) ip_allow: Networks,
    #[serde(default)]
    pub(crate) label: String,
    pub(crate) created: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_used_day: Option<NaiveDate>,
    pub(crate) state: KeyState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revoked_at: Option<Time>,
    /// Whether a configuration names it, or did.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) declared: bool,
}

/// An access key as the API shows it.
#[derive(Debug, Clone, Serialize)]
pub struct AccessKeyDocument {
    /// Its id.
    pub id: Id,
    /// Its account.
    pub account: AccountName,
    /// The secret: only where the key is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Shown>,
    /// Its role.
    pub role: Role,
    /// What its credentials may do at most.
    pub actions: Actions,
    /// Where.
    pub repositories: Vec<Pattern>,
    /// What people call it.
    pub label: String,
    /// Longest life of its credentials in seconds, if it shortens the account's.
    pub max_ttl_seconds: Option<u64>,
    /// When it was made.
    #[serde(with = "crate::time::millis")]
    pub created_at: Time,
    /// When it ends, if it does by itself.
    #[serde(with = "crate::time::millis::option")]
    pub expires_at: Option<Time>,
    /// What it can still do.
    pub state: KeyState,
    /// The day it was last used, if it was: in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_on: Option<NaiveDate>,
}

/// A secret on its way into the one answer that shows it. Zeroised when dropped; `Debug` hides it.
#[derive(Clone)]
pub struct Shown(zeroize::Zeroizing<String>);

impl Shown {
    pub(crate) fn new(text: &str) -> Self {
        Self(zeroize::Zeroizing::new(text.to_owned()))
    }

    /// The text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Shown {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl AccessKeyDocument {
    fn new(id: Id, record: KeyRecord, key: Option<Shown>) -> Self {
        Self {
            id,
            account: record.account,
            key,
            role: record.role,
            actions: record.actions,
            repositories: record.patterns,
            label: record.label,
            max_ttl_seconds: record.max_ttl,
            created_at: record.created,
            expires_at: record.expires,
            state: record.state,
            last_used_on: record.last_used_day,
        }
    }
}

/// What a key is made with.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// `owner` where it says nothing.
    #[serde(default = "owner")]
    pub role: Role,
    /// Whether a publisher's credentials may delete.
    #[serde(default)]
    pub delete: bool,
    /// What people call it.
    #[serde(default)]
    pub label: String,
    /// Patterns; empty: the whole account.
    #[serde(default)]
    pub repositories: Vec<String>,
    /// Longest life of its credentials in seconds.
    #[serde(default)]
    pub max_ttl_seconds: Option<u64>,
    /// When it ends by itself.
    #[serde(default)]
    pub expires_at: Option<Time>,
    /// CIDR texts; empty: from anywhere.
    #[serde(default)]
    pub ip_allow: Vec<String>,
}

fn owner() -> Role {
    Role::Owner
}

impl Default for NewKey {
    fn default() -> Self {
        Self {
            role: owner(),
            delete: false,
            label: String::new(),
            repositories: Vec::new(),
            max_ttl_seconds: None,
            expires_at: None,
            ip_allow: Vec::new(),
        }
    }
}

/// What credentials of a key in this role may do at most.
pub(crate) fn actions_of(role: Role, delete: bool) -> Actions {
    match role {
        Role::Owner => Actions::ALL,
        Role::Publisher if delete => Actions::ALL,
        Role::Publisher => Actions::PULL.union(Actions::PUSH),
        Role::Installer => Actions::PULL,
        Role::Viewer => Actions::NONE,
    }
}

const NO_KEY: Error = Error::NotFound { what: "access key" };

impl Auth {
    /// Makes an access key; the owner's and the store's. No key makes one that reaches further than itself.
    pub async fn create_key(
        &self,
        actor: &Actor,
        name: &AccountName,
        new: &NewKey,
    ) -> Result<AccessKeyDocument, Error> {
        let maker = self.admit(actor, Right::MakeKeys, Some(name))?;
        let now = self.clock.now();
        let mut invalid: Vec<Invalid> = Vec::new();
        invalid.extend(check_text("/label", &new.label));
        if new.delete && !matches!(new.role, Role::Owner | Role::Publisher) {
            invalid.push(Invalid::new("/delete", "only a publisher's or an owner's credentials may delete"));
        }
        if new.max_ttl_seconds.is_some_and(|life| life < SHORTEST) {
            invalid.push(Invalid::new("/max_ttl_seconds", "60 seconds or more"));
        }
        if new.expires_at.is_some_and(|at| at <= now) {
            invalid.push(Invalid::new("/expires_at", "a time to come"));
        }
        let all = [format!("{name}/**")];
        let texts = if new.repositories.is_empty() { &all[..] } else { &new.repositories };
        let patterns =
            parse_patterns(name, "/repositories", texts).map_err(|more| invalid.extend(more)).unwrap_or_default();
        let networks = Networks::parse(&new.ip_allow)
            .map_err(|(i, rule)| invalid.push(Invalid::new(format!("/ip_allow/{i}"), rule)))
            .unwrap_or_default();
        if let Some(maker) = maker {
            for (i, pattern) in patterns.iter().enumerate() {
                if !maker.patterns.iter().any(|own| own.covers(pattern)) {
                    invalid.push(Invalid::new(format!("/repositories/{i}"), "outside the patterns of this key"));
                }
            }
            let wider = maker.max_ttl.is_some_and(|own| new.max_ttl_seconds.is_none_or(|life| life > own));
            if wider {
                invalid.push(Invalid::new("/max_ttl_seconds", "not above that of this key"));
            }
            if maker.expires.is_some_and(|own| new.expires_at.is_none_or(|at| at > own)) {
                invalid.push(Invalid::new("/expires_at", "not after this key's own end"));
            }
        }
        if !invalid.is_empty() {
            return Err(Error::Invalid(invalid));
        }
        let account = self.living(name).await?.value.account();
        let id = Id::new(now);
        let secret = self.secrets.mint(Kind::AccessKey, account.generation(), &id);
        let fresh = KeyRecord {
            account: name.clone(),
            hash: secret.hash(),
            role: new.role,
            actions: actions_of(new.role, new.delete),
            patterns,
            max_ttl: new.max_ttl_seconds,
            ip_allow: networks,
            label: new.label.clone(),
            created: now,
            expires: new.expires_at,
            last_used_day: None,
            state: KeyState::Active,
            revoked_at: None,
            declared: false,
        };
        let written = record::create(&*self.records, &key::access_key(&account, id.as_str()), fresh).await?;
        tracing::info!(event = "key.create", account = %name, key = %id, role = new.role.as_str(), actor = actor.label(), "access key was made");
        self.record(Entry::new(Happened::KeyCreate, actor).of(&account).target(id.as_str())).await?;
        Ok(AccessKeyDocument::new(id, written.value, Some(Shown::new(secret.reveal()))))
    }

    /// The keys of an account, oldest first; the owner's and a viewer's.
    pub async fn list_keys(
        &self,
        actor: &Actor,
        name: &AccountName,
        page: &Page,
    ) -> Result<Listing<AccessKeyDocument>, Error> {
        self.admit(actor, Right::ReadKeys, Some(name))?;
        let account = self.living(name).await?.value.account();
        one_page::<KeyRecord, _>(&*self.records, &key::access_keys(&account), page, |id, document| {
            Some(AccessKeyDocument::new(id.parse().ok()?, document.value, None))
        })
        .await
    }

    /// One key; the owner's and a viewer's.
    pub async fn get_key(&self, actor: &Actor, name: &AccountName, id: &Id) -> Result<AccessKeyDocument, Error> {
        self.admit(actor, Right::ReadKeys, Some(name))?;
        let account = self.living(name).await?.value.account();
        let found = record::read::<KeyRecord>(&*self.records, &key::access_key(&account, id.as_str())).await?;
        Ok(AccessKeyDocument::new(id.clone(), found.ok_or(NO_KEY)?.value, None))
    }

    /// The key mints no more; what it minted lives out its time. Repeatable.
    pub async fn retire_key(&self, actor: &Actor, name: &AccountName, id: &Id) -> Result<Ended, Error> {
        self.end_key(actor, name, id, KeyState::Retired).await
    }

    /// The key and every credential it minted are dead within the bound. Repeatable.
    pub async fn revoke_key(&self, actor: &Actor, name: &AccountName, id: &Id) -> Result<Ended, Error> {
        self.end_key(actor, name, id, KeyState::Revoked).await
    }

    async fn end_key(&self, actor: &Actor, name: &AccountName, id: &Id, state: KeyState) -> Result<Ended, Error> {
        self.admit(actor, Right::EndKeys, Some(name))?;
        let account = self.living(name).await?.value.account();
        let now = self.clock.now();
        let mut admission = self.revocation(account.generation());
        record::modify(&*self.records, &key::access_key(&account, id.as_str()), |record: &mut KeyRecord| {
            admission.ask()?;
            // A revoked key is not brought back to life as a retired one.
            if record.state == KeyState::Revoked || record.state == state {
                return Ok::<_, Error>(false);
            }
            record.state = state;
            if state == KeyState::Revoked {
                record.revoked_at = Some(now);
            }
            Ok(true)
        })
        .await?
        .ok_or(NO_KEY)?;
        let effective_by = self.log_end(account.generation(), What::Subject(id.clone())).await?;
        let happened = if state == KeyState::Revoked { Happened::KeyRevoke } else { Happened::KeyRetire };
        tracing::info!(event = happened.as_str(), account = %name, key = %id, actor = actor.label(), "access key was ended");
        self.record(Entry::new(happened, actor).of(&account).target(id.as_str())).await?;
        Ok(Ended { effective_by })
    }
}
