use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use async_trait::async_trait;
use storage::{
    Clock, Generation, Time,
    backend::{Body, Entry, Found, Records, Version},
    clock::SystemClock,
    key::{self, PlainKey, Prefix, RecordKey},
    record,
};

use super::*;
use crate::revocation::{AuthLog, What};

/// A credential that another replica has used.
struct Warm {
    world: World,
    other: Auth,
    owner: Actor,
    minted: Minted,
    token: String,
}

impl Warm {
    async fn new(on_stale: OnStale, kind: MintRequest) -> Self {
        let world = World::new().await;
        let change = AccountChange { on_stale: Some(on_stale), ..AccountChange::default() };
        world.auth.change_account(&Actor::Store, &name("acme"), &change, None).await.unwrap();
        let (_, owner) = world.owner("acme").await;
        let minted = world.mint(&owner, "acme", kind).await;
        let token = world.token(&minted, &["repository:acme/x:pull,push"]).await;
        let warm = Self { other: world.sibling(settings()).await.unwrap(), world, owner, minted, token };
        warm.asks().await.unwrap();
        warm
    }

    /// Asks the other replica with the token.
    async fn asks(&self) -> Result<Principal, Refusal> {
        self.other.authenticate(Presented::Bearer(&self.token), HERE, Some(&repo("acme/x"))).await
    }

    async fn revoke(&self) {
        self.world.auth.revoke_credential(&self.owner, &name("acme"), &self.minted.credential.id).await.unwrap();
    }
}

#[tokio::test]
async fn what_another_replica_has_ended_is_refused_from_the_next_look_on_and_by_the_bound_without_one() {
    let warm = Warm::new(OnStale::Refuse, push()).await;
    warm.revoke().await;
    let calls = warm.world.records.faults().calls();
    assert!(warm.asks().await.is_ok());
    assert_eq!(warm.world.records.faults().calls(), calls, "a warm token costs no read");
    warm.other.follow().await.unwrap();
    assert!(matches!(warm.asks().await, Err(Refusal::InvalidToken)));

    let warm = Warm::new(OnStale::Refuse, push()).await;
    warm.revoke().await;
    warm.world.pass(5);
    assert!(matches!(warm.asks().await, Err(Refusal::InvalidToken)));
}

#[tokio::test]
async fn an_entry_that_left_the_log_before_it_was_looked_at_is_not_missed() {
    let warm = Warm::new(OnStale::Refuse, pull()).await;
    warm.revoke().await;
    for _ in 0..2000 {
        warm.world.auth.log_end(&Generation::random(), What::Everything).await.unwrap();
    }
    warm.other.follow().await.unwrap();
    assert!(matches!(warm.asks().await, Err(Refusal::InvalidToken)));
}

#[tokio::test]
async fn a_log_that_was_rolled_back_makes_everything_be_read_again() {
    let warm = Warm::new(OnStale::Refuse, pull()).await;
    let before = record::read::<AuthLog>(&*warm.world.records, &key::authlog()).await.unwrap().unwrap().value;
    for _ in 0..3 {
        warm.world.auth.log_end(&Generation::random(), What::Everything).await.unwrap();
    }
    warm.other.follow().await.unwrap();
    warm.revoke().await;
    record::modify(&*warm.world.records, &key::authlog(), |log: &mut AuthLog| {
        *log = before.clone();
        Ok::<_, Error>(true)
    })
    .await
    .unwrap();
    assert!(warm.asks().await.is_ok());
    warm.other.follow().await.unwrap();
    assert!(matches!(warm.asks().await, Err(Refusal::InvalidToken)));
}

/// A crash came between the mark and the log, in a revocation that nobody was told had succeeded.
#[tokio::test]
async fn an_end_that_never_came_into_the_log_is_found_within_five_minutes() {
    let warm = Warm::new(OnStale::Refuse, pull()).await;
    // Account, credential, its mark; then the log's read fails.
    warm.world.records.faults().die_after(3);
    let id = &warm.minted.credential.id;
    assert!(warm.world.auth.revoke_credential(&warm.owner, &name("acme"), id).await.is_err());
    warm.world.records.faults().heal();
    warm.world.pass(299);
    assert!(warm.asks().await.is_ok());
    warm.world.pass(1);
    assert!(matches!(warm.asks().await, Err(Refusal::InvalidToken)));
}

