//! A whole installation in this process: servers over one counted store, its accounts, and what lies in their repositories.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use auth::{AccountChange, AccountState, Actor, Auth, MintRequest, NewAccount, NewKey, PublicDocument};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::DateTime;
use conformance::{
    Answer, Client, Request,
    fixture::{Algorithm, Bundle, Content, Format, image, index_of},
    push,
};
use parking_lot::Mutex;
use registry::{Running, open::Opened};
use storage::{AccountName, Opener, Repository, clock::ManualClock};

use super::{
    counted::{Counted, CountedBytes, CountedRecords},
    oracle::{Door, Place, Stage},
};

/// The account that most rows are of.
pub(super) const ACME: &str = "acme";
/// Another account, whose credentials try acme's repositories.
pub(super) const BETA: &str = "beta";
/// The account of [`Place::Other`]: no row is of it, and at first it does not exist.
pub(super) const GAMMA: &str = "gamma";
/// Its credentials have run out.
pub(super) const LATE: &str = "late";
/// Read-only.
pub(super) const FROZEN: &str = "frozen";
/// Suspended.
pub(super) const HALTED: &str = "halted";
/// Deleted and made again.
pub(super) const PHOENIX: &str = "phoenix";
/// Its policy admits few addresses.
pub(super) const WALLED: &str = "walled";
/// Chose that its pulls go on without the store.
pub(super) const SERVED: &str = "served";
/// No row is of it, and it was given a name.
pub(super) const DELTA: &str = "delta";
/// The domain under which every account has a name.
const DOMAIN: &str = "accounts.test";
/// Deleted, and nobody made it again.
pub(super) const GONE: &str = "gone";

/// Accounts that exist from the beginning.
const ACCOUNTS: [&str; 8] = [ACME, BETA, LATE, FROZEN, HALTED, PHOENIX, WALLED, SERVED];
/// The private repository, in every account.
pub(super) const PRIVATE: &str = "web/api";
/// The public one.
const PUBLIC: &str = "open/hello";
/// The tag of the content.
pub(super) const TAG: &str = "v1";
/// An address that away rows must come from and do not.
pub(super) const ALLOWED: &str = "192.0.2.0/24";

/// A server of the installation.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) client: Client,
    running: Running,
}

impl Site {
    async fn start(counted: &Arc<Counted>, clock: &Arc<ManualClock>, read_only: bool) -> Self {
        let sources = config::Sources::isolated()
            .set("listen", "127.0.0.1:0")
            .set("operations", "off")
            // Every request says where it comes from, so that no address fails often enough to be slowed.
            .set("trusted_proxy", "127.0.0.0/8")
            .set("account_domain", DOMAIN)
            .set("read_only", read_only.to_string());
        let config = config::load(&sources).unwrap();
        let records = Arc::new(CountedRecords(Arc::clone(counted)));
        let opened = Opened::over(records, Arc::new(CountedBytes(Arc::clone(counted))));
        let running = registry::start_on(config, opened, Arc::clone(clock) as Arc<dyn storage::Clock>).await.unwrap();
        Self { client: Client::new(running.address), running }
    }

    /// What its own pages send as `Origin`.
    pub(super) fn origin(&self) -> String {
        format!("http://{}", self.client.address())
    }

    /// The name that is asked at, as a `Host` header has it: acme and delta were given one, the others have that under the domain.
    pub(super) fn host(&self, door: Door, account: &str) -> String {
        let port = self.client.address().port();
        match (door, account) {
            (Door::Registry, _) => self.client.address().to_string(),
            (Door::Own, ACME) => format!("registry.{ACME}.test:{port}"),
            (Door::Own, account) => format!("{account}.{DOMAIN}:{port}"),
            (Door::Foreign, _) => format!("registry.{DELTA}.test:{port}"),
            (Door::Nobodys, _) => format!("nobody.{DOMAIN}:{port}"),
        }
    }

    /// The realm and service of every challenge.
    pub(super) fn challenge(&self, host: &str, scope: &str, error: Option<&str>) -> String {
        let service = self.running.app.auth.service();
        let realm = format!("Bearer realm=\"http://{host}/token\",service=\"{service}\"");
        let scope = if scope.is_empty() { String::new() } else { format!(",scope=\"{scope}\"") };
        let error = error.map(|error| format!(",error=\"{error}\"")).unwrap_or_default();
        realm + &scope + &error
    }
}

/// A credential with its secret.
#[derive(Debug, Clone)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) secret: String,
    pub(super) id: auth::Id,
}

impl Login {
    pub(super) fn basic(&self) -> String {
        basic(&self.user, &self.secret)
    }
}

/// The value of a Basic header.
pub(super) fn basic(user: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{secret}")))
}

/// The value of a Bearer header.
pub(super) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// The value of a `Cookie` header with a session in it.
pub(super) fn cookie(session: &str) -> String {
    format!("__Host-hythe={session}")
}

