//! What strangers send, mutated for as long as it is told (`HYTHE_FUZZ_SECONDS`, 10 a target): nothing panics, nothing is accepted but
//! what was handed out, and what is printed reads back as what was meant.

mod challenge;
mod claims;
mod cookie;
mod header;
mod oidc;
mod scope;
mod secret;
mod token;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use auth::{Actor, Auth, MintRequest, NewAccount, Rate, Settings};
use chrono::DateTime;
use registry::{Running, open::Opened};
use storage::{
    AccountName,
    backend::memory::{MemoryBytes, MemoryRecords},
    clock::ManualClock,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// An installation in memory whose clock stands still, with accounts `acme` and `beta`; nobody is slowed.
struct Installation {
    auth: Auth,
    records: Arc<MemoryRecords>,
}

/// User name and password of a credential.
type Login = (String, String);

impl Installation {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::at(DateTime::from_timestamp(1_800_000_000, 0).unwrap()));
        let records = Arc::new(MemoryRecords::new(clock.clone()));
        let free = || Rate { burst: 1e12, per_second: 1e12 };
        let settings = Settings {
            failures: free(),
            token_requests: free(),
            mints: free(),
            live_credentials_per_key: u64::MAX,
            live_credentials_per_account: u64::MAX,
            ..Settings::default()
        };
        let auth = Auth::open(records.clone(), clock, settings).await.unwrap();
        for name in ["acme", "beta"] {
            make_account(&auth, name).await;
        }
        Self { auth, records }
    }

    async fn mint(&self, account: &str, kind: &str, repositories: &[&str]) -> (Login, auth::Id) {
        mint(&self.auth, account, kind, repositories).await
    }

    async fn token(&self, login: &Login, scopes: &[&str]) -> String {
        let (user, secret) = (login.0.as_str(), login.1.as_str());
        let request = auth::TokenRequest {
            presented: auth::Presented::Basic { user, secret },
            refresh_token: None,
            account: None,
            service: None,
            scopes: scopes.to_vec(),
            client_id: None,
            host: "registry.example",
        };
        self.auth.issue(request, HERE).await.unwrap().token
    }
}

fn name(account: &str) -> AccountName {
    account.parse().unwrap()
}

async fn make_account(auth: &Auth, name: &str) {
    let new = NewAccount { name: name.to_owned(), display: String::new() };
    auth.create_account(&Actor::Store, &new).await.unwrap();
}

async fn mint(auth: &Auth, account: &str, kind: &str, repositories: &[&str]) -> (Login, auth::Id) {
    let repositories = repositories.iter().map(|&pattern| pattern.to_owned()).collect();
    let request = MintRequest { kind: kind.to_owned(), repositories: Some(repositories), ..MintRequest::default() };
    let minted = auth.mint(&Actor::Store, &name(account), &request).await.unwrap();
    ((minted.credential.username, minted.secret.reveal().to_owned()), minted.credential.id)
}

/// A server on an installation in memory, and one connection to it at a time.
struct Server {
    running: Running,
    connection: Option<TcpStream>,
}

/// An answer as it came.
struct Told {
    status: u16,
    head: String,
}

impl Told {
    /// The values of a header.
    fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(line, _)| line.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }
}

impl Server {
    async fn start() -> Self {
        let clock = Arc::new(ManualClock::at(DateTime::from_timestamp(1_800_000_000, 0).unwrap()));
        let sources = config::Sources::isolated().set("listen", "127.0.0.1:0").set("operations", "off");
        // Every request says where it comes from, so that no address fails often enough to be slowed.
        let config = config::load(&sources.set("trusted_proxy", "127.0.0.0/8")).unwrap();
        let records = Arc::new(MemoryRecords::new(clock.clone()));
        let opened = Opened::over(records, Arc::new(MemoryBytes::growing()));
        let running = registry::start_on(config, opened, clock).await.unwrap();
        for name in ["acme", "beta"] {
            make_account(&running.app.auth, name).await;
        }
        Self { running, connection: None }
    }

    fn address(&self) -> SocketAddr {
        self.running.address
    }

    /// Sends a head, byte for byte, and reads the answer, which must have a body or say that it has none (no `HEAD`); `None` if the
    /// connection ended without one.
    async fn ask(&mut self, head: &[u8]) -> Option<Told> {
        let mut stream = match self.connection.take() {
            Some(stream) => stream,
            None => TcpStream::connect(self.address()).await.unwrap(),
        };
        stream.write_all(head).await.ok()?;
        let mut bytes = Vec::new();
        loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
                let told = Told { status: head.split(' ').nth(1)?.parse().ok()?, head };
                let length: usize = told.header("content-length").first()?.parse().ok()?;
                let have = bytes.len() - end - 4;
                if have >= length {
                    if told.header("connection").iter().all(|value| !value.eq_ignore_ascii_case("close")) {
                        self.connection = Some(stream);
                    }
                    return Some(told);
                }
            }
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        }
    }
}
