//! What an operator may set.
//!
//! One table, [`SETTINGS`], names every setting once; its key in the file (TOML), its flag and its variable are spelled alike:
//! `limits.body_timeout`, `--limits-body-timeout`, `HYTHE_LIMITS_BODY_TIMEOUT`. [`load`] lays them over one another, defaults <
//! file < environment < flags, and checks the result into a [`Config`]; an error names the place, the key and the way out.
//!
//! - in a variable a list is comma-separated, and an empty variable is no setting at all (compose files write `${X:-}`);
//! - a secret is also taken from a file: `seal_key_file`, `--seal-key-file`, `HYTHE_SEAL_KEY_FILE`;
//! - a key of the file that is not in the table is refused; a variable is not, because Kubernetes puts `HYTHE_SERVICE_HOST` and
//!   its kin into every container beside a service called `hythe`.
//!
//! It depends on nothing else of the workspace: names of accounts are text here and are parsed by who uses them.

mod check;
mod declared;
mod error;
mod load;
mod setting;
mod value;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;

pub use declared::{DeclaredAccount, DeclaredKey};
pub use error::{Error, Origin};
pub use load::{Effective, Sources, load};
pub use setting::{Kind, SETTINGS, Setting};
pub use value::{ByteSize, HostName, HumanDuration, PublicUrl, Scheme, Secret};

/// The default file, embedded: a working registry in `./data`. It is also the reference of every key.
pub const DEFAULT_FILE: &str = include_str!("default.toml");

/// Everything an operator set, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where and how requests come in.
    pub server: Server,
    /// Where everything is kept.
    pub store: Store,
    /// The account to make when it does not exist yet; text as it was given. Default: none.
    pub account: Option<String>,
    /// Seals private keys and MAC roots in the store. Without it, who reads the store can sign.
    pub seal_key: Option<Secret>,
    /// The program that prints the seal key, and its arguments. Default: none.
    pub seal_key_command: Option<Vec<String>>,
    /// Whose tokens may be exchanged for credentials.
    pub issuers: Issuers,
    /// What one client, or many, may use of this process.
    pub limits: Limits,
    /// What is written to stderr.
    pub log: Log,
    /// Accounts and keys that shall exist. Default: none.
    pub accounts: Vec<DeclaredAccount>,
    /// Every setting as it came out, for `config show`; secrets are redacted.
    pub effective: Vec<Effective>,
}

impl Config {
    /// Whether both come to the same, wherever their values came from.
    pub fn same(&self, other: &Self) -> bool {
        self.differs(other).is_empty() && self.accounts == other.accounts
    }

    /// The settings whose values are others.
    pub fn differs(&self, other: &Self) -> Vec<&'static Setting> {
        let value = |config: &Self, key| config.effective.iter().find(|e| e.key == key).map(|e| e.value.clone());
        let same_seal = match (&self.seal_key, &other.seal_key) {
            (Some(one), Some(other)) => one.matches(other.reveal()),
            (one, other) => one.is_none() && other.is_none(),
        };
        let differs = |setting: &&Setting| match setting.key {
            "seal_key" => !same_seal,
            key => value(self, key) != value(other, key),
        };
        SETTINGS.iter().filter(differs).collect()
    }
}

/// Where and how requests come in.
#[derive(Debug, Clone)]
pub struct Server {
    /// The public listener. Port 0 takes a free one. Default `127.0.0.1:5080`.
    pub listen: SocketAddr,
    /// The listener for the operator: metrics and readiness with detail. Default `127.0.0.1:5081`.
    pub operations: Operations,
    /// The names clients use; the first is canonical in what is rendered. Default: none, so loopback names alone.
    pub public_urls: Vec<PublicUrl>,
    /// The domain under which every account has a name of its own. Default: none.
    pub account_domain: Option<HostName>,
    /// Whose `X-Forwarded-*` count. Default: nobody's.
    pub trusted_proxies: Vec<IpNet>,
    /// TLS on the public listener. Default: none.
    pub tls: Option<Tls>,
    /// The authority and the certificate that the server makes itself; [`Server::tls`] names what it serves. Default: none.
    pub self_signed: Option<SelfSigned>,
    /// Refuses pushes and deletes of the whole registry. Default false.
    pub read_only: bool,
    /// Take image manifests whose blobs the repository does not contain. Default false: such an image cannot be pulled.
    pub sparse_manifests: bool,
    /// What an account may keep that has no quota of its own, in bytes. Default: all there is room for.
    pub default_quota: Option<u64>,
    /// Uploads of one account that may be unfinished in this process. Default 1000.
    pub open_uploads: usize,
    /// How long an ended right may still be honoured, 2 to 60 seconds. Default 5 s.
    pub revocation_bound: Duration,
}

/// The operations listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operations {
    /// None.
    Off,
    /// At the default address; left out, and said so, if somebody else has it.
    Default(SocketAddr),
    /// At an address that was asked for: if it is taken, the start fails.
    At(SocketAddr),
}

/// Whose tokens may be exchanged for credentials, beside those whose keys an account gives itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Issuers {
    /// The issuers whose keys this registry asks for, as their tokens name them, byte for byte. Default: none.
    pub trusted: Vec<String>,
    /// Where issuers may be, beside public addresses. Default: nowhere.
    pub networks: Vec<IpNet>,
}

/// Where certificates are. At least one of both; files that change are read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate for whoever asks for no name, or for one that no other certificate has.
    pub pair: Option<TlsFiles>,
    /// A folder of `NAME.crt` and `NAME.key` pairs, chosen by the names in the certificates.
    pub folder: Option<PathBuf>,
}

/// What the server makes its own certificate for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfSigned {
    /// The names; they are public ones where no public URL is set.
    pub hosts: Vec<HostName>,
    /// Where authority and certificate are kept.
    pub folder: PathBuf,
}

/// PEM files of a certificate chain and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Where everything is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// A folder of this machine. Default `./data`.
    Folder(PathBuf),
    /// An object store.
    Remote {
        /// Its address, e.g. `s3://bucket/prefix`.
        url: url::Url,
        /// A SQLite file for the records, for buckets without conditional writes.
        records: Option<PathBuf>,
    },
}

/// What one client, or many, may use of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once. Default 4096.
    pub connections: usize,
    /// Bytes of a request's head, or of its header list in HTTP/2. Default 16 KiB.
    pub header_size: usize,
    /// How long a request's head may take from its first byte. Default 10 s.
    pub header_timeout: Duration,
    /// How long a connection may stay without a request. Default 75 s: above the 60 s of common load balancers.
    pub idle_timeout: Duration,
    /// How long a transfer may stand still, in either direction; no limit on its whole length. Default 60 s.
    pub body_timeout: Duration,
    /// How long requests may go on after the order to stop. Default 25 s: below the 30 s Kubernetes gives.
    pub drain_timeout: Duration,
}

/// What is written to stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Which events: a level, or `target=level` directives. Default `info`, but for what the store's client says of its retries.
    pub filter: String,
    /// How. Default `text`.
    pub format: LogFormat,
}

/// The form of a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
