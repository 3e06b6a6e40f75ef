//! Repositories as a whole: what is said of them, which tags stay, how one goes, and what an account keeps.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a suite of tests")]

use std::{sync::Arc, time::Duration};

use storage::{
    Account, Algorithm, Deletable, Digest, Error, Readable, Repository, Settings, Store, UploadKeys, Writable,
    backend::{
        Records,
        memory::{MemoryBytes, MemoryRecords},
        testing,
    },
    clock::ManualClock,
    key,
    manifest::{self, OCI_INDEX, OCI_MANIFEST},
    repository, tag,
    upload::{self, Incoming},
    usage,
};

struct World {
    store: Store,
    records: Arc<MemoryRecords>,
    clock: Arc<ManualClock>,
    account: Account,
}

#[expect(clippy::disallowed_methods, reason = "a test may name an account and make capabilities")]
impl World {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::at("2026-11-21T12:00:00Z".parse().unwrap()));
        let records = Arc::new(MemoryRecords::new(clock.clone()));
        let account = testing::living_account(&*records).await;
        let store = Self::process(&records, &clock);
        Self { store, records, clock, account }
    }

    /// Another process over the same store.
    fn process(records: &Arc<MemoryRecords>, clock: &Arc<ManualClock>) -> Store {
        let (bytes, keys) = (Arc::new(MemoryBytes::growing()), UploadKeys::new([&b"key"[..]]));
        let tracker = tokio_util::task::TaskTracker::new();
        Store::new(records.clone(), bytes, clock.clone(), keys, Settings::default(), tracker)
    }

    fn repository(&self, path: &str) -> Repository {
        Repository::new(self.account.clone(), format!("acme/{path}").parse().unwrap()).unwrap()
    }

    fn writable(&self, path: &str) -> Writable {
        Writable::new(self.repository(path))
    }

    fn readable(&self, path: &str) -> Readable {
        Readable::new(self.repository(path))
    }

    fn deletable(&self, path: &str) -> Deletable {
        Deletable::new(self.repository(path))
    }

    async fn blob(&self, path: &str, data: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(Algorithm::Sha256, data);
        let bytes = bytes::Bytes::copy_from_slice(data);
        let body = Box::pin(futures::stream::once(async { Ok(bytes) }));
        let incoming = Incoming { body, length: Some(data.len() as u64), start: None };
        let opener = "0000000000000001".parse().unwrap();
        upload::push(&self.store, &self.writable(path), &digest, opener, incoming).await.map(|()| digest)
    }

    /// Pushes an image whose config is of this media type and has these bytes.
    async fn push(&self, path: &str, reference: &str, config: &str, data: &[u8]) -> Result<Digest, Error> {
        let digest = self.blob(path, data).await?;
        let document = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [],
            "config": {"mediaType": config, "digest": digest, "size": data.len()}});
        self.put(path, reference, OCI_MANIFEST, &document).await
    }

    async fn put(
        &self,
        path: &str,
        reference: &str,
        media_type: &str,
        document: &serde_json::Value,
    ) -> Result<Digest, Error> {
        let push = manifest::Push {
            reference: reference.parse().unwrap(),
            tags: Vec::new(),
            content_type: media_type.into(),
            bytes: document.to_string().into(),
            by: "test".into(),
        };
        manifest::put(&self.store, &self.writable(path), push).await.map(|pushed| pushed.digest)
    }

    async fn image(&self, path: &str, tag: &str, data: &[u8]) -> Result<Digest, Error> {
        self.push(path, tag, "application/vnd.oci.image.config.v1+json", data).await
    }

    async fn immutable(&self, path: &str, patterns: &[&str]) {
        let settings = repository::RepositorySettings {
            immutable_tags: patterns.iter().map(|pattern| pattern.parse().unwrap()).collect(),
        };
        repository::change(&self.store, &self.writable(path), &settings, None).await.unwrap();
    }

    /// Keys of the account that say anything about a repository, marks of work and trash included.
    fn left_of(&self, path: &str) -> Vec<String> {
        let listing = self.records.listing().into_iter().map(|(key, _)| key);
        let (inside, own) = (format!("/r/{path}/"), [format!("/c/{path}"), format!("/n/{path}")]);
        listing
            .filter(|key| key.contains(&inside) || own.iter().any(|own| key.ends_with(own)) || key.starts_with("w/"))
            .collect()
    }
}

