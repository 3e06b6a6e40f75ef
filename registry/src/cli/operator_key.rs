//! `hythe operator-key create|list|revoke`, on the store.

use std::sync::Arc;

use auth::{Actor, Id, NewOperatorKey, OperatorKeyDocument, Shown};
use clap::{Args, Subcommand};
use storage::{Clock, Time};

use super::{
    Failure,
    account::On,
    key::state,
    output::table,
    store::{OnStore, all, shown, time},
};

#[derive(Debug, Subcommand)]
pub(super) enum OperatorKey {
    /// Make an operator key and print it, once
    Create(Create),
    /// List the operator keys
    List(On),
    /// End an operator key
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// What people call it
    #[arg(long, default_value = "")]
    label: String,
    /// When it ends by itself
    #[arg(long, value_name = "DATE", value_parser = time)]
    expires: Option<Time>,
    /// Network that it is used from (repeatable)
    #[arg(long, value_name = "CIDR")]
    ip_allow: Vec<String>,
    #[command(flatten)]
    on: On,
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    id: Id,
    #[command(flatten)]
    on: On,
}

pub(super) async fn run(command: OperatorKey, clock: Arc<dyn Clock>) -> Result<(), Failure> {
    match command {
        OperatorKey::Create(command) => {
            let store = OnStore::open(&command.on.settings, clock).await?;
            let new = NewOperatorKey { label: command.label, expires_at: command.expires, ip_allow: command.ip_allow };
            let document = store.auth.create_operator_key(&Actor::Store, &new).await?;
            command.on.output.print(&document, |d| d.key.as_ref().map(Shown::reveal).unwrap_or_default().to_owned())?;
        }
        OperatorKey::List(on) => {
            let store = OnStore::open(&on.settings, clock).await?;
            let keys = all(async |page| store.auth.list_operator_keys(&Actor::Store, page).await).await?;
            on.output.print(&keys, |keys| {
                let rows: Vec<_> = keys.iter().map(row).collect();
                table(["ID", "STATE", "CREATED", "EXPIRES", "LABEL"], &rows)
            })?;
        }
        OperatorKey::Revoke(command) => {
            let store = OnStore::open(&command.on.settings, clock).await?;
            let ended = store.auth.revoke_operator_key(&Actor::Store, &command.id).await?;
            let by = shown(ended.effective_by);
            command
                .on
                .output
                .print(&ended, |_| format!("operator key {} is refused, everywhere by {by}", command.id))?;
        }
    }
    Ok(())
}

fn row(document: &OperatorKeyDocument) -> [String; 5] {
    [
        document.id.to_string(),
        state(document.state).to_owned(),
        shown(document.created_at),
        document.expires_at.map_or_else(|| "-".to_owned(), shown),
        document.label.clone(),
    ]
}
