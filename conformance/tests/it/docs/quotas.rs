//! `docs/quotas.md`.

use conformance::{
    Actor, Harness, Store,
    fixture::{self, Format},
    page::Page,
    push,
};

#[tokio::test]
async fn a_quota_is_set_and_shown_as_the_page_says() {
    let harness = Harness::on(Store::Local).await;
    let acme = harness.account("acme").await;
    push::bundle(&acme.caller(&acme.push().await), "acme/app", "v1", &fixture::image("quota", Format::Oci)).await;
    let owner = acme.actor(Actor::AccessKey).await;
    let key = owner.authorization().unwrap().trim_start_matches("Bearer ").to_owned();
    let mut page = Page::open("docs/quotas.md")
        .reading("--data data", &harness.store_flags().join(" "))
        .variable("HYTHE_KEY", &key)
        .variable("HYTHE_URL", &format!("http://{}", harness.host()));
    let said = page.run_all().await;
    let usage = &said[1].stdout;
    assert!(usage.contains(" QUOTA ") && usage.contains("100.0 GiB") && usage.contains("99.9 GiB"), "{usage}");
}
