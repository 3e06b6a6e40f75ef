//! Sessions of the console: a credential of kind `session` that is opened with an access key and acts as that key does, for eight
//! hours.
//!
//! It is no password: nothing logs in with it. It ends by itself, when it is closed, and with its key. As with a key that is retired
//! or revoked, what was minted in it outlives its close and its time, and ends when it is revoked.

use std::net::IpAddr;

use chrono::TimeDelta;
use serde::Serialize;
use storage::{AccountName, Time, key, record};

use crate::{
    access_key::KeyState,
    account::AccountState,
    audit::{Entry, Happened, Party},
    credential::{CredentialRecord, Order},
    dossier::Dossier,
    error::Error,
    follow::Standing,
    id::Id,
    installation::Auth,
    network::Networks,
    principal::{Actor, InSession, KeyHolder},
    refusal::{Reason, Refusal},
    revocation::{Ended, What},
    right::Right,
    role::Role,
    secret::{Kind, Secret},
};

/// How long a session lives, if its key does.
const LIFE: TimeDelta = TimeDelta::hours(8);

/// A session as its holder sees it.
#[derive(Debug, Clone, Serialize)]
pub struct SessionDocument {
    /// Its id: what revokes it, as a credential.
    pub id: Id,
    /// Its account.
    pub account: AccountName,
    /// The role of its key.
    pub role: Role,
    /// The id of the access key that it acts as.
    pub key: Id,
    /// What people call that key.
    pub label: String,
    /// When it was opened.
    #[serde(with = "crate::time::millis")]
    pub created_at: Time,
    /// When it ends by itself.
    #[serde(with = "crate::time::millis")]
    pub expires_at: Time,
}

impl SessionDocument {
    fn new(key: &KeyHolder, session: &InSession) -> Self {
        Self {
            id: session.id.clone(),
            account: key.account.name().clone(),
            role: key.role,
            key: key.id.clone(),
            label: key.label.to_string(),
            created_at: session.created,
            expires_at: session.expires,
        }
    }
}

impl Auth {
    /// Opens a session that acts as a key does; no session opens another. The secret is for the one cookie that carries it.
    pub async fn open_session(&self, actor: &Actor) -> Result<(SessionDocument, Secret), Error> {
        let Some(key) = self.admit(actor, Right::OpenSession, None)? else {
            return Err(Refusal::Denied(Reason::Operator).into());
        };
        // It counts like whatever the key mints.
        self.mints.take(key.id.clone(), self.clock.elapsed()).map_err(Refusal::Throttled)?;
        let (account, now) = (self.living(key.account.name()).await?.value, self.clock.now());
        let order = Order {
            kind: Kind::Session,
            patterns: key.patterns.to_vec(),
            actions: key.actions,
            ip_allow: Networks::default(),
            label: key.label.to_string(),
            ttl: key.expires.map_or(LIFE, |end| LIFE.min(end - now)),
            replaces: None,
        };
        let minted = self.write_credential(&account, order, key.issuer(), key.lineage(), now).await?;
        let credential = minted.credential;
        let session = InSession { id: credential.id, created: credential.created_at, expires: credential.expires_at };
        tracing::info!(event = "session.open", account = %key.account.name(), session = %session.id, actor = actor.label(), "session was opened");
        self.record(Entry::new(Happened::SessionOpen, actor).of(&key.account).target(session.id.as_str())).await?;
        Ok((SessionDocument::new(key, &session), minted.secret))
    }

    /// The session that asks.
    pub fn get_session(&self, actor: &Actor) -> Result<SessionDocument, Error> {
        let (key, session) = self.in_session(actor)?;
        Ok(SessionDocument::new(key, session))
    }

