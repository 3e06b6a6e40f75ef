//! A token of somebody else's for a credential of ours.
//!
//! In two steps, because the issuer's keys may have to be fetched between them: [`Auth::ask_exchange`] reads the policy and holds the
//! token's claims against it, unsigned as they are, so that a stranger makes nobody fetch anything; [`Auth::exchange`] verifies the
//! signature, holds what was signed against the policy again, and mints.

use std::net::IpAddr;

use aws_lc_rs::digest;
use chrono::{DateTime, TimeDelta};
use serde::{Deserialize, Serialize};
use storage::{AccountName, Time, key, record};

use super::{
    claims::{LEEWAY, Satisfied, Wrong, satisfies},
    keys::{IssuerKeys, Presented},
    policy::{KeySource, TrustRecord, kind_of},
};
use crate::{
    account::{AccountRecord, AccountState},
    audit::{Entry, Happened, Party},
    credential::{Issuer, IssuerKind, Minted, Order},
    error::Error,
    id::Id,
    installation::Auth,
    network::Networks,
    refusal::{Reason, Refusal},
    scope::{Actions, Pattern, Scope, Scopes},
};

/// Why there is no credential for a token.
#[derive(Debug)]
pub enum ExchangeRefusal {
    /// Account, policy or token: whatever it was, this is all that is said. 401.
    Wrong,
    /// What is asked for is not within the policy. 400; said to who presented a right token.
    Scope(&'static str),
    /// As everywhere else.
    Refused(Error),
}

impl<E: Into<Error>> From<E> for ExchangeRefusal {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

/// A token whose claims are what a policy expects, if somebody signed them.
#[derive(Debug)]
pub struct ExchangeAsked {
    account: AccountRecord,
    id: Id,
    policy: TrustRecord,
    presented: Presented,
}

/// Where the keys are that could have signed a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeysNeeded<'a> {
    /// The policy has them.
    Inline,
    /// At the issuer.
    Discover {
        /// Its `iss`: what its discovery document must say too.
        issuer: &'a str,
        /// The key's name.
        kid: &'a str,
    },
}

impl ExchangeAsked {
    /// Where the keys are.
    pub fn keys(&self) -> KeysNeeded<'_> {
        match self.policy.jwks {
            KeySource::Inline(_) => KeysNeeded::Inline,
            KeySource::Discover => KeysNeeded::Discover { issuer: &self.policy.issuer, kid: &self.presented.kid },
        }
    }

    fn satisfied(&self, claims: &serde_json::Value, now: Time) -> Result<Satisfied, Wrong> {
        let TrustRecord { issuer, audience, conditions, .. } = &self.policy;
        satisfies(claims, issuer, audience, conditions, now)
    }
}

/// `auth/GEN/jti/HASH`: a token that was used.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct UsedToken {
    /// Later nobody would take it anyway.
    pub(crate) until: Time,
}

impl Auth {
    /// Reads the policy that a caller names and holds the token against it, but for its signature.
    pub async fn ask_exchange(
        &self,
        account: &str,
        trust: &str,
        token: &str,
        from: IpAddr,
    ) -> Result<ExchangeAsked, ExchangeRefusal> {
        let (Ok(name), Ok(id)) = (account.parse::<AccountName>(), trust.parse::<Id>()) else {
            return Err(self.wrong(&Wrong::Unknown, account, trust, from));
        };
        let presented = Presented::read(token).map_err(|wrong| self.wrong(&wrong, account, trust, from))?;
        let found = self.account_record(&name).await?.map(|document| document.value);
        let Some(record) = found.filter(|record| record.state != AccountState::Deleted) else {
            return Err(self.wrong(&Wrong::Unknown, account, trust, from));
        };
        let found = record::read::<TrustRecord>(&*self.records, &key::trust(&record.account(), id.as_str())).await?;
        let Some(policy) = found.map(|document| document.value).filter(|policy| policy.deleted_at.is_none()) else {
            return Err(self.wrong(&Wrong::Unknown, account, trust, from));
        };
        let now = self.clock.now();
        let asked = ExchangeAsked { account: record, id, policy, presented };
        let over = asked.policy.expires.is_some_and(|end| end <= now);
        let outcome = if over { Err(Wrong::PolicyOver) } else { Ok(()) };
        outcome
            .and_then(|()| asked.presented.is_signed_by_one_of(&asked.policy.algs))
            .and_then(|()| asked.satisfied(&asked.presented.claims, now))
            .map_err(|wrong| self.wrong(&wrong, account, trust, from))?;
        Ok(asked)
    }

    /// Refuses what was asked because the operator trusts its issuer no more.
    pub fn refuse_exchange(&self, asked: &ExchangeAsked, from: IpAddr) -> ExchangeRefusal {
        self.wrong(&Wrong::Untrusted, asked.account.name.as_str(), asked.id.as_str(), from)
    }

