//! When collection works: a slice at a time, and never for more than its share of a server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use storage::{
    Clock, Error, Store, Time, format,
    gc::{
        self, Outcome, Pass,
        reclaimable::{self, Reclaimable},
    },
    sweep::{self, Round, Stop, Swept},
    trash::{self, Emptied},
};

use crate::{
    metrics::{Metrics, family},
    server::shutdown::Tasks,
};

/// What collection has done in this process.
#[derive(Debug, Default)]
struct Collected {
    passes: AtomicU64,
    marked: AtomicU64,
    removed: AtomicU64,
    deleted: AtomicU64,
    deleted_bytes: AtomicU64,
    uploads: AtomicU64,
    accounts: AtomicU64,
    failed: AtomicU64,
    /// What the last whole round found that could be freed; nothing before its end.
    reclaimable: Mutex<Option<Reclaimable>>,
}

impl Collected {
    fn passed(&self, outcome: Outcome) {
        let Outcome::Passed(pass) = outcome else { return };
        let Pass { marked, removed, .. } = pass;
        self.passes.fetch_add(1, Ordering::Relaxed);
        self.marked.fetch_add(marked, Ordering::Relaxed);
        self.removed.fetch_add(removed, Ordering::Relaxed);
        if removed > 0 {
            tracing::debug!(marked, removed, "a repository was collected");
        }
    }

    fn emptied(&self, emptied: Emptied) {
        self.deleted.fetch_add(emptied.deleted, Ordering::Relaxed);
        self.deleted_bytes.fetch_add(emptied.deleted_bytes, Ordering::Relaxed);
        if emptied.deleted > 0 {
            tracing::info!(
                blobs = emptied.deleted,
                size_bytes = emptied.deleted_bytes,
                "bytes that nobody uses were deleted"
            );
        }
    }

    fn swept(&self, swept: Swept) {
        self.uploads.fetch_add(swept.uploads, Ordering::Relaxed);
        self.accounts.fetch_add(swept.keys, Ordering::Relaxed);
    }
}

/// What is looked at in turn, one each [`storage::Lives::look`].
#[derive(Debug, Clone, Copy)]
enum Job {
    /// Repositories whose mark is due.
    Marks,
    /// The trash.
    Trash,
    /// The next account: its old uploads, or what it left.
    Accounts,
    /// The next repository, marked or not.
    Repositories,
}

const JOBS: [Job; 4] = [Job::Marks, Job::Trash, Job::Accounts, Job::Repositories];
/// Slices of one job before the others have their turn.
const SLICES: usize = 50;

struct Collector {
    store: Store,
    collected: Arc<Collected>,
    process: String,
    accounts: Round,
    repositories: Round,
    /// Of the round that goes on.
    reclaimable: Reclaimable,
    /// What the trash held, and when it was looked through: once a day, like each repository.
    trashed: Option<(Time, Reclaimable)>,
}

/// Starts collection; it ends with the order to stop, between two calls of the store: whatever was left is found again.
pub(super) fn start(tasks: &Tasks, store: &Store, clock: &Arc<dyn Clock>, metrics: &Metrics) {
    let collected = Arc::new(Collected::default());
    watch(metrics, &collected);
    let (stop, clock) = (tasks.stop().clone(), Arc::clone(clock));
    let lives = *store.lives();
    let mut collector = Collector {
        store: store.clone(),
        collected,
        process: storage::random_text(16),
        accounts: Round::default(),
        repositories: Round::default(),
        reclaimable: Reclaimable::default(),
        trashed: None,
    };
    tasks.spawn(async move {
        for job in JOBS.into_iter().cycle() {
            // A tenth more or less, so that replicas do not look all at once.
            let mut pause = lives.look.mul_f64(0.9 + 0.2 * rand::random::<f64>());
            for _ in 0..SLICES {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => return,
                }
                let begun = clock.elapsed();
                let more = tokio::select! {
                    more = collector.slice(job) => more,
                    () = stop.cancelled() => return,
                };
                pause = clock.elapsed().saturating_sub(begun) * lives.rest;
                match more {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        collector.collected.failed.fetch_add(1, Ordering::Relaxed);
                        tracing::warn!(error = &error as &dyn std::error::Error, ?job, "collection was put off");
                        pause = pause.max(lives.look);
                        break;
                    }
                }
            }
            // The rest after the last slice is due as well.
            tokio::select! {
                () = tokio::time::sleep(pause.min(LONGEST_REST)) => {}
                () = stop.cancelled() => return,
            }
        }
    });
}

