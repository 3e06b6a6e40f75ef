//! What was acknowledged survives a kill at any instant, and what was not is never half there.
//!
//! Clients push everything a registry takes, the server is killed at a random instant, and after it has started on the same
//! store every client compares what it was told with what is there, and goes on. `HYTHE_KILLS=200` asks for more rounds,
//! `HYTHE_SEED` repeats a failure as far as timing allows.

use std::{collections::HashMap, env, time::Duration};

use bytes::Bytes;
use conformance::{
    AccountUnderTest, Answer, Caller, Harness, Request, Store,
    fixture::{Algorithm, Content, media},
    push,
};
use futures::future::join_all;
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::json;
use sha2::Digest as _;

const CLIENTS: usize = 4;
const REPOSITORIES: [&str; 2] = ["acme/web", "acme/batch"];
const LARGEST: usize = 8 << 20;

/// A blob or manifest that somebody tried to push.
#[derive(Debug, Clone)]
struct Attempt {
    repository: &'static str,
    content: Content,
    descriptor: serde_json::Value,
    /// Whether the registry said that it has it.
    acknowledged: bool,
}

impl Attempt {
    fn new(repository: &'static str, content: &Content) -> Self {
        Self { repository, content: content.clone(), descriptor: content.descriptor(), acknowledged: false }
    }
}

/// An upload that the kill interrupted.
#[derive(Debug, Clone)]
struct Interrupted {
    repository: &'static str,
    content: Content,
    location: String,
    /// Bytes that were acknowledged.
    acknowledged: usize,
    /// Bytes that were sent, acknowledged or not.
    sent: usize,
    /// Whether the closing request was sent.
    closing: bool,
}

/// What one client did and was told.
struct Ledger {
    caller: Caller,
    name: String,
    random: StdRng,
    blobs: Vec<Attempt>,
    manifests: Vec<Attempt>,
    /// Every move of a tag that only this client moves, in order: digest, acknowledged.
    tags: HashMap<(&'static str, String), Vec<(String, bool)>>,
    interrupted: Option<Interrupted>,
    /// Where the blobs and the manifests of this round begin.
    round: (usize, usize),
}

/// The connection broke: the server was killed.
struct Killed;

impl Ledger {
    fn new(caller: Caller, seed: u64, client: usize) -> Self {
        Self {
            caller,
            name: format!("client-{client}"),
            random: StdRng::seed_from_u64(seed ^ ((client as u64 + 1) << 32)),
            blobs: Vec::new(),
            manifests: Vec::new(),
            tags: HashMap::new(),
            interrupted: None,
            round: (0, 0),
        }
    }

    /// Pushes until the server is gone.
    async fn run(&mut self) {
        loop {
            let done = match self.random.random_range(0..100) {
                0..20 => self.whole().await,
                20..40 => self.chunked().await,
                40..60 => self.single().await,
                60..70 => self.mount().await,
                _ => self.manifest().await,
            };
            if done.is_err() {
                return;
            }
        }
    }

    async fn send(&self, request: Request, expected: u16) -> Result<Answer, Killed> {
        match self.caller.try_send(request).await {
            Ok(answer) => Ok(answer.expect(expected)),
            Err(_broken) => Err(Killed),
        }
    }

    fn fresh_content(&mut self) -> Content {
        let size = match self.random.random_range(0..100) {
            0..10 => 0,
            10..50 => self.random.random_range(2..4096),
            50..90 => self.random.random_range(4096..512 << 10),
            _ => self.random.random_range(512 << 10..=LARGEST),
        };
        let mut bytes = vec![0; size];
        self.random.fill_bytes(&mut bytes);
        let algorithm = if self.random.random_bool(0.2) { Algorithm::Sha512 } else { Algorithm::Sha256 };
        Content::new(algorithm, "application/octet-stream", bytes)
    }

    fn repository(&mut self) -> &'static str {
        REPOSITORIES.choose(&mut self.random).copied().unwrap_or_default()
    }

    /// Notes an attempt before its first byte is sent.
    fn attempt(&mut self, repository: &'static str, content: &Content) -> usize {
        self.blobs.push(Attempt::new(repository, content));
        self.blobs.len() - 1
    }

