//! The races of collection, each with one side stopped before each of its calls while the other runs to its end.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use storage::{Algorithm, Digest, Error, Reference, Store, blob, manifest, sweep, tag, trash};

use crate::world::{World, all_of_collection, at_each_call, collect, image, push_blob, push_manifest};

const LAYER: &[u8] = b"a layer";
const CONFIG: &[u8] = b"{}";

/// How far collection is when the race begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing was looked at.
    Nothing,
    /// The blobs are marked.
    Marked,
    /// They are removed, their bytes are in the trash.
    Removed,
}

const BEFORE: [Before; 3] = [Before::Nothing, Before::Marked, Before::Removed];

/// Two blobs that nothing names and no promise keeps, in `app`.
async fn unreferenced(before: Before) -> Arc<World> {
    let world = Arc::new(World::new().await);
    world.push("app", LAYER).await;
    world.push("app", CONFIG).await;
    world.hours(25);
    if before != Before::Nothing {
        assert_eq!(world.collect("app").await.marked, 2);
    }
    if before == Before::Removed {
        assert_eq!(world.collect("app").await.removed, 2);
    }
    world
}

fn collection(world: &World, paths: &[&str]) -> BoxFuture<'static, ()> {
    let (store, repositories) = (world.process(), paths.iter().map(|path| world.repository(path)).collect::<Vec<_>>());
    async move { all_of_collection(&store, &repositories).await }.boxed()
}

/// Collection again and again; what was acknowledged is there after it.
async fn holds(world: &World, paths: &[&str]) {
    let repositories: Vec<_> = paths.iter().map(|path| world.repository(path)).collect();
    all_of_collection(&world.process(), &repositories).await;
}

#[tokio::test]
async fn a_manifest_that_was_acknowledged_has_its_blobs() {
    for before in BEFORE {
        at_each_call(async |at| {
            let world = unreferenced(before).await;
            let (process, stopped) = world.stopped_at(at, collection(&world, &["app"]));
            let pushed = push_manifest(&process, &world.writable("app"), "v1", image(&[CONFIG, LAYER])).await;
            world.hours(24 * 9);
            holds(&world, &["app"]).await;
            match pushed {
                Ok(_) => assert!(world.has("app", LAYER).await && world.has("app", CONFIG).await, "{before:?} {at}"),
                // No promise kept them, so this is honest; the client pushes them again.
                Err(Error::NoReference { .. }) => {
                    world.push("app", LAYER).await;
                    world.push("app", CONFIG).await;
                    push_manifest(&world.process(), &world.writable("app"), "v1", image(&[CONFIG, LAYER]))
                        .await
                        .unwrap();
                }
                Err(other) => panic!("{before:?} {at}: {other:?}"),
            }
            stopped.reached()
        })
        .await;
    }
}

#[tokio::test]
async fn a_manifest_pushed_in_the_middle_of_a_pass_has_its_blobs() {
    for before in BEFORE {
        at_each_call(async |at| {
            let world = unreferenced(before).await;
            let pushes = {
                let (store, target) = (world.process(), world.writable("app"));
                async move {
                    loop {
                        match push_manifest(&store, &target, "v1", image(&[CONFIG, LAYER])).await {
                            Err(Error::NoReference { .. }) => {
                                push_blob(&store, &target, LAYER).await.unwrap();
                                push_blob(&store, &target, CONFIG).await.unwrap();
                            }
                            other => return drop(other.unwrap()),
                        }
                    }
                }
            };
            let (process, stopped) = world.stopped_at(at, pushes.boxed());
            all_of_collection(&process, &[world.repository("app")]).await;
            if stopped.reached() {
                world.hours(24 * 9);
                holds(&world, &["app"]).await;
                assert!(world.has("app", LAYER).await && world.has("app", CONFIG).await, "{before:?} {at}");
            }
            stopped.reached()
        })
        .await;
    }
}

