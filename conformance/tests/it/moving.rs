//! `hythe backup`, `restore` and `move`: from folder to bucket and back while clients push, killed in the middle, and nobody has to
//! be given a new password.
//!
//! `HYTHE_LONG=1` asks for 100,000 blobs and 20 kills, a larger number for so many blobs.

use std::{
    collections::BTreeMap,
    env,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use conformance::{
    Caller, Credential, Harness, Request, Store,
    fixture::{self, Algorithm, Content, Format},
    harness::until,
    push,
};
use futures::{StreamExt as _, stream};
use serde_json::Value;

const REPOSITORIES: [&str; 2] = ["acme/web", "acme/batch"];

/// How many blobs a long run is asked for.
fn long() -> Option<usize> {
    let asked = env::var("HYTHE_LONG").ok()?.parse().ok()?;
    Some(if asked == 1 { 100_000 } else { asked })
}

/// What is acknowledged of a registry: digest by repository and tag.
type Tags = BTreeMap<(&'static str, String), String>;

fn caller(harness: &Harness, credential: &Credential) -> Caller {
    Caller::basic(harness.client(), &credential.username, &credential.password)
}

/// Pushes a blob in one request; its status, or none if the server is gone.
async fn try_blob(caller: &Caller, repository: &str, content: &Content) -> Option<u16> {
    let request = Request::post(format!("/v2/{repository}/blobs/uploads/?digest={}", content.digest))
        .header("Content-Type", "application/octet-stream")
        .body(content.bytes.clone());
    caller.try_send(request).await.ok().map(|answer| answer.status.as_u16())
}

/// Pushes an image under a tag.
async fn try_image(caller: &Caller, repository: &str, tag: &str, seed: &str) -> Result<String, Option<u16>> {
    let bundle = fixture::image(seed, Format::Oci);
    for blob in &bundle.blobs {
        match try_blob(caller, repository, blob).await {
            Some(201) => {}
            other => return Err(other),
        }
    }
    let answer = caller.try_send(push::manifest_request(repository, tag, bundle.root())).await;
    match answer.ok().map(|answer| answer.status.as_u16()) {
        Some(201) => Ok(bundle.root().digest.clone()),
        other => Err(other),
    }
}

/// What was there before anything moved: images, and blobs by the dozen.
async fn fill(caller: &Caller, blobs: usize) -> Tags {
    let mut tags = Tags::new();
    for repository in REPOSITORIES {
        for n in 0..4 {
            let tag = format!("v{n}");
            let digest = try_image(caller, repository, &tag, &format!("{repository} {n}")).await.unwrap();
            tags.insert((repository, tag), digest);
        }
    }
    let pushes = (0..blobs).map(|n| async move {
        let size = if n % 50 == 0 { 9 << 20 } else { 2000 };
        let size = if long().is_some() { 2000 } else { size };
        let content = Content::random(Algorithm::Sha256, &format!("blob {n}"), size);
        assert_eq!(try_blob(caller, REPOSITORIES[n % 2], &content).await, Some(201));
    });
    stream::iter(pushes).buffer_unordered(16).collect::<Vec<()>>().await;
    tags
}

/// Pushes and moves tags until it is told to end or is refused; what was acknowledged, and how it ended.
async fn load(caller: &Caller, end: &AtomicBool) -> (Tags, Option<u16>) {
    let mut tags = Tags::new();
    for n in 0.. {
        if end.load(Ordering::SeqCst) {
            break;
        }
        let repository = REPOSITORIES[n % 2];
        let tag = format!("load{}", n % 7);
        match try_image(caller, repository, &tag, &format!("load {n}")).await {
            Ok(digest) => drop(tags.insert((repository, tag), digest)),
            Err(status) => {
                // Refused is refused; of what was not answered nobody can say whether it was applied.
                if status.is_none() {
                    tags.remove(&(repository, tag));
                }
                return (tags, status);
            }
        }
    }
    (tags, None)
}

/// Everything that was acknowledged is there, down to the last byte.
async fn is_there(harness: &Harness, credential: &Credential, tags: &Tags) {
    let caller = caller(harness, credential);
    for ((repository, tag), digest) in tags {
        let manifest = caller.send(Request::get(format!("/v2/{repository}/manifests/{tag}"))).await.expect(200);
        assert_eq!(manifest.header("docker-content-digest"), digest, "{repository}:{tag}");
        let layers = manifest.json()["layers"].as_array().unwrap().clone();
        for layer in layers {
            let digest = layer["digest"].as_str().unwrap();
            let blob = caller.send(Request::get(format!("/v2/{repository}/blobs/{digest}"))).await.expect(200);
            assert_eq!(Algorithm::Sha256.digest(&blob.body), digest);
        }
    }
}

async fn verified(harness: &Harness) -> Value {
    let ended = harness.hythe(&["verify", "--output", "json"]).await;
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&report["problems"], &report["unnamed"]), (&0.into(), &0.into()), "{report}");
    report
}