    /// Ends the session that asks, within the bound, and nothing that was minted in it.
    pub async fn close_session(&self, actor: &Actor) -> Result<Ended, Error> {
        let (key, session) = self.in_session(actor)?;
        let (account, now) = (&key.account, self.clock.now());
        let mut admission = self.revocation(account.generation());
        let record_key = key::credential(account, session.id.as_str());
        record::modify(&*self.records, &record_key, |record: &mut CredentialRecord| {
            admission.ask()?;
            let living = record.expires > now;
            record.expires = record.expires.min(now);
            record.end_told = true;
            Ok::<_, Error>(living)
        })
        .await?
        .ok_or(Error::NotFound { what: "session" })?;
        let effective_by = self.log_end(account.generation(), What::Subject(session.id.clone())).await?;
        tracing::info!(event = "session.close", account = %account.name(), session = %session.id, "session was closed");
        self.record(Entry::new(Happened::SessionClose, actor).of(account).target(session.id.as_str())).await?;
        Ok(Ended { effective_by })
    }

    fn in_session<'a>(&self, actor: &'a Actor) -> Result<(&'a KeyHolder, &'a InSession), Error> {
        let key = self.admit(actor, Right::OwnSession, None)?;
        let found = key.and_then(|key| Some((key, key.session.as_ref()?)));
        found.ok_or_else(|| Refusal::Denied(Reason::NoSession).into())
    }

    /// Who is it in the console? What the cookie holds, and nothing else: a key or a password in its place is as wrong as a guess.
    pub async fn authenticate_session(&self, cookie: &str, from: IpAddr) -> Result<Actor, Refusal> {
        match self.secret(cookie) {
            Some(secret) if secret.kind() == Kind::Session => self.session(&secret, from).await.map(Actor::AccessKey),
            _ => Err(self.failed(from)),
        }
    }

    pub(crate) async fn session(&self, secret: &Secret, from: IpAddr) -> Result<KeyHolder, Refusal> {
        let (holder, _) =
            self.decide(async |standing| self.identify_session(secret, from, standing.or_refuse()?).await).await?;
        Ok(holder)
    }

    async fn identify_session(&self, secret: &Secret, from: IpAddr, standing: Standing) -> Result<KeyHolder, Refusal> {
        let now = self.clock.now();
        let subject = (secret.generation().clone(), secret.id().clone());
        let found = self.session_dossier(&subject, self.knowing(standing)).await?;
        let right = |dossier: &Dossier| {
            let record = &dossier.credential;
            record.hash.matches(secret) && record.kind == Kind::Session && record.view.is_none()
        };
        let Some(dossier) = found.filter(|held| right(&held.value)) else { return Err(self.failed(from)) };
        let Dossier { account, credential, parent, id, noted, .. } = &dossier.value;
        let Some(key) = parent else { return Err(self.failed(from)) };
        let told = |reason| Err(Refusal::Unauthenticated(Some(reason)));
        if account.state == AccountState::Suspended {
            return told(Reason::Suspended { account: account.name.clone() });
        }
        if let Some(at) = credential.revoked_at {
            return told(Reason::RevokedAt(at));
        }
        if key.state == KeyState::Revoked {
            return told(Reason::RevokedAt(key.revoked_at.unwrap_or(now)));
        }
        let end = key.expires.map_or(credential.expires, |end| end.min(credential.expires));
        if end <= now {
            return told(Reason::ExpiredAt(end));
        }
        if !account.policy.ip_allow.admits(from) || !key.ip_allow.admits(from) {
            tracing::info!(event = "ip.deny", account = %account.name, session = %id, "address not allowed");
            self.note_address(Some(&account.account()), Party::session(id));
            return Err(Refusal::Denied(Reason::Address));
        }
        if noted.first_on(now.date_naive()) {
            self.used.note(dossier.value.record_key(), credential.last_used_day, now);
        }
        let session = InSession { id: id.clone(), created: credential.created, expires: end };
        let holder = self.key_holder(account, &credential.by.id, key, key.patterns.as_slice().into());
        Ok(KeyHolder { session: Some(session), ..holder })
    }
}
