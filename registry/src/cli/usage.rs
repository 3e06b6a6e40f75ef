//! `hythe usage`, through a server: the answers of a count added up.

use clap::Args;
use serde_json::{Map, Value, json};
use storage::{AccountName, usage::size};

use super::{
    Failure,
    output::{Output, table},
    server::{Server, encoded, number, of_account, pages, progress, text},
};

const COUNTS: [&str; 6] = ["repositories", "tags", "manifests", "blobs", "bytes", "stored_bytes"];
/// What is no count of a part.
const SUMS: [&str; 3] = ["used_bytes", "quota_bytes", "left_bytes"];

#[derive(Debug, Args)]
pub(super) struct Usage {
    /// The account; without one all of them, which needs an operator key
    account: Option<AccountName>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: Server,
}

pub(super) async fn run(command: Usage) -> Result<(), Failure> {
    let server = command.server.open()?;
    let bar = progress("counting");
    let counted = |rows: &[Value]| {
        let blobs: u64 = rows.iter().map(|row| number(row, "blobs")).sum();
        bar.set_message(format!("{blobs} blobs counted"));
    };
    let parts = match &command.account {
        None => pages(&server, "/usage", counted).await?,
        Some(account) => {
            let path = of_account(account, "usage");
            let (mut parts, mut query) = (Vec::new(), String::new());
            loop {
                let part = server.get(&format!("{path}{query}")).await?;
                let next = part.get("next_token").and_then(Value::as_str).map(encoded);
                parts.push(part);
                counted(&parts);
                match next {
                    Some(token) => query = format!("?next_token={token}"),
                    None => break,
                }
            }
            parts
        }
    };
    bar.finish_and_clear();
    let rows = added(&parts);
    command.output.print(&rows, |rows| {
        let row = |document: &Value| {
            [
                text(document, "account").to_owned(),
                number(document, "repositories").to_string(),
                number(document, "tags").to_string(),
                number(document, "manifests").to_string(),
                number(document, "blobs").to_string(),
                size(number(document, "bytes")),
                size(number(document, "stored_bytes")),
                document.get("quota_bytes").and_then(Value::as_u64).map_or_else(|| "none".to_owned(), size),
                document.get("left_bytes").and_then(Value::as_u64).map_or_else(|| "-".to_owned(), size),
            ]
        };
        let rows: Vec<_> = rows.iter().map(row).collect();
        table(["ACCOUNT", "REPOSITORIES", "TAGS", "MANIFESTS", "BLOBS", "BYTES", "STORED", "QUOTA", "LEFT"], &rows)
    })?;
    Ok(())
}

/// The parts of each account as one; they come one after the other.
fn added(parts: &[Value]) -> Vec<Value> {
    let mut rows: Vec<Value> = Vec::new();
    for part in parts {
        let same = |row: &&mut Value| text(row, "account") == text(part, "account");
        if let Some(Value::Object(row)) = rows.last_mut().filter(same) {
            for field in COUNTS {
                let before = row.get(field).and_then(Value::as_u64).unwrap_or_default();
                row.insert(field.to_owned(), json!(before + number(part, field)));
            }
        } else {
            let mut row = Map::new();
            row.insert("account".to_owned(), json!(text(part, "account")));
            row.extend(COUNTS.map(|field| (field.to_owned(), json!(number(part, field)))));
            // These stand for the account in each of its parts.
            row.extend(SUMS.map(|field| (field.to_owned(), part.get(field).cloned().unwrap_or_default())));
            rows.push(Value::Object(row));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_an_account_are_one_row() {
        let part = |account: &str, tags: u64| json!({"account": account, "tags": tags, "complete": false});
        let rows = added(&[part("a", 1), part("b", 2), part("b", 3)]);
        let tags: Vec<_> = rows.iter().map(|row| (text(row, "account"), number(row, "tags"))).collect();
        assert_eq!(tags, [("a", 1), ("b", 5)]);
    }
}
