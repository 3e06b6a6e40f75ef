//! buildah.

use conformance::{
    Credential, Harness,
    harness::{read_text, write_file},
    tools::Run,
};

use super::{bad_keys, digest_of};

/// buildah with its storage, state and login in a folder of the test's own.
fn buildah(harness: &Harness) -> Run {
    let home = harness.scratch("buildah");
    Run::new("buildah")
        .env("HOME", &home)
        .env("XDG_RUNTIME_DIR", home.join("xdg"))
        .env("TMPDIR", harness.scratch("buildah/tmp"))
        .arg("--root")
        .arg(home.join("root"))
        .arg("--runroot")
        .arg(home.join("run"))
        .args(["--storage-driver", "vfs"])
}

fn creds(key: &Credential) -> String {
    format!("{}:{}", key.username, key.password)
}

/// Builds an image of one file from nothing.
async fn build(harness: &Harness, text: &str, image: &str) {
    let file = harness.scratch("context").join("hello.txt");
    write_file(&file, text.as_bytes());
    let container = buildah(harness).args(["from", "scratch"]).ok().await.stdout.trim().to_owned();
    buildah(harness).args(["copy", &container]).arg(file).arg("/hello.txt").ok().await;
    buildah(harness).args(["commit", "--rm", &container, image]).ok().await;
}

fn push(harness: &Harness, key: &Credential, image: &str, remote: &str) -> Run {
    let to = format!("docker://{remote}");
    let digest = harness.scratch("digest").join("pushed");
    buildah(harness)
        .args(["push", "--tls-verify=false", "--creds", &creds(key), "--digestfile"])
        .arg(digest)
        .args([image, &to])
}

fn pull(harness: &Harness, key: &Credential, remote: &str) -> Run {
    buildah(harness).args(["pull", "--tls-verify=false", "--creds", &creds(key), remote])
}

#[tokio::test]
async fn buildah_builds_pushes_and_pulls_the_same_digest() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    build(&harness, "built by buildah", "hello").await;
    let remote = format!("{}/acme/buildah:v1", harness.host());
    push(&harness, &acme.push().await, "hello", &remote).ok().await;
    let pushed = read_text(&harness.scratch("digest").join("pushed"));
    assert_eq!(digest_of(&acme, "acme/buildah", "v1").await, pushed);
    buildah(&harness).args(["rmi", "--all", "--force"]).ok().await;
    let key = acme.pull().await;
    pull(&harness, &key, &remote).ok().await;
    pull(&harness, &key, &format!("{}/acme/buildah@{pushed}", harness.host())).ok().await;
    let seen = buildah(&harness).args(["images", "--digests", "--format", "{{.Digest}}"]).ok().await;
    assert_eq!(seen.digest(), pushed);
    // A build may start from what was pulled, and finds the file in it.
    let login = ["from", "--tls-verify=false", "--creds", &creds(&key), &remote];
    let container = buildah(&harness).args(login).ok().await.stdout.trim().to_owned();
    let folder = buildah(&harness).args(["mount", &container]).ok().await.stdout.trim().to_owned();
    assert_eq!(read_text(&std::path::Path::new(&folder).join("hello.txt")), "built by buildah");
    buildah(&harness).args(["rm", "--all"]).ok().await;
}

#[tokio::test]
async fn buildah_is_refused_with_every_bad_key() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    build(&harness, "private", "hello").await;
    let remote = format!("{}/acme/buildah:v1", harness.host());
    push(&harness, &acme.push().await, "hello", &remote).ok().await;
    for bad in bad_keys(&harness).await {
        pull(&harness, &bad.credential, &remote).fails().await.says(bad.says);
        // A push begins with HEAD, whose refusal has no text; a dead key fails at /token before it, which has.
        let pushed = push(&harness, &bad.credential, "hello", &remote).fails().await;
        pushed.says(if bad.refused_at_login { bad.says } else { bad.status });
    }
}
