//! What may be changed of an account, and by whom.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer};
use storage::{AccountName, record::Document};

use super::{AccountDocument, AccountRecord, AccountState, LONGEST, NO_ACCOUNT, OnStale, Policy, SHORTEST, check_text};
use crate::{
    audit::Happened,
    error::{Error, Invalid},
    host::parse_hosts,
    installation::Auth,
    network::Networks,
    principal::Actor,
    quota::Quota,
    refusal::{Reason, Refusal},
    revocation::What,
    right::Right,
    secret::Kind,
    settings::Settings,
};

/// A merge patch of an account: what is absent stays; a `null` life returns to the default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountChange {
    /// A name for people.
    pub display: Option<String>,
    /// What it is allowed; the operator's.
    pub state: Option<AccountState>,
    /// Pulls while the store cannot be read.
    pub on_stale: Option<OnStale>,
    /// Names of its own, in the place of those that it has; the operator's.
    pub hosts: Option<Vec<String>>,
    /// What its credentials are held to; the owner only lowers.
    #[serde(default)]
    pub policy: PolicyChange,
    /// What it may keep; `Some(None)` returns to the default. The operator's alone.
    #[serde(default, deserialize_with = "given")]
    pub quota_bytes: Option<Option<Quota>>,
}

/// A merge patch of a policy.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyChange {
    /// Seconds; `Some(None)` returns to the default.
    #[serde(default, deserialize_with = "given")]
    pub max_ttl_pull: Option<Option<u64>>,
    /// Seconds; `Some(None)` returns to the default.
    #[serde(default, deserialize_with = "given")]
    pub max_ttl_push: Option<Option<u64>>,
    /// CIDR texts; an empty list lifts the restriction.
    pub ip_allow: Option<Vec<String>>,
    /// Whole days; `Some(None)` returns to the default. The operator's alone.
    #[serde(default, deserialize_with = "given")]
    pub audit_days: Option<Option<u32>>,
}

/// Days that an audit may be kept.
const AUDIT_DAYS: std::ops::RangeInclusive<u32> = 1..=3650;

/// Tells a field that is `null` from one that is absent.
#[expect(clippy::option_option, reason = "absent, null and a value are three things in a merge patch")]
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Auth {
    /// Changes an account. The owner changes how it is shown and what happens while the store is away, and lowers its policy;
    /// the operator changes everything. What restricts is also told to every replica.
    pub async fn change_account(
        &self,
        actor: &Actor,
        name: &AccountName,
        change: &AccountChange,
        if_match: Option<u64>,
    ) -> Result<AccountDocument, Error> {
        let owner = self.admit(actor, Right::ChangeAccount, Some(name))?;
        let operators = change.state.is_some() || change.hosts.is_some() || change.quota_bytes.is_some();
        if let (Some(key), true) = (owner, operators) {
            return Err(Refusal::Denied(Reason::Role(key.role)).into());
        }
        let checked = check_change(change, &self.settings)?;
        let mut before = None;
        let document = self
            .swap_with_hosts(name, if_match, checked.hosts.as_deref(), |record| {
                before = Some(record.clone());
                let policy = record.policy.clone();
                apply(record, change, &checked);
                if owner.is_none() { Ok(()) } else { only_lowers(&policy, &record.policy) }
            })
            .await?;
        let (account, now) = (document.value.account(), &document.value);
        let (state, hosts) = before.map_or((now.state, Vec::new()), |before| (before.state, before.hosts));
        let lost: Vec<_> = hosts.iter().filter(|host| !now.hosts.contains(host)).cloned().collect();
        self.release_hosts(&account, &lost).await?;
        // What gives back is told as well as what takes away: it is cached the same.
        let decides = change.state.is_some()
            || change.on_stale.is_some()
            || checked.ip_allow.is_some()
            || change.quota_bytes.is_some();
        if decides {
            self.log_end(account.generation(), What::Everything).await?;
        } else if change.hosts.is_some() {
            self.log_end(account.generation(), What::Hosts).await?;
        }
        tracing::info!(event = "account.change", account = %name, actor = actor.label(), "account was changed");
        self.record_account(Happened::changing(state, now.state), actor, &account).await?;
        self.record_hosts(actor, &account, &hosts, &now.hosts).await?;
        Ok(document.into())
    }

    /// Changes an account's record, after these names were claimed for it.
    async fn swap_with_hosts(
        &self,
        name: &AccountName,
        if_match: Option<u64>,
        hosts: Option<&[String]>,
        mut change: impl FnMut(&mut AccountRecord) -> Result<(), Error>,
    ) -> Result<Document<AccountRecord>, Error> {
        let Some(hosts) = hosts else { return self.swap_account(name, if_match, change).await };
        let account = self.living(name).await?.value.account();
        let claimed = self.claim_hosts(&account, hosts).await?;
        let swapped = self.swap_account(name, if_match, |record| {
            // Made anew meanwhile it is another account.
            if record.generation == *account.generation() { change(record) } else { Err(NO_ACCOUNT) }
        });
        match swapped.await {
            Ok(document) => Ok(document),
            Err(error) => {
                self.release_hosts(&account, &claimed).await?;
                Err(error)
            }
        }
    }
}

