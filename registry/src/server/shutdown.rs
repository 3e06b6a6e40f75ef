//! Every task of the server, and how they end.

use std::{future::Future, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The one spawner: what runs beside the caller belongs to it, and shutdown waits for it.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    beside: TaskTracker,
    over: CancellationToken,
    stop: CancellationToken,
    cut: CancellationToken,
}

/// How long after the order to stop a connection at rest is kept: a request that is on its way in is answered, and told that it
/// is the connection's last, where closing at once would lose it.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Everything came to its end.
    Clean,
    /// The deadline passed with this many tasks at work; their connections were cut.
    Cut {
        /// Tasks at work when the deadline passed.
        tasks: usize,
    },
}

impl Tasks {
    /// No task yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a future to its end, whatever becomes of the caller.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(future)
    }

    /// Runs a future for as long as there is anything it serves: shutdown does not wait for it, and drops it at the end.
    pub fn spawn_beside<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let over = self.over.clone();
        self.beside.spawn(async move { over.run_until_cancelled_owned(future).await });
    }

    /// The tracker itself, for those who spawn on it from below.
    pub fn tracker(&self) -> &TaskTracker {
        &self.tracker
    }

    /// Ends when the order to stop is given: loops stop, listeners close, connections take no more requests.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Ends when the order to stop was given and clients at rest have had their chance ([`LINGER`]).
    pub(super) async fn lingered(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep(LINGER).await;
    }

    /// Ends when the drain's deadline has passed: connections are dropped as they are.
    pub(super) fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    /// Gives the order to stop and waits for what is running, `deadline` at most.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        self.stop.cancel();
        self.tracker.close();
        let drained = tokio::time::timeout(deadline, self.tracker.wait()).await;
        self.over.cancel();
        if drained.is_ok() {
            return Drained::Clean;
        }
        let tasks = self.tracker.len();
        self.cut.cancel();
        Drained::Cut { tasks }
    }
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.spawn(future);
    }
}

/// The orders to stop that a system gives.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Watches for them from now on; none kills the process any more.
    pub fn watch() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next one's name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The order to read the configuration again: SIGHUP.
#[derive(Debug)]
pub struct Hangups(Signal);

impl Hangups {
    /// Watches for it from now on; it does not kill the process any more.
    pub fn watch() -> std::io::Result<Self> {
        Ok(Self(signal(SignalKind::hangup())?))
    }

    /// Ends with the next one.
    pub async fn next(&mut self) {
        self.0.recv().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_waits_for_what_is_running() {
        let tasks = Tasks::new();
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let stop = tasks.stop().clone();
        let running = tasks.spawn(async move {
            stop.cancelled().await;
            wait.await.is_ok()
        });
        let drain = tasks.drain(Duration::from_mins(1));
        let release = async {
            tasks.stop().cancelled().await;
            assert!(!tasks.tracker.is_empty());
            go.send(()).unwrap();
        };
        assert_eq!(tokio::join!(drain, release).0, Drained::Clean);
        assert!(running.await.unwrap());
    }

    #[tokio::test]
    async fn what_runs_beside_serves_until_the_drain_is_over_and_is_not_waited_for() {
        struct Told(Option<tokio::sync::oneshot::Sender<()>>);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.take().unwrap().send(()).unwrap();
            }
        }
        let tasks = Tasks::new();
        let (tell, told) = tokio::sync::oneshot::channel();
        let told_at_end = Told(Some(tell));
        tasks.spawn_beside(async move {
            let _told = told_at_end;
            std::future::pending::<()>().await;
        });
        assert_eq!(tasks.drain(Duration::from_mins(1)).await, Drained::Clean);
        told.await.unwrap();
    }

    #[tokio::test]
    async fn a_drain_ends_at_its_deadline() {
        let tasks = Tasks::new();
        tasks.spawn(std::future::pending::<()>());
        assert_eq!(tasks.drain(Duration::from_millis(1)).await, Drained::Cut { tasks: 1 });
        assert!(tasks.cut().is_cancelled());
    }
}
