//! From a configuration to a server that serves.

use std::{future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use auth::audit::AuditCounts;
use config::{Config, PublicUrl, Scheme};
use storage::{
    Clock, Lives, Store,
    backend::local::{Disk, disk},
    copy,
};
use tokio_util::sync::CancellationToken;

use crate::{
    App, background,
    hosts::Hosts,
    issuers::Issuers,
    metrics::{Metrics, family},
    open,
    operations::{Check, Operations, Readiness},
    replica,
    server::{
        Authority, Live,
        listen::{BindError, Listener},
        shutdown::{Drained, Tasks},
        tls,
    },
    telemetry,
};

/// Why a server did not start: one line with the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be listened at.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Certificate files cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] storage::Error),
    /// What the store says of accounts and keys cannot be used.
    #[error(transparent)]
    Auth(#[from] auth::Error),
    /// An account that the configuration declares cannot be used.
    #[error(transparent)]
    Declared(#[from] auth::NotDeclared),
    /// The log's filter cannot be read.
    #[error(transparent)]
    Log(#[from] telemetry::Error),
}

/// A server that serves.
#[derive(Debug)]
pub struct Running {
    /// The address of the public listener, its port known.
    pub address: SocketAddr,
    /// The address of the operations listener, if there is one.
    pub operations_address: Option<SocketAddr>,
    /// What requests work on.
    pub app: Arc<App>,
    // What of the configuration takes effect with a restart only.
    started: Config,
    certificates: Option<tls::Certificates>,
    moved: CancellationToken,
    // Held for its lock, until nothing writes any more.
    opened: open::Opened,
}

impl Running {
    /// Ends when the order to stop was given.
    pub async fn stopping(&self) {
        self.app.tasks.stop().cancelled().await;
    }

    /// Ends, with the reason, when the store has failed in a way that no process can go on from: after an I/O error on a commit
    /// nobody can say what is on the disk.
    pub async fn failed(&self) -> String {
        self.opened.failed().await
    }

    /// Ends when the store was moved away: whoever is still served here is served what is not true any more.
    pub async fn moved(&self) {
        self.moved.cancelled().await;
    }

    /// Gives the order to stop and waits until requests have ended, or the drain's deadline has passed.
    pub async fn shutdown(self) -> Drained {
        let deadline = self.app.limits.now().drain_timeout;
        let drained = self.app.tasks.drain(deadline).await;
        // The last requests were counted and audited too.
        if let Err(error) = storage::retention::flush_pulls(&self.app.store).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the last pulls were not noted");
        }
        if let Err(error) = storage::usage::flush(&self.app.store).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the last counts of usage were not written");
        }
        if let Err(error) = self.app.auth.flush_audit().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the last lines of the audit were not written");
        }
        drained
    }

    /// Takes over what of a configuration a running server can take over, and gives the settings that are others than at the start
    /// and need a restart. What cannot be used changes nothing.
    pub async fn reload(&self, config: &Config) -> Result<Vec<&'static str>, StartError> {
        telemetry::check(&config.log)?;
        let declared = auth::Declared::check(&config.accounts)?;
        let prepared = match (&self.certificates, &config.server.tls) {
            (Some(certificates), Some(tls)) => {
                let (reader, tls) = (certificates.clone(), tls.clone());
                let prepared = tokio::task::spawn_blocking(move || reader.prepare(&tls)).await;
                Some((certificates, prepared.map_err(storage::Error::unavailable)??))
            }
            _ => None,
        };
        Box::pin(self.app.auth.declare(&declared)).await?;
        if let Some((certificates, prepared)) = prepared {
            certificates.take(prepared);
        }
        telemetry::refilter(&config.log)?;
        self.app.hosts.trust(config.server.trusted_proxies.clone());
        let connections = self.started.limits.connections;
        self.app.limits.set(config::Limits { connections, ..config.limits.clone() });
        let began_or_ended = self.certificates.is_some() != config.server.tls.is_some();
        let restart =
            |setting: &&config::Setting| !setting.reload || (began_or_ended && setting.key.starts_with("tls_"));
        Ok(self.started.differs(config).into_iter().filter(restart).map(|setting| setting.key).collect())
    }
}

/// The names that clients use: those that were set, else those that the server's own certificate is for.
fn public_urls(config: &Config, address: SocketAddr) -> Vec<PublicUrl> {
    let server = &config.server;
    if !server.public_urls.is_empty() {
        return server.public_urls.clone();
    }
    let own = server.self_signed.iter().flat_map(|own| &own.hosts);
    own.map(|host| PublicUrl::new(Scheme::Https, host.clone().or_port(address.port()))).collect()
}

/// A server on its way. Boxed, so that the whole server is compiled once, here, and not again in every program that starts one.
pub type Starting = Pin<Box<dyn Future<Output = Result<Running, StartError>> + Send>>;

