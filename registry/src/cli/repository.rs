//! `hythe repository list|show|delete|set`, through a server.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use storage::{AccountName, RepositoryName};

use super::{
    Failure,
    output::{Output, table},
    server::{Server, encoded, list as listed, of_account, pages, progress, text},
};
use crate::remote::{self, Remote};

#[derive(Debug, Subcommand)]
pub(super) enum Repository {
    /// List the repositories of an account
    List(List),
    /// Show a repository
    Show(Show),
    /// Delete a repository and all that is in it
    Delete(Delete),
    /// Say who may pull from a repository, and which of its tags stay
    Set(Set),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Image,
    Chart,
    Artifact,
}

#[derive(Debug, Args)]
pub(super) struct List {
    account: AccountName,
    /// Only those whose path in the account begins so, e.g. web/
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// Only those that hold this
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// ACCOUNT/NAME
    repository: RepositoryName,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(super) struct Delete {
    /// ACCOUNT/NAME
    repository: RepositoryName,
    /// Leave when it is ordered, not when it is done
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(super) struct Set {
    /// ACCOUNT/NAME
    repository: RepositoryName,
    /// Let anybody pull from it
    #[arg(long, conflicts_with = "private")]
    public: bool,
    /// Let nobody pull from it without a credential
    #[arg(long)]
    private: bool,
    /// Tags that are set once and stay, e.g. v*,1.*; without patterns: all tags
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', num_args = 0.., require_equals = true, default_missing_value = "*")]
    immutable_tags: Option<Vec<String>>,
    /// Let every tag move
    #[arg(long, conflicts_with = "immutable_tags")]
    mutable_tags: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: Server,
}

pub(super) async fn run(command: Repository) -> Result<(), Failure> {
    match command {
        Repository::List(command) => list(command).await,
        Repository::Show(command) => {
            let server = command.server.open()?;
            let document = server.get(&path(&command.repository)).await?;
            Ok(command.output.print(&document, shown)?)
        }
        Repository::Delete(command) => delete(command).await,
        Repository::Set(command) => set(command).await,
    }
}

fn path(repository: &RepositoryName) -> String {
    of_account(repository.account(), &format!("repositories?name={}", encoded(repository.path())))
}

async fn list(command: List) -> Result<(), Failure> {
    let server = command.server.open()?;
    let prefix = command.prefix.as_deref().map(|prefix| format!("&name_prefix={}", encoded(prefix)));
    let mut query = format!("repositories?limit=100{}", prefix.unwrap_or_default());
    query += match command.kind {
        None => "",
        Some(Kind::Image) => "&kind=image",
        Some(Kind::Chart) => "&kind=chart",
        Some(Kind::Artifact) => "&kind=artifact",
    };
    let bar = progress("reading");
    let seen = |rows: &[Value]| bar.set_message(format!("{} repositories", rows.len()));
    let rows = pages(&server, &of_account(&command.account, &query), seen).await?;
    bar.finish_and_clear();
    command.output.print(&rows, |rows| {
        let row = |document: &Value| {
            [
                format!("{}/{}", command.account, text(document, "name")),
                text(document, "kind").to_owned(),
                text(document, "status").to_owned(),
                text(document, "updated_at").to_owned(),
                listed(document, "/settings/immutable_tags"),
            ]
        };
        let rows: Vec<_> = rows.iter().map(row).collect();
        table(["REPOSITORY", "KIND", "STATUS", "UPDATED", "IMMUTABLE TAGS"], &rows)
    })?;
    Ok(())
}

fn shown(document: &Value) -> String {
    let tags = document.get("tag_count").map_or_else(|| "more than 1000".to_owned(), Value::to_string);
    let mut lines: Vec<_> = ["name", "kind", "status", "created_at", "updated_at"]
        .iter()
        .map(|field| format!("{field:<15} {}", text(document, field)).trim_end().to_owned())
        .collect();
    lines.push(format!("{:<15} {tags}", "tags"));
    lines.push(
        format!("{:<15} {}", "immutable_tags", listed(document, "/settings/immutable_tags")).trim_end().to_owned(),
    );
    lines.join("\n")
}

/// How often who waits for a deletion asks.
const ASK: Duration = Duration::from_millis(300);

async fn delete(command: Delete) -> Result<(), Failure> {
    let server = command.server.open()?;
    let path = path(&command.repository);
    let mut document = server.change(Method::DELETE, &path, "*", None).await?;
    let bar = progress("deleting");
    let mut gone = command.no_wait;
    while !gone {
        match server.get(&path).await {
            // What was pushed after it was gone is a new repository.
            Ok(now) if text(&now, "status") == "deleting" => {
                if let Some(left) = now.get("tag_count").and_then(Value::as_u64) {
                    bar.set_message(format!("deleting, {left} tags left"));
                }
                tokio::time::sleep(ASK).await;
            }
            Ok(_) | Err(remote::Error::Refused { status: StatusCode::NOT_FOUND, .. }) => {
                insert(&mut document, "status", json!("deleted"));
                gone = true;
            }
            Err(other) => return Err(other.into()),
        }
    }
    bar.finish_and_clear();
    let name = &command.repository;
    command.output.print(&document, |document| match text(document, "status") {
        "deleted" => format!("repository {name} is deleted"),
        _ => format!("repository {name} is being deleted; pushes to it are refused until it is gone"),
    })?;
    Ok(())
}

/// Sets a field of a document.
fn insert(document: &mut Value, field: &str, value: Value) {
    if let Some(fields) = document.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
}

async fn set(command: Set) -> Result<(), Failure> {
    if !(command.public || command.private || command.mutable_tags || command.immutable_tags.is_some()) {
        let flags = "--public, --private, --immutable-tags or --mutable-tags";
        return Err(Failure::Usage(format!("nothing to set; give {flags}")));
    }
    let server = command.server.open()?;
    let path = path(&command.repository);
    let mut document = server.get(&path).await?;
    let patterns = if command.mutable_tags { Some(Vec::new()) } else { command.immutable_tags };
    if let Some(patterns) = patterns {
        let change = json!({"settings": {"immutable_tags": patterns}});
        document = server.change(Method::PATCH, &path, "*", Some(&change)).await?;
    }
    if command.public || command.private {
        let public = publish(&server, &command.repository, command.public).await?;
        insert(&mut document, "public", json!(public));
    }
    command.output.print(&document, |document| {
        let public = document.get("public").and_then(Value::as_bool);
        let public = public.map(|public| format!("\n{:<15} {}", "public", if public { "yes" } else { "no" }));
        shown(document) + public.as_deref().unwrap_or_default()
    })?;
    Ok(())
}

/// Adds the one pattern that is the repository's name, or takes it away; whether anybody may pull from it now.
async fn publish(server: &Remote, repository: &RepositoryName, public: bool) -> Result<bool, Failure> {
    let path = of_account(repository.account(), "public");
    let (document, version) = server.read(&path).await?;
    let listed = document.get("patterns").cloned().unwrap_or_default();
    let mut patterns: Vec<String> = serde_json::from_value(listed)
        .map_err(|error| Failure::Failed(format!("what is public cannot be read: {error}")))?;
    let before = patterns.clone();
    patterns.retain(|pattern| pattern != repository.as_str());
    let wider = patterns
        .iter()
        .find(|pattern| pattern.parse::<auth::Pattern>().is_ok_and(|pattern| pattern.matches(repository)));
    match wider {
        // Public already, by more than its own name.
        Some(_) if public => return Ok(true),
        Some(wider) => {
            let account = repository.account();
            return Err(Failure::Failed(format!(
                "{repository} is public by the pattern {wider}; change that one: PUT /api/v1/accounts/{account}/public, or hythe \
                 account set {account} --public"
            )));
        }
        None if public => patterns.push(repository.to_string()),
        None => {}
    }
    if patterns != before {
        let version = version.unwrap_or_else(|| "*".to_owned());
        server.change(Method::PUT, &path, &version, Some(&json!({ "patterns": patterns }))).await?;
    }
    Ok(public)
}
