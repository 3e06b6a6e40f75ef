//! Rules at work: which tags and manifests go, which stay, and that nothing which is named is ever lost.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a suite of tests")]

use std::{sync::Arc, time::Duration};

use storage::{
    Account, Algorithm, Digest, Error, Readable, Reference, Repository, Settings, Store, Tag, UploadKeys, Writable,
    backend::{
        Records,
        memory::{MemoryBytes, MemoryRecords},
        testing,
    },
    clock::ManualClock,
    key,
    manifest::{self, OCI_INDEX, OCI_MANIFEST},
    repository,
    retention::{self, Pass, Retainer, Rules, Turn, What},
    tag, upload,
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
        let (bytes, keys) = (Arc::new(MemoryBytes::growing()), UploadKeys::new([&b"key"[..]]));
        let tracker = tokio_util::task::TaskTracker::new();
        let store = Store::new(records.clone(), bytes, clock.clone(), keys, Settings::default(), tracker);
        let world = Self { store, records, clock, account };
        let blob = upload::Incoming {
            body: Box::pin(futures::stream::once(async { Ok("{}".into()) })),
            length: None,
            start: None,
        };
        let digest = Digest::of(Algorithm::Sha256, b"{}");
        upload::push(&world.store, &world.writable(), &digest, "0000000000000001".parse().unwrap(), blob)
            .await
            .unwrap();
        world
    }

    fn repository(&self) -> Repository {
        Repository::new(self.account.clone(), "acme/app".parse().unwrap()).unwrap()
    }

    fn writable(&self) -> Writable {
        Writable::new(self.repository())
    }

    fn readable(&self) -> Readable {
        Readable::new(self.repository())
    }

    fn days(&self, days: u64) {
        self.clock.advance(Duration::from_secs(days * 86_400));
    }

    async fn put(&self, reference: &str, document: &serde_json::Value) -> Digest {
        let push = manifest::Push {
            reference: reference.parse().unwrap(),
            tags: Vec::new(),
            content_type: document["mediaType"].as_str().unwrap().into(),
            bytes: document.to_string().into(),
            by: "test".into(),
        };
        manifest::put(&self.store, &self.writable(), push).await.unwrap().digest
    }

    /// Pushes an image that differs by its seed, under a tag or, without one, by its digest.
    async fn image(&self, tag: &str, seed: &str) -> Digest {
        self.attached(tag, seed, None).await
    }

    async fn attached(&self, tag: &str, seed: &str, subject: Option<&Digest>) -> Digest {
        let config = serde_json::json!({"mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::of(Algorithm::Sha256, b"{}"), "size": 2});
        let mut document = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [],
            "annotations": {"seed": seed}});
        if let Some(subject) = subject {
            document["subject"] = serde_json::json!({"mediaType": OCI_MANIFEST, "digest": subject, "size": 1});
        }
        self.pushed(tag, &document).await
    }

    async fn index(&self, tag: &str, children: &[&Digest]) -> Digest {
        let child = |digest: &&Digest| serde_json::json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": 1});
        let manifests: Vec<_> = children.iter().map(child).collect();
        self.pushed(tag, &serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})).await
    }

    async fn pushed(&self, tag: &str, document: &serde_json::Value) -> Digest {
        let digest = Digest::of(Algorithm::Sha256, document.to_string().as_bytes());
        self.put(if tag.is_empty() { digest.as_str() } else { tag }, document).await
    }

    async fn tags(&self) -> Vec<String> {
        let page = tag::page(&self.store, &self.readable(), None, 100).await.unwrap();
        page.tags.into_iter().map(|tag| tag.as_str().to_owned()).collect()
    }

    async fn has(&self, digest: &Digest) -> bool {
        let found = manifest::get(&self.store, &self.readable(), &Reference::Digest(digest.clone())).await;
        match found {
            Ok(_) => true,
            Err(Error::NoManifest) => false,
            Err(other) => panic!("{other:?}"),
        }
    }

    async fn pass(&self, rules: &Rules) -> Pass {
        retention::pass(&self.store, &self.repository(), rules).await.unwrap()
    }

    async fn pulled(&self, reference: &str, digest: &Digest) {
        self.store.retention().pulled(&self.store, &self.repository(), &reference.parse().unwrap(), digest);
        retention::flush_pulls(&self.store).await.unwrap();
    }
}

