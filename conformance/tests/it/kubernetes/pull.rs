//! Pods and Secrets.

use std::time::Duration;

use conformance::{AccountUnderTest, Harness, Request, harness::read_text, kubernetes::Cluster, tools};
use serde_json::json;

use super::{push_program, secret};

/// A credential of one hour minted then is over by now.
const LONG_AGO: i64 = -7200;
/// A pod for each situation of `docs/troubleshooting.md` in which a kubelet pulls.
const CASES: [(&str, &str); 10] = [
    ("no-secret", "no key"),
    ("wrong-password", "wrong key"),
    ("expired", "expired key"),
    ("revoked", "revoked key"),
    ("suspended-account", "suspended account"),
    ("foreign-account", "another account"),
    ("other-repository", "outside the key's patterns"),
    ("absent-tag", "absent tag"),
    ("one-segment-name", "name of one segment"),
    ("throttled", "too many failures"),
];

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

/// The admission of service accounts is the API server's own, and runs here.
#[tokio::test]
async fn a_secret_on_the_service_account_serves_pods_that_name_none() {
    let (harness, cluster) = tokio::join!(Harness::start(), Cluster::shared());
    let acme = harness.account("acme").await;
    let digest = push_program(&acme, "web/api").await;
    let space = cluster.namespace("account").await;
    space.apply(&secret(&harness, 0, "acme", "regcred", &[]).await).await;
    let patch = json!({"imagePullSecrets": [{"name": "regcred"}]}).to_string();
    space.kubectl().args(["patch", "serviceaccount", "default", "-p", &patch]).ok().await;
    space.pod("hello", &format!("{}/acme/web/api:1", harness.host()), &[]).await;
    let ran = space.ran("hello").await;
    assert!(ran.contains(&digest), "{ran} is {digest}");
}

/// With several Secrets for one host the kubelet tries each: a dead one beside a living one does no harm.
#[tokio::test]
async fn a_pod_runs_with_a_new_secret_beside_an_expired_one() {
    let (harness, cluster) = tokio::join!(Harness::start(), Cluster::shared());
    let acme = harness.account("acme").await;
    push_program(&acme, "web/api").await;
    let space = cluster.namespace("two").await;
    space.apply(&secret(&harness, LONG_AGO, "acme", "old", &["--ttl", "1h"]).await).await;
    space.apply(&secret(&harness, 0, "acme", "new", &[]).await).await;
    space.pod("hello", &format!("{}/acme/web/api:1", harness.host()), &["old", "new"]).await;
    space.ran("hello").await;
}

/// One pod for each reason, all at once; their events are those of `fixtures/messages/kubelet.txt`.
#[tokio::test]
async fn a_pod_that_may_not_pull_says_why_in_its_events() {
    let (harness, cluster) = tokio::join!(Harness::start(), Cluster::shared());
    let acme = harness.account("acme").await;
    push_program(&acme, "web/api").await;
    let space = cluster.namespace("refused").await;
    let image = format!("{}/acme/web/api:1", harness.host());

    space.pod("no-secret", &image, &[]).await;
    for case in ["wrong-password", "expired", "revoked", "suspended-account", "foreign-account", "other-repository"] {
        space.apply(&bad_secret(&harness, &acme, case).await).await;
        space.pod(case, &image, &[case]).await;
    }
    space.apply(&secret(&harness, 0, "acme", "good", &[]).await).await;
    space.pod("absent-tag", &format!("{}/acme/web/api:2", harness.host()), &["good"]).await;
    space.pod("one-segment-name", &format!("{}/web:1", harness.host()), &["good"]).await;

    for (case, recorded) in recorded().iter().filter(|(case, _)| *case != "throttled") {
        assert_eq!(&plain(&space.refusal(case).await, &harness), recorded, "{case}");
    }
}

