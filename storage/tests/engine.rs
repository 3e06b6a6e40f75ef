//! The engine over in-memory stores that fail on command: what was acknowledged is there, what was not can be resumed, and
//! nothing half-written is readable, whichever call dies.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a suite of tests")]

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt};
use storage::{
    Account, Algorithm, Deletable, Digest, Error, Generation, Opener, Readable, Reference, Repository, Settings, Store,
    Tag, UploadKeys, Writable,
    backend::memory::{Fault, MemoryBytes, MemoryRecords},
    blob,
    clock::ManualClock,
    manifest::{self, OCI_MANIFEST},
    referrer,
    stream::ByteStream,
    tag,
    upload::{self, Incoming},
};

struct World {
    store: Store,
    records: Arc<MemoryRecords>,
    bytes: Arc<MemoryBytes>,
    clock: Arc<ManualClock>,
    account: Account,
}

/// Both ways in which a backend admits one writer: growing files under a lock, parts under a claim in the document.
fn worlds() -> Vec<World> {
    [MemoryBytes::growing(), MemoryBytes::in_parts(1 << 20)].into_iter().map(World::new).collect()
}

#[expect(clippy::disallowed_methods, reason = "a test may name an account and make capabilities")]
impl World {
    fn new(bytes: MemoryBytes) -> Self {
        let clock = Arc::new(ManualClock::at("2026-11-21T12:00:00Z".parse().unwrap()));
        let records = Arc::new(MemoryRecords::new(clock.clone()));
        let bytes = Arc::new(bytes);
        let store = Store::new(
            records.clone(),
            bytes.clone(),
            clock.clone(),
            UploadKeys::new([&b"key"[..]]),
            Settings::default(),
            tokio_util::task::TaskTracker::new(),
        );
        Self { store, records, bytes, clock, account: Account::new("acme".parse().unwrap(), Generation::random()) }
    }

    fn repository(&self, name: &str) -> Repository {
        Repository::new(self.account.clone(), name.parse().unwrap()).unwrap()
    }

    fn writable(&self) -> Writable {
        Writable::new(self.repository("acme/app"))
    }

    fn other(&self) -> Writable {
        Writable::new(self.repository("acme/other"))
    }

    fn readable(&self) -> Readable {
        Readable::new(self.repository("acme/app"))
    }

    fn deletable(&self) -> Deletable {
        Deletable::new(self.repository("acme/app"))
    }

    async fn content(&self, source: &Readable, digest: &Digest) -> Result<Vec<u8>, Error> {
        let content = blob::read(&self.store, source, digest, &|_| None).await?;
        let parts: Vec<bytes::Bytes> = content.stream.try_collect().await?;
        Ok(parts.concat())
    }

    async fn push_blob(&self, target: &Writable, data: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(Algorithm::Sha256, data);
        upload::push(&self.store, target, &digest, opener(), incoming(data, None)).await?;
        Ok(digest)
    }

    async fn open(&self, algorithm: Option<Algorithm>) -> storage::UploadId {
        let text = upload::open(&self.store, &self.writable(), algorithm, opener()).await.unwrap();
        upload::parse(&self.store, &self.writable(), &text).unwrap()
    }
}

fn opener() -> Opener {
    "0000000000000001".parse().unwrap()
}

/// A body in frames as a socket gives them.
fn body(data: &[u8]) -> ByteStream {
    let frames: Vec<_> = data.chunks(100_000).map(|c| Ok(bytes::Bytes::copy_from_slice(c))).collect();
    Box::pin(futures::stream::iter(frames))
}

fn incoming(data: &[u8], start: Option<u64>) -> Incoming {
    Incoming { body: body(data), length: Some(data.len() as u64), start }
}

/// A body whose client goes away after `data`.
fn broken(data: &[u8]) -> Incoming {
    let gone = futures::stream::once(async { Err(Error::unavailable("the client went away")) });
    Incoming { body: Box::pin(body(data).chain(gone)), length: None, start: None }
}

fn bytes_of(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| u32::try_from(i).unwrap().wrapping_mul(2_654_435_761).to_le_bytes()[3] ^ seed).collect()
}

