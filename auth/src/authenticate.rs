//! From what was presented to who it is. Every answer is made from the records as they are now.

use std::net::IpAddr;

use storage::{Account, AccountName, Generation, RepositoryName, Time, generation::GenerationRecord, key, record};

use crate::{
    access_key::{KeyRecord, KeyState},
    account::{AccountRecord, AccountState, claimed},
    audit::Party,
    credential::{CredentialRecord, IssuerKind},
    decide::logs_in,
    error::Error,
    id::Id,
    installation::Auth,
    limit::Neighbourhood,
    operator_key::OperatorKeyRecord,
    principal::{Actor, Holder, KeyHolder, Presented, Principal, Public, View, user_name},
    refusal::{Reason, Refusal},
    secret::{Kind, Secret},
    token::{self, Subject, UPLOAD_GRACE},
};

/// The records that decide about a credential, read together.
struct Dossier {
    account: AccountRecord,
    credential: CredentialRecord,
    /// The key that minted it; `None` for one that was minted on the store.
    parent: Option<KeyRecord>,
}

/// Why a credential whose holder proved it is no good.
enum Dead {
    /// It says nothing to anybody: there is no such credential any more.
    Unknown,
    /// The holder is told.
    Told(Reason),
    /// It is good, but not from there.
    Address,
}

/// A credential, and whether expiry is the one thing wrong with it.
struct Judged {
    holder: Holder,
    expired_at: Option<Time>,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(refusal) => refusal,
            Error::Store(error) => Self::Unavailable(error),
            other => Self::Unavailable(storage::Error::unavailable(other)),
        }
    }
}

impl Auth {
    /// Who is it under `/v2/`? `about` is the repository that the request names, so that what its account made public is known
    /// to [`crate::authorize`]. A credential that is no good is refused and never taken for anonymous.
    pub async fn authenticate(
        &self,
        presented: Presented<'_>,
        from: IpAddr,
        about: Option<&RepositoryName>,
    ) -> Result<Principal, Refusal> {
        match presented {
            Presented::None => Ok(Principal::Anonymous(self.public_about(about).await?)),
            Presented::Basic { user, secret } => {
                let mut holder = self.log_in(user, secret, from).await?;
                self.add_public(&mut holder, about).await?;
                Ok(Principal::Credential(holder))
            }
            Presented::Bearer(token) => self.authenticate_token(token, from, about).await,
            Presented::Session(_) | Presented::Malformed => Err(Refusal::Unauthenticated(None)),
        }
    }

    async fn public_about(&self, about: Option<&RepositoryName>) -> Result<Public, Refusal> {
        match about {
            Some(name) => self.public_for(name).await,
            None => Ok(Public::default()),
        }
    }

    /// What is public matters to a credential only where it does not reach itself.
    async fn add_public(&self, holder: &mut Holder, about: Option<&RepositoryName>) -> Result<(), Refusal> {
        if about.is_some_and(|name| !holder.covers(name)) {
            holder.public = self.public_about(about).await?;
        }
        Ok(())
    }

    async fn authenticate_token(
        &self,
        token: &str,
        from: IpAddr,
        about: Option<&RepositoryName>,
    ) -> Result<Principal, Refusal> {
        let now = self.clock.now();
        let ring = self.keys().await?;
        // A bad token is not counted as a failure: its holder must be told to fetch another, from wherever it is.
        let verified = token::verify(&ring, &self.service, token, now).ok_or(Refusal::InvalidToken)?;
        let Subject::Credential { account, generation, kind, id } = verified.subject else {
            if verified.expires <= now {
                return Err(Refusal::InvalidToken);
            }
            return Ok(Principal::AnonymousToken(self.public_about(about).await?));
        };
        let dossier = self.dossier(&claimed(account, generation), &id).await?.ok_or(Refusal::InvalidToken)?;
        if dossier.credential.kind != kind {
            return Err(Refusal::InvalidToken);
        }
        let mut judged = match self.judge(dossier, id, from, now) {
            Ok(judged) => judged,
            Err(Dead::Address) => return Err(Refusal::Denied(Reason::Address)),
            Err(Dead::Unknown | Dead::Told(_)) => return Err(Refusal::InvalidToken),
        };
        let end = judged.expired_at.map_or(verified.expires, |at| at.min(verified.expires));
        if end <= now {
            let recently = now - end <= UPLOAD_GRACE;
            return if recently {
                Ok(Principal::ExpiredToken(judged.holder, verified.grant))
            } else {
                Err(Refusal::InvalidToken)
            };
        }
        self.add_public(&mut judged.holder, about).await?;
        // A repository in reach may be public beyond what the token was granted.
        if about.is_some_and(|name| judged.holder.covers(name) && !verified.grant.has(name, crate::Actions::PULL)) {
            judged.holder.public = self.public_about(about).await?;
        }
        Ok(Principal::Token(judged.holder, verified.grant))
    }

