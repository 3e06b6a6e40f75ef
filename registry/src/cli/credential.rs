//! `hythe credential create|list|revoke`: through a server with an access key, or on the store itself. Either way the documents
//! are the same.

use std::{path::PathBuf, sync::Arc};

use auth::{Actor, Id, MintRequest, SecretName};
use clap::{Args, Subcommand, ValueEnum};
use config::{Origin, PublicUrl};
use serde_json::{Value, json};
use storage::{AccountName, Clock};

use super::{
    Failure,
    output::{self, Output, table},
    server::{URL_HELP, list, pages, remote, text},
    settings::Settings,
    store::{OnStore, all, log, seconds},
};
use crate::remote::Remote;

#[derive(Debug, Subcommand)]
pub(super) enum Credential {
    /// Mint a credential and print it, once
    Create(Create),
    /// List the credentials of an account
    List(List),
    /// End a credential
    Revoke(Revoke),
}

/// Where the command works.
#[derive(Debug, Args)]
pub(super) struct Where {
    // Its help is no doc comment: those are Markdown, in which names of variables would show their backticks.
    #[arg(long, value_name = "URL", help = URL_HELP)]
    url: Option<PublicUrl>,
    #[command(flatten)]
    settings: Settings<false>,
}

#[derive(Debug, Args)]
pub(super) struct Create {
    account: AccountName,
    /// What it is for
    #[arg(long, value_enum)]
    kind: Kind,
    /// Where it reaches, e.g. acme/web/* (repeatable; default: all that the key reaches)
    #[arg(long, value_name = "PATTERN")]
    repository: Vec<String>,
    /// Let a push credential delete
    #[arg(long)]
    delete: bool,
    /// How long it lives (default: 12h to pull, 4h to push)
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    ttl: Option<u64>,
    /// What people call it
    #[arg(long)]
    label: Option<String>,
    /// Network that it is used from (repeatable)
    #[arg(long, value_name = "CIDR")]
    ip_allow: Vec<String>,
    /// A credential of the same issuer that ends in ten minutes
    #[arg(long, value_name = "ID")]
    replaces: Option<Id>,
    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    output: Form,
    /// Write it to this file, readable by its owner alone, and print nothing
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// With --output secret: the Secret's name (default: hythe-ACCOUNT)
    #[arg(long, value_parser = kubernetes_name)]
    name: Option<String>,
    /// With --output secret: the Secret's namespace
    #[arg(long, value_parser = kubernetes_name)]
    namespace: Option<String>,
    #[command(flatten)]
    place: Where,
}

/// What a credential is for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Kind {
    Pull,
    Push,
}

impl Kind {
    pub(super) const fn action(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    #[default]
    Text,
    Json,
    /// The docker login line
    Login,
    /// Base64 of docker's config.json
    Dockerconfigjson,
    /// A Kubernetes Secret
    Secret,
}

#[derive(Debug, Args)]
pub(super) struct List {
    account: AccountName,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Where,
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    account: AccountName,
    id: Id,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Where,
}

/// A server, or the store.
pub(super) enum Place {
    Server(Remote),
    Store(Box<OnStore>),
}

impl Where {
    pub(super) async fn open(self, clock: Arc<dyn Clock>) -> Result<Place, Failure> {
        let flagged = self.settings.has("data") || self.settings.has("store");
        let config = self.settings.load()?;
        let named = |e: &config::Effective| ["data", "store"].contains(&e.key) && e.origin != Origin::Default;
        let store = config.effective.iter().any(named);
        if self.url.is_some() && flagged {
            return Err(Failure::Usage("--url and the store's flags are both given; keep one".to_owned()));
        }
        if store && self.url.is_none() {
            return OnStore::open(&self.settings, clock).await.map(|store| Place::Store(Box::new(store)));
        }
        log(&config)?;
        let keyless = "HYTHE_KEY is not set; put an access key there (hythe key create ACCOUNT), or name the store with --data or \
                       --store";
        Ok(Place::Server(remote(self.url, keyless)?))
    }
}

impl From<crate::remote::Error> for Failure {
    fn from(error: crate::remote::Error) -> Self {
        Self::Failed(crate::telemetry::chain(&error))
    }
}

pub(super) async fn run(command: Credential, clock: Arc<dyn Clock>) -> Result<(), Failure> {
    match command {
        Credential::Create(command) => Box::pin(create(command, clock)).await,
        Credential::List(command) => {
            let rows = match command.place.open(clock).await? {
                Place::Store(store) => {
                    let page =
                        all(async |page| store.auth.list_credentials(&Actor::Store, &command.account, page).await);
                    let host = store.host().await?;
                    page.await?.into_iter().map(|c| document(&c.document(&host))).collect::<Result<_, _>>()?
                }
                Place::Server(server) => {
                    pages(&server, &format!("/accounts/{}/credentials?limit=100", command.account), |_| {}).await?
                }
            };
            command.output.print(&rows, |rows| {
                let rows: Vec<_> = rows.iter().map(row).collect();
                table(["ID", "KIND", "CREATED", "EXPIRES", "REPOSITORIES", "LABEL"], &rows)
            })?;
            Ok(())
        }
        Credential::Revoke(command) => {
            let ended = match command.place.open(clock).await? {
                Place::Store(store) => {
                    document(&store.auth.revoke_credential(&Actor::Store, &command.account, &command.id).await?)?
                }
                Place::Server(server) => {
                    let path = format!("/accounts/{}/credentials/{}/revoke", command.account, command.id);
                    server.post(&path, &json!({})).await?
                }
            };
            let by = text(&ended, "effective_by");
            command.output.print(&ended, |_| format!("credential {} is refused, everywhere by {by}", command.id))?;
            Ok(())
        }
    }
}

async fn create(command: Create, clock: Arc<dyn Clock>) -> Result<(), Failure> {
    if command.output != Form::Secret && (command.name.is_some() || command.namespace.is_some()) {
        return Err(Failure::Usage("--name and --namespace belong to --output secret".to_owned()));
    }
    let kind = command.kind.action();
    let mut actions = vec![kind.to_owned()];
    if command.delete {
        actions.push("delete".to_owned());
    }
    let request = MintRequest {
        kind: kind.to_owned(),
        repositories: (!command.repository.is_empty()).then_some(command.repository),
        actions: command.delete.then_some(actions),
        ttl_seconds: command.ttl,
        label: command.label,
        ip_allow: (!command.ip_allow.is_empty()).then_some(command.ip_allow),
        replaces: command.replaces.map(|id| id.to_string()),
    };
    let minted = match command.place.open(clock).await? {
        Place::Store(store) => {
            let host = store.host().await?;
            let minted = store.auth.mint(&Actor::Store, &command.account, &request).await?;
            document(&minted.document(&host, &SecretName::default()))?
        }
        Place::Server(server) => {
            let path = format!("/accounts/{}/credentials", command.account);
            server.post(&path, &requested(&request)).await?
        }
    };
    let printed = match command.output {
        Form::Text => shown(&minted),
        Form::Json => output::json(&minted)?,
        Form::Login => text(&minted, "docker_login").to_owned(),
        Form::Dockerconfigjson => text(&minted, "dockerconfigjson").to_owned(),
        Form::Secret => renamed(&minted, command.name.as_deref(), command.namespace.as_deref()),
    };
    match &command.to {
        None => output::print(&printed)?,
        Some(path) => output::write_private(path, &printed)?,
    }
    Ok(())
}

/// The request as the API takes it: what is absent is left out.
fn requested(request: &MintRequest) -> Value {
    let fields = [
        ("kind", Some(json!(request.kind))),
        ("repositories", request.repositories.as_ref().map(|v| json!(v))),
        ("actions", request.actions.as_ref().map(|v| json!(v))),
        ("ttl_seconds", request.ttl_seconds.map(|v| json!(v))),
        ("label", request.label.as_ref().map(|v| json!(v))),
        ("ip_allow", request.ip_allow.as_ref().map(|v| json!(v))),
        ("replaces", request.replaces.as_ref().map(|v| json!(v))),
    ];
    Value::Object(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
}

pub(super) fn document<T: serde::Serialize>(value: &T) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|error| Failure::Failed(error.to_string()))
}

