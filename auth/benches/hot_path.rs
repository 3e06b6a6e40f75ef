//! What a request costs before anything is read: a token that was verified before, one that was not, and a new token.
//!
//! `cargo bench -p hythe-auth` prints the figures; what is more than twice what is promised fails, so that a machine that does
//! something else beside is no failure, and so does an allocation where none is promised.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a program that measures, prints and fails"
)]

use std::{
    net::{IpAddr, Ipv4Addr},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use auth::{Actor, Auth, MintRequest, Minted, NewAccount, NewKey, Presented, Principal, Pull, TokenRequest, authorize};
use storage::{AccountName, Clock, RepositoryName, backend::memory::MemoryRecords, clock::SystemClock};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// What is promised.
const HIT: Duration = Duration::from_micros(2);
const MISS: Duration = Duration::from_micros(200);
const TOKENS_PER_SECOND: f64 = 5000.0;
const CREDENTIALS: usize = 60;
/// Looks of one round.
const EACH: u32 = 20_000;

struct World {
    clock: Arc<SystemClock>,
    auth: Auth,
    /// Another replica over the same store.
    other: Auth,
    minted: Vec<Minted>,
    about: RepositoryName,
}

async fn world() -> World {
    let clock = Arc::new(SystemClock::new());
    let records = Arc::new(MemoryRecords::new(clock.clone()));
    let open = async || Auth::open(records.clone(), clock.clone(), auth::Settings::default()).await.unwrap();
    let (auth, other) = (open().await, open().await);
    let acme: AccountName = "acme".parse().unwrap();
    let account = NewAccount { name: "acme".into(), display: String::new() };
    auth.create_account(&Actor::Store, &account).await.unwrap();
    let key = auth.create_key(&Actor::Store, &acme, &NewKey::default()).await.unwrap().key.unwrap();
    let owner = auth.authenticate_api(Some(key.reveal()), HERE).await.unwrap();
    let request = MintRequest { kind: "pull".into(), ..MintRequest::default() };
    let mut minted = Vec::new();
    for _ in 0..CREDENTIALS {
        minted.push(auth.mint(&owner, &acme, &request).await.unwrap());
    }
    World { clock, auth, other, minted, about: "acme/web/api".parse().unwrap() }
}

async fn issue(auth: &Auth, minted: &Minted) -> String {
    let request = TokenRequest {
        presented: Presented::Basic { user: &minted.credential.username, secret: minted.secret.reveal() },
        refresh_token: None,
        account: None,
        service: None,
        scopes: vec!["repository:acme/web/api:pull"],
        client_id: None,
        host: "registry.example",
    };
    auth.issue(request, HERE).await.unwrap().token
}

/// What needs no waiting, without a runtime around it; nobody else is to have a turn in between.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(tokio::task::unconstrained(future)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("it waits"),
    }
}

fn pulls(auth: &Auth, token: &str, about: &RepositoryName) -> bool {
    let who: Principal = at_once(auth.authenticate(Presented::Bearer(token), HERE, Some(about))).unwrap();
    authorize::<Pull>(&who, about).is_ok()
}

/// The best of some rounds: what else the machine does is nobody's cost.
fn best(rounds: usize, mut round: impl FnMut() -> Duration) -> Duration {
    (0..rounds).map(|_| round()).min().unwrap()
}

async fn a_known_token_costs_a_look_and_allocates_nothing() {
    let world = world().await;
    let minted = world.minted.first().unwrap();
    let token = issue(&world.auth, minted).await;
    assert!(pulls(&world.auth, &token, &world.about));
    let counted = allocation_counter::measure(|| assert!(pulls(&world.auth, &token, &world.about)));
    assert_eq!(counted.count_total, 0, "{counted:?}");
    let basic = Presented::Basic { user: &minted.credential.username, secret: minted.secret.reveal() };
    at_once(world.auth.authenticate(basic, HERE, Some(&world.about))).unwrap();

    let hit = best(10, || {
        let began = world.clock.elapsed();
        for _ in 0..EACH {
            assert!(pulls(&world.auth, &token, &world.about));
        }
        world.clock.elapsed().saturating_sub(began) / EACH
    });
    println!("a token that is known: {hit:?} ({HIT:?} promised), no allocation");
    assert!(hit < 2 * HIT, "{hit:?}");
}

async fn a_new_token_of_a_known_credential_costs_a_signature_check() {
    let world = world().await;
    let mut tokens = Vec::new();
    for minted in &world.minted {
        assert!(pulls(&world.other, &issue(&world.auth, minted).await, &world.about));
        for _ in 0..10 {
            tokens.push(issue(&world.auth, minted).await);
        }
    }
    let each = u32::try_from(CREDENTIALS).unwrap();
    let mut rounds = tokens.chunks(CREDENTIALS);
    let miss = best(10, || {
        let round = rounds.next().unwrap();
        let began = world.clock.elapsed();
        for token in round {
            assert!(pulls(&world.other, token, &world.about));
        }
        world.clock.elapsed().saturating_sub(began) / each
    });
    println!("a token that is not known: {miss:?} ({MISS:?} promised)");
    assert!(miss < 2 * MISS, "{miss:?}");
}

async fn tokens_are_given_out_by_the_thousand() {
    let world = world().await;
    let round = || {
        let began = world.clock.elapsed();
        std::thread::scope(|scope| {
            for half in world.minted.chunks(CREDENTIALS / 2) {
                scope.spawn(|| {
                    for minted in half.iter().cycle().take(1000) {
                        at_once(issue(&world.auth, minted));
                    }
                });
            }
        });
        world.clock.elapsed().saturating_sub(began)
    };
    let rate = 2000.0 / best(3, round).as_secs_f64();
    println!("tokens of {CREDENTIALS} credentials, two threads: {rate:.0} a second ({TOKENS_PER_SECOND} promised)");
    assert!(rate > TOKENS_PER_SECOND / 2.0, "{rate}");
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        a_known_token_costs_a_look_and_allocates_nothing().await;
        a_new_token_of_a_known_credential_costs_a_signature_check().await;
        tokens_are_given_out_by_the_thousand().await;
    });
}
