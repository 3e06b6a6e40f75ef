//! What is explored, and what must be found.

use super::{APART, Accounts, CLEAN, FOUND, Mutant, NAMED};
use crate::check::{breaks, holds};

#[test]
fn nothing_is_left_of_a_deleted_account_however_late_it_is_written() {
    holds("account/deleted", Accounts::default());
}

/// Each rule is needed: without it the property fails.
#[test]
fn every_mutant_is_caught() {
    let without = |mutant, property| {
        breaks(&format!("account/{mutant:?}"), Accounts { mutant: Some(mutant) }, property);
    };
    without(Mutant::SweptAtOnce, NAMED);
    without(Mutant::KeyBeforeBytes, NAMED);
    without(Mutant::BytesBeforeDocument, NAMED);
    without(Mutant::ForgottenAtOnce, FOUND);
    without(Mutant::MonthAtTheEnd, CLEAN);
    without(Mutant::KeysWithoutGeneration, APART);
}
