//! `hythe signing-key list|rotate`, on the store.

use std::sync::Arc;

use auth::SigningKeyDocument;
use clap::{Args, Subcommand};
use storage::Clock;

use super::{
    Failure,
    account::On,
    output::table,
    store::{OnStore, shown},
};

#[derive(Debug, Subcommand)]
pub(super) enum SigningKey {
    /// List the signing keys
    List(On),
    /// Publish the next signing key, or let it sign if every replica knows it by now
    ///
    /// It is done by itself every 30 days, and nobody notices: tokens that were signed before live out their time. A server
    /// finishes within two minutes what this command began.
    Rotate(Rotate),
}

#[derive(Debug, Args)]
pub(super) struct Rotate {
    /// After a leak: every signing key ends, and every access token with it; clients fetch new ones with their credentials
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    on: On,
}

pub(super) async fn run(command: SigningKey, clock: Arc<dyn Clock>) -> Result<(), Failure> {
    let (on, rotate) = match command {
        SigningKey::List(on) => (on, None),
        SigningKey::Rotate(command) => (command.on, Some(command.now)),
    };
    let store = OnStore::open(&on.settings, clock).await?;
    match rotate {
        Some(true) => drop(store.auth.replace_signing_keys().await?),
        Some(false) => store.auth.rotate_signing_keys().await?,
        None => {}
    }
    let keys = store.auth.list_signing_keys().await?;
    on.output.print(&keys, |keys| {
        let rows: Vec<_> = keys.iter().map(row).collect();
        table(["KEY", "STATE", "SINCE"], &rows)
    })?;
    Ok(())
}

fn row(document: &SigningKeyDocument) -> [String; 3] {
    [document.kid.clone(), document.state.as_str().to_owned(), shown(document.since)]
}