#[tokio::test]
async fn a_commit_that_was_acknowledged_is_kept_until_its_manifest() {
    for before in BEFORE {
        at_each_call(async |at| {
            let world = unreferenced(before).await;
            let (process, stopped) = world.stopped_at(at, collection(&world, &["app"]));
            push_blob(&process, &world.writable("app"), LAYER).await.unwrap();
            world.hours(23);
            holds(&world, &["app"]).await;
            assert!(world.has("app", LAYER).await, "{before:?} {at}");
            stopped.reached()
        })
        .await;
    }
}

#[tokio::test]
async fn a_head_that_was_answered_to_a_pusher_is_kept_until_its_manifest() {
    for before in BEFORE {
        at_each_call(async |at| {
            let world = unreferenced(before).await;
            let (process, stopped) = world.stopped_at(at, collection(&world, &["app"]));
            let digest = Digest::of(Algorithm::Sha256, LAYER);
            let promised = blob::promise(&process, &world.writable("app"), &digest).await;
            world.hours(11);
            holds(&world, &["app"]).await;
            match promised {
                Ok(size) => {
                    assert_eq!(size, LAYER.len() as u64);
                    assert!(world.has("app", LAYER).await, "{before:?} {at}");
                }
                Err(Error::NoBlob) => {}
                Err(other) => panic!("{before:?} {at}: {other:?}"),
            }
            stopped.reached()
        })
        .await;
    }
}

#[tokio::test]
async fn a_mount_that_was_acknowledged_has_its_bytes() {
    for before in BEFORE {
        at_each_call(async |at| {
            let world = unreferenced(before).await;
            let (process, stopped) = world.stopped_at(at, collection(&world, &["app", "other"]));
            let digest = Digest::of(Algorithm::Sha256, LAYER);
            let mounted =
                storage::mount(&process, &world.writable("other"), &world.readable("app"), &digest).await.unwrap();
            world.hours(23);
            holds(&world, &["app", "other"]).await;
            assert!(mounted.is_none() || world.has("other", LAYER).await, "{before:?} {at}");
            stopped.reached()
        })
        .await;
    }
}

/// In between somebody deletes the blob where it is mounted from, and the trash is emptied at once.
#[tokio::test]
async fn a_mount_from_a_repository_that_loses_its_blob_has_its_bytes_or_says_no() {
    at_each_call(async |at| {
        let world = unreferenced(Before::Nothing).await;
        let digest = Digest::of(Algorithm::Sha256, LAYER);
        let deletes = {
            let (store, target, digest) = (world.process(), world.deletable("app"), digest.clone());
            async move {
                blob::delete(&store, &target, &digest).await.unwrap();
                trash::empty(&store, "meanwhile").await.unwrap();
            }
        };
        let (process, stopped) = world.stopped_at(at, deletes.boxed());
        let mounted =
            storage::mount(&process, &world.writable("other"), &world.readable("app"), &digest).await.unwrap();
        holds(&world, &["other"]).await;
        assert!(mounted.is_none() || world.has("other", LAYER).await, "{at}");
        stopped.reached()
    })
    .await;
}

/// The same from the other side: the trash is stopped, and a mount chain runs with a deletion of what it was mounted from.
#[tokio::test]
async fn bytes_that_were_mounted_on_while_the_trash_looked_at_them_stay() {
    at_each_call(async |at| {
        let world = Arc::new(World::new().await);
        let digest = world.push("app", LAYER).await;
        let mount = async |from: &str, to: &str| {
            storage::mount(&world.process(), &world.writable(to), &world.readable(from), &digest).await.unwrap()
        };
        mount("app", "second").await.unwrap();
        world.hours(25);
        blob::delete(&world.store, &world.deletable("app"), &digest).await.unwrap();
        let meanwhile = {
            let (store, digest) = (world.process(), digest.clone());
            let (second, third, gone) = (world.readable("second"), world.writable("third"), world.deletable("second"));
            async move {
                storage::mount(&store, &third, &second, &digest).await.unwrap().unwrap();
                blob::delete(&store, &gone, &digest).await.unwrap();
            }
        };
        let (process, stopped) = world.stopped_at(at, meanwhile.boxed());
        trash::empty(&process, "trash").await.unwrap();
        if stopped.reached() {
            world.empty().await;
            assert!(world.has("third", LAYER).await, "{at}");
        }
        stopped.reached()
    })
    .await;
}

