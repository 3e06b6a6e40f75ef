//! What is written down where a line at the place itself would not do.

use storage::{Account, AccountName, Generation};

use super::event::{Entry, Happened, Party, PartyKind};
use crate::{
    account::{AccountState, claimed},
    error::Error,
    installation::Auth,
    principal::{Actor, KeyHolder, Presented, user_name},
    refusal::{Reason, Refusal},
    scope::{Pattern, Scopes},
    secret::{Kind, Secret},
};

impl Party {
    /// Whoever presented this secret.
    fn presented(secret: &Secret, account: &AccountName) -> Self {
        match secret.kind() {
            Kind::AccessKey => Self::key(secret.id()),
            Kind::OperatorKey => Self::operator_key(secret.id()),
            kind @ (Kind::Pull | Kind::Push | Kind::Session) => {
                Self::credential(secret.id(), user_name(account, kind, secret.id()))
            }
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

/// What was presented to a login, as far as the audit has to know.
#[derive(Debug)]
pub struct Login(Option<Secret>);

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
        before: &[String],
        now: &[Pattern],
    ) -> Result<(), Error> {
        let by = by.into();
        let gained: Vec<_> =
            now.iter().map(Pattern::as_str).filter(|new| !before.iter().any(|old| old == new)).collect();
        let lost: Vec<_> =
            before.iter().filter(|old| !now.iter().any(|new| new.as_str() == *old)).map(String::as_str).collect();
        for (happened, patterns) in [(Happened::RepoPublic, gained), (Happened::RepoPrivate, lost)] {
            if !patterns.is_empty() {
                self.record(Entry::new(happened, by.clone()).of(account).target(patterns.join(" "))).await?;
            }
        }
        Ok(())
    }

    /// What a login is, for [`Auth::note_login`]: the secret, if its check tag is right.
    pub fn login(&self, presented: &Presented<'_>, refresh: Option<&str>) -> Login {
        Login(match *presented {
            Presented::Basic { secret, .. } | Presented::Bearer(secret) => self.secret(secret),
            Presented::None | Presented::Session(_) | Presented::Malformed => {
                refresh.and_then(|text| self.secret(text))
            }
        })
    }

    /// Notes how a login ended, if what was presented is a secret of ours: what it was granted, or why it was refused. What
    /// strangers try is in no audit.
    pub async fn note_login(&self, login: Login, outcome: Result<&Scopes, &Refusal>) {
        let Login(Some(secret)) = login else { return };
        let Some(account) = self.named_by(&secret).await else { return };
        let by = Party::presented(&secret, account.name());
        match outcome {
            Ok(scopes) => self.note(Entry::new(Happened::TokenIssue, by).of(&account).target(scopes.to_string())),
            Err(Refusal::Unauthenticated(Some(reason))) => {
                let happened = match secret.kind() {
                    Kind::Pull | Kind::Push | Kind::Session => Happened::TokenDeny,
                    Kind::AccessKey | Kind::OperatorKey => Happened::KeyUseDenied,
                };
                self.note_denied(&secret, Entry::new(happened, by).target(secret.id().as_str()), &account, reason);
            }
            Err(_) => {}
        }
    }

    /// Notes that the holder of a key was refused by the API, because the key has ended.
    pub async fn note_key_denied(&self, bearer: &str, refusal: &Refusal) {
        let Refusal::Unauthenticated(Some(reason)) = refusal else { return };
        let Some(secret) = self.secret(bearer) else { return };
        let Some(account) = self.named_by(&secret).await else { return };
        let by = Party::presented(&secret, account.name());
        self.note_denied(&secret, Entry::new(Happened::KeyUseDenied, by), &account, reason);
    }

    fn note_denied(&self, secret: &Secret, entry: Entry, account: &Account, reason: &Reason) {
        let entry = entry.denied(reason.text(""));
        // An operator key is no account's.
        self.note(if secret.kind() == Kind::OperatorKey { entry } else { entry.of(account) });
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

    /// The account of a secret that was just found to be right, or an outcome of which its holder was told.
    async fn named_by(&self, secret: &Secret) -> Option<Account> {
        let generation = secret.generation().clone();
        if generation == Generation::installation() {
            return None;
        }
        let name = self.account_of(&generation).await.ok()??;
        Some(claimed(name, generation))
    }

    /// The registry by itself.
    pub(crate) const REGISTRY: Party = Party::only(PartyKind::Registry);
    /// What the configuration declares.
    pub(crate) const CONFIGURATION: Party = Party::only(PartyKind::Configuration);
}
