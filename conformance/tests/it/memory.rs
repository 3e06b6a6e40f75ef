//! Memory is bounded: no blob is ever whole in it, however large and however many at once.

use std::{env, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use conformance::{
    Client, Harness, Request, Store,
    clock::LIVES,
    fixture::{Algorithm, Content, media},
    harness::{free_address, read_text, until},
    load::{Connection, Layer},
    push,
};
use serde_json::json;
use tokio::task::JoinSet;

const CLIENTS: u64 = 8;
/// Anonymous memory of the server, in KiB.
const LIMIT: u64 = 40 << 10;
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// What the kernel counts as the process's own memory, in KiB; `None` when it is gone.
fn anonymous(pid: u32) -> Option<u64> {
    let status = read_text(format!("/proc/{pid}/status").as_ref());
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// The most memory the server has while the work runs.
async fn peak(pid: u32, mut work: JoinSet<()>) -> u64 {
    let mut looks = tokio::time::interval(LOOK);
    let mut most = 0;
    loop {
        tokio::select! {
            _ = looks.tick() => most = most.max(anonymous(pid).expect("the server lives")),
            ended = work.join_next() => match ended {
                Some(ended) => ended.expect("a client succeeds"),
                None => return most,
            },
        }
    }
}

/// Eight clients push layers, then eight pull these while eight push others. `HYTHE_LONG=1`: layers of 1 GiB.
#[tokio::test]
async fn eight_pushes_and_eight_pulls_of_large_layers_take_forty_megabytes() {
    let size = if env::var_os("HYTHE_LONG").is_some() { 1 << 30 } else { 128 << 20 };
    let harness = Harness::start().await;
    let credential = harness.account("acme").await.push().await;
    let authorization =
        format!("Basic {}", STANDARD.encode(format!("{}:{}", credential.username, credential.password)));
    let (address, pid) = (harness.client().address(), harness.pid().expect("it runs"));
    let connect = move |authorization: &str| Connection::open(address, Some(authorization)).expect("it listens");

    let mut digests = Vec::new();
    let mut most = Vec::new();
    for round in 0..2 {
        let layers: Vec<_> = (0..CLIENTS).map(|client| Layer::new(round << 8 | client, size)).collect();
        let pulled = std::mem::replace(&mut digests, layers.iter().map(|layer| layer.digest.clone()).collect());
        let mut work = JoinSet::new();
        for layer in layers {
            let authorization = authorization.clone();
            work.spawn_blocking(move || connect(&authorization).push("acme/large", &layer).expect("pushed"));
        }
        for digest in pulled {
            let authorization = authorization.clone();
            work.spawn_blocking(move || {
                let pulled = connect(&authorization).pull(&format!("/v2/acme/large/blobs/{digest}")).expect("pulled");
                assert_eq!(pulled, size);
            });
        }
        most.push(peak(pid, work).await);
    }
    eprintln!("anonymous memory: {} KiB pushing, {} KiB pushing and pulling", most[0], most[1]);
    assert!(most.iter().all(|&most| most <= LIMIT), "{most:?} KiB of anonymous memory; {LIMIT} are allowed");
}

/// Collection passes over manifests of ten thousand layers each, all the time. `HYTHE_LONG=1`: fifty of them.
#[tokio::test]
async fn passes_over_the_largest_manifests_take_forty_megabytes() {
    let manifests = if env::var_os("HYTHE_LONG").is_some() { 50 } else { 6 };
    let operations = free_address();
    let mut harness = Harness::stopped(Store::Local).await;
    harness.set(&[(LIVES, "0,600")], &["--sparse-manifests", "--operations", &operations.to_string()]);
    harness.boot().await;
    let account = harness.account("acme").await;
    let caller = account.caller(&account.push().await);
    for one in 0..manifests {
        let layer = |layer: usize| {
            json!({
                "mediaType": media::OCI_LAYER,
                "digest": Algorithm::Sha256.digest(format!("{one} {layer}").as_bytes()),
                "size": 1000,
            })
        };
        let layers: Vec<_> = (0..9_999).map(layer).collect();
        let document = json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": layers[0], "layers": layers,
        });
        let manifest = Content::new(Algorithm::Sha256, media::OCI_MANIFEST, document.to_string());
        caller.send(push::manifest_request("acme/huge", &format!("v{one}"), &manifest)).await.expect(201);
    }
    // The pushes had their share of memory too: what is looked at begins with a new process.
    harness.restart().await;
    let passes = async || {
        let page = Client::new(operations).send(Request::get("/metrics")).await.text();
        let line = page.lines().find_map(|line| line.strip_prefix("hythe_collect_passes_total "));
        line.and_then(|number| number.parse::<u64>().ok()).unwrap_or_default()
    };
    let pid = harness.pid().expect("it runs");
    let mut most = 0;
    until("it has passed a few times", async || {
        most = most.max(anonymous(pid).expect("the server lives"));
        passes().await >= 5
    })
    .await;
    eprintln!("anonymous memory: {most} KiB collecting {manifests} manifests of 10,000 layers");
    assert!(most <= LIMIT, "{most} KiB of anonymous memory; {LIMIT} are allowed");
}