    async fn open(&mut self, repository: &'static str, content: &Content) -> Result<String, Killed> {
        let opened = self.send(Request::post(format!("/v2/{repository}/blobs/uploads/")), 202).await?;
        let location = push::location(&opened);
        self.interrupted = Some(Interrupted {
            repository,
            content: content.clone(),
            location: location.clone(),
            acknowledged: 0,
            sent: 0,
            closing: false,
        });
        Ok(location)
    }

    fn note(&mut self, change: impl FnOnce(&mut Interrupted)) {
        change(self.interrupted.as_mut().expect("an upload is under way"));
    }

    /// `POST`, then `PUT` with everything.
    async fn whole(&mut self) -> Result<(), Killed> {
        let (repository, content) = (self.repository(), self.fresh_content());
        let attempt = self.attempt(repository, &content);
        let location = self.open(repository, &content).await?;
        self.note(|upload| (upload.sent, upload.closing) = (content.size(), true));
        let put = Request::put(push::with_digest(&location, &content.digest)).body(content.bytes.clone());
        self.send(put, 201).await?;
        self.finished(attempt);
        Ok(())
    }

    /// `POST`, some `PATCH`es, `PUT`.
    async fn chunked(&mut self) -> Result<(), Killed> {
        let (repository, content) = (self.repository(), self.fresh_content());
        let attempt = self.attempt(repository, &content);
        let mut location = self.open(repository, &content).await?;
        let mut offset = 0;
        while offset < content.size() {
            let most = content.size() - offset;
            // Two bytes at least: `Range: 0-0` is one byte or none.
            let size = self.random.random_range(most.min(2).max(most / 4)..=most);
            let bytes = content.bytes.slice(offset..offset + size);
            self.note(|upload| upload.sent = offset + size);
            let sent = self.send(push::chunk_request(http::Method::PATCH, &location, offset, bytes), 202).await?;
            location = push::location(&sent);
            offset += size;
            self.note(|upload| (upload.acknowledged, upload.location) = (offset, location.clone()));
        }
        self.note(|upload| upload.closing = true);
        self.send(Request::put(push::with_digest(&location, &content.digest)), 201).await?;
        self.finished(attempt);
        Ok(())
    }

    /// `POST ?digest=`.
    async fn single(&mut self) -> Result<(), Killed> {
        let (repository, content) = (self.repository(), self.fresh_content());
        let attempt = self.attempt(repository, &content);
        let post = Request::post(format!("/v2/{repository}/blobs/uploads/?digest={}", content.digest));
        self.send(post.body(content.bytes.clone()), 201).await?;
        self.finished(attempt);
        Ok(())
    }

    /// A mount of what this client has pushed in this round, into the other repository.
    async fn mount(&mut self) -> Result<(), Killed> {
        let round = self.blobs.iter().skip(self.round.0);
        let known: Vec<_> = round.filter(|blob| blob.acknowledged).cloned().collect();
        let Some(source) = known.choose(&mut self.random) else { return Ok(()) };
        let target = REPOSITORIES.into_iter().find(|name| *name != source.repository).unwrap_or_default();
        let attempt = self.attempt(target, &source.content);
        let (digest, from) = (&source.content.digest, source.repository);
        let post = Request::post(format!("/v2/{target}/blobs/uploads/?mount={digest}&from={from}"));
        self.send(post, 201).await?;
        self.finished(attempt);
        Ok(())
    }

    /// A manifest of blobs that are acknowledged, by digest, or under one of this client's tags or one that all move.
    async fn manifest(&mut self) -> Result<(), Killed> {
        let repository = self.repository();
        let known: Vec<_> =
            self.blobs.iter().filter(|b| b.acknowledged && b.repository == repository).cloned().collect();
        let blobs: Vec<_> = known.choose_multiple(&mut self.random, 3).collect();
        let Some(config) = blobs.first() else { return Ok(()) };
        let document = json!({
            "schemaVersion": 2,
            "mediaType": media::OCI_MANIFEST,
            "config": config.descriptor,
            "layers": blobs.iter().map(|blob| &blob.descriptor).collect::<Vec<_>>(),
            "annotations": {"by": self.name, "nonce": self.random.next_u64().to_string()},
        });
        let manifest = Content::new(Algorithm::Sha256, media::OCI_MANIFEST, document.to_string());
        self.manifests.push(Attempt::new(repository, &manifest));
        let reference = match self.random.random_range(0..6) {
            0 | 1 => manifest.digest.clone(),
            2 => "latest".to_owned(),
            number => format!("{}-{number}", self.name),
        };
        let moved = (repository, reference.clone());
        if reference.starts_with(&self.name) {
            self.tags.entry(moved.clone()).or_default().push((manifest.digest.clone(), false));
        }
        self.send(push::manifest_request(repository, &reference, &manifest), 201).await?;
        self.manifests.last_mut().expect("just pushed").acknowledged = true;
        if let Some((_, acknowledged)) = self.tags.get_mut(&moved).and_then(|moves| moves.last_mut()) {
            *acknowledged = true;
        }
        Ok(())
    }

