//! `hythe secret-refresher`: keeps pull Secrets of a cluster fresh, in place, from access keys of the role `installer`.

mod board;
mod config;
mod kubernetes;
mod refresh;
mod secret;

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ::config::{LogFormat, Sources};
use clap::{Args, ValueEnum};
use futures::StreamExt as _;
use storage::Clock;
use tokio::sync::Notify;

use self::{
    board::{Board, Place},
    config::{Config, Namespaces},
    kubernetes::Kubernetes,
    refresh::{Memory, Refresher},
};
use super::{Failure, private_file, server::text};
use crate::{
    metrics::Metrics,
    server::{
        Live,
        listen::Listener,
        shutdown::{Signals, Tasks},
    },
    telemetry::{self, chain},
};

/// Where a list of namespaces is asked for.
const NAMESPACES: &str = "/api/v1/namespaces";
/// Secrets that are looked at together: enough for a cluster's start, few enough for the rate at which one key mints.
const TOGETHER: usize = 8;
/// How long what runs may go on after the order to stop.
const DRAIN: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct SecretRefresher {
    /// Which Secrets, in which namespaces, from which keys (TOML)
    #[arg(long, value_name = "FILE", default_value = "/etc/hythe/secret-refresher.toml")]
    config: PathBuf,
    /// Where /metrics, /healthz and /readyz are answered
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5082")]
    listen: SocketAddr,
    /// The cluster (default: the one in which this runs as a pod)
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Form of the log
    #[arg(long, value_enum, default_value_t)]
    log_format: Form,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Form {
    #[default]
    Text,
    Json,
}

pub(super) async fn run(command: SecretRefresher, clock: Arc<dyn Clock>) -> Result<(), Failure> {
    let format = match command.log_format {
        Form::Text => LogFormat::Text,
        Form::Json => LogFormat::Json,
    };
    let log = ::config::Log { filter: "info".to_owned(), format };
    telemetry::init(&log, None).map_err(|error| Failure::Usage(error.to_string()))?;
    let told = |error: std::io::Error| Failure::Usage(format!("{}: {error}", command.config.display()));
    let config = Config::parse(&private_file::text(&command.config).map_err(told)?)?;
    let kubernetes = command.kubeconfig.as_deref().map_or_else(Kubernetes::in_cluster, Kubernetes::from_kubeconfig);
    let kubernetes = kubernetes.map_err(Failure::Usage)?;
    let mut signals = Signals::watch()?;

    let board = Arc::new(Board::new(Arc::clone(&clock)));
    let tasks = Tasks::new();
    let listener = Listener::bind("listen", command.listen).await.map_err(|error| Failure::Failed(chain(&error)))?;
    tracing::info!(address = %listener.address(), "metrics at http://{}/metrics", listener.address());
    let limits = ::config::load(&Sources::isolated())?.limits;
    let metrics = Arc::new(Metrics::new(&*clock));
    listener.serve(Arc::clone(&board), None, Arc::new(Live::new(limits)), &tasks, metrics);

    let refresher = Arc::new(Refresher { kubernetes, config, board, clock });
    let changed = Arc::new(Notify::new());
    watch(&refresher, &changed, &tasks);
    let mut memories = HashMap::new();
    let mut looks = tokio::time::interval(refresher.config.look);
    loop {
        tokio::select! {
            signal = signals.next() => {
                tracing::info!("{signal}: stopped");
                break;
            }
            () = look(&refresher, &mut memories) => {}
        }
        tokio::select! {
            signal = signals.next() => {
                tracing::info!("{signal}: stopped");
                break;
            }
            _ = looks.tick() => {}
            () = changed.notified() => {}
        }
    }
    tasks.drain(DRAIN).await;
    Ok(())
}

/// One look at everything that is wanted: where it is due, it is done.
async fn look(refresher: &Refresher, memories: &mut HashMap<(usize, String), Memory>) {
    let (mut wanted, mut complete) = (BTreeSet::new(), true);
    for (at, secret) in refresher.config.secrets.iter().enumerate() {
        let spaces = match &secret.namespaces {
            Namespaces::Named(names) => names.clone(),
            Namespaces::Selected(selector) => match refresher.kubernetes.list(NAMESPACES, selector).await {
                Ok((spaces, _)) => spaces.iter().filter_map(living).collect(),
                Err(error) => {
                    tracing::warn!("the namespaces {selector:?} are not listed: {}", chain(&error));
                    complete = false;
                    continue;
                }
            },
        };
        wanted.extend(spaces.into_iter().map(|space| (at, space)));
    }
    if complete {
        memories.retain(|place, _| wanted.contains(place));
        let places: BTreeSet<Place> = wanted.iter().filter_map(|(at, space)| place(refresher, *at, space)).collect();
        refresher.board.keep(|place| places.contains(place));
    }
    let now = refresher.clock.now();
    let due = wanted.into_iter().map(|(at, space)| {
        let memory = memories.remove(&(at, space.clone())).unwrap_or_default();
        (at, space, memory)
    });
    let tended = futures::stream::iter(due).map(|(at, space, mut memory)| async move {
        if memory.is_due(now)
            && let Some(secret) = refresher.config.secrets.get(at)
        {
            refresher.tend(secret, &space, &mut memory).await;
        }
        ((at, space), memory)
    });
    let tended: Vec<_> = tended.buffer_unordered(TOGETHER).collect().await;
    memories.extend(tended);
    if complete {
        refresher.board.ready.store(true, Ordering::Relaxed);
    }
}

fn place(refresher: &Refresher, at: usize, space: &str) -> Option<Place> {
    Some((space.to_owned(), refresher.config.secrets.get(at)?.name.clone()))
}

/// The name of a namespace in which something can still be made.
fn living(space: &serde_json::Value) -> Option<String> {
    let dying = space.pointer("/metadata/deletionTimestamp").is_some();
    let name = space.get("metadata").map(|metadata| text(metadata, "name").to_owned());
    name.filter(|name| !dying && !name.is_empty())
}

/// Has a look taken as soon as the namespaces of a selector change: a pod that is made with its namespace should not wait.
fn watch(refresher: &Arc<Refresher>, changed: &Arc<Notify>, tasks: &Tasks) {
    let selectors = refresher.config.secrets.iter().filter_map(|secret| match &secret.namespaces {
        Namespaces::Selected(selector) => Some(selector.clone()),
        Namespaces::Named(_) => None,
    });
    for selector in selectors.collect::<BTreeSet<_>>() {
        let (refresher, changed, stop) = (Arc::clone(refresher), Arc::clone(changed), tasks.stop().clone());
        tasks.spawn(async move {
            let follow = async {
                let mut rest = tokio::time::interval(refresher.config.look);
                loop {
                    // A watch that ends is begun again, but no faster than looks are taken anyway.
                    rest.tick().await;
                    let follow = async {
                        let (_, version) = refresher.kubernetes.list(NAMESPACES, &selector).await?;
                        let mut events =
                            std::pin::pin!(refresher.kubernetes.watch(NAMESPACES, &selector, &version).await?);
                        while events.next().await.is_some() {
                            changed.notify_one();
                        }
                        Ok::<_, kubernetes::Error>(())
                    };
                    if let Err(error) = follow.await {
                        tracing::debug!("the namespaces {selector:?} are not watched: {}", chain(&error));
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = follow => {}
            }
        });
    }
}
