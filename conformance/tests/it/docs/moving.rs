//! `docs/moving.md`: its commands in its order, on a folder that is served and a bucket.

use conformance::{
    Caller, Harness, Request, Store,
    fixture::{self, Format},
    page::Page,
    push,
};

#[tokio::test]
async fn a_registry_is_backed_up_restored_and_moved_as_the_page_says() {
    let mut harness = Harness::on(Store::Local).await;
    let bucket = Harness::stopped(Store::Minio).await;
    let acme = harness.account("acme").await;
    let credential = acme.push().await;
    let caller = acme.caller(&credential);
    push::bundle(&caller, "acme/web", "v1", &fixture::image("moving", Format::Oci)).await;

    let [flag, data] = harness.store_flags();
    let [_, url] = bucket.store_flags();
    let mut page =
        Page::open("docs/moving.md").reading("--data data", &format!("{flag} {data}")).reading("s3://registry", &url);
    for (name, value) in bucket.environment() {
        page = page.variable(&name, &value);
    }
    let said = page.run_all().await;
    assert!(said[0].stdout.contains("0 left out, 0 problems"), "{}", said[0].stdout);
    for verified in [&said[2], &said[3]] {
        assert!(verified.stdout.contains("1 repositories, 1 tags") && verified.stdout.contains(": 0 problems"));
    }
    assert!(said[4].stderr.contains("the same on both sides: 1 tags"), "{}", said[4].stderr);
    assert_eq!(harness.ended().await, Some(1));
    let refused = harness.run_at(0, &["serve", "--listen", "127.0.0.1:0", "--operations", "off"]).fails().await;
    assert_eq!(refused.stderr.trim(), "hythe: this store was moved away; open the one that it was moved to");

    let mut bucket = bucket;
    bucket.boot().await;
    let caller = Caller::basic(bucket.client(), &credential.username, &credential.password);
    caller.send(Request::get("/v2/acme/web/manifests/v1")).await.expect(200);
}
