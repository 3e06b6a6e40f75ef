//! `hythe tag list|delete`, through a server.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};
use storage::{RepositoryName, Tag as TagName, usage::size};

use super::{
    Failure,
    output::{Output, table},
    server::{Server, encoded, number, of_account, pages, progress, text},
};

#[derive(Debug, Subcommand)]
pub(super) enum Tag {
    /// List the tags of a repository and what they point at
    List(List),
    /// Delete a tag; its manifest stays
    Delete(Delete),
}

#[derive(Debug, Args)]
pub(super) struct List {
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
    /// The tag
    tag: TagName,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: Server,
}

fn path(repository: &RepositoryName) -> String {
    of_account(repository.account(), &format!("repository-tags?repository={}", encoded(repository.path())))
}

pub(super) async fn run(command: Tag) -> Result<(), Failure> {
    match command {
        Tag::List(command) => {
            let server = command.server.open()?;
            let bar = progress("reading");
            let seen = |rows: &[Value]| bar.set_message(format!("{} tags", rows.len()));
            let rows = pages(&server, &format!("{}&limit=100", path(&command.repository)), seen).await?;
            bar.finish_and_clear();
            command.output.print(&rows, |rows| {
                let row = |document: &Value| {
                    [
                        text(document, "tag").to_owned(),
                        text(document, "digest").to_owned(),
                        size(number(document, "size_bytes")),
                        text(document, "updated_at").to_owned(),
                    ]
                };
                let rows: Vec<_> = rows.iter().map(row).collect();
                table(["TAG", "DIGEST", "MANIFEST", "UPDATED"], &rows)
            })?;
        }
        Tag::Delete(command) => {
            let server = command.server.open()?;
            let path = format!("{}&tag={}", path(&command.repository), encoded(command.tag.as_str()));
            server.change(Method::DELETE, &path, "*", None).await?;
            let gone = json!({"repository": command.repository, "tag": command.tag, "status": "deleted"});
            let text = |_: &Value| format!("tag {} of {} is deleted", command.tag, command.repository);
            command.output.print(&gone, text)?;
        }
    }
    Ok(())
}
