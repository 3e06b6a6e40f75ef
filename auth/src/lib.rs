//! Who may: accounts, keys, credentials, tokens, and the decision.
//!
//! `auth` knows no route and no header. It is handed what a client [`Presented`] and gives back a [`Principal`]; from a
//! principal, an [`Action`] and a repository's name it makes a [`Permit`] or a [`Refusal`], without reading anything.

mod decide;
mod id;
mod principal;
mod refusal;
mod role;
mod scope;
pub mod secret;

pub use decide::{
    Action, Delete, Permit, Pull, Push, authorize, authorize_actor, authorize_catalog, authorize_ping, authorize_upload,
};
pub use id::{Id, NotAnId};
pub use principal::{Actor, Grant, Holder, KeyHolder, Presented, Principal, Public, View, user_name};
pub use refusal::{Reason, Refusal, WRONG};
pub use role::Role;
pub use scope::{Actions, Pattern, PatternError, Scope, Scopes};
pub use secret::{Kind, Secret};
