//! What is explored, and what must be found.

use super::{COPIED, Collect, DATA_NAMED, MEMBER_DATA, Mutant, NAMED_BLOB, NO_LEAK, PROMISE, Role};
use crate::check::{breaks, holds, long};

const A: usize = 0;
const B: usize = 1;

/// More passes or runs where there is time for them.
fn bound(short: u8, wide: u8) -> u8 {
    if long() { wide } else { short }
}

/// A client finds by HEAD what the repository contains and nobody needs, and pushes a manifest; or uploads it anew.
fn push() -> Collect {
    let roles = vec![
        Role::Push { repository: A, x: 1, head: true },
        Role::Collect { repository: A, passes: 3 },
        Role::Trash { runs: bound(2, 3) },
        Role::Sweep,
    ];
    Collect { roles, deaths: true, forget: true, thorough: true, ..Collect::default() }
}

/// The same with a manifest there that may be deleted, and a commit asked for twice.
fn push_again() -> Collect {
    let roles = vec![
        Role::Push { repository: A, x: 1, head: false },
        Role::Collect { repository: A, passes: 2 },
        Role::Trash { runs: 2 },
        Role::Sweep,
    ];
    Collect { roles, named: true, forget: true, repeats: true, deaths: long(), ..Collect::default() }
}

/// Mounts both ways while both repositories are passed over; `push`: one of them is a push, that adopts or not.
fn crossing(push: bool) -> Collect {
    let first = if push { Role::Push { repository: B, x: 1, head: true } } else { Role::Mount { to: B } };
    let roles = vec![
        first,
        Role::Mount { to: A },
        Role::Collect { repository: A, passes: 2 },
        Role::Trash { runs: bound(1, 2) },
        Role::Collect { repository: B, passes: 2 },
    ];
    Collect { roles: if long() { roles } else { roles[..4].to_vec() }, ..Collect::default() }
}

/// Two clients push the same blob with manifests of their own.
fn two_pushes() -> Collect {
    let roles = vec![
        Role::Push { repository: A, x: 1, head: true },
        Role::Push { repository: A, x: 2, head: false },
        Role::Collect { repository: A, passes: bound(2, 3) },
        Role::Trash { runs: bound(1, 2) },
    ];
    Collect { roles, forget: long(), ..Collect::default() }
}

/// Two workers pass over one repository.
fn two_workers() -> Collect {
    let roles = vec![
        Role::Push { repository: A, x: 1, head: true },
        Role::Collect { repository: A, passes: 2 },
        Role::Collect { repository: A, passes: 2 },
        Role::Trash { runs: bound(1, 2) },
    ];
    Collect { roles, forget: long(), ..Collect::default() }
}

/// A mount while both repositories are passed over.
fn mount() -> Collect {
    let roles = vec![
        Role::Mount { to: B },
        Role::Collect { repository: A, passes: bound(2, 3) },
        Role::Collect { repository: B, passes: bound(2, 3) },
        Role::Trash { runs: bound(1, 2) },
    ];
    Collect { roles, deaths: true, forget: long(), ..Collect::default() }
}

/// A mount, one back, and a DELETE where the blob came from.
fn both_ways(deleted: usize) -> Collect {
    let roles = vec![
        Role::Mount { to: B },
        Role::Mount { to: A },
        Role::Delete { repository: deleted },
        Role::Trash { runs: bound(1, 2) },
        Role::Collect { repository: deleted, passes: 2 },
    ];
    Collect { roles: if long() { roles } else { roles[..4].to_vec() }, deaths: !long(), ..Collect::default() }
}

/// A push to one repository of what the other contains, adopted or not.
fn adopt() -> Collect {
    let roles = vec![
        Role::Push { repository: B, x: 1, head: false },
        Role::Collect { repository: A, passes: 2 },
        Role::Collect { repository: B, passes: 2 },
        Role::Trash { runs: bound(1, 2) },
        Role::Sweep,
    ];
    Collect { roles: if long() { roles } else { roles[..4].to_vec() }, deaths: true, ..Collect::default() }
}

/// A DELETE against a push of the same blob and a pass.
fn delete() -> Collect {
    let roles = vec![
        Role::Push { repository: A, x: 1, head: true },
        Role::Delete { repository: A },
        Role::Collect { repository: A, passes: bound(2, 3) },
        Role::Trash { runs: 2 },
    ];
    Collect { roles, named: true, forget: true, thorough: true, ..Collect::default() }
}

/// A backup while the blob is mounted, and deleted where it was.
fn backup() -> Collect {
    let roles = vec![
        Role::Backup,
        Role::Mount { to: B },
        Role::Delete { repository: A },
        Role::Trash { runs: bound(1, 2) },
        Role::Delete { repository: B },
    ];
    Collect { roles: if long() { roles } else { roles[..4].to_vec() }, deaths: true, ..Collect::default() }
}