fn rules(rules: &serde_json::Value) -> Rules {
    let rules: Rules = serde_json::from_value(serde_json::json!({"rules": rules})).unwrap();
    assert_eq!(rules.check(), []);
    rules
}

fn untagged(days: u32) -> Rules {
    rules(&serde_json::json!([{"repositories": "**", "untagged_days": days}]))
}

#[tokio::test]
async fn tags_that_no_rule_keeps_go_and_what_they_pointed_at_stays() {
    let world = World::new().await;
    let mut digests = Vec::new();
    for n in 0..5 {
        digests.push(world.image(&format!("pr-{n}"), &n.to_string()).await);
        world.days(1);
    }
    world.image("v1", "0").await;
    let rules = rules(&serde_json::json!([{"repositories": "app", "tags": ["pr-*"], "keep": {"last": 2}}]));
    let (gone, more) = retention::preview(&world.store, &world.readable(), &rules, 100).await.unwrap();
    let told: Vec<_> = gone.iter().map(|gone| (&gone.what, gone.why.as_str())).collect();
    let why = "rule 1 covers it, and none keeps it";
    let tag = |n: usize| What::Tag(format!("pr-{n}").parse().unwrap(), digests[n].clone());
    assert_eq!(told, [(&tag(0), why), (&tag(1), why), (&tag(2), why)]);
    assert!(!more);
    let (two, more) = retention::preview(&world.store, &world.readable(), &rules, 2).await.unwrap();
    assert_eq!((two.as_slice(), more), (&gone[..2], true));
    assert_eq!(world.pass(&rules).await, Pass { tags_removed: 3, ..Pass::default() });
    assert_eq!(world.tags().await, ["pr-3", "pr-4", "v1"]);
    for digest in &digests {
        assert!(world.has(digest).await);
    }
    assert_eq!(world.pass(&rules).await, Pass::default());
}

#[tokio::test]
async fn what_is_pulled_stays_and_an_immutable_tag_goes_only_by_a_rule_that_says_so() {
    let world = World::new().await;
    let digest = world.image("used", "1").await;
    world.image("idle", "2").await;
    world.image("fixed", "3").await;
    let settings = repository::RepositorySettings { immutable_tags: vec!["fixed".parse().unwrap()] };
    repository::change(&world.store, &world.writable(), &settings, None).await.unwrap();
    world.days(100);
    world.pulled("used", &digest).await;
    let keep = |immutable: &str| {
        rules(&serde_json::json!([{"repositories": "**", "keep": {"pulled_within_days": 30}, "immutable": immutable}]))
    };
    assert_eq!(world.pass(&keep("keep")).await.tags_removed, 1);
    assert_eq!(world.tags().await, ["fixed", "used"]);
    assert_eq!(world.pass(&keep("may-remove")).await.tags_removed, 1);
    assert_eq!(world.tags().await, ["used"]);
    world.days(31);
    world.pass(&keep("keep")).await;
    assert!(world.tags().await.is_empty());
}

#[tokio::test]
async fn attachments_go_after_what_they_are_attached_to_and_take_no_other_tag_s_place() {
    let world = World::new().await;
    let kept = world.image("v1", "1").await;
    let gone = Digest::of(Algorithm::Sha256, b"never there");
    for subject in [&kept, &gone] {
        world.image(&format!("{}.sig", subject.dashed()), "signature").await;
    }
    world.days(2);
    world.pass(&rules(&serde_json::json!([{"repositories": "**", "keep": {"last": 1}}]))).await;
    assert_eq!(world.tags().await, [format!("{}.sig", kept.dashed()), "v1".to_owned()]);
}

