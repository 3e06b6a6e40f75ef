//! When collection comes to a repository, and that it comes.

use chrono::TimeDelta;
use storage::{
    Lives, Settings, Store, UploadKeys, blob,
    gc::{self, Outcome},
    key, manifest, sweep, tag, trash, work,
};

use crate::world::{World, image, push_manifest};

async fn production() -> World {
    World::with(Lives::default(), true).await
}

async fn next(world: &World) -> Option<Outcome> {
    gc::next(&world.store).await.unwrap()
}

#[tokio::test]
async fn a_repository_is_collected_when_its_promises_have_ended_and_not_before() {
    let world = production().await;
    world.push("app", b"garbage").await;
    for _ in 0..24 {
        assert_eq!(next(&world).await, None);
        world.hours(1);
    }
    // Marked in the second day, removed by the next pass, deleted hours later; then the queues are empty.
    let mut objects = Vec::new();
    let mut passes = 0;
    for _ in 0..12 {
        world.hours(1);
        while let Some(outcome) = next(&world).await {
            assert!(matches!(outcome, Outcome::Passed(_)), "{outcome:?}");
            passes += 1;
        }
        trash::empty(&world.store, "trash").await.unwrap();
        objects.push(world.objects().await);
    }
    assert_eq!(passes, 2, "{objects:?}");
    let gone = objects.iter().position(|count| *count == 0).unwrap();
    assert!((2..8).contains(&gone), "{objects:?}");
    assert_eq!(world.names(&key::dirty_all()).await, Vec::<String>::new());
    assert_eq!(world.names(&key::trash_all()).await, Vec::<String>::new());
    assert_eq!(world.names(&key::members(&world.repository("app"))).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_blob_that_is_promised_again_is_looked_at_again() {
    let world = production().await;
    let digest = world.push("app", b"layer").await;
    world.hours(20);
    blob::promise(&world.store, &world.writable("app"), &digest).await.unwrap();
    let mut days = 0;
    while world.has("app", b"layer").await {
        world.hours(1);
        days += 1;
        assert!(days < 60, "it is never looked at");
        while next(&world).await.is_some() {}
    }
    assert!(days >= 24, "gone after {days} hours of a promise of 24");
}

#[tokio::test]
async fn passes_over_one_repository_are_apart_and_only_one_at_a_time() {
    let world = production().await;
    world.push("app", b"layer").await;
    world.hours(26);
    let repository = world.repository("app");
    assert!(matches!(gc::collect(&world.store, &repository).await.unwrap(), Outcome::Passed(_)));
    // A pass of another process that is under way; half an hour later it counts as dead.
    let stuck = storage::record::read::<serde_json::Value>(world.store.records(), &key::cursor(&repository)).await;
    let mut stuck = stuck.unwrap().unwrap();
    stuck.value["running"] = true.into();
    storage::record::update(world.store.records(), &key::cursor(&repository), &mut stuck).await.unwrap();
    assert_eq!(gc::collect(&world.store, &repository).await.unwrap(), Outcome::Elsewhere);
    world.hours(1);
    assert!(matches!(gc::collect(&world.store, &repository).await.unwrap(), Outcome::Passed(_)));
    // One that took a minute is not followed by the next for twenty.
    let mut slow = storage::record::read::<serde_json::Value>(world.store.records(), &key::cursor(&repository))
        .await
        .unwrap()
        .unwrap();
    slow.value["took_ms"] = 60_000.into();
    storage::record::update(world.store.records(), &key::cursor(&repository), &mut slow).await.unwrap();
    assert_eq!(gc::collect(&world.store, &repository).await.unwrap(), Outcome::TooSoon);
    world.clock.advance(std::time::Duration::from_mins(21));
    assert!(matches!(gc::collect(&world.store, &repository).await.unwrap(), Outcome::Passed(_)));
}

#[tokio::test]
async fn a_repository_without_a_mark_is_found_by_the_round() {
    let world = World::new().await;
    world.push("app", b"garbage").await;
    world.push("web/api", b"more").await;
    for mark in world.names(&key::dirty_all()).await {
        world.store.records().delete(&key::dirty_all().plain(&mark)).await.unwrap();
    }
    world.hours(25);
    let mut round = sweep::Round::default();
    let mut seen = Vec::new();
    for _ in 0..8 {
        match round.next_repository(&world.store).await.unwrap() {
            sweep::Stop::Repository(repository) => {
                gc::collect(&world.store, &repository).await.unwrap();
                seen.push(repository.name().to_string());
            }
            sweep::Stop::Account(account) => seen.push(account.name().to_string()),
            sweep::Stop::End => seen.push("end".to_owned()),
            sweep::Stop::Deleted(generation) => panic!("{generation}"),
        }
    }
    let whole = ["acme", "acme/app", "acme/web/api", "end"];
    assert_eq!(seen, [whole, whole].concat());
    world.empty().await;
    assert_eq!(world.objects().await, 0);
}

#[tokio::test]
async fn more_garbage_than_one_pass_marks_goes_in_the_next_ones() {
    let world = World::new().await;
    for n in 0..5000_u32 {
        world.push("app", &n.to_le_bytes()).await;
    }
    world.hours(25);
    assert_eq!(world.collect("app").await.marked, 4096);
    let second = world.collect("app").await;
    assert_eq!((second.removed, second.marked), (4096, 904));
    assert_eq!(world.collect("app").await.removed, 904);
}

#[tokio::test]
async fn a_read_only_store_collects_nothing() {
    let world = World::new().await;
    world.push("app", b"garbage").await;
    world.hours(25);
    let settings = Settings { read_only: true, lives: world.lives, ..Settings::default() };
    let store = Store::new(
        world.records.clone(),
        world.bytes.clone(),
        world.clock.clone(),
        UploadKeys::new([&b"key"[..]]),
        settings,
        tokio_util::task::TaskTracker::new(),
    );
    let before = world.records.listing();
    assert!(gc::next(&store).await.is_err());
    assert!(gc::collect(&store, &world.repository("app")).await.is_err());
    assert!(trash::empty(&store, "trash").await.is_err());
    assert!(sweep::uploads(&store, &world.account).await.is_err());
    assert_eq!(world.records.listing(), before);
}

/// What cannot be read is kept, and keeps no other from its turn.
#[tokio::test]
async fn a_record_that_cannot_be_read_holds_up_nobody_else() {
    let world = production().await;
    world.push("broken", b"kept").await;
    world.push("app", b"garbage").await;
    let (records, broken) = (world.store.records(), world.repository("broken"));
    let digest = storage::Digest::of(storage::Algorithm::Sha256, b"a manifest");
    let body = storage::backend::Body { bytes: "no JSON".into(), nonce: "n".into() };
    records.create(&key::manifest(&broken, &digest), &body).await.unwrap();
    records.put(&key::trash(world.store.now(), &key::DataId::random(&world.account)), "no JSON".into()).await.unwrap();
    let mut failed = 0;
    for _ in 0..40 {
        world.hours(1);
        for _ in 0..4 {
            failed += u32::from(gc::next(&world.store).await.is_err());
        }
        trash::empty(&world.store, "trash").await.unwrap();
    }
    assert!(failed > 0 && !world.has("app", b"garbage").await && world.has("broken", b"kept").await);
    assert_eq!(world.objects().await, 1);
}

#[tokio::test]
async fn collection_asked_for_by_hand_is_due_at_once() {
    let world = production().await;
    world.push("app", b"garbage").await;
    work::collect_now(&world.store, &world.repository("app")).await.unwrap();
    assert!(matches!(next(&world).await, Some(Outcome::Passed(pass)) if pass.waiting == 1));
}

#[tokio::test]
async fn a_tag_whose_manifest_is_gone_goes_and_no_other() {
    let world = World::new().await;
    let repository = world.repository("app");
    world.push("app", b"layer").await;
    let old = push_manifest(&world.store, &world.writable("app"), "v1", image(&[b"layer"])).await.unwrap();
    let records = world.store.records();
    // As a deletion that died after the manifest leaves it.
    push_manifest(&world.store, &world.writable("app"), "gone", image(&[b"layer", b"layer"])).await.unwrap();
    let gone = tag::get(&world.store, &world.readable("app"), &"gone".parse().unwrap()).await.unwrap().digest;
    let found = records.get(&key::manifest(&repository, &gone)).await.unwrap().unwrap();
    records.remove(&key::manifest(&repository, &gone), &found.version).await.unwrap();
    records.put(&key::last_pull(&repository, &gone), "2026-11-21".into()).await.unwrap();
    records.put(&key::last_pull(&repository, &old), "2026-11-21".into()).await.unwrap();
    world.collect("app").await;
    assert_eq!(sweep::marks(&world.store, &repository).await.unwrap().marks, 0, "they are young");
    world.hours(25);
    world.collect("app").await;
    assert_eq!(sweep::marks(&world.store, &repository).await.unwrap().marks, 2);
    assert!(tag::get(&world.store, &world.readable("app"), &"gone".parse().unwrap()).await.is_err());
    assert!(tag::get(&world.store, &world.readable("app"), &"v1".parse().unwrap()).await.is_ok());
    assert_eq!(world.names(&key::last_pulls(&repository)).await, [old.dashed()]);
    assert_eq!(sweep::marks(&world.store, &repository).await.unwrap().marks, 0);
    manifest::delete(&world.store, &world.deletable("app"), &old).await.unwrap();
}

#[tokio::test]
async fn a_repository_that_was_deleted_leaves_nothing() {
    let world = World::new().await;
    world.push("app", b"layer").await;
    push_manifest(&world.store, &world.writable("app"), "v1", image(&[b"layer"])).await.unwrap();
    world.collect("app").await;
    storage::repository::delete(&world.store, &world.deletable("app"), None).await.unwrap();
    storage::repository::finish_deletions(&world.store, true).await.unwrap();
    world.rest(&["app"]).await;
    assert_eq!(world.objects().await, 0);
    assert_eq!(world.names(&key::stored(world.account.generation())).await, Vec::<String>::new());
}

#[test]
fn the_lives_of_production_are_those_that_are_documented() {
    let lives = Lives::default();
    assert_eq!((lives.promise, lives.trash), (TimeDelta::hours(24), TimeDelta::hours(2)));
}
