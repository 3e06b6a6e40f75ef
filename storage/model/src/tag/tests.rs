//! What is explored, and what must be found.

use super::{LINEARIZABLE, Mutant, Op, Removal, Tags};
use crate::check::{breaks, holds, long};

/// One client that moves and deletes a tag, one that moves it too, one that looks twice.
fn tags(removal: Removal, faults: u8) -> Tags {
    let mut scripts = vec![vec![Op::Put(1), Op::Delete], vec![Op::Put(2)], vec![Op::Get, Op::Get]];
    if long() {
        scripts[1].push(Op::Delete);
    }
    Tags { scripts, initial: None, removal, faults, mutant: None }
}

fn moved(removal: Removal, faults: u8) -> Tags {
    let scripts = vec![vec![Op::Put(1)], vec![Op::Delete], vec![Op::Get, Op::Get]];
    Tags { scripts, initial: Some(3), removal, faults, mutant: None }
}

/// In one process nothing is lost and nothing comes twice.
#[test]
fn a_local_tag_is_linearizable() {
    holds("tag/local", tags(Removal::Delete, 0));
}

#[test]
fn a_tag_in_a_bucket_is_linearizable() {
    holds("tag/bucket", tags(Removal::Tombstone, 1));
    holds("tag/bucket, moved", moved(Removal::Tombstone, if long() { 2 } else { 1 }));
}

/// The record is removed and made again, and again, while a write's answer is lost.
#[test]
fn a_write_whose_fate_nobody_knows_is_not_repeated() {
    let made_anew = Tags {
        scripts: vec![vec![Op::Put(1)], vec![Op::Delete, Op::Put(2), Op::Put(4)], vec![Op::Get, Op::Get]],
        ..moved(Removal::Tombstone, 1)
    };
    holds("tag/made anew", made_anew.clone());
    holds("tag/made", Tags { initial: None, ..made_anew });
}

/// Each rule is needed: without it the property fails.
#[test]
fn every_mutant_is_caught() {
    let without = |mutant, model: Tags| {
        breaks(&format!("tag/{mutant:?}"), Tags { mutant: Some(mutant), ..model }, LINEARIZABLE);
    };
    without(Mutant::BlindPut, moved(Removal::Tombstone, 1));
    without(
        Mutant::NoHistory,
        Tags {
            scripts: vec![vec![Op::Put(1)], vec![Op::Put(2)], vec![Op::Get, Op::Get, Op::Get]],
            ..moved(Removal::Tombstone, 1)
        },
    );
    without(
        Mutant::RemovedAgain,
        Tags {
            scripts: vec![vec![Op::Delete], vec![Op::Put(2)], vec![Op::Get, Op::Get, Op::Get]],
            ..moved(Removal::Tombstone, 1)
        },
    );
    let removed_meanwhile = Tags {
        scripts: vec![vec![Op::Put(1)], vec![Op::Delete, Op::Put(2)], vec![Op::Get, Op::Get, Op::Get]],
        ..moved(Removal::Tombstone, 1)
    };
    without(Mutant::UpdatedAgain, removed_meanwhile.clone());
    without(Mutant::CreatedAgain, Tags { initial: None, ..removed_meanwhile });
    without(Mutant::TombstoneIsOld, tags(Removal::Tombstone, 1));
    // A request that arrives after the tag was deleted makes it again: where nothing is left of a removed record, and where what is
    // left is always the same.
    breaks("tag/no tombstones", tags(Removal::Delete, 1), LINEARIZABLE);
    let made_twice =
        Tags { scripts: vec![vec![Op::Delete, Op::Put(1), Op::Delete, Op::Get]], ..moved(Removal::SameTombstone, 1) };
    breaks("tag/same tombstones", made_twice, LINEARIZABLE);
}