fn image(config: &Digest, layer: &Digest) -> bytes::Bytes {
    serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2 },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 3 }],
    }))
    .unwrap()
    .into()
}

fn manifest_push(reference: &str, bytes: bytes::Bytes) -> manifest::Push {
    manifest::Push {
        reference: reference.parse().unwrap(),
        tags: Vec::new(),
        content_type: OCI_MANIFEST.into(),
        bytes,
        by: "test".into(),
    }
}

#[tokio::test]
async fn chunks_become_one_blob_whatever_their_sizes() {
    for world in worlds() {
        for sizes in [
            vec![0],
            vec![1],
            vec![3 << 20],
            vec![10, 2_000_000, 5, 1_048_576, 0, 700_000],
            vec![1 << 20; 3],
            vec![(1 << 20) + 16, 5],
        ] {
            for last_with_put in [false, true] {
                let data = bytes_of(sizes.iter().sum(), u8::from(last_with_put));
                let digest = Digest::of(Algorithm::Sha256, &data);
                let target = world.writable();
                let id = world.open(None).await;
                let mut at = 0;
                let chunks = if last_with_put { sizes.len() - 1 } else { sizes.len() };
                for size in &sizes[..chunks] {
                    let chunk = incoming(&data[at..at + size], Some(at as u64));
                    at += size;
                    assert_eq!(upload::append(&world.store, &target, &id, chunk).await.unwrap(), at as u64);
                    assert_eq!(upload::status(&world.store, &target, &id).await.unwrap(), at as u64);
                }
                upload::commit(&world.store, &target, &id, &digest, incoming(&data[at..], None)).await.unwrap();
                assert_eq!(world.content(&world.readable(), &digest).await.unwrap(), data);
                // A repeated commit is the same commit; anything else finds no session.
                upload::commit(&world.store, &target, &id, &digest, incoming(&[], None)).await.unwrap();
                let late = upload::append(&world.store, &target, &id, incoming(b"x", None)).await;
                assert!(matches!(late, Err(Error::NoUpload)), "{late:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_digest_that_lies_is_refused_and_the_session_goes_on() {
    for world in worlds() {
        let target = world.writable();
        let data = bytes_of(1_500_000, 2);
        let digest = Digest::of(Algorithm::Sha256, &data);
        let lie = Digest::of(Algorithm::Sha256, b"something else");
        let id = world.open(None).await;
        upload::append(&world.store, &target, &id, incoming(&data[..1_200_000], None)).await.unwrap();
        let answer = upload::commit(&world.store, &target, &id, &lie, incoming(&[], None)).await;
        assert!(matches!(answer, Err(Error::DigestMismatch { .. })), "{answer:?}");
        assert!(matches!(world.content(&world.readable(), &lie).await, Err(Error::NoRepository | Error::NoBlob)));
        upload::commit(&world.store, &target, &id, &digest, incoming(&data[1_200_000..], None)).await.unwrap();
        assert_eq!(world.content(&world.readable(), &digest).await.unwrap(), data);
    }
}

#[tokio::test]
async fn sha512_is_committed_announced_or_not() {
    for world in worlds() {
        for announced in [None, Some(Algorithm::Sha512)] {
            let target = world.writable();
            let data = bytes_of(2_345_678, 3);
            let digest = Digest::of(Algorithm::Sha512, &data);
            let id = world.open(announced).await;
            upload::append(&world.store, &target, &id, incoming(&data, None)).await.unwrap();
            upload::commit(&world.store, &target, &id, &digest, incoming(&[], None)).await.unwrap();
            assert_eq!(world.content(&world.readable(), &digest).await.unwrap(), data);

            let id = world.open(announced).await;
            upload::append(&world.store, &target, &id, incoming(&data[1..], None)).await.unwrap();
            let lie = upload::commit(&world.store, &target, &id, &digest, incoming(&[], None)).await;
            assert!(matches!(lie, Err(Error::DigestMismatch { .. })), "{lie:?}");
        }
    }
}

#[tokio::test]
async fn a_chunk_out_of_order_is_told_where_the_session_stands() {
    for world in worlds() {
        let target = world.writable();
        let id = world.open(None).await;
        upload::append(&world.store, &target, &id, incoming(&[7; 1000], Some(0))).await.unwrap();
        for start in [0, 999, 1001] {
            let answer = upload::append(&world.store, &target, &id, incoming(&[7; 10], Some(start))).await;
            assert!(matches!(answer, Err(Error::Gap { have: 1000 })), "{start}: {answer:?}");
        }
        assert_eq!(upload::append(&world.store, &target, &id, incoming(&[7; 10], Some(1000))).await.unwrap(), 1010);
    }
}

#[tokio::test]
async fn what_arrived_before_the_client_left_is_kept() {
    for world in worlds() {
        let target = world.writable();
        let data = bytes_of(3_000_000, 4);
        let id = world.open(None).await;
        assert!(upload::append(&world.store, &target, &id, broken(&data[..2_100_000])).await.is_err());
        assert_eq!(upload::status(&world.store, &target, &id).await.unwrap(), 2_100_000);
        let digest = Digest::of(Algorithm::Sha256, &data);
        let rest = incoming(&data[2_100_000..], Some(2_100_000));
        upload::append(&world.store, &target, &id, rest).await.unwrap();
        upload::commit(&world.store, &target, &id, &digest, incoming(&[], None)).await.unwrap();
        assert_eq!(world.content(&world.readable(), &digest).await.unwrap(), data);
    }
}

#[tokio::test]
async fn of_two_writers_one_is_refused() {
    for world in worlds() {
        let target = world.writable();
        let data = bytes_of(2_500_000, 5);
        let id = world.open(None).await;
        let (one, two) = tokio::join!(
            upload::append(&world.store, &target, &id, incoming(&data, Some(0))),
            upload::append(&world.store, &target, &id, incoming(&data, Some(0))),
        );
        let mut wins = 0;
        for answer in [one, two] {
            match answer {
                Ok(have) => {
                    wins += 1;
                    assert_eq!(have, data.len() as u64);
                }
                Err(Error::Gap { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(wins, 1);
        let digest = Digest::of(Algorithm::Sha256, &data);
        upload::commit(&world.store, &target, &id, &digest, incoming(&[], None)).await.unwrap();
        assert_eq!(world.content(&world.readable(), &digest).await.unwrap(), data);
    }
}

#[tokio::test]
async fn a_cancelled_or_foreign_or_old_session_is_no_session() {
    for world in worlds() {
        let target = world.writable();
        for with_data in [false, true] {
            let id = world.open(None).await;
            if with_data {
                upload::append(&world.store, &target, &id, incoming(&[1; 10], None)).await.unwrap();
            }
            upload::cancel(&world.store, &target, &id).await.unwrap();
            assert!(matches!(upload::status(&world.store, &target, &id).await, Err(Error::NoUpload)));
            assert!(matches!(upload::cancel(&world.store, &target, &id).await, Err(Error::NoUpload)));
            let answer = upload::append(&world.store, &target, &id, incoming(&[1; 10], None)).await;
            assert!(matches!(answer, Err(Error::NoUpload)), "{answer:?}");
        }
        let text = upload::open(&world.store, &target, None, opener()).await.unwrap();
        assert!(matches!(upload::parse(&world.store, &world.other(), &text), Err(Error::NoUpload)));
        world.clock.advance(Duration::from_hours(24 * 5 + 1));
        assert!(matches!(upload::parse(&world.store, &target, &text), Err(Error::NoUpload)));
    }
}

/// One push that dies at the call after `step` others, and is then finished by its client on the healed store. Says whether it
/// had been acknowledged before.
async fn dies_at(world: World, on_records: bool, step: u64, data: &[u8], first_chunk: usize) -> bool {
    let digest = Digest::of(Algorithm::Sha256, data);
    let target = world.writable();
    let faults = if on_records { world.records.faults() } else { world.bytes.faults() };
    let id = world.open(None).await;
    faults.die_after(step);
    let first = async {
        upload::append(&world.store, &target, &id, incoming(&data[..first_chunk], Some(0))).await?;
        upload::commit(&world.store, &target, &id, &digest, incoming(&data[first_chunk..], None)).await
    }
    .await;
    faults.heal();
    // Whoever held the claim is dead; where the document holds it, others wait for its end.
    world.clock.advance(Duration::from_mins(1));
    match world.content(&world.readable(), &digest).await {
        Ok(read) => assert_eq!(read, data, "step {step}"),
        Err(Error::NoBlob | Error::NoRepository) => assert!(first.is_err(), "step {step}: acknowledged and gone"),
        Err(other) => panic!("step {step}: {other:?}"),
    }
    match upload::status(&world.store, &target, &id).await {
        Ok(have) => {
            let rest = incoming(&data[usize::try_from(have).unwrap()..], Some(have));
            upload::append(&world.store, &target, &id, rest).await.unwrap();
        }
        // The commit had begun: it is only repeated.
        Err(Error::NoUpload) => {}
        Err(other) => panic!("step {step}: {other:?}"),
    }
    upload::commit(&world.store, &target, &id, &digest, incoming(&[], None)).await.unwrap();
    assert_eq!(world.content(&world.readable(), &digest).await.unwrap(), data, "step {step}");
    first.is_ok()
}

#[tokio::test]
async fn whatever_call_dies_the_push_can_be_finished_and_nothing_half_written_is_readable() {
    let data = bytes_of(2_300_000, 6);
    // A first chunk that is a whole object, and one that is more than a part.
    for (parts, first_chunk) in [(false, 1_400_000), (true, 200_000), (true, 1_400_000)] {
        for on_records in [true, false] {
            let mut step = 0;
            loop {
                let world = World::new(if parts { MemoryBytes::in_parts(1 << 20) } else { MemoryBytes::growing() });
                if dies_at(world, on_records, step, &data, first_chunk).await {
                    break;
                }
                step += 1;
                assert!(step < 200, "a push takes fewer calls than this");
            }
            assert!(step > 2, "the faults were not met");
        }
    }
}

/// A session on a bucket whose first chunk is a whole object, and whose second chunk's writer died after it had sent one part of
/// the new object.
async fn outgrown(data: &[u8], first_chunk: usize) -> (World, storage::UploadId) {
    let world = World::new(MemoryBytes::in_parts(1 << 20));
    let target = world.writable();
    let id = world.open(None).await;
    upload::append(&world.store, &target, &id, incoming(&data[..first_chunk], None)).await.unwrap();
    // The new object is begun, the first one read, a part put.
    world.bytes.faults().die_after(3);
    let chunk = incoming(&data[first_chunk..], None);
    assert!(upload::append(&world.store, &target, &id, chunk).await.is_err());
    world.bytes.faults().heal();
    world.clock.advance(Duration::from_mins(1));
    assert_eq!((world.bytes.unfinished(), first_chunk as u64), (1, have(&world, &id).await));
    (world, id)
}

async fn have(world: &World, id: &storage::UploadId) -> u64 {
    upload::status(&world.store, &world.writable(), id).await.unwrap()
}

#[tokio::test]
async fn wherever_writers_of_an_outgrown_session_die_no_parts_are_left() {
    let data = bytes_of(2_500_000, 8);
    let digest = Digest::of(Algorithm::Sha256, &data);
    for on_records in [true, false] {
        for step in 0..100 {
            let (world, id) = outgrown(&data, 200_000).await;
            let target = world.writable();
            let faults = if on_records { world.records.faults() } else { world.bytes.faults() };
            faults.die_after(step);
            let second = upload::append(&world.store, &target, &id, incoming(&data[200_000..], None)).await;
            faults.heal();
            world.clock.advance(Duration::from_mins(1));
            if second.is_err() {
                let at = usize::try_from(have(&world, &id).await).unwrap();
                upload::append(&world.store, &target, &id, incoming(&data[at..], None)).await.unwrap();
            }
            upload::commit(&world.store, &target, &id, &digest, incoming(&[], None)).await.unwrap();
            assert_eq!(world.content(&world.readable(), &digest).await.unwrap(), data, "{on_records} {step}");
            assert_eq!(world.bytes.unfinished(), 0, "{on_records} {step}");
            if second.is_ok() {
                assert!(step > 2, "the faults were not met");
                break;
            }
        }
    }
}

/// A session whose first chunk was a whole object is being read over when its writer dies; the next request brings nothing more.
#[tokio::test]
async fn what_was_acknowledged_can_be_committed_whoever_died_after_it() {
    let data = bytes_of(3_000_000, 9);
    for on_records in [true, false] {
        for step in 0..40 {
            let world = World::new(MemoryBytes::in_parts(1 << 20));
            let target = world.writable();
            let id = world.open(None).await;
            upload::append(&world.store, &target, &id, incoming(&data[..200_000], None)).await.unwrap();
            let faults = if on_records { world.records.faults() } else { world.bytes.faults() };
            faults.die_after(step);
            upload::append(&world.store, &target, &id, incoming(&data[200_000..], None)).await.ok();
            faults.heal();
            world.clock.advance(Duration::from_mins(1));
            let have = usize::try_from(upload::status(&world.store, &target, &id).await.unwrap()).unwrap();
            assert!(have >= 200_000, "{step}");
            let digest = Digest::of(Algorithm::Sha256, &data[..have]);
            upload::commit(&world.store, &target, &id, &digest, incoming(&[], None)).await.unwrap();
            assert_eq!(world.content(&world.readable(), &digest).await.unwrap(), data[..have], "{step}");
        }
    }
}

#[tokio::test]
async fn a_lost_answer_anywhere_leaves_a_push_that_can_be_repeated() {
    let data = bytes_of(1_300_000, 7);
    for fault in [Fault::LoseAnswer, Fault::Duplicate, Fault::Delay, Fault::Fail] {
        for step in 0..30 {
            let world = World::new(MemoryBytes::in_parts(1 << 20));
            let target = world.writable();
            world.records.faults().after(step, fault);
            let first = world.push_blob(&target, &data).await;
            world.records.faults().heal();
            world.records.faults().deliver();
            let digest = world.push_blob(&target, &data).await.unwrap();
            assert_eq!(world.content(&world.readable(), &digest).await.unwrap(), data, "{fault:?} {step} {first:?}");
        }
    }
}

#[tokio::test]
async fn a_mount_shares_the_bytes() {
    for world in worlds() {
        let target = world.writable();
        let digest = world.push_blob(&target, b"shared").await.unwrap();
        let size = storage::mount(&world.store, &world.other(), &world.readable(), &digest).await.unwrap();
        assert_eq!(size, Some(6));
        assert_eq!(world.content(&world.other().readable(), &digest).await.unwrap(), b"shared");
        // Gone from its origin, still there where it was mounted.
        blob::delete(&world.store, &world.deletable(), &digest).await.unwrap();
        assert!(matches!(world.content(&world.readable(), &digest).await, Err(Error::NoBlob)));
        assert_eq!(world.content(&world.other().readable(), &digest).await.unwrap(), b"shared");
        let absent = Digest::of(Algorithm::Sha256, b"absent");
        assert_eq!(storage::mount(&world.store, &world.other(), &world.readable(), &absent).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_manifest_waits_for_its_blobs_and_keeps_its_bytes() {
    for world in worlds() {
        let target = world.writable();
        let config = Digest::of(Algorithm::Sha256, b"{}");
        let layer = world.push_blob(&target, b"abc").await.unwrap();
        let bytes = image(&config, &layer);
        let early = manifest::put(&world.store, &target, manifest_push("v1", bytes.clone())).await;
        assert!(matches!(early, Err(Error::NoReference { ref digest }) if *digest == config), "{early:?}");
        let absent = manifest::get(&world.store, &world.readable(), &"v1".parse().unwrap()).await;
        assert!(matches!(absent, Err(Error::NoManifest)), "{absent:?}");
        world.push_blob(&target, b"{}").await.unwrap();
        let pushed = manifest::put(&world.store, &target, manifest_push("v1", bytes.clone())).await.unwrap();
        for reference in [Reference::Tag("v1".parse().unwrap()), Reference::Digest(pushed.digest.clone())] {
            let found = manifest::get(&world.store, &world.readable(), &reference).await.unwrap();
            assert_eq!(found.bytes, bytes);
        }
        // Deleting it takes the tag along; pushing it again brings both back.
        manifest::delete(&world.store, &world.deletable(), &pushed.digest).await.unwrap();
        let gone = tag::get(&world.store, &world.readable(), &"v1".parse().unwrap()).await;
        assert!(matches!(gone, Err(Error::NoManifest)), "{gone:?}");
        manifest::put(&world.store, &target, manifest_push("v1", bytes.clone())).await.unwrap();
        assert!(manifest::get(&world.store, &world.readable(), &"v1".parse().unwrap()).await.is_ok());
    }
}

#[tokio::test]
async fn tags_come_in_pages_in_byte_order() {
    for world in worlds() {
        let target = world.writable();
        let config = world.push_blob(&target, b"{}").await.unwrap();
        let layer = world.push_blob(&target, b"abc").await.unwrap();
        for name in ["b", "a", "Z", "_x", "10", "9"] {
            manifest::put(&world.store, &target, manifest_push(name, image(&config, &layer))).await.unwrap();
        }
        let all = ["10", "9", "Z", "_x", "a", "b"].map(|t| t.parse::<Tag>().unwrap());
        let page = tag::page(&world.store, &world.readable(), None, 100).await.unwrap();
        assert_eq!((page.tags.as_slice(), page.more), (&all[..], false));
        let page = tag::page(&world.store, &world.readable(), Some("9a"), 2).await.unwrap();
        assert_eq!((page.tags.as_slice(), page.more), (&all[2..4], true));
        let page = tag::page(&world.store, &world.readable(), Some("_x"), 2).await.unwrap();
        assert_eq!((page.tags.as_slice(), page.more), (&all[4..], false));
        assert_eq!(tag::page(&world.store, &world.readable(), None, 0).await.unwrap().tags, []);
    }
}

#[tokio::test]
async fn referrers_are_filtered_paged_and_end_with_their_manifest() {
    for world in worlds() {
        let target = world.writable();
        let config = world.push_blob(&target, b"{}").await.unwrap();
        let subject = Digest::of(Algorithm::Sha256, b"a subject that was never pushed");
        let mut digests = Vec::new();
        for n in 0..230 {
            let kind = if n % 2 == 0 { "application/one" } else { "application/two" };
            let bytes = serde_json::to_vec(&serde_json::json!({
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "artifactType": kind,
                "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2 },
                "layers": [],
                "annotations": { "n": n.to_string() },
                "subject": { "mediaType": OCI_MANIFEST, "digest": subject, "size": 9 },
            }))
            .unwrap();
            let digest = Digest::of(Algorithm::Sha256, &bytes);
            let push = manifest_push(digest.as_str(), bytes.into());
            let pushed = manifest::put(&world.store, &target, push).await.unwrap();
            assert_eq!(pushed.subject.as_ref(), Some(&subject));
            digests.push(digest);
        }
        for (kind, wanted) in [(None, 230), (Some("application/one"), 115), (Some("application/none"), 0)] {
            let mut seen = std::collections::BTreeSet::new();
            let mut after = None;
            loop {
                let page =
                    referrer::page(&world.store, &world.readable(), &subject, kind, after.as_deref()).await.unwrap();
                for descriptor in &page.descriptors {
                    assert!(kind.is_none_or(|kind| descriptor["artifactType"] == kind));
                    assert!(seen.insert(descriptor["digest"].as_str().unwrap().to_owned()));
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(seen.len(), wanted);
        }
        manifest::delete(&world.store, &world.deletable(), &digests[0]).await.unwrap();
        let page = referrer::page(&world.store, &world.readable(), &subject, None, None).await.unwrap();
        assert!(page.descriptors.iter().all(|d| d["digest"] != digests[0].as_str()));
    }
}
