//! One event a request, with the documented fields and without a secret.

use std::collections::{BTreeMap, BTreeSet};

use conformance::{
    Actor, Caller, Harness, Request, Store,
    fixture::{self, Algorithm, Content, Format},
    push,
};
use registry::telemetry::{FIELDS, SPAN_FIELDS};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What the form of the log adds to an event.
const FORM: [&str; 5] = ["timestamp", "level", "target", "message", "span"];

/// The events of requests by the request's id; every line must be JSON.
fn events(log: &str) -> BTreeMap<String, Vec<Value>> {
    let mut events: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        if event.get("status").is_some() {
            let id = event["span"]["id"].as_str().expect("its request's id").to_owned();
            events.entry(id).or_default().push(event);
        }
    }
    events
}

/// The event of the request that was answered with this id.
#[track_caller]
fn event<'a>(events: &'a BTreeMap<String, Vec<Value>>, id: &str) -> &'a Value {
    let of = events.get(id).map(Vec::as_slice).unwrap_or_default();
    assert_eq!(of.len(), 1, "one event for {id}: {of:?}");
    &of[0]
}

async fn asked(caller: &Caller, request: Request, status: u16) -> String {
    let answer = caller.send(request).await.expect(status);
    let id = answer.header("x-request-id").to_owned();
    assert_eq!(id.len(), 16, "{:?}", answer.headers);
    id
}

#[tokio::test]
async fn every_request_is_one_event_with_the_documented_fields_and_no_secret() {
    let args = ["--log-format", "json", "--log-filter", "debug", "--trusted-proxy", "127.0.0.0/8"];
    let mut harness = Harness::with(Store::Local, &args).await;
    let acme = harness.account("acme").await;
    let credential = acme.push().await;
    let caller = acme.caller(&credential);
    let image = fixture::image("log", Format::Oci);
    push::bundle(&caller, "acme/web", "v1", &image).await;
    let large = Content::random(Algorithm::Sha256, "log", 32 << 20);
    push::blob(&caller, "acme/web", &large).await;
    let (operator, wrong) = (acme.actor(Actor::OperatorKey).await, acme.actor(Actor::WrongKey).await);
    let token = caller.with_token(&["repository:acme/web:pull"]).await;

    let blob = image.blobs[0].clone();
    let pulled = Request::get(format!("/v2/acme/web/blobs/{}", blob.digest))
        .header("X-Forwarded-For", "203.0.113.7")
        .header("User-Agent", "seen/1.0");
    let pulled = asked(&caller, pulled, 200).await;
    let by_token = asked(&token, Request::get("/v2/acme/web/manifests/v1"), 200).await;
    let absent = asked(&caller, Request::get("/v2/acme/web/manifests/v2"), 404).await;
    let refused = asked(&wrong, Request::get("/v2/acme/web/manifests/v1"), 401).await;
    let of_the_api = asked(&operator, Request::get("/api/v1/accounts/acme"), 200).await;
    let nowhere = asked(&caller, Request::get("/nowhere"), 404).await;
    let strange = asked(&caller, Request::get("/v2/").header("Host", "strange.example"), 421).await;
    let sent = b"{}".to_vec();
    let sent = Request::put("/v2/acme/web/manifests/bad").header("Content-Type", "application/json").body(sent);
    let sent = asked(&caller, sent, 400).await;

    // A client that goes away in the middle of its answer.
    let authorization = caller.authorization().expect("Basic").to_owned();
    let mut stream = tokio::net::TcpStream::connect(harness.client().address()).await.unwrap();
    let head = format!(
        "GET /v2/acme/web/blobs/{} HTTP/1.1\r\nHost: {}\r\nAuthorization: {authorization}\r\n\r\n",
        large.digest,
        harness.host()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 4096];
    stream.read_exact(&mut first).await.unwrap();
    drop(stream);

    drop(acme);
    harness.stop().await;
    let log = harness.log();
    let events = events(&log);
    let known: BTreeSet<_> = FIELDS.iter().map(|(name, _)| *name).collect();
    for event in events.values().flatten() {
        let fields = event.as_object().unwrap().keys().map(String::as_str);
        let of_span = event["span"].as_object().unwrap().keys().map(String::as_str);
        for field in fields.filter(|field| !FORM.contains(field)).chain(of_span.filter(|field| *field != "name")) {
            assert!(known.contains(field), "{field} is not documented: {event}");
        }
        for always in ["duration_ms", "request_size_bytes", "response_size_bytes", "complete", "client_address"] {
            assert!(!event[always].is_null(), "{always} is not in {event}");
        }
        assert!(event["span"]["method"].is_string(), "{event}");
    }
    assert_eq!(FIELDS[SPAN_FIELDS].0, "status", "the span's fields come first");

    let pulled = event(&events, &pulled);
    let span = &pulled["span"];
    for (field, value) in
        [("operation", "blob_get"), ("account", "acme"), ("repository", "acme/web"), ("method", "GET")]
    {
        assert_eq!(span[field], value, "{pulled}");
    }
    assert_eq!(pulled["status"], 200);
    assert_eq!(pulled["response_size_bytes"], blob.size());
    assert_eq!(pulled["complete"], true);
    assert_eq!(pulled["client_address"], "203.0.113.7");
    assert_eq!(pulled["user_agent"], "seen/1.0");
    assert_eq!(pulled["credential"], credential.username.as_str());
    assert_eq!(event(&events, &by_token)["credential"], credential.username.as_str());
    assert_eq!(event(&events, &absent)["status"], 404);
    assert!(event(&events, &refused)["credential"].is_null());
    assert_eq!(event(&events, &of_the_api)["span"]["operation"], "account_get");
    assert!(event(&events, &nowhere)["span"]["operation"].is_null());
    assert_eq!(event(&events, &strange)["status"], 421);
    assert_eq!(event(&events, &sent)["request_size_bytes"], 2);
    let left: Vec<_> = events.values().flatten().filter(|event| event["complete"] == false).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0]["response_size_bytes"].as_u64().unwrap() < large.size() as u64, "{left:?}");

    let secrets = [
        credential.password.as_str(),
        bare(&authorization),
        bare(operator.authorization().unwrap()),
        bare(wrong.authorization().unwrap()),
        bare(token.authorization().unwrap()),
    ];
    for secret in secrets {
        assert!(secret.len() > 40 && !log.contains(secret), "the log holds {secret}");
    }
}

