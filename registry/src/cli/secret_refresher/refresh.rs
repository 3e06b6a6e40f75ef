//! One look at a Secret: is it fresh, and if not, mint, write in place, tell.
//!
//! The old login stays in the Secret until the next is written over it, and a login that was minted but could not be written
//! is written at the next try: minting it may have shortened the life of the one before.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use storage::{Clock, Time};

use super::{
    super::{
        login::{self, Login},
        private_file::{self, Readers},
        server::text,
    },
    board::{Board, Place},
    config::{Config, Wanted},
    kubernetes::{self, Kubernetes},
    secret::Found,
};
use crate::{
    remote::{self, Remote},
    telemetry::chain,
};

/// How often a Secret that needs nothing is read again: somebody may have changed or deleted it.
const CHECK: Duration = Duration::from_mins(1);
/// The first wait after a failure, doubled with each, and the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// How often a change by somebody else is followed at once.
const RACES: usize = 5;
/// The annotation by which a service account asks for Secrets: their names, with commas.
const WANTS: &str = "hythe.io/pull-secrets";

/// What is remembered of a Secret between two looks.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// When it is looked at again.
    next: Option<Time>,
    failures: u32,
    /// What was last told as an Event.
    told: Option<String>,
    /// Minted, not yet written.
    pending: Option<Login>,
}

impl Memory {
    pub(super) fn is_due(&self, now: Time) -> bool {
        self.next.is_none_or(|next| next <= now)
    }
}

/// Why a Secret was not renewed. One line.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Key(String),
    #[error("no login was minted")]
    Mint(#[source] remote::Error),
    #[error("the Secret was not written")]
    Cluster(#[from] kubernetes::Error),
    #[error(
        "the Secret is of the type {found}, which cannot be changed, and not {wanted}: choose another name, or delete it"
    )]
    Type { found: String, wanted: &'static str },
    #[error("others change the Secret again and again")]
    Races,
}

