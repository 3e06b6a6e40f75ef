//! Pods and Secrets.

use conformance::{Harness, kubernetes::Cluster};

use super::{push_program, secret};

/// A credential of one hour minted then is over by now.
const LONG_AGO: i64 = -7200;

#[tokio::test]
async fn a_pod_runs_with_the_rendered_secret_applied_as_it_is_printed() {
    let (harness, cluster) = tokio::join!(Harness::start(), Cluster::shared());
    let acme = harness.account("acme").await;
    let digest = push_program(&acme, "web/api").await;
    let space = cluster.namespace("runs").await;
    space.apply(&secret(&harness, 0, "acme", "regcred", &[]).await).await;
    let kind = ["get", "secret", "regcred", "-o", "jsonpath={.type}"];
    assert_eq!(space.kubectl().args(kind).ok().await.stdout, "kubernetes.io/dockerconfigjson");
    space.pod("hello", &format!("{}/acme/web/api:1", harness.host()), &["regcred"]).await;
    let ran = space.ran("hello").await;
    assert!(ran.contains(&digest), "{ran} is {digest}");
}

#[tokio::test]
async fn a_pod_that_may_not_pull_says_why_in_its_events() {
    let (harness, cluster) = tokio::join!(Harness::start(), Cluster::shared());
    let acme = harness.account("acme").await;
    push_program(&acme, "web/api").await;
    harness.account("stranger").await;
    let space = cluster.namespace("refused").await;
    space.apply(&secret(&harness, 0, "stranger", "foreign", &[]).await).await;
    space.apply(&secret(&harness, LONG_AGO, "acme", "expired", &["--ttl", "1h"]).await).await;
    let image = format!("{}/acme/web/api:1", harness.host());
    for name in ["foreign", "expired"] {
        space.pod(name, &image, &[name]).await;
    }
    space.pod("none", &image, &[]).await;
    for (name, reason) in [
        ("none", "failed to fetch anonymous token: unexpected status: 401 Unauthorized: "),
        ("expired", "401 Unauthorized: this credential expired at "),
        ("foreign", "403 Forbidden: this credential is for stranger/**; acme/web/api is outside it"),
    ] {
        let event = space.refusal(name).await;
        assert!(event.contains(reason), "{name}: {event}");
    }
}
