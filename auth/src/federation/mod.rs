//! Identities that somebody else vouches for, exchanged for credentials: GitHub Actions, Kubernetes, any OpenID provider.
//!
//! An owner makes a [trust policy](TrustDocument): whose tokens, for which audience, signed how, with which claims, and what they
//! are good for. Whoever presents such a token with the policy's id gets a credential of that reach ([`Auth::exchange`]); whatever
//! is wrong with it, the answer is one and the same. This room knows no HTTP: the issuer's keys are fetched above and handed in.
//!
//! - the caller names account and policy: one record is read, nothing is searched;
//! - issuer and audience are compared byte for byte; the algorithm is the policy's *and* the key's own, never the token's choice;
//! - keys are found by their exact `kid` in that issuer's set alone; symmetric ones do not exist here;
//! - what names people and branches is matched whole, and a `*` stops at `:` and `/`;
//! - a policy that would let in more than its maker can mean is refused when it is made.
//!
//! [`Auth::exchange`]: crate::Auth::exchange

mod claims;
mod exchange;
mod keys;
mod policy;
mod trust;

pub use self::{
    claims::Expected,
    exchange::{ExchangeAsked, ExchangeRefusal, KeysNeeded},
    keys::{IssuerKeys, NotKeys, SigningAlgorithm},
    policy::{GrantDocument, KeySource, NewGrant, NewKeys, NewTrust, TrustDocument},
};
pub(crate) use self::{exchange::UsedToken, policy::TrustRecord};