#[tokio::test]
async fn without_the_store_an_account_is_refused_at_the_bound_or_its_pulls_served_for_an_hour() {
    let refusing = Warm::new(OnStale::Refuse, pull()).await;
    let serving = Warm::new(OnStale::Serve, pull()).await;
    let pushing = Warm::new(OnStale::Serve, push()).await;
    for warm in [&refusing, &serving, &pushing] {
        warm.world.records.faults().die_after(0);
        warm.world.pass(4);
        let who = warm.asks().await.unwrap();
        assert_eq!(who.holder().unwrap().stale(), None);
        warm.world.pass(1);
    }
    assert!(matches!(refusing.asks().await, Err(Refusal::Stale)));
    assert!(matches!(pushing.asks().await, Err(Refusal::Stale)));
    let who = serving.asks().await.unwrap();
    assert_eq!(who.holder().unwrap().stale(), Some(Duration::from_secs(5)));
    assert_eq!(serving.other.stale_decisions(), 1);
    assert_eq!(outcomes(&who, "acme/x")[0], "yes");
    // A token of its own for it, and nothing for a stranger, a key or another's repository.
    let (user, secret) = (serving.minted.credential.username.as_str(), serving.minted.secret.reveal());
    let asked = request(Presented::Basic { user, secret }, &["repository:acme/x:pull", "repository:beta/x:pull"]);
    let issued = serving.other.issue(asked, HERE).await.unwrap();
    assert_eq!(
        (issued.stale, issued.scope.to_string()),
        (Some(Duration::from_secs(5)), "repository:acme/x:pull".into())
    );
    let stranger = serving.other.authenticate(Presented::None, HERE, Some(&repo("acme/x"))).await;
    assert!(matches!(stranger, Err(Refusal::Stale)), "{stranger:?}");

    serving.world.pass(3595);
    assert!(serving.asks().await.is_ok());
    serving.world.pass(1);
    assert!(matches!(serving.asks().await, Err(Refusal::Stale)));
    // What was decided so is told once it is known again what has ended.
    let told = async || {
        serving.other.flush_audit().await.unwrap();
        let page = Page { after: None, limit: 100 };
        let lines = serving.other.audit(&Actor::Store, &name("acme"), None, &page).await.unwrap().items;
        lines
            .into_iter()
            .filter(|line| line.event == "stale.serve")
            .map(|line| line.target.unwrap())
            .collect::<Vec<_>>()
    };
    serving.world.records.faults().heal();
    serving.world.pass(1);
    assert_eq!(told().await, Vec::<String>::new());
    assert_eq!(serving.asks().await.unwrap().holder().unwrap().stale(), None);
    assert_eq!(told().await, ["2"]);
    assert_eq!(told().await, ["2"]);
}

/// A clock whose two sides move apart, as in a machine that was suspended.
#[derive(Debug, Default)]
struct Apart {
    wall: AtomicI64,
}

