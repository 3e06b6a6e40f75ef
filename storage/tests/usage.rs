//! What accounts use: the counters' sum against the count, whoever dies and whatever is lost; and quotas.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a suite of tests")]

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use storage::{
    Account, Algorithm, Deletable, Digest, Error, Readable, Repository, Settings, Store, UploadKeys, Writable,
    backend::{
        Records,
        memory::{Fault, MemoryBytes, MemoryRecords},
        testing,
    },
    blob,
    clock::ManualClock,
    key,
    stream::ByteStream,
    upload::{self, Incoming},
    usage::{self, Recounter, Turn},
};

const REPOSITORIES: [&str; 3] = ["acme/a", "acme/b", "acme/c"];

struct World {
    records: Arc<MemoryRecords>,
    bytes: Arc<MemoryBytes>,
    clock: Arc<ManualClock>,
    account: Account,
    processes: Vec<Store>,
}

#[expect(clippy::disallowed_methods, reason = "a test may name an account and make capabilities")]
impl World {
    async fn new(processes: usize) -> Self {
        let clock = Arc::new(ManualClock::at("2026-11-21T12:00:00Z".parse().unwrap()));
        let records = Arc::new(MemoryRecords::new(clock.clone()));
        let account = testing::living_account(&*records).await;
        let bytes = Arc::new(MemoryBytes::growing());
        let mut world = Self { records, bytes, clock, account, processes: Vec::new() };
        world.processes = (0..processes).map(|_| world.process(Settings::default())).collect();
        world
    }

