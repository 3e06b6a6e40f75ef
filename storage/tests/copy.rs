//! The copier over in-memory stores: whichever call dies, the next run ends with the same store, and what is the source's stays
//! the source's.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a suite of tests")]

use std::sync::Arc;

use chrono::TimeDelta;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use storage::{
    Account, Algorithm, Deletable, Digest, Error, Readable, Reference, Repository, Settings, Store, UploadKeys,
    Writable,
    backend::{
        Bytes, Records,
        memory::{Faults, MemoryBytes, MemoryRecords},
        testing,
    },
    blob,
    clock::ManualClock,
    copy::{Aim, Copier, Half, Options, Report, Told},
    format::{self, Mode, State},
    key,
    manifest::{self, OCI_MANIFEST},
    record, tag,
    upload::{self, Incoming},
    verify,
};

#[derive(Serialize, Deserialize)]
struct Install {
    id: String,
}

struct World {
    store: Store,
    records: Arc<MemoryRecords>,
    bytes: Arc<MemoryBytes>,
    clock: Arc<ManualClock>,
    account: Account,
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at("2026-11-21T12:00:00Z".parse().unwrap()))
}

fn store_over(records: &Arc<MemoryRecords>, bytes: &Arc<MemoryBytes>, clock: &Arc<ManualClock>) -> Store {
    Store::new(
        records.clone(),
        bytes.clone(),
        clock.clone(),
        UploadKeys::new([&b"key"[..]]),
        Settings::default(),
        tokio_util::task::TaskTracker::new(),
    )
}

