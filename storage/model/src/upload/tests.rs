//! What is explored, and what must be found.

use super::{COMMITTED, DIGEST, Mutant, NAMED, Role, Turn, Uploads};
use crate::check::{breaks, holds, long};

fn with(clients: &[&'static [Turn]]) -> Uploads {
    let mut roles: Vec<_> = clients.iter().map(|turns| Role::Client(turns)).collect();
    roles.extend([Role::Sweep, Role::Trash]);
    Uploads { roles, rewritable: false, deaths: true, mutant: None }
}

/// Two clients, or one that lost its connection and the same again, at one session.
fn parts() -> Uploads {
    with(&[&[Turn::Part, Turn::Commit], &[Turn::Part, Turn::Commit]])
}

fn outgrown() -> Uploads {
    with(&[&[Turn::Small, Turn::Part, Turn::Commit], &[Turn::Part, Turn::Commit]])
}

fn cancelled() -> Uploads {
    with(&[&[Turn::Small, Turn::Part, Turn::Commit], &[Turn::Cancel]])
}

#[test]
fn a_digest_never_lies_whoever_writes() {
    holds("upload/parts", parts());
    let longer: [&'static [Turn]; 2] = [&[Turn::Part, Turn::Part, Turn::Commit], &[Turn::Part, Turn::Commit]];
    holds("upload/more parts", with(&longer));
    holds("upload/parts, block lists", Uploads { rewritable: true, ..parts() });
}

#[test]
fn a_session_outgrows_its_first_object() {
    holds("upload/outgrown", outgrown());
    if long() {
        let clients: [&'static [Turn]; 3] =
            [&[Turn::Small, Turn::Part, Turn::Commit], &[Turn::Part, Turn::Commit], &[Turn::Part, Turn::Commit]];
        holds("upload/outgrown, three clients", with(&clients));
        holds("upload/outgrown, block lists", Uploads { rewritable: true, ..outgrown() });
    }
}

#[test]
fn a_cancelled_session_leaves_nothing() {
    holds("upload/cancelled", cancelled());
    if long() {
        let clients: [&'static [Turn]; 3] =
            [&[Turn::Small, Turn::Part, Turn::Commit], &[Turn::Part, Turn::Commit], &[Turn::Cancel]];
        holds("upload/cancelled, three clients", with(&clients));
    }
}

/// Each rule is needed: without it the property fails.
#[test]
fn every_mutant_is_caught() {
    let without = |mutant, model: Uploads, property| {
        breaks(&format!("upload/{mutant:?}"), Uploads { mutant: Some(mutant), ..model }, property);
    };
    without(Mutant::NoFence, Uploads { rewritable: true, ..parts() }, DIGEST);
    without(Mutant::PartsUnchecked, parts(), DIGEST);
    let racing = with(&[&[Turn::Part, Turn::Part, Turn::Commit], &[Turn::Part]]);
    without(Mutant::SendBeforeClaim, racing, COMMITTED);
    without(Mutant::ObjectForgotten, outgrown(), NAMED);
    without(Mutant::EmptyObjectCommitted, outgrown(), COMMITTED);
    without(Mutant::PredecessorForgotten, outgrown(), NAMED);
    without(Mutant::SessionIgnored, outgrown(), COMMITTED);
    without(Mutant::RepeatedForEver, parts(), DIGEST);
    without(Mutant::DocumentFirst, parts(), NAMED);
    let resumed = with(&[&[Turn::Part, Turn::Part, Turn::Commit], &[Turn::Cancel]]);
    without(Mutant::CancelledClaimed, resumed, COMMITTED);
}
