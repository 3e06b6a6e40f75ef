//! What is explored, and what must be found.

use super::{EMPTY, Mutant, PINNED, Repositories, Role, TAKEN_BACK};
use crate::check::{breaks, holds};

fn with(pushed: bool, roles: &[Role]) -> Repositories {
    Repositories { roles: roles.to_vec(), pushed, deaths: false, mutant: None }
}

fn pushes(pushed: bool) -> Repositories {
    with(pushed, &[Role::Push, Role::Order, Role::Work, Role::Push])
}

fn dying() -> Repositories {
    Repositories { deaths: true, ..with(false, &[Role::Push, Role::Order, Role::Work, Role::Work]) }
}

fn published() -> Repositories {
    Repositories { deaths: true, ..with(true, &[Role::Publish, Role::Order, Role::Work, Role::Order]) }
}

#[test]
fn a_deleted_repository_is_empty_whoever_pushes() {
    holds("repository/pushes, new", pushes(false));
    holds("repository/pushes, pushed", pushes(true));
    holds("repository/deaths", dying());
}

#[test]
fn what_is_published_stays_and_its_repository_goes_on() {
    holds("repository/published", published());
    holds("repository/published, pushed", with(true, &[Role::Publish, Role::Order, Role::Work, Role::Push]));
    holds("repository/published, new", with(false, &[Role::Publish, Role::Order, Role::Work, Role::Push]));
}

/// Each rule is needed: without it the property fails.
#[test]
fn every_mutant_is_caught() {
    let without = |mutant, model: Repositories, property| {
        breaks(&format!("repository/{mutant:?}"), Repositories { mutant: Some(mutant), ..model }, property);
    };
    without(Mutant::LookBeforePending, pushes(false), EMPTY);
    without(Mutant::PendingGoesEarly, dying(), EMPTY);
    without(Mutant::TagLeftBehind, pushes(true), EMPTY);
    without(Mutant::PendingsLast, pushes(false), EMPTY);
    without(Mutant::OrderIgnored, published(), PINNED);
    without(Mutant::WorkIgnoresPins, published(), TAKEN_BACK);
    let taken_back = with(false, &[Role::Publish, Role::Order, Role::Work, Role::Push]);
    without(Mutant::UnconditionalFinish, taken_back, EMPTY);
}