/// Runs a command and kills it again and again, each time a little later.
async fn killed(harness: &Harness, args: &[&str], flag: &str, other: &Harness, kills: u32) -> u32 {
    let mut deaths = 0;
    for kill in 0..kills {
        let pause = Duration::from_millis(u64::from(80 + 60 * kill) * if long().is_some() { 10 } else { 1 });
        // Dropped half way, which kills it.
        let run = tokio::time::timeout(pause, harness.run_with(args, flag, other).end()).await;
        deaths += u32::from(run.is_err());
    }
    deaths
}

/// Kills a command as soon as its target says that it is being filled.
async fn killed_while_filling(harness: &Harness, args: &[&str], flag: &str, other: &Harness, target: &Harness) {
    for pause in (100..).step_by(50).map(Duration::from_millis) {
        let run = tokio::time::timeout(pause, harness.run_with(args, flag, other).end()).await;
        assert!(run.is_err(), "it ended before it was killed");
        let state = target.run_at(0, &["move", "--abandon"]).fails().await;
        if state.stderr.contains("the target of a copy that has not ended") {
            return;
        }
    }
}

async fn refuses_to_be_served(harness: &Harness, line: &str) {
    let serve = ["serve", "--listen", "127.0.0.1:0", "--operations", "off"];
    let ended = harness.run_at(0, &serve).fails().await;
    ended.says(line);
    assert_eq!(ended.stderr.trim().lines().count(), 1, "{}", ended.stderr);
}

#[tokio::test]
async fn a_folder_becomes_a_bucket_and_a_folder_again_under_load_and_every_login_goes_on() {
    let mut folder = Harness::on(Store::Local).await;
    let acme = folder.account("acme").await;
    let (credential, ended) = (acme.push_delete().await, acme.pull().await);
    let pull = acme.pull().await;
    folder.hythe(&["credential", "revoke", "acme", &ended.id]).await;
    folder.heard().await;
    let mut tags = fill(&caller(&folder, &credential), long().unwrap_or(400)).await;

    let mut bucket = Harness::stopped(Store::Minio).await;
    let (end, writer) = (AtomicBool::new(false), caller(&folder, &credential));
    let (moved, (acknowledged, status)) = tokio::join!(
        async {
            let deaths = killed(&folder, &["move"], "--to", &bucket, if long().is_some() { 20 } else { 6 }).await;
            assert!(deaths >= 4, "{deaths}");
            let patience = Duration::from_mins(if long().is_some() { 60 } else { 5 });
            folder.run_with(&["move"], "--to", &bucket).patience(patience).ok().await
        },
        load(&writer, &end),
    );
    moved.says("the same on both sides");
    moved.says("0 left out, 0 problems");
    // The source stood still before it ended, and said so to whoever wrote.
    assert_eq!(status, Some(405));
    tags.extend(acknowledged);
    assert_eq!(folder.ended().await, Some(1));
    assert!(folder.log().contains("this store was moved away, so its server ends"), "{}", folder.log());
    refuses_to_be_served(&folder, "this store was moved away; open the one that it was moved to").await;
    folder.run_at(0, &["account", "list"]).fails().await.says("moved away");
    folder.run_with(&["move"], "--to", &bucket).fails().await.says("moved away before");

    bucket.boot().await;
    is_there(&bucket, &pull, &tags).await;
    let refused = caller(&bucket, &ended).send(Request::get("/v2/")).await;
    assert_eq!(refused.status, 401);
    let report = verified(&bucket).await;
    assert!(report["blobs"].as_u64().unwrap() > 400, "{report}");
    // It is a registry as any other: pushes, and revocations, go on.
    let fresh = try_image(&caller(&bucket, &credential), REPOSITORIES[0], "after", "after").await.unwrap();
    tags.insert((REPOSITORIES[0], "after".into()), fresh);

    let mut back = Harness::stopped(Store::Local).await;
    let deaths = killed(&bucket, &["move"], "--to", &back, 2).await;
    let moved = bucket.run_with(&["move"], "--to", &back).ok().await;
    moved.says("the same on both sides");
    assert_eq!((bucket.ended().await, deaths), (Some(1), 2));
    back.boot().await;
    is_there(&back, &pull, &tags).await;
    assert_eq!(verified(&back).await["tags"], tags.len());
}