/// What every look needs.
#[derive(Debug)]
pub(super) struct Refresher {
    pub(super) kubernetes: Kubernetes,
    pub(super) config: Config,
    pub(super) board: Arc<Board>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Refresher {
    /// Looks at one Secret in one namespace, and does what is due.
    pub(super) async fn tend(&self, wanted: &Wanted, space: &str, memory: &mut Memory) {
        let place: Place = (space.to_owned(), wanted.name.clone());
        let mut uid = String::new();
        let renewed = self.renew(wanted, space, memory, &mut uid).await;
        let attached = match &renewed {
            Ok(_) => self.attach(wanted, space).await,
            Err(_) => Ok(true),
        };
        let now = self.clock.now();
        match (renewed, attached) {
            (Ok((renew, expires)), Ok(attached)) => {
                self.board.note(&place, Some(expires));
                if memory.told.take().is_some() {
                    self.tell(&place, &uid, "Normal", "Renewed", "the login is renewed again").await;
                }
                memory.failures = 0;
                // A service account that is not there yet is made within moments of its namespace.
                let check = if attached { CHECK } else { FIRST_WAIT };
                memory.next = Some(renew.min(now + check));
            }
            (Ok((_, expires)), Err(failure)) => {
                self.board.note(&place, Some(expires));
                self.failed(&place, &uid, &failure.into(), memory).await;
            }
            (Err(failure), _) => self.failed(&place, &uid, &failure, memory).await,
        }
    }

    async fn failed(&self, place: &Place, uid: &str, failure: &Failure, memory: &mut Memory) {
        let line = chain(failure);
        let wait = FIRST_WAIT.saturating_mul(2u32.saturating_pow(memory.failures)).min(LONGEST_WAIT);
        memory.failures = memory.failures.saturating_add(1);
        memory.next = Some(self.clock.now() + wait);
        self.board.failed.fetch_add(1, Ordering::Relaxed);
        let (space, name) = place;
        tracing::warn!(namespace = space, secret = name, "not renewed, next try in {} s: {line}", wait.as_secs());
        if memory.told.as_ref() != Some(&line) {
            self.tell(place, uid, "Warning", "RenewalFailed", &line).await;
            memory.told = Some(line);
        }
    }

    /// When the Secret is to be renewed and when its login ends, after it was renewed if that was due.
    async fn renew(
        &self,
        wanted: &Wanted,
        space: &str,
        memory: &mut Memory,
        uid: &mut String,
    ) -> Result<(Time, Time), Failure> {
        for _ in 0..RACES {
            let found = self.found(wanted, space).await?;
            let now = self.clock.now();
            if let Some(found) = &found {
                uid.clone_from(&found.uid);
                self.board.note(&(space.to_owned(), wanted.name.clone()), found.expires);
                if found.of_type != wanted.of_type() {
                    return Err(Failure::Type { found: found.of_type.clone(), wanted: wanted.of_type() });
                }
                if found.is_fresh(wanted, now)
                    && let (Some(renew), Some(expires)) = (found.renew, found.expires)
                {
                    memory.pending = None;
                    return Ok((renew, expires));
                }
            }
            let login = match memory.pending.take().filter(|login| now < login.half()) {
                Some(login) => login,
                None => self.mint(wanted, found.as_ref(), now).await?,
            };
            memory.pending = Some(login.clone());
            match self.write(wanted, space, found.as_ref(), &login).await {
                Ok(()) => {
                    memory.pending = None;
                    self.board.renewed.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(namespace = space, secret = wanted.name, credential = login.username, "renewed");
                    return Ok((login.half(), login.expires()));
                }
                // Somebody changed, made or deleted it since it was read.
                Err(error) if error.is_conflict() || (error.is_absent() && found.is_some()) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::Races)
    }

    async fn found(&self, wanted: &Wanted, space: &str) -> Result<Option<Found>, kubernetes::Error> {
        match self.kubernetes.get(&format!("{}/{}", secrets(space), wanted.name)).await {
            Ok(object) => Ok(Some(Found::read(&object))),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn mint(&self, wanted: &Wanted, found: Option<&Found>, now: Time) -> Result<Login, Failure> {
        let server = self.server(&wanted.key_file).map_err(Failure::Key)?;
        let replaces = found.and_then(|found| found.replaceable(wanted, now));
        let mint = async |replaces| login::mint(&server, &wanted.account, &wanted.order, replaces, &*self.clock).await;
        match mint(replaces).await {
            // It is another key's, or gone: there is nothing to replace.
            Err(remote::Error::Refused { message, .. }) if replaces.is_some() && message.starts_with("/replaces") => {
                mint(None).await
            }
            minted => minted,
        }
        .map_err(Failure::Mint)
    }

    /// The key is read each time: it may have been rotated.
    fn server(&self, key_file: &Path) -> Result<Remote, String> {
        let key = private_file::read(key_file, Readers::OwnerAndGroup)?;
        login::server(&self.config.url, key, self.config.ca_file.as_deref())
    }

    /// In place: the same object with the same uid, and only as it was read.
    async fn write(
        &self,
        wanted: &Wanted,
        space: &str,
        found: Option<&Found>,
        login: &Login,
    ) -> Result<(), kubernetes::Error> {
        let object = wanted.object(&self.config.url.host().to_string(), login, found);
        if found.is_some() {
            self.kubernetes.patch(&format!("{}/{}", secrets(space), wanted.name), &object).await?;
        } else {
            self.kubernetes.create(&secrets(space), &object).await?;
        }
        Ok(())
    }

    /// Adds the Secret to the service accounts that are to have it; false if one of them is not there, or was changed meanwhile.
    async fn attach(&self, wanted: &Wanted, space: &str) -> Result<bool, kubernetes::Error> {
        let path = format!("/api/v1/namespaces/{space}/serviceaccounts");
        let (mut accounts, mut all) = (Vec::new(), true);
        for name in &wanted.service_accounts {
            match self.kubernetes.get(&format!("{path}/{name}")).await {
                Ok(account) => accounts.push(account),
                Err(error) if error.is_absent() => all = false,
                Err(error) => return Err(error),
            }
        }
        if wanted.annotated {
            let (listed, _) = self.kubernetes.list(&path, "").await?;
            accounts.extend(listed.into_iter().filter(|account| asks_for(account, &wanted.name)));
        }
        for account in accounts.iter().filter(|account| !has(account, &wanted.name)) {
            let name = account.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            match self.kubernetes.patch(&format!("{path}/{name}"), &with(account, &wanted.name)).await {
                Err(error) if error.is_conflict() || error.is_absent() => {
                    all = false;
                    continue;
                }
                patched => patched?,
            };
            tracing::info!(namespace = space, secret = wanted.name, service_account = name, "its pods get the Secret");
        }
        Ok(all)
    }

    /// An Event on the Secret, for who asks why its pods do not start.
    async fn tell(&self, place: &Place, uid: &str, of_type: &str, reason: &str, message: &str) {
        let (space, name) = place;
        let now = self.clock.now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let event = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": format!("{name}.")},
            "involvedObject": {"apiVersion": "v1", "kind": "Secret", "namespace": space, "name": name, "uid": uid},
            "type": of_type,
            "reason": reason,
            "message": message.chars().take(1000).collect::<String>(),
            "source": {"component": "hythe-secret-refresher"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        });
        if let Err(error) = self.kubernetes.create(&format!("/api/v1/namespaces/{space}/events"), &event).await {
            tracing::warn!(namespace = space, secret = name, "no Event was written: {}", chain(&error));
        }
    }
}

fn secrets(space: &str) -> String {
    format!("/api/v1/namespaces/{space}/secrets")
}

fn asks_for(account: &Value, secret: &str) -> bool {
    let annotations = account.pointer("/metadata/annotations").cloned().unwrap_or_default();
    text(&annotations, WANTS).split(',').any(|name| name.trim() == secret)
}

/// The patch that adds a Secret to those that a service account has. A patch sets the whole list, so it is for the account as it
/// was read.
fn with(account: &Value, secret: &str) -> Value {
    let mut secrets = account.get("imagePullSecrets").and_then(Value::as_array).cloned().unwrap_or_default();
    secrets.push(json!({"name": secret}));
    json!({
        "metadata": {"resourceVersion": account.pointer("/metadata/resourceVersion")},
        "imagePullSecrets": secrets,
    })
}

fn has(account: &Value, secret: &str) -> bool {
    let secrets = account.get("imagePullSecrets").and_then(Value::as_array).into_iter().flatten();
    secrets.into_iter().any(|one| text(one, "name") == secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_account_asks_by_its_annotation_and_keeps_what_it_has() {
        let account = json!({
            "metadata": {"annotations": {"hythe.io/pull-secrets": "one, two"}},
            "imagePullSecrets": [{"name": "one"}],
        });
        assert!(asks_for(&account, "one") && asks_for(&account, "two") && !asks_for(&account, "tw"));
        assert!(has(&account, "one") && !has(&account, "two"));
        let patch = with(&json!({"metadata": {"resourceVersion": "7"}, "imagePullSecrets": [{"name": "one"}]}), "two");
        let all = json!({"metadata": {"resourceVersion": "7"}, "imagePullSecrets": [{"name": "one"}, {"name": "two"}]});
        assert_eq!(patch, all);
        assert!(!asks_for(&json!({}), "one") && !has(&json!({}), "one"));
    }
}
