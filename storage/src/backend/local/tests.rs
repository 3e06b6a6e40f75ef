use std::{fs, path::Path, sync::Arc};

use futures::StreamExt;
use serde::{Deserialize, Serialize};

use super::*;
use crate::{
    backend::{Bytes, Records, testing},
    clock::{ManualClock, SystemClock},
    key::{self, DataId},
    record,
};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Number {
    number: usize,
}

fn open(path: &Path) -> Result<Folder, Error> {
    Folder::open(path, Options { serve: true, force_network: false }, Arc::new(SystemClock::new()))
}

fn refusal(outcome: Result<Folder, Error>) -> String {
    match outcome {
        Err(Error::Refused(line)) if !line.contains('\n') => line,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_folder_is_a_store_of_records() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    testing::records(store.records.clone()).await;
    assert_eq!(store.records.integrity_check().await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_folder_is_a_store_of_bytes() {
    let folder = tempfile::tempdir().unwrap();
    testing::bytes(open(folder.path()).unwrap().bytes).await;
}

#[tokio::test]
async fn a_folder_is_served_once_and_its_holder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let served = open(folder.path()).unwrap();
    let line = refusal(open(folder.path()));
    assert!(line.contains(&format!("already served by process {}", std::process::id())), "{line}");
    let beside = Folder::open(folder.path(), Options::default(), Arc::new(SystemClock::new())).unwrap();
    let key = key::tag(&testing::repository(), &"v1".parse().unwrap());
    record::create(beside.records.as_ref(), &key, Number { number: 1 }).await.unwrap();
    assert!(served.records.get(&key).await.unwrap().is_some());
    drop(served);
    open(folder.path()).unwrap();
}

#[test]
fn a_folder_that_cannot_be_used_is_refused_in_one_line_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::File::options().create_new(true).write(true).open(&file).unwrap();
    for (path, way_out) in [(file.as_path(), "in the way"), (Path::new("/proc/hythe"), "name another folder")] {
        let line = refusal(open(path));
        assert!(line.contains(way_out) && line.contains(path.to_str().unwrap()), "{line}");
    }
}

#[test]
fn a_records_db_that_is_not_ours_is_refused() {
    let make = |name: &str, with: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir().unwrap();
        with(&folder.path().join("records.db"));
        let line = refusal(open(folder.path()));
        assert!(line.contains(name), "{line}");
    };
    make("not a whole database", &|path| {
        std::io::Write::write_all(
            &mut fs::File::options().create_new(true).write(true).open(path).unwrap(),
            &[7; 4096],
        )
        .unwrap();
    });
    make("of another program", &|path| {
        rusqlite::Connection::open(path).unwrap().execute_batch("CREATE TABLE other (x)").unwrap();
    });
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    let newer = rusqlite::Connection::open(folder.path().join("records.db")).unwrap();
    newer.execute_batch("PRAGMA user_version = 2").unwrap();
    drop(newer);
    assert!(refusal(open(folder.path())).contains("run a newer release"));
}