/// Starts a server: sockets first, so that a taken port is known before anything is written; then the store; then requests. `lives`
/// is [`Lives::default`] but in tests.
pub fn start(config: Config, clock: Arc<dyn Clock>, lives: Lives) -> Starting {
    Box::pin(async move {
        let sockets = Sockets::bind(&config).await?;
        let opened = open::store(&config.store, true, Arc::clone(&clock)).await?;
        serve(config, sockets, opened, clock, lives).await
    })
}

/// The same over a store that is open already; what the configuration says of the store is not looked at.
pub fn start_on(config: Config, opened: open::Opened, clock: Arc<dyn Clock>) -> Starting {
    Box::pin(async move {
        let sockets = Sockets::bind(&config).await?;
        serve(config, sockets, opened, clock, Lives::default()).await
    })
}

/// Bound, and nobody is answered yet.
struct Sockets {
    certificates: Option<tls::Certificates>,
    listener: Listener,
    operations: Option<Listener>,
}

impl Sockets {
    async fn bind(config: &Config) -> Result<Self, StartError> {
        Ok(Self {
            certificates: match (&config.server.tls, &config.server.self_signed) {
                (Some(tls), None) => Some(tls::Certificates::load(tls.clone())?),
                _ => None,
            },
            listener: Listener::bind("listen", config.server.listen).await?,
            operations: bind_operations(config.server.operations).await?,
        })
    }
}

async fn serve(
    config: Config,
    sockets: Sockets,
    mut opened: open::Opened,
    clock: Arc<dyn Clock>,
    lives: Lives,
) -> Result<Running, StartError> {
    let metrics = Arc::new(Metrics::new(&*clock));
    opened.observe(&metrics, &clock);
    let Sockets { mut certificates, listener, operations } = sockets;
    if let (Some(tls), Some(own)) = (&config.server.tls, &config.server.self_signed) {
        // Beside the data, so after the folder is known to be this server's alone.
        let (tls, authority) =
            (tls.clone(), Authority::new(own, config.server.account_domain.as_ref(), Arc::clone(&clock)));
        let made = tokio::task::spawn_blocking(move || tls::Certificates::own(tls, authority)).await;
        certificates = Some(made.map_err(storage::Error::unavailable)??);
    }
    let acceptor = certificates.as_ref().map(tls::Certificates::acceptor).transpose()?;
    let auth = Arc::new(open::auth(&opened, &config, Arc::clone(&clock)).await?);
    Box::pin(auth.declare(&auth::Declared::check(&config.accounts)?)).await?;

    let tasks = Tasks::new();
    let read_only = config.server.read_only || opened.read_only;
    let settings = storage::Settings {
        lives,
        read_only,
        sparse_manifests: config.server.sparse_manifests,
        gate: opened.gate.clone(),
        open_uploads: config.server.open_uploads,
    };
    let store = Store::new(
        Arc::clone(&opened.records),
        Arc::clone(&opened.bytes),
        Arc::clone(&clock),
        auth.upload_keys(),
        settings,
        tasks.tracker().clone(),
    );
    watch(&metrics, &opened, certificates.as_ref(), read_only);
    watch_auth(&metrics, &auth);
    let readiness = Arc::new(Readiness::new(Arc::clone(&clock), checks(&opened, &auth), tasks.stop().clone()));
    let (address, operations_address) = (listener.address(), operations.as_ref().map(Listener::address));
    let app = Arc::new(App {
        store,
        auth,
        issuers: Issuers::new(&config.issuers, Arc::clone(&clock)),
        clock,
        hosts: Hosts::new(
            public_urls(&config, address),
            config.server.trusted_proxies.clone(),
            address,
            acceptor.is_some(),
        )
        .with_account_domain(config.server.account_domain.clone()),
        metrics: Arc::clone(&metrics),
        readiness: Arc::clone(&readiness),
        limits: Arc::new(Live::new(config.limits.clone())),
        tasks: tasks.clone(),
    });
    if let Some(operations) = operations {
        let handler = Arc::new(Operations { metrics: Arc::clone(&metrics), readiness });
        operations.serve(handler, None, Arc::clone(&app.limits), &tasks, Arc::new(Metrics::new(&*app.clock)));
    }
    let (records, clock) = (Arc::clone(&opened.records), Arc::clone(&app.clock));
    if !read_only {
        // From now on it is no copy that a backup could go on with.
        copy::release(&*opened.records).await?;
    }
    let moved = replica::announce(&tasks, records, clock, &opened.gate, address, &app.hosts, read_only).await;
    if let Some(certificates) = &certificates {
        certificates.clone().keep_fresh(&tasks);
    }
    watch_audit(&app);
    watch_usage(&app);
    background::audit(&tasks, &app.auth);
    background::follow(&tasks, &app.auth);
    if !read_only {
        background::start(&tasks, &app.auth, &app.store, &app.clock, &app.metrics);
        background::count(&tasks, &app.store);
        background::retain(&tasks, &app.store, &app.clock);
    }
    listener.serve(Arc::clone(&app), acceptor, Arc::clone(&app.limits), &tasks, metrics);
    Ok(Running { address, operations_address, app, started: config, certificates, moved, opened })
}