/// The limit is on failed logins from one address, which here is everybody's; a good Secret is served beside them.
#[tokio::test]
async fn a_pod_with_a_wrong_secret_is_told_to_wait_where_too_many_logins_failed() {
    let (harness, cluster) = tokio::join!(Harness::start(), Cluster::shared());
    let acme = harness.account("acme").await;
    push_program(&acme, "web/api").await;
    let space = cluster.namespace("throttled").await;
    space.apply(&secret(&harness, 0, "acme", "good", &[]).await).await;
    space.apply(&bad_secret(&harness, &acme, "wrong-password").await).await;
    let wrong = acme.pull().await.with_wrong_password();
    let wrong = acme.caller(&wrong);
    while wrong.send(Request::get("/token")).await.status != 429 {}
    let image = format!("{}/acme/web/api:1", harness.host());
    let meanwhile = async {
        let mut turn = tokio::time::interval(Duration::from_millis(50));
        loop {
            turn.tick().await;
            wrong.send(Request::get("/token")).await;
        }
    };
    let pods = async {
        space.pod("throttled", &image, &["wrong-password"]).await;
        let event = plain(&space.refusal("throttled").await, &harness);
        space.pod("good", &image, &["good"]).await;
        space.ran("good").await;
        event
    };
    let event = tokio::select! {
        event = pods => event,
        () = meanwhile => unreachable!(),
    };
    let (_, text) = recorded().into_iter().find(|(case, _)| *case == "throttled").unwrap();
    assert_eq!(event, text);
}

/// What readers look for stands on the page, word for word.
#[test]
fn the_page_quotes_every_event() {
    let page = read_text(&tools::file("../docs/kubernetes.md"));
    for (case, text) in recorded() {
        let reason = text.rsplit_once(": failed to authorize: ").map_or(text.as_str(), |(_, reason)| reason);
        let reason = reason.rsplit_once("\": ").map_or(reason, |(_, reason)| reason);
        let reason = reason.rsplit_once("failed with status code [manifests 1]: ").map_or(reason, |(_, reason)| reason);
        assert!(page.contains(reason), "{case}: {reason}");
    }
}

async fn bad_secret(harness: &Harness, acme: &AccountUnderTest<'_>, case: &str) -> String {
    match case {
        "expired" => secret(harness, LONG_AGO, "acme", case, &["--ttl", "1h"]).await,
        "other-repository" => secret(harness, 0, "acme", case, &["--repository", "acme/web/site"]).await,
        "foreign-account" => {
            harness.account("stranger").await;
            secret(harness, 0, "stranger", case, &[]).await
        }
        "suspended-account" => {
            harness.account("late-payer").await;
            let secret = secret(harness, 0, "late-payer", case, &[]).await;
            harness.hythe(&["account", "set", "late-payer", "--state", "suspended"]).await;
            secret
        }
        _ => {
            let key = acme.pull().await;
            let rendered = key.field("kubernetes_secret").replace("name: hythe-acme", &format!("name: {case}"));
            if case == "revoked" {
                acme.revoke(&key).await;
                return rendered;
            }
            let (good, wrong) = (config(harness, &key), config(harness, &key.with_wrong_password()));
            assert!(rendered.contains(&good), "{rendered}");
            rendered.replace(&good, &wrong)
        }
    }
}

/// The `dockerconfigjson` of a credential.
fn config(harness: &Harness, key: &conformance::Credential) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let auth = STANDARD.encode(format!("{}:{}", key.username, key.password));
    STANDARD.encode(format!(
        r#"{{"auths":{{"{}":{{"username":"{}","password":"{}","auth":"{auth}"}}}}}}"#,
        harness.host(),
        key.username,
        key.password
    ))
}

/// The pods' names and the texts of the fixture: a line `[situation, event]`, then the text, then an empty line.
fn recorded() -> Vec<(&'static str, String)> {
    let text = read_text(&tools::file("fixtures/messages/kubelet.txt"));
    let cases = text.split("\n\n").filter_map(|case| case.trim().strip_prefix('[')?.split_once(", event]\n"));
    let pod = |situation| CASES.into_iter().find(|(_, of)| *of == situation).expect("a pod for the situation").0;
    let cases: Vec<_> = cases.map(|(situation, text)| (pod(situation), text.to_owned())).collect();
    assert_eq!(cases.len(), CASES.len(), "{text}");
    cases
}

/// The text without what differs from run to run.
fn plain(event: &str, harness: &Harness) -> String {
    let mut text = event.replace(&harness.host(), "HOST");
    while let Some(at) = text.find(" UTC").filter(|&at| at >= 19 && text.is_char_boundary(at - 19)) {
        text.replace_range(at - 19..at + 4, "TIME");
    }
    text
}
