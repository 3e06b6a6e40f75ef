use std::{future::Future, net::IpAddr, sync::Arc};

/// Where a request came from. It belongs to the task that answers the request, as the span of the log does, so that what is
/// audited deep below names it; a command on the store has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The client's address, once the proxies before it are accounted for.
    pub ip: IpAddr,
    /// Its `User-Agent`, as it was sent.
    pub user_agent: Option<String>,
    /// The id that its answer carries.
    pub request_id: String,
}

tokio::task_local! {
    static ORIGIN: Arc<Origin>;
}

impl Origin {
    /// Runs what answers a request from here. What is spawned beside it is [`Origin::continued`].
    pub async fn scope<F: Future>(self: Arc<Self>, work: F) -> F::Output {
        ORIGIN.scope(self, work).await
    }

    /// The same for a task that goes on with a request beside its own.
    pub async fn continued<F: Future>(origin: Option<Arc<Self>>, work: F) -> F::Output {
        match origin {
            Some(origin) => origin.scope(work).await,
            None => work.await,
        }
    }

    /// The origin of the request that this task answers.
    pub fn current() -> Option<Arc<Self>> {
        ORIGIN.try_with(Arc::clone).ok()
    }
}
