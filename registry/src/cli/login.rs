//! A minted credential as those who renew it hold it: what it opens, and when its half is over.
//!
//! Its times are those of the machine that holds it: when it asked, and how long the server said that it lives. A clock that
//! differs from the server's does no harm.

use std::path::Path;

use chrono::TimeDelta;
use config::{PublicUrl, Secret};
use reqwest::Certificate;
use serde::Deserialize;
use serde_json::{Value, json};
use storage::{AccountName, Clock, Time};

use super::{private_file, server::text};
use crate::remote::{Error, Remote};

/// A credential that logs in.
#[derive(Debug, Clone)]
pub(super) struct Login {
    pub(super) username: String,
    pub(super) password: Secret,
    /// When it was asked for.
    pub(super) minted: Time,
    /// How long it lives from then on.
    pub(super) life: TimeDelta,
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Order {
    pub(super) kind: Kind,
    /// Where it reaches; all that the key reaches where this is empty.
    pub(super) repositories: Vec<String>,
    /// Seconds; the server's usual life where nothing is said.
    pub(super) ttl: Option<u64>,
    pub(super) label: String,
}

/// What a login is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    #[default]
    Pull,
    Push,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
        }
    }
}

impl Login {
    /// From the document of a credential that was asked for at `asked`; `None` if that is no such document.
    pub(super) fn read(document: &Value, asked: Time) -> Option<Self> {
        let time = |field| text(document, field).parse::<Time>().ok();
        let life = match document.get("expires_in").and_then(Value::as_i64) {
            Some(seconds) => TimeDelta::try_seconds(seconds)?,
            None => time("expires_at")? - time("created_at")?,
        };
        let (username, password) = (text(document, "username"), text(document, "password"));
        let whole = !username.is_empty() && !password.is_empty();
        let login = Self { username: username.to_owned(), password: Secret::new(password), minted: asked, life };
        whole.then_some(login)
    }

    /// When it ends.
    pub(super) fn expires(&self) -> Time {
        self.minted + self.life
    }

    /// From when on another is wanted.
    pub(super) fn half(&self) -> Time {
        self.minted + self.life / 2
    }

    /// As a line for a file of the owner's.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "username": self.username,
            "password": self.password.reveal(),
            "minted": self.minted,
            "life_seconds": self.life.num_seconds(),
        })
    }

    /// What [`Login::to_json`] wrote.
    pub(super) fn from_json(document: &Value) -> Option<Self> {
        let life = document.get("life_seconds").and_then(Value::as_i64).and_then(TimeDelta::try_seconds)?;
        let minted = text(document, "minted").parse().ok()?;
        let password = Secret::new(text(document, "password"));
        Some(Self { username: text(document, "username").to_owned(), password, minted, life })
    }
}

/// Mints a credential of `account`, which ends the one that it `replaces` ten minutes later.
pub(super) async fn mint(
    server: &Remote,
    account: &AccountName,
    order: &Order,
    replaces: Option<&str>,
    clock: &dyn Clock,
) -> Result<Login, Error> {
    let mut request = json!({"kind": order.kind.as_str(), "label": order.label});
    if let Some(fields) = request.as_object_mut() {
        let repositories = (!order.repositories.is_empty()).then(|| json!(order.repositories));
        let further = [
            ("repositories", repositories),
            ("ttl_seconds", order.ttl.map(Value::from)),
            ("replaces", replaces.map(Value::from)),
        ];
        fields.extend(further.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    }
    let asked = clock.now();
    let document = server.post(&format!("/accounts/{account}/credentials"), &request).await?;
    Login::read(&document, asked).ok_or_else(|| server.strange())
}

/// The server at `url` for the holder of `key`, trusted by the authorities of a file too.
pub(super) fn server(url: &PublicUrl, key: Secret, authorities: Option<&Path>) -> Result<Remote, String> {
    let authorities = authorities.map(certificates).transpose()?.unwrap_or_default();
    Remote::trusting(url.clone(), key, authorities).map_err(|error| crate::telemetry::chain(&error))
}

/// The certificates of a PEM file.
pub(super) fn certificates(path: &Path) -> Result<Vec<Certificate>, String> {
    let told = |error: &dyn std::error::Error| format!("{}: {error}", path.display());
    let pem = private_file::text(path).map_err(|error| told(&error))?;
    let certificates = Certificate::from_pem_bundle(pem.as_bytes()).map_err(|error| told(&error))?;
    if certificates.is_empty() {
        return Err(format!("{}: no certificate in it", path.display()));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_lives_by_the_clock_of_who_holds_it() {
        let asked: Time = "2030-01-01T00:00:00Z".parse().unwrap();
        let document = json!({
            "username": "acme.pull.x", "password": "hypl_x",
            "created_at": "2026-11-21T10:00:00.000Z", "expires_at": "2026-11-21T11:00:00.000Z",
        });
        let login = Login::read(&document, asked).unwrap();
        assert_eq!(login.half().to_rfc3339(), "2030-01-01T00:30:00+00:00");
        assert_eq!(login.expires().to_rfc3339(), "2030-01-01T01:00:00+00:00");
        let again = Login::from_json(&login.to_json()).unwrap();
        assert_eq!(
            (again.username.as_str(), again.password.reveal(), again.expires()),
            ("acme.pull.x", "hypl_x", login.expires())
        );
        assert!(!format!("{login:?}").contains("hypl_x"));
        assert!(Login::read(&json!({"username": "acme.pull.x"}), asked).is_none());
    }
}
