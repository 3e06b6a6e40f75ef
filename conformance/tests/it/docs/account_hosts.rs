//! `docs/account-hosts.md`: names are given, shown and taken back as the page says.

use std::fmt::Write as _;

use conformance::{Harness, Store, harness::write_file, page::Page};

#[tokio::test]
async fn names_are_given_and_taken_back_as_the_page_says() {
    let harness = Harness::with(Store::Local, &["--account-domain", "registry.example"]).await;
    harness.account("acme").await;
    let port = harness.client().address().port();
    let mut page = Page::open("docs/account-hosts.md")
        .reading("https://registry.example", &format!("http://{}", harness.host()))
        .reading("--data data", &harness.store_flags().join(" "));
    let mut resolve = String::new();
    for name in ["acme.registry.example", "registry.acme.com"] {
        page = page.reading(&format!("https://{name}"), &format!("http://{name}:{port}"));
        writeln!(resolve, "resolve = \"{name}:{port}:127.0.0.1\"").unwrap();
    }
    // What DNS would say.
    write_file(&page.folder().join("../home/.curlrc"), resolve.as_bytes());
    let ended = page.run_all().await;
    ended.last().unwrap().says(&format!("\nregistry.acme.com:{port}\n"));
}
