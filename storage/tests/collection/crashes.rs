//! Every call of collection dying, lost, late or twice, and every call of a push: nothing acknowledged is lost, nothing stays for
//! ever.

use storage::{Algorithm, Digest, Error, Reference, backend::memory::Fault, blob, manifest};

use crate::world::{World, all_of_collection, image, push_blob, push_manifest};

const KEPT: &[u8] = b"kept";
const GARBAGE: &[u8] = b"garbage";

/// A repository with a blob that a manifest names, and one that nothing does.
async fn world(tombstones: bool) -> World {
    let world = World::with(crate::world::eager(), tombstones).await;
    world.push("app", KEPT).await;
    world.push("app", GARBAGE).await;
    push_manifest(&world.store, &world.writable("app"), "v1", image(&[KEPT])).await.unwrap();
    world.hours(25);
    world
}

/// One round of collection that may fail anywhere.
async fn attempt(world: &World) -> Result<(), Error> {
    for _ in 0..2 {
        storage::gc::collect(&world.store, &world.repository("app")).await?;
    }
    storage::trash::empty(&world.store, "trash").await?;
    Ok(())
}

#[tokio::test]
async fn collection_that_dies_at_any_call_is_finished_by_the_next() {
    for tombstones in [false, true] {
        for on_records in [true, false] {
            let mut step = 0;
            loop {
                let world = world(tombstones).await;
                let faults = if on_records { world.records.faults() } else { world.bytes.faults() };
                faults.die_after(step);
                let ended = attempt(&world).await.is_ok();
                faults.heal();
                assert!(world.has("app", KEPT).await, "{step}");
                world.rest(&["app"]).await;
                assert!(world.has("app", KEPT).await && !world.has("app", GARBAGE).await, "{step}");
                assert_eq!(world.objects().await, 1, "{step}");
                assert_eq!(world.names(&storage::key::trash_all()).await, Vec::<String>::new(), "{step}");
                if ended {
                    break;
                }
                step += 1;
                assert!(step < 200, "collection takes fewer calls than this");
            }
            assert!(step > 0, "the faults were not met");
        }
    }
}

#[tokio::test]
async fn answers_that_are_lost_late_or_doubled_lose_nothing() {
    for fault in [Fault::LoseAnswer, Fault::Duplicate, Fault::Delay, Fault::Fail] {
        for step in 0..60 {
            let world = world(true).await;
            world.records.faults().after(step, fault);
            attempt(&world).await.ok();
            // What was late arrives when everything has moved on.
            push_blob(&world.store, &world.writable("app"), GARBAGE).await.ok();
            let again = push_manifest(&world.store, &world.writable("app"), "v2", image(&[GARBAGE])).await;
            world.records.faults().heal();
            world.records.faults().deliver();
            world.rest(&["app"]).await;
            assert!(world.has("app", KEPT).await, "{fault:?} {step}");
            let reference = Reference::Tag("v2".parse().unwrap());
            let there = manifest::get(&world.store, &world.readable("app"), &reference).await.is_ok();
            assert!(there || again.is_err(), "{fault:?} {step}: {again:?}");
            assert!(!there || world.has("app", GARBAGE).await, "{fault:?} {step}");
        }
    }
}

/// The write of a manifest is late by hours: what it names is kept for it, although nobody knows of it.
#[tokio::test]
async fn a_manifest_that_arrives_late_has_its_blobs() {
    for step in 0..30 {
        let world = World::new().await;
        world.push("app", GARBAGE).await;
        world.hours(25);
        assert_eq!(world.collect("app").await.marked, 1);
        world.records.faults().after(step, Fault::Delay);
        let pushed = push_manifest(&world.store, &world.writable("app"), "v1", image(&[GARBAGE])).await;
        world.records.faults().heal();
        world.hours(20);
        all_of_collection(&world.process(), &[world.repository("app")]).await;
        world.records.faults().deliver();
        all_of_collection(&world.process(), &[world.repository("app")]).await;
        let digest = Digest::of(Algorithm::Sha256, &image(&[GARBAGE]));
        let there = manifest::get(&world.store, &world.readable("app"), &Reference::Digest(digest)).await.is_ok();
        assert!(!there || world.has("app", GARBAGE).await, "{step}: {pushed:?}");
    }
}

#[tokio::test]
async fn a_push_that_dies_at_any_call_leaves_nothing_for_ever() {
    for on_records in [true, false] {
        let mut step = 0;
        loop {
            let world = World::new().await;
            let faults = if on_records { world.records.faults() } else { world.bytes.faults() };
            faults.die_after(step);
            let pushed = async {
                push_blob(&world.store, &world.writable("app"), KEPT).await?;
                let mounted = storage::mount(
                    &world.store,
                    &world.writable("other"),
                    &world.readable("app"),
                    &Digest::of(Algorithm::Sha256, KEPT),
                )
                .await?;
                assert!(mounted.is_some());
                push_blob(&world.store, &world.writable("other"), KEPT).await?;
                push_manifest(&world.store, &world.writable("app"), "v1", image(&[KEPT])).await
            }
            .await;
            faults.heal();
            if let Ok(digest) = &pushed {
                manifest::delete(&world.store, &world.deletable("app"), digest).await.unwrap();
            } else if let Ok(found) =
                manifest::get(&world.store, &world.readable("app"), &Reference::Tag("v1".parse().unwrap())).await
            {
                manifest::delete(&world.store, &world.deletable("app"), &found.digest).await.unwrap();
            } else {
                let untagged = Digest::of(Algorithm::Sha256, &image(&[KEPT]));
                manifest::delete(&world.store, &world.deletable("app"), &untagged).await.ok();
            }
            world.rest(&["app", "other"]).await;
            assert_eq!(world.objects().await, 0, "{step}: {pushed:?}");
            let left: Vec<_> = world.names(&storage::key::stored(world.account.generation())).await;
            let left: Vec<_> = left
                .into_iter()
                .filter(|name| !name.starts_with("c/") && !name.starts_with("n/") && !name.ends_with("/g"))
                .collect();
            assert_eq!(left, Vec::<String>::new(), "{step}: {pushed:?}");
            if pushed.is_ok() {
                break;
            }
            step += 1;
            assert!(step < 200, "a push takes fewer calls than this");
        }
        assert!(step > 0, "the faults were not met");
    }
}

/// A deletion of a blob that died after its mark is finished by collection.
#[tokio::test]
async fn a_deletion_that_died_half_way_is_finished() {
    for step in 0..8 {
        let world = World::new().await;
        let digest = world.push("app", GARBAGE).await;
        world.hours(1);
        world.records.faults().die_after(step);
        let deleted = blob::delete(&world.store, &world.deletable("app"), &digest).await;
        world.records.faults().heal();
        world.rest(&["app"]).await;
        assert_eq!(world.objects().await, 0, "{step}: {deleted:?}");
    }
}