fn opener() -> storage::Opener {
    "0000000000000001".parse().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a test may name an account and make capabilities")]
impl World {
    async fn new(bytes: MemoryBytes) -> Self {
        let clock = clock();
        let records = Arc::new(MemoryRecords::new(clock.clone()));
        let bytes = Arc::new(bytes);
        format::open(&*records, Mode::Local, format::Purpose::Use).await.unwrap();
        record::create(&*records, &key::install(), Install { id: "one".into() }).await.unwrap();
        let account = testing::living_account(&*records).await;
        let store = store_over(&records, &bytes, &clock);
        Self { store, records, bytes, clock, account }
    }

    fn repository(&self, name: &str) -> Repository {
        Repository::new(self.account.clone(), name.parse().unwrap()).unwrap()
    }

    fn writable(&self, name: &str) -> Writable {
        Writable::new(self.repository(name))
    }

    fn readable(&self, name: &str) -> Readable {
        Readable::new(self.repository(name))
    }

    fn deletable(&self, name: &str) -> Deletable {
        Deletable::new(self.repository(name))
    }

    async fn blob(&self, repository: &str, data: &[u8]) -> Digest {
        let digest = Digest::of(Algorithm::Sha256, data);
        let frames: Vec<_> = data.chunks(100_000).map(|c| Ok(bytes::Bytes::copy_from_slice(c))).collect();
        let body =
            Incoming { body: Box::pin(futures::stream::iter(frames)), length: Some(data.len() as u64), start: None };
        upload::push(&self.store, &self.writable(repository), &digest, opener(), body).await.unwrap();
        digest
    }

    async fn image(&self, repository: &str, tag: &str, layer: &Digest) -> Digest {
        let config = self.blob(repository, format!("{{\"of\":\"{tag}\"}}").as_bytes()).await;
        let bytes: bytes::Bytes = serde_json::to_vec(&serde_json::json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2 },
            "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 3 }],
        }))
        .unwrap()
        .into();
        let push = manifest::Push {
            reference: tag.parse().unwrap(),
            tags: Vec::new(),
            content_type: OCI_MANIFEST.into(),
            bytes,
            by: "test".into(),
        };
        manifest::put(&self.store, &self.writable(repository), push).await.unwrap().digest
    }

    /// Two repositories that share a layer, one of them with a blob in several parts.
    async fn filled(bytes: MemoryBytes) -> Self {
        let world = Self::new(bytes).await;
        let shared = world.blob("acme/app", &pattern(3 << 20, 1)).await;
        world.image("acme/app", "v1", &shared).await;
        let own = world.blob("acme/app", &pattern(70_000, 2)).await;
        world.image("acme/app", "v2", &own).await;
        storage::mount(&world.store, &world.writable("acme/other"), &world.readable("acme/app"), &shared)
            .await
            .unwrap()
            .unwrap();
        world.image("acme/other", "v1", &shared).await;
        world.blob("acme/other", b"").await;
        world
    }

    fn half(&self) -> Half {
        Half { records: self.records.clone(), bytes: self.bytes.clone() }
    }

    async fn page(&self, prefix: &key::Prefix) -> Vec<String> {
        let page = self.records.page(prefix, None, 10_000).await.unwrap();
        page.into_iter().map(|entry| entry.name).collect()
    }

    async fn data(&self) -> usize {
        self.bytes.page(self.account.generation(), None, 10_000).await.unwrap().len()
    }

    /// A store for a copy of this one, with its account.
    fn target(&self, bytes: MemoryBytes) -> Self {
        let records = Arc::new(MemoryRecords::new(self.clock.clone()));
        let bytes = Arc::new(bytes);
        let store = store_over(&records, &bytes, &self.clock);
        Self { store, records, bytes, clock: self.clock.clone(), account: self.account.clone() }
    }

    /// Of one of the four halves of a copy to `target`.
    fn faults<'a>(&'a self, target: &'a Self, half: usize) -> &'a Faults {
        match half {
            0 => self.records.faults(),
            1 => self.bytes.faults(),
            2 => target.records.faults(),
            _ => target.bytes.faults(),
        }
    }

    /// One run of a backup to `target`.
    async fn copy_to(&self, target: &Self) -> Result<(Report, Vec<String>), Error> {
        let told = Mutex::new(Vec::new());
        let hear = |heard: Told| told.lock().push(format!("{}: {}", heard.place, heard.what));
        let options = Options {
            aim: Aim::Backup,
            source_mode: Mode::Local,
            target_mode: Mode::Local,
            place: "here",
            promise_life: TimeDelta::hours(24),
            told: &hear,
        };
        let (source, into) = (self.half(), target.half());
        let copier = Copier::begin(&source, &into, &*self.clock, options).await?;
        copier.held(copier.pass()).await?;
        copier.open().await?;
        let report = copier.report();
        Ok((report, told.into_inner()))
    }

    /// What this store and a copy of it must have in common, key by key.
    async fn is_copied_in(&self, target: &Self) {
        for name in ["acme/app", "acme/other"] {
            let repository = self.repository(name);
            for prefix in [key::tags(&repository), key::tagged_all(&repository), key::manifests(&repository)] {
                let names = self.page(&prefix).await;
                assert_eq!(names, target.page(&prefix).await, "{prefix}");
                for name in names {
                    let key = prefix.record(&name);
                    let [here, there] = [self.records.get(&key).await, target.records.get(&key).await]
                        .map(|f| f.unwrap().unwrap().body);
                    assert_eq!(here, there, "{key}");
                }
            }
            let members = key::members(&repository);
            assert_eq!(self.page(&members).await, target.page(&members).await);
        }
        let mut problems = Vec::new();
        let report = verify::everything(&target.store, &mut |met| problems.push(met)).await.unwrap();
        assert_eq!((problems, report.problems, report.unnamed), (Vec::new(), 0, 0));
    }
}

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| u32::try_from(i).unwrap().wrapping_mul(2_654_435_761).to_le_bytes()[3] ^ seed).collect()
}

/// Both ways in which bytes come into a store.
fn both() -> [MemoryBytes; 2] {
    [MemoryBytes::growing(), MemoryBytes::in_parts(1 << 20)]
}

#[tokio::test]
async fn a_copy_is_what_its_source_was() {
    for from in both() {
        let world = World::filled(from).await;
        for into in both() {
            let target = world.target(into);
            let (report, told) = world.copy_to(&target).await.unwrap();
            assert_eq!((report.problems, report.left_out, told), (0, 0, Vec::new()));
            assert_eq!((report.repositories, report.blobs), (2, 5));
            world.is_copied_in(&target).await;
            assert_eq!(format::state(&*target.records).await.unwrap(), State::Open);
            assert!(target.page(&key::holds()).await.is_empty() && world.page(&key::holds()).await.is_empty());
            // The share of the mounted layer is there, so that neither repository takes it from the other.
            let mut shares = 0;
            for x in target.bytes.page(world.account.generation(), None, 100).await.unwrap() {
                shares += target.page(&key::shares(&x)).await.len();
            }
            assert_eq!(shares, 2);
            let manifest =
                manifest::get(&target.store, &target.readable("acme/app"), &"v1".parse::<Reference>().unwrap()).await;
            assert_eq!(manifest.unwrap().references.len(), 2);
        }
    }
}

