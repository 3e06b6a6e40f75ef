//! `hythe key create|list|retire|revoke`, on the store.

use std::sync::Arc;

use auth::{AccessKeyDocument, Actor, Id, KeyState, NewKey, Role, Shown};
use clap::{Args, Subcommand};
use storage::{AccountName, Clock, Time};

use super::{
    Failure,
    account::On,
    output::table,
    store::{OnStore, account_name, all, seconds, shown, time},
};

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Make an access key and print it, once
    Create(Create),
    /// List the access keys of an account
    List(List),
    /// Let a key mint no more; what it minted lives out its time
    Retire(End),
    /// End a key and everything it minted
    Revoke(End),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    #[arg(value_parser = account_name)]
    account: AccountName,
    /// owner, publisher, installer or viewer
    #[arg(long, default_value = "owner", value_parser = |text: &str| text.parse::<Role>())]
    role: Role,
    /// Let a publisher's credentials delete
    #[arg(long)]
    delete: bool,
    /// What people call it
    #[arg(long, default_value = "")]
    label: String,
    /// Where it reaches, e.g. acme/web/* (repeatable)
    #[arg(long, value_name = "PATTERN")]
    repository: Vec<String>,
    /// Longest life of its credentials
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    max_ttl: Option<u64>,
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
pub(super) struct List {
    #[arg(value_parser = account_name)]
    account: AccountName,
    #[command(flatten)]
    on: On,
}

#[derive(Debug, Args)]
pub(super) struct End {
    #[arg(value_parser = account_name)]
    account: AccountName,
    id: Id,
    #[command(flatten)]
    on: On,
}

pub(super) async fn run(command: Key, clock: Arc<dyn Clock>) -> Result<(), Failure> {
    match command {
        Key::Create(command) => {
            let store = OnStore::open(&command.on.settings, clock).await?;
            let new = NewKey {
                role: command.role,
                delete: command.delete,
                label: command.label,
                repositories: command.repository,
                max_ttl_seconds: command.max_ttl,
                expires_at: command.expires,
                ip_allow: command.ip_allow,
            };
            let document = store.auth.create_key(&Actor::Store, &command.account, &new).await?;
            command.on.output.print(&document, |d| d.key.as_ref().map(Shown::reveal).unwrap_or_default().to_owned())?;
        }
        Key::List(command) => {
            let store = OnStore::open(&command.on.settings, clock).await?;
            let keys = all(async |page| store.auth.list_keys(&Actor::Store, &command.account, page).await).await?;
            command.on.output.print(&keys, |keys| {
                let rows: Vec<_> = keys.iter().map(row).collect();
                table(["ID", "ROLE", "STATE", "CREATED", "EXPIRES", "REPOSITORIES", "LABEL"], &rows)
            })?;
        }
        Key::Retire(command) => {
            let store = OnStore::open(&command.on.settings, clock).await?;
            let ended = store.auth.retire_key(&Actor::Store, &command.account, &command.id).await?;
            let by = shown(ended.effective_by);
            command.on.output.print(&ended, |_| format!("key {} mints no more, everywhere by {by}", command.id))?;
        }
        Key::Revoke(command) => {
            let store = OnStore::open(&command.on.settings, clock).await?;
            let ended = store.auth.revoke_key(&Actor::Store, &command.account, &command.id).await?;
            let by = shown(ended.effective_by);
            command
                .on
                .output
                .print(&ended, |_| format!("key {} and what it minted are refused, everywhere by {by}", command.id))?;
        }
    }
    Ok(())
}

fn row(document: &AccessKeyDocument) -> [String; 7] {
    let repositories: Vec<_> = document.repositories.iter().map(ToString::to_string).collect();
    [
        document.id.to_string(),
        document.role.as_str().to_owned(),
        state(document.state).to_owned(),
        shown(document.created_at),
        document.expires_at.map_or_else(|| "-".to_owned(), shown),
        repositories.join(","),
        document.label.clone(),
    ]
}

/// A key's state as it is written.
pub(super) fn state(state: KeyState) -> &'static str {
    match state {
        KeyState::Active => "active",
        KeyState::Retired => "retired",
        KeyState::Revoked => "revoked",
    }
}
