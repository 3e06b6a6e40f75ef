//! Memory is bounded: no blob is ever whole in it, however large and however many at once.

use std::{env, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use conformance::{
    Harness,
    harness::read_text,
    load::{Connection, Layer},
};
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