    fn process(&self, settings: Settings) -> Store {
        let (bytes, keys) = (self.bytes.clone(), UploadKeys::new([&b"key"[..]]));
        let tracker = tokio_util::task::TaskTracker::new();
        Store::new(self.records.clone(), bytes, self.clock.clone(), keys, settings, tracker)
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

    fn later(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Everything, counted.
    async fn truth(&self) -> u64 {
        let (usage, rest) = usage::count(&self.processes[0], &self.account, None).await.unwrap();
        assert_eq!(rest, None);
        usage.bytes
    }

    /// What a process says when nothing is under way.
    async fn used(&self, process: usize) -> u64 {
        self.later(2);
        usage::used(&self.processes[process], &self.account).await.unwrap()
    }

    async fn flush(&self) {
        for process in &self.processes {
            usage::flush(process).await.unwrap();
        }
    }

    /// Lets a process count the account anew, a week after the last time.
    async fn recount(&self, process: usize) -> Vec<Turn> {
        self.later(8 * 86_400);
        let mut recounter = Recounter::default();
        recounter.begin_round();
        let mut turns = Vec::new();
        loop {
            self.later(1);
            turns.push(recounter.turn(&self.processes[process]).await.unwrap());
            if turns.last() == Some(&Turn::Idle) {
                return turns;
            }
            assert!(turns.len() < 100, "{turns:?}");
        }
    }

    /// Names of the counters.
    async fn counters(&self) -> Vec<String> {
        let page = self.records.page(&key::usages(&self.account), None, 100).await.unwrap();
        page.into_iter().map(|entry| entry.name).collect()
    }
}

fn data(blob: usize) -> Vec<u8> {
    vec![u8::try_from(blob).unwrap(); 10 * (blob + 1)]
}

fn digest(blob: usize) -> Digest {
    Digest::of(Algorithm::Sha256, &data(blob))
}

fn incoming(data: Vec<u8>, told: bool) -> Incoming {
    let length = told.then_some(data.len() as u64);
    let body: ByteStream = Box::pin(futures::stream::once(async { Ok(data.into()) }));
    Incoming { body, length, start: None }
}

async fn push(store: &Store, target: &Writable, data: Vec<u8>) -> Result<(), Error> {
    let digest = Digest::of(Algorithm::Sha256, &data);
    upload::push(store, target, &digest, "0000000000000001".parse().unwrap(), incoming(data, true)).await
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Push {
        process: usize,
        repository: usize,
        blob: usize,
    },
    Mount {
        process: usize,
        from: usize,
        to: usize,
        blob: usize,
    },
    Delete {
        process: usize,
        repository: usize,
        blob: usize,
    },
    Flush {
        process: usize,
    },
    /// A write of a counter goes wrong; for good only with the process.
    Faulty {
        process: usize,
        fault: usize,
    },
    Deliver,
    Crash {
        process: usize,
    },
    Recount {
        process: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let process = || 0..2_usize;
    let repository = || 0..REPOSITORIES.len();
    prop_oneof![
        6 => (process(), repository(), 0..4_usize)
            .prop_map(|(process, repository, blob)| Step::Push { process, repository, blob }),
        3 => (process(), repository(), repository(), 0..4_usize)
            .prop_map(|(process, from, to, blob)| Step::Mount { process, from, to, blob }),
        3 => (process(), repository(), 0..4_usize)
            .prop_map(|(process, repository, blob)| Step::Delete { process, repository, blob }),
        2 => process().prop_map(|process| Step::Flush { process }),
        2 => (process(), 0..4_usize).prop_map(|(process, fault)| Step::Faulty { process, fault }),
        1 => Just(Step::Deliver),
        1 => process().prop_map(|process| Step::Crash { process }),
        1 => process().prop_map(|process| Step::Recount { process }),
    ]
}

async fn holds(steps: Vec<Step>) {
    let mut world = World::new(2).await;
    let mut lost = false;
    for step in steps {
        world.later(1);
        match step {
            Step::Push { process, repository, blob } => {
                let target = world.writable(REPOSITORIES[repository]);
                push(&world.processes[process], &target, data(blob)).await.unwrap();
            }
            Step::Mount { process, from, to, blob } => {
                let (target, source) = (world.writable(REPOSITORIES[to]), world.readable(REPOSITORIES[from]));
                storage::mount(&world.processes[process], &target, &source, &digest(blob)).await.unwrap();
            }
            Step::Delete { process, repository, blob } => {
                let target = world.deletable(REPOSITORIES[repository]);
                match blob::delete(&world.processes[process], &target, &digest(blob)).await {
                    Ok(()) | Err(Error::NoBlob | Error::NoRepository) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
            Step::Flush { process } => usage::flush(&world.processes[process]).await.unwrap(),
            Step::Faulty { process, fault } => {
                let fault = [Fault::Fail, Fault::LoseAnswer, Fault::Duplicate, Fault::Delay][fault];
                world.records.faults().next(fault);
                let _lost_or_not = usage::flush(&world.processes[process]).await;
                world.records.faults().heal();
            }
            Step::Deliver => world.records.faults().deliver(),
            Step::Crash { process } => {
                world.processes[process] = world.process(Settings::default());
                lost = true;
            }
            Step::Recount { process } => {
                world.flush().await;
                world.records.faults().deliver();
                let turns = world.recount(process).await;
                lost &= !turns.contains(&Turn::Made);
            }
        }
    }
    world.flush().await;
    world.records.faults().deliver();
    if !lost {
        for process in 0..2 {
            assert_eq!(world.used(process).await, world.truth().await, "without a recount");
        }
    }
    world.recount(0).await;
    for process in 0..2 {
        assert_eq!(world.used(process).await, world.truth().await, "after the recount");
    }
    // And from there on.
    push(&world.processes[1], &world.writable("acme/a"), data(9)).await.unwrap();
    world.flush().await;
    assert_eq!(world.used(0).await, world.truth().await, "after a further push");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Exact when quiescent without a crash, and after a recount whatever happened: crashes, lost answers, writes that arrive twice
    /// or late, counters that a recount has folded away under a process that lives.
    #[test]
    fn the_sum_is_the_truth(steps in proptest::collection::vec(step(), 1..40)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(holds(steps));
    }
}

#[tokio::test]
async fn a_count_during_which_a_counter_moves_is_worth_nothing() {
    let world = World::new(2).await;
    push(&world.processes[0], &world.writable("acme/a"), data(0)).await.unwrap();
    world.flush().await;
    let mut recounter = Recounter::default();
    recounter.begin_round();
    let mut turns = Vec::new();
    while !turns.contains(&Turn::Settling) {
        turns.push(recounter.turn(&world.processes[0]).await.unwrap());
    }
    push(&world.processes[1], &world.writable("acme/a"), data(1)).await.unwrap();
    world.flush().await;
    world.later(5);
    assert_eq!(recounter.turn(&world.processes[0]).await.unwrap(), Turn::Moved);
    assert!(!world.counters().await.contains(&"!base".to_owned()));
    assert_eq!(world.used(0).await, world.truth().await);
}

#[tokio::test]
async fn the_counters_of_dead_processes_go_once_a_base_holds_what_they_said() {
    let mut world = World::new(1).await;
    for n in 0..5 {
        push(&world.processes[0], &world.writable("acme/a"), data(n)).await.unwrap();
        world.flush().await;
        world.processes[0] = world.process(Settings::default());
    }
    assert_eq!(world.counters().await.len(), 5);
    assert!(world.recount(0).await.contains(&Turn::Made));
    assert_eq!(world.counters().await, ["!base"]);
    assert_eq!(world.used(0).await, world.truth().await);
}

#[tokio::test]
async fn what_is_over_the_quota_is_refused_before_a_byte_is_taken() {
    let world = World::new(1).await;
    let store = &world.processes[0];
    let target = world.writable("acme/a").within(Some(100));
    push(store, &target, vec![1; 60]).await.unwrap();
    let writes = |world: &World| world.records.listing().len();
    let before = writes(&world);
    let refused = push(store, &target, vec![2; 50]).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "account acme uses 60 B of its quota of 100 B and cannot take this: delete what is not needed, or have the operator raise \
         the quota (hythe account set acme --quota SIZE)"
    );
    assert_eq!(writes(&world), before, "no session, no bytes, no member");
    // A chunk whose length nobody told is refused where it goes over.
    let opener = || "0000000000000001".parse().unwrap();
    let text = upload::open(store, &target, None, opener()).await.unwrap();
    let id = upload::parse(store, &target, &text).unwrap();
    let refused = upload::append(store, &target, &id, incoming(vec![3; 50], false)).await.unwrap_err();
    assert!(matches!(refused, Error::QuotaExceeded { used: 60, limit: 100, .. }), "{refused:?}");
    assert_eq!(upload::status(store, &target, &id).await.unwrap(), 0);
    // What fits comes in, and then nothing.
    push(store, &target, vec![4; 40]).await.unwrap();
    assert!(matches!(upload::open(store, &target, None, opener()).await, Err(Error::QuotaExceeded { .. })));
    // The quota is raised: the very session goes on.
    let raised = world.writable("acme/a").within(Some(1000));
    assert_eq!(upload::append(store, &raised, &id, incoming(vec![3; 50], false)).await.unwrap(), 50);
    let digest = Digest::of(Algorithm::Sha256, &[3; 50]);
    // And a commit is compared too.
    let refused = upload::commit(store, &target, &id, &digest, incoming(vec![], true)).await.unwrap_err();
    assert!(matches!(refused, Error::QuotaExceeded { .. }), "{refused:?}");
    upload::commit(store, &raised, &id, &digest, incoming(vec![], true)).await.unwrap();
    assert_eq!(usage::used(store, &world.account).await.unwrap(), 150);
}

#[tokio::test]
async fn a_mount_takes_what_an_upload_takes_and_what_is_there_takes_nothing() {
    let world = World::new(1).await;
    let store = &world.processes[0];
    push(store, &world.writable("acme/a"), vec![1; 60]).await.unwrap();
    let digest = Digest::of(Algorithm::Sha256, &[1; 60]);
    let (source, target) = (world.readable("acme/a"), world.writable("acme/b"));
    let full = target.clone().within(Some(100));
    let refused = storage::mount(store, &full, &source, &digest).await.unwrap_err();
    assert!(matches!(refused, Error::QuotaExceeded { used: 60, limit: 100, .. }), "{refused:?}");
    assert_eq!(storage::mount(store, &target, &source, &digest).await.unwrap(), Some(60));
    assert_eq!(storage::mount(store, &full, &source, &digest).await.unwrap(), Some(60));
    assert_eq!(usage::used(store, &world.account).await.unwrap(), 120);
}

#[tokio::test]
async fn another_process_s_pushes_count_within_a_second() {
    let world = World::new(2).await;
    push(&world.processes[0], &world.writable("acme/a"), vec![1; 60]).await.unwrap();
    world.flush().await;
    world.later(2);
    let target = world.writable("acme/b").within(Some(100));
    assert!(matches!(push(&world.processes[1], &target, vec![2; 50]).await, Err(Error::QuotaExceeded { .. })));
    let ratio = world.processes[1].usage().nearest_quota(&world.processes[1]).unwrap();
    assert!((ratio - 0.6).abs() < 1e-9, "{ratio}");
}

/// An account from before there were counters: its first push under a quota has it counted.
#[tokio::test]
async fn an_account_that_was_never_counted_is_counted_when_a_quota_is_first_compared() {
    let mut world = World::new(1).await;
    push(&world.processes[0], &world.writable("acme/a"), vec![1; 60]).await.unwrap();
    // It dies before its counter is written.
    world.processes[0] = world.process(Settings::default());
    let store = world.processes[0].clone();
    let target = world.writable("acme/a").within(Some(100));
    push(&store, &target, vec![2; 10]).await.unwrap();
    world.flush().await;
    let mut recounter = Recounter::default();
    let mut turns = Vec::new();
    while turns.last() != Some(&Turn::Idle) {
        world.later(1);
        turns.push(recounter.turn(&store).await.unwrap());
    }
    assert!(turns.contains(&Turn::Made), "{turns:?}");
    assert_eq!(world.used(0).await, 70);
    assert!(matches!(push(&store, &target, vec![3; 40]).await, Err(Error::QuotaExceeded { used: 70, .. })));
}

/// Without a quota nothing is read; with one a list a second, and a read of each counter that has moved.
#[tokio::test]
async fn a_quota_costs_a_list_a_second() {
    let world = World::new(2).await;
    let store = &world.processes[0];
    let free = world.writable("acme/a");
    let held = free.clone().within(Some(1 << 40));
    let open = async |target: &Writable| {
        let before = world.records.faults().calls();
        upload::open(store, target, None, "0000000000000001".parse().unwrap()).await.unwrap();
        world.records.faults().calls() - before
    };
    push(&world.processes[1], &free, data(1)).await.unwrap();
    world.flush().await;
    assert_eq!(open(&free).await, 0);
    assert_eq!(open(&held).await, 2, "the list and the other process's counter");
    assert_eq!(open(&held).await, 0);
    world.later(2);
    assert_eq!(open(&held).await, 1, "the list; nothing has moved");
}

#[tokio::test]
async fn unfinished_uploads_are_counted_until_they_end_or_nobody_goes_on_with_them() {
    let world = World::new(1).await;
    let store = world.process(Settings { open_uploads: 2, ..Settings::default() });
    let target = world.writable("acme/a");
    let begin = async || {
        let text = upload::open(&store, &target, None, "0000000000000001".parse().unwrap()).await?;
        let id = upload::parse(&store, &target, &text)?;
        upload::append(&store, &target, &id, incoming(vec![1; 5], true)).await?;
        Ok::<_, Error>(id)
    };
    let (first, second) = (begin().await.unwrap(), begin().await.unwrap());
    let refused = begin().await.unwrap_err();
    assert!(refused.to_string().starts_with("account acme has 2 unfinished uploads here"), "{refused}");
    // Those that were begun go on.
    upload::append(&store, &target, &first, incoming(vec![1; 5], true)).await.unwrap();
    upload::cancel(&store, &target, &second).await.unwrap();
    let third = begin().await.unwrap();
    upload::commit(&store, &target, &third, &Digest::of(Algorithm::Sha256, &[1; 5]), incoming(vec![], true))
        .await
        .unwrap();
    begin().await.unwrap();
    assert!(begin().await.is_err());
    world.later(3601);
    begin().await.unwrap();
}

/// A shared blob is stored once: where it was pushed, and when it goes there, in the first repository that is left.
#[tokio::test]
async fn stored_bytes_follow_a_blob_that_outlives_its_origin() {
    let world = World::new(1).await;
    let store = &world.processes[0];
    push(store, &world.writable("acme/b"), vec![1; 60]).await.unwrap();
    let digest = Digest::of(Algorithm::Sha256, &[1; 60]);
    for other in ["acme/a", "acme/c"] {
        storage::mount(store, &world.writable(other), &world.readable("acme/b"), &digest).await.unwrap();
    }
    let counted = async || usage::count(store, &world.account, None).await.unwrap().0;
    assert_eq!((counted().await.bytes, counted().await.stored_bytes), (180, 60));
    blob::delete(store, &world.deletable("acme/b"), &digest).await.unwrap();
    assert_eq!((counted().await.bytes, counted().await.stored_bytes), (120, 60));
    blob::delete(store, &world.deletable("acme/a"), &digest).await.unwrap();
    assert_eq!((counted().await.bytes, counted().await.stored_bytes), (60, 60));
}
