//! `hythe restore`: a store out of a backup.

use std::sync::Arc;

use clap::Args;
use storage::{Clock, copy::Aim, format::State};

use super::{
    Failure,
    account::On,
    copying::{self, Copied, Ends, Heard, Other, Settled},
};

#[derive(Debug, Args)]
pub(super) struct Restore {
    #[arg(
        long,
        value_name = "DIR|URL",
        help = "The backup: a folder, or a bucket like s3://bucket/prefix, reached by FROM_AWS_* and the like if set"
    )]
    from: String,
    #[command(flatten)]
    other: Other,
    #[command(flatten)]
    on: On,
}

pub(super) async fn run(command: Restore, clock: Arc<dyn Clock>) -> Result<(), Failure> {
    let from = copying::named(&command.from, &command.other)?;
    let ends = Ends::open(&command.on.settings, Settled::Target, from, "FROM_", &clock).await?;
    if ends.state().await? == State::Filling {
        return Err(Failure::Failed("this backup has not ended; run hythe backup again, or take another".into()));
    }
    let heard = Heard::new();
    let copier = ends.copier(Aim::Restore, &heard, &*clock).await?;
    copier.held(copying::watched(&copier, copier.pass())).await?;
    auth::new_epoch(&*ends.target.records).await?;
    copier.open().await?;
    let copied = Copied::new(&copier, &heard);
    command.on.output.print(&copied, Copied::text)?;
    copied.end()
}
