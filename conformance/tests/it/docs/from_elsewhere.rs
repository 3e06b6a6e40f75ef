//! `docs/from-elsewhere.md`: the other machine is this one, and the name is `localhost`.

use conformance::{Harness, Store, harness::free_address, page::Page};

use crate::clients::docker::Daemon;

#[tokio::test]
async fn another_machine_trusts_the_certificate_and_logs_in() {
    let harness = Harness::stopped(Store::Local).await;
    let daemon = Daemon::start(&harness).await;
    let address = free_address();
    let mut page = Page::open("docs/from-elsewhere.md")
        .reading("DNS:registry.example", "DNS:localhost")
        .reading("CN=registry.example", "CN=localhost")
        .reading("//registry.example", &format!("//localhost:{}", address.port()))
        .reading("--listen 0.0.0.0:443", &format!("--listen {address} --operations off"));
    for (name, value) in daemon.variables() {
        page = page.variable(&name, &value);
    }
    page.run(1).await;
    page.start(2, "account acme was made; run:").await;
    page.run(3).await;
    page.run(4).await.says("Login Succeeded");
    page.run(5).await.says(&format!("docker login localhost:{} -u acme.pull.", address.port()));
}