#[tokio::test]
async fn whichever_call_dies_the_next_run_ends_with_the_same_store() {
    for (from, into) in both().into_iter().zip([MemoryBytes::in_parts(1 << 20), MemoryBytes::growing()]) {
        let world = World::filled(from).await;
        let target = world.target(into);
        let mut deaths = 0;
        // Each run may make one more call of one of the four halves than the run before it.
        for step in 0.. {
            for half in 0..4 {
                let faults = world.faults(&target, half);
                world.clock.advance(std::time::Duration::from_secs(1));
                faults.die_after(step);
                let outcome = world.copy_to(&target).await;
                let died = outcome.is_err();
                faults.heal();
                deaths += u32::from(died);
                if died && format::state(&*target.records).await.is_ok_and(|state| state == State::Open) {
                    // It died after the end: everything is there.
                    world.is_copied_in(&target).await;
                }
            }
            if step > 400 {
                break;
            }
        }
        assert!(deaths > 100, "{deaths}");
        let (report, told) = world.copy_to(&target).await.unwrap();
        assert_eq!((report.problems, told), (0, Vec::new()));
        world.is_copied_in(&target).await;
    }
}

#[tokio::test]
async fn every_step_of_a_first_run_may_be_its_last() {
    let world = World::filled(MemoryBytes::growing()).await;
    for half in 0..4 {
        for step in 0.. {
            world.clock.advance(std::time::Duration::from_secs(1));
            let target = world.target(MemoryBytes::in_parts(1 << 20));
            world.faults(&target, half).die_after(step);
            let whole = world.copy_to(&target).await.is_ok();
            world.faults(&target, half).heal();
            if whole {
                assert!(step >= 5, "half {half} makes {step} calls");
                break;
            }
            // Until a run has ended nobody takes it for whole.
            let state = format::state(&*target.records).await;
            assert!(matches!(state, Ok(State::Filling) | Err(Error::Refused(_))), "{half} {step}: {state:?}");
            world.clock.advance(std::time::Duration::from_secs(1));
            world.copy_to(&target).await.unwrap();
            world.is_copied_in(&target).await;
        }
    }
}

#[tokio::test]
async fn a_repeated_copy_brings_what_changed_and_takes_what_went() {
    let world = World::filled(MemoryBytes::growing()).await;
    let target = world.target(MemoryBytes::in_parts(1 << 20));
    world.clock.advance(std::time::Duration::from_secs(1));
    world.copy_to(&target).await.unwrap();
    world.clock.advance(std::time::Duration::from_secs(1));
    let (report, _) = world.copy_to(&target).await.unwrap();
    assert_eq!((report.records, report.removed, report.blobs), (0, 0, 0));

    let before = target.data().await;
    let fresh = world.blob("acme/app", b"fresh").await;
    let first = world.image("acme/app", "v1", &fresh).await;
    let old = tag::get(&world.store, &world.readable("acme/app"), &"v2".parse().unwrap()).await.unwrap().digest;
    let layers =
        manifest::get(&world.store, &world.readable("acme/app"), &Reference::Digest(old.clone())).await.unwrap();
    manifest::delete(&world.store, &world.deletable("acme/app"), &old).await.unwrap();
    for layer in &layers.references {
        blob::delete(&world.store, &world.deletable("acme/app"), &layer.digest).await.unwrap();
    }
    let (report, told) = world.copy_to(&target).await.unwrap();
    assert_eq!((report.blobs, told), (1, Vec::new()));
    assert!(report.removed >= 4, "{report:?}");
    world.is_copied_in(&target).await;
    // One came, two went.
    assert_eq!(target.data().await, before - 1);
    let there = tag::get(&target.store, &target.readable("acme/app"), &"v1".parse().unwrap()).await.unwrap();
    assert_eq!(there.digest, first);
}

