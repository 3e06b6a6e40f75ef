use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::repository;
use crate::{
    Digest, Error, Tag,
    backend::{Body, Records, Version},
    key::{self, RecordKey},
    record,
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Count {
    count: u64,
}

/// Runs every promise of [`Records`] on a store.
pub async fn records(store: Arc<dyn Records>) {
    one_hundred_writers_lose_no_increment(&store).await;
    one_of_many_creators_wins(&store).await;
    a_version_is_never_good_twice(store.as_ref()).await;
    a_removed_record_can_be_made_again(store.as_ref()).await;
    a_write_that_is_repeated_happened_once(store.as_ref()).await;
    a_write_that_was_overtaken_says_so(store.as_ref()).await;
    what_a_newer_release_wrote_is_kept_or_refused(store.as_ref()).await;
    plain_keys_are_put_and_deleted_blindly(store.as_ref()).await;
    a_body_of_eight_mebibytes_comes_back(store.as_ref()).await;
    pages_are_in_byte_order(store.as_ref()).await;
    a_page_under_churn_shows_what_stays(&store).await;
    the_store_s_time_never_goes_back(store.as_ref()).await;
    store.health().await.unwrap();
}

fn tag_key(tag: &str) -> RecordKey {
    key::tag(&repository(), &tag.parse::<Tag>().unwrap())
}

fn body(rev: u64, nonce: &str, history: &[&str]) -> Body {
    let line = serde_json::json!({"v": 1, "rev": rev, "nonce": nonce, "hist": history, "count": rev});
    Body { bytes: serde_json::to_vec(&line).unwrap().into(), nonce: nonce.to_owned() }
}

async fn one_hundred_writers_lose_no_increment(store: &Arc<dyn Records>) {
    let key = tag_key("counter");
    record::create(store.as_ref(), &key, Count { count: 0 }).await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let (store, key) = (Arc::clone(store), key.clone());
        tasks.spawn(async move {
            let mut won = 0;
            for _ in 0..3 {
                let mut document = record::read::<Count>(store.as_ref(), &key).await.unwrap().unwrap();
                document.value.count += 1;
                match record::update(store.as_ref(), &key, &mut document).await {
                    Ok(()) => won += 1,
                    Err(Error::Conflict) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
            won
        });
    }
    let won: u64 = tasks.join_all().await.into_iter().sum();
    let last = record::read::<Count>(store.as_ref(), &key).await.unwrap().unwrap();
    assert_eq!((last.value.count, last.rev()), (won, won + 1));
    assert!(won > 0);
}

async fn one_of_many_creators_wins(store: &Arc<dyn Records>) {
    let key = tag_key("created");
    let mut tasks = JoinSet::new();
    for n in 0..32 {
        let (store, key) = (Arc::clone(store), key.clone());
        tasks.spawn(async move {
            match record::create(store.as_ref(), &key, Count { count: n }).await {
                Ok(_) => Some(n),
                Err(Error::Conflict) => None,
                Err(other) => panic!("{other:?}"),
            }
        });
    }
    let winners: Vec<u64> = tasks.join_all().await.into_iter().flatten().collect();
    let stored = record::read::<Count>(store.as_ref(), &key).await.unwrap().unwrap();
    assert_eq!(winners, [stored.value.count]);
}

async fn a_version_is_never_good_twice(store: &dyn Records) {
    let key = tag_key("aba");
    let mut a = record::create(store, &key, Count { count: 1 }).await.unwrap();
    let stale = a.clone();
    a.value.count = 2;
    record::update(store, &key, &mut a).await.unwrap();
    a.value.count = 1;
    record::update(store, &key, &mut a).await.unwrap();
    assert_ne!(a.version(), stale.version());
    assert!(matches!(record::update(store, &key, &mut stale.clone()).await, Err(Error::Conflict)));
    assert!(matches!(store.remove(&key, stale.version()).await, Err(Error::Conflict)));
    assert_eq!(record::read::<Count>(store, &key).await.unwrap().unwrap().rev(), 3);
}

async fn a_removed_record_can_be_made_again(store: &dyn Records) {
    let key = tag_key("again");
    assert!(store.get(&key).await.unwrap().is_none());
    let first = record::create(store, &key, Count { count: 1 }).await.unwrap();
    store.remove(&key, first.version()).await.unwrap();
    assert!(store.get(&key).await.unwrap().is_none());
    store.remove(&key, first.version()).await.unwrap();
    assert!(matches!(record::update(store, &key, &mut first.clone()).await, Err(Error::Conflict)));

    let second = record::create(store, &key, Count { count: 2 }).await.unwrap();
    assert!(matches!(record::create(store, &key, Count { count: 3 }).await, Err(Error::Conflict)));
    assert!(matches!(record::update(store, &key, &mut first.clone()).await, Err(Error::Conflict)));
    assert!(matches!(store.remove(&key, first.version()).await, Err(Error::Conflict)));
    let found = store.get(&key).await.unwrap().unwrap();
    assert_eq!(&found.version, second.version());
    assert_eq!(record::decode::<Count>(&key, &found).unwrap().0.value, second.value);

    let absent = tag_key("absent");
    assert!(matches!(record::update(store, &absent, &mut first.clone()).await, Err(Error::Conflict)));
    assert!(store.get(&absent).await.unwrap().is_none());
}

/// What a lost answer looks like from the store: the same write arrives again.
async fn a_write_that_is_repeated_happened_once(store: &dyn Records) {
    let key = tag_key("repeated");
    let created = body(1, "n1", &["n1"]);
    let one = store.create(&key, &created).await.unwrap();
    assert_eq!(store.create(&key, &created).await.unwrap(), one);
    let updated = body(2, "n2", &["n1", "n2"]);
    let two = store.update(&key, &one, &updated).await.unwrap();
    assert_eq!(store.update(&key, &one, &updated).await.unwrap(), two);
    assert_eq!(store.get(&key).await.unwrap().unwrap().version, two);
}

async fn a_write_that_was_overtaken_says_so(store: &dyn Records) {
    let key = tag_key("overtaken");
    let first = store.create(&key, &body(1, "n1", &["n1"])).await.unwrap();
    let mine = body(2, "n2", &["n1", "n2"]);
    let version = store.update(&key, &first, &mine).await.unwrap();
    let other = body(3, "n3", &["n1", "n2", "n3"]);
    let current = store.update(&key, &version, &other).await.unwrap();

    let repeated = store.update(&key, &first, &mine).await.unwrap();
    assert_ne!(repeated, current, "who was overtaken must not hold the other's version");
    assert!(matches!(store.update(&key, &repeated, &body(3, "n4", &["n4"])).await, Err(Error::Conflict)));
    assert!(matches!(store.remove(&key, &repeated).await, Err(Error::Conflict)));

    let stranger = body(2, "stranger", &["n1", "stranger"]);
    assert!(matches!(store.update(&key, &first, &stranger).await, Err(Error::Conflict)));
    let late = body(11, "late", &["n4", "n5", "n6", "n7", "n8", "n9", "n10", "late"]);
    let last = store.update(&key, &current, &late).await.unwrap();
    assert!(matches!(store.update(&key, &first, &stranger).await, Err(Error::Conflict | Error::Unknown(_))));
    assert_eq!(store.get(&key).await.unwrap().unwrap().version, last);
}

async fn what_a_newer_release_wrote_is_kept_or_refused(store: &dyn Records) {
    let raw = |v: u64| {
        let line = serde_json::json!({"v": v, "rev": 1, "nonce": "n", "hist": ["n"], "count": 1, "later": {"x": [1]}});
        Body { bytes: serde_json::to_vec(&line).unwrap().into(), nonce: "n".into() }
    };
    let (known, newer) = (tag_key("unknown-field"), tag_key("newer"));
    store.create(&known, &raw(record::VERSION)).await.unwrap();
    let mut document = record::read::<Count>(store, &known).await.unwrap().unwrap();
    document.value.count = 2;
    record::update(store, &known, &mut document).await.unwrap();
    let found = store.get(&known).await.unwrap().unwrap();
    let stored: serde_json::Value = serde_json::from_slice(&found.body).unwrap();
    assert_eq!((&stored["later"], &stored["count"]), (&serde_json::json!({"x": [1]}), &serde_json::json!(2)));

    store.create(&newer, &raw(record::VERSION + 1)).await.unwrap();
    assert!(matches!(record::read::<Count>(store, &newer).await, Err(Error::Unavailable(_))));
}

async fn plain_keys_are_put_and_deleted_blindly(store: &dyn Records) {
    let repository = repository();
    let tag: Tag = "v1".parse().unwrap();
    let key = key::last_pull_tag(&repository, &tag);
    assert!(store.get_plain(&key).await.unwrap().is_none());
    store.delete(&key).await.unwrap();
    store.put(&key, "one".into()).await.unwrap();
    let one = store.get_plain(&key).await.unwrap().unwrap();
    store.put(&key, "two".into()).await.unwrap();
    let two = store.get_plain(&key).await.unwrap().unwrap();
    assert_eq!((&one.body[..], &two.body[..]), (&b"one"[..], &b"two"[..]));
    assert!(two.modified >= one.modified);
    // What a removed record may leave behind.
    for body in ["", "0123456789abcdef"] {
        assert!(matches!(store.put(&key, body.into()).await, Err(Error::Corrupt { .. })), "{body}");
    }
    store.delete(&key).await.unwrap();
    store.delete(&key).await.unwrap();
    assert!(store.get_plain(&key).await.unwrap().is_none());
}

async fn a_body_of_eight_mebibytes_comes_back(store: &dyn Records) {
    let digest: Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
    let key = key::manifest(&repository(), &digest);
    let trailer: Vec<u8> = (0..8 << 20).map(|n: u32| n.to_le_bytes()[(n % 4) as usize] | 1).collect();
    record::create_with(store, &key, Count { count: 1 }, Some(&trailer)).await.unwrap();
    let found = store.get(&key).await.unwrap().unwrap();
    let (document, read) = record::decode::<Count>(&key, &found).unwrap();
    assert!(read == trailer, "the trailer changed on its way");
    assert_eq!(document.value.count, 1);
}

async fn names(store: &dyn Records, prefix: &key::Prefix, after: Option<&str>, limit: usize) -> Vec<String> {
    store.page(prefix, after, limit).await.unwrap().into_iter().map(|entry| entry.name).collect()
}

async fn pages_are_in_byte_order(store: &dyn Records) {
    let (repository, neighbour) = (repository(), repository());
    let prefix = key::tags(&repository);
    assert_eq!(store.page(&prefix, None, 10).await.unwrap(), []);
    let mut sorted: Vec<String> = ["_", "10", "9", "A", "Z", "a", "a.b", "a-b", "aa", "z"].map(str::to_owned).into();
    let mut versions: Vec<(String, Version)> = Vec::new();
    for tag in &sorted {
        let key = key::tag(&repository, &tag.parse().unwrap());
        let document = record::create(store, &key, Count { count: 1 }).await.unwrap();
        versions.push((tag.clone(), document.version().clone()));
        record::create(store, &key::tag(&neighbour, &tag.parse().unwrap()), Count { count: 1 }).await.unwrap();
    }
    sorted.sort();
    assert_eq!(names(store, &prefix, None, 100).await, sorted);
    assert_eq!(names(store, &prefix, None, 3).await, sorted[..3]);
    assert_eq!(names(store, &prefix, Some(&sorted[2]), 3).await, sorted[3..6]);
    assert_eq!(names(store, &prefix, Some("a.a"), 2).await, ["a.b", "aa"]);
    assert_eq!(names(store, &prefix, Some("zz"), 3).await, Vec::<String>::new());
    assert_eq!(names(store, &prefix, None, 0).await, Vec::<String>::new());
    for entry in store.page(&prefix, None, 100).await.unwrap() {
        let found = store.get(&prefix.record(&entry.name)).await.unwrap().unwrap();
        assert_eq!((entry.size, &entry.version), (found.body.len() as u64, &found.version));
        assert_eq!(entry.modified.timestamp(), found.modified.timestamp());
    }
    for (tag, version) in versions.iter().filter(|(tag, _)| tag != "Z" && tag != "z") {
        store.remove(&prefix.record(tag), version).await.unwrap();
    }
    assert_eq!(names(store, &prefix, None, 2).await, ["Z", "z"]);
    assert_eq!(names(store, &prefix, None, 1).await, ["Z"]);
    assert_eq!(names(store, &prefix, Some("Z"), 1).await, ["z"]);
}

async fn a_page_under_churn_shows_what_stays(store: &Arc<dyn Records>) {
    let repository = repository();
    let prefix = key::tags(&repository);
    let mut staying = BTreeSet::new();
    for n in 0..20 {
        let tag = format!("s{n:02}");
        record::create(store.as_ref(), &prefix.record(&tag), Count { count: n }).await.unwrap();
        staying.insert(tag);
    }
    let mut churn = JoinSet::new();
    for n in 0..4 {
        let (store, key) = (Arc::clone(store), prefix.record(&format!("s{n:02}x")));
        churn.spawn(async move {
            for count in 0..10 {
                let document = record::create(store.as_ref(), &key, Count { count }).await.unwrap();
                store.remove(&key, document.version()).await.unwrap();
            }
        });
    }
    let mut rounds = 0;
    while rounds < 2 || churn.try_join_next().is_none() {
        let mut seen: Vec<String> = Vec::new();
        loop {
            let page = names(store.as_ref(), &prefix, seen.last().map(String::as_str), 3).await;
            let end = page.len() < 3;
            seen.extend(page);
            if end {
                break;
            }
        }
        assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "out of order or twice: {seen:?}");
        assert!(staying.iter().all(|tag| seen.contains(tag)), "missing from {seen:?}");
        rounds += 1;
    }
    churn.join_all().await;
}

async fn the_store_s_time_never_goes_back(store: &dyn Records) {
    let repository = repository();
    let mut last = None;
    for n in 0..20 {
        let tag: Tag = format!("t{n}").parse().unwrap();
        let modified = if n % 2 == 0 {
            let key = key::tag(&repository, &tag);
            record::create(store, &key, Count { count: n }).await.unwrap();
            store.get(&key).await.unwrap().unwrap().modified
        } else {
            let key = key::last_pull_tag(&repository, &tag);
            store.put(&key, ".".into()).await.unwrap();
            store.get_plain(&key).await.unwrap().unwrap().modified
        };
        assert!(last.is_none_or(|last| last <= modified), "{last:?} then {modified}");
        last = Some(modified);
    }
}
