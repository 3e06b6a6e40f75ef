//! `docs/renewal.md`: the helper with a real docker, the provider by hand, the chart on a real cluster.

use conformance::{Harness, kubernetes::Cluster, page::Page, tools};

use crate::{clients::docker::Daemon, kubernetes::push_program};

#[tokio::test]
async fn a_machine_a_node_and_a_cluster_are_set_up_as_the_page_says() {
    let (harness, cluster) = tokio::join!(Harness::start(), Cluster::shared());
    let acme = harness.account("acme").await;
    push_program(&acme, "web/api").await;
    let space = cluster.namespace("renewal").await;
    let daemon = Daemon::start(&harness).await;
    let socket = daemon.variables().into_iter().find(|(name, _)| name == "DOCKER_HOST").unwrap().1;
    let shop = format!("shop-{}", space.name());
    let mut page = Page::open("docs/renewal.md")
        // What a registry without TLS needs.
        .reading("https://registry.example", &format!("http://{}", harness.host()))
        .reading("registry.example", &harness.host())
        .reading("--data data", &harness.store_flags().join(" "))
        .reading("deploy/secret-refresher", &tools::file("../deploy/secret-refresher").display().to_string())
        .reading("shop", &shop)
        .variable("KUBECONFIG", &space.kubeconfig().display().to_string())
        .variable("DOCKER_HOST", &socket);
    let (get, list) = (page.with("docker-credential-hythe get"), page.with("docker-credential-hythe list"));
    assert_eq!(get, list);
    let (provider, events) = (page.with("CredentialProviderRequest"), page.with("get events"));
    for n in 1..=page.len() {
        let ended = page.run(n).await;
        if n == get {
            ended.says("acme.pull.");
            ended.says(&harness.host());
        }
        if n == provider {
            // Half of what is left of the twelve hours that the key allows.
            let seconds: u32 = ended.stdout.trim().trim_matches('"').trim_end_matches('s').parse().unwrap();
            assert!((21_590..=21_600).contains(&seconds), "{seconds}");
        }
        if n == events {
            assert!(!ended.stdout.contains("RenewalFailed"), "{}", ended.stdout);
        }
    }
    let deployed = ["get", "deployment", "-o", "jsonpath={.items[*].metadata.name}"];
    assert_eq!(space.kubectl().args(deployed).ok().await.stdout, "refresher-hythe-secret-refresher");
}