#[test]
fn a_push_keeps_what_it_was_promised() {
    holds("collect/push", push());
}

#[test]
fn a_push_that_is_repeated_keeps_its_blob() {
    holds("collect/push again", push_again());
}

#[test]
fn two_pushes_of_a_blob_both_keep_it() {
    holds("collect/two pushes", two_pushes());
}

#[test]
fn two_workers_on_one_repository_are_only_wasteful() {
    holds("collect/two workers", two_workers());
}

#[test]
fn a_mounted_blob_outlives_its_source() {
    holds("collect/mount", mount());
}

#[test]
fn mounts_both_ways_keep_what_both_repositories_let_go() {
    holds("collect/crossing", crossing(false));
    if long() {
        holds("collect/crossing, pushed", crossing(true));
    }
}

#[test]
fn mounts_both_ways_survive_a_deletion_at_the_origin() {
    holds("collect/both ways, origin deleted", both_ways(A));
}

#[test]
fn mounts_both_ways_survive_a_deletion_at_the_target() {
    holds("collect/both ways, target deleted", both_ways(B));
}

#[test]
fn an_adopted_blob_outlives_its_source() {
    holds("collect/adopt", adopt());
}

#[test]
fn a_deletion_leaves_nothing_behind() {
    holds("collect/delete", delete());
}

#[test]
fn a_backup_copies_what_it_has_read() {
    holds("collect/backup", backup());
}

/// Each rule is needed: without it the property fails.
#[test]
fn every_mutant_is_caught() {
    let without = |mutant, model: Collect, property| {
        let deaths = model.deaths || matches!(mutant, Mutant::SessionIgnored);
        breaks(&format!("collect/{mutant:?}"), Collect { mutant: Some(mutant), deaths, ..model }, property);
    };
    without(Mutant::LookBeforePending, push(), NAMED_BLOB);
    without(Mutant::ManifestsBeforePendings, push(), NAMED_BLOB);
    without(Mutant::OnePass, push(), NAMED_BLOB);
    without(Mutant::UnfinishedPass, two_workers(), NAMED_BLOB);
    without(Mutant::UnconditionalRemove, push(), NAMED_BLOB);
    without(Mutant::ShareAfterSource, mount(), MEMBER_DATA);
    let crossing = Collect {
        roles: vec![
            Role::Mount { to: B },
            Role::Mount { to: A },
            Role::Delete { repository: A },
            Role::Delete { repository: B },
            Role::Trash { runs: 1 },
        ],
        ..Collect::default()
    };
    without(Mutant::OneShareList, crossing.clone(), MEMBER_DATA);
    without(Mutant::AgeAgainstNow, crossing, MEMBER_DATA);
    without(Mutant::ShareClearedEarly, mount(), MEMBER_DATA);
    without(Mutant::AnswerBeforeLease, push(), PROMISE);
    without(Mutant::TombstoneIsPresent, push(), NAMED_BLOB);
    without(Mutant::LeaseIgnored, push(), PROMISE);
    without(Mutant::UnreadManifestIgnored, Collect { named: true, ..push() }, NAMED_BLOB);
    without(Mutant::RemoveBeforeIntent, push(), DATA_NAMED);
    without(Mutant::SessionIgnored, push_again(), MEMBER_DATA);
    without(Mutant::DyingIsUsed, push(), DATA_NAMED);
    without(Mutant::DeletionMarkSkipped, delete(), NO_LEAK);
    without(Mutant::UnfinishedMarkSkipped, push(), NO_LEAK);
    without(Mutant::HoldLookedAtOnce, backup(), COPIED);
    without(Mutant::ReadBeforeHold, backup(), COPIED);
    without(Mutant::SharesIgnored, both_ways(A), MEMBER_DATA);
    let moved_away = vec![
        Role::Delete { repository: A },
        Role::Push { repository: A, x: 1, head: true },
        Role::Mount { to: B },
        Role::Delete { repository: A },
        Role::Sweep,
    ];
    without(Mutant::SweeperDeletes, Collect { roles: moved_away, ..Collect::default() }, MEMBER_DATA);
    without(Mutant::DocumentBeforeIntent, push(), DATA_NAMED);
    without(Mutant::DyingIsEnough, push(), NAMED_BLOB);
    let mounted = vec![Role::Mount { to: B }, Role::Delete { repository: B }, Role::Trash { runs: 1 }];
    without(Mutant::OriginForgotten, Collect { roles: mounted, ..Collect::default() }, MEMBER_DATA);
}