/// What to mint.
pub(super) fn order(kind: &str, actions: &[&str], repositories: &[&str]) -> MintRequest {
    let texts = |list: &[&str]| (!list.is_empty()).then(|| list.iter().map(|&text| text.to_owned()).collect());
    MintRequest {
        kind: kind.to_owned(),
        actions: texts(actions),
        repositories: texts(repositories),
        ttl_seconds: Some(DAY),
        ..MintRequest::default()
    }
}

/// Long enough for everything but what has to expire.
const DAY: u64 = 24 * 3600;

fn name(account: &str) -> AccountName {
    account.parse().unwrap()
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) clock: Arc<ManualClock>,
    pub(super) counted: Arc<Counted>,
    pub(super) main: Site,
    pub(super) read_only: Site,
    /// Of [`Stage::There`].
    pub(super) bundle: Bundle,
    /// What is pushed by a cell that may.
    pub(super) pushed: Content,
    other: Bundle,
    pushers: Mutex<BTreeMap<String, Login>>,
    addresses: AtomicU32,
}

impl World {
    /// Servers and accounts, with nothing in them.
    pub(super) async fn new() -> Self {
        let clock = Arc::new(ManualClock::at(DateTime::from_timestamp(1_800_000_000, 0).unwrap()));
        let counted = Arc::new(Counted::new(Arc::clone(&clock) as Arc<dyn storage::Clock>));
        let world = Self {
            main: Site::start(&counted, &clock, false).await,
            read_only: Site::start(&counted, &clock, true).await,
            clock,
            counted,
            bundle: image("isolation", Format::Oci),
            pushed: index_of(Algorithm::Sha256, &[], &serde_json::Map::new()),
            other: image("something else", Format::Oci),
            pushers: Mutex::default(),
            addresses: AtomicU32::new(0),
        };
        for account in ACCOUNTS {
            world.create(account).await;
        }
        world.create(DELTA).await;
        for account in [ACME, DELTA] {
            let hosts = Some(vec![format!("registry.{account}.test")]);
            world.change(account, AccountChange { hosts, ..AccountChange::default() }).await;
        }
        world
    }

    pub(super) fn auth(&self) -> &Auth {
        &self.main.running.app.auth
    }

    pub(super) fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Makes an account with a public corner.
    pub(super) async fn create(&self, account: &str) {
        let new = NewAccount { name: account.to_owned(), display: String::new() };
        self.auth().create_account(&Actor::Store, &new).await.unwrap();
        let public = PublicDocument { patterns: vec![format!("{account}/open/*")], ..PublicDocument::default() };
        self.auth().set_public(&Actor::Store, &name(account), &public, None).await.unwrap();
    }

    pub(super) async fn delete(&self, account: &str) {
        self.pass(1);
        self.auth().delete_account(&Actor::Store, &name(account), None).await.unwrap();
        self.pushers.lock().remove(account);
    }

    pub(super) async fn change(&self, account: &str, change: AccountChange) {
        // An account may end five rights a second.
        self.pass(1);
        self.auth().change_account(&Actor::Store, &name(account), &change, None).await.unwrap();
    }

    async fn set_state(&self, account: &str, state: AccountState) {
        self.change(account, AccountChange { state: Some(state), ..AccountChange::default() }).await;
    }

    /// Freezes and halts what is to be frozen and halted.
    pub(super) async fn settle(&self) {
        self.set_state(FROZEN, AccountState::ReadOnly).await;
        self.set_state(HALTED, AccountState::Suspended).await;
        // The day of last use of what was used so far: nothing writes it in the middle of a cell.
        self.auth().write_last_use().await.unwrap();
        self.quiet().await;
    }

    /// Lets what runs beside the requests come to its end: all of it is on this thread, and none of it waits.
    pub(super) async fn quiet(&self) {
        for _ in 0..256 {
            tokio::task::yield_now().await;
        }
        self.counted.take();
    }

    pub(super) async fn mint(&self, account: &str, request: &MintRequest) -> Login {
        self.mint_as(&Actor::Store, account, request).await
    }

    pub(super) async fn mint_as(&self, actor: &Actor, account: &str, request: &MintRequest) -> Login {
        let minted = self.auth().mint(actor, &name(account), request).await.unwrap();
        let secret = minted.secret.reveal().to_owned();
        Login { user: minted.credential.username, secret, id: minted.credential.id }
    }

    pub(super) async fn revoke(&self, account: &str, login: &Login) {
        self.pass(1);
        self.auth().revoke_credential(&Actor::Store, &name(account), &login.id).await.unwrap();
    }

