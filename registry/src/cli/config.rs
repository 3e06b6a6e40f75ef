//! `hythe config check|show`: what the settings come to, without starting anything.

use std::{sync::Arc, time::Duration};

use auth::{Declared, Departed};
use clap::Subcommand;
use config::Store;
use serde::Serialize;
use storage::Clock;

use super::{
    Failure,
    output::{Output, say, table},
    settings::Settings,
};
use crate::open;

/// How long the store may take to be opened and read; a check is also made where there is none.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Check the settings, and list the declared accounts and keys that left the file and live on in the store
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

pub(super) async fn run(command: Config, clock: Arc<dyn Clock>) -> Result<(), Failure> {
    match command {
        Config::Check(given) => {
            let config = super::serve::configuration(&given.settings)?;
            super::store::log(&config)?;
            let found = tokio::time::timeout(PATIENCE, Box::pin(departed(&config, clock))).await;
            match found.unwrap_or_else(|_| Err(format!("it does not answer within {} s", PATIENCE.as_secs()))) {
                Ok(departed) => given
                    .output
                    .print(&departed, |departed| departed.iter().map(told).collect::<Vec<_>>().join("\n"))?,
                Err(reason) => say(&format!(
                    "the settings are good; what left the file is not known, as the store was not opened: {reason}"
                )),
            }
        }
        Config::Show(given) => {
            let config = super::serve::configuration(&given.settings)?;
            let rows: Vec<Row> = config
                .effective
                .into_iter()
                .map(|e| Row { key: e.key, value: e.value, origin: e.origin.to_string() })
                .collect();
            given.output.print(&rows, |rows| {
                let rows: Vec<_> = rows.iter().map(|r| [r.key.to_owned(), r.value.clone(), r.origin.clone()]).collect();
                table(["SETTING", "VALUE", "FROM"], &rows)
            })?;
        }
    }
    Ok(())
}

async fn departed(config: &config::Config, clock: Arc<dyn Clock>) -> Result<Vec<Departed>, String> {
    // A folder that is not there is not made by a check: nothing was ever declared in it.
    if matches!(&config.store, Store::Folder(path) if !path.exists()) {
        return Ok(Vec::new());
    }
    let opened = open::store(&config.store, false, Arc::clone(&clock)).await;
    let opened = opened.map_err(|error| crate::telemetry::chain(&error))?;
    let auth = open::auth(&opened, config, clock).await.map_err(|error| crate::telemetry::chain(&error))?;
    let declared = Declared::check(&config.accounts).map_err(|error| error.to_string())?;
    auth.departed(&declared).await.map_err(|error| crate::telemetry::chain(&error))
}

fn told(departed: &Departed) -> String {
    let account = &departed.account;
    match &departed.key {
        None => format!("account {account} left the file and lives on; to end it: hythe account delete {account}"),
        Some(id) => {
            format!("key {id} left the file: what it minted lives on; to end it: hythe key revoke {account} {id}")
        }
    }
}
