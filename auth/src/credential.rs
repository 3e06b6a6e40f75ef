//! Credentials: a user name and a password that log in, to pull or to push, for a while.

use chrono::{NaiveDate, TimeDelta};
use serde::{Deserialize, Serialize};
use storage::{Account, AccountName, Time, key, record};

use crate::{
    account::{AccountRecord, AccountState, SHORTEST, check_text},
    audit::{Entry, Happened},
    error::{Error, Invalid},
    id::Id,
    installation::Auth,
    network::Networks,
    page::{Listing, Page, one_page},
    principal::{Actor, KeyHolder, user_name},
    public::parse_patterns,
    refusal::{Reason, Refusal},
    revocation::{Ended, What},
    right::Right,
    role::Role,
    scope::{Actions, Pattern},
    secret::{Kind, Secret, SecretHash},
};

/// Who minted a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    /// What kind of authority.
    #[serde(rename = "type")]
    pub kind: IssuerKind,
    /// Its id; sixteen `0` for the store.
    pub id: Id,
    /// Who presented a token to a trust policy, in the words of the token's issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

/// What minted a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IssuerKind {
    /// An access key.
    Key,
    /// Whoever works on the store itself.
    Operator,
    /// A trust policy, by a token of somebody else's.
    Oidc,
    /// A session of the console, which acts as an access key.
    Session,
}

/// `auth/GEN/cred/ID`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CredentialRecord {
    pub(crate) account: AccountName,
    pub(crate) hash: SecretHash,
    pub(crate) kind: Kind,
    pub(crate) actions: Actions,
    pub(crate) patterns: Vec<Pattern>,
    #[serde(default, skip_serializing_if = "Networks::is_empty")]
    pub(crate) ip_allow: Networks,
    #[serde(default)]
    pub(crate) label: String,
    pub(crate) created: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_used_day: Option<NaiveDate>,
    pub(crate) expires: Time,
    pub(crate) by: Issuer,
    /// Whatever's end ends this credential, the issuer first.
    #[serde(default)]
    pub(crate) parents: Vec<Id>,
    /// `null`: the live repository. Anything else is not understood by this build, and refused.
    #[serde(default)]
    pub(crate) view: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revoked_at: Option<Time>,
    /// Whether the audit tells that its time was over, or was told of its end otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) end_told: bool,
}

/// A credential as lists show it; [`crate::render`] adds what follows from its secret.
#[derive(Debug, Clone)]
pub struct Credential {
    /// Its id.
    pub id: Id,
    /// Its account.
    pub account: AccountName,
    /// `ACCOUNT.KIND.ID`.
    pub username: String,
    /// Pull or push, or a session.
    pub kind: Kind,
    /// What it may do.
    pub actions: Actions,
    /// Where.
    pub repositories: Vec<Pattern>,
    /// What people call it.
    pub label: String,
    /// When it was minted.
    pub created_at: Time,
    /// When it ends.
    pub expires_at: Time,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Time>,
    /// Who minted it.
    pub issuer: Issuer,
    /// The day it was last used, if it was.
    pub last_used_on: Option<NaiveDate>,
    /// The first of its account's own names, if it has any.
    pub own_host: Option<String>,
}

impl Credential {
    fn new(id: Id, record: CredentialRecord, account: &AccountRecord) -> Self {
        Self {
            username: user_name(&record.account, record.kind, &id),
            id,
            account: record.account,
            kind: record.kind,
            actions: record.actions,
            repositories: record.patterns,
            label: record.label,
            created_at: record.created,
            expires_at: record.expires,
            revoked_at: record.revoked_at,
            issuer: record.by,
            last_used_on: record.last_used_day,
            own_host: account.hosts.first().cloned(),
        }
    }
}

/// A credential that was just minted, with its secret: shown once.
#[derive(Debug, Clone)]
pub struct Minted {
    /// The credential.
    pub credential: Credential,
    /// Its password.
    pub secret: Secret,
}

/// The one request to mint, wherever it comes from.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MintRequest {
    /// `pull` or `push`.
    pub kind: String,
    /// Patterns; absent: all that the key reaches.
    pub repositories: Option<Vec<String>>,
    /// Absent: the kind's.
    pub actions: Option<Vec<String>>,
    /// Absent: 12 h to pull, 4 h to push, or the most that is allowed if that is less.
    pub ttl_seconds: Option<u64>,
    /// What people call it.
    pub label: Option<String>,
    /// CIDR texts.
    pub ip_allow: Option<Vec<String>>,
    /// A credential of the same issuer that ends in ten minutes.
    pub replaces: Option<String>,
}

