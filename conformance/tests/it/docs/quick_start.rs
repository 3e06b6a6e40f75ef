//! `docs/quick-start.md`.

use conformance::{
    Client, Harness, Store,
    harness::{answers, free_address, until},
    page::Page,
};

use crate::{
    clients::docker::Daemon,
    deploy::{self, image},
};

#[tokio::test]
async fn every_way_of_the_quick_start_ends_in_a_pull() {
    let harness = Harness::stopped(Store::Local).await;
    let daemon = Daemon::start(&harness).await;
    let (contained, plain) = (free_address(), free_address());
    let localhost = format!("localhost:{}", contained.port());
    // The test's daemon has no bridge, so the container takes the machine's network, with ports of the test's own.
    let published = format!("--network host --env HYTHE_LISTEN={contained} --env HYTHE_OPERATIONS=off");
    let mut page = Page::open("docs/quick-start.md")
        .reading("--publish 127.0.0.1:5080:5080", &published)
        .reading("localhost:5080", &localhost)
        .reading("127.0.0.1:5080", &plain.to_string())
        .reading("hythe serve", &format!("hythe serve --listen {plain} --operations off"))
        .reading("deploy/chart", &deploy::file("chart").display().to_string());
    for (name, value) in daemon.variables() {
        page = page.variable(&name, &value);
    }

    let archive = image::build(&harness).await;
    page.run_by(1, "conformance/newcomer");
    daemon.docker().args(["load", "--input"]).arg(archive).ok().await;
    page.run(2).await;
    ready(&Client::new(contained)).await;
    page.run(3).await.says(&format!("{localhost}/acme/hello:1"));
    daemon.docker().args(["rm", "--force", "--volumes", "hythe"]).ok().await;

    page.start(4, " serving http").await;
    page.run(5).await.says(&format!("{plain}/acme/hello:1"));
    page.run(6).await.says("kind: StatefulSet");
}

async fn ready(client: &Client) {
    until("the container is ready", async || answers(client, "/readyz").await).await;
}