impl Clock for Apart {
    fn now(&self) -> Time {
        DateTime::from_timestamp(1_800_000_000 + self.wall.load(Ordering::Relaxed), 0).unwrap()
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

#[tokio::test]
async fn a_machine_that_was_suspended_decides_nothing_by_what_it_knew_before() {
    let world = World::new().await;
    let clock = Arc::new(Apart::default());
    let other = Auth::open(world.records.clone(), clock.clone(), settings()).await.unwrap();
    let (_, owner) = world.owner("acme").await;
    let minted = world.mint(&owner, "acme", pull()).await;
    let (user, secret) = (minted.credential.username.as_str(), minted.secret.reveal());
    let ask = async || other.authenticate(Presented::Basic { user, secret }, HERE, None).await;
    ask().await.unwrap();
    world.auth.revoke_credential(&owner, &name("acme"), &minted.credential.id).await.unwrap();
    assert!(ask().await.is_ok());
    for moved in [30, -30] {
        clock.wall.store(moved, Ordering::Relaxed);
        world.records.faults().die_after(0);
        assert!(matches!(ask().await, Err(Refusal::Stale)), "{moved}");
        world.records.faults().heal();
    }
    clock.wall.store(-28, Ordering::Relaxed);
    assert!(matches!(ask().await, Err(Refusal::Unauthenticated(Some(Reason::RevokedAt(_))))));
}

#[tokio::test]
async fn many_ends_at_once_are_written_together_and_the_first_does_not_wait() {
    let pause = Duration::from_millis(20);
    let world = World::with(Settings { append_pause: pause, ..settings() }).await;
    let rev = async || record::read::<AuthLog>(&*world.records, &key::authlog()).await.unwrap().unwrap().rev();
    let before = rev().await;
    let generations: Vec<_> = (0..10).map(|_| Generation::random()).collect();
    let started = SystemClock::new();
    let ends = generations.iter().map(|generation| world.auth.log_end(generation, What::Everything));
    let mut ends: Vec<_> = ends.map(Box::pin).collect();
    ends.remove(0).await.unwrap();
    assert!(started.elapsed() < pause);
    assert_eq!(rev().await, before + 1);
    for ended in futures::future::join_all(ends).await {
        ended.unwrap();
    }
    assert_eq!(rev().await, before + 2);
    let log = record::read::<AuthLog>(&*world.records, &key::authlog()).await.unwrap().unwrap();
    assert_eq!(log.value.seq(), 10);
}

/// A store that takes its time to answer what it found.
#[derive(Debug)]
struct Slow {
    records: Arc<MemoryRecords>,
    clock: Arc<ManualClock>,
    seconds: AtomicU64,
}

#[async_trait]
impl Records for Slow {
    async fn get(&self, key: &RecordKey) -> Result<Option<Found>, storage::Error> {
        let found = self.records.get(key).await;
        self.clock.advance(Duration::from_secs(self.seconds.load(Ordering::Relaxed)));
        found
    }

    async fn create(&self, key: &RecordKey, body: &Body) -> Result<Version, storage::Error> {
        self.records.create(key, body).await
    }

    async fn update(&self, key: &RecordKey, version: &Version, body: &Body) -> Result<Version, storage::Error> {
        self.records.update(key, version, body).await
    }

    async fn remove(&self, key: &RecordKey, version: &Version) -> Result<(), storage::Error> {
        self.records.remove(key, version).await
    }

    async fn get_plain(&self, key: &PlainKey) -> Result<Option<Found>, storage::Error> {
        self.records.get_plain(key).await
    }

    async fn put(&self, key: &PlainKey, body: bytes::Bytes) -> Result<(), storage::Error> {
        self.records.put(key, body).await
    }

    async fn delete(&self, key: &PlainKey) -> Result<(), storage::Error> {
        self.records.delete(key).await
    }

    async fn page(&self, prefix: &Prefix, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, storage::Error> {
        self.records.page(prefix, after, limit).await
    }

    async fn health(&self) -> Result<(), storage::Error> {
        self.records.health().await
    }
}

/// Who slows the store gains no time: a decision is made by what is known when it is made, not when it was begun.
#[tokio::test]
async fn a_record_that_was_read_for_longer_than_the_bound_decides_nothing() {
    let world = World::new().await;
    let (_, owner) = world.owner("acme").await;
    let minted = world.mint(&owner, "acme", pull()).await;
    let slow =
        Arc::new(Slow { records: world.records.clone(), clock: world.clock.clone(), seconds: AtomicU64::new(0) });
    let other = Auth::open(slow.clone(), world.clock.clone(), settings()).await.unwrap();
    let (user, secret) = (minted.credential.username.as_str(), minted.secret.reveal());
    let ask = async || other.authenticate(Presented::Basic { user, secret }, HERE, None).await;
    slow.seconds.store(5, Ordering::Relaxed);
    assert!(matches!(ask().await, Err(Refusal::Stale)));
    slow.seconds.store(1, Ordering::Relaxed);
    world.pass(1);
    assert!(ask().await.is_ok());
}
