//! oras: the Go library version 2 in a small program of our own, and the Python client.

use conformance::{
    Credential, Harness,
    harness::{read_text, write_file},
    tools::{self, Run},
};

use super::{bad_keys, digest_of};

fn with_key(run: Run, key: &Credential) -> Run {
    run.env("ORAS_USERNAME", &key.username).env("ORAS_PASSWORD", &key.password)
}

fn go(key: &Credential) -> Run {
    with_key(Run::new("hythe-oras-go"), key)
}

fn python(harness: &Harness, key: &Credential) -> Run {
    let config = harness.scratch("python").join("config.json");
    with_key(Run::of(&tools::python()), key).arg(tools::file("clients/oras_client.py")).env("ORAS_CONFIG", config)
}

#[tokio::test]
async fn oras_go_logs_in_pushes_and_pulls_the_same_digest() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let key = acme.push().await;
    go(&key).args(["login", &harness.host()]).ok().await;
    let file = harness.scratch("oras").join("note.txt");
    write_file(&file, b"a note for oras-go");
    let remote = format!("{}/acme/oras:v1", harness.host());
    let pushed = go(&key).args(["push", &remote]).arg(&file).ok().await.digest();
    assert_eq!(digest_of(&acme, "acme/oras", "v1").await, pushed);
    let to = harness.scratch("pulled");
    let pulled = go(&acme.pull().await).args(["pull", &remote]).arg(&to).ok().await.digest();
    assert_eq!(pulled, pushed);
    assert_eq!(read_text(&to.join("note.txt")), "a note for oras-go");
}

#[tokio::test]
async fn oras_go_is_refused_with_every_bad_key() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let file = harness.scratch("oras").join("note.txt");
    write_file(&file, b"a private note");
    let remote = format!("{}/acme/oras:v1", harness.host());
    go(&acme.push().await).args(["push", &remote]).arg(&file).ok().await;
    for bad in bad_keys(&harness).await {
        let login = go(&bad.credential).args(["login", &harness.host()]);
        if bad.refused_at_login {
            login.fails().await.says(bad.says);
        } else {
            login.ok().await;
        }
        go(&bad.credential).args(["pull", &remote]).arg(harness.scratch("nowhere")).fails().await.says(bad.says);
        // A push begins with HEAD, whose refusal has no text; a dead key fails at /token before it, which has.
        let push = go(&bad.credential).args(["push", &remote]).arg(&file).fails().await;
        push.says(if bad.refused_at_login { bad.says } else { bad.status });
    }
}

#[tokio::test]
async fn oras_python_logs_in_pushes_and_pulls_the_same_bytes() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let key = acme.push().await;
    let file = harness.scratch("oras").join("note.txt");
    write_file(&file, b"a note for oras-py");
    let remote = format!("{}/acme/oras:v1", harness.host());
    let pushed = python(&harness, &key).args(["push", &remote]).arg(&file).ok().await.digest();
    assert_eq!(digest_of(&acme, "acme/oras", "v1").await, pushed);
    let to = harness.scratch("pulled");
    python(&harness, &acme.pull().await).args(["pull", &remote]).arg(&to).ok().await.says("note.txt");
    assert_eq!(read_text(&to.join("note.txt")), "a note for oras-py");
}

/// The Python client tells no more than that it could not get in: the registry's words stay in its debug log.
#[tokio::test]
async fn oras_python_is_refused_with_every_bad_key() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let file = harness.scratch("oras").join("note.txt");
    write_file(&file, b"a private note");
    let remote = format!("{}/acme/oras:v1", harness.host());
    python(&harness, &acme.push().await).args(["push", &remote]).arg(&file).ok().await;
    for bad in bad_keys(&harness).await {
        python(&harness, &bad.credential).args(["pull", &remote]).arg(harness.scratch("nowhere")).fails().await;
        python(&harness, &bad.credential).args(["push", &remote]).arg(&file).fails().await;
        assert!(!harness.scratch("nowhere").join("note.txt").exists());
    }
}
