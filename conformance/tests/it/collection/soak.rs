//! The soak: eight clients push, mount, skip what a HEAD found, delete and push again the same blobs, against two replicas on a bucket
//! or one server on a folder, while collection never stops and a replica is killed at random.
//!
//! No push is refused for a blob that is there (0 false `MANIFEST_BLOB_UNKNOWN`), nothing acknowledged is lost, and when all is quiet
//! nothing is left but what manifests name. `HYTHE_SOAK_SECONDS` is the length, `HYTHE_SEED` repeats a run as far as timing allows.

use std::{
    collections::HashMap,
    env,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use conformance::{
    Caller, Client, Harness, Request, Store,
    clock::LIVES,
    fixture::{Algorithm, Content, media},
    harness::{free_address, until},
    push,
};
use futures::future::join_all;
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::json;
use storage::{Clock, clock::SystemClock};

use super::stored::Opened;

const CLIENTS: usize = 8;
const REPOSITORIES: [&str; 3] = ["acme/web", "acme/batch", "acme/base"];
/// Blobs that all clients push again and again.
const SHARED: usize = 40;
/// Blobs that a manifest names all the time, in every repository.
const BASE: usize = 4;
/// Of a write of several steps, in seconds; the rest of the short lives follows from it.
const DEADLINE: u64 = 3;
/// Manifests that one client has at a time.
const KEPT: usize = 4;

/// What was done, by all.
#[derive(Debug, Default)]
struct Counts {
    operations: AtomicU64,
    manifests: AtomicU64,
    uploads: AtomicU64,
    skipped: AtomicU64,
    mounts: AtomicU64,
    deletions: AtomicU64,
    /// Refusals of a manifest whose blob was promised by nothing any more: true, and the blob is pushed again.
    honest: AtomicU64,
    /// Answers that nobody can rely on: a killed replica, a write given up.
    broken: AtomicU64,
}

impl Counts {
    fn one(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// What every client knows.
struct Soak {
    callers: Vec<Caller>,
    shared: Vec<Content>,
    base: Vec<Content>,
    promise: Duration,
    clock: SystemClock,
    counts: Counts,
}

/// A manifest that was acknowledged and that nobody but its client deletes.
struct Manifest {
    repository: &'static str,
    content: Content,
    blobs: Vec<Content>,
}

struct Pusher {
    soak: Arc<Soak>,
    random: StdRng,
    name: String,
    kept: Vec<Manifest>,
    /// What it deleted, to push again.
    deleted: Vec<Manifest>,
    /// Where manifests of blobs that it will delete are, or may be.
    scratched: Vec<String>,
}

/// No answer that can be relied on.
struct Broken;

impl Pusher {
    async fn run(&mut self, until: Duration) {
        while self.soak.clock.elapsed() < until {
            let done = match self.random.random_range(0..100) {
                0..45 => self.image().await,
                45..60 => self.delete().await,
                60..75 => self.again().await,
                75..85 => self.scratch().await,
                _ => self.check_one().await,
            };
            Counts::one(&self.soak.counts.operations);
            if done.is_err() {
                Counts::one(&self.soak.counts.broken);
            }
        }
    }

    fn repository(&mut self) -> &'static str {
        REPOSITORIES.choose(&mut self.random).copied().unwrap_or_default()
    }

    /// Every request goes to any replica.
    async fn send(&mut self, request: Request) -> Result<conformance::Answer, Broken> {
        let caller = self.soak.callers.choose(&mut self.random).cloned().expect("a replica");
        match caller.try_send(request).await {
            // Killed under it, given up, or the store was too slow: the protocol says that nothing is known now.
            Ok(answer) if answer.status.is_server_error() => Err(Broken),
            Ok(answer) => Ok(answer),
            Err(_broken) => Err(Broken),
        }
    }

    /// Sees to it that the repository has a blob, and says from when on that was promised.
    async fn ensure(&mut self, repository: &'static str, blob: &Content) -> Result<Duration, Broken> {
        let asked = self.soak.clock.elapsed();
        let head = self.send(Request::head(format!("/v2/{repository}/blobs/{}", blob.digest))).await?;
        if head.status == 200 {
            Counts::one(&self.soak.counts.skipped);
            return Ok(asked);
        }
        assert_eq!(head.status, 404);
        let asked = self.soak.clock.elapsed();
        let from = self.repository();
        let mount = if from != repository && self.random.random_bool(0.6) {
            format!("?mount={}&from={from}", blob.digest)
        } else {
            String::new()
        };
        let opened = self.send(Request::post(format!("/v2/{repository}/blobs/uploads/{mount}"))).await?;
        if opened.status == 201 {
            Counts::one(&self.soak.counts.mounts);
            return Ok(asked);
        }
        let location = push::location(&opened.expect(202));
        let asked = self.soak.clock.elapsed();
        let put = Request::put(push::with_digest(&location, &blob.digest)).body(blob.bytes.clone());
        self.send(put).await?.expect(201);
        Counts::one(&self.soak.counts.uploads);
        Ok(asked)
    }

    /// Pushes a manifest of blobs that were promised, until it is taken.
    async fn put(&mut self, repository: &'static str, manifest: &Content, blobs: &[Content]) -> Result<(), Broken> {
        for _ in 0..50 {
            let mut promised = HashMap::new();
            for blob in blobs {
                promised.insert(blob.digest.clone(), self.ensure(repository, blob).await?);
            }
            let answer = self.send(push::manifest_request(repository, &manifest.digest, manifest)).await?;
            if answer.status == 201 {
                Counts::one(&self.soak.counts.manifests);
                return Ok(());
            }
            let answer = answer.refused(404, "MANIFEST_BLOB_UNKNOWN");
            let (now, text) = (self.soak.clock.elapsed(), answer.text());
            let refused = blobs.iter().find(|blob| text.contains(&blob.digest)).expect("it names the blob");
            let base = self.soak.base.iter().any(|blob| blob.digest == refused.digest);
            assert!(!base, "a manifest names it all the time: {text}");
            // A HEAD promises half of a promise's life at least.
            let held = promised[&refused.digest] + self.soak.promise / 2;
            assert!(now >= held, "refused {:?} before its promise ended: {text}", held.saturating_sub(now));
            Counts::one(&self.soak.counts.honest);
        }
        // Without any promise a blob may go at once, again and again.
        Err(Broken)
    }

    /// A new image of some of the blobs that everybody pushes.
    async fn image(&mut self) -> Result<(), Broken> {
        if self.kept.len() >= KEPT {
            return self.delete().await;
        }
        let repository = self.repository();
        let count = self.random.random_range(1..4);
        let soak = Arc::clone(&self.soak);
        let mut blobs: Vec<Content> = soak.shared.choose_multiple(&mut self.random, count).cloned().collect();
        blobs.extend(soak.base.choose(&mut self.random).cloned());
        let content = manifest_of(&blobs, &format!("{} {}", self.name, self.random.next_u64()));
        self.put(repository, &content, &blobs).await?;
        self.kept.push(Manifest { repository, content, blobs });
        Ok(())
    }

    /// Deletes a manifest: what it alone named is garbage from then on.
    async fn delete(&mut self) -> Result<(), Broken> {
        if self.kept.is_empty() {
            return Ok(());
        }
        let at = self.random.random_range(0..self.kept.len());
        let gone = self.kept.swap_remove(at);
        let path = format!("/v2/{}/manifests/{}", gone.repository, gone.content.digest);
        let answer = self.send(Request::delete(path)).await;
        self.deleted.push(gone);
        self.deleted.truncate(4);
        answer?.expect(202);
        Counts::one(&self.soak.counts.deletions);
        Ok(())
    }

    /// Pushes again what it deleted, blobs and all.
    async fn again(&mut self) -> Result<(), Broken> {
        let Some(Manifest { repository, content, blobs }) = self.deleted.pop() else { return Ok(()) };
        self.put(repository, &content, &blobs).await?;
        self.kept.push(Manifest { repository, content, blobs });
        Ok(())
    }

    /// A blob of its own: pushed, mounted elsewhere, deleted where it was pushed, needed where it was mounted.
    async fn scratch(&mut self) -> Result<(), Broken> {
        // To delete a blob breaks the manifests that name it, by wish: so they go first.
        while let Some(path) = self.scratched.last().cloned() {
            let gone = self.send(Request::delete(path)).await?;
            assert!(gone.status == 202 || gone.status == 404, "{}", gone.text());
            self.scratched.pop();
        }
        let seed = format!("{} scratch {}", self.name, self.random.random_range(0..3));
        let blob = Content::random(Algorithm::Sha256, &seed, 20_000);
        let (from, to) = (self.repository(), self.repository());
        self.ensure(from, &blob).await?;
        if from != to {
            let mount = format!("/v2/{to}/blobs/uploads/?mount={}&from={from}", blob.digest);
            self.send(Request::post(mount)).await?;
        }
        let deleted = self.send(Request::delete(format!("/v2/{from}/blobs/{}", blob.digest))).await?;
        assert!(deleted.status == 202 || deleted.status == 404, "{}", deleted.text());
        Counts::one(&self.soak.counts.deletions);
        let content = manifest_of(std::slice::from_ref(&blob), &format!("{} {}", self.name, self.random.next_u64()));
        self.scratched.push(format!("/v2/{to}/manifests/{}", content.digest));
        self.put(to, &content, std::slice::from_ref(&blob)).await?;
        self.check(&Manifest { repository: to, content, blobs: vec![blob] }).await
    }

    async fn check_one(&mut self) -> Result<(), Broken> {
        if self.kept.is_empty() {
            return Ok(());
        }
        let at = self.random.random_range(0..self.kept.len());
        let manifest = self.kept.swap_remove(at);
        let checked = self.check(&manifest).await;
        self.kept.push(manifest);
        checked
    }

    /// A manifest that was acknowledged is there with all of its blobs.
    async fn check(&mut self, manifest: &Manifest) -> Result<(), Broken> {
        let Manifest { repository, content, blobs } = manifest;
        let path = format!("/v2/{repository}/manifests/{}", content.digest);
        let answer = self.send(Request::get(path)).await?.expect(200);
        assert!(answer.body == content.bytes, "{}", content.digest);
        for blob in blobs {
            let answer = self.send(Request::get(format!("/v2/{repository}/blobs/{}", blob.digest))).await?;
            assert_eq!(answer.status, 200, "lost: {repository} {}: {}", blob.digest, answer.text());
            assert!(answer.body == blob.bytes, "{}", blob.digest);
        }
        Ok(())
    }
}

fn manifest_of(blobs: &[Content], nonce: &str) -> Content {
    let document = json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": blobs.first().map(Content::descriptor),
        "layers": blobs.iter().map(Content::descriptor).collect::<Vec<_>>(),
        "annotations": {"nonce": nonce},
    });
    Content::new(Algorithm::Sha256, media::OCI_MANIFEST, document.to_string())
}