/// However long a slice took.
const LONGEST_REST: Duration = Duration::from_hours(1);

impl Collector {
    /// One slice; whether there is another one of this job now.
    async fn slice(&mut self, job: Job) -> Result<bool, Error> {
        let store = &self.store;
        if format::at_rest(store.records()).await? {
            return Ok(false);
        }
        match job {
            Job::Marks => {
                let outcome = gc::next(store).await?;
                if let Some(outcome) = outcome {
                    self.collected.passed(outcome);
                }
                Ok(matches!(outcome, Some(Outcome::Passed(_))))
            }
            Job::Trash => {
                if let Some(emptied) = trash::empty(store, &self.process).await? {
                    self.collected.emptied(emptied);
                }
                Ok(false)
            }
            Job::Accounts => match self.accounts.next_account(store).await? {
                Stop::Account(account) => {
                    self.collected.swept(sweep::uploads(store, &account).await?);
                    Ok(false)
                }
                Stop::Deleted(generation) => {
                    let (mut swept, mut done) = sweep::generation(store, &generation).await?;
                    // A slice of a large account is followed by the next at once; the rest follows the last.
                    for _ in 0..SLICES {
                        self.collected.swept(swept);
                        if done {
                            break;
                        }
                        (swept, done) = sweep::generation(store, &generation).await?;
                    }
                    Ok(false)
                }
                Stop::Repository(_) | Stop::End => Ok(false),
            },
            Job::Repositories => {
                match self.repositories.next_repository(store).await? {
                    Stop::Repository(repository) => {
                        let (outcome, found) = gc::visit(store, &repository).await?;
                        self.collected.passed(outcome);
                        if matches!(outcome, Outcome::Passed(_)) {
                            sweep::marks(store, &repository).await?;
                        }
                        self.reclaimable += found;
                    }
                    Stop::End => {
                        let mut whole = std::mem::take(&mut self.reclaimable);
                        let now = store.now();
                        let known = self.trashed.filter(|(at, _)| now < *at + store.lives().round);
                        let trashed = match known {
                            Some((_, trashed)) => trashed,
                            None => reclaimable::trashed(store).await?,
                        };
                        self.trashed = Some((known.map_or(now, |(at, _)| at), trashed));
                        whole += trashed;
                        *self.collected.reclaimable.lock() = Some(whole);
                    }
                    Stop::Account(account) => self.reclaimable += reclaimable::uploads(store, &account).await?,
                    Stop::Deleted(_) => {}
                }
                Ok(false)
            }
        }
    }
}

fn watch(metrics: &Metrics, collected: &Arc<Collected>) {
    for (name, read) in [
        (family::COLLECT_PASSES, (|collected| &collected.passes) as fn(&Collected) -> &AtomicU64),
        (family::COLLECT_MARKED, |collected| &collected.marked),
        (family::COLLECT_REMOVED, |collected| &collected.removed),
        (family::COLLECT_DELETED, |collected| &collected.deleted),
        (family::COLLECT_DELETED_BYTES, |collected| &collected.deleted_bytes),
        (family::COLLECT_UPLOADS, |collected| &collected.uploads),
        (family::COLLECT_ACCOUNTS, |collected| &collected.accounts),
        (family::COLLECT_FAILED, |collected| &collected.failed),
    ] {
        let collected = Arc::clone(collected);
        metrics.watch(name, move || vec![(String::new(), read(&collected).load(Ordering::Relaxed).to_string())]);
    }
    let collected = Arc::clone(collected);
    metrics.watch(family::RECLAIMABLE, move || {
        let found = *collected.reclaimable.lock();
        let causes = |found: Reclaimable| {
            [("untagged", found.untagged), ("grace", found.grace), ("trash", found.trash), ("uploads", found.uploads)]
        };
        let series = found.map(causes).into_iter().flatten();
        series.map(|(cause, bytes)| (format!("cause=\"{cause}\""), bytes.to_string())).collect()
    });
}