/// A checked request.
pub(crate) struct Order {
    pub(crate) kind: Kind,
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) actions: Actions,
    pub(crate) ip_allow: Networks,
    pub(crate) label: String,
    pub(crate) ttl: TimeDelta,
    pub(crate) replaces: Option<Id>,
}

/// What is left to a credential once another replaces it.
const REPLACED_FOR: TimeDelta = TimeDelta::minutes(10);
const NO_CREDENTIAL: Error = Error::NotFound { what: "credential" };

fn default_ttl(kind: Kind) -> u64 {
    if kind == Kind::Push { 4 * 3600 } else { 12 * 3600 }
}

/// Holds a request against key and account policy. An excess is an error, because a mint is explicit.
fn check(request: &MintRequest, account: &AccountRecord, key: Option<&KeyHolder>, now: Time) -> Result<Order, Error> {
    let mut invalid = Vec::new();
    let kind = match request.kind.as_str() {
        "pull" => Kind::Pull,
        "push" => Kind::Push,
        _ => return Err(Error::Invalid(vec![Invalid::new("/kind", "pull or push")])),
    };
    if let Some(key) = key
        && key.role == Role::Installer
        && kind != Kind::Pull
    {
        return Err(Refusal::Denied(Reason::Role(key.role)).into());
    }

    let everything = Pattern::everything(&account.name);
    let reach: &[Pattern] = key.map_or(std::slice::from_ref(&everything), |key| &key.patterns);
    let patterns = match &request.repositories {
        None => reach.to_vec(),
        Some(texts) if texts.is_empty() => {
            invalid
                .push(Invalid::new("/repositories", "one pattern at least; leave it out for all that the key reaches"));
            Vec::new()
        }
        Some(texts) => parse_patterns(&account.name, "/repositories", texts)
            .map_err(|more| invalid.extend(more))
            .unwrap_or_default(),
    };
    for (i, pattern) in patterns.iter().enumerate() {
        if !reach.iter().any(|own| own.covers(pattern)) {
            invalid.push(Invalid::new(format!("/repositories/{i}"), "outside the patterns of this key"));
        }
    }

    let usual = if kind == Kind::Push { Actions::PUSH.closed() } else { Actions::PULL };
    let most = if kind == Kind::Push { Actions::ALL } else { Actions::PULL };
    let allowed = key.map_or(Actions::ALL, |key| key.actions).intersection(most);
    let mut actions = usual.intersection(allowed);
    if let Some(names) = &request.actions {
        actions = Actions::NONE;
        for (i, name) in names.iter().enumerate() {
            let field = format!("/actions/{i}");
            match Actions::named(name) {
                None => invalid.push(Invalid::new(field, "pull, push or delete")),
                Some(action) if !most.contains(action) => {
                    invalid.push(Invalid::new(field, "not an action of a pull credential"));
                }
                Some(action) if !allowed.contains(action) => {
                    invalid.push(Invalid::new(field, "this key may not give it; a key made with --delete may"));
                }
                Some(action) => actions = actions.union(action.closed()),
            }
        }
    }
    if actions.is_empty() && invalid.is_empty() {
        invalid.push(Invalid::new("/actions", "one action at least"));
    }

    let ttl = check_ttl(request, account, key, kind, now).map_err(|wrong| invalid.push(wrong)).unwrap_or_default();
    let label = request.label.clone().unwrap_or_default();
    invalid.extend(check_text("/label", &label));
    let ip_allow = Networks::parse(request.ip_allow.as_deref().unwrap_or_default())
        .map_err(|(i, rule)| invalid.push(Invalid::new(format!("/ip_allow/{i}"), rule)))
        .unwrap_or_default();
    let replaces = request.replaces.as_deref().map(str::parse).transpose();
    let replaces = replaces
        .map_err(|wrong: crate::NotAnId| invalid.push(Invalid::new("/replaces", wrong.to_string())))
        .unwrap_or_default();
    if invalid.is_empty() {
        Ok(Order { kind, patterns, actions, ip_allow, label, ttl, replaces })
    } else {
        Err(Error::Invalid(invalid))
    }
}