/// What runs after an answer has to have run before a test looks.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_repository_is_what_was_pushed_to_it_last_under_a_tag() {
    let world = World::new().await;
    let kind = async |path: &str| {
        settle().await;
        repository::get(&world.store, &world.readable(path)).await.unwrap().kind
    };
    world.blob("a", b"x").await.unwrap();
    assert_eq!(kind("a").await, None);
    let image = world.image("a", "1", b"1").await.unwrap();
    assert_eq!(kind("a").await, Some(repository::Kind::Image));
    world.push("a", "2", "application/vnd.cncf.helm.config.v1+json", b"2").await.unwrap();
    assert_eq!(kind("a").await, Some(repository::Kind::Chart));
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []});
    world.put("a", "3", OCI_INDEX, &index).await.unwrap();
    assert_eq!(kind("a").await, Some(repository::Kind::Image));
    // A signature is attached to something; it does not make the repository another.
    world.push("a", &image.dashed(), "application/x", b"4").await.unwrap();
    assert_eq!(kind("a").await, Some(repository::Kind::Image));
    world.push("a", "5", "application/x", b"5").await.unwrap();
    assert_eq!(kind("a").await, Some(repository::Kind::Artifact));
}

#[tokio::test]
async fn pages_of_repositories_begin_where_they_are_asked_to() {
    let world = World::new().await;
    for path in ["app", "web", "web-1", "web/a", "web/b", "xyz"] {
        world.image(path, "1", b"x").await.unwrap();
    }
    let all = async |start: &str, limit| {
        let (mut names, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = repository::summaries(&world.store, &world.account, start, after.as_deref(), limit, |_| true);
            let page = page.await.unwrap();
            names.extend(page.summaries.iter().map(|summary| summary.name.path().to_owned()));
            after = page.next;
            if after.is_none() {
                return names;
            }
        }
    };
    for limit in [1, 2, 100] {
        assert_eq!(all("", limit).await, ["app", "web", "web/a", "web/b", "web-1", "xyz"], "{limit}");
        assert_eq!(all("we", limit).await, ["web", "web/a", "web/b", "web-1"], "{limit}");
        assert_eq!(all("web/", limit).await, ["web/a", "web/b"], "{limit}");
        assert!(all("q", limit).await.is_empty());
    }
}

#[tokio::test]
async fn an_immutable_tag_is_set_once_and_neither_moves_nor_goes() {
    let world = World::new().await;
    let first = world.image("app", "v1", b"1").await.unwrap();
    world.image("app", "edge", b"1").await.unwrap();
    world.immutable("app", &["v*"]).await;
    assert_eq!(world.image("app", "v1", b"1").await.unwrap(), first, "the same again is no move");
    let moved = world.image("app", "v1", b"2").await;
    assert!(matches!(&moved, Err(Error::Immutable { tag }) if tag.as_str() == "v1"), "{moved:?}");
    world.image("app", "v2", b"2").await.unwrap();
    world.image("app", "edge", b"2").await.unwrap();
    let target = world.deletable("app");
    let gone = tag::delete(&world.store, &target, &"v1".parse().unwrap()).await;
    assert!(matches!(gone, Err(Error::Immutable { .. })), "{gone:?}");
    let gone = manifest::delete(&world.store, &target, &first).await;
    assert!(matches!(gone, Err(Error::Immutable { .. })), "{gone:?}");
    assert!(manifest::get(&world.store, &world.readable("app"), &"v1".parse().unwrap()).await.is_ok());
    tag::delete(&world.store, &target, &"edge".parse().unwrap()).await.unwrap();
    world.immutable("app", &[]).await;
    manifest::delete(&world.store, &target, &first).await.unwrap();
}

