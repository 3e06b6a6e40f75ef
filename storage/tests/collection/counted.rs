//! What could be freed, by cause.

use storage::{
    Digest, Opener,
    gc::reclaimable::{self, Reclaimable},
    key, manifest, tag, upload,
};

use crate::world::{World, image, push_manifest};

async fn count(world: &World, path: &str) -> Reclaimable {
    reclaimable::repository(&world.store, &world.repository(path)).await.unwrap()
}

/// Pushes a manifest of another kind than an image.
async fn push_document(world: &World, reference: &str, kind: &str, document: &serde_json::Value) -> Digest {
    let push = manifest::Push {
        reference: reference.parse().unwrap(),
        tags: Vec::new(),
        content_type: kind.into(),
        bytes: serde_json::to_vec(document).unwrap().into(),
        by: "test".into(),
    };
    manifest::put(&world.process(), &world.writable("app"), push).await.unwrap().digest
}

fn named(digest: &Digest, size: usize) -> serde_json::Value {
    serde_json::json!({ "mediaType": manifest::OCI_MANIFEST, "digest": digest, "size": size })
}

#[tokio::test]
async fn a_manifest_without_a_tag_counts_unless_something_keeps_it() {
    let world = World::new().await;
    for blob in [&b"one"[..], b"two", b"both"] {
        world.push("app", blob).await;
    }
    let (one, two) = (image(&[b"one", b"both"]), image(&[b"two", b"both"]));
    push_manifest(&world.store, &world.writable("app"), "one", one.clone()).await.unwrap();
    let second = push_manifest(&world.store, &world.writable("app"), "two", two.clone()).await.unwrap();
    assert_eq!(count(&world, "app").await, Reclaimable::default());
    tag::delete(&world.store, &world.deletable("app"), &"two".parse().unwrap()).await.unwrap();
    let untagged = Reclaimable { untagged: (two.len() + 3) as u64, ..Reclaimable::default() };
    assert_eq!(count(&world, "app").await, untagged, "its manifest and the blob that it alone names");
    // An index that has a tag keeps it, and so does a pin.
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": manifest::OCI_INDEX, "manifests": [named(&second, two.len())],
    });
    push_document(&world, "index", manifest::OCI_INDEX, &index).await;
    assert_eq!(count(&world, "app").await, Reclaimable::default());
    let index = tag::get(&world.store, &world.readable("app"), &"index".parse().unwrap()).await.unwrap().digest;
    manifest::delete(&world.store, &world.deletable("app"), &index).await.unwrap();
    assert_eq!(count(&world, "app").await, untagged);
    let pin = key::pins_of(&world.repository("app"), &second).plain("pkg@1.0.0.a");
    world.store.records().put(&pin, ".".into()).await.unwrap();
    assert_eq!(count(&world, "app").await, Reclaimable::default());
}

#[tokio::test]
async fn what_is_attached_goes_with_its_subject() {
    let world = World::new().await;
    world.push("app", b"layer").await;
    let bytes = image(&[b"layer"]);
    let subject = push_manifest(&world.store, &world.writable("app"), "v1", bytes.clone()).await.unwrap();
    let signature = serde_json::json!({
        "schemaVersion": 2, "mediaType": manifest::OCI_MANIFEST, "artifactType": "application/a-signature",
        "config": { "mediaType": "application/octet-stream",
            "digest": Digest::of(storage::Algorithm::Sha256, b"layer"), "size": 5 },
        "layers": [],
        "subject": named(&subject, bytes.len()),
    });
    let digest = Digest::of(storage::Algorithm::Sha256, &serde_json::to_vec(&signature).unwrap());
    push_document(&world, digest.as_str(), manifest::OCI_MANIFEST, &signature).await;
    assert_eq!(count(&world, "app").await, Reclaimable::default());
    tag::delete(&world.store, &world.deletable("app"), &"v1".parse().unwrap()).await.unwrap();
    let all = bytes.len() + serde_json::to_vec(&signature).unwrap().len() + 5;
    assert_eq!(count(&world, "app").await, Reclaimable { untagged: all as u64, ..Reclaimable::default() });
}

#[tokio::test]
async fn what_goes_by_itself_is_told_apart() {
    let world = World::new().await;
    let digest = world.push("app", b"waiting").await;
    storage::mount(&world.store, &world.writable("other"), &world.readable("app"), &digest).await.unwrap().unwrap();
    let grace = Reclaimable { grace: 7, ..Reclaimable::default() };
    assert_eq!(count(&world, "app").await, grace);
    assert_eq!(count(&world, "other").await, Reclaimable::default(), "it counts where it was pushed");
    let opener: Opener = "0000000000000001".parse().unwrap();
    let text = upload::open(&world.store, &world.writable("app"), None, opener).await.unwrap();
    let id = upload::parse(&world.store, &world.writable("app"), &text).unwrap();
    let body = Box::pin(futures::stream::iter([Ok(bytes::Bytes::from(vec![1; 1000]))]));
    let incoming = upload::Incoming { body, length: Some(1000), start: None };
    upload::append(&world.store, &world.writable("app"), &id, incoming).await.unwrap();
    let uploads = async || reclaimable::uploads(&world.store, &world.account).await.unwrap().uploads;
    assert_eq!(uploads().await, 0, "somebody may go on with it");
    world.hours(24 * 5 + 1);
    assert_eq!(uploads().await, 1000);
    world.collect("app").await;
    world.collect("app").await;
    let trashed = async || reclaimable::trashed(&world.store).await.unwrap().trash;
    assert_eq!(trashed().await, 0, "its other repository has it still");
    world.collect("other").await;
    world.collect("other").await;
    assert_eq!(trashed().await, 7);
    let before = world.records.listing();
    count(&world, "app").await;
    assert_eq!(world.records.listing(), before, "nothing is touched");
    world.empty().await;
    assert_eq!(trashed().await, 0);
}
