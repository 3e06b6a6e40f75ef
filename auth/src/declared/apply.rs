//! Bringing what is declared into the store, by any number of replicas at once: what is absent is created if it is still absent,
//! what differs is written under compare-and-swap, and who comes second finds nothing left to do. Nothing is deleted, and nothing
//! that was retired, revoked or suspended comes back.

use serde::Serialize;
use storage::{
    Account, AccountName,
    generation::{GenerationRecord, GenerationState},
    key,
    record::{self, Document},
};

use super::{Declared, Wanted, WantedKey};
use crate::{
    access_key::{KeyRecord, KeyState},
    account::{AccountRecord, AccountState, OnStale, Policy, claimed},
    audit::{Entry, Happened},
    error::Error,
    host::parse_hosts,
    id::Id,
    installation::Auth,
    page::{Page, one_page},
    revocation::What,
};

/// Who the log says did it.
const ACTOR: &str = "configuration";

/// What was declared once and stands in the file no more: it lives on until somebody ends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Departed {
    /// The account.
    pub account: AccountName,
    /// The key, if the account itself is still declared.
    pub key: Option<Id>,
}

impl Auth {
    /// Brings what is declared into the store and takes the secrets of these keys, and no others, from now on. A read-only server
    /// writes nothing.
    ///
    /// [`Error::CannotOpen`], before anything is written, when an account lives under another generation, or a generation was
    /// deleted or is another account's.
    pub async fn declare(&self, declared: &Declared) -> Result<(), Error> {
        for wanted in &declared.0 {
            wanted.admits(self.account_record(&wanted.name).await?.as_ref())?;
            self.generation_admits(wanted).await?;
        }
        if !self.settings.read_only {
            for wanted in &declared.0 {
                let account = self.bring_account(wanted).await?;
                for key in &wanted.keys {
                    self.bring_key(&account, key).await?;
                }
            }
        }
        *self.declared.write() = declared.accepted();
        Ok(())
    }

    /// The declared accounts and keys of the store that this configuration does not name. Reads every account.
    pub async fn departed(&self, declared: &Declared) -> Result<Vec<Departed>, Error> {
        let mut departed = Vec::new();
        let mut page = Page { after: None, limit: 100 };
        loop {
            let accounts = one_page::<AccountRecord, _>(&*self.records, &key::accounts(), &page, |_, document| {
                let record = document.value;
                (record.declared && record.state != AccountState::Deleted).then_some(record)
            })
            .await?;
            for record in accounts.items {
                match declared.0.iter().find(|wanted| wanted.name == record.name) {
                    None => departed.push(Departed { account: record.name, key: None }),
                    Some(wanted) => departed.extend(self.departed_keys(&record.account(), wanted).await?),
                }
            }
            page.after = accounts.next;
            if page.after.is_none() {
                return Ok(departed);
            }
        }
    }

    async fn departed_keys(&self, account: &Account, wanted: &Wanted) -> Result<Vec<Departed>, Error> {
        let mut departed = Vec::new();
        let mut page = Page { after: None, limit: 100 };
        loop {
            let keys = one_page::<KeyRecord, _>(&*self.records, &key::access_keys(account), &page, |id, document| {
                let alive = document.value.declared && document.value.state != KeyState::Revoked;
                let named = wanted.keys.iter().any(|key| key.id.as_str() == id);
                (alive && !named).then(|| id.parse().ok()).flatten()
            })
            .await?;
            let told = keys.items.into_iter().map(|id| Departed { account: account.name().clone(), key: Some(id) });
            departed.extend(told);
            page.after = keys.next;
            if page.after.is_none() {
                return Ok(departed);
            }
        }
    }

