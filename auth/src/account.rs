//! Accounts: a name that means another generation each time it is made anew, so no key of a predecessor can be named.

mod change;

use serde::{Deserialize, Serialize};
use storage::{
    Account, AccountName, Generation, Time,
    generation::{GenerationRecord, GenerationState},
    key,
    record::{self, Document},
};

pub use change::{AccountChange, PolicyChange};

use crate::{
    audit::Happened,
    error::{Error, Invalid},
    installation::Auth,
    network::Networks,
    page::{Listing, Page, one_page},
    principal::{Actor, Frozen},
    quota::Quota,
    refusal::{Reason, Refusal},
    revocation::{Ended, What},
    right::Right,
    secret::Kind,
};

/// What an account is allowed to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccountState {
    /// Everything.
    Active,
    /// Pulls, mints and revocations; no push, no delete.
    ReadOnly,
    /// Nothing, pulls included.
    Suspended,
    /// It is gone; the name may be made anew.
    Deleted,
}

/// What becomes of pulls while the store cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStale {
    /// They are refused like everything else.
    #[default]
    Refuse,
    /// Pull credentials go on for up to an hour; so may a revoked one.
    Serve,
}

/// What the credentials of an account are held to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Longest life of a pull credential in seconds; 30 days where it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ttl_pull: Option<u64>,
    /// Longest life of a push credential in seconds; 24 hours where it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ttl_push: Option<u64>,
    /// Networks its clients come from; empty: any.
    #[serde(default, skip_serializing_if = "Networks::is_empty")]
    pub ip_allow: Networks,
    /// Whole days that its audit is kept; 400 where it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_days: Option<u32>,
}

const DAY: u64 = 86_400;
/// The longest life that an operator may allow.
pub(crate) const LONGEST: u64 = 90 * DAY;
/// The shortest life of anything.
pub(crate) const SHORTEST: u64 = 60;

impl Policy {
    /// The longest life of a credential of this kind, in seconds.
    pub(crate) fn longest(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Push => self.max_ttl_push.unwrap_or(DAY),
            _ => self.max_ttl_pull.unwrap_or(30 * DAY),
        }
    }
}

/// `acct/NAME`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AccountRecord {
    pub(crate) name: AccountName,
    #[serde(rename = "gen")]
    pub(crate) generation: Generation,
    #[serde(default)]
    pub(crate) display: String,
    pub(crate) state: AccountState,
    pub(crate) created: Time,
    #[serde(default)]
    pub(crate) hosts: Vec<String>,
    #[serde(default)]
    pub(crate) on_stale: OnStale,
    #[serde(default)]
    pub(crate) policy: Policy,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) quota_bytes: Option<Quota>,
    /// Whether a configuration names it, or did.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) declared: bool,
}

impl AccountRecord {
    #[expect(clippy::disallowed_methods, reason = "this is the look-up that binds a name to its generation")]
    pub(crate) fn account(&self) -> Account {
        Account::new(self.name.clone(), self.generation.clone())
    }
}

/// A pair of name and generation that somebody claims: good for naming records to read, and for nothing until `acct/NAME` agrees.
#[expect(clippy::disallowed_methods, reason = "compared with acct/NAME before anything is decided by it")]
pub(crate) fn claimed(name: AccountName, generation: Generation) -> Account {
    Account::new(name, generation)
}

/// An account as the API shows it.
#[derive(Debug, Clone, Serialize)]
pub struct AccountDocument {
    /// The name.
    pub name: AccountName,
    /// Its generation.
    pub generation: Generation,
    /// A name for people.
    pub display: String,
    /// What it is allowed.
    pub state: AccountState,
    /// When this generation was made.
    #[serde(with = "crate::time::millis")]
    pub created_at: Time,
    /// Names of its own that the operator approved; the first is in what is rendered.
    pub hosts: Vec<String>,
    /// Pulls while the store cannot be read.
    pub on_stale: OnStale,
    /// What its credentials are held to.
    pub policy: Policy,
    /// What it may keep; `None`: what the server's default says.
    pub quota_bytes: Option<Quota>,
    /// The record's `rev`: its `ETag`.
    #[serde(skip)]
    pub rev: u64,
}

