//! The deletion of a repository beside pushes to it and publications from it, and the deaths of either.

use std::{sync::Arc, time::Duration};

use futures::FutureExt;
use storage::{Error, key, repository};

use crate::world::{World, at_each_call, image, push_manifest};

const CONFIG: &[u8] = b"{}";

async fn world() -> Arc<World> {
    let world = Arc::new(World::new().await);
    world.push("app", CONFIG).await;
    world
}

/// What runs after an answer has to have run before a test looks.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

async fn finish(world: &World) -> repository::Pass {
    repository::finish_deletions(&world.process(), true).await.unwrap()
}

/// What is in the repository but marks and garbage: tags and manifests.
async fn content(world: &World) -> Vec<String> {
    let repository = world.repository("app");
    let mut names = world.names(&key::tags(&repository)).await;
    names.extend(world.names(&key::manifests(&repository)).await);
    names
}

#[tokio::test]
async fn a_push_that_dies_beside_the_deletion_of_its_repository_leaves_nothing_in_it() {
    let mut deaths = 0;
    at_each_call(async |at| {
        let mut reached = false;
        for dies_after in 0.. {
            let world = world().await;
            let deletion = {
                let world = world.clone();
                async move {
                    settle().await;
                    repository::delete(&world.process(), &world.deletable("app"), None).await.ok();
                    finish(&world).await;
                    world.records.faults().die_after(dies_after);
                }
            };
            let (process, stopped) = world.stopped_at(at, deletion.boxed());
            let pushed = push_manifest(&process, &world.writable("app"), "v1", image(&[CONFIG])).await;
            settle().await;
            world.records.faults().heal();
            reached = stopped.reached();
            world.clock.advance(Duration::from_mins(21));
            finish(&world).await;
            if repository::get(&world.store, &world.readable("app")).await.is_err() {
                assert_eq!(content(&world).await, Vec::<String>::new(), "{at} {dies_after}: {pushed:?}");
            }
            if !matches!(pushed, Err(Error::Unavailable(_))) {
                break;
            }
            deaths += 1;
        }
        reached
    })
    .await;
    assert!(deaths > 20, "{deaths} deaths");
}

#[tokio::test]
async fn a_pinned_repository_can_be_pushed_to_again_wherever_its_deletion_was_given_up() {
    for dies_after in 0..12 {
        let world = world().await;
        let digest = push_manifest(&world.store, &world.writable("app"), "v1", image(&[CONFIG])).await.unwrap();
        settle().await;
        let pin = key::pins_of(&world.repository("app"), &digest).plain("shop@1_0.x");
        world.store.records().put(&pin, ".".into()).await.unwrap();
        world.records.faults().die_after(dies_after);
        let ordered = repository::delete(&world.process(), &world.deletable("app"), None).await;
        world.records.faults().heal();
        assert!(matches!(ordered, Err(Error::Unavailable(_) | Error::Pinned { .. })), "{dies_after}: {ordered:?}");
        let pass = finish(&world).await;
        assert_eq!(pass.left, 0, "{dies_after}");
        assert!(repository::get(&world.store, &world.readable("app")).await.unwrap().deleting.is_none());
        assert_eq!(world.names(&key::repository_deletions()).await, Vec::<String>::new(), "{dies_after}");
        push_manifest(&world.process(), &world.writable("app"), "v2", image(&[CONFIG])).await.unwrap();
        assert_eq!(content(&world).await.len(), 3, "{dies_after}");
    }
}
