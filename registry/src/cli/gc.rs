//! `hythe gc`: what could be freed, by cause; with `--now` it is collected at once, by this command or by the server that runs.

use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use storage::{
    Clock, Lives, Store,
    gc::{
        self, Outcome, Pass,
        reclaimable::{self, Reclaimable},
    },
    sweep::{self, Round, Stop},
    trash,
    usage::{self, size},
    work,
};

use super::{Failure, account::On, output::table, store::OnStore};

#[derive(Debug, Args)]
pub(super) struct Gc {
    /// Collect now what may go; without it nothing is touched
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    on: On,
}

/// What could be freed.
#[derive(Debug, Serialize)]
struct Counted {
    repositories: u64,
    reclaimable_bytes: Reclaimable,
}

/// What was done.
#[derive(Debug, Default, Serialize)]
struct Collected {
    /// A server runs on this store: it collects them now.
    marked_repositories: u64,
    repositories: u64,
    marked_blobs: u64,
    removed_blobs: u64,
    deleted_blobs: u64,
    deleted_bytes: u64,
    uploads: u64,
    /// A backup or a move is under way: no bytes were deleted.
    held: bool,
}

/// Passes over a repository: what the first one marks the second one removes.
const PASSES: usize = 2;

pub(super) async fn run(command: Gc, clock: Arc<dyn Clock>, lives: Lives) -> Result<(), Failure> {
    if !command.now {
        let on = OnStore::open(&command.on.settings, clock).await?;
        let counted = count(&on.reader(lives)).await?;
        command.on.output.print(&counted, told)?;
        return Ok(());
    }
    // The one server that a folder may have does it itself; on a bucket anybody may.
    let collected = match OnStore::open_to_work(&command.on.settings, Arc::clone(&clock)).await {
        Ok(on) => collect(&on.worker(lives)?).await?,
        Err(refused) => {
            let on = OnStore::open(&command.on.settings, clock).await.map_err(|_| refused)?;
            mark(&on.worker(lives)?).await?
        }
    };
    command.on.output.print(&collected, done)?;
    Ok(())
}

async fn count(store: &Store) -> Result<Counted, Failure> {
    let mut counted = Counted { repositories: 0, reclaimable_bytes: reclaimable::trashed(store).await? };
    let mut round = Round::default();
    loop {
        match round.next_repository(store).await? {
            Stop::Account(account) => counted.reclaimable_bytes += reclaimable::uploads(store, &account).await?,
            Stop::Repository(repository) => {
                counted.repositories += 1;
                counted.reclaimable_bytes += reclaimable::repository(store, &repository).await?;
            }
            Stop::Deleted(_) => {}
            Stop::End => return Ok(counted),
        }
    }
}

async fn mark(store: &Store) -> Result<Collected, Failure> {
    let mut collected = Collected::default();
    let mut round = Round::default();
    loop {
        match round.next_repository(store).await? {
            Stop::Repository(repository) => {
                work::collect_now(store, &repository).await?;
                collected.marked_repositories += 1;
            }
            Stop::Account(_) | Stop::Deleted(_) => {}
            Stop::End => return Ok(collected),
        }
    }
}

async fn collect(store: &Store) -> Result<Collected, Failure> {
    let mut collected = Collected::default();
    let mut round = Round::default();
    loop {
        match round.next_repository(store).await? {
            Stop::Account(account) => collected.uploads += sweep::uploads(store, &account).await?.uploads,
            Stop::Repository(repository) => {
                collected.repositories += 1;
                for _ in 0..PASSES {
                    if let Outcome::Passed(Pass { marked, removed, .. }) = gc::collect_now(store, &repository).await? {
                        collected.marked_blobs += marked;
                        collected.removed_blobs += removed;
                    }
                }
            }
            Stop::Deleted(generation) => while !sweep::generation(store, &generation).await?.1 {},
            Stop::End => break,
        }
    }
    if let Some(emptied) = trash::empty(store, &storage::random_text(16)).await? {
        collected.deleted_blobs = emptied.deleted;
        collected.deleted_bytes = emptied.deleted_bytes;
        collected.held = emptied.held;
    }
    usage::flush(store).await?;
    Ok(collected)
}

fn told(counted: &Counted) -> String {
    let Reclaimable { untagged, grace, trash, uploads } = counted.reclaimable_bytes;
    let row = |cause: &str, bytes: u64, when: &str| [cause.to_owned(), size(bytes), when.to_owned()];
    table(
        ["CAUSE", "BYTES", "GOES"],
        &[
            row(
                "untagged",
                untagged,
                "by a rule of the account alone (hythe retention): no tag names it, and it may be deployed by digest",
            ),
            row("grace", grace, "a day after it was pushed or last promised, if nothing names it by then"),
            row("trash", trash, "within hours"),
            row("uploads", uploads, "within a day"),
        ],
    )
}

fn done(collected: &Collected) -> String {
    let Collected { marked_repositories, repositories, marked_blobs, removed_blobs, .. } = collected;
    if *marked_repositories > 0 {
        return format!("a server runs on this store: it collects {marked_repositories} repositories now");
    }
    let mut line = format!(
        "{repositories} repositories: {marked_blobs} blobs marked, {removed_blobs} removed; {} deleted, {} uploads given up; {} freed",
        collected.deleted_blobs,
        collected.uploads,
        size(collected.deleted_bytes)
    );
    if collected.held {
        line += "\nno bytes were deleted: a backup or a move is under way";
    }
    line
}