impl From<Document<AccountRecord>> for AccountDocument {
    fn from(document: Document<AccountRecord>) -> Self {
        let rev = document.rev();
        let record = document.value;
        Self {
            name: record.name,
            generation: record.generation,
            display: record.display,
            state: record.state,
            created_at: record.created,
            hosts: record.hosts,
            on_stale: record.on_stale,
            policy: record.policy,
            quota_bytes: record.quota_bytes,
            rev,
        }
    }
}

/// What an account is made with.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    /// Its name.
    pub name: String,
    /// A name for people.
    #[serde(default)]
    pub display: String,
}

pub(crate) const NO_ACCOUNT: Error = Error::NotFound { what: "account" };
/// Longest text that people write into a record.
const LONGEST_TEXT: usize = 200;

/// Whether a label or display name can be kept; what is wrong if not.
pub(crate) fn check_text(field: &str, text: &str) -> Option<Invalid> {
    let bad = text.chars().count() > LONGEST_TEXT || text.chars().any(char::is_control);
    bad.then(|| Invalid::new(field, "at most 200 characters on one line"))
}

impl Auth {
    /// Which generation a name means now; `None` if there is no such account. For work on the store, background work and the
    /// resolution of an actor's own account; what a client may do there is decided elsewhere.
    pub async fn resolve(&self, name: &AccountName) -> Result<Option<Account>, Error> {
        let found = self.account_record(name).await?;
        Ok(found.map(|document| document.value).filter(|r| r.state != AccountState::Deleted).map(|r| r.account()))
    }

    /// The account an actor names, if it may read there: an access key its own, the operator any.
    pub async fn account_for(&self, actor: &Actor, name: &AccountName) -> Result<Account, Error> {
        match actor {
            Actor::Store | Actor::OperatorKey { .. } => self.resolve(name).await?.ok_or(NO_ACCOUNT),
            Actor::AccessKey(key) if key.account.name() == name => Ok(key.account.clone()),
            Actor::AccessKey(key) => {
                Err(Refusal::Denied(Reason::OtherAccount { own: key.account.name().clone() }).into())
            }
        }
    }

    pub(crate) async fn account_record(
        &self,
        name: &AccountName,
    ) -> Result<Option<Document<AccountRecord>>, storage::Error> {
        record::read(&*self.records, &key::account(name)).await
    }

    /// The living record of an account.
    pub(crate) async fn living(&self, name: &AccountName) -> Result<Document<AccountRecord>, Error> {
        let found = self.account_record(name).await?.filter(|d| d.value.state != AccountState::Deleted);
        found.ok_or(NO_ACCOUNT)
    }

    /// What stops writes in an account, if anything does.
    pub(crate) fn frozen(&self, record: &AccountRecord) -> Option<Frozen> {
        if self.settings.read_only {
            Some(Frozen::Server)
        } else {
            (record.state == AccountState::ReadOnly).then_some(Frozen::Account)
        }
    }

