//! `/api/v1`, one file per resource.

mod access_key;
mod account;
mod command;
mod credential;
mod door;
mod public;
mod repository;
mod schema;
mod session;
mod usage;

use conformance::{AccountUnderTest, Answer, Caller, Harness, Request};
use serde_json::{Value, json};

/// A holder of a fresh access key of this account, and the key as the command line shows it.
async fn key(account: &AccountUnderTest<'_>, harness: &Harness, args: &[&str]) -> (Caller, Value) {
    let mut all = vec!["key", "create", account.name(), "--output", "json"];
    all.extend(args);
    let document: Value = serde_json::from_str(&harness.hythe(&all).await.stdout).unwrap();
    (Caller::bearer(harness.client(), document["key"].as_str().unwrap()), document)
}

/// A server, and the owner of `acme` on it.
async fn owned() -> (Harness, Caller) {
    let harness = Harness::start().await;
    let owner = key(&harness.account("acme").await, &harness, &[]).await.0;
    (harness, owner)
}

fn with(request: Request, document: &Value) -> Request {
    request.header("Content-Type", "application/json").body(document.to_string())
}

fn post(path: &str, document: &Value) -> Request {
    with(Request::post(path), document)
}

fn text<'a>(document: &'a Value, pointer: &str) -> &'a str {
    document.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The fields that a 422 names, in its order.
#[track_caller]
fn invalid(answer: Answer) -> Vec<String> {
    let document = answer.refused(422, "VALIDATION").json();
    document["errors"].as_array().unwrap().iter().map(|error| text(error, "/detail/field").to_owned()).collect()
}

/// Mints as JSON, and fails the test unless it is done.
async fn mint(caller: &Caller, document: &Value) -> Value {
    caller.send(post("/api/v1/accounts/acme/credentials", document)).await.expect(201).json()
}

/// Who logs in with what a mint answered.
fn holder(harness: &Harness, minted: &Value) -> Caller {
    Caller::basic(harness.client(), text(minted, "/username"), text(minted, "/password"))
}

fn pull() -> Value {
    json!({"kind": "pull"})
}