#[tokio::test]
async fn a_manifest_goes_when_nothing_has_named_it_for_as_long_as_the_rule_says() {
    let world = World::new().await;
    let old = world.image("v1", "old").await;
    let child = world.image("", "child").await;
    let index = world.index("multi", &[&child]).await;
    let referrer = world.attached("", "referrer", Some(&old)).await;
    let kept_referrer = world.attached("", "kept", Some(&index)).await;
    let pinned = world.image("", "pinned").await;
    let prefix = key::pins_of(&world.repository(), &pinned);
    world.records.put(&prefix.plain("pkg@1.0.0.id"), ".".into()).await.unwrap();
    let new = world.image("v1", "new").await;
    world.days(2);
    let rules = untagged(40);
    // Of a chain the last goes first: the referrer stays as long as its subject does.
    assert_eq!(world.pass(&rules).await, Pass { manifests_marked: 1, ..Pass::default() });
    assert!(world.has(&old).await, "a marked manifest is pulled as before");
    world.days(39);
    assert_eq!(world.pass(&rules).await, Pass::default());
    let (gone, _) = retention::preview(&world.store, &world.readable(), &rules, 100).await.unwrap();
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].what, What::Manifest(old.clone()));
    assert!(gone[0].why.starts_with("nothing has named it since 2026-11-23: goes on 2027-01-02"), "{}", gone[0].why);
    world.days(2);
    assert_eq!(world.pass(&rules).await, Pass { manifests_removed: 1, manifests_marked: 1, ..Pass::default() });
    assert!(!world.has(&old).await);
    world.days(41);
    assert_eq!(world.pass(&rules).await, Pass { manifests_removed: 1, ..Pass::default() });
    assert!(!world.has(&referrer).await);
    for kept in [&new, &child, &index, &kept_referrer, &pinned] {
        assert!(world.has(kept).await);
    }
    // Without a rule nothing goes.
    assert_eq!(world.pass(&Rules::default()).await, Pass::default());
}

/// Everything that can come between the mark and the second look.
#[tokio::test]
async fn whoever_names_a_marked_manifest_keeps_it() {
    for who in ["tag", "index", "promise", "pull", "repeat", "pending"] {
        let world = World::new().await;
        let digest = world.image("", "one").await;
        world.days(2);
        let rules = untagged(40);
        retention::change(&world.store, &world.account, &rules, None).await.unwrap();
        assert_eq!(world.pass(&rules).await.manifests_marked, 1);
        world.days(40);
        match who {
            "tag" => assert_eq!(world.image("v1", "one").await, digest),
            "index" => drop(world.index("multi", &[&digest]).await),
            "promise" => {
                let found =
                    manifest::promise(&world.store, &world.writable(), &Reference::Digest(digest.clone())).await;
                assert_eq!(found.unwrap().digest, digest);
            }
            "pull" => world.pulled(digest.as_str(), &digest).await,
            "repeat" => assert_eq!(world.image("", "one").await, digest),
            _ => {
                let refs = serde_json::json!({"refs": [{"digest": digest, "kind": "manifest"}]});
                let pending = key::pending(&world.repository(), &Digest::of(Algorithm::Sha256, b"index"), "nonce");
                world.records.put(&pending, refs.to_string().into()).await.unwrap();
            }
        }
        world.clock.advance(Duration::from_mins(1));
        assert_eq!(world.pass(&rules).await.manifests_removed, 0, "{who}");
        assert!(world.has(&digest).await, "{who}");
        world.clock.advance(Duration::from_hours(1));
        assert_eq!(world.pass(&rules).await.manifests_removed, 0, "{who}, an hour later");
    }
}