#[tokio::test]
async fn settings_are_changed_from_the_rev_that_was_seen() {
    let world = World::new().await;
    world.image("app", "v1", b"1").await.unwrap();
    let rev = repository::get(&world.store, &world.readable("app")).await.unwrap().rev;
    let settings = repository::RepositorySettings { immutable_tags: vec!["*".parse().unwrap()] };
    let change = async |settings, seen| repository::change(&world.store, &world.writable("app"), settings, seen).await;
    assert!(matches!(change(&settings, Some(rev + 1)).await, Err(Error::Stale { rev: now }) if now == rev));
    assert_eq!(change(&settings, Some(rev)).await.unwrap(), rev + 1);
    // Pushes do not make what was seen stale.
    world.image("app", "v2", b"2").await.unwrap();
    settle().await;
    assert_eq!(change(&repository::RepositorySettings::default(), Some(rev + 1)).await.unwrap(), rev + 2);
}

#[tokio::test]
async fn a_deleted_repository_leaves_nothing_but_trash_and_can_be_pushed_to_again() {
    let world = World::new().await;
    for n in 0..20 {
        world.image("app", &format!("v{n}"), format!("{n}").as_bytes()).await.unwrap();
    }
    world.image("other", "v1", b"1").await.unwrap();
    world.immutable("app", &["*"]).await;
    settle().await;
    let target = world.deletable("app");
    let rev = repository::get(&world.store, &world.readable("app")).await.unwrap().rev;
    let stale = repository::delete(&world.store, &target, Some(rev + 1)).await;
    assert!(matches!(stale, Err(Error::Stale { .. })), "{stale:?}");
    repository::delete(&world.store, &target, Some(rev)).await.unwrap();
    repository::delete(&world.store, &target, Some(rev)).await.unwrap();
    assert!(repository::get(&world.store, &world.readable("app")).await.unwrap().deleting.is_some());
    let pushed = world.image("app", "v1", b"1").await;
    assert!(matches!(pushed, Err(Error::Deleting)), "{pushed:?}");
    let pass = repository::finish_deletions(&world.store, false).await.unwrap();
    assert_eq!(pass, repository::Pass { done: 1, left: 0 });
    settle().await;
    assert_eq!(world.left_of("app"), Vec::<String>::new());
    assert!(matches!(repository::get(&world.store, &world.readable("app")).await, Err(Error::NoRepository)));
    assert!(manifest::get(&world.store, &world.readable("other"), &"v1".parse().unwrap()).await.is_ok());
    assert!(world.records.listing().iter().any(|(key, _)| key.starts_with("x/")), "its bytes are left to the trash");
    world.image("app", "v1", b"1").await.unwrap();
}

#[tokio::test]
async fn a_deletion_that_dies_anywhere_is_finished_by_another_process() {
    let mut deaths = 0;
    for dies_at in 0..60 {
        let world = World::new().await;
        for n in 0..3 {
            world.image("app", &format!("v{n}"), format!("{n}").as_bytes()).await.unwrap();
        }
        settle().await;
        repository::delete(&world.store, &world.deletable("app"), None).await.unwrap();
        world.records.faults().die_after(dies_at);
        let died = repository::finish_deletions(&world.store, true).await;
        world.records.faults().heal();
        deaths += usize::from(died.is_err() || died.is_ok_and(|pass| pass.left > 0));
        let other = World::process(&world.records, &world.clock);
        assert_eq!(repository::finish_deletions(&other, false).await.unwrap().done, 0, "a young order is not taken");
        world.clock.advance(Duration::from_mins(3));
        repository::finish_deletions(&other, false).await.unwrap();
        settle().await;
        assert_eq!(world.left_of("app"), Vec::<String>::new(), "died at {dies_at}");
    }
    assert!(deaths > 30, "{deaths} deaths");
}

#[tokio::test]
async fn an_order_that_lost_its_mark_is_in_the_queue_again_when_it_is_repeated() {
    let world = World::new().await;
    world.image("app", "v1", b"1").await.unwrap();
    settle().await;
    repository::delete(&world.store, &world.deletable("app"), None).await.unwrap();
    // A round of another server met the mark before the order and took it away, and who gave the order died.
    let queue = key::repository_deletions();
    for entry in world.records.page(&queue, None, 10).await.unwrap() {
        world.records.delete(&queue.plain(&entry.name)).await.unwrap();
    }
    let pass = repository::finish_deletions(&world.store, true).await.unwrap();
    assert_eq!(pass, repository::Pass { done: 0, left: 0 });
    repository::delete(&world.store, &world.deletable("app"), None).await.unwrap();
    let pass = repository::finish_deletions(&world.store, true).await.unwrap();
    assert_eq!(pass, repository::Pass { done: 1, left: 0 });
    assert_eq!(world.left_of("app"), Vec::<String>::new());
}

