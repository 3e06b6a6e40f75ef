//! `hythe move`: the whole store to another place, most of it while it is served.
//!
//! | step | state of the source | of the target |
//! | --- | --- | --- |
//! | copy, and copy what has changed meanwhile | open | filling |
//! | freeze: every server says that it writes nothing any more | moving | filling |
//! | copy the last changes, compare everything | moving | filling |
//! | the source ends: its servers stop | moved | filling |
//! | the last lines of their audit | moved | open |
//!
//! A command that was killed is run again and goes on. Whatever is found wrong before the source is `moved` opens it again.

use std::{sync::Arc, time::Duration};

use clap::Args;
use storage::{
    Clock, Error,
    copy::{self, Aim, Copier},
    format::{self, State},
};

use super::{
    Failure,
    account::On,
    copying::{self, Copied, Ends, Heard, Other, Settled},
    output,
};
use crate::replica;

/// A target is no source yet.
pub(super) const FILLING: &str = "this store is itself the target of a copy that has not ended";
/// How long servers may take to say that they write nothing any more.
const FREEZE: Duration = Duration::from_mins(1);
/// How long they may take to end.
const LEAVE: Duration = Duration::from_secs(40);
/// How long commands on the store may run that were begun before it was frozen.
const COMMANDS: Duration = Duration::from_secs(3);
/// Between two looks at the servers.
const LOOK: Duration = Duration::from_millis(500);
/// So few changes are copied while the source stands still.
const FEW: u64 = 1000;
/// How often what has changed is copied at most while the source is served.
const DELTAS: usize = 5;

#[derive(Debug, Args)]
pub(super) struct Move {
    #[arg(
        long,
        value_name = "DIR|URL",
        required_unless_present = "abandon",
        help = "Where to: a folder, or a bucket like s3://bucket/prefix, reached by TO_AWS_* and the like if set"
    )]
    to: Option<String>,
    /// Give up a move that was killed while the source stood still: the source takes writes again
    #[arg(long, conflicts_with = "to")]
    abandon: bool,
    #[command(flatten)]
    other: Other,
    #[command(flatten)]
    on: On,
}

pub(super) async fn run(command: Move, clock: Arc<dyn Clock>) -> Result<(), Failure> {
    let Some(to) = &command.to else { return abandon(&command, clock).await };
    let to = copying::named(to, &command.other)?;
    let ends = Ends::open(&command.on.settings, Settled::Source, to, "TO_", &clock).await?;
    match ends.state().await? {
        State::Open | State::Moving => {}
        State::Filling => {
            return Err(Failure::Failed(FILLING.to_owned()));
        }
        State::Moved if copy::agreed(&*ends.target.records).await? => {}
        State::Moved => return Err(Failure::Failed("this store was moved away before".into())),
    }
    let heard = Heard::new();
    let copier = ends.copier(Aim::Move, &heard, &*clock).await?;
    let outcome = copier.held(copying::watched(&copier, relocate(&ends, &copier, &*clock))).await;
    let copied = Copied::new(&copier, &heard);
    command.on.output.print(&copied, Copied::text)?;
    copied.end()?;
    if let Some(why) = outcome? {
        return Err(Failure::Failed(why));
    }
    output::say("moved: serve the target from now on, with the same seal key if there is one");
    Ok(())
}

/// All steps; the reason if the source was left as it was.
async fn relocate(ends: &Ends, copier: &Copier<'_>, clock: &dyn Clock) -> Result<Option<String>, Error> {
    let source = &*ends.source.records;
    if ends.state().await? != State::Moved {
        let mut before = copier.report();
        for _ in 0..DELTAS {
            copier.pass().await?;
            let now = copier.report();
            let changed = now.records + now.removed - before.records - before.removed;
            before = now;
            if changed < FEW {
                break;
            }
        }
        if before.problems > 0 {
            return Ok(Some("the source is damaged, so it was not moved".into()));
        }
        format::set_state(source, State::Moving).await?;
        let frozen = freeze(ends, copier, clock).await;
        if !matches!(frozen, Ok(None)) {
            format::set_state(source, State::Open).await?;
            return frozen;
        }
        copier.agree().await?;
        format::set_state(source, State::Moved).await?;
    }
    left(ends, clock).await?;
    copier.audit().await?;
    copier.open().await?;
    Ok(None)
}

/// The last changes and the comparison, the source standing still.
async fn freeze(ends: &Ends, copier: &Copier<'_>, clock: &dyn Clock) -> Result<Option<String>, Error> {
    let source = &*ends.source.records;
    let began = clock.elapsed();
    tokio::time::sleep(COMMANDS).await;
    loop {
        let (_, writing) = replica::standing(source, clock.now()).await?;
        if writing.is_empty() {
            break;
        }
        if clock.elapsed().saturating_sub(began) > FREEZE {
            let names: Vec<String> = writing.iter().map(ToString::to_string).collect();
            return Ok(Some(format!(
                "the servers at {} have not said that they stand still; end them, or wait 3 minutes if they are gone already",
                names.join(", ")
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
    copier.pass().await?;
    if copier.report().problems > 0 {
        return Ok(Some("the source is damaged, so it was not moved".into()));
    }
    let (content, differences) = copier.compare().await?;
    if let Some(first) = differences.first() {
        let more = differences.len() - 1;
        return Ok(Some(format!("source and target are not the same: {} {} ({more} more)", first.place, first.what)));
    }
    output::say(&format!(
        "the same on both sides: {} tags, {} manifests, {} blobs, {}",
        content.tags,
        content.manifests,
        content.blobs,
        hex::encode(content.hash)
    ));
    Ok(None)
}

/// Waits until the servers of the source are gone, for a while.
async fn left(ends: &Ends, clock: &dyn Clock) -> Result<(), Error> {
    let began = clock.elapsed();
    loop {
        let (frozen, writing) = replica::standing(&*ends.source.records, clock.now()).await?;
        let there = frozen.len() + writing.len();
        if there == 0 {
            return Ok(());
        }
        if clock.elapsed().saturating_sub(began) > LEAVE {
            output::say(&format!(
                "{there} servers of the old store still run; what they audit from now on stays there"
            ));
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn abandon(command: &Move, clock: Arc<dyn Clock>) -> Result<(), Failure> {
    let source = copying::source(&command.on.settings, clock).await?;
    match format::state(&*source.records).await? {
        State::Moving => {
            format::set_state(&*source.records, State::Open).await?;
            output::say("the move was given up: the source takes writes again within seconds");
            Ok(())
        }
        State::Moved => Err(Failure::Failed("this store was moved; go on with the one that it was moved to".into())),
        State::Filling => Err(Failure::Failed(FILLING.to_owned())),
        State::Open => Err(Failure::Failed("this store is not being moved".into())),
    }
}