fn asked(variable: &str, usual: u64) -> u64 {
    env::var(variable)
        .ok()
        .map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number: {text}")))
}

/// What collection says of itself, added up over the lives of its processes.
#[derive(Debug, Default)]
struct Told(HashMap<String, u64>);

impl Told {
    async fn add(&mut self, operations: SocketAddr) {
        let Ok(page) = Client::new(operations).try_send(Request::get("/metrics")).await else { return };
        let page = page.text();
        for line in page.lines().filter(|line| line.starts_with("hythe_collect_")) {
            let Some((name, number)) = line.split_once(' ') else { continue };
            *self.0.entry(name.to_owned()).or_default() += number.parse::<u64>().unwrap_or_default();
        }
    }

    fn of(&self, name: &str) -> u64 {
        self.0.get(&format!("hythe_collect_{name}_total")).copied().unwrap_or_default()
    }
}

/// The servers, from now on with short lives: one on a folder, two on a bucket; where each tells its metrics.
async fn replicas(store: Store, mut first: Harness, lives: &str) -> (Vec<Harness>, [SocketAddr; 2]) {
    let operations = [free_address(), free_address()];
    first.set(&[(LIVES, lives)], &["--operations", &operations[0].to_string()]);
    first.restart().await;
    if store == Store::Local {
        return (vec![first], operations);
    }
    let mut second = first.replica(None).await;
    second.set(&[(LIVES, lives)], &["--operations", &operations[1].to_string()]);
    second.restart().await;
    (vec![first, second], operations)
}

