//! What was decided while nobody could say what had ended: one line for each account that wanted it, once the log is read again.

use std::collections::HashMap;

use parking_lot::Mutex;
use storage::{Account, Generation};

use super::event::{Entry, Happened};
use crate::installation::Auth;

/// Accounts that are followed; of more than that, the metric alone tells.
const MOST: usize = 4096;

/// Decisions since the log was lost, by account.
#[derive(Debug, Default)]
pub(crate) struct Stale(Mutex<HashMap<Generation, (Account, u64)>>);

impl Stale {
    /// A pull of this account, or a token for one, was decided by what was known before.
    pub(crate) fn decided(&self, account: &Account) {
        let mut table = self.0.lock();
        if let Some((_, times)) = table.get_mut(account.generation()) {
            *times += 1;
        } else if table.len() < MOST {
            table.insert(account.generation().clone(), (account.clone(), 1));
        }
    }
}

impl Auth {
    /// Tells the accounts, now that it is known again what has ended.
    pub(super) fn note_stale(&self) {
        let over = std::mem::take(&mut *self.audit.stale.0.lock());
        for (account, times) in over.into_values() {
            self.note(Entry::new(Happened::StaleServe, Self::REGISTRY).of(&account).target(times.to_string()));
        }
    }
}
