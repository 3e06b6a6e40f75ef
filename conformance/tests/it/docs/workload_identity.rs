//! Workload identity: the page's commands, with tokens of a real API server.

use conformance::{
    Caller, Harness, Request, fixture,
    fixture::Format,
    harness::{read_text, until},
    kubernetes::Cluster,
    page::Page,
    push,
};

#[tokio::test]
async fn a_service_account_pulls_until_its_policy_is_deleted() {
    let (harness, cluster) = tokio::join!(Harness::start(), Cluster::shared());
    let acme = harness.account("acme").await;
    push::bundle(&acme.caller(&acme.push().await), "acme/web/api", "1", &fixture::image("one", Format::Oci)).await;
    let space = cluster.namespace("workload").await;
    let mut page = Page::open("docs/workload-identity.md")
        .reading("registry.example", &harness.host())
        .reading("--data data", &harness.store_flags().join(" "))
        .reading("shop:", &format!("{}:", space.name()))
        .reading("--namespace shop", &format!("--namespace {}", space.name()))
        .variable("KUBECONFIG", &space.kubeconfig().display().to_string());
    let (list, exchange) = (page.with("trust list"), page.with("create token"));
    for n in 1..=exchange {
        page.run(n).await;
    }
    let text = read_text(&page.folder().join("credential.json"));
    let credential: serde_json::Value = serde_json::from_str(&text).unwrap();
    let [user, password] = ["username", "access_token"].map(|field| credential[field].as_str().unwrap().to_owned());
    let pod = Caller::basic(harness.client(), &user, &password);
    let pull = || Request::get("/v2/acme/web/api/manifests/1").header("Accept", "*/*");
    pod.send(pull()).await.expect(200);
    pod.send(Request::get("/v2/acme/other/tags/list")).await.refused(403, "DENIED");
    pod.send(Request::post("/v2/acme/web/api/blobs/uploads/")).await.refused(403, "DENIED");
    assert_eq!(credential["expires_in"], 3600);

    // A token that the cluster gave for anything else, its own API among it, is good for nothing here.
    let trust = read_text(&page.folder().join("trust"));
    for audience in [&["--audience", "elsewhere"][..], &[]] {
        let token = space.kubectl().args(["create", "token", "default"]).args(audience).ok().await.stdout;
        let answer = harness.send(crate::federation::exchange(trust.trim(), token.trim(), "")).await;
        answer.refused(401, "UNAUTHORIZED");
    }
    page.run(list).await.says("trust policy");
    until("the credential ends with its policy", async || pod.send(pull()).await.status == 401).await;
}
