use std::{fmt, sync::Arc};

use auth::Auth;
use config::Limits;
use storage::{Clock, Store};

use crate::{
    hosts::Hosts,
    issuers::Issuers,
    metrics::Metrics,
    operations::Readiness,
    server::{Live, shutdown::Tasks},
};

/// Everything a request needs, built once.
pub struct App {
    /// What is kept.
    pub store: Store,
    /// Who may.
    pub auth: Arc<Auth>,
    /// The names this registry answers to.
    pub hosts: Hosts,
    /// Whose tokens are exchanged for credentials, and their keys.
    pub(crate) issuers: Issuers,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether requests should come here.
    pub readiness: Arc<Readiness>,
    /// Bounds on what a client may hold.
    pub limits: Arc<Live<Limits>>,
    /// Where tasks are spawned that outlive a request.
    pub tasks: Tasks,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}
