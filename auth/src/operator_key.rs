//! Operator keys: accounts by the API, and nothing in them. Made and ended on the store only.

use serde::{Deserialize, Serialize};
use storage::{Generation, Time, key, record};

use crate::{
    access_key::{KeyState, Shown},
    account::check_text,
    audit::{Entry, Happened},
    error::{Error, Invalid},
    id::Id,
    installation::Auth,
    network::Networks,
    page::{Listing, Page, one_page},
    principal::Actor,
    refusal::{Reason, Refusal},
    revocation::{Ended, What},
    secret::{Kind, SecretHash},
};

/// `sys/op/ID`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OperatorKeyRecord {
    pub(crate) hash: SecretHash,
    #[serde(default)]
    label: String,
    #[serde(default, skip_serializing_if = "Networks::is_empty")]
    pub(crate) ip_allow: Networks,
    created: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<Time>,
    pub(crate) state: KeyState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revoked_at: Option<Time>,
}

/// An operator key as the command line shows it.
#[derive(Debug, Clone, Serialize)]
pub struct OperatorKeyDocument {
    /// Its id.
    pub id: Id,
    /// The secret: only where the key is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Shown>,
    /// What people call it.
    pub label: String,
    /// When it was made.
    #[serde(with = "crate::time::millis")]
    pub created_at: Time,
    /// When it ends, if it does by itself.
    #[serde(with = "crate::time::millis::option")]
    pub expires_at: Option<Time>,
    /// What it can still do.
    pub state: KeyState,
}

/// What an operator key is made with.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewOperatorKey {
    /// What people call it.
    pub label: String,
    /// When it ends by itself.
    pub expires_at: Option<Time>,
    /// CIDR texts; empty: from anywhere.
    pub ip_allow: Vec<String>,
}

impl OperatorKeyDocument {
    fn new(id: Id, record: OperatorKeyRecord, key: Option<Shown>) -> Self {
        Self {
            id,
            key,
            label: record.label,
            created_at: record.created,
            expires_at: record.expires,
            state: record.state,
        }
    }
}

fn on_the_store(actor: &Actor) -> Result<(), Refusal> {
    match actor {
        Actor::Store => Ok(()),
        Actor::OperatorKey { .. } => Err(Refusal::Denied(Reason::Operator)),
        Actor::AccessKey(key) => Err(Refusal::Denied(Reason::Role(key.role()))),
    }
}

impl Auth {
    /// Makes an operator key; on the store only.
    pub async fn create_operator_key(&self, actor: &Actor, new: &NewOperatorKey) -> Result<OperatorKeyDocument, Error> {
        on_the_store(actor)?;
        let now = self.clock.now();
        let mut invalid: Vec<Invalid> = check_text("/label", &new.label).into_iter().collect();
        if new.expires_at.is_some_and(|at| at <= now) {
            invalid.push(Invalid::new("/expires_at", "a time to come"));
        }
        let ip_allow = Networks::parse(&new.ip_allow)
            .map_err(|(i, rule)| invalid.push(Invalid::new(format!("/ip_allow/{i}"), rule)))
            .unwrap_or_default();
        if !invalid.is_empty() {
            return Err(Error::Invalid(invalid));
        }
        let id = Id::new(now);
        let secret = self.secrets.mint(Kind::OperatorKey, &Generation::installation(), &id);
        let fresh = OperatorKeyRecord {
            hash: secret.hash(),
            label: new.label.clone(),
            ip_allow,
            created: now,
            expires: new.expires_at,
            state: KeyState::Active,
            revoked_at: None,
        };
        let written = record::create(&*self.records, &key::operator_key(id.as_str()), fresh).await?;
        tracing::info!(event = "operator_key.create", key = %id, "operator key was made");
        self.record(Entry::new(Happened::OperatorKeyCreate, actor).target(id.as_str())).await?;
        Ok(OperatorKeyDocument::new(id, written.value, Some(Shown::new(secret.reveal()))))
    }

    /// The operator keys, oldest first; on the store only.
    pub async fn list_operator_keys(&self, actor: &Actor, page: &Page) -> Result<Listing<OperatorKeyDocument>, Error> {
        on_the_store(actor)?;
        one_page::<OperatorKeyRecord, _>(&*self.records, &key::operator_keys(), page, |id, document| {
            Some(OperatorKeyDocument::new(id.parse().ok()?, document.value, None))
        })
        .await
    }

    /// Ends an operator key within the bound; on the store only. Repeatable.
    pub async fn revoke_operator_key(&self, actor: &Actor, id: &Id) -> Result<Ended, Error> {
        on_the_store(actor)?;
        let now = self.clock.now();
        record::modify(&*self.records, &key::operator_key(id.as_str()), |record: &mut OperatorKeyRecord| {
            let living = record.state != KeyState::Revoked;
            record.state = KeyState::Revoked;
            record.revoked_at = record.revoked_at.or(Some(now));
            Ok::<_, Error>(living)
        })
        .await?
        .ok_or(Error::NotFound { what: "operator key" })?;
        let effective_by = self.log_end(&Generation::installation(), What::Subject(id.clone())).await?;
        tracing::info!(event = "operator_key.revoke", key = %id, "operator key was revoked");
        self.record(Entry::new(Happened::OperatorKeyRevoke, actor).target(id.as_str())).await?;
        Ok(Ended { effective_by })
    }
}
