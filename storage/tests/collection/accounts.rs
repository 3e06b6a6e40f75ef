//! What a deleted account leaves, and when that goes.

use chrono::TimeDelta;
use futures::FutureExt;
use storage::{
    Lives, Opener,
    generation::{GenerationRecord, GenerationState},
    key::{self, AuditBatch},
    record, sweep,
    upload::{self, Incoming},
};

use crate::world::{World, image, push_blob, push_manifest};

async fn delete(world: &World) {
    record::modify::<GenerationRecord, storage::Error>(
        world.store.records(),
        &key::generation(world.account.generation()),
        |record| {
            (record.state, record.deleted_at) = (GenerationState::Deleted, Some(world.store.now()));
            Ok(true)
        },
    )
    .await
    .unwrap();
}

/// Sweeps until a slice finds nothing left to do now.
async fn sweep_all(world: &World) -> u64 {
    let mut keys = 0;
    loop {
        let (swept, done) = sweep::generation(&world.store, world.account.generation()).await.unwrap();
        keys += swept.keys;
        if done {
            return keys;
        }
    }
}

async fn full() -> World {
    let world = World::with(Lives::default(), true).await;
    let digest = world.push("app", b"layer").await;
    push_manifest(&world.store, &world.writable("app"), "v1", image(&[b"layer"])).await.unwrap();
    storage::mount(&world.store, &world.writable("web/api"), &world.readable("app"), &digest).await.unwrap().unwrap();
    let opener: Opener = "0000000000000001".parse().unwrap();
    let text = upload::open(&world.store, &world.writable("app"), None, opener).await.unwrap();
    let id = upload::parse(&world.store, &world.writable("app"), &text).unwrap();
    let body = Box::pin(futures::stream::iter([Ok(bytes::Bytes::from(vec![7; 3_000_000]))]));
    let incoming = Incoming { body, length: Some(3_000_000), start: None };
    upload::append(&world.store, &world.writable("app"), &id, incoming).await.unwrap();
    let given_up = world.push("app", b"deleted").await;
    storage::blob::delete(&world.store, &world.deletable("app"), &given_up).await.unwrap();
    let records = world.store.records();
    records
        .put(&key::audit(world.account.generation(), &AuditBatch::new(world.store.now(), "c", 0)), ".".into())
        .await
        .unwrap();
    world
}

#[tokio::test]
async fn a_deleted_account_goes_whole_and_its_audit_keeps_its_generation() {
    let world = full().await;
    let generation = world.account.generation().clone();
    assert_eq!(sweep::generation(&world.store, &generation).await.unwrap().0.keys, 0, "it lives");
    delete(&world).await;
    assert_eq!(sweep_all(&world).await, 0, "an upload may be between its document and its bytes");
    world.hours(2);
    assert!(sweep_all(&world).await > 10);
    assert_eq!(world.names(&key::stored(&generation)).await, Vec::<String>::new());
    world.hours(3);
    world.empty().await;
    assert_eq!(world.objects().await, 0);
    // A write that was under way comes late: the next round takes it away.
    push_blob(&world.process(), &world.writable("app"), b"late").await.unwrap();
    assert!(sweep_all(&world).await > 0);
    world.empty().await;
    assert_eq!(world.objects().await, 0);
    world.hours(24 * 31);
    sweep_all(&world).await;
    assert_eq!(world.names(&key::generations()).await, [generation.to_string()], "its audit is there");
    let audit = key::audits(&generation);
    for batch in world.names(&audit).await {
        world.store.records().delete(&audit.plain(&batch)).await.unwrap();
    }
    sweep_all(&world).await;
    assert_eq!(world.names(&key::generations()).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_generation_is_remembered_for_thirty_days() {
    let world = World::new().await;
    delete(&world).await;
    world.clock.advance((TimeDelta::days(30) - TimeDelta::seconds(1)).to_std().unwrap());
    sweep_all(&world).await;
    assert_eq!(world.names(&key::generations()).await.len(), 1);
    world.clock.advance(std::time::Duration::from_secs(1));
    sweep_all(&world).await;
    assert_eq!(world.names(&key::generations()).await.len(), 0);
}

/// The bytes go before the key that names them, whatever dies.
#[tokio::test]
async fn a_sweep_that_dies_at_any_call_is_finished_by_the_next() {
    for on_records in [true, false] {
        let mut step = 0;
        loop {
            let world = full().await;
            delete(&world).await;
            world.hours(2);
            let faults = if on_records { world.records.faults() } else { world.bytes.faults() };
            faults.die_after(step);
            let generation = world.account.generation().clone();
            let ended = sweep::generation(&world.store, &generation).boxed().await.is_ok();
            faults.heal();
            sweep_all(&world).await;
            world.hours(3);
            world.empty().await;
            assert_eq!(world.objects().await, 0, "{step}");
            if ended {
                break;
            }
            step += 1;
            assert!(step < 300, "a sweep takes fewer calls than this");
        }
        assert!(step > 0, "the faults were not met");
    }
}