    fn finished(&mut self, attempt: usize) {
        self.blobs[attempt].acknowledged = true;
        self.interrupted = None;
    }

    /// Compares everything since `(blob, manifest)`, and every tag, with what is there now.
    async fn check(&self, (blobs, manifests): (usize, usize)) {
        for blob in self.blobs.iter().skip(blobs) {
            let path = format!("/v2/{}/blobs/{}", blob.repository, blob.content.digest);
            is_true_or_absent(&self.caller, &path, blob).await;
        }
        for manifest in self.manifests.iter().skip(manifests) {
            let path = format!("/v2/{}/manifests/{}", manifest.repository, manifest.content.digest);
            is_true_or_absent(&self.caller, &path, manifest).await;
        }
        for ((repository, tag), moves) in &self.tags {
            let answer = self.caller.send(Request::get(format!("/v2/{repository}/manifests/{tag}"))).await;
            let last = moves.iter().rposition(|(_, acknowledged)| *acknowledged);
            if last.is_none() && answer.status == 404 {
                continue;
            }
            let digest = hashes_to_its_name(&answer.expect(200));
            let possible = moves.get(last.unwrap_or_default()..).unwrap_or_default();
            assert!(
                possible.iter().any(|(moved, _)| *moved == digest),
                "{repository}:{tag} is {digest}, not {possible:?}"
            );
        }
    }

    /// Goes on with the upload that was interrupted, as the specification says, and pushes again what had no session; both end
    /// with the same content.
    async fn resume(&mut self) {
        if let Some(upload) = self.interrupted.take() {
            let finished = resumed(&self.caller, &upload).await;
            let there = self.caller.send(Request::get(push::location(&finished))).await.expect(200);
            assert!(there.body == upload.content.bytes, "{} differs after it was resumed", upload.content.digest);
        }
        for blob in self.blobs.iter_mut().filter(|blob| !blob.acknowledged) {
            let pushed = push::blob(&self.caller, blob.repository, &blob.content).await;
            let there = self.caller.send(Request::get(push::location(&pushed))).await.expect(200);
            assert!(there.body == blob.content.bytes, "{} differs after it was pushed again", blob.content.digest);
            blob.acknowledged = true;
        }
    }

    /// Begins a new round. Bytes would pile up over many of them: of what is there, the digest is kept.
    fn next_round(&mut self) {
        for attempt in self.blobs.iter_mut().chain(&mut self.manifests) {
            attempt.content.bytes = Bytes::new();
        }
        self.round = (self.blobs.len(), self.manifests.len());
    }
}

/// Goes on where the session stands: status, the rest, the closing `PUT`.
async fn resumed(caller: &Caller, upload: &Interrupted) -> Answer {
    let Interrupted { repository, content, location, .. } = upload;
    let status = caller.send(Request::get(location.clone())).await;
    if status.status == 204 {
        let offset = match status.header("range").split_once('-') {
            Some((_, "0")) | None => 0,
            Some((_, last)) => last.parse::<usize>().expect("a number") + 1,
        };
        let told = upload.acknowledged..=upload.sent;
        assert!(told.contains(&offset), "the session stands at {offset}, not within {told:?}");
        let mut location = push::location(&status);
        if offset < content.size() {
            let rest = content.bytes.slice(offset..);
            location = push::location(&push::chunk(caller, &location, offset, rest).await.expect(202));
        }
        return push::commit(caller, &location, &content.digest).await.expect(201);
    }
    // Only an upload whose closing request was under way may have ended.
    let status = status.refused(404, "BLOB_UPLOAD_UNKNOWN");
    assert!(upload.closing, "an open upload is gone: {}", status.text());
    let again = push::commit(caller, location, &content.digest).await;
    if again.status == 201 { again } else { push::blob(caller, repository, content).await }
}

