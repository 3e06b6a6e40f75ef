//! end-11: mounts between repositories of one account.

use conformance::{
    Request,
    fixture::{Algorithm, Content},
    harness::until,
    push,
};

use super::{REPOSITORY, blob_path, registry};

const SOURCE: &str = "acme/base";

fn mount(digest: &str, from: Option<&str>) -> Request {
    let from = from.map(|from| format!("&from={}", from.replace('/', "%2F"))).unwrap_or_default();
    Request::post(format!("/v2/{REPOSITORY}/blobs/uploads/?mount={}{from}", digest.replace(':', "%3A")))
}

/// end-11.
#[tokio::test]
async fn a_blob_is_mounted_from_another_repository() {
    let (_harness, vendor) = registry().await;
    for algorithm in Algorithm::ALL {
        let blob = Content::random(algorithm, "mounted", 512);
        push::blob(&vendor, SOURCE, &blob).await;
        let answer = vendor.send(mount(&blob.digest, Some(SOURCE))).await.expect(201);
        assert_eq!(answer.header("docker-content-digest"), blob.digest);
        let there = vendor.send(Request::get(push::location(&answer))).await.expect(200);
        assert_eq!(there.body, blob.bytes);
    }
}

/// end-11 without `from`: the account's own repositories are enough.
#[tokio::test]
async fn a_blob_is_mounted_without_naming_its_repository() {
    let (_harness, vendor) = registry().await;
    for algorithm in Algorithm::ALL {
        let blob = Content::random(algorithm, "anonymous", 512);
        push::blob(&vendor, SOURCE, &blob).await;
        // Where it lies is noted after the push was answered; until then a mount is an ordinary upload.
        until("a mount", async || {
            let answer = vendor.send(mount(&blob.digest, None)).await;
            assert!(answer.status == 201 || answer.status == 202, "{answer:?}");
            answer.status == 201
        })
        .await;
        let there = vendor.send(Request::get(blob_path(&blob.digest))).await.expect(200);
        assert_eq!(there.body, blob.bytes);
    }
}

/// end-11: what is not there to mount becomes an upload.
#[tokio::test]
async fn a_mount_of_an_absent_blob_opens_an_upload() {
    let (_harness, vendor) = registry().await;
    for algorithm in Algorithm::ALL {
        for from in [Some(SOURCE), None] {
            let blob = Content::random(algorithm, &format!("missing {from:?}"), 512);
            let opened = vendor.send(mount(&blob.digest, from)).await.expect(202);
            let location = push::with_digest(&push::location(&opened), &blob.digest);
            let stored = vendor.send(Request::put(location).body(blob.bytes.clone())).await.expect(201);
            assert_eq!(stored.header("docker-content-digest"), blob.digest);
        }
    }
}

/// end-11: a mount is no oracle; another account's blob is as absent as one that does not exist.
#[tokio::test]
async fn a_mount_from_another_account_is_an_ordinary_upload() {
    let (harness, vendor) = registry().await;
    let blob = Content::random(Algorithm::Sha256, "foreign", 512);
    let stranger = harness.account("stranger").await;
    let owner = stranger.caller(&stranger.push().await);
    push::blob(&owner, "stranger/base", &blob).await;
    for from in [Some("stranger/base"), Some("stranger/nothing"), None] {
        vendor.send(mount(&blob.digest, from)).await.expect(202);
        vendor.send(Request::head(blob_path(&blob.digest))).await.expect(404);
    }
}