    /// A user name and a password, as a living credential; [`Refusal::Unauthenticated`] with a reason for who has the right
    /// secret. A good secret is served even from an address whose failures are throttled.
    pub(crate) async fn log_in(&self, user: &str, secret: &str, from: IpAddr) -> Result<Holder, Refusal> {
        let Some(secret) = self.secret(secret) else { return Err(self.failed(from)) };
        if !logs_in(secret.kind()) {
            return Err(self.failed(from));
        }
        let Some(name) = named(user, &secret) else { return Err(self.failed(from)) };
        self.log_in_as(name, &secret, from).await
    }

    /// The account of a secret that does not come with a user name.
    pub(crate) async fn account_of(&self, generation: &Generation) -> Result<Option<AccountName>, Refusal> {
        let found = record::read::<GenerationRecord>(&*self.records, &key::generation(generation)).await?;
        Ok(found.map(|document| document.value.name))
    }

    pub(crate) async fn log_in_as(&self, name: AccountName, secret: &Secret, from: IpAddr) -> Result<Holder, Refusal> {
        let now = self.clock.now();
        let account = claimed(name, secret.generation().clone());
        let Some(dossier) = self.dossier(&account, secret.id()).await? else { return Err(self.failed(from)) };
        if !dossier.credential.hash.matches(secret) {
            return Err(self.failed(from));
        }
        match self.judge(dossier, secret.id().clone(), from, now) {
            Ok(Judged { holder, expired_at: None }) => Ok(holder),
            Ok(Judged { expired_at: Some(at), .. }) => Err(Refusal::Unauthenticated(Some(Reason::ExpiredAt(at)))),
            Err(Dead::Told(reason)) => Err(Refusal::Unauthenticated(Some(reason))),
            Err(Dead::Address) => Err(Refusal::Denied(Reason::Address)),
            Err(Dead::Unknown) => Err(self.failed(from)),
        }
    }

    /// A failure of this address: the refusal that everybody gets, or a pause once there were too many.
    pub(crate) fn failed(&self, from: IpAddr) -> Refusal {
        match self.failures.take(Neighbourhood::from(from), self.clock.elapsed()) {
            Ok(()) => Refusal::Unauthenticated(None),
            Err(wait) => {
                self.audit.throttled.refused(from, self.clock.elapsed());
                Refusal::Throttled(wait)
            }
        }
    }

    /// Account and credential together, then the key between them; `None` if the name does not mean this generation now or
    /// there is no such credential.
    async fn dossier(&self, account: &Account, id: &Id) -> Result<Option<Dossier>, Refusal> {
        let credential_key = key::credential(account, id.as_str());
        let (account_record, credential) = tokio::try_join!(
            self.account_record(account.name()),
            record::read::<CredentialRecord>(&*self.records, &credential_key),
        )?;
        let (Some(account_record), Some(credential)) = (account_record, credential) else { return Ok(None) };
        let (account_record, credential) = (account_record.value, credential.value);
        if account_record.generation != *account.generation() || account_record.state == AccountState::Deleted {
            return Ok(None);
        }
        let parent = match credential.by.kind {
            IssuerKind::Operator => None,
            IssuerKind::Key => {
                let parent_key = key::access_key(account, credential.by.id.as_str());
                let found = record::read::<KeyRecord>(&*self.records, &parent_key).await?;
                let Some(found) = found else { return Ok(None) };
                Some(found.value)
            }
        };
        Ok(Some(Dossier { account: account_record, credential, parent }))
    }

    /// What the records say about a credential whose holder proved it.
    fn judge(&self, dossier: Dossier, id: Id, from: IpAddr, now: Time) -> Result<Judged, Dead> {
        let Dossier { account, credential, parent } = dossier;
        // A view that this build does not know could mean less than the live repository.
        if credential.view.is_some() || !logs_in(credential.kind) {
            return Err(Dead::Unknown);
        }
        if account.state == AccountState::Suspended {
            return Err(Dead::Told(Reason::Suspended { account: account.name }));
        }
        if let Some(at) = credential.revoked_at {
            return Err(Dead::Told(Reason::RevokedAt(at)));
        }
        if let Some(parent) = &parent
            && parent.state == KeyState::Revoked
        {
            return Err(Dead::Told(Reason::RevokedAt(parent.revoked_at.unwrap_or(now))));
        }
        let admitted = account.policy.ip_allow.admits(from)
            && credential.ip_allow.admits(from)
            && parent.is_none_or(|parent| parent.ip_allow.admits(from));
        if !admitted {
            tracing::info!(event = "ip.deny", account = %account.name, credential = %id, "address not allowed");
            let user = user_name(&account.name, credential.kind, &id);
            self.note_address(Some(&account.account()), Party::credential(&id, user));
            return Err(Dead::Address);
        }
        let expired_at = (credential.expires <= now).then_some(credential.expires);
        if expired_at.is_none() {
            self.used.note(key::credential(&account.account(), id.as_str()), credential.last_used_day, now);
        }
        let holder = Holder {
            account: account.account(),
            id,
            kind: credential.kind,
            actions: credential.actions,
            patterns: credential.patterns.into(),
            created: credential.created,
            expires: credential.expires,
            view: View::Live,
            frozen: self.frozen(&account),
            public: Public::default(),
            at: now,
        };
        Ok(Judged { holder, expired_at })
    }