#[tokio::test]
async fn a_backup_under_load_is_restored_elsewhere_and_whole() {
    let folder = Harness::on(Store::Local).await;
    let credential = folder.account("acme").await.push_delete().await;
    let tags = fill(&caller(&folder, &credential), 150).await;
    let backup = Harness::stopped(Store::Minio).await;

    let (end, writer) = (AtomicBool::new(false), caller(&folder, &credential));
    let ((), (_, status)) = tokio::join!(
        async {
            killed_while_filling(&folder, &["backup"], "--to", &backup, &backup).await;
            refuses_to_be_served(&backup, "run that command again").await;
            folder.run_with(&["backup"], "--to", &backup).ok().await.says("0 problems");
            end.store(true, Ordering::SeqCst);
        },
        load(&writer, &end),
    );
    assert_eq!(status, None, "the server went on taking pushes");
    verified(&backup).await;

    // Again: what has changed, and what is gone.
    let all = folder.run_with(&["backup", "--output", "json"], "--to", &backup).ok().await;
    let later = try_image(&writer, REPOSITORIES[0], "later", "later").await.unwrap();
    writer.send(Request::delete(format!("/v2/{}/manifests/v0", REPOSITORIES[0]))).await.expect(202);
    let again = folder.run_with(&["backup", "--output", "json"], "--to", &backup).ok().await;
    let [all, again] = [all, again].map(|ended| serde_json::from_str::<Value>(&ended.stdout).unwrap());
    assert_eq!(again["problems"], 0, "{again}");
    assert!(again["records"].as_u64() < Some(40) && again["blobs"].as_u64() <= Some(4), "{all} {again}");
    assert!(again["removed"].as_u64() >= Some(1), "{again}");
    verified(&backup).await;

    let mut restored = Harness::stopped(Store::Local).await;
    killed_while_filling(&restored, &["restore"], "--from", &backup, &restored).await;
    refuses_to_be_served(&restored, "run that command again").await;
    restored.run_with(&["restore"], "--from", &backup).ok().await.says("0 problems");
    restored.run_with(&["restore"], "--from", &backup).fails().await.says("a registry of its own");
    restored.boot().await;
    let mut expected = tags;
    expected.remove(&(REPOSITORIES[0], "v0".into()));
    expected.insert((REPOSITORIES[0], "later".into()), later);
    is_there(&restored, &credential, &expected).await;
    let gone = caller(&restored, &credential);
    gone.send(Request::get(format!("/v2/{}/manifests/v0", REPOSITORIES[0]))).await.expect(404);
    verified(&restored).await;
    // A backup that was served is a registry of its own, and no backup writes over it.
    let served = Harness::stopped(Store::Local).await;
    folder.run_with(&["backup"], "--to", &served).ok().await;
    let mut served = served;
    served.boot().await;
    folder.run_with(&["backup"], "--to", &served).fails().await.says("already served");
    served.stop().await;
    folder.run_with(&["backup"], "--to", &served).fails().await.says("a registry of its own");
}

#[tokio::test]
async fn a_move_that_is_given_up_leaves_a_source_that_takes_writes_again() {
    let folder = Harness::on(Store::Local).await;
    let credential = folder.account("acme").await.push().await;
    let writer = caller(&folder, &credential);
    try_image(&writer, REPOSITORIES[0], "v1", "v1").await.unwrap();
    let target = Harness::stopped(Store::Local).await;
    let end = AtomicBool::new(false);
    // Killed as soon as the server refuses to be written to.
    tokio::select! {
        ended = folder.run_with(&["move"], "--to", &target).end() => panic!("too fast: {}", ended.all()),
        (_, status) = load(&writer, &end) => assert_eq!(status, Some(405)),
    }
    let mint = folder.run_at(0, &["credential", "create", "acme", "--kind", "pull"]).fails().await;
    mint.says("read-only");
    writer.send(Request::get(format!("/v2/{}/manifests/v1", REPOSITORIES[0]))).await.expect(200);

    folder.run_at(0, &["move", "--abandon"]).ok().await.says("takes writes again");
    let fresh = async || try_image(&writer, REPOSITORIES[0], "v2", "v2").await.is_ok();
    until("the server takes pushes again", fresh).await;
    folder.run_at(0, &["move", "--abandon"]).fails().await.says("not being moved");
    folder.hythe(&["credential", "create", "acme", "--kind", "pull"]).await;
}
