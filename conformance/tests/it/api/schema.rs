//! The OpenAPI document, held against a running server by schemathesis: no failure of the server's, no status, content type, header or
//! body that the document does not have.

use std::{env, fmt::Write as _};

use conformance::{
    Actor, Harness, Request,
    fixture::{self, Format},
    harness::write_file,
    push,
    tools::Run,
};
use registry::api::ApiOperation;
use tempfile::TempDir;

use super::{key, mint, owned, pull, text};

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance";

/// A trust policy that can be made.
const TRUST: &str = r#"{"issuer":"https://cluster.example","match":{"sub":"robot"},"grant":{"actions":["pull"]},"jwks":{"keys":[
    {"kty":"OKP","crv":"Ed25519","kid":"1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}}"#;

/// What paths and parameters name: things that are there, and none of which is the key that asks.
async fn names(harness: &Harness) -> String {
    let acme = harness.account("acme").await;
    let owner = key(&acme, harness, &[]).await.0;
    let pusher = acme.caller(&acme.push().await);
    push::bundle(&pusher, "acme/web/api", "v1", &fixture::image("one", Format::Oci)).await;
    let mut config = "[parameters]\n\"path.account\" = \"acme\"\n\n".to_owned();
    for operation in ApiOperation::ALL {
        let id = match operation {
            _ if !operation.path().contains("{id}") => continue,
            // Each ends or reads a key or credential of its own.
            _ if operation.path().contains("/keys/") => text(&key(&acme, harness, &[]).await.1, "/id").to_owned(),
            _ if operation.path().contains("/trusts/") => {
                let made = owner.send(Request::post("/api/v1/accounts/acme/trusts").body(TRUST)).await;
                text(&made.expect(201).json(), "/id").to_owned()
            }
            _ => text(&mint(&owner, &pull()).await, "/id").to_owned(),
        };
        let _ = write!(
            config,
            "[[operations]]\ninclude-operation-id = \"{}\"\nparameters = {{ \"path.id\" = \"{id}\" }}\n\n",
            operation.label()
        );
    }
    for (operation, parameters) in [
        (ApiOperation::RepositoryChange, r#""query.name" = "web/api""#),
        (ApiOperation::TagList, r#""query.repository" = "web/api""#),
        (ApiOperation::TagDelete, r#""query.repository" = "web/api", "query.tag" = "v1""#),
    ] {
        let label = operation.label();
        let _ =
            write!(config, "[[operations]]\ninclude-operation-id = \"{label}\"\nparameters = {{ {parameters} }}\n\n");
    }
    config
}

/// `mode`: `positive` for requests as the document has them, `all` for others too. `HYTHE_LONG=1`: many more of them.
async fn held_to_its_document(harness: &Harness, authorization: &str, mode: &str) {
    let dir = TempDir::with_prefix("hythe-schema-").unwrap();
    let config = dir.path().join("schemathesis.toml");
    write_file(&config, names(harness).await.as_bytes());
    let examples = if env::var_os("HYTHE_LONG").is_some() { "100" } else { "2" };
    let document = Request::get("/api/v1/openapi.json").header("Authorization", authorization);
    write_file(&dir.path().join("openapi.json"), &harness.send(document).await.expect(200).body);
    let run = Run::new("schemathesis").current_dir(dir.path()).env("NO_COLOR", "1").arg("--config-file").arg(&config);
    run.args(["run", "openapi.json", "--url", &format!("http://{}", harness.host())])
        .args(["--header", &format!("Authorization: {authorization}")])
        .args(["--checks", CHECKS, "--phases", "coverage,fuzzing", "--max-examples", examples])
        .args(["--mode", mode, "--generation-deterministic", "--no-shrink", "--warnings", "off"])
        .ok()
        .await;
}

#[tokio::test]
async fn an_owner_meets_nothing_that_the_document_does_not_tell() {
    let (harness, owner) = owned().await;
    held_to_its_document(&harness, owner.authorization().unwrap(), "all").await;
    // Otherwise most of it was refused at the door.
    owner.send(Request::get("/api/v1/accounts/acme")).await.expect(200);
}

#[tokio::test]
async fn an_operator_meets_nothing_that_the_document_does_not_tell() {
    let harness = Harness::start().await;
    let operator = harness.account("acme").await.actor(Actor::OperatorKey).await;
    held_to_its_document(&harness, operator.authorization().unwrap(), "positive").await;
    operator.send(Request::get("/api/v1/accounts")).await.expect(200);
}
