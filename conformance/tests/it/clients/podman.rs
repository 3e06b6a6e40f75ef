//! podman.

use conformance::{
    Credential, Harness,
    fixture::{self, Format},
    tools::Run,
};

use super::{bad_keys, digest_of};

/// podman with its storage, state and login in a folder of the test's own.
fn podman(harness: &Harness) -> Run {
    let home = harness.scratch("podman");
    Run::new("podman")
        .env("HOME", &home)
        .env("XDG_RUNTIME_DIR", home.join("xdg"))
        .env("REGISTRY_AUTH_FILE", home.join("auth.json"))
        .arg("--root")
        .arg(home.join("root"))
        .arg("--runroot")
        .arg(home.join("run"))
        .arg("--tmpdir")
        .arg(home.join("tmp"))
        .args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file"])
}

fn login(harness: &Harness, key: &Credential) -> Run {
    podman(harness)
        .args(["login", "--tls-verify=false", "--password-stdin", "-u", &key.username, &harness.host()])
        .input(key.password.clone())
}

#[tokio::test]
async fn podman_logs_in_pushes_and_pulls_the_same_digest() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    login(&harness, &acme.push().await).ok().await;
    let layout = harness.scratch("layout");
    fixture::write_layout(&fixture::image("podman", Format::Oci), &layout, "v1");
    let loaded = podman(&harness).args(["pull", "-q"]).arg(format!("oci:{}:v1", layout.display())).ok().await;
    let image = loaded.stdout.trim();
    let reference = format!("{}/acme/podman:v1", harness.host());
    podman(&harness).args(["push", "--tls-verify=false", image, &reference]).ok().await;
    let pushed = digest_of(&acme, "acme/podman", "v1").await;
    podman(&harness).args(["rmi", "--all", "--force"]).ok().await;
    podman(&harness).args(["pull", "--tls-verify=false", &reference]).ok().await;
    let seen = podman(&harness).args(["image", "inspect", "--format", "{{.Digest}}", &reference]).ok().await;
    assert_eq!(seen.digest(), pushed);
    let by_digest = format!("{}/acme/podman@{pushed}", harness.host());
    podman(&harness).args(["pull", "--tls-verify=false", &by_digest]).ok().await;
}

#[tokio::test]
async fn podman_is_refused_with_every_bad_key() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let bundle = fixture::image("podman refused", Format::Oci);
    let vendor = acme.caller(&acme.push().await);
    conformance::push::bundle(&vendor, "acme/podman", "v1", &bundle).await;
    let layout = harness.scratch("layout");
    fixture::write_layout(&bundle, &layout, "v1");
    let loaded = podman(&harness).args(["pull", "-q"]).arg(format!("oci:{}:v1", layout.display())).ok().await;
    let reference = format!("{}/acme/podman:v1", harness.host());
    for bad in bad_keys(&harness).await {
        if bad.refused_at_login {
            login(&harness, &bad.credential).fails().await.says(bad.says);
        } else {
            login(&harness, &bad.credential).ok().await;
        }
        let pair = format!("{}:{}", bad.credential.username, bad.credential.password);
        let creds = ["--tls-verify=false", "--creds", &pair];
        podman(&harness).arg("pull").args(creds).arg(&reference).fails().await.says(bad.says);
        podman(&harness).arg("push").args(creds).args([loaded.stdout.trim(), &reference]).fails().await.says(bad.says);
    }
}
