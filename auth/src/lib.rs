//! Who may: accounts, keys, credentials, tokens, and the decision.
//!
//! `auth` knows no route and no header. It is handed what a client [`Presented`] and gives back a [`Principal`]; from a
//! principal, an [`Action`] and a repository's name it makes a [`Permit`] or a [`Refusal`], without reading anything.
//!
//! - Every secret is one format ([`secret`]), 256 random bits, kept as a hash and shown once.
//! - An access key mints, a credential logs in, an access token opens `/v2/`; none does another's work.
//! - A token is worth what its credential's record says when it is used: life and death are read, not signed.
//! - To end a right is to mark the record, then to append to the log that every replica follows, then to answer.
//! - A token of somebody else's is exchanged for a credential only where an owner said whose, and what for ([`TrustDocument`]).
//! - Nothing locks anybody out: only failing requests are slowed, by address.
//! - Who was granted or lost a right is written down before the answer ([`audit`]).
//!
//! [`Auth`] is the door: [`Auth::authenticate`] and [`Auth::issue`] for the registry's protocol, [`Auth::authenticate_api`] for
//! the API ([`Auth::authenticate_session`] for the console's calls of it), and the calls that keep accounts, keys and credentials, each for an [`Actor`].

mod access_key;
mod account;
pub mod audit;
mod authenticate;
mod cache;
mod credential;
mod decide;
mod declared;
mod dossier;
mod error;
mod federation;
mod follow;
mod host;
mod id;
mod installation;
mod issue;
mod limit;
mod live;
mod network;
mod operator_key;
mod page;
mod principal;
mod public;
mod quota;
mod refusal;
pub mod render;
mod revocation;
mod right;
mod role;
mod scope;
mod seal;
pub mod secret;
mod session;
mod settings;
mod signing_key;
mod time;
mod token;
mod token_cache;
mod upkeep;
mod watch;

#[cfg(test)]
mod tests;

pub use access_key::{AccessKeyDocument, KeyState, NewKey, Shown};
pub use account::{AccountChange, AccountDocument, AccountState, NewAccount, OnStale, Policy, PolicyChange};
pub use audit::{Entry, Event, Happened, Origin, Party};
pub use credential::{Credential, Issuer, IssuerKind, MintRequest, Minted};
pub use decide::{
    Action, Delete, Permit, Pull, Push, authorize, authorize_actor, authorize_catalog, authorize_ping, authorize_upload,
};
pub use declared::{Declared, Departed, NotDeclared, declare_key};
pub use error::{Error, Invalid};
pub use federation::{
    ExchangeAsked, ExchangeRefusal, Expected, GrantDocument, IssuerKeys, KeySource, KeysNeeded, NewGrant, NewKeys,
    NewTrust, NotKeys, SigningAlgorithm, TrustDocument,
};
pub use id::{Id, NotAnId};
pub use installation::Auth;
pub use issue::{IssuedToken, RefreshToken, TokenRefusal, TokenRequest};
pub use limit::Rate;
pub use network::Networks;
pub use operator_key::{NewOperatorKey, OperatorKeyDocument};
pub use page::{Listing, Page};
pub use principal::{Actor, Grant, Holder, KeyHolder, Presented, Principal, Public, View, Whence, user_name};
pub use public::PublicDocument;
pub use quota::{NoQuota, Quota};
pub use refusal::{Reason, Refusal, WRONG};
pub use render::{CredentialDocument, Host, Rendering, SecretName};
pub use revocation::{Ended, new_epoch};
pub use right::Right;
pub use role::Role;
pub use scope::{Actions, Pattern, PatternError, Scope, Scopes};
pub use seal::SealKey;
pub use secret::{Kind, Secret};
pub use session::SessionDocument;
pub use settings::Settings;
pub use signing_key::{Jwk, Jwks, SigningKeyDocument, State as SigningKeyState};
pub use time::parse_time;