/// The digest that an answer carries, which is that of its bytes.
fn hashes_to_its_name(answer: &Answer) -> String {
    let digest = answer.header("docker-content-digest").to_owned();
    let actual = Algorithm::Sha256.digest(&answer.body);
    assert_eq!(actual, digest, "a manifest's name");
    digest
}

async fn is_true_or_absent(caller: &Caller, path: &str, attempt: &Attempt) {
    let answer = caller.send(Request::get(path)).await;
    if answer.status == 404 && !attempt.acknowledged {
        return;
    }
    let answer = answer.expect(200);
    let actual = match attempt.content.digest.split_once(':') {
        Some(("sha512", _)) => format!("sha512:{}", hex::encode(sha2::Sha512::digest(&answer.body))),
        _ => Algorithm::Sha256.digest(&answer.body),
    };
    assert_eq!(actual, attempt.content.digest, "{path}");
}

/// The tag that all clients move points at a manifest that is there.
async fn shared_tag(acme: &Caller, ledgers: &[Ledger]) {
    for repository in REPOSITORIES {
        let answer = acme.send(Request::get(format!("/v2/{repository}/manifests/latest"))).await;
        if answer.status == 404 {
            continue;
        }
        let digest = hashes_to_its_name(&answer.expect(200));
        let known = ledgers.iter().flat_map(|ledger| &ledger.manifests);
        assert!(
            known.into_iter().any(|m| m.content.digest == digest),
            "{repository}:latest is {digest}, pushed by nobody"
        );
    }
}

/// A number from the environment, or what is usual.
fn asked(variable: &str, usual: u64) -> u64 {
    env::var(variable)
        .ok()
        .map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number: {text}")))
}

async fn kill_again_and_again(store: Store, rounds: u64) {
    let seed = asked("HYTHE_SEED", rand::rng().next_u64());
    eprintln!("{store:?}, {rounds} kills; repeat with HYTHE_SEED={seed}");
    let mut harness = Harness::on(store).await;
    let caller = push_caller(&harness.account("acme").await).await;
    let mut random = StdRng::seed_from_u64(seed);
    let mut ledgers: Vec<_> = (0..CLIENTS).map(|client| Ledger::new(caller.clone(), seed, client)).collect();
    let (mut claims, mut resumed) = (0, 0);
    for round in 0..rounds {
        let instant = Duration::from_micros(random.random_range(1_000..250_000));
        {
            let mut running = Box::pin(join_all(ledgers.iter_mut().map(Ledger::run)));
            let ended = tokio::time::timeout(instant, &mut running).await;
            assert!(ended.is_err(), "the clients stopped before the kill of round {round}: {}", harness.log());
            harness.kill();
            running.await;
        }
        if store == Store::Minio {
            // The dead server's claims on uploads last 45 seconds, where no lock of a kernel ends with it.
            claims += 60;
            harness.set_clock(claims);
        }
        harness.boot().await;
        for ledger in &mut ledgers {
            ledger.check(ledger.round).await;
            resumed += usize::from(ledger.interrupted.is_some());
            ledger.resume().await;
        }
        shared_tag(&caller, &ledgers).await;
        for ledger in &mut ledgers {
            ledger.next_round();
        }
    }
    for ledger in &ledgers {
        ledger.check((0, 0)).await;
    }
    harness.hythe(&["verify"]).await.says(": 0 problems");
    let blobs: usize = ledgers.iter().map(|ledger| ledger.blobs.len()).sum();
    let manifests: usize = ledgers.iter().map(|ledger| ledger.manifests.len()).sum();
    eprintln!("{blobs} blobs, {manifests} manifests, {resumed} uploads resumed");
    assert!(blobs > 0 && manifests > 0, "nothing was ever pushed");
}

async fn push_caller(acme: &AccountUnderTest<'_>) -> Caller {
    acme.caller(&acme.push().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kills_on_a_folder() {
    kill_again_and_again(Store::Local, asked("HYTHE_KILLS", 30)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kills_on_a_bucket() {
    kill_again_and_again(Store::Minio, asked("HYTHE_KILLS", 8)).await;
}