/// What of a change had to be read, and can be said against it without reading the account.
#[derive(Debug, Default)]
struct Checked {
    ip_allow: Option<Networks>,
    hosts: Option<Vec<String>>,
}

fn check_change(change: &AccountChange, settings: &Settings) -> Result<Checked, Error> {
    let mut invalid: Vec<Invalid> = Vec::new();
    invalid.extend(change.display.as_deref().and_then(|text| check_text("/display", text)));
    if change.state == Some(AccountState::Deleted) {
        invalid.push(Invalid::new("/state", "an account is deleted with DELETE"));
    }
    let lives =
        [("/policy/max_ttl_pull", change.policy.max_ttl_pull), ("/policy/max_ttl_push", change.policy.max_ttl_push)];
    for (field, life) in lives {
        if life.flatten().is_some_and(|life| !(SHORTEST..=LONGEST).contains(&life)) {
            invalid.push(Invalid::new(field, "60 seconds to 90 days"));
        }
    }
    if change.policy.audit_days.flatten().is_some_and(|days| !AUDIT_DAYS.contains(&days)) {
        invalid.push(Invalid::new("/policy/audit_days", "1 to 3650 days"));
    }
    let networks = change.policy.ip_allow.as_deref().map(Networks::parse).transpose();
    let networks = networks.map_err(|(i, rule)| invalid.push(Invalid::new(format!("/policy/ip_allow/{i}"), rule)));
    let hosts = change.hosts.as_deref().map(|texts| parse_hosts("/hosts", texts, settings)).transpose();
    let hosts = hosts.map_err(|more| invalid.extend(more));
    match (networks, hosts) {
        (Ok(ip_allow), Ok(hosts)) if invalid.is_empty() => Ok(Checked { ip_allow, hosts }),
        _ => Err(Error::Invalid(invalid)),
    }
}

fn apply(record: &mut AccountRecord, change: &AccountChange, checked: &Checked) {
    if let Some(display) = &change.display {
        record.display.clone_from(display);
    }
    record.state = change.state.unwrap_or(record.state);
    record.on_stale = change.on_stale.unwrap_or(record.on_stale);
    record.quota_bytes = change.quota_bytes.unwrap_or(record.quota_bytes);
    record.policy.max_ttl_pull = change.policy.max_ttl_pull.unwrap_or(record.policy.max_ttl_pull);
    record.policy.max_ttl_push = change.policy.max_ttl_push.unwrap_or(record.policy.max_ttl_push);
    record.policy.audit_days = change.policy.audit_days.unwrap_or(record.policy.audit_days);
    if let Some(ip_allow) = &checked.ip_allow {
        record.policy.ip_allow = ip_allow.clone();
    }
    if let Some(hosts) = &checked.hosts {
        record.hosts.clone_from(hosts);
    }
}

/// An owner shortens lives and narrows networks.
fn only_lowers(before: &Policy, after: &Policy) -> Result<(), Error> {
    let mut raised = BTreeSet::new();
    for kind in [Kind::Pull, Kind::Push] {
        if after.longest(kind) > before.longest(kind) {
            raised.insert(if kind == Kind::Push { "/policy/max_ttl_push" } else { "/policy/max_ttl_pull" });
        }
    }
    if !after.ip_allow.within(&before.ip_allow) {
        raised.insert("/policy/ip_allow");
    }
    let mut raised: Vec<_> = raised
        .into_iter()
        .map(|field| Invalid::new(field, "an owner only lowers this; the operator raises it"))
        .collect();
    if after.audit_days != before.audit_days {
        raised.push(Invalid::new("/policy/audit_days", "the operator's alone: shortening it erases what was done"));
    }
    if raised.is_empty() { Ok(()) } else { Err(Error::Invalid(raised)) }
}
