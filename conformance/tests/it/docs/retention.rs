//! `docs/retention.md`.

use conformance::{
    Actor, Harness, Store,
    fixture::{self, Format},
    page::Page,
    push,
};

#[tokio::test]
async fn rules_are_tested_and_set_as_the_page_says() {
    let harness = Harness::on(Store::Local).await;
    let acme = harness.account("acme").await;
    let pusher = acme.caller(&acme.push().await);
    let image = fixture::image("retention", Format::Oci);
    for n in 0..12 {
        push::bundle(&pusher, "acme/web/api", &format!("pr-{n}"), &image).await;
    }
    let owner = acme.actor(Actor::AccessKey).await;
    let key = owner.authorization().unwrap().trim_start_matches("Bearer ").to_owned();
    let mut page = Page::open("docs/retention.md")
        .reading("127.0.0.1:5080", &harness.host())
        .variable("HYTHE_KEY", &key)
        .variable("HYTHE_URL", &format!("http://{}", harness.host()));
    let said = page.run_all().await;
    // All were pushed today, which counts like a pull.
    assert!(said[0].stdout.starts_with("nothing would go\n"), "{}", said[0].stdout);
    assert!(said[0].stdout.contains("last 10 or pulled within days: 14"), "{}", said[0].stdout);
    assert!(said[1].stdout.contains("no rules: nothing goes by itself"), "{}", said[1].stdout);
    assert!(said[1].stdout.contains(r#"{"rules":[]}"#), "{}", said[1].stdout);
}