    /// Gives a credential for a token. `keys` are those of the issuer, where they were to be fetched; `scopes` narrow what is given.
    pub async fn exchange(
        &self,
        asked: ExchangeAsked,
        keys: Option<&IssuerKeys>,
        scopes: &[&str],
        host: &str,
        from: IpAddr,
    ) -> Result<Minted, ExchangeRefusal> {
        let now = self.clock.now();
        let inline = match &asked.policy.jwks {
            KeySource::Inline(keys) => {
                Some(IssuerKeys::given(keys).map_err(|error| storage::Error::corrupt(error.to_string()))?)
            }
            KeySource::Discover => None,
        };
        let verified = match inline.as_ref().or(keys) {
            Some(keys) => asked.presented.verify(keys),
            None => Err(Wrong::Kid),
        };
        let (name, id) = (asked.account.name.clone(), asked.id.clone());
        let wrong = |wrong: Wrong| self.wrong(&wrong, name.as_str(), id.as_str(), from);
        let claims = verified.map_err(wrong)?;
        // Of a token that its issuer has signed the account is told; what anybody can write is in the log alone.
        let account = asked.account.account();
        let denied = |why: Wrong| {
            let entry = Entry::new(Happened::ExchangeDeny, Party::oidc(&id, None)).of(&account).target(id.as_str());
            self.note(entry.denied(why.to_string()));
            wrong(why)
        };
        let satisfied = asked.satisfied(&claims, now).map_err(denied)?;
        let by = Party::oidc(&id, Some(satisfied.subject.clone()));

        // From here on the caller is known, and is told the truth.
        if asked.account.state == AccountState::Suspended {
            return Err(Refusal::Denied(Reason::Suspended { account: name }).into());
        }
        if !asked.account.policy.ip_allow.admits(from) {
            tracing::info!(event = "ip.deny", account = %name, trust = %id, "address not allowed");
            self.note_address(Some(&account), by);
            return Err(Refusal::Denied(Reason::Address).into());
        }
        self.mints.take(id.clone(), self.clock.elapsed()).map_err(Refusal::Throttled)?;
        let (actions, patterns) = narrowed(&asked.policy, scopes, host).map_err(ExchangeRefusal::Scope)?;
        if asked.policy.single_use {
            let used = key::used_token(&account, &fingerprint(&asked.policy.issuer, &asked.presented));
            let until = DateTime::from_timestamp(satisfied.ends, 0).unwrap_or(now) + LEEWAY;
            match record::create(&*self.records, &used, UsedToken { until }).await {
                Ok(_) => {}
                Err(storage::Error::Conflict) => return Err(denied(Wrong::Used)),
                Err(other) => return Err(other.into()),
            }
        }
        let kind = kind_of(actions);
        let life = asked.policy.grant.max_ttl.min(asked.account.policy.longest(kind));
        let life = TimeDelta::seconds(i64::try_from(life).unwrap_or_default());
        // A credential does not outlive the policy that answers for it.
        let life = asked.policy.expires.map_or(life, |end| life.min(end - now));
        let order = Order {
            kind,
            patterns,
            actions,
            ip_allow: Networks::default(),
            label: asked.policy.label.clone(),
            ttl: life,
            replaces: None,
        };
        let issuer = Issuer { kind: IssuerKind::Oidc, id: id.clone(), subject: Some(satisfied.subject.clone()) };
        let minted = self.write_credential(&asked.account, order, issuer, vec![id.clone()], now).await?;
        tracing::info!(
            event = "exchange.ok", account = %name, trust = %id, subject = satisfied.subject,
            credential = %minted.credential.id, "token was exchanged"
        );
        let entry = Entry::new(Happened::ExchangeOk, by).of(&account);
        self.record(entry.target(minted.credential.id.as_str())).await?;
        Ok(minted)
    }

    /// One answer for all; the log knows more.
    fn wrong(&self, wrong: &Wrong, account: &str, trust: &str, from: IpAddr) -> ExchangeRefusal {
        match self.failed(from) {
            Refusal::Unauthenticated(_) => {
                // What a stranger wrote goes into the log only if it has the form of a name.
                let account = account.parse::<AccountName>().ok();
                let trust = trust.parse::<Id>().ok();
                tracing::info!(
                    event = "exchange.deny",
                    account = account.as_ref().map(AccountName::as_str),
                    trust = trust.as_ref().map(Id::as_str),
                    reason = %wrong,
                    "token was not exchanged"
                );
                ExchangeRefusal::Wrong
            }
            throttled => throttled.into(),
        }
    }
}

/// A credential has one set of actions, so scopes that differ in theirs cannot be given as one.
fn narrowed(policy: &TrustRecord, scopes: &[&str], host: &str) -> Result<(Actions, Vec<Pattern>), &'static str> {
    let grant = &policy.grant;
    if scopes.iter().all(|scope| scope.trim().is_empty()) {
        return Ok((grant.actions, grant.patterns.clone()));
    }
    let (mut given, mut patterns) = (None, Vec::new());
    for scope in Scopes::parse(scopes.iter().copied(), Some(host)).iter() {
        let Scope::Repository { name, actions } = scope else { continue };
        let actions = actions.closed().intersection(grant.actions);
        if actions.is_empty() || !grant.patterns.iter().any(|pattern| pattern.matches(name)) {
            continue;
        }
        if given.is_some_and(|given| given != actions) {
            return Err("the scopes of one exchange ask for the same actions");
        }
        given = Some(actions);
        let one = name.as_str().parse::<Pattern>().map_err(|_| "a scope names repositories")?;
        if !patterns.contains(&one) {
            patterns.push(one);
        }
    }
    given.map(|actions| (actions, patterns)).ok_or("nothing of what is asked for is within the trust policy")
}

/// What a used token is remembered by: it is the issuer that tells its tokens apart.
fn fingerprint(issuer: &str, presented: &Presented) -> String {
    let (kind, text) = presented.identity();
    let mut hash = digest::Context::new(&digest::SHA256);
    for part in [kind, issuer, text] {
        hash.update(&part.len().to_le_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(hash.finish())
}