    async fn bring_account(&self, wanted: &Wanted) -> Result<Account, Error> {
        let account_key = key::account(&wanted.name);
        for _ in 0..16 {
            let found = self.account_record(&wanted.name).await?;
            wanted.admits(found.as_ref())?;
            let written = match found {
                Some(document) if document.value.state != AccountState::Deleted => {
                    return self.bring_settings(wanted).await;
                }
                found => {
                    self.bring_generation(wanted).await?;
                    let fresh = wanted.fresh(self.clock.now());
                    match found {
                        None => record::create(&*self.records, &account_key, fresh).await.map(|_| ()),
                        Some(mut document) => {
                            document.value = fresh;
                            record::update(&*self.records, &account_key, &mut document).await
                        }
                    }
                }
            };
            match written {
                Ok(()) => {
                    tracing::info!(event = "account.create", account = %wanted.name, actor = ACTOR, "account was made");
                    let account = wanted.fresh(self.clock.now()).account();
                    self.record_account(Happened::AccountCreate, Self::CONFIGURATION, &account).await?;
                }
                // Another replica was here: look at what it left.
                Err(storage::Error::Conflict) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Err(storage::Error::unavailable(format!("account {} comes and goes", wanted.name)).into())
    }

    /// Brings the settings of an account that is there.
    async fn bring_settings(&self, wanted: &Wanted) -> Result<Account, Error> {
        let (mut change, mut before) = (Change::default(), None);
        if let Some(hosts) = &wanted.hosts {
            parse_hosts("hosts", hosts, &self.settings).map_err(Error::Invalid)?;
            self.claim_hosts(&claimed(wanted.name.clone(), wanted.generation.clone()), hosts).await?;
        }
        let document = record::modify(&*self.records, &key::account(&wanted.name), |record: &mut AccountRecord| {
            before = Some(record.clone());
            change = wanted.change(record);
            Ok::<_, Error>(change.differs)
        })
        .await?
        .ok_or_else(|| storage::Error::unavailable(format!("account {} comes and goes", wanted.name)))?;
        wanted.admits(Some(&document))?;
        let (account, now) = (document.value.account(), &document.value);
        let (state, hosts) = before.map_or((now.state, Vec::new()), |before| (before.state, before.hosts));
        let lost: Vec<_> = hosts.iter().filter(|host| !now.hosts.contains(host)).cloned().collect();
        self.release_hosts(&account, &lost).await?;
        // What gives back is told as well as what takes away: it is cached the same.
        if change.decides {
            self.log_end(account.generation(), What::Everything).await?;
        }
        if change.differs {
            tracing::info!(event = "account.change", account = %wanted.name, actor = ACTOR, "account was changed");
            let happened = Happened::changing(state, document.value.state);
            self.record_account(happened, Self::CONFIGURATION, &account).await?;
            self.record_hosts(Self::CONFIGURATION, &account, &hosts, &now.hosts).await?;
        }
        if let Some(patterns) = &wanted.public {
            let before = self.publish(&account, patterns, None).await?.before;
            self.record_public(Self::CONFIGURATION, &account, &before, patterns).await?;
        }
        Ok(account)
    }

    async fn generation_record(&self, wanted: &Wanted) -> Result<Option<GenerationRecord>, Error> {
        let found = record::read(&*self.records, &key::generation(&wanted.generation)).await?;
        Ok(found.map(|document: Document<GenerationRecord>| document.value))
    }

    /// Whether the generation is free or this account's own. True if it is there.
    async fn generation_admits(&self, wanted: &Wanted) -> Result<bool, Error> {
        match self.generation_record(wanted).await? {
            None => Ok(false),
            Some(record) if record.name != wanted.name => {
                let (generation, origin) = (&wanted.generation, &wanted.origin);
                let owner = record.name;
                Err(Error::CannotOpen(format!(
                    "generation {generation} is account {owner}'s and cannot be account {}'s ({origin}); make another with \
                     hythe key declare {}",
                    wanted.name, wanted.name
                )))
            }
            Some(record) if record.state == GenerationState::Deleted => Err(wanted.deleted()),
            Some(_) => Ok(true),
        }
    }

    async fn bring_generation(&self, wanted: &Wanted) -> Result<(), Error> {
        if self.generation_admits(wanted).await? {
            return Ok(());
        }
        let live = GenerationRecord { name: wanted.name.clone(), state: GenerationState::Live, deleted_at: None };
        match record::create(&*self.records, &key::generation(&wanted.generation), live).await {
            Ok(_) => Ok(()),
            Err(storage::Error::Conflict) => self.generation_admits(wanted).await.map(|_| ()),
            Err(other) => Err(other.into()),
        }
    }

    async fn bring_key(&self, account: &Account, wanted: &WantedKey) -> Result<(), Error> {
        let access_key = key::access_key(account, wanted.id.as_str());
        for _ in 0..16 {
            let mut differs = false;
            let found = record::modify(&*self.records, &access_key, |record: &mut KeyRecord| {
                differs = wanted.change(record);
                Ok::<_, Error>(differs)
            })
            .await?;
            if found.is_some() {
                if differs {
                    self.log_end(account.generation(), What::Subject(wanted.id.clone())).await?;
                    tracing::info!(event = "key.change", account = %account.name(), key = %wanted.id, actor = ACTOR, "access key was changed");
                    let entry = Entry::new(Happened::KeyChange, Self::CONFIGURATION).of(account);
                    self.record(entry.target(wanted.id.as_str())).await?;
                }
                return Ok(());
            }
            let fresh = wanted.fresh(account, self.clock.now());
            match record::create(&*self.records, &access_key, fresh).await {
                Ok(_) => {
                    tracing::info!(event = "key.create", account = %account.name(), key = %wanted.id, role = wanted.role.as_str(), actor = ACTOR, "access key was made");
                    let entry = Entry::new(Happened::KeyCreate, Self::CONFIGURATION).of(account);
                    self.record(entry.target(wanted.id.as_str())).await?;
                    return Ok(());
                }
                Err(storage::Error::Conflict) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Err(storage::Error::unavailable(format!("access key {} comes and goes", wanted.id)).into())
    }
}

/// What bringing an account's settings comes to.
#[derive(Debug, Default, Clone, Copy)]
struct Change {
    differs: bool,
    /// It is something that decisions go by.
    decides: bool,
}

impl Wanted {
    /// Refuses an account that is not the one that is meant.
    fn admits(&self, found: Option<&Document<AccountRecord>>) -> Result<(), Error> {
        let Some(record) = found.map(|document| &document.value) else { return Ok(()) };
        let (name, wanted, origin) = (&self.name, &self.generation, &self.origin);
        match record.state {
            AccountState::Deleted if record.generation == *wanted => Err(self.deleted()),
            AccountState::Deleted => Ok(()),
            _ if record.generation == *wanted => Ok(()),
            _ => Err(Error::CannotOpen(format!(
                "account {name} lives under generation {} and is declared under {wanted} ({origin}); write the one that lives \
                 there, or declare another name",
                record.generation
            ))),
        }
    }

    fn deleted(&self) -> Error {
        let (name, generation, origin) = (&self.name, &self.generation, &self.origin);
        Error::CannotOpen(format!(
            "account {name} is declared under generation {generation} ({origin}), which was deleted; take it out of the file, or \
             make another with hythe key declare {name}"
        ))
    }

    fn fresh(&self, now: storage::Time) -> AccountRecord {
        let mut record = AccountRecord {
            name: self.name.clone(),
            generation: self.generation.clone(),
            display: String::new(),
            state: AccountState::Active,
            created: now,
            hosts: Vec::new(),
            on_stale: OnStale::default(),
            policy: Policy::default(),
            quota_bytes: None,
            declared: true,
        };
        self.change(&mut record);
        // Names are given once the account is there.
        record.hosts.clear();
        record
    }

    /// Makes a record what is declared, and says what that came to.
    fn change(&self, record: &mut AccountRecord) -> Change {
        let mut change = Change { differs: !record.declared, decides: false };
        record.declared = true;
        if let Some(display) = self.display.as_ref().filter(|display| **display != record.display) {
            record.display.clone_from(display);
            change.differs = true;
        }
        let state = self.state.filter(|_| !matches!(record.state, AccountState::Suspended | AccountState::Deleted));
        if let Some(state) = state.filter(|state| *state != record.state) {
            record.state = state;
            change = Change { differs: true, decides: true };
        }
        if let Some(on_stale) = self.on_stale.filter(|on_stale| *on_stale != record.on_stale) {
            record.on_stale = on_stale;
            change = Change { differs: true, decides: true };
        }
        if let Some(networks) = self.ip_allow.as_ref().filter(|networks| **networks != record.policy.ip_allow) {
            record.policy.ip_allow.clone_from(networks);
            change = Change { differs: true, decides: true };
        }
        if let Some(hosts) = self.hosts.as_ref().filter(|hosts| **hosts != record.hosts) {
            record.hosts.clone_from(hosts);
            change = Change { differs: true, decides: true };
        }
        let policy = &mut record.policy;
        for (wanted, own) in
            [(self.max_ttl_pull, &mut policy.max_ttl_pull), (self.max_ttl_push, &mut policy.max_ttl_push)]
        {
            if wanted.is_some() && *own != wanted {
                *own = wanted;
                change.differs = true;
            }
        }
        change
    }
}

impl WantedKey {
    fn fresh(&self, account: &Account, now: storage::Time) -> KeyRecord {
        KeyRecord {
            account: account.name().clone(),
            hash: self.hash.clone(),
            role: self.role,
            actions: self.actions,
            patterns: self.patterns.clone(),
            max_ttl: self.max_ttl,
            ip_allow: self.ip_allow.clone(),
            label: self.label.clone(),
            created: now,
            expires: self.expires,
            last_used_day: None,
            state: KeyState::Active,
            revoked_at: None,
            declared: true,
        }
    }

    /// Makes a record what is declared; true if it was anything else. Its state is never touched.
    fn change(&self, record: &mut KeyRecord) -> bool {
        let same = record.declared
            && record.hash.same(&self.hash)
            && record.role == self.role
            && record.actions == self.actions
            && record.patterns == self.patterns
            && record.max_ttl == self.max_ttl
            && record.ip_allow == self.ip_allow
            && record.label == self.label
            && record.expires == self.expires;
        if !same {
            let KeyRecord { hash, role, actions, patterns, max_ttl, ip_allow, label, expires, declared, .. } = record;
            hash.clone_from(&self.hash);
            (*role, *actions, *max_ttl, *expires, *declared) =
                (self.role, self.actions, self.max_ttl, self.expires, true);
            patterns.clone_from(&self.patterns);
            ip_allow.clone_from(&self.ip_allow);
            label.clone_from(&self.label);
        }
        !same
    }
}