/// Kills a replica at random and starts it again, until the end.
async fn kill(
    replica: &mut Harness,
    operations: SocketAddr,
    clock: &SystemClock,
    end: Duration,
    random: &mut StdRng,
) -> (Told, usize) {
    let (mut told, mut kills) = (Told::default(), 0);
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    loop {
        let until = clock.elapsed() + Duration::from_millis(random.random_range(1500..6000));
        while clock.elapsed() < until.min(end) {
            looks.tick().await;
        }
        if clock.elapsed() >= end {
            return (told, kills);
        }
        told.add(operations).await;
        replica.restart().await;
        kills += 1;
    }
}

/// When all is quiet nothing is left but what manifests name.
async fn quiet(harness: &mut Harness) {
    harness.kill();
    // What was left by whom ever may go at once.
    harness.set(&[(LIVES, "0,0")], &[]);
    harness.boot().await;
    let opened = Opened::of(harness).await;
    until("nothing is left but what manifests name", async || {
        let stored = opened.look().await;
        assert_eq!(stored.lost(), Vec::<&String>::new());
        stored.is_clean()
    })
    .await;
    harness.hythe(&["verify"]).await.says(": 0 problems");
}

async fn soak(store: Store, promise: u64) {
    let seed = asked("HYTHE_SEED", rand::rng().next_u64());
    let length = Duration::from_secs(asked("HYTHE_SOAK_SECONDS", 15));
    eprintln!("{store:?}, promises of {promise} s; repeat with HYTHE_SEED={seed}");
    let first = Harness::on(store).await;
    let credential = first.account("acme").await.push_delete().await;
    let caller = |replica: &Harness| Caller::basic(replica.client(), &credential.username, &credential.password);
    let blobs = |kind: &str, count: usize| -> Vec<_> {
        let one = |n| Content::random(Algorithm::Sha256, &format!("{seed} {kind} {n}"), 1000 + 10_000 * n);
        (0..count).map(one).collect()
    };
    // The base is named all the time.
    let base = blobs("base", BASE);
    let content = manifest_of(&base, "base");
    for repository in REPOSITORIES {
        for blob in &base {
            push::blob(&caller(&first), repository, blob).await;
        }
        caller(&first).send(push::manifest_request(repository, &content.digest, &content)).await.expect(201);
    }
    let (mut replicas, operations) = replicas(store, first, &format!("{promise},{DEADLINE}")).await;
    let soak = Arc::new(Soak {
        callers: replicas.iter().map(caller).collect(),
        shared: blobs("shared", SHARED),
        base,
        promise: Duration::from_secs(promise),
        clock: SystemClock::new(),
        counts: Counts::default(),
    });
    let pusher = |n: usize| Pusher {
        soak: Arc::clone(&soak),
        random: StdRng::seed_from_u64(seed ^ ((n as u64 + 1) << 32)),
        name: format!("client-{n}"),
        kept: Vec::new(),
        deleted: Vec::new(),
        scratched: Vec::new(),
    };

    let end = soak.clock.elapsed() + length;
    let mut pushers: Vec<_> = (0..CLIENTS).map(pusher).collect();
    let last = replicas.len() - 1;
    let mut random = StdRng::seed_from_u64(seed);
    let ((mut told, kills), _) = futures::future::join(
        kill(&mut replicas[last], operations[last], &soak.clock, end, &mut random),
        join_all(pushers.iter_mut().map(|pusher| pusher.run(end))),
    )
    .await;
    for at in operations.iter().take(replicas.len()) {
        told.add(*at).await;
    }
    let mut kept = 0;
    let based = |repository| Manifest { repository, content: content.clone(), blobs: soak.base.clone() };
    pushers[0].kept.extend(REPOSITORIES.map(based));
    for pusher in &mut pushers {
        for manifest in std::mem::take(&mut pusher.kept) {
            assert!(pusher.check(&manifest).await.is_ok(), "no answer: {}", replicas[0].log());
            kept += 1;
        }
    }
    replicas.truncate(1);
    quiet(&mut replicas[0]).await;
    told.add(operations[0]).await;
    let counts = &soak.counts;
    eprintln!(
        "{store:?}, promises of {promise} s: {counts:?}; {kept} manifests whole, {kills} kills; {} passes, {} marked, \
         {} removed, {} deleted, {} bytes freed",
        told.of("passes"),
        told.of("marked"),
        told.of("removed"),
        told.of("deleted"),
        told.of("deleted_bytes"),
    );
    for (what, count) in [("operations", &counts.operations), ("manifests", &counts.manifests)] {
        assert!(count.load(Ordering::Relaxed) > 50, "too few {what}: {counts:?}");
    }
    for name in ["passes", "marked", "removed", "deleted"] {
        assert!(told.of(name) > 0, "collection did nothing: {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_hurt_on_a_bucket_where_promises_last_for_nothing() {
    soak(Store::Minio, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_hurt_on_a_bucket_where_promises_last_for_seconds() {
    soak(Store::Minio, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_hurt_on_a_folder_where_promises_last_for_nothing() {
    soak(Store::Local, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_hurt_on_a_folder_where_promises_last_for_seconds() {
    soak(Store::Local, 4).await;
}
