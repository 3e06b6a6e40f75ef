//! end-9 and end-10: deleting tags, manifests and blobs.

use conformance::{
    Actor, Request,
    fixture::{Algorithm, Format, image, index},
    push,
};

use super::{REPOSITORY, blob_path, manifest_path, registry};

/// end-9 with a tag: the tag goes at once, the manifest stays.
#[tokio::test]
async fn a_deleted_tag_is_gone_at_once_and_its_manifest_stays() {
    let (_harness, vendor) = registry().await;
    let bundle = image("tag delete", Format::Oci);
    push::bundle(&vendor, REPOSITORY, "v1", &bundle).await;
    vendor.send(Request::delete(manifest_path("v1"))).await.expect(202);
    vendor.send(Request::get(manifest_path("v1"))).await.refused(404, "MANIFEST_UNKNOWN");
    vendor.send(Request::get(manifest_path(&bundle.root().digest))).await.expect(200);
    vendor.send(Request::delete(manifest_path("v1"))).await.refused(404, "MANIFEST_UNKNOWN");
}

/// end-9 with a digest: the manifest and the tags that name it go at once.
#[tokio::test]
async fn a_deleted_manifest_is_gone_at_once_with_its_tags() {
    let (_harness, vendor) = registry().await;
    for algorithm in Algorithm::ALL {
        let bundle = index(&format!("manifest delete {algorithm:?}"), algorithm, false);
        for blob in &bundle.blobs {
            push::blob(&vendor, REPOSITORY, blob).await;
        }
        for manifest in &bundle.manifests {
            // A tag in the path would name the manifest by its sha256.
            let reference = format!("{}?tag=v2", manifest.digest);
            vendor.send(push::manifest_request(REPOSITORY, &reference, manifest)).await.expect(201);
        }
        // Parents first, as a client that cleans up does.
        for manifest in bundle.manifests.iter().rev() {
            vendor.send(Request::delete(manifest_path(&manifest.digest))).await.expect(202);
            vendor.send(Request::head(manifest_path(&manifest.digest))).await.expect(404);
        }
        vendor.send(Request::get(manifest_path("v2"))).await.refused(404, "MANIFEST_UNKNOWN");
    }
}

/// end-10.
#[tokio::test]
async fn a_deleted_blob_is_gone_at_once() {
    let (_harness, vendor) = registry().await;
    let bundle = image("blob delete", Format::Oci);
    for blob in &bundle.blobs {
        push::blob(&vendor, REPOSITORY, blob).await;
        vendor.send(Request::delete(blob_path(&blob.digest))).await.expect(202);
        vendor.send(Request::head(blob_path(&blob.digest))).await.expect(404);
        vendor.send(Request::delete(blob_path(&blob.digest))).await.refused(404, "BLOB_UNKNOWN");
    }
}

/// end-10: a blob deleted in one repository stays in the other.
#[tokio::test]
async fn a_blob_deleted_here_stays_where_it_was_mounted_from() {
    let (_harness, vendor) = registry().await;
    let blob = image("shared", Format::Oci).blobs.remove(0);
    push::blob(&vendor, "acme/base", &blob).await;
    push::blob(&vendor, REPOSITORY, &blob).await;
    vendor.send(Request::delete(blob_path(&blob.digest))).await.expect(202);
    let there = vendor.send(Request::get(format!("/v2/acme/base/blobs/{}", blob.digest))).await.expect(200);
    assert_eq!(there.body, blob.bytes);
}

/// end-9 and end-10: a push credential deletes only if it was minted to.
#[tokio::test]
async fn a_push_credential_without_delete_deletes_nothing() {
    let (harness, vendor) = registry().await;
    let bundle = image("kept", Format::Oci);
    push::bundle(&vendor, REPOSITORY, "kept", &bundle).await;
    let pusher = harness.account("acme").await.actor(Actor::Push).await;
    for path in [manifest_path("kept"), manifest_path(&bundle.root().digest), blob_path(&bundle.blobs[0].digest)] {
        let refused = pusher.send(Request::delete(path)).await.refused(403, "DENIED");
        assert!(refused.message().contains("--delete"), "the way out: {}", refused.message());
    }
    vendor.send(Request::get(manifest_path("kept"))).await.expect(200);
}