    /// Makes an account, or makes a deleted one anew under a new generation. [`Error::Taken`] if it lives.
    pub async fn create_account(&self, actor: &Actor, new: &NewAccount) -> Result<AccountDocument, Error> {
        self.admit(actor, Right::KeepAccounts, None)?;
        let name: AccountName = new.name.parse()?;
        if let Some(invalid) = check_text("/display", &new.display) {
            return Err(Error::Invalid(vec![invalid]));
        }
        let found = self.account_record(&name).await?;
        if found.as_ref().is_some_and(|document| document.value.state != AccountState::Deleted) {
            return Err(Error::Taken { name });
        }
        let generation = Generation::random();
        // The generation first: a crash in between leaves a living generation with nothing in it.
        let live = GenerationRecord { name: name.clone(), state: GenerationState::Live, deleted_at: None };
        record::create(&*self.records, &key::generation(&generation), live).await?;
        let fresh = AccountRecord {
            name: name.clone(),
            generation,
            display: new.display.clone(),
            state: AccountState::Active,
            created: self.clock.now(),
            hosts: Vec::new(),
            on_stale: OnStale::default(),
            policy: Policy::default(),
            quota_bytes: None,
            declared: false,
        };
        let account_key = key::account(&name);
        let written = match found {
            None => record::create(&*self.records, &account_key, fresh).await,
            Some(mut document) => {
                document.value = fresh;
                record::update(&*self.records, &account_key, &mut document).await.map(|()| document)
            }
        };
        match written {
            Ok(document) => {
                tracing::info!(event = "account.create", account = %name, actor = actor.label(), "account was made");
                self.record_account(Happened::AccountCreate, actor, &document.value.account()).await?;
                Ok(document.into())
            }
            Err(storage::Error::Conflict) => Err(Error::Taken { name }),
            Err(other) => Err(other.into()),
        }
    }

    /// One account. The operator reads any, a key its own.
    pub async fn get_account(&self, actor: &Actor, name: &AccountName) -> Result<AccountDocument, Error> {
        self.admit(actor, Right::ReadAccount, Some(name))?;
        self.living(name).await.map(AccountDocument::from)
    }

    /// The accounts by name; the operator's.
    pub async fn list_accounts(&self, actor: &Actor, page: &Page) -> Result<Listing<AccountDocument>, Error> {
        self.admit(actor, Right::ListAccounts, None)?;
        one_page::<AccountRecord, _>(&*self.records, &key::accounts(), page, |_, document| {
            (document.value.state != AccountState::Deleted).then(|| document.into())
        })
        .await
    }

    /// Reads, changes and writes a living account under compare-and-swap; `if_match` is the `rev` that the caller saw.
    pub(crate) async fn swap_account(
        &self,
        name: &AccountName,
        if_match: Option<u64>,
        mut change: impl FnMut(&mut AccountRecord) -> Result<(), Error>,
    ) -> Result<Document<AccountRecord>, Error> {
        for _ in 0..16 {
            let mut document = self.living(name).await?;
            if if_match.is_some_and(|rev| rev != document.rev()) {
                return Err(Error::Changed { rev: document.rev() });
            }
            change(&mut document.value)?;
            match record::update(&*self.records, &key::account(name), &mut document).await {
                Ok(()) => return Ok(document),
                Err(storage::Error::Conflict) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Err(storage::Error::unavailable(format!("account {name} is changed by too many at once")).into())
    }

    /// Deletes an account: its name means nothing from now on, and its generation is swept. Repeatable.
    pub async fn delete_account(
        &self,
        actor: &Actor,
        name: &AccountName,
        if_match: Option<u64>,
    ) -> Result<Ended, Error> {
        self.admit(actor, Right::KeepAccounts, Some(name))?;
        // One that is deleted already is finished: a crash may have come between the mark and what follows.
        let document = match self.account_record(name).await? {
            Some(document) if document.value.state == AccountState::Deleted => document,
            _ => {
                self.swap_account(name, if_match, |record| {
                    record.state = AccountState::Deleted;
                    Ok(())
                })
                .await?
            }
        };
        let generation = document.value.generation.clone();
        let now = self.clock.now();
        record::modify(&*self.records, &key::generation(&generation), |record: &mut GenerationRecord| {
            let changed = record.state != GenerationState::Deleted;
            (record.state, record.deleted_at) = (GenerationState::Deleted, record.deleted_at.or(Some(now)));
            Ok::<_, Error>(changed)
        })
        .await?;
        self.unlist_public(&document.value.account()).await?;
        self.release_hosts(&document.value.account(), &document.value.hosts).await?;
        let effective_by = self.log_end(&generation, What::Everything).await?;
        tracing::info!(event = "account.delete", account = %name, actor = actor.label(), "account was deleted");
        self.record_account(Happened::AccountDelete, actor, &document.value.account()).await?;
        Ok(Ended { effective_by })
    }
}
