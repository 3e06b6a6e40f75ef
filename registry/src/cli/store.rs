//! What the commands on the store share: opening it, and reading whole lists.

use std::sync::Arc;

use auth::{Auth, Listing, Page};
use chrono::SecondsFormat;
use config::{Config, HostName, Log, Origin, PublicUrl};
use storage::{Clock, Lives, Store, Time};
use tokio_util::task::TaskTracker;

use super::{Failure, settings::Settings};
use crate::{hosts, open, replica, telemetry};

/// The store that a command works on, and what may be asked of it.
#[derive(Debug)]
pub(super) struct OnStore {
    pub(super) auth: Auth,
    config: Config,
    clock: Arc<dyn Clock>,
    opened: open::Opened,
}

impl OnStore {
    /// Opens the store beside a server that may be running on it.
    pub(super) async fn open(settings: &Settings<false>, clock: Arc<dyn Clock>) -> Result<Self, Failure> {
        Self::opened(settings, clock, false).await
    }

    /// Opens the store for work that a folder's one server does; refused while one runs.
    pub(super) async fn open_to_work(settings: &Settings<false>, clock: Arc<dyn Clock>) -> Result<Self, Failure> {
        Self::opened(settings, clock, true).await
    }

    async fn opened(settings: &Settings<false>, clock: Arc<dyn Clock>, serve: bool) -> Result<Self, Failure> {
        let config = settings.load()?;
        log(&config)?;
        let opened = open::store(&config.store, serve, Arc::clone(&clock)).await?;
        let auth = open::auth(&opened, &config, Arc::clone(&clock)).await?;
        Ok(Self { auth, config, clock, opened })
    }

    /// The store itself, for the commands that read all of it.
    pub(super) fn store(&self) -> Store {
        self.reader(Lives::default())
    }

    /// The same, where it is about how long things live.
    pub(super) fn reader(&self, lives: Lives) -> Store {
        self.over(lives, true)
    }

    /// The store, to write.
    pub(super) fn worker(&self, lives: Lives) -> Result<Store, Failure> {
        if self.opened.read_only {
            return Err(storage::Error::ReadOnly.into());
        }
        Ok(self.over(lives, false))
    }

    fn over(&self, lives: Lives, read_only: bool) -> Store {
        let sparse_manifests = self.config.server.sparse_manifests;
        let settings = storage::Settings { lives, read_only, sparse_manifests, ..storage::Settings::default() };
        let (records, bytes) = (Arc::clone(&self.opened.records), Arc::clone(&self.opened.bytes));
        Store::new(records, bytes, Arc::clone(&self.clock), self.auth.upload_keys(), settings, TaskTracker::new())
    }

    /// What the records' own check finds wrong.
    pub(super) async fn integrity(&self) -> Result<Vec<String>, storage::Error> {
        self.opened.integrity().await
    }

    /// The host that logins are rendered for.
    pub(super) async fn host(&self) -> Result<auth::Host, Failure> {
        let (url, domain) = self.names().await?;
        rendered_host(&url, domain.as_ref())
    }

    /// The first public URL, else what the server that runs on this store says, else where one would listen.
    pub(super) async fn canonical(&self) -> Result<PublicUrl, Failure> {
        Ok(self.names().await?.0)
    }

    /// The same, with the account domain.
    async fn names(&self) -> Result<(PublicUrl, Option<HostName>), Failure> {
        let server = &self.config.server;
        let domain = server.account_domain.clone();
        if let Some(first) = server.public_urls.first() {
            return Ok((first.clone(), domain));
        }
        Ok(match replica::last_names(&*self.opened.records, self.clock.now()).await? {
            Some((url, said)) => (url, domain.or(said)),
            None => (hosts::address_url(server.listen, server.tls.is_some()), domain),
        })
    }
}

/// A public name as `auth` renders it.
pub(super) fn rendered_host(url: &PublicUrl, domain: Option<&HostName>) -> Result<auth::Host, Failure> {
    let host = auth::Host::new(&url.host().to_string(), url.scheme() == config::Scheme::Http);
    let host = host.map(|host| host.with_account_domain(domain.map(HostName::name)));
    host.ok_or_else(|| Failure::Usage(format!("{url} cannot be rendered into a login; name another with --public-url")))
}

/// A command says what it did itself: its log holds warnings only, unless more is asked for.
pub(super) fn log(config: &Config) -> Result<(), Failure> {
    let asked = config.effective.iter().any(|e| e.key == "log.filter" && e.origin != Origin::Default);
    let quiet = Log { filter: "warn".to_owned(), format: config.log.format };
    telemetry::init(if asked { &config.log } else { &quiet }, None).map_err(|error| Failure::Usage(error.to_string()))
}

/// Every page of a list, one after the other.
pub(super) async fn all<T>(
    mut page: impl AsyncFnMut(&Page) -> Result<Listing<T>, auth::Error>,
) -> Result<Vec<T>, auth::Error> {
    let mut wanted = Page { after: None, limit: 100 };
    let mut items = Vec::new();
    loop {
        let listing = page(&wanted).await?;
        items.extend(listing.items);
        wanted.after = listing.next;
        if wanted.after.is_none() {
            return Ok(items);
        }
    }
}

/// A length of time on the command line, in whole seconds.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let time = text.parse::<config::HumanDuration>().map_err(|rule| format!("expected {rule}"))?;
    Ok(time.duration().as_secs())
}

/// A date or a time on the command line; a date means its first moment, UTC.
pub(super) fn time(text: &str) -> Result<Time, String> {
    auth::parse_time(text).map_err(str::to_owned)
}

/// A time as text output shows it.
pub(super) fn shown(time: Time) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_its_first_moment() {
        assert_eq!(shown(time("2027-01-31").unwrap()), "2027-01-31T00:00:00Z");
        assert_eq!(shown(time("2027-01-31T02:00:00+02:00").unwrap()), "2027-01-31T00:00:00Z");
        assert!(time("tomorrow").is_err());
    }
}
