//! The keys of the issuers that the operator trusts (OpenID Connect Discovery 1.0), kept for an hour.

use std::{collections::HashMap, sync::Arc, time::Duration};

use auth::{IssuerKeys, NotKeys};
use config::Issuers as Setting;
use parking_lot::Mutex;
use serde::Deserialize;
use storage::Clock;

use crate::remote::{FetchError, Guarded};

/// How long keys are used without asking again.
const FRESH: Duration = Duration::from_hours(1);
/// How long the last good keys are used while their issuer gives no others.
const KEPT: Duration = Duration::from_hours(24);
/// How long after one question the next is asked, for a key that is not there: whoever makes up names of keys asks nobody more often.
const PAUSE: Duration = Duration::from_mins(1);
/// The same where there is nothing to go on with.
const PAUSE_WITHOUT: Duration = Duration::from_secs(10);

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum NoKeys {
    /// The operator does not trust the issuer, or not any more.
    #[error("the issuer is not one of trusted_issuer")]
    Untrusted,
    /// It gave none, now or a moment ago.
    #[error("the issuer gives no keys")]
    Unavailable,
}

/// Why an issuer's keys were not read: for the log.
#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("{0}")]
    Fetch(String, #[source] FetchError),
    #[error("{0} is no discovery document")]
    Discovery(String),
    #[error("its discovery document is that of {0}")]
    Issuer(String),
    #[error("{0}")]
    Keys(String, #[source] NotKeys),
}

/// What of a discovery document matters (OpenID Connect Discovery 1.0 section 3).
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// The trusted issuers and their keys.
#[derive(Debug)]
pub(crate) struct Issuers {
    trusted: Vec<String>,
    remote: Guarded,
    clock: Arc<dyn Clock>,
    /// One for each issuer that was asked; they are no more than the trusted ones.
    slots: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Held>>>>,
}

#[derive(Debug, Default)]
struct Held {
    good: Option<(Arc<IssuerKeys>, Duration)>,
    asked: Option<Duration>,
}

impl Issuers {
    pub(crate) fn new(setting: &Setting, clock: Arc<dyn Clock>) -> Self {
        let remote = Guarded::new(setting.networks.clone());
        Self { trusted: setting.trusted.clone(), remote, clock, slots: Mutex::default() }
    }

    /// The keys of an issuer, among them if possible the one of this name.
    pub(crate) async fn keys(&self, issuer: &str, kid: &str) -> Result<Arc<IssuerKeys>, NoKeys> {
        if !self.trusted.iter().any(|trusted| trusted == issuer) {
            return Err(NoKeys::Untrusted);
        }
        let slot = Arc::clone(self.slots.lock().entry(issuer.to_owned()).or_default());
        // Whoever comes while one asks waits for its answer.
        let mut held = slot.lock().await;
        let now = self.clock.elapsed();
        if let Some((keys, at)) = &held.good
            && now.saturating_sub(*at) <= FRESH
            && keys.has(kid)
        {
            return Ok(Arc::clone(keys));
        }
        let pause = if held.good.is_some() { PAUSE } else { PAUSE_WITHOUT };
        if held.asked.is_none_or(|at| now.saturating_sub(at) >= pause) {
            held.asked = Some(now);
            match self.fetch(issuer).await {
                Ok(keys) => held.good = Some((Arc::new(keys), now)),
                Err(cause) => tracing::warn!(
                    event = "issuer.unavailable",
                    issuer,
                    error = crate::telemetry::chain(&cause),
                    "the keys of an issuer were not read"
                ),
            }
        }
        match &held.good {
            Some((keys, at)) if now.saturating_sub(*at) <= KEPT => Ok(Arc::clone(keys)),
            _ => Err(NoKeys::Unavailable),
        }
    }

    async fn fetch(&self, issuer: &str) -> Result<IssuerKeys, Cause> {
        let at = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let document = self.remote.get(&at).await.map_err(|error| Cause::Fetch(at.clone(), error))?;
        let discovery: Discovery = serde_json::from_slice(&document).map_err(|_| Cause::Discovery(at))?;
        if discovery.issuer != issuer {
            return Err(Cause::Issuer(discovery.issuer.chars().take(200).collect()));
        }
        let at = discovery.jwks_uri;
        let document = self.remote.get(&at).await.map_err(|error| Cause::Fetch(at.clone(), error))?;
        IssuerKeys::published(&document).map_err(|error| Cause::Keys(at, error))
    }
}