/// Whoever is stopped between the first mark and the order, while a round takes the mark away, leaves another one after the order.
#[tokio::test]
async fn an_order_is_marked_once_more_after_it_was_given() {
    let world = World::new().await;
    world.image("app", "v1", b"1").await.unwrap();
    settle().await;
    let writes = async |dies_at| {
        world.records.faults().die_after(dies_at);
        let ordered = repository::delete(&world.store, &world.deletable("app"), None).await;
        world.records.faults().heal();
        ordered
    };
    // Read, mark, order: what dies at the fourth call has given the order and not marked it again.
    writes(3).await.unwrap_err();
    assert!(matches!(world.image("app", "v2", b"2").await, Err(Error::Deleting)));
    writes(2).await.unwrap();
    assert_eq!(repository::finish_deletions(&world.store, true).await.unwrap().done, 1);
}

#[tokio::test]
async fn a_deletion_waits_for_the_manifest_in_flight() {
    let world = World::new().await;
    world.image("app", "v1", b"1").await.unwrap();
    settle().await;
    let pending = key::pending(&world.repository("app"), &Digest::of(Algorithm::Sha256, b"m"), "nonce");
    world.records.put(&pending, ".".into()).await.unwrap();
    repository::delete(&world.store, &world.deletable("app"), None).await.unwrap();
    let pass = repository::finish_deletions(&world.store, false).await.unwrap();
    assert_eq!(pass, repository::Pass { done: 0, left: 1 });
    assert!(repository::get(&world.store, &world.readable("app")).await.is_ok());
    // It never arrives: after its deadline nobody waits for it any more.
    world.clock.advance(Duration::from_mins(21));
    let pass = repository::finish_deletions(&world.store, false).await.unwrap();
    assert_eq!(pass, repository::Pass { done: 1, left: 0 });
    assert_eq!(world.left_of("app"), Vec::<String>::new());
}

#[tokio::test]
async fn a_pinned_repository_stays() {
    let world = World::new().await;
    let digest = world.image("app", "v1", b"1").await.unwrap();
    let pin = key::pins_of(&world.repository("app"), &digest).plain("shop@1_0.x");
    world.records.put(&pin, ".".into()).await.unwrap();
    let refused = repository::delete(&world.store, &world.deletable("app"), None).await;
    assert!(matches!(&refused, Err(Error::Pinned { by }) if by == "shop@1_0"), "{refused:?}");
    assert!(repository::get(&world.store, &world.readable("app")).await.unwrap().deleting.is_none());
    world.image("app", "v2", b"2").await.unwrap();
}

#[tokio::test]
async fn the_slices_of_a_count_add_up_to_all_there_is() {
    let world = World::new().await;
    let mut manifests = 0;
    for (path, images) in [("a", 700), ("b/c", 3), ("d", 0)] {
        world.blob(path, format!("base of {path}").as_bytes()).await.unwrap();
        for n in 0..images {
            world.image(path, &format!("v{n}"), format!("{path} {n:04}").as_bytes()).await.unwrap();
            manifests += 1;
        }
    }
    // Shared between two repositories: kept once.
    world.image("b/c", "shared", b"a 0001").await.unwrap();
    let (mut sum, mut from, mut slices) = (usage::Usage::default(), None::<String>, 0);
    loop {
        let (slice, next) = usage::count(&world.store, &world.account, from.as_deref()).await.unwrap();
        sum.repositories += slice.repositories;
        sum.tags += slice.tags;
        sum.manifests += slice.manifests;
        sum.blobs += slice.blobs;
        sum.bytes += slice.bytes;
        sum.stored_bytes += slice.stored_bytes;
        slices += 1;
        from = next;
        if from.is_none() {
            break;
        }
    }
    assert!(slices >= 3, "{slices}");
    let stored = 9 + 11 + 9 + 700 * 6 + 3 * 8;
    let whole = usage::Usage {
        repositories: 3,
        tags: manifests + 1,
        manifests: manifests + 1,
        blobs: manifests + 1 + 3,
        bytes: stored + 6,
        stored_bytes: stored,
    };
    assert_eq!(sum, whole);
}
