//! What commands that work through a server share: where it is, with which key, whole lists, and a sign of life for who waits.

use std::time::Duration;

use clap::Args;
use config::{PublicUrl, Secret};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use storage::AccountName;

use super::Failure;
use crate::remote::Remote;

pub(super) const URL_HELP: &str =
    "The server; HYTHE_KEY holds the access key [env: HYTHE_URL] [default: http://127.0.0.1:5080]";

/// The server that a command speaks to.
#[derive(Debug, Args)]
pub(super) struct Server {
    // Its help is no doc comment: those are Markdown, in which names of variables would show their backticks.
    #[arg(long, value_name = "URL", help = URL_HELP)]
    url: Option<PublicUrl>,
}

impl Server {
    pub(super) fn open(self) -> Result<Remote, Failure> {
        remote(self.url, "HYTHE_KEY is not set; put an access key there (hythe key create ACCOUNT)")
    }
}

/// The server at `url`, or where the environment says; without a key the command fails with `keyless`.
pub(super) fn remote(url: Option<PublicUrl>, keyless: &str) -> Result<Remote, Failure> {
    let from_environment = variable("HYTHE_URL").map(|text| text.parse::<PublicUrl>()).transpose();
    let from_environment = from_environment.map_err(|rule| Failure::Usage(format!("HYTHE_URL: expected {rule}")))?;
    let default = || "http://127.0.0.1:5080".parse::<PublicUrl>().map_err(Failure::Usage);
    let url = url.or(from_environment).map_or_else(default, Ok)?;
    let key = variable("HYTHE_KEY").ok_or_else(|| Failure::Usage(keyless.to_owned()))?;
    Ok(Remote::new(url, Secret::new(key))?)
}

/// A variable of the environment that is not empty.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A query parameter's value.
pub(super) fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Every item of a list of the API; `path` may have a query. `each` sees every page that has come.
pub(super) async fn pages(server: &Remote, path: &str, mut each: impl FnMut(&[Value])) -> Result<Vec<Value>, Failure> {
    let mark = if path.contains('?') { '&' } else { '?' };
    let (mut rows, mut query) = (Vec::new(), String::new());
    loop {
        let mut page = server.get(&format!("{path}{query}")).await?;
        if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
            rows.extend(items);
        }
        each(&rows);
        match page.get("next_token").and_then(Value::as_str) {
            Some(token) => query = format!("{mark}next_token={}", encoded(token)),
            None => return Ok(rows),
        }
    }
}

pub(super) fn text<'a>(document: &'a Value, field: &str) -> &'a str {
    document.get(field).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn list(document: &Value, pointer: &str) -> String {
    let items = document.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

pub(super) fn number(document: &Value, field: &str) -> u64 {
    document.get(field).and_then(Value::as_u64).unwrap_or_default()
}

/// The path of an account's resource in the API.
pub(super) fn of_account(account: &AccountName, rest: &str) -> String {
    format!("/accounts/{account}/{rest}")
}

/// A sign of life on a terminal; on a pipe nothing.
pub(super) fn progress(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    // indicatif draws on stderr, and only if that is a terminal.
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
