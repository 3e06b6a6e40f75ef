//! `hythe account create|list|set|delete`, on the store.

use std::sync::Arc;

use auth::{
    AccountChange, AccountDocument, AccountState, Actor, NewAccount, OnStale, PolicyChange, PublicDocument, Quota,
};
use clap::{Args, Subcommand, ValueEnum};
use config::ByteSize;
use storage::{AccountName, Clock};

use super::{
    Failure,
    output::{Output, table},
    settings::Settings,
    store::{OnStore, all, seconds, shown},
};

#[derive(Debug, Subcommand)]
pub(super) enum Account {
    /// Make an account
    Create(Create),
    /// List the accounts
    List(On),
    /// Change an account
    Set(Set),
    /// Delete an account: nothing of it can be used from then on
    Delete(Delete),
}

/// What every command on the store takes.
#[derive(Debug, Args)]
pub(super) struct On {
    #[command(flatten)]
    pub(super) output: Output,
    #[command(flatten)]
    pub(super) settings: Settings<false>,
}

#[derive(Debug, Args)]
pub(super) struct Create {
    name: AccountName,
    /// A name for people
    #[arg(long, default_value = "")]
    display: String,
    #[command(flatten)]
    on: On,
}

#[derive(Debug, Args)]
pub(super) struct Set {
    name: AccountName,
    /// A name for people
    #[arg(long)]
    display: Option<String>,
    /// What the account is allowed
    #[arg(long, value_enum)]
    state: Option<State>,
    /// What anybody may pull (repeatable; --public= alone makes everything private)
    #[arg(long, value_name = "PATTERN")]
    public: Vec<String>,
    /// What becomes of pulls while the store cannot be read
    #[arg(long, value_enum)]
    on_stale: Option<Stale>,
    /// Network that its clients come from (repeatable; --ip-allow= alone lifts the restriction)
    #[arg(long, value_name = "CIDR")]
    ip_allow: Vec<String>,
    /// Name of the account's own (repeatable; the first is in what is rendered; --host= alone takes all back)
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Longest life of a pull credential
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    max_ttl_pull: Option<u64>,
    /// Longest life of a push credential
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    max_ttl_push: Option<u64>,
    /// Whole days that its audit is kept
    #[arg(long, value_name = "DAYS")]
    audit_days: Option<u32>,
    /// What it may keep: a size, none, or default for the server's default
    #[arg(long, value_name = "SIZE|none|default", value_parser = quota)]
    quota: Option<Asked>,
    #[command(flatten)]
    on: On,
}

/// A quota on the command line; `None`: the default.
#[derive(Debug, Clone, Copy)]
struct Asked(Option<Quota>);

fn quota(text: &str) -> Result<Asked, String> {
    match text {
        "default" => Ok(Asked(None)),
        "none" => Ok(Asked(Some(Quota::UNLIMITED))),
        size => match size.parse::<ByteSize>() {
            Ok(size) => Ok(Asked(Some(Quota::Bytes(size.bytes())))),
            Err(rule) => Err(format!("expected {rule}, none or default")),
        },
    }
}

#[derive(Debug, Args)]
pub(super) struct Delete {
    name: AccountName,
    #[command(flatten)]
    on: On,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    Active,
    ReadOnly,
    Suspended,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Stale {
    Refuse,
    Serve,
}

pub(super) async fn run(command: Account, clock: Arc<dyn Clock>) -> Result<(), Failure> {
    match command {
        Account::Create(command) => {
            let store = OnStore::open(&command.on.settings, clock).await?;
            let new = NewAccount { name: command.name.to_string(), display: command.display };
            let document = store.auth.create_account(&Actor::Store, &new).await?;
            command
                .on
                .output
                .print(&document, |d| format!("account {} was made; next: hythe key create {}", d.name, d.name))?;
        }
        Account::List(on) => {
            let store = OnStore::open(&on.settings, clock).await?;
            let accounts = all(async |page| store.auth.list_accounts(&Actor::Store, page).await).await?;
            on.output.print(&accounts, |accounts| {
                let rows: Vec<_> = accounts.iter().map(row).collect();
                table(["ACCOUNT", "STATE", "CREATED", "HOSTS", "DISPLAY"], &rows)
            })?;
        }
        Account::Set(command) => Box::pin(set(command, clock)).await?,
        Account::Delete(command) => {
            let store = OnStore::open(&command.on.settings, clock).await?;
            let ended = store.auth.delete_account(&Actor::Store, &command.name, None).await?;
            let by = shown(ended.effective_by);
            command.on.output.print(&ended, |_| format!("account {} was deleted, everywhere by {by}", command.name))?;
        }
    }
    Ok(())
}

async fn set(command: Set, clock: Arc<dyn Clock>) -> Result<(), Failure> {
    let store = OnStore::open(&command.on.settings, clock).await?;
    let change = AccountChange {
        display: command.display,
        state: command.state.map(|state| match state {
            State::Active => AccountState::Active,
            State::ReadOnly => AccountState::ReadOnly,
            State::Suspended => AccountState::Suspended,
        }),
        on_stale: command.on_stale.map(|stale| match stale {
            Stale::Refuse => OnStale::Refuse,
            Stale::Serve => OnStale::Serve,
        }),
        hosts: given(command.host),
        policy: PolicyChange {
            max_ttl_pull: command.max_ttl_pull.map(Some),
            max_ttl_push: command.max_ttl_push.map(Some),
            ip_allow: given(command.ip_allow),
            audit_days: command.audit_days.map(Some),
        },
        quota_bytes: command.quota.map(|Asked(quota)| quota),
    };
    if let Some(patterns) = given(command.public) {
        let public = PublicDocument { patterns, ..PublicDocument::default() };
        store.auth.set_public(&Actor::Store, &command.name, &public, None).await?;
    }
    let document = store.auth.change_account(&Actor::Store, &command.name, &change, None).await?;
    command.on.output.print(&document, |d| table(["ACCOUNT", "STATE", "CREATED", "HOSTS", "DISPLAY"], &[row(d)]))?;
    Ok(())
}

/// A repeatable flag: absent says nothing, an empty value alone says none.
fn given(values: Vec<String>) -> Option<Vec<String>> {
    (!values.is_empty()).then(|| values.into_iter().filter(|value| !value.is_empty()).collect())
}

fn row(document: &AccountDocument) -> [String; 5] {
    let state = match document.state {
        AccountState::Active => "active",
        AccountState::ReadOnly => "read-only",
        AccountState::Suspended => "suspended",
        AccountState::Deleted => "deleted",
    };
    [
        document.name.to_string(),
        state.to_owned(),
        shown(document.created_at),
        document.hosts.join(","),
        document.display.clone(),
    ]
}
