//! podman.

use conformance::{Credential, Harness, fixture, harness::write_file, tools::Run};

use super::{bad_keys, digest_of};

/// podman with its storage, state and login in a folder of the test's own.
pub(super) fn podman(harness: &Harness) -> Run {
    let home = harness.scratch("podman");
    let auth = home.join("auth.json");
    if !auth.exists() {
        // podman takes a login file that is named and absent for a mistake.
        write_file(&auth, b"{}");
    }
    Run::new("podman")
        .env("HOME", &home)
        .env("XDG_RUNTIME_DIR", home.join("xdg"))
        .env("REGISTRY_AUTH_FILE", auth)
        .arg("--root")
        .arg(home.join("root"))
        .arg("--runroot")
        .arg(home.join("run"))
        .arg("--tmpdir")
        .arg(home.join("tmp"))
        .args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file"])
}

pub(super) fn login(harness: &Harness, key: &Credential) -> Run {
    podman(harness)
        .args(["login", "--tls-verify=false", "--password-stdin", "-u", &key.username, &harness.host()])
        .input(key.password.clone())
}

/// Loads an image into podman's storage under a name.
pub(super) async fn load(harness: &Harness, seed: &str, reference: &str) {
    let archive = harness.scratch("archive").join("image.tar");
    write_file(&archive, &fixture::docker_archive(seed, reference));
    podman(harness).args(["load", "-i"]).arg(archive).ok().await.says(reference);
}

#[tokio::test]
async fn podman_logs_in_pushes_and_pulls_the_same_digest() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    login(&harness, &acme.push().await).ok().await.says("Login Succeeded");
    let reference = format!("{}/acme/podman:v1", harness.host());
    load(&harness, "podman", &reference).await;
    podman(&harness).args(["push", "--tls-verify=false", &reference]).ok().await;
    let pushed = digest_of(&acme, "acme/podman", "v1").await;
    podman(&harness).args(["rmi", "--all", "--force"]).ok().await;
    login(&harness, &acme.pull().await).ok().await.says("Login Succeeded");
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
    let reference = format!("{}/acme/podman:v1", harness.host());
    login(&harness, &acme.push().await).ok().await;
    load(&harness, "podman refused", &reference).await;
    podman(&harness).args(["push", "--tls-verify=false", &reference]).ok().await;
    for bad in bad_keys(&harness).await {
        if bad.refused_at_login {
            login(&harness, &bad.credential).fails().await.says("invalid username/password");
        } else {
            login(&harness, &bad.credential).ok().await;
        }
        let pair = format!("{}:{}", bad.credential.username, bad.credential.password);
        let creds = ["--tls-verify=false", "--creds", &pair, &reference];
        podman(&harness).arg("pull").args(creds).fails().await.says(bad.says);
        // A push begins with HEAD, whose refusal has no text; a dead key fails at /token before it, which has.
        let push = podman(&harness).arg("push").args(creds).fails().await;
        push.says(if bad.refused_at_login { bad.says } else { bad.status });
    }
}
