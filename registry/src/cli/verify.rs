//! `hythe verify`: hashes everything that is kept again, beside a server or without one.

use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use storage::{
    Clock,
    verify::{self, Found, Problem, Report},
};

use super::{Failure, account::On, store::OnStore};

/// What the command found.
#[derive(Debug, Serialize)]
struct Verified {
    #[serde(flatten)]
    report: Report,
    found: Vec<Problem>,
    unnamed_data: Vec<Problem>,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    #[command(flatten)]
    on: On,
}

/// Problems that are listed; a store that is this badly damaged is not repaired line by line.
const LISTED: usize = 10_000;

pub(super) async fn run(command: Verify, clock: Arc<dyn Clock>) -> Result<(), Failure> {
    let on = OnStore::open(&command.on.settings, clock).await?;
    let mut found: Vec<Problem> =
        on.integrity().await?.into_iter().map(|what| Problem { place: "records.db".into(), what }).collect();
    let damaged = found.len() as u64;
    let mut unnamed_data = Vec::new();
    let mut keep = |met: Found| {
        let (list, met) = match met {
            Found::Problem(problem) => (&mut found, problem),
            Found::Unnamed(data) => (&mut unnamed_data, data),
        };
        if list.len() < LISTED {
            list.push(met);
        }
    };
    let mut report = verify::everything(&on.store(), &mut keep).await?;
    report.problems += damaged;
    let verified = Verified { report, found, unnamed_data };
    command.on.output.print(&verified, text)?;
    if verified.report.problems == 0 {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{} problems found; pushing the named content again repairs a blob, a backup the rest",
        verified.report.problems
    )))
}

fn text(verified: &Verified) -> String {
    let Report { accounts, repositories, tags, manifests, blobs, bytes, unnamed, problems } = verified.report;
    let mut lines: Vec<String> = verified.found.iter().map(|p| format!("{}: {}", p.place, p.what)).collect();
    lines.push(format!(
        "{accounts} accounts, {repositories} repositories, {tags} tags, {manifests} manifests, {blobs} blobs, {bytes} bytes \
         hashed: {problems} problems"
    ));
    if unnamed > 0 {
        lines.extend(verified.unnamed_data.iter().map(|data| format!("{}: {}", data.place, data.what)));
        lines.push(format!("{unnamed} data objects are named by nothing: they cost space and harm nothing"));
    }
    lines.join("\n")
}
