//! Whether a history of a register is linearizable: whether every operation can be given an instant between its call and its return
//! so that each read tells what the last write before it wrote.
//!
//! The search is Wing's and Gong's, with Lowe's memory of what was tried: a set of operations done and the value after them is
//! looked at once. A write whose answer was lost may have happened at any time after its call, or not at all.

use std::{collections::HashSet, time::Duration};

/// What a client did and was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    /// Wrote a value, `None` for its removal, and was told that it is so.
    Wrote(Option<u64>),
    /// Wrote a value and was not told whether it is so.
    MayHaveWritten(Option<u64>),
    /// Read a value, or that there is none.
    Read(Option<u64>),
}

/// One operation.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// When it was asked for, since any one moment.
    pub called: Duration,
    /// When the answer was there.
    pub returned: Duration,
    /// What it was.
    pub did: Did,
}

/// Whether the history of a register that begins empty is linearizable.
///
/// # Panics
/// When it has more than 128 operations.
pub fn is_linearizable(history: &[Event]) -> bool {
    assert!(history.len() <= 128, "{} operations are too many to search", history.len());
    let certain = |event: &Event| !matches!(event.did, Did::MayHaveWritten(_));
    let all: u128 = history.iter().enumerate().filter(|(_, e)| certain(e)).fold(0, |all, (at, _)| all | 1 << at);
    let mut tried = HashSet::new();
    let mut open = vec![(0_u128, None)];
    while let Some((done, value)) = open.pop() {
        if done & all == all {
            return true;
        }
        if !tried.insert((done, value)) {
            continue;
        }
        let left = || history.iter().enumerate().filter(|(at, _)| done & (1 << at) == 0);
        // What began after another one had its answer cannot come before it.
        let Some(first_return) = left().filter(|(_, e)| certain(e)).map(|(_, e)| e.returned).min() else { continue };
        for (at, event) in left().filter(|(_, event)| event.called <= first_return) {
            let after = match event.did {
                Did::Wrote(written) | Did::MayHaveWritten(written) => written,
                Did::Read(read) if read == value => value,
                Did::Read(_) => continue,
            };
            open.push((done | 1 << at, after));
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(events: &[(u64, u64, Did)]) -> Vec<Event> {
        let at = Duration::from_secs;
        events
            .iter()
            .map(|&(called, returned, did)| Event { called: at(called), returned: at(returned), did })
            .collect()
    }

    #[test]
    fn one_after_the_other_is_linearizable() {
        assert!(is_linearizable(&history(&[
            (0, 1, Did::Read(None)),
            (2, 3, Did::Wrote(Some(1))),
            (4, 5, Did::Read(Some(1))),
            (6, 7, Did::Wrote(None)),
            (8, 9, Did::Read(None)),
        ])));
    }

    #[test]
    fn a_read_beside_a_write_may_see_either_value() {
        for seen in [None, Some(1)] {
            assert!(is_linearizable(&history(&[(0, 5, Did::Wrote(Some(1))), (1, 2, Did::Read(seen))])));
        }
    }

    #[test]
    fn a_stale_read_is_found() {
        assert!(!is_linearizable(&history(&[
            (0, 1, Did::Wrote(Some(1))),
            (2, 3, Did::Wrote(Some(2))),
            (4, 5, Did::Read(Some(1))),
        ])));
    }

    #[test]
    fn a_value_that_comes_back_is_found() {
        assert!(!is_linearizable(&history(&[
            (0, 10, Did::Wrote(Some(1))),
            (0, 10, Did::Wrote(Some(2))),
            (1, 2, Did::Read(Some(1))),
            (3, 4, Did::Read(Some(2))),
            (5, 6, Did::Read(Some(1))),
        ])));
    }

    #[test]
    fn a_lost_write_is_found() {
        assert!(!is_linearizable(&history(&[(0, 1, Did::Wrote(Some(1))), (2, 3, Did::Read(None))])));
    }

    #[test]
    fn an_answer_that_was_lost_leaves_both_possible_but_not_in_turns() {
        let unknown = (0, 1, Did::MayHaveWritten(Some(1)));
        assert!(is_linearizable(&history(&[unknown, (2, 3, Did::Read(None)), (4, 5, Did::Read(Some(1)))])));
        assert!(!is_linearizable(&history(&[unknown, (2, 3, Did::Read(Some(1))), (4, 5, Did::Read(None))])));
    }
}
