//! `docs/api.md`: the API by hand.

use conformance::{
    Harness,
    fixture::{self, Format},
    page::Page,
    push,
};

#[tokio::test]
async fn the_api_by_hand() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let pusher = acme.caller(&acme.push().await);
    push::bundle(&pusher, "acme/web/api", "v1", &fixture::image("one", Format::Oci)).await;
    let key = harness.hythe(&["key", "create", "acme", "--output", "json"]).await.stdout;
    let key: serde_json::Value = serde_json::from_str(&key).unwrap();
    let mut page = Page::open("docs/api.md")
        .reading("127.0.0.1:5080", &harness.host())
        .variable("HYTHE_KEY", key["key"].as_str().unwrap())
        .variable("HYTHE_URL", &format!("http://{}", harness.host()));
    let said = page.run_all().await;
    for text in ["\"immutable_tags\":[\"v*\"]", "v1 sha256:", "stable", "repository acme/web/api is deleted", "acme"] {
        assert!(said.iter().any(|ended| ended.stdout.contains(text)), "nothing says {text}");
    }
}