fn check_ttl(
    request: &MintRequest,
    account: &AccountRecord,
    key: Option<&KeyHolder>,
    kind: Kind,
    now: Time,
) -> Result<TimeDelta, Invalid> {
    let mut most = account.policy.longest(kind);
    if let Some(key) = key {
        most = most.min(key.max_ttl.unwrap_or(u64::MAX));
        // A credential does not outlive the key that answers for it.
        if let Some(left) = key.expires.map(|end| (end - now).num_seconds()) {
            most = most.min(u64::try_from(left).unwrap_or_default());
        }
    }
    let seconds = match request.ttl_seconds {
        None => default_ttl(kind).min(most),
        Some(seconds) if (SHORTEST..=most).contains(&seconds) => seconds,
        Some(_) => return Err(Invalid::new("/ttl_seconds", format!("{SHORTEST} to {most} seconds"))),
    };
    Ok(TimeDelta::seconds(i64::try_from(seconds).unwrap_or_default()))
}

impl Auth {
    /// Mints a credential. Its reach lies within the request, the key and the account's policy.
    pub async fn mint(&self, actor: &Actor, name: &AccountName, request: &MintRequest) -> Result<Minted, Error> {
        let minter = self.admit(actor, Right::Mint, Some(name))?;
        let by = minter.map_or_else(
            || Issuer { kind: IssuerKind::Operator, id: Id::operator(), subject: None },
            KeyHolder::issuer,
        );
        let parents = minter.map(KeyHolder::lineage).unwrap_or_default();
        if let Some(key) = minter {
            self.mints.take(key.id.clone(), self.clock.elapsed()).map_err(Refusal::Throttled)?;
        }
        let account_record = self.living(name).await?.value;
        if account_record.state == AccountState::Suspended {
            return Err(Refusal::Denied(Reason::Suspended { account: name.clone() }).into());
        }
        let now = self.clock.now();
        let order = check(request, &account_record, minter, now)?;
        let (account, replaced) = (account_record.account(), order.replaces.clone());
        let minted = self.write_credential(&account_record, order, by, parents, now).await?;
        let credential = &minted.credential;
        tracing::info!(event = "credential.mint", account = %name, credential = %credential.id, kind = credential.kind.as_str(), actor = actor.label(), "credential was minted");
        let entry = match replaced {
            None => Entry::new(Happened::CredentialMint, actor).target(credential.id.as_str()),
            Some(old) => Entry::new(Happened::CredentialRenew, actor).target(format!("{} {old}", credential.id)),
        };
        self.record(entry.of(&account)).await?;
        Ok(minted)
    }

    /// Counts and writes a credential that was judged to be right. Of its parents, which the store has none of, the last one has it
    /// among its live ones.
    pub(crate) async fn write_credential(
        &self,
        account_record: &AccountRecord,
        order: Order,
        by: Issuer,
        parents: Vec<Id>,
        now: Time,
    ) -> Result<Minted, Error> {
        let account = &account_record.account();
        let replaced = match &order.replaces {
            Some(id) => Some((id, self.replaceable(account, id, &by).await?)),
            None => None,
        };
        let expires = now + order.ttl;
        // One that was replaced before has left the count already.
        let makes_room = replaced.as_ref().map(|(_, record)| record.expires).filter(|&end| end > now + REPLACED_FOR);
        self.count(account, parents.last().unwrap_or(&by.id), expires, makes_room).await?;

        let id = Id::new(now);
        let secret = self.secrets.mint(order.kind, account.generation(), &id);
        let fresh = CredentialRecord {
            account: account.name().clone(),
            hash: secret.hash(),
            kind: order.kind,
            actions: order.actions,
            patterns: order.patterns,
            ip_allow: order.ip_allow,
            label: order.label,
            created: now,
            expires,
            last_used_day: None,
            parents,
            by,
            view: None,
            revoked_at: None,
            end_told: false,
        };
        let written = record::create(&*self.records, &key::credential(account, id.as_str()), fresh).await?;
        if let Some((old, _)) = replaced {
            // No log entry: every cache reads a record again within five minutes, long before these ten are over.
            let old = key::credential(account, old.as_str());
            record::modify(&*self.records, &old, |record: &mut CredentialRecord| {
                let earlier = record.expires.min(now + REPLACED_FOR);
                Ok::<_, Error>(std::mem::replace(&mut record.expires, earlier) != earlier)
            })
            .await?;
        }
        Ok(Minted { credential: Credential::new(id, written.value, account_record), secret })
    }

