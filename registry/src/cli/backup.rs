//! `hythe backup`: a copy of the whole store, beside its server.

use std::sync::Arc;

use clap::Args;
use storage::{Clock, copy::Aim, format::State};

use super::{
    Failure,
    account::On,
    copying::{self, Copied, Ends, Heard, Other, Settled},
    moving::FILLING,
};

#[derive(Debug, Args)]
pub(super) struct Backup {
    #[arg(
        long,
        value_name = "DIR|URL",
        help = "Where to: a folder, or a bucket like s3://bucket/prefix, reached by TO_AWS_* and the like if set"
    )]
    to: String,
    #[command(flatten)]
    other: Other,
    #[command(flatten)]
    on: On,
}

pub(super) async fn run(command: Backup, clock: Arc<dyn Clock>) -> Result<(), Failure> {
    let to = copying::named(&command.to, &command.other)?;
    let ends = Ends::open(&command.on.settings, Settled::Source, to, "TO_", &clock).await?;
    if ends.state().await? == State::Filling {
        return Err(Failure::Failed(FILLING.to_owned()));
    }
    let heard = Heard::new();
    let copier = ends.copier(Aim::Backup, &heard, &*clock).await?;
    copier
        .held(copying::watched(&copier, async {
            copier.pass().await?;
            copier.open().await
        }))
        .await?;
    let copied = Copied::new(&copier, &heard);
    command.on.output.print(&copied, Copied::text)?;
    copied.end()
}