/// The intent of a blob that was deleted where it was mounted names the repository that it came from.
#[tokio::test]
async fn a_blob_deleted_where_it_was_mounted_stays_where_it_was_pushed() {
    let world = World::new().await;
    let digest = world.push("app", LAYER).await;
    storage::mount(&world.store, &world.writable("other"), &world.readable("app"), &digest).await.unwrap().unwrap();
    blob::delete(&world.store, &world.deletable("other"), &digest).await.unwrap();
    world.hours(25);
    assert_eq!(world.empty().await.kept, 1);
    assert!(world.has("app", LAYER).await && !world.has("other", LAYER).await);
}

#[tokio::test]
async fn bytes_that_a_repository_mounted_outlive_the_one_that_they_were_pushed_to() {
    let world = World::new().await;
    let digest = world.push("app", LAYER).await;
    world.push("other", CONFIG).await;
    storage::mount(&world.store, &world.writable("other"), &world.readable("app"), &digest).await.unwrap().unwrap();
    push_manifest(&world.store, &world.writable("other"), "v1", image(&[CONFIG, LAYER])).await.unwrap();
    world.rest(&["app", "other"]).await;
    assert!(!world.has("app", LAYER).await && world.has("other", LAYER).await);
    assert_eq!(world.objects().await, 2);
    manifest::delete(&world.store, &world.deletable("other"), &Digest::of(Algorithm::Sha256, &image(&[CONFIG, LAYER])))
        .await
        .unwrap();
    world.rest(&["app", "other"]).await;
    assert_eq!(world.objects().await, 0);
}

#[tokio::test]
async fn a_tag_that_was_acknowledged_has_its_manifest_whatever_deletion_runs() {
    at_each_call(async |at| {
        let world = Arc::new(World::new().await);
        world.push("app", LAYER).await;
        world.push("app", CONFIG).await;
        let bytes = image(&[CONFIG, LAYER]);
        let digest = push_manifest(&world.process(), &world.writable("app"), "v1", bytes.clone()).await.unwrap();
        let deletes = {
            let (store, target, digest) = (world.process(), world.deletable("app"), digest.clone());
            let repository = world.repository("app");
            async move {
                manifest::delete(&store, &target, &digest).await.unwrap();
                all_of_collection(&store, &[repository]).await;
            }
        };
        let (process, stopped) = world.stopped_at(at, deletes.boxed());
        push_manifest(&process, &world.writable("app"), "v2", bytes).await.unwrap();
        world.hours(24 * 9);
        holds(&world, &["app"]).await;
        let tagged = tag::get(&world.store, &world.readable("app"), &"v2".parse().unwrap()).await;
        match tagged {
            Ok(record) => {
                let reference = Reference::Digest(record.digest);
                manifest::get(&world.store, &world.readable("app"), &reference).await.unwrap();
                assert!(world.has("app", LAYER).await && world.has("app", CONFIG).await, "{at}");
            }
            // The deletion came after the tag: it took the tag along.
            Err(Error::NoManifest) => {}
            Err(other) => panic!("{at}: {other:?}"),
        }
        stopped.reached()
    })
    .await;
}

#[tokio::test]
async fn two_workers_at_one_repository_harm_nobody() {
    for before in BEFORE {
        at_each_call(async |at| {
            let world = unreferenced(before).await;
            let kept: &[u8] = b"kept";
            world.push("app", kept).await;
            push_manifest(&world.process(), &world.writable("app"), "v1", image(&[kept])).await.unwrap();
            let (process, stopped) = world.stopped_at(at, collection(&world, &["app"]));
            all_of_collection(&process, &[world.repository("app")]).await;
            world.rest(&["app"]).await;
            assert!(world.has("app", kept).await, "{before:?} {at}");
            assert_eq!(world.objects().await, 1, "{before:?} {at}");
            stopped.reached()
        })
        .await;
    }
}

