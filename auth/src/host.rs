//! Names of an account's own that the operator approved: who has which, and whose host a request came to.
//!
//! Two records must agree, or a name is nobody's: `sys/host/NAME` names an account and its generation, and that account lists the
//! name. The first is put if absent, so a name is never two accounts'; the second is what the operator sees and takes back. To give a
//! name is to write the first and then the second, to take it back the other way round, so that what a crash leaves behind between
//! the two serves nobody.

use std::{net::IpAddr, sync::Arc, time::Duration};

use chrono::TimeDelta;
use config::HostName;
use serde::{Deserialize, Serialize};
use storage::{Account, AccountName, Generation, key, record};

use crate::{
    account::{OnStale, claimed},
    cache::Weighs,
    dossier::is_meant,
    error::{Error, Invalid},
    follow::Standing,
    installation::Auth,
    limit::Neighbourhood,
    refusal::Refusal,
    revocation::What,
    secret::Kind,
    settings::Settings,
    watch::{Ends, Held, Moment},
};

/// Most names of one account.
const MOST: usize = 32;
/// How long it is remembered that a name is nobody's.
const ABSENT: Duration = Duration::from_mins(1);

/// How long a name may be claimed and not listed yet.
const GIVING: TimeDelta = TimeDelta::minutes(10);

/// `sys/host/NAME`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct HostRecord {
    account: AccountName,
    #[serde(rename = "gen")]
    generation: Generation,
}

impl HostRecord {
    fn of(account: &Account) -> Self {
        Self { account: account.name().clone(), generation: account.generation().clone() }
    }

    fn is_of(&self, account: &Account) -> bool {
        self.account == *account.name() && self.generation == *account.generation()
    }
}

/// A name that is an account's.
#[derive(Debug)]
pub(crate) struct KnownHost {
    account: Account,
    on_stale: OnStale,
}

/// A name that is nobody's.
#[derive(Debug)]
pub(crate) struct NoHost;

impl Ends for KnownHost {
    fn ended_by(&self, generation: &Generation, what: &What) -> bool {
        generation == self.account.generation() && matches!(what, What::Hosts | What::Everything)
    }
}

impl Ends for NoHost {
    /// Whoever is given a name has it everywhere within the bound.
    fn ended_by(&self, _: &Generation, what: &What) -> bool {
        matches!(what, What::Hosts | What::Everything)
    }
}

/// A name has 253 characters at most.
const NAME: usize = 253;

impl Weighs for KnownHost {
    fn weight(&self) -> usize {
        size_of::<Self>() + NAME
    }
}

impl Weighs for NoHost {
    fn weight(&self) -> usize {
        NAME
    }
}

/// Reads names for an account; each bad one is told with its place.
pub(crate) fn parse_hosts(field: &str, texts: &[String], settings: &Settings) -> Result<Vec<String>, Vec<Invalid>> {
    if texts.len() > MOST {
        return Err(vec![Invalid::new(field, format!("at most {MOST} names"))]);
    }
    let (mut names, mut invalid) = (Vec::new(), Vec::new());
    for (i, text) in texts.iter().enumerate() {
        match parse_host(text, settings) {
            Ok(name) if names.contains(&name) => {}
            Ok(name) => names.push(name),
            Err(rule) => invalid.push(Invalid::new(format!("{field}/{i}"), rule)),
        }
    }
    if invalid.is_empty() { Ok(names) } else { Err(invalid) }
}

fn parse_host(text: &str, settings: &Settings) -> Result<String, String> {
    let host = text.parse::<HostName>().ok().filter(|host| host.ip().is_none() && host.name().contains('.'));
    let host = host.ok_or("a full name, like registry.acme.com")?;
    if host.port().is_some() {
        return Err("a name without a port: it is reached at the port of the public URL".into());
    }
    let name = host.name();
    if settings.public_names.iter().any(|own| own == name) {
        return Err(format!("{name} is the registry's own"));
    }
    let domain = settings.account_domain.as_deref();
    let below = |domain: &&str| name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    match domain.filter(below) {
        Some(domain) => Err(format!("names under {domain} are the accounts' already, each its own")),
        None => Ok(name.to_owned()),
    }
}

impl Auth {
    /// Whose host this is, by names that were approved; `None`: nobody's. `name` is a DNS name in lower case, without a port. What is
    /// nobody's counts as a failure of the address: a name costs one read, and an address that has failed too often none.
    pub async fn account_host(&self, name: &str, from: IpAddr) -> Result<Option<AccountName>, Refusal> {
        let (found, _) = self.decide(|standing| self.find_host(name, from, standing)).await?;
        match found {
            Some(account) => Ok(Some(account)),
            None => match self.failed(from) {
                Refusal::Unauthenticated(_) => Ok(None),
                throttled => Err(throttled),
            },
        }
    }

