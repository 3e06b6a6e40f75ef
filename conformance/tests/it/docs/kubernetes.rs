//! Kubernetes: its commands against a real cluster.

use conformance::{Harness, Store, harness::read_text, kubernetes::Cluster, page::Page, tools};

use crate::kubernetes::{chart::push_chart, push_program, secret};

#[tokio::test]
async fn the_pods_and_the_chart_of_the_page_run() {
    let (harness, cluster) = tokio::join!(Harness::start(), Cluster::shared());
    let acme = harness.account("acme").await;
    push_program(&acme, "web/api").await;
    let space = cluster.namespace("page").await;
    push_chart(&harness, &space, "web", "1.0.0").await;
    let mut page = Page::open("docs/kubernetes.md")
        .reading("registry.example", &harness.host())
        .reading("--data data", &harness.store_flags().join(" "))
        // What a registry without TLS needs.
        .reading("--version 1.0.0", "--version 1.0.0 --plain-http")
        .variable("KUBECONFIG", &space.kubeconfig().display().to_string());
    let annotations = page.with("{.metadata.annotations}");
    let events = page.with("get events");
    for n in 1..=page.len() {
        let ended = page.run(n).await;
        if n == annotations {
            ended.says("hythe.io/expires");
        }
        if n == events {
            assert_eq!(ended.stdout, "", "no pod of the page was refused");
        }
    }
}

/// The registry's name leads nowhere here: that the pod runs shows that containerd goes where the file says.
#[tokio::test]
async fn containerd_finds_the_registry_by_the_hosts_file_of_the_page() {
    let with = ["--public-url", "http://hythe:5080"];
    let (harness, cluster) = tokio::join!(Harness::with(Store::Local, &with), Cluster::shared());
    push_program(&harness.account("acme").await, "web/api").await;
    let page = read_text(&tools::file("../docs/kubernetes.md"));
    let hosts = page.split("```toml\n").filter_map(|rest| rest.split_once("```")).map(|(block, _)| block);
    let hosts = hosts.into_iter().find(|block| block.starts_with("server =")).unwrap();
    let space = cluster.namespace("hosts").await;
    space.apply(&secret(&harness, 0, "acme", "regcred", &[]).await).await;
    cluster.write_hosts("hythe:5080", &hosts.replace("hythe:5080", &harness.host()));
    space.pod("api", "hythe:5080/acme/web/api:1", &["regcred"]).await;
    space.ran("api").await;
}
