//! A manifest, its tag and its entry among referrers, whoever deletes, pushes and publishes at the same time.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use storage::{
    Algorithm, Digest, Error, Reference, Store, Writable, blob,
    key::{self, Prefix},
    manifest::{self, OCI_INDEX, OCI_MANIFEST},
    referrer, sweep, tag,
};

use crate::world::{World, at_each_call, image, push_manifest};

const CONFIG: &[u8] = b"{}";

fn subject() -> Digest {
    Digest::of(Algorithm::Sha256, b"a subject")
}

/// A manifest that refers to [`subject`].
fn attached() -> bytes::Bytes {
    let config = Digest::of(Algorithm::Sha256, CONFIG);
    let document = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/signature", "layers": [],
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2 },
        "subject": { "mediaType": OCI_MANIFEST, "digest": subject(), "size": 9 },
        "annotations": { "made-by": "test" },
    });
    serde_json::to_vec(&document).unwrap().into()
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, bytes)
}

async fn world() -> Arc<World> {
    let world = Arc::new(World::new().await);
    world.push("app", CONFIG).await;
    world
}

async fn push(store: &Store, target: &Writable, reference: &str, bytes: bytes::Bytes) -> Result<Digest, Error> {
    push_manifest(store, target, reference, bytes).await
}

/// An index of the manifest: pushing it flips a dying one back.
async fn push_index(store: &Store, target: &Writable, of: &Digest) {
    let descriptor = serde_json::json!({ "mediaType": OCI_MANIFEST, "digest": of, "size": 1 });
    let document = serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor] });
    let push = manifest::Push {
        reference: "index".parse().unwrap(),
        tags: Vec::new(),
        content_type: OCI_INDEX.into(),
        bytes: document.to_string().into(),
        by: "test".into(),
    };
    manifest::put(store, target, push).await.unwrap();
}

async fn there(world: &World, digest: &Digest) -> bool {
    let reference = Reference::Digest(digest.clone());
    match manifest::get(&world.store, &world.readable("app"), &reference).await {
        Ok(_) => true,
        Err(Error::NoManifest | Error::NoRepository) => false,
        Err(other) => panic!("{other:?}"),
    }
}

async fn listed(world: &World, digest: &Digest) -> Option<serde_json::Value> {
    let page = referrer::page(&world.store, &world.readable("app"), &subject(), None, None).await.unwrap();
    page.descriptors.into_iter().find(|descriptor| descriptor["digest"] == digest.as_str())
}

async fn points_at(world: &World, tag: &str) -> Option<Digest> {
    tag::get(&world.store, &world.readable("app"), &tag.parse().unwrap()).await.ok().map(|found| found.digest)
}

fn marks(world: &World, of: &Digest) -> Prefix {
    key::tagged_of(&world.repository("app"), of)
}

#[tokio::test]
async fn a_manifest_is_listed_among_referrers_if_and_only_if_it_is_there() {
    for pinned in [false, true] {
        at_each_call(async |at| {
            let world = world().await;
            let digest = push(&world.store, &world.writable("app"), "v1", attached()).await.unwrap();
            let before = listed(&world, &digest).await.unwrap();
            let meanwhile: BoxFuture<'static, ()> = {
                let (world, digest) = (world.clone(), digest.clone());
                async move {
                    if pinned {
                        // As a publication: it pins, and what it finds dying it flips back.
                        let pin = key::pins_of(&world.repository("app"), &digest).plain("shop@1_0.x");
                        world.store.records().put(&pin, ".".into()).await.unwrap();
                        push_index(&world.process(), &world.writable("app"), &digest).await;
                    } else {
                        push(&world.process(), &world.writable("app"), "v1", attached()).await.unwrap();
                    }
                }
                .boxed()
            };
            let (process, stopped) = world.stopped_at(at, meanwhile);
            let deleted = manifest::delete(&process, &world.deletable("app"), &digest).await;
            assert!(matches!(deleted, Ok(()) | Err(Error::Pinned { .. })), "{pinned} {at}: {deleted:?}");
            let wanted = there(&world, &digest).await.then_some(before);
            assert_eq!(listed(&world, &digest).await, wanted, "{pinned} {at}: {deleted:?}");
            stopped.reached()
        })
        .await;
    }
}