    /// The credential that is to be replaced, which must be the same issuer's.
    async fn replaceable(&self, account: &Account, id: &Id, by: &Issuer) -> Result<CredentialRecord, Error> {
        let found = record::read::<CredentialRecord>(&*self.records, &key::credential(account, id.as_str())).await?;
        let own =
            found.map(|document| document.value).filter(|record| record.by == *by && record.kind != Kind::Session);
        own.ok_or_else(|| Error::Invalid(vec![Invalid::new("/replaces", "not a credential that this key minted")]))
    }

    /// The credentials of an account, oldest first; those that ended long ago are gone. Owner, publisher and viewer.
    pub async fn list_credentials(
        &self,
        actor: &Actor,
        name: &AccountName,
        page: &Page,
    ) -> Result<Listing<Credential>, Error> {
        self.admit(actor, Right::ReadCredentials, Some(name))?;
        let account = self.living(name).await?.value;
        one_page::<CredentialRecord, _>(&*self.records, &key::credentials(&account.account()), page, |id, document| {
            Some(Credential::new(id.parse().ok()?, document.value, &account))
        })
        .await
    }

    /// One credential. Owner, publisher and viewer.
    pub async fn get_credential(&self, actor: &Actor, name: &AccountName, id: &Id) -> Result<Credential, Error> {
        self.admit(actor, Right::ReadCredentials, Some(name))?;
        let account = self.living(name).await?.value;
        let credential_key = key::credential(&account.account(), id.as_str());
        let found = record::read::<CredentialRecord>(&*self.records, &credential_key).await?;
        Ok(Credential::new(id.clone(), found.ok_or(NO_CREDENTIAL)?.value, &account))
    }

    /// Ends a credential within the bound. An owner any, a publisher what lies within its patterns, an installer what it
    /// minted. Repeatable: [`Error::Store`] means it may not be told everywhere yet, so ask again.
    pub async fn revoke_credential(&self, actor: &Actor, name: &AccountName, id: &Id) -> Result<Ended, Error> {
        let by = self.admit(actor, Right::EndCredentials, Some(name))?;
        let account = self.living(name).await?.value.account();
        let now = self.clock.now();
        let mut admission = self.revocation(account.generation());
        record::modify(&*self.records, &key::credential(&account, id.as_str()), |record: &mut CredentialRecord| {
            if let Some(key) = by
                && !may_revoke(key, record)
            {
                return Err(Error::from(Refusal::Denied(Reason::Role(key.role))));
            }
            admission.ask()?;
            let living = record.revoked_at.is_none();
            record.revoked_at = record.revoked_at.or(Some(now));
            Ok(living)
        })
        .await?
        .ok_or_else(|| unknown_to(by))?;
        let effective_by = self.log_end(account.generation(), What::Subject(id.clone())).await?;
        tracing::info!(event = "credential.revoke", account = %name, credential = %id, actor = actor.label(), "credential was revoked");
        self.record(Entry::new(Happened::CredentialRevoke, actor).of(&account).target(id.as_str())).await?;
        Ok(Ended { effective_by })
    }
}

/// What is said of a credential that is not there. An installer's key, which may be a customer's, reads no list: of what it did not
/// mint it learns nothing, not even whether it exists.
fn unknown_to(key: Option<&KeyHolder>) -> Error {
    match key {
        Some(key) if key.role == Role::Installer => Refusal::Denied(Reason::Role(key.role)).into(),
        _ => NO_CREDENTIAL,
    }
}

fn may_revoke(key: &KeyHolder, record: &CredentialRecord) -> bool {
    // By itself or in a session.
    let own = record.parents.contains(&key.id);
    match key.role {
        Role::Owner => true,
        // A session is no credential for repositories: it is its own key's, and the owner's.
        Role::Publisher if record.kind == Kind::Session => own,
        Role::Publisher => own || record.patterns.iter().all(|p| key.patterns.iter().any(|wide| wide.covers(p))),
        Role::Installer => own,
        Role::Viewer => false,
    }
}
