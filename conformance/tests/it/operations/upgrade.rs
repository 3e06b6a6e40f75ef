//! Yesterday's store is today's: what the release before made is read, used and kept (`fixtures/previous/make`).

use std::collections::BTreeMap;

use conformance::{
    Caller, Harness, Request, Store,
    fixture::{self, Algorithm, Format},
    harness::read_text,
    push,
    tools::{self, Run},
};
use http::Method;
use serde::Deserialize;
use serde_json::Value;
use storage::Clock;

/// Every kind that manifests of the fixture are.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.docker.distribution.manifest.v2+json";

/// A harness over the folder of the release before, with its clock at the day when it was made, and what its users were given.
async fn previous() -> (Harness, Value) {
    let harness = Harness::stopped(Store::Local).await;
    let folder = harness.data().parent().unwrap().to_owned();
    let archive = tools::file("fixtures/previous/data.tar.gz");
    Run::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&folder).ok().await;
    let secrets: Value = serde_json::from_str(&read_text(&folder.join("secrets.json"))).unwrap();
    let now = storage::clock::SystemClock::new().now().timestamp();
    harness.set_clock(secrets["made"].as_i64().unwrap() + 60 - now);
    (harness, secrets)
}

fn holder(harness: &Harness, credential: &Value) -> Caller {
    let text = |field: &str| credential[field].as_str().unwrap();
    Caller::basic(harness.client(), text("username"), text("password"))
}

/// Gets what must hash to its name.
async fn true_to_its_digest(caller: &Caller, path: &str, digest: &str) -> bytes::Bytes {
    let answer = caller.send(Request::get(path).header("Accept", MANIFESTS)).await.expect(200);
    assert_eq!(Algorithm::Sha256.digest(&answer.body), digest, "{path}");
    answer.body
}

/// Pulls a manifest and everything below it; the number of manifests and blobs.
async fn pull_all(caller: &Caller, repository: &str, reference: &str) -> usize {
    let path = format!("/v2/{repository}/manifests/{reference}");
    let head = caller.send(Request::head(path.clone()).header("Accept", MANIFESTS)).await.expect(200);
    let body = true_to_its_digest(caller, &path, head.header("docker-content-digest")).await;
    let manifest: Value = serde_json::from_slice(&body).unwrap();
    let mut pulled = 1;
    for child in manifest["manifests"].as_array().into_iter().flatten() {
        pulled += Box::pin(pull_all(caller, repository, child["digest"].as_str().unwrap())).await;
    }
    let config = manifest.get("config").into_iter();
    for blob in config.chain(manifest["layers"].as_array().into_iter().flatten()) {
        let digest = blob["digest"].as_str().unwrap();
        true_to_its_digest(caller, &format!("/v2/{repository}/blobs/{digest}"), digest).await;
        pulled += 1;
    }
    pulled
}

#[derive(Debug, Deserialize)]
struct Record {
    rev: u64,
    kept: bool,
}

async fn records(harness: &Harness, command: &str) -> BTreeMap<String, Record> {
    let script = tools::file("fixtures/previous/later.py");
    let run = Run::of(&tools::python()).arg(script).arg(command).arg(harness.data().join("records.db"));
    serde_json::from_str(&run.ok().await.stdout).unwrap()
}