/// A pass that dies at any step leaves what is named alone, and the next one finishes.
#[tokio::test]
async fn a_pass_may_die_at_any_step() {
    let mut step = 0;
    loop {
        let world = World::new().await;
        let tagged = world.image("v1", "tagged").await;
        let child = world.image("", "child").await;
        let index = world.index("multi", &[&child]).await;
        let loose = world.attached("", "loose", Some(&Digest::of(Algorithm::Sha256, b"nothing"))).await;
        for n in 0..3 {
            world.image(&format!("pr-{n}"), "pr").await;
        }
        let rules = rules(&serde_json::json!([
            {"repositories": "**", "tags": ["pr-*"], "keep": {"last": 1}}, {"repositories": "**", "untagged_days": 1}
        ]));
        world.days(2);
        world.pass(&rules).await;
        world.image("pr-3", "pr").await;
        world.days(40);
        world.records.faults().die_after(step);
        let died = retention::pass(&world.store, &world.repository(), &rules).await.is_err();
        world.records.faults().heal();
        for kept in [&tagged, &child, &index] {
            assert!(world.has(kept).await, "step {step}");
        }
        world.pass(&rules).await;
        assert_eq!(world.tags().await, ["multi", "pr-3", "v1"], "step {step}");
        assert!(!world.has(&loose).await, "step {step}");
        for kept in [&tagged, &child, &index] {
            assert!(world.has(kept).await, "step {step}");
        }
        if !died {
            assert!(step > 20, "the faults were not met");
            return;
        }
        step += 1;
    }
}

#[tokio::test]
async fn rules_that_were_changed_run_at_once_and_all_of_them_in_rounds() {
    let world = World::new().await;
    world.image("pr-1", "1").await;
    world.image("pr-2", "2").await;
    let mut retainer = Retainer::default();
    assert_eq!(retainer.turn(&world.store).await.unwrap(), Turn::Idle);
    let rules = rules(&serde_json::json!([{"repositories": "*", "keep": {"last": 1}}]));
    assert_eq!(retention::change(&world.store, &world.account, &rules, Some(0)).await.unwrap(), 1);
    let stale = retention::change(&world.store, &world.account, &rules, Some(0)).await.unwrap_err();
    assert!(matches!(stale, Error::Stale { rev: 1 }));
    let passes = async |retainer: &mut Retainer| {
        let mut removed = Vec::new();
        loop {
            match retainer.turn(&world.store).await.unwrap() {
                Turn::Passed(name, pass) => removed.push((name.to_string(), pass.tags_removed)),
                Turn::Looked => {}
                Turn::Idle => return removed,
            }
        }
    };
    assert_eq!(passes(&mut retainer).await, [("acme/app".to_owned(), 1)]);
    assert_eq!(world.tags().await, ["pr-2"]);
    world.image("pr-3", "3").await;
    retainer.begin_round();
    assert_eq!(passes(&mut retainer).await, [("acme/app".to_owned(), 1)]);
}

#[tokio::test]
async fn a_pull_is_noted_once_a_day() {
    let world = World::new().await;
    let digest = world.image("v1", "1").await;
    let calls = async |reference: &str| {
        let before = world.records.faults().calls();
        world.pulled(reference, &digest).await;
        world.records.faults().calls() - before
    };
    assert_eq!(calls("v1").await, 2, "the tag and the manifest");
    assert_eq!(calls("v1").await, 0);
    assert_eq!(calls(digest.as_str()).await, 0);
    world.days(1);
    assert_eq!(calls(digest.as_str()).await, 1);
    assert_eq!(calls("v1").await, 1);
}

/// A HEAD under a push token costs a read a minute, and a write only where a rule could take the manifest away.
#[tokio::test]
async fn a_promise_writes_only_where_rules_are() {
    let world = World::new().await;
    let digest = world.image("v1", "1").await;
    let reference: Reference = "v1".parse::<Tag>().map(Reference::Tag).unwrap();
    let version = async || {
        let found = world.records.get(&key::manifest(&world.repository(), &digest)).await.unwrap();
        found.unwrap().version
    };
    let before = version().await;
    manifest::promise(&world.store, &world.writable(), &reference).await.unwrap();
    assert_eq!(version().await, before);
    retention::change(&world.store, &world.account, &untagged(30), None).await.unwrap();
    manifest::promise(&world.store, &world.writable(), &reference).await.unwrap();
    let promised = version().await;
    assert_ne!(promised, before);
    manifest::promise(&world.store, &world.writable(), &reference).await.unwrap();
    assert_eq!(version().await, promised);
}