    /// Who is it on the API? An access key or an operator key as a Bearer, and nothing else.
    pub async fn authenticate_api(&self, bearer: Option<&str>, from: IpAddr) -> Result<Actor, Refusal> {
        let Some(bearer) = bearer else { return Err(Refusal::Unauthenticated(None)) };
        let Some(secret) = self.secret(bearer) else { return Err(self.failed(from)) };
        match secret.kind() {
            Kind::AccessKey => self.access_key(&secret, from).await.map(Actor::AccessKey),
            Kind::OperatorKey => self.operator_key(&secret, from).await.map(|id| Actor::OperatorKey { id }),
            Kind::Pull | Kind::Push | Kind::Session => Err(self.failed(from)),
        }
    }

    pub(crate) async fn access_key(&self, secret: &Secret, from: IpAddr) -> Result<KeyHolder, Refusal> {
        let now = self.clock.now();
        let Some(name) = self.account_of(secret.generation()).await? else { return Err(self.failed(from)) };
        let account = claimed(name, secret.generation().clone());
        let access_key = key::access_key(&account, secret.id().as_str());
        let (account_record, found) = tokio::try_join!(
            self.account_record(account.name()),
            record::read::<KeyRecord>(&*self.records, &access_key),
        )?;
        let (Some(account_record), Some(found)) = (account_record, found) else { return Err(self.failed(from)) };
        let (account_record, found) = (account_record.value, found.value);
        let meant = account_record.generation == *account.generation() && account_record.state != AccountState::Deleted;
        if !meant || !found.hash.matches(secret) {
            return Err(self.failed(from));
        }
        let told = |reason| Err(Refusal::Unauthenticated(Some(reason)));
        if account_record.state == AccountState::Suspended {
            return told(Reason::Suspended { account: account_record.name });
        }
        if found.state == KeyState::Revoked {
            return told(Reason::RevokedAt(found.revoked_at.unwrap_or(now)));
        }
        if let Some(at) = found.expires.filter(|&at| at <= now) {
            return told(Reason::ExpiredAt(at));
        }
        if !found.ip_allow.admits(from) || !account_record.policy.ip_allow.admits(from) {
            tracing::info!(event = "ip.deny", account = %account_record.name, key = %secret.id(), "address not allowed");
            self.note_address(Some(&account_record.account()), Party::key(secret.id()));
            return Err(Refusal::Denied(Reason::Address));
        }
        self.used.note(access_key, found.last_used_day, now);
        Ok(KeyHolder {
            account: account_record.account(),
            id: secret.id().clone(),
            role: found.role,
            actions: found.actions,
            patterns: found.patterns.into(),
            max_ttl: found.max_ttl,
            expires: found.expires,
            retired: found.state == KeyState::Retired,
            frozen: self.frozen(&account_record),
            label: found.label.into(),
        })
    }

    pub(crate) async fn operator_key(&self, secret: &Secret, from: IpAddr) -> Result<Id, Refusal> {
        let now = self.clock.now();
        let operator_key = key::operator_key(secret.id().as_str());
        let found = record::read::<OperatorKeyRecord>(&*self.records, &operator_key).await?;
        let Some(found) = found.map(|document| document.value) else { return Err(self.failed(from)) };
        if *secret.generation() != Generation::installation() || !found.hash.matches(secret) {
            return Err(self.failed(from));
        }
        if found.state == KeyState::Revoked {
            return Err(Refusal::Unauthenticated(Some(Reason::RevokedAt(found.revoked_at.unwrap_or(now)))));
        }
        if let Some(at) = found.expires.filter(|&at| at <= now) {
            return Err(Refusal::Unauthenticated(Some(Reason::ExpiredAt(at))));
        }
        if !found.ip_allow.admits(from) {
            self.note_address(None, Party::operator_key(secret.id()));
            return Err(Refusal::Denied(Reason::Address));
        }
        Ok(secret.id().clone())
    }
}

/// The account of a user name `ACCOUNT.KIND.ID`, if kind and id are the secret's.
fn named(user: &str, secret: &Secret) -> Option<AccountName> {
    let (rest, id) = user.rsplit_once('.')?;
    let (account, kind) = rest.rsplit_once('.')?;
    (id == secret.id().as_str() && kind == secret.kind().as_str()).then(|| account.parse().ok()).flatten()
}