/// The default address is for convenience: if somebody has it, that is said and the server goes on without.
async fn bind_operations(wanted: config::Operations) -> Result<Option<Listener>, BindError> {
    match wanted {
        config::Operations::Off => Ok(None),
        config::Operations::At(address) => Listener::bind("operations", address).await.map(Some),
        config::Operations::Default(address) => match Listener::bind("operations", address).await {
            Ok(listener) => Ok(Some(listener)),
            Err(error) if error.is_taken() => {
                tracing::warn!(
                    "{address} is taken, so there is no operations listener; name another with --operations"
                );
                Ok(None)
            }
            Err(error) => Err(error),
        },
    }
}

/// The numbers that are read when they are asked for.
fn watch(metrics: &Metrics, opened: &open::Opened, certificates: Option<&tls::Certificates>, read_only: bool) {
    let gate = opened.gate.clone();
    metrics
        .watch(family::READ_ONLY, move || vec![(String::new(), u8::from(read_only || gate.is_closed()).to_string())]);
    if let Some(folder) = opened.folder() {
        for (name, read) in [
            (family::DISK_FREE, (|disk| disk.free) as fn(Disk) -> u64),
            (family::DISK_SIZE, |disk| disk.size),
            (family::DISK_RESERVE, |disk| disk.reserve),
        ] {
            let folder = folder.to_owned();
            metrics.watch(name, move || {
                disk(&folder).map(|disk| (String::new(), read(disk).to_string())).into_iter().collect()
            });
        }
    }
    if let Some(certificates) = certificates.cloned() {
        metrics.watch(family::CERTIFICATE_END, move || {
            let label = |(name, end): (String, i64)| (format!("name=\"{name}\""), end.to_string());
            certificates.ends().into_iter().map(label).collect()
        });
    }
}

/// How near accounts are to their quotas.
fn watch_usage(app: &App) {
    let store = app.store.clone();
    app.metrics.watch(family::QUOTA, move || {
        let ratio = store.usage().nearest_quota(&store);
        ratio.map(|ratio| (String::new(), format!("{ratio:.4}"))).into_iter().collect()
    });
}

/// The numbers of the audit.
fn watch_audit(app: &App) {
    for (name, read) in [
        (family::AUDIT_EVENTS, (|counts| counts.written) as fn(AuditCounts) -> u64),
        (family::AUDIT_DROPPED, |counts| counts.dropped),
        (family::AUDIT_WAITING, |counts| counts.waiting as u64),
    ] {
        let auth = Arc::clone(&app.auth);
        app.metrics.watch(name, move || vec![(String::new(), read(auth.audit_counts()).to_string())]);
    }
}

/// What is known of ended rights, and what is held in memory because nothing speaks against it.
fn watch_auth(metrics: &Metrics, auth: &Arc<auth::Auth>) {
    let alone = |number: String| vec![(String::new(), number)];
    let log = Arc::clone(auth);
    metrics.watch(family::AUTHLOG_AGE, move || {
        log.log_age().map(|age| alone(format!("{:.3}", age.as_secs_f64()))).unwrap_or_default()
    });
    let decisions = Arc::clone(auth);
    metrics.watch(family::STALE_DECISIONS, move || alone(decisions.stale_decisions().to_string()));
    let limits = Arc::clone(auth);
    metrics.watch(family::LIVE_CREDENTIALS, move || {
        limits.nearest_limits().map(|(of, part)| (format!("of=\"{of}\""), format!("{part:.4}"))).into()
    });
    let caches = Arc::clone(auth);
    metrics.watch(family::AUTH_CACHE, move || {
        caches.cached_bytes().map(|(cache, bytes)| (format!("cache=\"{cache}\""), bytes.to_string())).into()
    });
}

/// From here on a balancer does better to ask another replica.
const AUTHLOG_OLD: Duration = Duration::from_secs(3);

fn checks(opened: &open::Opened, auth: &Arc<auth::Auth>) -> Vec<(&'static str, Check)> {
    let records = Arc::clone(&opened.records);
    let store: Check = Box::new(move || {
        let records = Arc::clone(&records);
        Box::pin(
            async move { records.health().await.map(|()| "ok".to_owned()).map_err(|error| telemetry::chain(&error)) },
        )
    });
    let auth = Arc::clone(auth);
    let authlog: Check = Box::new(move || {
        let bound = auth.bound().as_secs_f64();
        let outcome = match auth.log_age() {
            Some(age) if age < AUTHLOG_OLD => Ok(format!("ok; an ended right is refused within {bound} s")),
            Some(age) => Err(format!("last read {} s ago; after {bound} s requests are refused", age.as_secs())),
            None => Err("not read yet".to_owned()),
        };
        Box::pin(std::future::ready(outcome))
    });
    vec![("store", store), ("authlog", authlog)]
}

#[cfg(test)]
mod tests;