fn row(document: &Value) -> [String; 6] {
    let expires = match text(document, "revoked_at") {
        "" => text(document, "expires_at").to_owned(),
        revoked => format!("revoked {revoked}"),
    };
    [
        text(document, "id").to_owned(),
        text(document, "kind").to_owned(),
        text(document, "created_at").to_owned(),
        expires,
        list(document, "/repositories"),
        text(document, "label").to_owned(),
    ]
}

fn shown(document: &Value) -> String {
    let fields =
        ["username", "password", "host", "expires_at"].map(|field| format!("{field:<13} {}", text(document, field)));
    let scope =
        ["actions", "repositories"].map(|field| format!("{field:<13} {}", list(document, &format!("/{field}"))));
    let logins = ["docker_login", "helm_login"].map(|field| text(document, field).to_owned());
    format!("{}\n{}\n\n{}\n", fields.join("\n"), scope.join("\n"), logins.join("\n"))
}

/// The Secret under another name: the server renders it under its own.
fn renamed(document: &Value, name: Option<&str>, namespace: Option<&str>) -> String {
    let mut lines = Vec::new();
    for line in text(document, "kubernetes_secret").lines() {
        if !line.starts_with("  name: ") {
            lines.push(line.to_owned());
            continue;
        }
        lines.push(name.map_or_else(|| line.to_owned(), |name| format!("  name: {name}")));
        lines.extend(namespace.map(|namespace| format!("  namespace: {namespace}")));
    }
    lines.join("\n") + "\n"
}

/// A name as Kubernetes has it (RFC 1123): nothing that YAML could take for anything else.
pub(super) fn kubernetes_name(text: &str) -> Result<String, &'static str> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    let good = bytes.len() <= 253 && edge(bytes.first()) && edge(bytes.last()) && text.bytes().all(inner);
    if good { Ok(text.to_owned()) } else { Err("lower-case letters, digits, - and ., as Kubernetes has names") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_gets_the_name_and_namespace_that_were_asked_for() {
        let yaml = "kind: Secret\nmetadata:\n  name: hythe-acme\n  annotations:\n    a: b\n";
        let document = json!({ "kubernetes_secret": yaml });
        assert_eq!(renamed(&document, None, None), yaml);
        let expected = "kind: Secret\nmetadata:\n  name: pull\n  namespace: shop\n  annotations:\n    a: b\n";
        assert_eq!(renamed(&document, Some("pull"), Some("shop")), expected);
        assert!(
            kubernetes_name("a\n  b").is_err() && kubernetes_name("-a").is_err() && kubernetes_name("a.b-c").is_ok()
        );
    }

    #[test]
    fn what_was_not_said_is_not_sent() {
        let request = MintRequest { kind: "pull".to_owned(), ttl_seconds: Some(60), ..MintRequest::default() };
        assert_eq!(requested(&request), json!({"kind": "pull", "ttl_seconds": 60}));
    }
}
