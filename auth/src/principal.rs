//! Who asks. A principal is made by authentication only, complete: deciding about it reads nothing more.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use storage::{Account, AccountName, RepositoryName, Time};

use crate::{
    credential::{Issuer, IssuerKind},
    id::Id,
    role::Role,
    scope::{Actions, Pattern, Scope},
    secret::Kind,
};

/// What authentication is handed: `registry` takes it out of headers, this crate knows none.
#[derive(Clone, Copy)]
pub enum Presented<'a> {
    /// Nothing was presented.
    None,
    /// A user name and a secret.
    Basic {
        /// `ACCOUNT.KIND.ID`.
        user: &'a str,
        /// The password.
        secret: &'a str,
    },
    /// A Bearer token.
    Bearer(&'a str),
    /// The cookie of the console; no good under `/v2/` and `/token`.
    Session(&'a str),
    /// An `Authorization` that is none of these, or cannot be read: never taken for anonymous.
    Malformed,
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Basic { .. } => "Basic(***)",
            Self::Bearer(_) => "Bearer(***)",
            Self::Session(_) => "Session(***)",
            Self::Malformed => "Malformed",
        })
    }
}

/// Where a request comes from, and the account whose host it came to.
#[derive(Debug, Clone, Copy)]
pub struct Whence<'a> {
    /// The client's address.
    pub from: IpAddr,
    /// On an account's host nothing but that account's names is in anybody's reach; `None`: a name of the registry's own.
    pub only: Option<&'a AccountName>,
}

impl From<IpAddr> for Whence<'_> {
    fn from(from: IpAddr) -> Self {
        Self { from, only: None }
    }
}

impl Whence<'_> {
    /// Whether an account's names may be spoken of there.
    pub(crate) fn reaches(self, account: &AccountName) -> bool {
        self.only.is_none_or(|only| only == account)
    }
}

/// What the reach of a credential means. Closed, so that whoever spends a permit must say what it does for each.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum View {
    /// The live repository.
    Live,
}

/// Who asks under `/v2/`.
#[derive(Debug, Clone)]
pub enum Principal {
    /// Nobody: may read what is public.
    Anonymous(Public),
    /// A token that anybody may have; worth what is public now.
    AnonymousToken(Public),
    /// A credential presented itself: its whole reach.
    Credential(Holder),
    /// An access token: what it was granted, within its credential's reach now.
    Token(Holder, Grant),
    /// A token whose only defect is that it expired at most six hours ago: may finish its own upload and nothing else.
    ExpiredToken(Holder, Grant),
}

/// What the account that a request names has made public, if anything.
#[derive(Debug, Clone, Default)]
pub struct Public(pub(crate) Option<PublicAccount>);

#[derive(Debug, Clone)]
pub(crate) struct PublicAccount {
    pub(crate) account: Account,
    pub(crate) patterns: Vec<Pattern>,
}

impl Public {
    pub(crate) fn covers(&self, name: &RepositoryName) -> Option<&Account> {
        let public = self.0.as_ref()?;
        let covered = public.account.name() == name.account() && public.patterns.iter().any(|p| p.matches(name));
        covered.then_some(&public.account)
    }
}

/// A living credential as its record says now.
#[derive(Debug, Clone)]
pub struct Holder {
    pub(crate) account: Account,
    pub(crate) id: Id,
    pub(crate) kind: Kind,
    pub(crate) actions: Actions,
    pub(crate) patterns: Arc<[Pattern]>,
    /// The user name.
    pub(crate) label: Arc<str>,
    pub(crate) created: Time,
    pub(crate) expires: Time,
    pub(crate) view: View,
    pub(crate) frozen: Option<Frozen>,
    /// What its account may use, in bytes.
    pub(crate) quota: Option<u64>,
    pub(crate) public: Public,
    /// When it was authenticated: what a warning counts from.
    pub(crate) at: Time,
    /// How old what is known of ended rights is, where the account is served all the same.
    pub(crate) stale: Option<Duration>,
    /// The account whose host it came to ([`Whence::only`]).
    pub(crate) only: Option<AccountName>,
}

/// Who made writing impossible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frozen {
    Server,
    Account,
}

/// The user name that a credential logs in with: `acme.pull.ID`, without `:`, `+` and `$`.
pub fn user_name(account: &AccountName, kind: Kind, id: &Id) -> String {
    format!("{account}.{}.{id}", kind.as_str())
}

impl Holder {
    /// The account.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The credential's id.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// Pull or push.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// When it ends.
    pub fn expires(&self) -> Time {
        self.expires
    }

    /// Its user name: what logs call it.
    pub fn user(&self) -> &str {
        &self.label
    }

    pub(crate) fn covers(&self, name: &RepositoryName) -> bool {
        name.account() == self.account.name() && self.is_here() && self.patterns.iter().any(|p| p.matches(name))
    }

    pub(crate) fn covers_all(&self) -> bool {
        let all = Pattern::everything(self.account.name());
        self.is_here() && self.patterns.contains(&all)
    }

    /// Whether its account's names are spoken of on the host that it came to.
    fn is_here(&self) -> bool {
        self.elsewhere().is_none()
    }

    /// The account whose host it came to, if that is another's.
    pub(crate) fn elsewhere(&self) -> Option<&AccountName> {
        self.only.as_ref().filter(|only| *only != self.account.name())
    }

