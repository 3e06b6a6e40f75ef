//! From what was presented to who it is. Every answer is made from the records as they are now, or as they were no longer ago
//! than the bound.

use std::{net::IpAddr, sync::Arc};

use storage::{AccountName, Generation, RepositoryName, Time, key};

use crate::{
    access_key::{KeyRecord, KeyState},
    account::{AccountRecord, AccountState},
    audit::Party,
    decide::{Action, logs_in},
    dossier::{Dossier, KeyDossier},
    error::Error,
    follow::Standing,
    id::Id,
    installation::Auth,
    limit::Neighbourhood,
    principal::{Actor, Holder, KeyHolder, Presented, Principal, Public, View, Whence, user_name},
    refusal::{Reason, Refusal},
    scope::Pattern,
    secret::{Kind, Secret},
    token::{Subject, UPLOAD_GRACE},
};

/// Why a credential whose holder proved it is no good.
enum Dead {
    /// It says nothing to anybody: there is no such credential any more.
    Unknown,
    /// The holder is told.
    Told(Reason),
    /// It is good, but not from there.
    Address,
    /// Whether it is good cannot be known now.
    Stale,
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
    pub async fn authenticate<'a>(
        &self,
        presented: Presented<'_>,
        whence: impl Into<Whence<'a>>,
        about: Option<&RepositoryName>,
    ) -> Result<Principal, Refusal> {
        let whence = whence.into();
        let (principal, standing) = self.decide(|standing| self.identify(presented, whence, about, standing)).await?;
        if standing != Standing::Confirmed
            && let Some(holder) = principal.holder()
        {
            self.audit.stale.decided(holder.account());
        }
        Ok(principal)
    }

    async fn identify(
        &self,
        presented: Presented<'_>,
        whence: Whence<'_>,
        about: Option<&RepositoryName>,
        standing: Standing,
    ) -> Result<Principal, Refusal> {
        // What another account made public is not looked for on an account's host.
        let public = about.filter(|name| whence.reaches(name.account()));
        match presented {
            Presented::None => Ok(Principal::Anonymous(self.public_about(public, standing).await?)),
            Presented::Basic { user, secret } => {
                let mut holder = self.log_in(user, secret, whence.from, standing).await?;
                holder.only = whence.only.cloned();
                self.add_public(&mut holder, public, standing).await?;
                Ok(Principal::Credential(holder))
            }
            Presented::Bearer(token) => self.authenticate_token(token, whence, public, standing).await,
            Presented::Session(_) | Presented::Malformed => Err(Refusal::Unauthenticated(None)),
        }
    }

    async fn public_about(&self, about: Option<&RepositoryName>, standing: Standing) -> Result<Public, Refusal> {
        match about {
            Some(name) => self.public_for(name, standing).await,
            None => Ok(Public::default()),
        }
    }

    /// What is public matters to a credential only where it does not reach itself.
    async fn add_public(
        &self,
        holder: &mut Holder,
        about: Option<&RepositoryName>,
        standing: Standing,
    ) -> Result<(), Refusal> {
        if standing == Standing::Confirmed && about.is_some_and(|name| !holder.covers(name)) {
            holder.public = self.public_about(about, standing).await?;
        }
        Ok(())
    }

    async fn authenticate_token(
        &self,
        token: &str,
        whence: Whence<'_>,
        about: Option<&RepositoryName>,
        standing: Standing,
    ) -> Result<Principal, Refusal> {
        let now = self.clock.now();
        // A bad token is not counted as a failure: its holder must be told to fetch another, from wherever it is.
        let verified = self.verified(token, now, standing).await?.ok_or(Refusal::InvalidToken)?;
        let verified = &verified.value;
        let Subject::Credential { account, generation, kind, id } = &verified.subject else {
            if verified.expires <= now {
                return Err(Refusal::InvalidToken);
            }
            return Ok(Principal::AnonymousToken(self.public_about(about, standing).await?));
        };
        let subject = (generation.clone(), id.clone());
        let dossier = self.dossier(account, &subject, self.knowing(standing)).await?.ok_or(Refusal::InvalidToken)?;
        if dossier.value.credential.kind != *kind {
            return Err(Refusal::InvalidToken);
        }
        let mut judged = match self.judge(&dossier.value, whence.from, now, standing) {
            Ok(judged) => judged,
            Err(Dead::Address) => return Err(Refusal::Denied(Reason::Address)),
            Err(Dead::Stale) => return Err(Refusal::Stale),
            Err(Dead::Unknown | Dead::Told(_)) => return Err(Refusal::InvalidToken),
        };
        judged.holder.only = whence.only.cloned();
        let end = judged.expired_at.map_or(verified.expires, |at| at.min(verified.expires));
        if end <= now {
            let recently = now - end <= UPLOAD_GRACE;
            return if recently {
                Ok(Principal::ExpiredToken(judged.holder, verified.grant.clone()))
            } else {
                Err(Refusal::InvalidToken)
            };
        }
        self.add_public(&mut judged.holder, about, standing).await?;
        // A repository in reach may be public beyond what the token was granted.
        let beyond = |name| judged.holder.covers(name) && !verified.grant.has(name, crate::Actions::PULL);
        if standing == Standing::Confirmed && about.is_some_and(beyond) {
            judged.holder.public = self.public_about(about, standing).await?;
        }
        Ok(Principal::Token(judged.holder, verified.grant.clone()))
    }

    /// Whether what somebody was permitted in a repository is still permitted: asked in the middle of a transfer, when
    /// [`Auth::place`] has moved. What has only expired, or may only write no more, goes on to its end; what cannot be known now
    /// does not.
    pub async fn still<A: Action>(&self, who: &Principal, about: &RepositoryName, from: IpAddr) -> bool {
        let standing = Standing::Confirmed;
        let who = match who {
            Principal::Anonymous(_) | Principal::AnonymousToken(_) => {
                self.public_for(about, standing).await.map(Principal::Anonymous)
            }
            Principal::Credential(holder) => self.again(holder, about, from, standing).await.map(Principal::Credential),
            Principal::Token(holder, grant) => {
                self.again(holder, about, from, standing).await.map(|holder| Principal::Token(holder, grant.clone()))
            }
            // It finishes its own upload and has no other right to look at.
            Principal::ExpiredToken(holder, _) => return self.again(holder, about, from, standing).await.is_ok(),
        };
        let permit = who.and_then(|who| crate::authorize::<A>(&who, about));
        matches!(permit, Ok(_) | Err(Refusal::ReadOnly { .. }))
    }

    /// The holder as the records say now, expired or not.
    async fn again(
        &self,
        holder: &Holder,
        about: &RepositoryName,
        from: IpAddr,
        standing: Standing,
    ) -> Result<Holder, Refusal> {
        let subject = (holder.account.generation().clone(), holder.id.clone());
        let found = self.dossier(holder.account.name(), &subject, self.knowing(standing)).await?;
        let dossier = found.ok_or(Refusal::InvalidToken)?;
        let judged = self.judge(&dossier.value, from, self.clock.now(), standing);
        let mut now = judged.map_err(|_| Refusal::InvalidToken)?.holder;
        now.only.clone_from(&holder.only);
        now.public = self.public_about(Some(about), standing).await?;
        Ok(now)
    }

    /// A user name and a password, as a living credential; [`Refusal::Unauthenticated`] with a reason for who has the right
    /// secret. A good secret is served even from an address whose failures are throttled.
    async fn log_in(&self, user: &str, secret: &str, from: IpAddr, standing: Standing) -> Result<Holder, Refusal> {
        let secret = self.secret(secret).filter(|secret| logs_in(secret.kind()));
        let Some(secret) = secret else { return Err(self.failed(from)) };
        self.log_in_with(user, &secret, from, standing).await
    }

    /// The same with a password that was read and is one.
    pub(crate) async fn log_in_with(
        &self,
        user: &str,
        secret: &Secret,
        from: IpAddr,
        standing: Standing,
    ) -> Result<Holder, Refusal> {
        let Some(name) = named(user, secret) else { return Err(self.failed(from)) };
        self.log_in_as(&name, secret, from, standing).await
    }

    pub(crate) async fn log_in_as(
        &self,
        name: &AccountName,
        secret: &Secret,
        from: IpAddr,
        standing: Standing,
    ) -> Result<Holder, Refusal> {
        let now = self.clock.now();
        let subject = (secret.generation().clone(), secret.id().clone());
        let found = self.dossier(name, &subject, self.knowing(standing)).await?;
        let Some(dossier) = found.filter(|held| held.value.credential.hash.matches(secret)) else {
            return Err(self.failed(from));
        };
        match self.judge(&dossier.value, from, now, standing) {
            Ok(Judged { holder, expired_at: None }) => Ok(holder),
            Ok(Judged { expired_at: Some(at), .. }) => Err(Refusal::Unauthenticated(Some(Reason::ExpiredAt(at)))),
            Err(Dead::Told(reason)) => Err(Refusal::Unauthenticated(Some(reason))),
            Err(Dead::Address) => Err(Refusal::Denied(Reason::Address)),
            Err(Dead::Stale) => Err(Refusal::Stale),
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

    /// What the records say about a credential whose holder proved it.
    fn judge(&self, dossier: &Dossier, from: IpAddr, now: Time, standing: Standing) -> Result<Judged, Dead> {
        let Dossier { account, credential, parent, .. } = dossier;
        // A view that this build does not know could mean less than the live repository.
        if credential.view.is_some() || !logs_in(credential.kind) {
            return Err(Dead::Unknown);
        }
        if !standing.allows(account.on_stale, credential.kind) {
            return Err(Dead::Stale);
        }
        if account.state == AccountState::Suspended {
            return Err(Dead::Told(Reason::Suspended { account: account.name.clone() }));
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
            && parent.as_ref().is_none_or(|parent| parent.ip_allow.admits(from));
        if !admitted {
            tracing::info!(event = "ip.deny", account = %account.name, credential = %dossier.id, "address not allowed");
            let user = user_name(&account.name, credential.kind, &dossier.id);
            self.note_address(Some(&account.account()), Party::credential(&dossier.id, user));
            return Err(Dead::Address);
        }
        let expired_at = (credential.expires <= now).then_some(credential.expires);
        if expired_at.is_none() && dossier.noted.first_on(now.date_naive()) {
            self.used.note(dossier.record_key(), credential.last_used_day, now);
        }
        let holder = Holder {
            account: account.account(),
            id: dossier.id.clone(),
            kind: credential.kind,
            actions: credential.actions,
            patterns: dossier.patterns.clone(),
            label: dossier.label.clone(),
            created: credential.created,
            expires: credential.expires,
            view: View::Live,
            frozen: self.frozen(account),
            quota: self.quota(account),
            public: Public::default(),
            at: now,
            stale: standing.age(),
            only: None,
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
        let (holder, _) =
            self.decide(async |standing| self.identify_key(secret, from, standing.or_refuse()?).await).await?;
        Ok(holder)
    }

    async fn identify_key(&self, secret: &Secret, from: IpAddr, standing: Standing) -> Result<KeyHolder, Refusal> {
        let now = self.clock.now();
        let subject = (secret.generation().clone(), secret.id().clone());
        let found = self.key_dossier(&subject, self.knowing(standing)).await?;
        let Some(dossier) = found.filter(|held| held.value.key.hash.matches(secret)) else {
            return Err(self.failed(from));
        };
        let KeyDossier { account, key, id, patterns, noted } = &dossier.value;
        let told = |reason| Err(Refusal::Unauthenticated(Some(reason)));
        if account.state == AccountState::Suspended {
            return told(Reason::Suspended { account: account.name.clone() });
        }
        if key.state == KeyState::Revoked {
            return told(Reason::RevokedAt(key.revoked_at.unwrap_or(now)));
        }
        if let Some(at) = key.expires.filter(|&at| at <= now) {
            return told(Reason::ExpiredAt(at));
        }
        if !key.ip_allow.admits(from) || !account.policy.ip_allow.admits(from) {
            tracing::info!(event = "ip.deny", account = %account.name, key = %id, "address not allowed");
            self.note_address(Some(&account.account()), Party::key(id));
            return Err(Refusal::Denied(Reason::Address));
        }
        if noted.first_on(now.date_naive()) {
            self.used.note(key::access_key(&account.account(), id.as_str()), key.last_used_day, now);
        }
        Ok(self.key_holder(account, id, key, patterns.clone()))
    }

    /// A key as its record says now.
    pub(crate) fn key_holder(
        &self,
        account: &AccountRecord,
        id: &Id,
        key: &KeyRecord,
        patterns: Arc<[Pattern]>,
    ) -> KeyHolder {
        KeyHolder {
            account: account.account(),
            id: id.clone(),
            role: key.role,
            actions: key.actions,
            patterns,
            max_ttl: key.max_ttl,
            expires: key.expires,
            retired: key.state == KeyState::Retired,
            frozen: self.frozen(account),
            quota: self.quota(account),
            label: key.label.as_str().into(),
            session: None,
        }
    }

    pub(crate) async fn operator_key(&self, secret: &Secret, from: IpAddr) -> Result<Id, Refusal> {
        let (id, _) =
            self.decide(async |standing| self.identify_operator(secret, from, standing.or_refuse()?).await).await?;
        Ok(id)
    }

    async fn identify_operator(&self, secret: &Secret, from: IpAddr, standing: Standing) -> Result<Id, Refusal> {
        let now = self.clock.now();
        if *secret.generation() != Generation::installation() {
            return Err(self.failed(from));
        }
        let found = self.operator_dossier(secret.id(), self.knowing(standing)).await?;
        let Some(dossier) = found.filter(|held| held.value.key.hash.matches(secret)) else {
            return Err(self.failed(from));
        };
        let key = &dossier.value.key;
        if key.state == KeyState::Revoked {
            return Err(Refusal::Unauthenticated(Some(Reason::RevokedAt(key.revoked_at.unwrap_or(now)))));
        }
        if let Some(at) = key.expires.filter(|&at| at <= now) {
            return Err(Refusal::Unauthenticated(Some(Reason::ExpiredAt(at))));
        }
        if !key.ip_allow.admits(from) {
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
