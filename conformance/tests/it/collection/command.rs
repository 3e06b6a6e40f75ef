//! `hythe gc`.

use conformance::{
    Harness, Request, Store,
    clock::LIVES,
    fixture::{self, Algorithm, Content, Format},
    harness::until,
    push,
};
use serde_json::Value;

use super::stored::Opened;

async fn reclaimable(harness: &Harness) -> Value {
    let told = harness.hythe(&["gc", "--output", "json"]).await;
    serde_json::from_str::<Value>(&told.stdout).unwrap()["reclaimable_bytes"].clone()
}

#[tokio::test]
async fn what_could_be_freed_is_told_by_cause_and_stays() {
    for store in Store::ALL {
        let harness = Harness::on(store).await;
        let account = harness.account("acme").await;
        let caller = account.caller(&account.push_delete().await);
        let image = fixture::image("gc", Format::Oci);
        push::bundle(&caller, "acme/app", "v1", &image).await;
        let garbage = Content::random(Algorithm::Sha256, "gc garbage", 30_000);
        push::blob(&caller, "acme/app", &garbage).await;
        let gone = Content::random(Algorithm::Sha256, "gc deleted", 20_000);
        push::blob(&caller, "acme/app", &gone).await;
        caller.send(Request::delete(format!("/v2/acme/app/blobs/{}", gone.digest))).await.expect(202);
        let told = reclaimable(&harness).await;
        assert_eq!(
            told,
            serde_json::json!({"untagged": 0, "grace": 30_000, "trash": 20_000, "uploads": 0}),
            "{store:?}"
        );
        caller.send(Request::delete("/v2/acme/app/manifests/v1")).await.expect(202);
        let told = reclaimable(&harness).await;
        let all: usize = image.blobs.iter().chain(&image.manifests).map(Content::size).sum();
        assert_eq!(told["untagged"], all, "{store:?}");
        harness.hythe(&["gc"]).await.says("untagged");
        // Nothing was touched.
        caller.send(Request::get(format!("/v2/acme/app/blobs/{}", garbage.digest))).await.expect(200);
        assert_eq!(reclaimable(&harness).await, told);
    }
}

#[tokio::test]
async fn a_server_that_runs_collects_when_it_is_asked_to() {
    let mut harness = Harness::stopped(Store::Local).await;
    harness.set(&[(LIVES, "0,1")], &[]);
    harness.boot().await;
    let account = harness.account("acme").await;
    let caller = account.caller(&account.push().await);
    push::blob(&caller, "acme/app", &Content::random(Algorithm::Sha256, "gc now", 30_000)).await;
    harness.hythe(&["gc", "--now"]).await.says("it collects 1 repositories now");
    let opened = Opened::of(&harness).await;
    until("the server has collected", async || opened.look().await.members.is_empty()).await;
}

#[tokio::test]
async fn without_a_server_the_command_collects_itself() {
    for store in Store::ALL {
        let mut harness = Harness::on(store).await;
        let account = harness.account("acme").await;
        let caller = account.caller(&account.push().await);
        push::blob(&caller, "acme/app", &Content::random(Algorithm::Sha256, "gc now", 30_000)).await;
        harness.stop().await;
        // Two days on; the bucket's own time stands still, so that its trash is not due yet.
        harness.set_clock(2 * 86_400);
        let done = harness.hythe(&["gc", "--now", "--output", "json"]).await;
        let done: Value = serde_json::from_str(&done.stdout).unwrap();
        assert_eq!(done["repositories"], 1, "{done}");
        if store == Store::Local {
            assert_eq!((&done["marked_blobs"], &done["removed_blobs"]), (&1.into(), &1.into()), "{done}");
        }
    }
}