#[tokio::test]
async fn a_deletion_takes_the_tags_of_a_push_that_another_deletion_met() {
    at_each_call(async |at| {
        let world = world().await;
        let target = world.writable("app");
        let digest = push(&world.store, &target, "v1", image(&[CONFIG])).await.unwrap();
        // The tag has moved on: the mark that it may point here is all that is left of it.
        push(&world.store, &target, "v1", attached()).await.unwrap();
        let again = {
            let world = world.clone();
            async move {
                push(&world.process(), &world.writable("app"), "v1", image(&[CONFIG])).await.unwrap();
            }
        };
        let (process, stopped) = world.stopped_at(at, again.boxed());
        manifest::delete(&process, &world.deletable("app"), &digest).await.unwrap();
        match manifest::delete(&world.process(), &world.deletable("app"), &digest).await {
            Ok(()) | Err(Error::NoManifest) => {}
            Err(other) => panic!("{at}: {other:?}"),
        }
        assert_ne!(points_at(&world, "v1").await.as_ref(), Some(&digest), "{at}");
        stopped.reached()
    })
    .await;
}

#[tokio::test]
async fn a_sweep_of_marks_leaves_the_mark_of_a_push_that_it_met() {
    at_each_call(async |at| {
        let world = world().await;
        let target = world.writable("app");
        let digest = push(&world.store, &target, "v1", image(&[CONFIG])).await.unwrap();
        push(&world.store, &target, "v1", attached()).await.unwrap();
        world.hours(25);
        world.collect("app").await;
        let again = {
            let world = world.clone();
            async move {
                push(&world.process(), &world.writable("app"), "v1", image(&[CONFIG])).await.unwrap();
            }
        };
        let (process, stopped) = world.stopped_at(at, again.boxed());
        sweep::marks(&process, &world.repository("app")).await.unwrap();
        if stopped.reached() {
            assert_eq!(points_at(&world, "v1").await.as_ref(), Some(&digest), "{at}");
        }
        manifest::delete(&world.process(), &world.deletable("app"), &digest).await.unwrap();
        assert_ne!(points_at(&world, "v1").await.as_ref(), Some(&digest), "{at}");
        stopped.reached()
    })
    .await;
}

/// As a deletion leaves it that died after it had removed the manifest.
async fn without_its_manifest(world: &World, digest: &Digest) {
    let key = key::manifest(&world.repository("app"), digest);
    let found = world.store.records().get(&key).await.unwrap().unwrap();
    world.store.records().remove(&key, &found.version).await.unwrap();
}

#[tokio::test]
async fn a_tag_whose_manifest_is_gone_goes_unless_somebody_is_pushing_it() {
    at_each_call(async |at| {
        let world = world().await;
        let digest = push(&world.store, &world.writable("app"), "v1", image(&[CONFIG])).await.unwrap();
        without_its_manifest(&world, &digest).await;
        world.hours(25);
        world.collect("app").await;
        let again = {
            let world = world.clone();
            async move {
                push(&world.process(), &world.writable("app"), "v1", image(&[CONFIG])).await.unwrap();
            }
        };
        let (process, stopped) = world.stopped_at(at, again.boxed());
        sweep::marks(&process, &world.repository("app")).await.unwrap();
        let wanted = stopped.reached().then_some(&digest);
        assert_eq!(points_at(&world, "v1").await.as_ref(), wanted, "{at}");
        assert_eq!(there(&world, &digest).await, stopped.reached(), "{at}");
        stopped.reached()
    })
    .await;
}

