//! oras: the Go library version 2 in a small program of our own, and the Python client.

use conformance::{
    Credential, Harness, Request,
    fixture::{self, Algorithm},
    harness::{read_text, write_file},
    push,
    tools::{self, Run},
};

use super::{bad_keys, digest_of};

fn with_key(run: Run, key: &Credential) -> Run {
    run.env("ORAS_USERNAME", &key.username).env("ORAS_PASSWORD", &key.password)
}

pub(super) fn go(key: &Credential) -> Run {
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

#[tokio::test]
async fn oras_go_copies_an_image_with_its_referrers_and_theirs() {
    let (harness, other) = (Harness::start().await, Harness::start().await);
    let (acme, beta, away) =
        (harness.account("acme").await, harness.account("beta").await, other.account("away").await);
    let index = fixture::index("graph", Algorithm::Sha256, false);
    let list = fixture::artifact_of("graph", "application/spdx+json", index.root());
    let signature = fixture::artifact_of("graph", "application/vnd.example.signature", list.root());
    let owner = acme.caller(&acme.push().await);
    push::bundle(&owner, "acme/graph", "v1", &index).await;
    for (tag, bundle) in [("list", &list), ("signature", &signature)] {
        push::bundle(&owner, "acme/graph", tag, bundle).await;
    }
    let from = format!("{}/acme/graph:v1", harness.host());
    let reads = acme.pull().await;
    for (account, host, name) in [(&beta, harness.host(), "beta/graph"), (&away, other.host(), "away/graph")] {
        let writes = account.push().await;
        let copied = go(&reads)
            .env("ORAS_TO_USERNAME", &writes.username)
            .env("ORAS_TO_PASSWORD", &writes.password)
            .args(["copy", &from, &format!("{host}/{name}:v1")])
            .ok()
            .await;
        assert_eq!(copied.digest(), index.root().digest);
        assert_eq!(digest_of(account, name, "v1").await, index.root().digest);
        let caller = account.caller(&account.pull().await);
        for (subject, referrer) in [(&index, &list), (&list, &signature)] {
            let path = format!("/v2/{name}/referrers/{}", subject.root().digest);
            let found = caller.send(Request::get(path)).await.expect(200).json();
            assert_eq!(found["manifests"][0]["digest"], referrer.root().digest.as_str());
            assert_eq!(found["manifests"].as_array().unwrap().len(), 1);
        }
    }
}
