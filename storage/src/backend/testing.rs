//! One suite per trait: a backend is right when [`records()`] and [`bytes()`] pass on it.
//!
//! Every test works under an account of its own, so a suite may run on a store that others use, and more than once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a suite of tests"
)]

mod bytes;
mod records;

pub use self::{bytes::bytes, records::records};
use crate::{
    Account, Generation, Repository,
    backend::Records,
    generation::{GenerationRecord, GenerationState},
    key, record,
};

/// A repository of an account that nobody else uses.
pub fn repository() -> Repository {
    #[expect(clippy::disallowed_methods, reason = "a test may name an account")]
    let account = Account::new("acme".parse().unwrap(), Generation::random());
    Repository::new(account, "acme/app".parse().unwrap()).unwrap()
}

/// An account `acme` that lives in these records, for tests of what pages accounts.
#[expect(clippy::disallowed_methods, reason = "a test may name an account")]
pub async fn living_account(records: &dyn Records) -> Account {
    let account = Account::new("acme".parse().unwrap(), Generation::random());
    let live = GenerationRecord { name: account.name().clone(), state: GenerationState::Live, deleted_at: None };
    record::create(records, &key::generation(account.generation()), live).await.unwrap();
    account
}
