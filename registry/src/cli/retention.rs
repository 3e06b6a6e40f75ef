//! `hythe retention get|set|test`, through a server.

use std::{io::Read, path::PathBuf};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};
use storage::AccountName;

use super::{
    Failure,
    output::{Output, table},
    server::{Server, list, of_account, pages, progress, text},
};

#[derive(Debug, Subcommand)]
pub(super) enum Retention {
    /// Show the rules of an account
    Get(Get),
    /// Replace the rules of an account
    Set(Set),
    /// List what would go now, and why
    Test(Test),
}

#[derive(Debug, Args)]
pub(super) struct Get {
    /// The account
    account: AccountName,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(super) struct Set {
    /// The account
    account: AccountName,
    /// A JSON document of rules, or - for standard input
    rules: PathBuf,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(super) struct Test {
    /// The account
    account: AccountName,
    /// Rules to try in the place of the account's: a JSON document, or - for standard input
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Only this repository, by its path in the account
    #[arg(long, value_name = "PATH")]
    repository: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: Server,
}

#[expect(clippy::disallowed_methods, reason = "the user names the file")]
fn read(path: &PathBuf) -> Result<Value, Failure> {
    let told = |what: String| Failure::Usage(format!("{}: {what}", path.display()));
    let mut content = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut content).map(|_| content)
    } else {
        std::fs::read_to_string(path)
    };
    let content = read.map_err(|error| told(error.to_string()))?;
    serde_json::from_str(&content).map_err(|error| told(error.to_string()))
}

/// A rule on a line.
fn row(rule: &Value) -> [String; 5] {
    let keep = [
        ("last", "last "),
        ("pushed_within_days", "pushed within days: "),
        ("pulled_within_days", "pulled within days: "),
    ]
    .into_iter()
    .filter_map(|(field, says)| Some(format!("{says}{}", rule.pointer(&format!("/keep/{field}"))?.as_u64()?)));
    let tags = list(rule, "/tags");
    let untagged = rule.get("untagged_days").and_then(Value::as_u64);
    [
        text(rule, "repositories").to_owned(),
        if tags.is_empty() { "*".to_owned() } else { tags },
        keep.collect::<Vec<_>>().join(" or "),
        untagged.map_or_else(|| "stay".to_owned(), |days| format!("go after days: {days}")),
        text(rule, "immutable").to_owned(),
    ]
}

fn shown(document: &Value) -> String {
    let rules = document.get("rules").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if rules.is_empty() {
        return "no rules: nothing goes by itself".to_owned();
    }
    let rows: Vec<_> = rules.iter().map(row).collect();
    table(["REPOSITORIES", "TAGS", "KEEP", "UNTAGGED", "IMMUTABLE"], &rows)
}

pub(super) async fn run(command: Retention) -> Result<(), Failure> {
    match command {
        Retention::Get(command) => {
            let rules = command.server.open()?.get(&of_account(&command.account, "retention")).await?;
            command.output.print(&rules, shown)?;
        }
        Retention::Set(command) => {
            let rules = read(&command.rules)?;
            let server = command.server.open()?;
            let path = of_account(&command.account, "retention");
            let rules = server.change(Method::PUT, &path, "*", Some(&rules)).await?;
            command.output.print(&rules, shown)?;
        }
        Retention::Test(command) => test(command).await?,
    }
    Ok(())
}

async fn test(command: Test) -> Result<(), Failure> {
    let rules = command.rules.as_ref().map(read).transpose()?;
    let rules = rules.map(|document| document.get("rules").cloned().unwrap_or_default());
    let server = command.server.open()?;
    let repositories = if let Some(repository) = command.repository {
        vec![repository]
    } else {
        let listed = pages(&server, &of_account(&command.account, "repositories?limit=100"), |_| {}).await?;
        listed.iter().map(|repository| text(repository, "name").to_owned()).collect()
    };
    let bar = progress("testing");
    let mut rows: Vec<Value> = Vec::new();
    for repository in repositories {
        bar.set_message(format!("{repository}, {} things would go", rows.len()));
        let mut asked = json!({ "repository": repository });
        if let (Some(rules), Some(fields)) = (&rules, asked.as_object_mut()) {
            fields.insert("rules".to_owned(), rules.clone());
        }
        let mut answer = server.post(&of_account(&command.account, "retention/test"), &asked).await?;
        if let Some(Value::Array(items)) = answer.get_mut("items").map(Value::take) {
            rows.extend(items.into_iter().map(|mut item| {
                if let Some(fields) = item.as_object_mut() {
                    fields.insert("repository".to_owned(), json!(repository));
                }
                item
            }));
        }
        if answer.get("more").and_then(Value::as_bool) == Some(true) {
            let why = format!("and more than the {} that are told", 1000);
            rows.push(json!({"repository": repository, "tag": "…", "digest": "", "why": why}));
        }
    }
    bar.finish_and_clear();
    command.output.print(&rows, |rows| {
        if rows.is_empty() {
            return "nothing would go".to_owned();
        }
        let row = |gone: &Value| ["repository", "tag", "digest", "why"].map(|field| text(gone, field).to_owned());
        let rows: Vec<_> = rows.iter().map(row).collect();
        table(["REPOSITORY", "TAG", "DIGEST", "WHY"], &rows)
    })?;
    Ok(())
}