#[tokio::test]
async fn a_repository_that_is_gone_goes_from_the_copy_but_what_it_shared_stays() {
    let world = World::filled(MemoryBytes::growing()).await;
    let target = world.target(MemoryBytes::growing());
    world.copy_to(&target).await.unwrap();
    storage::repository::delete(&world.store, &world.deletable("acme/app"), None).await.unwrap();
    while storage::repository::finish_deletions(&world.store, true).await.unwrap().left > 0 {}
    world.copy_to(&target).await.unwrap();
    assert_eq!(target.page(&key::repositories(&world.account)).await, ["other"]);
    world.is_copied_in(&target).await;
}

#[tokio::test]
async fn what_does_not_hash_to_its_digest_is_listed_and_left_out() {
    let world = World::filled(MemoryBytes::growing()).await;
    let broken = world.blob("acme/app", b"to be broken").await;
    let lost = world.blob("acme/app", b"to be lost").await;
    for (digest, replaced) in [(&broken, Some(&b"has been brokn"[..12])), (&lost, None)] {
        let member = world.records.get(&key::member(&world.repository("acme/app"), digest)).await.unwrap().unwrap();
        let x = serde_json::from_slice::<serde_json::Value>(&member.body).unwrap()["x"].as_str().unwrap().to_owned();
        let x = key::DataId::parse(world.account.generation(), &x).unwrap();
        world.bytes.delete(&x).await.unwrap();
        if let Some(other) = replaced {
            let saved = world.bytes.begin(&x, true, None).await.unwrap();
            let mut upload = world.bytes.open(&x, &saved, 0, None).await.unwrap();
            upload.append(bytes::Bytes::copy_from_slice(other)).await.unwrap();
            upload.checkpoint(true).await.unwrap();
            upload.finish(other.len() as u64).await.unwrap();
        }
    }
    let target = world.target(MemoryBytes::in_parts(1 << 20));
    let (report, mut told) = world.copy_to(&target).await.unwrap();
    told.sort_unstable();
    assert_eq!(report.problems, 2);
    let mut expected =
        [format!("acme/app: blob {broken} does not hash to its digest"), format!("acme/app: blob {lost} has no bytes")];
    expected.sort_unstable();
    for (line, expected) in told.iter().zip(expected) {
        assert!(line.starts_with(&expected), "{line}");
    }
    let there = target.page(&key::members(&target.repository("acme/app"))).await;
    assert!(!there.contains(&broken.dashed()) && !there.contains(&lost.dashed()));
}

#[tokio::test]
async fn a_tag_whose_manifest_was_lost_is_left_out_and_said_so() {
    let world = World::filled(MemoryBytes::growing()).await;
    let repository = world.repository("acme/app");
    let digest = tag::get(&world.store, &world.readable("acme/app"), &"v1".parse().unwrap()).await.unwrap().digest;
    let found = world.records.get(&key::manifest(&repository, &digest)).await.unwrap().unwrap();
    world.records.remove(&key::manifest(&repository, &digest), &found.version).await.unwrap();
    let target = world.target(MemoryBytes::growing());
    let (report, told) = world.copy_to(&target).await.unwrap();
    assert_eq!((report.left_out, report.problems), (1, 0));
    assert_eq!(told, [format!("acme/app: tag v1 points at {digest}, which is not there: left out")]);
    assert_eq!(target.page(&key::tags(&repository)).await, ["v2"]);
}

#[tokio::test]
async fn a_store_of_its_own_and_a_copy_of_another_registry_are_not_written_over() {
    let world = World::filled(MemoryBytes::growing()).await;
    let own = World::filled(MemoryBytes::growing()).await;
    let refused = |outcome: Result<_, Error>| match outcome {
        Err(Error::Refused(line)) => line,
        other => panic!("{:?}", other.map(|_: (Report, Vec<String>)| ())),
    };
    assert!(refused(world.copy_to(&own).await).contains("a registry of its own"));
    let target = world.target(MemoryBytes::growing());
    world.copy_to(&target).await.unwrap();
    let mut install = record::read::<Install>(&*own.records, &key::install()).await.unwrap().unwrap();
    install.value.id = "another".into();
    record::update(&*own.records, &key::install(), &mut install).await.unwrap();
    assert!(refused(own.copy_to(&target).await).contains("a copy of another registry"));
    let empty = world.target(MemoryBytes::growing());
    assert!(refused(empty.copy_to(&target).await).contains("nothing to copy"));
}