    async fn find_host(&self, name: &str, from: IpAddr, standing: Standing) -> Result<Option<AccountName>, Refusal> {
        let name = name.to_owned();
        // A name that was good a moment ago is looked for whoever asks; of others an address has a number.
        if !self.hosts.remembers(&name) {
            standing.or_refuse()?;
            if self.is_absent(&name) {
                return Ok(None);
            }
            let from = Neighbourhood::from(from);
            self.failures.left(&from, self.clock.elapsed()).map_err(Refusal::Throttled)?;
        }
        let found = self.hosts.get(&name, self.knowing(standing), || self.read_host(&name)).await?;
        match found {
            Some(held) if standing.allows(held.value.on_stale, Kind::Pull) => {
                Ok(Some(held.value.account.name().clone()))
            }
            Some(_) => Err(Refusal::Stale),
            None => Ok(None),
        }
    }

    fn is_absent(&self, name: &String) -> bool {
        let held = self.no_hosts.peek(name);
        held.is_some_and(|held| self.watch.still(&held) && held.read.age(&*self.clock) < ABSENT)
    }

    async fn read_host(&self, name: &String) -> Result<Option<KnownHost>, Refusal> {
        // Whoever waited for another who looked has its answer here.
        if self.is_absent(name) {
            return Ok(None);
        }
        let (place, began) = (self.watch.place(), Moment::now(&*self.clock));
        let known = self.known_host(name).await?;
        if known.is_none() {
            self.no_hosts.put(name.clone(), Arc::new(Held::new(NoHost, place, began)));
        }
        Ok(known)
    }

    async fn known_host(&self, name: &str) -> Result<Option<KnownHost>, Refusal> {
        let Some(host) = record::read::<HostRecord>(&*self.records, &key::host(name)).await? else { return Ok(None) };
        let HostRecord { account, generation } = host.value;
        let Some(record) = self.account_record(&account).await?.map(|document| document.value) else { return Ok(None) };
        let account = claimed(account, generation);
        let agreed = is_meant(&record, &account) && record.hosts.iter().any(|own| own == name);
        Ok(agreed.then_some(KnownHost { account, on_stale: record.on_stale }))
    }

    /// Claims names for an account and gives those that it had not. All or none: [`Error::HostTaken`].
    pub(crate) async fn claim_hosts(&self, account: &Account, names: &[String]) -> Result<Vec<String>, Error> {
        let mut new = Vec::new();
        for name in names {
            match self.claim_host(account, name).await {
                Ok(true) => new.push(name.clone()),
                Ok(false) => {}
                Err(error) => {
                    self.release_hosts(account, &new).await?;
                    return Err(error);
                }
            }
        }
        Ok(new)
    }

    async fn claim_host(&self, account: &Account, name: &str) -> Result<bool, Error> {
        let host_key = key::host(name);
        for _ in 0..16 {
            let written = match record::read::<HostRecord>(&*self.records, &host_key).await? {
                None => record::create(&*self.records, &host_key, HostRecord::of(account)).await.map(|_| ()),
                Some(found) if found.value.is_of(account) => return Ok(false),
                Some(mut found) => {
                    let HostRecord { account: owner, generation } = found.value.clone();
                    let record = self.account_record(&owner).await?.map(|document| document.value);
                    let record = record.filter(|record| is_meant(record, &claimed(owner.clone(), generation)));
                    let being_given = found.modified().is_none_or(|at| self.clock.now() - at < GIVING);
                    if record.is_some_and(|record| being_given || record.hosts.iter().any(|own| own == name)) {
                        let (host, account) = (name.to_owned(), account.name().clone());
                        return Err(Error::HostTaken { host, account, owner });
                    }
                    // Left behind by an account that is no more, or between two writes long ago.
                    found.value = HostRecord::of(account);
                    record::update(&*self.records, &host_key, &mut found).await
                }
            };
            match written {
                Ok(()) => return Ok(true),
                Err(storage::Error::Conflict) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Err(storage::Error::unavailable(format!("{name} is claimed by too many at once")).into())
    }

    /// Gives back those of the names that are this account's.
    pub(crate) async fn release_hosts(&self, account: &Account, names: &[String]) -> Result<(), Error> {
        for name in names {
            let host_key = key::host(name);
            while let Some(found) = record::read::<HostRecord>(&*self.records, &host_key).await? {
                if !found.value.is_of(account) {
                    break;
                }
                match self.records.remove(&host_key, found.version()).await {
                    Ok(()) => break,
                    Err(storage::Error::Conflict) => {}
                    Err(other) => return Err(other.into()),
                }
            }
        }
        Ok(())
    }
}
