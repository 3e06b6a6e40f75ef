//! `hythe config check|show`: what the settings come to, without starting anything.

use clap::Subcommand;
use serde::Serialize;

use super::{
    Failure,
    output::{Output, table},
    settings::Settings,
};

#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Check the settings and say nothing if they are good
    Check(Given),
    /// Show every setting and where it came from; secrets are hidden
    Show(Given),
}

#[derive(Debug, clap::Args)]
pub(super) struct Given {
    #[command(flatten)]
    settings: Settings<true>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Serialize)]
struct Row {
    key: &'static str,
    value: String,
    origin: String,
}

pub(super) fn run(command: &Config) -> Result<(), Failure> {
    let given = match command {
        Config::Check(given) | Config::Show(given) => given,
    };
    let config = super::serve::configuration(&given.settings)?;
    let Config::Show(_) = command else { return Ok(()) };
    let rows: Vec<Row> = config
        .effective
        .into_iter()
        .map(|e| Row { key: e.key, value: e.value, origin: e.origin.to_string() })
        .collect();
    given.output.print(&rows, |rows| {
        let rows: Vec<_> = rows.iter().map(|r| [r.key.to_owned(), r.value.clone(), r.origin.clone()]).collect();
        table(["SETTING", "VALUE", "FROM"], &rows)
    })?;
    Ok(())
}
