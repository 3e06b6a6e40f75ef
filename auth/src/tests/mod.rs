//! A whole installation in memory, and actors that try everything.

mod account;
mod audit;
mod decide;
mod declared;
mod federation;
mod follow;
mod host;
mod interleaving;
mod login;
mod mint;
mod render;
mod revoke;
mod right;
mod session;
mod token;
mod upkeep;

use std::{net::IpAddr, sync::Arc, time::Duration};

use chrono::DateTime;
use storage::{AccountName, Clock as _, Opener, RepositoryName, backend::memory::MemoryRecords, clock::ManualClock};

use crate::*;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const HOST: &str = "registry.example";

struct World {
    clock: Arc<ManualClock>,
    records: Arc<MemoryRecords>,
    auth: Auth,
}

fn settings() -> Settings {
    // Tests fail on purpose, often; the ones about throttling say so.
    Settings { failures: Rate { burst: 10_000.0, per_second: 1.0 }, ..Settings::default() }
}

fn repo(name: &str) -> RepositoryName {
    name.parse().unwrap()
}

fn name(name: &str) -> AccountName {
    name.parse().unwrap()
}

fn pull() -> MintRequest {
    MintRequest { kind: "pull".into(), ..MintRequest::default() }
}

fn push() -> MintRequest {
    MintRequest { kind: "push".into(), ..MintRequest::default() }
}

impl World {
    async fn new() -> Self {
        Self::with(settings()).await
    }

    async fn with(settings: Settings) -> Self {
        let clock = Arc::new(ManualClock::at(DateTime::from_timestamp(1_800_000_000, 0).unwrap()));
        let records = Arc::new(MemoryRecords::new(clock.clone()));
        let auth = Auth::open(records.clone(), clock.clone(), settings).await.unwrap();
        let world = Self { clock, records, auth };
        for account in ["acme", "beta"] {
            world.create(account).await.unwrap();
        }
        world
    }

    /// Another process over the same store.
    async fn sibling(&self, settings: Settings) -> Result<Auth, Error> {
        Auth::open(self.records.clone(), self.clock.clone(), settings).await
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    async fn create(&self, account: &str) -> Result<AccountDocument, Error> {
        self.auth.create_account(&Actor::Store, &NewAccount { name: account.into(), display: String::new() }).await
    }

    async fn key(&self, account: &str, new: NewKey) -> (Id, Actor) {
        let made = self.auth.create_key(&Actor::Store, &name(account), &new).await.unwrap();
        let actor = self.auth.authenticate_api(Some(made.key.unwrap().reveal()), HERE).await.unwrap();
        (made.id, actor)
    }

    async fn owner(&self, account: &str) -> (Id, Actor) {
        self.key(account, NewKey::default()).await
    }

    async fn mint(&self, actor: &Actor, account: &str, request: MintRequest) -> Minted {
        self.auth.mint(actor, &name(account), &request).await.unwrap()
    }

    async fn basic(&self, minted: &Minted, about: &str) -> Result<Principal, Refusal> {
        let (user, secret) = (minted.credential.username.as_str(), minted.secret.reveal());
        self.auth.authenticate(Presented::Basic { user, secret }, HERE, Some(&repo(about))).await
    }

    async fn issue(&self, minted: &Minted, scopes: &[&str]) -> Result<IssuedToken, TokenRefusal> {
        let (user, secret) = (minted.credential.username.as_str(), minted.secret.reveal());
        self.auth.issue(request(Presented::Basic { user, secret }, scopes), HERE).await
    }

    async fn token(&self, minted: &Minted, scopes: &[&str]) -> String {
        self.issue(minted, scopes).await.unwrap().token
    }

    async fn bearer(&self, token: &str, about: &str) -> Result<Principal, Refusal> {
        self.auth.authenticate(Presented::Bearer(token), HERE, Some(&repo(about))).await
    }

    async fn nobody(&self, about: &str) -> Principal {
        self.auth.authenticate(Presented::None, HERE, Some(&repo(about))).await.unwrap()
    }
}

fn request<'a>(presented: Presented<'a>, scopes: &[&'a str]) -> TokenRequest<'a> {
    TokenRequest {
        presented,
        refresh_token: None,
        account: None,
        service: None,
        scopes: scopes.to_vec(),
        client_id: None,
        host: HOST,
    }
}

/// What a decision comes to, short enough for a table.
fn outcome<A>(decision: &Result<Permit<A>, Refusal>) -> &'static str {
    match decision {
        Ok(_) => "yes",
        Err(Refusal::Unauthenticated(None)) => "401",
        Err(Refusal::Unauthenticated(Some(_))) => "401 told",
        Err(Refusal::InvalidToken) => "401 it",
        Err(Refusal::InsufficientScope(_)) => "401 is",
        Err(Refusal::Denied(_)) => "403",
        Err(Refusal::ReadOnly { .. }) => "405",
        Err(Refusal::Throttled(_)) => "429",
        Err(Refusal::Stale | Refusal::Unavailable(_)) => "503",
    }
}

/// Pull, push, delete.
fn outcomes(who: &Principal, about: &str) -> [&'static str; 3] {
    let about = repo(about);
    [
        outcome(&authorize::<Pull>(who, &about)),
        outcome(&authorize::<Push>(who, &about)),
        outcome(&authorize::<Delete>(who, &about)),
    ]
}

fn opener(id: &Id) -> Opener {
    id.opener()
}

fn fields(error: &Error) -> Vec<&str> {
    match error {
        Error::Invalid(invalid) => invalid.iter().map(|one| one.field.as_str()).collect(),
        other => panic!("not a validation error: {other}"),
    }
}

/// Handlers are spawned, so every call must be able to move between threads.
#[test]
fn every_call_may_move_between_threads() {
    fn movable<T: Send>(_: impl FnOnce(&'static Auth) -> T) {}
    movable(|auth| auth.authenticate(Presented::None, HERE, None));
    movable(|auth| auth.issue(request(Presented::None, &[]), HERE));
    movable(|auth| auth.authenticate_api(None, HERE));
    movable(|auth| auth.authenticate_session("", HERE));
    movable(|auth| async { auth.open_session(&Actor::Store).await.map(|_| ()) });
    movable(|auth| async { auth.close_session(&Actor::Store).await });
    movable(Auth::turn_signing_keys);
    movable(Auth::flush_audit);
    movable(|auth| auth.sweep_audit(None));
    movable(|auth| async { auth.set_public(&Actor::Store, &name("acme"), &PublicDocument::default(), None).await });
    movable(|auth| async { auth.mint(&Actor::Store, &name("acme"), &pull()).await });
    movable(|auth| async { auth.delete_account(&Actor::Store, &name("acme"), None).await });
    movable(|auth| async { auth.list_credentials(&Actor::Store, &name("acme"), &Page::default()).await });
}