/// Copies what a crash leaves of the records: the file, and the log up to a point.
fn crash(from: &Path, to: &Path, cut: u64) {
    fs::create_dir_all(to).unwrap();
    for name in ["records.db", "records.db-wal"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    fs::File::options().write(true).open(to.join("records.db-wal")).unwrap().set_len(cut).unwrap();
}

#[tokio::test]
async fn a_log_cut_anywhere_holds_everything_written_before_the_cut() {
    let folder = tempfile::tempdir().unwrap();
    let live = open(&folder.path().join("live")).unwrap();
    let repository = testing::repository();
    let prefix = key::tags(&repository);
    let log = live.path().join("records.db-wal");
    let mut acknowledged = Vec::new();
    for number in 0..40 {
        let key = prefix.record(&format!("t{number:02}"));
        record::create(live.records.as_ref(), &key, Number { number }).await.unwrap();
        acknowledged.push(fs::metadata(&log).unwrap().len());
    }
    let whole = *acknowledged.last().unwrap();
    for cut in (0..=whole).step_by(1237).chain([whole]) {
        let copy = folder.path().join(format!("cut-{cut}"));
        crash(live.path(), &copy, cut);
        let store = open(&copy).unwrap();
        let found: Vec<String> =
            store.records.page(&prefix, None, 100).await.unwrap().into_iter().map(|e| e.name).collect();
        let expected: Vec<String> = (0..found.len()).map(|n| format!("t{n:02}")).collect();
        assert_eq!(found, expected, "a write without one before it");
        let promised = acknowledged.iter().filter(|at| **at <= cut).count();
        assert!(found.len() >= promised, "{} of {promised} at {cut}", found.len());
        assert_eq!(store.records.integrity_check().await.unwrap(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_stop_in_the_middle() {
    let folder = tempfile::tempdir().unwrap();
    let repository = testing::repository();
    let prefix = key::tags(&repository);
    let store = open(folder.path()).unwrap();
    let writes = (0..300).map(|number| {
        let (records, key) = (Arc::clone(&store.records), prefix.record(&format!("t{number:03}")));
        async move { record::create(records.as_ref(), &key, Number { number }).await.map(|_| key) }
    });
    let mut writes = futures::stream::iter(writes).buffer_unordered(64);
    let mut acknowledged = Vec::new();
    while acknowledged.len() < 100 {
        acknowledged.push(writes.next().await.unwrap().unwrap());
    }
    drop(writes);
    drop(store);
    let store = open(folder.path()).unwrap();
    for key in acknowledged {
        assert!(store.records.get(&key).await.unwrap().is_some(), "{key}");
    }
}

#[tokio::test]
async fn the_store_s_time_does_not_follow_a_clock_that_was_set_back() {
    let folder = tempfile::tempdir().unwrap();
    let repository = testing::repository();
    let key = |tag: &str| key::tag(&repository, &tag.parse().unwrap());
    let modified = async |year: &str, tag: &str| {
        let clock = ManualClock::at(format!("{year}-01-01T00:00:00Z").parse().unwrap());
        let store = Folder::open(folder.path(), Options::default(), Arc::new(clock)).unwrap();
        record::create(store.records.as_ref(), &key(tag), Number { number: 1 }).await.unwrap();
        store.records.get(&key(tag)).await.unwrap().unwrap()
    };
    let (first, second) = (modified("2030", "a").await, modified("2020", "b").await);
    assert_eq!(first.modified, second.modified);
    assert_ne!(first.version, second.version);
}

#[tokio::test]
async fn a_copied_folder_opens_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (original, copy) = (folder.path().join("original"), folder.path().join("copy"));
    let store = open(&original).unwrap();
    let key = key::tag(&testing::repository(), &"v1".parse().unwrap());
    record::create(store.records.as_ref(), &key, Number { number: 1 }).await.unwrap();
    assert!(!store.copied());
    fs::create_dir(&copy).unwrap();
    for name in ["records.db", "records.db-wal", "serve.lock"] {
        fs::copy(original.join(name), copy.join(name)).unwrap();
    }
    drop(store);
    assert!(!open(&original).unwrap().copied());
    let copied = open(&copy).unwrap();
    assert!(copied.copied());
    assert!(copied.records.get(&key).await.unwrap().is_some());
    drop(copied);
    assert!(!open(&copy).unwrap().copied());
}

#[tokio::test]
async fn a_copy_made_online_is_a_whole_database() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("live")).unwrap();
    let key = key::tag(&testing::repository(), &"v1".parse().unwrap());
    record::create(store.records.as_ref(), &key, Number { number: 1 }).await.unwrap();
    let copy = folder.path().join("backup");
    fs::create_dir(&copy).unwrap();
    store.records.copy_to(copy.join("records.db")).await.unwrap();
    assert!(open(&copy).unwrap().records.get(&key).await.unwrap().is_some());
}

#[tokio::test]
async fn another_process_s_write_changes_the_data_version() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let beside = Folder::open(folder.path(), Options::default(), Arc::new(SystemClock::new())).unwrap();
    let before = store.records.data_version().await.unwrap();
    let key = key::tag(&testing::repository(), &"v1".parse().unwrap());
    record::create(beside.records.as_ref(), &key, Number { number: 1 }).await.unwrap();
    assert_ne!(store.records.data_version().await.unwrap(), before);
}

#[tokio::test]
async fn bytes_beyond_what_was_saved_are_cut_off_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let x = DataId::random(testing::repository().account());
    let saved = store.bytes.begin(&x, false, None).await.unwrap();
    let mut writer = store.bytes.open(&x, &saved, 0, None).await.unwrap();
    writer.append("kept and lost".into()).await.unwrap();
    writer.checkpoint(true).await.unwrap();
    drop(writer);
    let mut writer = store.bytes.open(&x, &saved, 4, None).await.unwrap();
    writer.checkpoint(true).await.unwrap();
    writer.finish(4).await.unwrap();
    assert_eq!(store.bytes.read(&x, None).await.unwrap().size, 4);
}