/// What stands behind `Basic` or `Bearer`.
fn bare(authorization: &str) -> &str {
    authorization.split_once(' ').unwrap().1
}

/// A server whose bucket is away tells the client a number, and the log the reason.
#[tokio::test]
async fn a_failure_is_named_to_the_client_and_explained_in_the_log() {
    let mut harness = Harness::stopped(Store::Minio).await;
    harness.set(&[], &["--log-format", "json"]);
    harness.boot().await;
    let acme = harness.account("acme").await;
    let caller = acme.caller(&acme.pull().await);
    caller.send(Request::get("/v2/acme/web/manifests/v1")).await.expect(404);
    drop(acme);
    harness.lose_bucket();
    let answer = caller.send(Request::get("/v2/acme/web/manifests/v1")).await.expect(503);
    let id = answer.header("x-request-id").to_owned();
    assert!(answer.message().ends_with(&format!(" (request {id})")), "{}", answer.text());
    assert_eq!(answer.json()["errors"][0]["detail"]["request_id"], id.as_str());
    harness.stop().await;
    let events = events(&harness.log());
    let event = event(&events, &id);
    assert_eq!(event["level"], "WARN");
    assert!(event["error"].as_str().is_some_and(|error| error.len() > answer.message().len()), "{event}");
    assert!(!answer.text().contains("127.0.0.1"), "the client is told no address: {}", answer.text());
}