/// A worker that was stopped for days removes nothing that was used meanwhile.
#[tokio::test]
async fn a_worker_that_slept_for_days_removes_nothing_that_is_needed() {
    at_each_call(async |at| {
        let world = unreferenced(Before::Marked).await;
        let days = {
            let world = Arc::clone(&world);
            async move {
                world.hours(100);
                push_manifest(&world.process(), &world.writable("app"), "v1", image(&[CONFIG, LAYER])).await.ok();
                world.hours(100);
            }
        };
        let (process, stopped) = world.stopped_at(at, days.boxed());
        all_of_collection(&process, &[world.repository("app")]).await;
        holds(&world, &["app"]).await;
        let reference = Reference::Tag("v1".parse().unwrap());
        if manifest::get(&world.store, &world.readable("app"), &reference).await.is_ok() {
            assert!(world.has("app", LAYER).await && world.has("app", CONFIG).await, "{at}");
        }
        stopped.reached()
    })
    .await;
}

/// A push that was stopped for longer than a write may take gives up; it never commits what collection has taken.
#[tokio::test]
async fn a_push_that_slept_for_days_gives_up_or_is_right() {
    at_each_call(async |at| {
        let world = unreferenced(Before::Nothing).await;
        let days = {
            let world = Arc::clone(&world);
            async move {
                world.hours(30);
                all_of_collection(&world.process(), &[world.repository("app")]).await;
            }
        };
        let (process, stopped) = world.stopped_at(at, days.boxed());
        let pushed = push_manifest(&process, &world.writable("app"), "v1", image(&[CONFIG, LAYER])).await;
        holds(&world, &["app"]).await;
        let reference = Reference::Tag("v1".parse().unwrap());
        let there = manifest::get(&world.store, &world.readable("app"), &reference).await.is_ok();
        assert!(there || pushed.is_err(), "{at}: {pushed:?}");
        if there {
            assert!(world.has("app", LAYER).await && world.has("app", CONFIG).await, "{at}: {pushed:?}");
        }
        stopped.reached()
    })
    .await;
}

#[tokio::test]
async fn a_session_is_swept_when_nobody_can_go_on_with_it_and_never_what_it_became() {
    let world = World::new().await;
    world.push("app", LAYER).await;
    world.push("app", CONFIG).await;
    push_manifest(&world.store, &world.writable("app"), "v1", image(&[CONFIG, LAYER])).await.unwrap();
    // An upload that was left, and one that was cancelled before its first byte.
    let open = async || {
        let opener = "0000000000000001".parse().unwrap();
        let text = storage::upload::open(&world.store, &world.writable("app"), None, opener).await.unwrap();
        storage::upload::parse(&world.store, &world.writable("app"), &text).unwrap()
    };
    let (left, cancelled) = (open().await, open().await);
    let body =
        || -> storage::stream::ByteStream { Box::pin(futures::stream::iter([Ok(bytes::Bytes::from_static(b"left"))])) };
    let incoming = storage::upload::Incoming { body: body(), length: Some(4), start: None };
    storage::upload::append(&world.store, &world.writable("app"), &left, incoming).await.unwrap();
    storage::upload::cancel(&world.store, &world.writable("app"), &cancelled).await.unwrap();
    assert_eq!(world.objects().await, 3);
    world.hours(24 * 6 - 1);
    assert_eq!(sweep::uploads(&world.store, &world.account).await.unwrap().uploads, 0);
    world.hours(1);
    assert_eq!(sweep::uploads(&world.store, &world.account).await.unwrap().uploads, 4);
    assert_eq!(world.names(&storage::key::uploads(&world.account)).await, Vec::<String>::new());
    assert_eq!(world.empty().await.deleted, 1);
    assert_eq!(world.objects().await, 2);
    assert!(world.has("app", LAYER).await);
}

