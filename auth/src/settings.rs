use std::time::Duration;

use crate::{limit::Rate, seal::SealKey};

/// What an operator may set of this crate.
#[derive(Debug)]
pub struct Settings {
    /// Seals private keys and MAC roots at rest.
    pub seal_key: Option<SealKey>,
    /// No write of any account goes on (`serve --read-only`).
    pub read_only: bool,
    /// How long a revoked right may live on, at most; 2 to 60 seconds.
    pub bound: Duration,
    /// Between two writes of the log of ended rights by this process: some buckets take one a second of one object.
    pub append_pause: Duration,
    /// Failing requests of one address.
    pub failures: Rate,
    /// Token requests of one credential.
    pub token_requests: Rate,
    /// Mints of one key.
    pub mints: Rate,
    /// Rights ended in one account.
    pub revocations: Rate,
    /// Live credentials of one key.
    pub live_credentials_per_key: u64,
    /// Live credentials of one account.
    pub live_credentials_per_account: u64,
    /// The registry's own names, without ports: no account is given one of them.
    pub public_names: Vec<String>,
    /// The domain under which every account has a name by itself.
    pub account_domain: Option<String>,
    /// What an account may keep, in bytes, whose document does not say it; `None`: all there is room for.
    pub default_quota: Option<u64>,
    /// The issuers of tokens whose keys this registry asks for, by their `iss`.
    pub trusted_issuers: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seal_key: None,
            read_only: false,
            bound: Duration::from_secs(5),
            append_pause: Duration::ZERO,
            failures: Rate { burst: 60.0, per_second: 1.0 },
            token_requests: Rate { burst: 200.0, per_second: 200.0 },
            mints: Rate { burst: 100.0, per_second: 10.0 },
            revocations: Rate { burst: 5.0, per_second: 5.0 },
            live_credentials_per_key: 10_000,
            live_credentials_per_account: 1_000_000,
            public_names: Vec::new(),
            account_domain: None,
            default_quota: None,
            trusted_issuers: Vec::new(),
        }
    }
}