#[tokio::test]
async fn a_store_of_the_release_before_is_pulled_pushed_to_and_administered_with_its_old_secrets() {
    let (mut harness, secrets) = previous().await;
    harness.boot().await;
    let (pull, push) = (holder(&harness, &secrets["pull"]), holder(&harness, &secrets["push"]));
    let mut pulled = 0;
    for reference in secrets["manifests"].as_array().unwrap() {
        let (name, tag) = reference.as_str().unwrap().rsplit_once(':').unwrap();
        pulled += pull_all(&pull, &format!("acme/{name}"), tag).await;
    }
    assert!(pulled >= 20, "{pulled} manifests and blobs");
    let subject = secrets["subject"].as_str().unwrap();
    let referrers = pull.send(Request::get(format!("/v2/acme/web/referrers/{subject}"))).await.expect(200).json();
    assert_eq!(referrers["manifests"][0]["artifactType"], "application/vnd.example.note", "{referrers}");
    for ended in ["revoked", "orphan"] {
        holder(&harness, &secrets[ended]).send(Request::get("/v2/")).await.expect(401);
    }

    let image = fixture::image("upgrade", Format::Oci);
    push::bundle(&push, "acme/web", "latest", &image).await;
    assert_eq!(pull_all(&pull, "acme/web", "latest").await, 1 + image.blobs.len());
    // The upload that was under way goes on where the release before left it.
    let session = secrets["session"].as_str().unwrap();
    let status = push.send(Request::get(session)).await.expect(204);
    assert_eq!(status.header("range"), "0-7");
    let rest = push::chunk_request(Method::PATCH, &push::location(&status), 8, "a blob".into());
    let sent = push.send(rest).await.expect(202);
    let digest = Algorithm::Sha256.digest(b"half of a blob");
    push::commit(&push, &push::location(&sent), &digest).await.expect(201);
    true_to_its_digest(&pull, &format!("/v2/acme/web/blobs/{digest}"), &digest).await;

    let bearer = |key: &str| Caller::bearer(harness.client(), secrets[key].as_str().unwrap());
    let minted = Request::post("/api/v1/accounts/acme/credentials")
        .header("Content-Type", "application/json")
        .body(r#"{"kind":"pull","repositories":["acme/charts/**"]}"#);
    let minted = bearer("publisher").send(minted).await.expect(201).json();
    pull_all(&holder(&harness, &minted), "acme/charts/demo", "0.1.0").await;
    let accounts = bearer("operator").send(Request::get("/api/v1/accounts")).await.expect(200).json();
    assert_eq!(accounts["items"][0]["name"], "acme", "{accounts}");
    let id = secrets["push"]["id"].as_str().unwrap();
    harness.hythe(&["credential", "revoke", "acme", id]).await;
    harness.heard().await;
    push.send(Request::get("/v2/")).await.expect(401);
    harness.hythe(&["verify"]).await.says(": 0 problems");
}

/// Two releases serve one store while an upgrade rolls, so the one before must not drop what the one after wrote.
#[tokio::test]
async fn fields_of_a_later_release_are_kept_in_every_record_that_is_rewritten() {
    let (mut harness, secrets) = previous().await;
    let before = records(&harness, "add").await;
    assert!(before.len() > 30 && before.values().all(|record| record.kept), "{before:?}");
    harness.boot().await;
    let push = holder(&harness, &secrets["push"]);
    push::bundle(&push, "acme/web", "latest", &fixture::image("later", Format::Oci)).await;
    let owner = Caller::bearer(harness.client(), secrets["owner"].as_str().unwrap());
    let renamed = Request::patch("/api/v1/accounts/acme")
        .header("Content-Type", "application/json")
        .header("If-Match", "*")
        .body(r#"{"display":"Acme Ltd"}"#);
    owner.send(renamed).await.expect(200);
    let keys = owner.send(Request::get("/api/v1/accounts/acme/keys")).await.expect(200).json();
    let id = keys["items"].as_array().unwrap().iter().find(|key| key["label"] == "ci").unwrap()["id"].clone();
    let retire = Request::post(format!("/api/v1/accounts/acme/keys/{}/retire", id.as_str().unwrap()));
    owner.send(retire).await.expect(200);
    harness.hythe(&["credential", "revoke", "acme", secrets["pull"]["id"].as_str().unwrap()]).await;
    harness.stop().await;

    let after = records(&harness, "list").await;
    let mut rewritten = Vec::new();
    for (key, old) in &before {
        let Some(new) = after.get(key) else { continue };
        assert!(new.kept, "{key} lost what a later release wrote");
        if new.rev > old.rev {
            rewritten.push(key.as_str());
        }
    }
    for part in ["acct/acme", "/key/", "/cred/", "/t/latest", "sys/authlog"] {
        assert!(rewritten.iter().any(|key| key.contains(part)), "{part} is not in {rewritten:?}");
    }
}
