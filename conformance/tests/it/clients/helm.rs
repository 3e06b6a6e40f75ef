//! helm 4.

use conformance::{
    Credential, Harness,
    fixture::{self, Algorithm, Chart},
    harness::write_file,
    tools::Run,
};

use super::{bad_keys, digest_of};

fn helm(harness: &Harness) -> Run {
    let home = harness.scratch("helm");
    Run::new("helm")
        .env("HOME", &home)
        .env("HELM_REGISTRY_CONFIG", home.join("registry.json"))
        .env("HELM_CACHE_HOME", home.join("cache"))
        .env("HELM_CONFIG_HOME", home.join("config"))
        .env("HELM_DATA_HOME", home.join("data"))
        .env("DOCKER_CONFIG", home.join("docker"))
}

pub(super) fn login(harness: &Harness, key: &Credential) -> Run {
    helm(harness)
        .args(["registry", "login", &harness.host(), "--plain-http", "--password-stdin", "-u", &key.username])
        .input(key.password.clone())
}

pub(super) fn push(harness: &Harness, chart: &Chart) -> Run {
    let folder = harness.scratch("charts");
    let archive = folder.join(chart.file_name());
    write_file(&archive, &chart.archive);
    write_file(&folder.join(format!("{}.prov", chart.file_name())), &chart.provenance);
    helm(harness).arg("push").arg(archive).args([&format!("oci://{}/acme/charts", harness.host()), "--plain-http"])
}

pub(super) fn pull(harness: &Harness, chart: &Chart, to: &str) -> Run {
    helm(harness)
        .args(["pull", &format!("oci://{}/acme/charts/{}", harness.host(), chart.name), "--plain-http", "--prov"])
        .args(["--version", &chart.version, "--destination"])
        .arg(harness.scratch(to))
}

#[tokio::test]
async fn helm_logs_in_pushes_and_pulls_a_chart_with_provenance() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    login(&harness, &acme.push().await).ok().await;
    for version in ["0.1.0", "1.2.3+build.7"] {
        let chart = fixture::chart("web", version);
        let pushed = push(&harness, &chart).ok().await.digest();
        assert_eq!(digest_of(&acme, "acme/charts/web", &chart.tag()).await, pushed);
        let pulled = pull(&harness, &chart, "pulled").ok().await;
        assert_eq!(pulled.digest(), pushed);
        for (name, bytes) in [(chart.file_name(), &chart.archive), (chart.file_name() + ".prov", &chart.provenance)] {
            let there = Run::new("sha256sum").arg(harness.scratch("pulled").join(name)).ok().await;
            assert_eq!(format!("sha256:{}", &there.stdout[..64]), Algorithm::Sha256.digest(bytes));
        }
    }
}

#[tokio::test]
async fn helm_is_refused_with_every_bad_key() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let good = acme.push().await;
    login(&harness, &good).ok().await;
    let chart = fixture::chart("private", "0.1.0");
    push(&harness, &chart).ok().await;
    for bad in bad_keys(&harness).await {
        if bad.refused_at_login {
            login(&harness, &bad.credential).fails().await.says(bad.says);
            continue;
        }
        login(&harness, &bad.credential).ok().await;
        pull(&harness, &chart, "nowhere").fails().await.says(bad.says);
        // A push begins with HEAD, whose refusal has no text.
        push(&harness, &chart).fails().await.says(bad.status);
    }
    // A key that worked at login and was revoked since.
    login(&harness, &good).ok().await;
    acme.revoke(&good).await;
    pull(&harness, &chart, "nowhere").fails().await.says("was revoked at");
    push(&harness, &chart).fails().await.says("was revoked at");
}

/// A chart on disk that depends on `library`, any 1.x from 1.2 on, in the account's charts.
fn write_parent(harness: &Harness) -> std::path::PathBuf {
    let folder = harness.scratch("parent");
    let text = format!(
        "apiVersion: v2\nname: parent\nversion: 0.1.0\ndependencies:\n- name: library\n  version: ^1.2\n  repository: oci://{}/acme/charts\n",
        harness.host()
    );
    write_file(&folder.join("Chart.yaml"), text.as_bytes());
    folder
}

#[tokio::test]
async fn helm_chooses_among_versions_and_builds_dependencies() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    login(&harness, &acme.push().await).ok().await;
    for version in ["1.1.0", "1.2.0", "1.4.1+build.2", "1.10.0-rc.1", "2.0.0"] {
        push(&harness, &fixture::chart("library", version)).ok().await;
    }
    login(&harness, &acme.pull().await).ok().await;
    let remote = format!("oci://{}/acme/charts/library", harness.host());
    let range = ["--plain-http", "--version", "^1.2"];
    let chosen = fixture::chart("library", "1.4.1+build.2");
    let shown = helm(&harness).args(["show", "chart", &remote]).args(range).ok().await;
    shown.says("version: 1.4.1+build.2\n");
    let to = harness.scratch("chosen");
    helm(&harness).args(["pull", &remote]).args(range).arg("--destination").arg(&to).ok().await;
    let pulled = Run::new("sha256sum").arg(to.join(chosen.file_name())).ok().await;
    assert_eq!(format!("sha256:{}", &pulled.stdout[..64]), Algorithm::Sha256.digest(&chosen.archive));
    helm(&harness).args(["template", "release", &remote]).args(range).ok().await.says("kind: ConfigMap");
    let dry = ["install", "release", &remote, "--dry-run=client"];
    helm(&harness).args(dry).args(range).ok().await.says("kind: ConfigMap");
    helm(&harness).args(["show", "chart", &remote, "--plain-http"]).ok().await.says("version: 2.0.0\n");
    let none = ["show", "chart", &remote, "--plain-http", "--version", "^3"];
    helm(&harness).args(none).fails().await;

    let parent = write_parent(&harness);
    helm(&harness).args(["dependency", "update", "--plain-http"]).arg(&parent).ok().await;
    assert!(parent.join("charts/library-1.4.1+build.2.tgz").is_file());
    std::fs::remove_dir_all(parent.join("charts")).unwrap();
    helm(&harness).args(["dependency", "build", "--plain-http"]).arg(&parent).ok().await;
    assert!(parent.join("charts/library-1.4.1+build.2.tgz").is_file());
    helm(&harness).args(["template", "release"]).arg(&parent).ok().await.says("# Source: parent/charts/library/");
}
