//! What is explored, and what must be found.

use super::{LISTED, Manifests, Mutant, PINNED, RETAINED, Role, STANDS, TAG};
use crate::check::{breaks, holds, long};

fn with(pushed: bool, roles: &[Role]) -> Manifests {
    Manifests { roles: roles.to_vec(), pushed, losses: true, deaths: false, mutant: None }
}

/// Pushes of the same manifest to the same tag against deletions.
fn deletions(pushed: bool) -> Manifests {
    let roles = [Role::Push, Role::Delete, Role::Push, Role::Delete];
    with(pushed, if long() { &roles } else { &roles[..3] })
}

#[test]
fn a_deletion_takes_the_tags_and_a_push_brings_them() {
    holds("manifest/deletions, new", deletions(false));
    holds("manifest/deletions, pushed", deletions(true));
    holds("manifest/two deletions", with(true, &[Role::Push, Role::Delete, Role::Delete, Role::Clean]));
    holds("manifest/two pushes", with(true, &[Role::Push, Role::Delete, Role::Push, Role::Clean]));
    holds("manifest/moved", with(true, &[Role::Push, Role::Delete, Role::Move, Role::Clean]));
    holds("manifest/untagged", with(true, &[Role::Push, Role::Delete, Role::Untag, Role::Clean]));
}

#[test]
fn whoever_dies_leaves_a_mark_by_which_the_tag_is_found() {
    let roles = [Role::Push, Role::Delete, Role::Clean, Role::Push];
    let dying = with(true, if long() { &roles } else { &roles[..3] });
    holds("manifest/deaths", Manifests { deaths: true, ..dying });
}

#[test]
fn a_published_manifest_stays() {
    holds("manifest/published", with(true, &[Role::Publish, Role::Delete, Role::Push, Role::Delete]));
    holds(
        "manifest/published under retention",
        with(true, &[Role::Publish, Role::Retain { passes: 2 }, Role::Untag, Role::Delete]),
    );
}

#[test]
fn retention_takes_nothing_that_a_push_has_tagged() {
    let passes = if long() { 3 } else { 2 };
    holds("manifest/retention", with(true, &[Role::Push, Role::Retain { passes }, Role::Untag, Role::Clean]));
    holds(
        "manifest/two of retention",
        with(true, &[Role::Push, Role::Retain { passes: 2 }, Role::Untag, Role::Retain { passes: 2 }]),
    );
}

/// Each rule is needed: without it the property fails.
#[test]
fn every_mutant_is_caught() {
    let without = |mutant, model: Manifests, property| {
        breaks(&format!("manifest/{mutant:?}"), Manifests { mutant: Some(mutant), ..model }, property);
    };
    let published = with(true, &[Role::Publish, Role::Delete]);
    let retained = with(true, &[Role::Push, Role::Retain { passes: 2 }, Role::Untag]);
    without(Mutant::TagBeforeMark, Manifests { deaths: true, ..deletions(false) }, TAG);
    without(Mutant::NoLastLook, deletions(true), TAG);
    without(Mutant::MarksBeforeRemoval, deletions(false), TAG);
    without(Mutant::PinsBeforeMark, published.clone(), PINNED);
    without(Mutant::LookBeforePin, published.clone(), PINNED);
    without(Mutant::PublishedDying, published.clone(), PINNED);
    without(Mutant::UnconditionalRemove, published.clone(), PINNED);
    without(Mutant::OnePass, retained.clone(), RETAINED);
    without(Mutant::TagsBeforeVersion, retained, RETAINED);
    let re_pushed = with(true, &[Role::Push, Role::Delete, Role::Delete, Role::Untag]);
    without(Mutant::MarkCleared, Manifests { losses: false, ..re_pushed }, TAG);
    let cleaned = with(true, &[Role::Push, Role::Delete, Role::Untag, Role::Clean]);
    without(Mutant::OneMark, Manifests { losses: false, ..cleaned }, TAG);
    without(Mutant::YoungMarksCleared, with(true, &[Role::Push, Role::Delete, Role::Untag, Role::Clean]), TAG);
    without(Mutant::YoungMarksIgnored, with(true, &[Role::Push, Role::Delete, Role::Push, Role::Clean]), STANDS);
    without(Mutant::TagLeftBehind, deletions(true), TAG);
    without(Mutant::EntryBeforeRemoval, with(true, &[Role::Publish, Role::Delete]), LISTED);
    without(Mutant::EntryNotSettled, deletions(true), LISTED);
}