    /// Makes an access key: its secret, its id, and who acts with it.
    pub(super) async fn key(&self, account: &str, new: NewKey) -> (String, auth::Id, Actor) {
        let made = self.auth().create_key(&Actor::Store, &name(account), &new).await.unwrap();
        let secret = made.key.unwrap().reveal().to_owned();
        let inside = "192.0.2.1".parse().unwrap();
        let actor = self.auth().authenticate_api(Some(&secret), inside).await.unwrap();
        (secret, made.id, actor)
    }

    pub(super) async fn revoke_key(&self, account: &str, id: &auth::Id) {
        self.pass(1);
        self.auth().revoke_key(&Actor::Store, &name(account), id).await.unwrap();
    }

    /// An access token for scopes, from an address that every list of allowed networks admits.
    pub(super) async fn token(&self, login: &Login, scopes: &[String]) -> String {
        self.try_token(Some(login), scopes).await.expect(200).json()["token"].as_str().unwrap().to_owned()
    }

    pub(super) async fn try_token(&self, login: Option<&Login>, scopes: &[String]) -> Answer {
        let query: Vec<_> = scopes.iter().map(|scope| format!("scope={scope}")).collect();
        let request =
            Request::get(format!("/token?{}", query.join("&"))).header("X-Forwarded-For", "192.0.2.1".to_owned());
        let request = match login {
            Some(login) => request.header("Authorization", login.basic()),
            None => request,
        };
        self.main.client.send(request).await
    }

    /// An address that nobody has come from yet.
    pub(super) fn address(&self) -> IpAddr {
        let next = self.addresses.fetch_add(1, Ordering::Relaxed);
        IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + next))
    }

    /// The repository at a place, seen from an account.
    pub(super) fn repository(account: &str, place: Place) -> String {
        match place {
            Place::Own => format!("{account}/{PRIVATE}"),
            Place::Public => format!("{account}/{PUBLIC}"),
            Place::Other => format!("{GAMMA}/{PRIVATE}"),
        }
    }

    /// A caller that may do everything in an account that lives.
    async fn pusher(&self, account: &str) -> conformance::Caller {
        let known = self.pushers.lock().get(account).cloned();
        let login = if let Some(login) = known {
            login
        } else {
            let login = self.mint(account, &order("push", &["push", "delete"], &[])).await;
            self.pushers.lock().insert(account.to_owned(), login.clone());
            login
        };
        conformance::Caller::basic(&self.main.client, &login.user, &login.secret)
    }

    /// Brings every repository to a stage.
    pub(super) async fn bring(&self, stage: Stage) {
        match stage {
            Stage::NoAccount => {}
            Stage::NoRepository => self.create(GAMMA).await,
            Stage::NoContent | Stage::There => {
                self.set_state(FROZEN, AccountState::Active).await;
                self.set_state(HALTED, AccountState::Active).await;
                for account in ACCOUNTS.into_iter().chain([GAMMA]) {
                    for place in [Place::Own, Place::Public] {
                        self.fill(&Self::repository(account, place), stage).await;
                    }
                }
                for account in [FROZEN, HALTED] {
                    self.pushers.lock().remove(account);
                }
            }
        }
        self.settle().await;
    }

    /// Pushes what a stage has, again if need be.
    pub(super) async fn fill(&self, repository: &str, stage: Stage) {
        let (account, _) = repository.split_once('/').unwrap();
        let pusher = self.pusher(account).await;
        let _pushed = match stage {
            Stage::NoAccount | Stage::NoRepository => return,
            Stage::NoContent => push::bundle(&pusher, repository, "other", &self.other).await,
            Stage::There => push::bundle(&pusher, repository, TAG, &self.bundle).await,
        };
    }

    /// Opens an upload session as somebody who may: its id.
    pub(super) async fn open_session(&self, repository: &str) -> String {
        let (account, _) = repository.split_once('/').unwrap();
        session_id(&push::open(&self.pusher(account).await, repository).await)
    }

    /// An upload id that this registry signed for this account, and for no repository that anybody asks for.
    pub(super) async fn foreign_session(&self, account: &str) -> String {
        let Some(account) = self.auth().resolve(&name(account)).await.unwrap() else { return "0".repeat(75) };
        let elsewhere = format!("{}/web/elsewhere", account.name()).parse().unwrap();
        let repository = Repository::new(account, elsewhere).unwrap();
        let opener: Opener = "0000000000000000".parse().unwrap();
        let now = storage::Clock::now(&*self.clock);
        self.auth().upload_keys().open(&repository, None, opener, now).unwrap().1
    }

    /// The generation that a text means now, if it is an account's name.
    pub(super) async fn generation(&self, account: &str) -> Option<String> {
        let account = self.auth().resolve(&account.parse().ok()?).await.unwrap()?;
        Some(account.generation().to_string())
    }
}

/// The id at the end of a session's location.
pub(super) fn session_id(location: &str) -> String {
    location.rsplit('/').next().unwrap_or_default().to_owned()
}
