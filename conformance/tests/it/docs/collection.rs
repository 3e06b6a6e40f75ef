//! `docs/collection.md`: its commands.

use conformance::{
    Harness, Store,
    fixture::{self, Algorithm, Content, Format},
    page::Page,
    push,
};

#[tokio::test]
async fn what_could_be_freed_is_told_as_the_page_says() {
    let harness = Harness::on(Store::Local).await;
    let acme = harness.account("acme").await;
    let caller = acme.caller(&acme.push().await);
    push::bundle(&caller, "acme/app", "v1", &fixture::image("collection page", Format::Oci)).await;
    push::blob(&caller, "acme/app", &Content::random(Algorithm::Sha256, "collection page", 5000)).await;
    let mut page = Page::open("docs/collection.md").reading("--data data", &harness.store_flags().join(" "));
    let said = page.run_all().await;
    for cause in ["untagged", "grace", "trash", "uploads"] {
        assert!(said[0].stdout.contains(cause), "{}", said[0].stdout);
    }
    assert!(said[0].stdout.contains(r#""grace":5000"#), "{}", said[0].stdout);
    assert!(said[1].stdout.contains("a server runs on this store"), "{}", said[1].stdout);
}
