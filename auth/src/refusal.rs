//! What `auth` refuses and why: exhaustive, so that the one place that answers over HTTP has an arm for each.

use std::time::Duration;

use storage::{AccountName, RepositoryName, Time};

use crate::{
    role::Role,
    scope::{Pattern, Scopes},
    secret::Kind,
};

/// A request that may not go on.
#[derive(Debug)]
pub enum Refusal {
    /// No credential, or one that is no good. The reason is told only to who presented the right secret. 401; the challenge
    /// carries no `error`.
    Unauthenticated(Option<Reason>),
    /// The Bearer token is no good in any way. 401, the challenge with `error="invalid_token"`: without it containerd would
    /// send the same token again.
    InvalidToken,
    /// The token lacks what its credential has: asking for these scopes would help. 401, `error="insufficient_scope"`.
    InsufficientScope(Scopes),
    /// No token of this credential would do. 403.
    Denied(Reason),
    /// The account is read-only, or with `None` the whole server. 405.
    ReadOnly {
        /// The account; `None` for the server.
        account: Option<AccountName>,
    },
    /// Too many failures from this address, or too many calls with this credential. 429, with this `Retry-After`.
    Throttled(Duration),
    /// What revoked rights are known is too old to decide by. 503, `Retry-After: 1`.
    Stale,
    /// The records could not be read. 503, `Retry-After: 1`; the cause is for the log.
    Unavailable(storage::Error),
}

/// Why, in the words of who presented the right secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The name is outside the credential's patterns.
    OutsideReach {
        /// What the credential is for.
        reach: Vec<Pattern>,
        /// What was asked.
        asked: RepositoryName,
        /// The account to push to instead, when a write went to another account.
        own: Option<AccountName>,
    },
    /// The credential covers no list of the whole account.
    NoCatalog {
        /// What the credential is for.
        reach: Vec<Pattern>,
    },
    /// The key does not reach the whole account.
    WholeAccount {
        /// What the key is for.
        reach: Vec<Pattern>,
    },
    /// This kind of secret does not do this.
    WrongKind {
        /// What was presented.
        kind: Kind,
        /// Its account, if it has one.
        account: Option<AccountName>,
    },
    /// The credential has no `delete`.
    MayNotDelete,
    /// The client's address is outside the `ip_allow` of account, key or credential.
    Address,
    /// The key's role does not do this.
    Role(Role),
    /// An operator key keeps accounts and nothing else.
    Operator,
    /// The path names another account than the key's.
    OtherAccount {
        /// The key's account.
        own: AccountName,
    },
    /// A session opens no other.
    InSession,
    /// A key is no session.
    NoSession,
    /// The host is another account's: what is not that account's is not spoken of there.
    OtherHost {
        /// Whose host it is.
        host: AccountName,
    },
    /// The key was retired: what it minted lives on, it mints no more.
    Retired,
    /// Its time is over.
    ExpiredAt(Time),
    /// It, or the key that minted it, was revoked.
    RevokedAt(Time),
    /// The account is suspended.
    Suspended {
        /// The account.
        account: AccountName,
    },
}

/// What everybody reads who did not present a right secret: one text, whatever was wrong.
pub const WRONG: &str = "user name or password is wrong, expired or revoked";

impl Refusal {
    /// The public text. `host` is the one the client used; it stands in a hint on where to push instead.
    pub fn text(&self, host: &str) -> String {
        match self {
            Self::Unauthenticated(None) => "authentication required".into(),
            Self::Unauthenticated(Some(reason)) | Self::Denied(reason) => reason.text(host),
            Self::InvalidToken => "the token is invalid, expired or revoked; ask for a new one".into(),
            Self::InsufficientScope(scopes) => format!("the token lacks {scopes}; ask for one with it"),
            Self::ReadOnly { account: Some(account) } => format!("account {account} is read-only"),
            Self::ReadOnly { account: None } => "this registry is read-only".into(),
            Self::Throttled(after) => format!("too many requests; try again in {} s", after.as_secs().max(1)),
            Self::Stale | Self::Unavailable(_) => "the registry cannot reach its store; try again".into(),
        }
    }
}

impl From<storage::Error> for Refusal {
    fn from(error: storage::Error) -> Self {
        Self::Unavailable(error)
    }
}

/// The first three patterns, then a count.
fn listed(reach: &[Pattern]) -> String {
    let shown: Vec<&str> = reach.iter().take(3).map(Pattern::as_str).collect();
    let more = reach.len().saturating_sub(3);
    let shown = shown.join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

fn utc(at: Time) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

impl Reason {
    /// The public text; see [`Refusal::text`].
    pub fn text(&self, host: &str) -> String {
        match self {
            Self::OutsideReach { reach, asked, own } => {
                let hint = own.as_ref().map(|own| {
                    format!("; repositories here begin with your account: push to {host}/{own}/{}", asked.path())
                });
                format!("this credential is for {}; {asked} is outside it{}", listed(reach), hint.unwrap_or_default())
            }
            Self::NoCatalog { reach } => {
                format!("this credential is for {}; the catalog needs the whole account", listed(reach))
            }
            Self::WholeAccount { reach } => {
                format!("this key is for {}; this concerns the whole account", listed(reach))
            }
            Self::WrongKind { kind: kind @ (Kind::Pull | Kind::Push), .. } => {
                format!("this is a {} credential", kind.as_str())
            }
            Self::WrongKind { kind: Kind::AccessKey, account } => {
                let account = account.as_ref().map_or("ACCOUNT", AccountName::as_str);
                format!(
                    "this is an access key; it mints credentials and cannot log in: run `hythe credential create {account} \
                     --kind push`, or POST /api/v1/accounts/{account}/credentials"
                )
            }
            Self::WrongKind { kind: Kind::OperatorKey, .. } => {
                "this is an operator key; it keeps accounts and cannot log in: make an access key with `hythe key create \
                 ACCOUNT` and mint a credential with that"
                    .into()
            }
            Self::WrongKind { kind: Kind::Session, account } => {
                let account = account.as_ref().map_or("ACCOUNT", AccountName::as_str);
                format!(
                    "this is a session of the console and cannot log in: mint a credential there, or run `hythe credential \
                     create {account} --kind push`"
                )
            }
            Self::MayNotDelete => "this credential may not delete; mint one with --delete".into(),
            Self::Address => "not allowed from this address".into(),
            Self::Role(role) => format!("this is {} key; its role does not allow this", role.with_article()),
            Self::Operator => "this is an operator key; it keeps accounts, and what is in them belongs to their own keys".into(),
            Self::OtherAccount { own } => format!("this key is of account {own}"),
            Self::InSession => "this is a session; only the access key itself opens one".into(),
            Self::NoSession => "this is an access key and no session; POST /api/v1/session opens one with it".into(),
            Self::OtherHost { host } => {
                format!("this host serves account {host} alone; ask at a name of the registry's own")
            }
            Self::Retired => "this key is retired; it mints and changes nothing any more".into(),
            Self::ExpiredAt(at) => format!("this credential expired at {}", utc(*at)),
            Self::RevokedAt(at) => format!("this credential was revoked at {}", utc(*at)),
            Self::Suspended { account } => format!("account {account} is suspended"),
        }
    }
}