/// What a commit may still make a member of is not deleted, however often its bytes were given up.
#[tokio::test]
async fn a_commit_that_is_repeated_while_its_bytes_are_in_the_trash_has_them() {
    at_each_call(async |at| {
        let world = Arc::new(World::new().await);
        world.push("elsewhere", LAYER).await;
        // The account has these bytes: the commit shares them and gives up its own.
        let (process, stopped) = world.stopped_at(at, empties(&world));
        push_blob(&process, &world.writable("app"), LAYER).await.unwrap();
        assert!(world.has("app", LAYER).await && world.has("elsewhere", LAYER).await, "{at}");
        assert!(world.empty().await.deleted == 0, "the commit may be repeated for an hour");
        world.hours(3);
        world.empty().await;
        assert!(world.has("app", LAYER).await, "{at}");
        world.rest(&[]).await;
        assert_eq!(world.objects().await, 1, "{at}");
        stopped.reached()
    })
    .await;
}

fn empties(world: &World) -> BoxFuture<'static, ()> {
    let store: Store = world.process();
    async move {
        trash::empty(&store, "meanwhile").await.unwrap();
    }
    .boxed()
}

#[tokio::test]
async fn nothing_is_deleted_while_a_backup_reads() {
    let world = World::new().await;
    let digest = world.push("app", LAYER).await;
    blob::delete(&world.store, &world.deletable("app"), &digest).await.unwrap();
    world.hours(3);
    let hold = storage::key::hold("backup");
    let renew = async || storage::backend::Records::put(&*world.records, &hold, ".".into()).await.unwrap();
    // The hold comes before each of the trash's calls: once the trash has looked again, the delete is its next.
    at_each_call(async |at| {
        let world = World::new().await;
        let digest = world.push("app", LAYER).await;
        blob::delete(&world.store, &world.deletable("app"), &digest).await.unwrap();
        world.hours(3);
        let (records, hold) = (world.records.clone(), storage::key::hold("backup"));
        let backup = async move { storage::backend::Records::put(&*records, &hold, ".".into()).await.unwrap() };
        let (process, stopped) = world.stopped_at(at, backup.boxed());
        let emptied = trash::empty(&process, "trash").await.unwrap().unwrap();
        assert_ne!(emptied.held, emptied.deleted == 1, "{at}: {emptied:?}");
        assert_eq!(world.objects().await, usize::from(emptied.held), "{at}");
        stopped.reached()
    })
    .await;
    renew().await;
    assert!(world.empty().await.held);
    world.hours(2);
    // A backup that died is not waited for.
    assert_eq!(world.empty().await.deleted, 1);
}

/// Between a pass's intent and its removal the trash finds the member there: it must not forget the bytes.
#[tokio::test]
async fn a_removal_under_which_the_trash_ran_leaves_no_bytes_for_ever() {
    for deletes in [false, true] {
        at_each_call(async |at| {
            let world = unreferenced(Before::Marked).await;
            let (process, stopped) = world.stopped_at(at, empties(&world));
            if deletes {
                let digest = Digest::of(Algorithm::Sha256, LAYER);
                blob::delete(&process, &world.deletable("app"), &digest).await.unwrap();
            } else {
                collect(&process, &world.repository("app")).await;
            }
            world.rest(&["app"]).await;
            assert_eq!(world.objects().await, 0, "{at}");
            stopped.reached()
        })
        .await;
    }
}

#[tokio::test]
async fn an_index_and_its_children_keep_what_they_name() {
    let world = World::new().await;
    world.push("app", LAYER).await;
    let child = push_manifest(&world.store, &world.writable("app"), "child", image(&[LAYER])).await.unwrap();
    tag::delete(&world.store, &world.deletable("app"), &"child".parse().unwrap()).await.unwrap();
    world.rest(&["app"]).await;
    // Nothing goes but by a rule or a deletion: an untagged manifest stays.
    let found = manifest::get(&world.store, &world.readable("app"), &Reference::Digest(child)).await;
    assert!(found.is_ok() && world.has("app", LAYER).await);
    assert_eq!(collect(&world.store, &world.repository("app")).await.waiting, 0);
}