    /// How long ago it was known what has ended, where that is longer than the bound and its account is served all the same.
    pub fn stale(&self) -> Option<Duration> {
        self.stale
    }

    /// The text of the `Warning` header once less than a fifth of its life is left.
    pub fn expiry_warning(&self) -> Option<String> {
        let left = (self.expires - self.at).to_std().ok()?;
        let life = (self.expires - self.created).to_std().ok()?;
        (left < life / 5).then(|| format!("credential {} expires in {}", self.user(), rough(left)))
    }
}

/// A time left, in its one or two largest units.
fn rough(left: Duration) -> String {
    let minutes = left.as_secs() / 60;
    match (minutes / 1440, minutes / 60 % 24, minutes % 60) {
        (0, 0, 0) => format!("{}s", left.as_secs()),
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours, 0) => format!("{hours}h"),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days, 0, _) => format!("{days}d"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}

/// What an access token was granted.
#[derive(Debug, Clone, Default)]
pub struct Grant {
    pub(crate) scopes: Arc<[Scope]>,
}

impl Grant {
    pub(crate) fn has(&self, name: &RepositoryName, action: Actions) -> bool {
        self.scopes.iter().any(|scope| match scope {
            Scope::Repository { name: granted, actions } => granted == name && actions.closed().contains(action),
            Scope::Catalog => false,
        })
    }

    pub(crate) fn has_catalog(&self) -> bool {
        self.scopes.contains(&Scope::Catalog)
    }
}

impl Principal {
    /// The living credential behind it, if there is one.
    pub fn holder(&self) -> Option<&Holder> {
        match self {
            Self::Credential(holder) | Self::Token(holder, _) | Self::ExpiredToken(holder, _) => Some(holder),
            Self::Anonymous(_) | Self::AnonymousToken(_) => None,
        }
    }

    /// What logs call it: a user name, or `anonymous`. Never a secret.
    pub fn label(&self) -> String {
        self.holder().map_or_else(|| "anonymous".into(), |holder| holder.user().to_owned())
    }
}

/// Who asks on the API or works on the store.
#[derive(Debug, Clone)]
pub enum Actor {
    /// Whoever can open the store is the operator: the command line with `--data` or `--store`.
    Store,
    /// An operator key: accounts, hosts, installation-wide reading.
    OperatorKey {
        /// Its id.
        id: Id,
    },
    /// An access key of an account, or a session that acts as one.
    AccessKey(KeyHolder),
}

/// A living access key as its record says now.
#[derive(Debug, Clone)]
pub struct KeyHolder {
    pub(crate) account: Account,
    pub(crate) id: Id,
    pub(crate) role: Role,
    pub(crate) actions: Actions,
    pub(crate) patterns: Arc<[Pattern]>,
    pub(crate) max_ttl: Option<u64>,
    pub(crate) expires: Option<Time>,
    pub(crate) retired: bool,
    pub(crate) frozen: Option<Frozen>,
    /// What its account may use, in bytes.
    pub(crate) quota: Option<u64>,
    /// What people call it.
    pub(crate) label: Arc<str>,
    /// The session in which it is used, if it does not ask itself.
    pub(crate) session: Option<InSession>,
}

/// A living session of a key.
#[derive(Debug, Clone)]
pub(crate) struct InSession {
    pub(crate) id: Id,
    pub(crate) created: Time,
    /// No later than its key's end.
    pub(crate) expires: Time,
}

impl KeyHolder {
    /// The account.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The key's id.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// Its role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether its patterns reach a repository.
    pub fn covers(&self, name: &RepositoryName) -> bool {
        name.account() == self.account.name() && self.patterns.iter().any(|p| p.matches(name))
    }

    /// Whether its patterns reach the whole account.
    pub(crate) fn covers_all(&self) -> bool {
        self.patterns.contains(&Pattern::everything(self.account.name()))
    }

    /// Whether it asks by a session and not by itself.
    pub fn is_session(&self) -> bool {
        self.session.is_some()
    }

    /// Who mints, when it does.
    pub(crate) fn issuer(&self) -> Issuer {
        let (kind, id) = match &self.session {
            Some(session) => (IssuerKind::Session, &session.id),
            None => (IssuerKind::Key, &self.id),
        };
        Issuer { kind, id: id.clone(), subject: None }
    }

    /// The parents of what it mints: the issuer first, the key last.
    pub(crate) fn lineage(&self) -> Vec<Id> {
        self.session.iter().map(|session| &session.id).chain([&self.id]).cloned().collect()
    }
}

impl Actor {
    /// What logs call it.
    pub fn label(&self) -> String {
        match self {
            Self::Store => "store".into(),
            Self::OperatorKey { id } => format!("operator-key {id}"),
            Self::AccessKey(key) => match &key.session {
                Some(session) => format!("{} session {} of key {}", key.account.name(), session.id, key.id),
                None => format!("{} key {}", key.account.name(), key.id),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_left_is_said_in_its_largest_units() {
        for (seconds, text) in
            [(59, "59s"), (60, "1m"), (7200, "2h"), (8100, "2h15m"), (86_400, "1d"), (90_000, "1d1h"), (0, "0s")]
        {
            assert_eq!(rough(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn what_was_presented_is_never_shown() {
        let shown = format!("{:?} {:?}", Presented::Basic { user: "u", secret: "hypl_x" }, Presented::Bearer("eyJx"));
        assert!(!shown.contains("hypl_x") && !shown.contains("eyJx"));
    }
}
