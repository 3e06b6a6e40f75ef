//! `hythe key create|list|retire|revoke`, on the store; `declare` is beside them and needs none.

use std::sync::Arc;

use auth::{AccessKeyDocument, Actor, Id, KeyState, NewKey, Role, Shown};
use clap::{Args, Subcommand, ValueEnum};
use storage::{AccountName, Clock, Time};

use super::{
    Failure,
    account::On,
    credential::kubernetes_name,
    cronjob::CronJob,
    declare::{self, Declare},
    output::{self, table},
    settings::Settings,
    store::{OnStore, all, seconds, shown, time},
};

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Make an access key and print it, once
    Create(Create),
    /// Make a key for the configuration and print its lines and its secret; no store is needed
    Declare(Declare),
    /// List the access keys of an account
    List(List),
    /// Let a key mint no more; what it minted lives out its time
    Retire(End),
    /// End a key and everything it minted
    Revoke(End),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    account: AccountName,
    /// owner, publisher, installer or viewer (default: owner; with --output cronjob: installer)
    #[arg(long, value_parser = |text: &str| text.parse::<Role>())]
    role: Option<Role>,
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
    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    output: Form,
    /// With --output cronjob: the pull Secret's name (default: hythe-ACCOUNT)
    #[arg(long, value_parser = kubernetes_name)]
    name: Option<String>,
    /// With --output cronjob: the namespace
    #[arg(long, value_parser = kubernetes_name)]
    namespace: Option<String>,
    /// With --output cronjob: the image of hythe
    #[arg(long, default_value = concat!("hythe:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// With --output cronjob: the image of kubectl
    #[arg(long, default_value = "registry.k8s.io/kubectl:v1.34.1")]
    kubectl_image: String,
    #[command(flatten)]
    settings: Settings<false>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    #[default]
    Text,
    Json,
    /// Variables for a shell: the server and the key
    Env,
    /// Kubernetes manifests that keep a pull Secret fresh
    Cronjob,
}

#[derive(Debug, Args)]
pub(super) struct List {
    account: AccountName,
    #[command(flatten)]
    on: On,
}

#[derive(Debug, Args)]
pub(super) struct End {
    account: AccountName,
    id: Id,
    #[command(flatten)]
    on: On,
}

pub(super) async fn run(command: Key, clock: Arc<dyn Clock>) -> Result<(), Failure> {
    match command {
        Key::Declare(command) => declare::run(command, &clock)?,
        Key::Create(command) => Box::pin(create(command, clock)).await?,
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

async fn create(command: Create, clock: Arc<dyn Clock>) -> Result<(), Failure> {
    let cronjob = command.output == Form::Cronjob;
    if !cronjob && (command.name.is_some() || command.namespace.is_some()) {
        return Err(Failure::Usage("--name and --namespace belong to --output cronjob".to_owned()));
    }
    let store = OnStore::open(&command.settings, clock).await?;
    let new = NewKey {
        role: command.role.unwrap_or(if cronjob { Role::Installer } else { Role::Owner }),
        delete: command.delete,
        label: command.label,
        repositories: command.repository,
        max_ttl_seconds: command.max_ttl,
        expires_at: command.expires,
        ip_allow: command.ip_allow,
    };
    // Read before the key is made: one that cannot be shown with its host is not made.
    let url = store.canonical().await?;
    let document = store.auth.create_key(&Actor::Store, &command.account, &new).await?;
    let key = document.key.as_ref().map(Shown::reveal).unwrap_or_default();
    let printed = match command.output {
        Form::Text => key.to_owned(),
        Form::Json => output::json(&document)?,
        Form::Env => format!("HYTHE_URL={url}\nHYTHE_KEY={key}"),
        Form::Cronjob => CronJob {
            key: &document,
            url: &url,
            image: &command.image,
            kubectl: &command.kubectl_image,
            name: &command.name.unwrap_or_else(|| format!("hythe-{}", command.account)),
            namespace: command.namespace.as_deref(),
        }
        .yaml(),
    };
    output::print(&printed)?;
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
