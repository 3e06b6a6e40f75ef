//! What is written down where a line at the place itself would not do.

use storage::{Account, AccountName, Generation};

use super::event::{Entry, Happened, Party, PartyKind};
use crate::{
    account::{AccountState, claimed},
    error::Error,
    installation::Auth,
    principal::{Actor, KeyHolder, user_name},
    refusal::{Reason, Refusal},
    scope::{Pattern, Scopes},
    secret::{Kind, Secret},
};

impl Party {
    /// Whoever presented this secret.
    fn presented(secret: &Secret, account: Option<&Account>) -> Self {
        match (secret.kind(), account) {
            (Kind::OperatorKey, _) => Self::operator_key(secret.id()),
            (Kind::Session, _) => Self::session(secret.id()),
            (Kind::Pull | Kind::Push, Some(account)) => {
                Self::credential(secret.id(), user_name(account.name(), secret.kind(), secret.id()))
            }
            (Kind::AccessKey | Kind::Pull | Kind::Push, _) => Self::key(secret.id()),
        }
    }
}

impl Happened {
    /// What a change of an account's settings is, by its state before and after.
    pub(crate) fn changing(before: AccountState, after: AccountState) -> Self {
        match (before == AccountState::Suspended, after == AccountState::Suspended) {
            (true, false) => Self::AccountResume,
            (false, true) => Self::AccountSuspend,
            (true, true) | (false, false) => Self::AccountChange,
        }
    }
}

impl Auth {
    /// What happened to an account itself: a line of its own audit, and one of the installation's, which outlives it.
    pub(crate) async fn record_account(
        &self,
        happened: Happened,
        by: impl Into<Party>,
        account: &Account,
    ) -> Result<(), Error> {
        let entry = Entry::new(happened, by).of(account).target(account.name().as_str());
        self.record(entry.clone()).await?;
        self.record(entry.apart()).await
    }

    /// What became public in an account and what is no longer.
    pub(crate) async fn record_public(
        &self,
        by: impl Into<Party>,
        account: &Account,
        before: &[Pattern],
        now: &[Pattern],
    ) -> Result<(), Error> {
        let by = by.into();
        let only_in = |these: &[Pattern], those: &[Pattern]| -> Vec<String> {
            these.iter().filter(|one| !those.contains(one)).map(Pattern::to_string).collect()
        };
        let (gained, lost) = (only_in(now, before), only_in(before, now));
        for (happened, patterns) in [(Happened::RepoPublic, gained), (Happened::RepoPrivate, lost)] {
            if !patterns.is_empty() {
                self.record(Entry::new(happened, by.clone()).of(account).target(patterns.join(" "))).await?;
            }
        }
        Ok(())
    }

    /// What names of its own an account was given, and which were taken back.
    pub(crate) async fn record_hosts(
        &self,
        by: impl Into<Party>,
        account: &Account,
        before: &[String],
        now: &[String],
    ) -> Result<(), Error> {
        let by = by.into();
        let beyond = |one: &[String], other: &[String]| -> Vec<String> {
            one.iter().filter(|host| !other.contains(host)).cloned().collect()
        };
        for (happened, hosts) in
            [(Happened::HostApprove, beyond(now, before)), (Happened::HostWithdraw, beyond(before, now))]
        {
            if !hosts.is_empty() {
                let entry = Entry::new(happened, by.clone()).of(account).target(hosts.join(" "));
                self.record(entry.clone()).await?;
                self.record(entry.apart()).await?;
            }
        }
        Ok(())
    }

    /// Notes how a login with a secret of ours, under the user name of this account if under any, ended: what it was granted, or why
    /// it was refused. What strangers try is in no audit.
    pub(crate) async fn note_login(
        &self,
        secret: &Secret,
        user: Option<AccountName>,
        outcome: Result<&Scopes, &Refusal>,
    ) {
        let logs_in = matches!(secret.kind(), Kind::Pull | Kind::Push);
        let happened = match outcome {
            Ok(_) => Happened::TokenIssue,
            Err(_) if logs_in => Happened::TokenDeny,
            Err(_) => Happened::KeyUseDenied,
        };
        // That a credential is of the account in its user name was found before anything was granted or explained.
        let user = user.filter(|_| logs_in);
        match outcome {
            Ok(scopes) => {
                let entry = |by| Entry::new(happened, by).target(scopes.to_string());
                self.note_presented(secret, user, entry).await;
            }
            Err(Refusal::Unauthenticated(Some(reason))) => {
                let entry = |by| Entry::new(happened, by).target(secret.id().as_str()).denied(reason.text(""));
                self.note_presented(secret, user, entry).await;
            }
            Err(_) => {}
        }
    }

    /// Notes that the holder of a key or a session was refused by the API, because it has ended.
    pub async fn note_key_denied(&self, presented: &str, refusal: &Refusal) {
        let Refusal::Unauthenticated(Some(reason)) = refusal else { return };
        let Some(secret) = self.secret(presented) else { return };
        let entry = |by| Entry::new(Happened::KeyUseDenied, by).denied(reason.text(""));
        self.note_presented(&secret, None, entry).await;
    }

    /// Notes what the holder of a right secret did, in the audit of the account that it is of.
    async fn note_presented(
        &self,
        secret: &Secret,
        named: Option<AccountName>,
        entry: impl FnOnce(Party) -> Entry + Send,
    ) {
        let generation = secret.generation().clone();
        if generation == Generation::installation() {
            self.note(entry(Party::presented(secret, None)));
            return;
        }
        let name = match named {
            Some(name) => Some(name),
            None => self.account_of(&generation).await.ok().flatten(),
        };
        let Some(account) = name.map(|name| claimed(name, generation)) else { return };
        self.note(entry(Party::presented(secret, Some(&account))).of(&account));
    }

    /// Notes that a living key asked for what it may not do.
    pub fn note_refused(&self, actor: &Actor, operation: &str, refusal: &Refusal) {
        let entry = Entry::new(Happened::KeyUseDenied, actor).target(operation).denied(refusal.text(""));
        self.note(match actor {
            Actor::AccessKey(KeyHolder { account, .. }) => entry.of(account),
            Actor::OperatorKey { .. } | Actor::Store => entry,
        });
    }

    /// Notes that the right secret came from an address that is not allowed; without an account it is an operator key's.
    pub(crate) fn note_address(&self, account: Option<&Account>, by: Party) {
        let target = by.id.clone().unwrap_or_default();
        let entry = Entry::new(Happened::IpDeny, by).target(target).denied(Reason::Address.text(""));
        self.note(match account {
            Some(account) => entry.of(account),
            None => entry,
        });
    }

    /// The registry by itself.
    pub(crate) const REGISTRY: Party = Party::only(PartyKind::Registry);
    /// What the configuration declares.
    pub(crate) const CONFIGURATION: Party = Party::only(PartyKind::Configuration);
}