#[tokio::test]
async fn the_entry_of_a_referrer_that_is_gone_goes_unless_somebody_is_pushing_it() {
    at_each_call(async |at| {
        let world = world().await;
        let digest = push(&world.store, &world.writable("app"), "v1", attached()).await.unwrap();
        let before = listed(&world, &digest).await.unwrap();
        without_its_manifest(&world, &digest).await;
        world.hours(25);
        world.collect("app").await;
        let again = {
            let world = world.clone();
            async move {
                push(&world.process(), &world.writable("app"), "v1", attached()).await.unwrap();
            }
        };
        let (process, stopped) = world.stopped_at(at, again.boxed());
        sweep::marks(&process, &world.repository("app")).await.unwrap();
        assert_eq!(listed(&world, &digest).await, stopped.reached().then_some(before), "{at}");
        stopped.reached()
    })
    .await;
}

#[tokio::test]
async fn of_the_marks_of_one_tag_that_are_a_day_old_one_stays() {
    let world = world().await;
    let target = world.writable("app");
    let mut digest = None;
    for _ in 0..3 {
        digest = Some(push(&world.store, &target, "v1", image(&[CONFIG])).await.unwrap());
    }
    let digest = digest.unwrap();
    push(&world.store, &target, "v1.2", image(&[CONFIG])).await.unwrap();
    assert_eq!(world.names(&marks(&world, &digest)).await.len(), 4, "each push has its own");
    world.hours(25);
    world.collect("app").await;
    assert_eq!(sweep::marks(&world.store, &world.repository("app")).await.unwrap().marks, 2);
    manifest::delete(&world.store, &world.deletable("app"), &digest).await.unwrap();
    assert_eq!((points_at(&world, "v1").await, points_at(&world, "v1.2").await), (None, None));
}

/// As the release before writes them: one mark for all pushes of a manifest to a tag.
async fn with_marks_of_the_release_before(world: &World, digest: &Digest) {
    let prefix = marks(world, digest);
    for name in world.names(&prefix).await {
        world.store.records().delete(&prefix.plain(&name)).await.unwrap();
        let tag = name.split('/').next().unwrap();
        world.store.records().put(&prefix.plain(tag), ".".into()).await.unwrap();
    }
}

#[tokio::test]
async fn marks_of_the_release_before_are_read() {
    let pushed = async || {
        let world = world().await;
        let digest = push(&world.store, &world.writable("app"), "v1", image(&[CONFIG])).await.unwrap();
        with_marks_of_the_release_before(&world, &digest).await;
        (world, digest)
    };
    let (world, digest) = pushed().await;
    manifest::delete(&world.store, &world.deletable("app"), &digest).await.unwrap();
    assert_eq!(points_at(&world, "v1").await, None);

    let (world, digest) = pushed().await;
    without_its_manifest(&world, &digest).await;
    world.collect("app").await;
    assert_eq!(sweep::marks(&world.store, &world.repository("app")).await.unwrap().marks, 0, "it is young");
    world.hours(25);
    world.collect("app").await;
    assert_eq!(sweep::marks(&world.store, &world.repository("app")).await.unwrap().marks, 1);
    assert_eq!(points_at(&world, "v1").await, None);
    assert_eq!(world.names(&marks(&world, &digest)).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_push_that_fails_leaves_no_tag_and_no_entry_without_a_manifest() {
    let mut failed = 0;
    at_each_call(async |at| {
        let world = world().await;
        let digest = digest_of(&attached());
        push(&world.store, &world.writable("app"), digest.as_str(), attached()).await.unwrap();
        let deletes = {
            let (world, digest) = (world.clone(), digest.clone());
            async move {
                manifest::delete(&world.process(), &world.deletable("app"), &digest).await.unwrap();
                blob::delete(&world.process(), &world.deletable("app"), &digest_of(CONFIG)).await.unwrap();
            }
        };
        let (process, stopped) = world.stopped_at(at, deletes.boxed());
        let pushed = push(&process, &world.writable("app"), "v1", attached()).await;
        match &pushed {
            Ok(_) => {}
            Err(Error::NoReference { .. }) => failed += 1,
            Err(other) => panic!("{at}: {other:?}"),
        }
        if !there(&world, &digest).await {
            assert_eq!(points_at(&world, "v1").await, None, "{at}: {pushed:?}");
            assert_eq!(listed(&world, &digest).await, None, "{at}: {pushed:?}");
        }
        stopped.reached()
    })
    .await;
    assert!(failed > 4, "{failed} pushes failed");
}
