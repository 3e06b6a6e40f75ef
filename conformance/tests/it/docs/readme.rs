//! The README: a newcomer's first screens.

use conformance::{Harness, page::Page};

use crate::clients::docker::Daemon;

/// The first block compiles and serves, the second is what runs this test; the rest is run here, beside a server of the same
/// folder as the page says.
#[tokio::test]
async fn the_first_five_minutes() {
    let harness = Harness::start().await;
    harness.hythe(&["account", "create", "acme"]).await;
    let daemon = Daemon::start(&harness).await;
    let mut page = Page::open("README.md")
        .reading("127.0.0.1:5080", &harness.host())
        .reading("--data data", &harness.store_flags().join(" "));
    for (name, value) in daemon.variables() {
        page = page.variable(&name, &value);
    }
    page = page.variable("HYTHE_URL", &format!("http://{}", harness.host()));
    page.write("README.md", "a file to ship");
    page.run_by(1, "conformance/newcomer");
    page.run_by(2, ".ci/run");
    for n in 3..=page.len() {
        page.run(n).await;
    }
    let secret = conformance::harness::read_text(&page.folder().join("secret.yaml"));
    assert!(secret.contains("kubernetes.io/dockerconfigjson"), "{secret}");
}
