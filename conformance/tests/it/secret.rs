//! The rendered pull credential in the hands of the script that reads it (`fixtures/f3.sh`), under bash and dash.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use auth::{Auth, MintRequest, NewAccount};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use conformance::{
    Credential, Harness, Request,
    fixture::{self, Format},
    harness::{read_text, write_file},
    push,
    tools::{self, Run},
};
use storage::backend::memory::MemoryRecords;

const SHELLS: [&str; 2] = ["bash", "dash"];

/// A folder whose `docker` writes its arguments, one a line, to the file `calls` beside it.
fn recorder(harness: &Harness) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = harness.scratch("recorder");
    let docker = folder.join("docker");
    let script = format!("#!/bin/sh\nprintf '%s\\n' \"$@\" >> {}/calls\n", folder.display());
    write_file(&docker, script.as_bytes());
    std::fs::set_permissions(&docker, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// Runs the script with the recorder first in its path, and gives what it called docker with.
async fn run_script(shell: &str, folder: &Path, rendered: &str) -> Vec<String> {
    write_file(&folder.join("calls"), b"");
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    Run::new(shell).arg(tools::file("fixtures/f3.sh")).env("PATH", path).env("D", rendered).ok().await;
    read_text(&folder.join("calls")).lines().map(str::to_owned).collect()
}

fn login_line(host: &str, key: &Credential) -> Vec<String> {
    [
        "login".to_owned(),
        host.to_owned(),
        format!("--username={}", key.username),
        format!("--password={}", key.password),
    ]
    .into()
}

#[tokio::test]
async fn the_script_logs_in_to_host_and_port_and_what_it_read_pulls() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let bundle = fixture::image("script", Format::Oci);
    push::bundle(&acme.caller(&acme.push().await), "acme/script", "v1", &bundle).await;
    let folder = recorder(&harness);
    for shell in SHELLS {
        let key = acme.pull().await;
        let called = run_script(shell, &folder, key.field("dockerconfigjson")).await;
        assert_eq!(called, login_line(&harness.host(), &key), "{shell}");
        let (user, password) =
            (called[2].trim_start_matches("--username="), called[3].trim_start_matches("--password="));
        let holder = conformance::Caller::basic(harness.client(), user, password);
        let pulled = holder.send(Request::get("/v2/acme/script/manifests/v1")).await.expect(200);
        assert_eq!(pulled.body, bundle.root().bytes);
    }
}

/// A registry behind its public name: no port in the host.
#[tokio::test]
async fn the_script_logs_in_to_a_host_without_port() {
    let harness = Harness::with(conformance::Store::Local, &["--public-url", "https://registry.example"]).await;
    let acme = harness.account("acme").await;
    let folder = recorder(&harness);
    for shell in SHELLS {
        let key = acme.pull().await;
        let called = run_script(shell, &folder, key.field("dockerconfigjson")).await;
        assert_eq!(called, login_line("registry.example", &key), "{shell}");
    }
}

/// Docker itself takes the line that the script makes, and pulls with it.
#[tokio::test]
async fn docker_pulls_after_the_script_has_logged_it_in() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let bundle = fixture::image("real docker", Format::Oci);
    push::bundle(&acme.caller(&acme.push().await), "acme/script", "v1", &bundle).await;
    let daemon = crate::clients::docker::Daemon::start(&harness).await;
    let reference = format!("{}/acme/script:v1", harness.host());
    for shell in SHELLS {
        daemon.docker().args(["logout", &harness.host()]).ok().await;
        daemon.docker().args(["pull", &reference]).fails().await;
        let rendered = acme.pull().await.field("dockerconfigjson").to_owned();
        daemon.dress(Run::new(shell)).arg(tools::file("fixtures/f3.sh")).env("D", rendered).ok().await;
        assert_eq!(daemon.docker().args(["pull", &reference]).ok().await.digest(), bundle.root().digest);
        daemon.docker().args(["rmi", "-f", &reference]).ok().await;
    }
}

/// The Secret holds the very value that the script reads, as a plain YAML scalar.
#[tokio::test]
async fn the_secret_holds_the_value_that_the_script_reads() {
    let harness = Harness::start().await;
    let key = harness.account("acme").await.pull().await;
    let secret = key.field("kubernetes_secret");
    let rendered = key.field("dockerconfigjson");
    assert!(secret.lines().any(|line| line.trim() == format!(".dockerconfigjson: {rendered}")), "{secret}");
    assert!(rendered.len() <= 2048, "fits every template's budget: {}", rendered.len());
    assert!(rendered.starts_with("eyJh"), "a plain scalar in YAML: {rendered}");
    for wanted in ["apiVersion: v1", "kind: Secret", "type: kubernetes.io/dockerconfigjson", "name: hythe-acme"] {
        assert!(secret.lines().any(|line| line.trim() == wanted), "{wanted} in {secret}");
    }
}

/// Ten thousand renderings hold nothing that a shell, YAML or JSON would take for its own; one of each account goes
/// through the real script in each shell.
#[tokio::test]
async fn no_rendering_is_misread() {
    const HOSTS: [&str; 4] = ["registry.example", "registry.example:5443", "127.0.0.1:5080", "localhost:80"];
    let clock = Arc::new(storage::clock::SystemClock::new());
    let records = Arc::new(MemoryRecords::new(clock.clone()));
    let auth = Auth::open(records, clock, auth::Settings::default()).await.unwrap();
    let mut sampled = Vec::new();
    for number in 0..50 {
        let account = format!("{number}-vendor{}", "x".repeat(number % 20));
        let new = NewAccount { name: account.clone(), display: String::new() };
        auth.create_account(&auth::Actor::Store, &new).await.unwrap();
        for turn in 0..200 {
            let kind = if turn % 2 == 0 { "pull" } else { "push" };
            let request = MintRequest { kind: kind.to_owned(), ..MintRequest::default() };
            let minted = auth.mint(&auth::Actor::Store, &account.parse().unwrap(), &request).await.unwrap();
            let name = HOSTS[turn % HOSTS.len()];
            let host = auth::Host::new(name, true).unwrap();
            let document = serde_json::to_value(minted.document(&host, &auth::SecretName::default())).unwrap();
            let text = |field: &str| document[field].as_str().unwrap().to_owned();
            let rendered = text("dockerconfigjson");
            let expected = reads_plainly(&rendered, name, &text("username"), &text("password"));
            if turn == number * 4 {
                sampled.push((rendered, expected));
            }
        }
    }
    let values: String = sampled.iter().flat_map(|(rendered, _)| [rendered.as_str(), "\n"]).collect();
    // The script as it is, many times in one shell; docker is a function that writes its arguments.
    let many = "docker() { echo \"$@\"; }; while read -r D; do . \"$SCRIPT\" </dev/null; done";
    let wanted: Vec<_> = sampled.iter().map(|(_, line)| line.as_str()).collect();
    assert_eq!(wanted.len(), 50);
    let run = |shell| {
        let run = Run::new(shell).args(["-c", many]).env("SCRIPT", tools::file("fixtures/f3.sh"));
        run.input(values.clone()).ok()
    };
    let (bash, dash) = tokio::join!(run("bash"), run("dash"));
    assert_eq!(bash.stdout.lines().collect::<Vec<_>>(), wanted);
    assert_eq!(dash.stdout.lines().collect::<Vec<_>>(), wanted);
}

/// Checks one rendering against the contract of the script, and gives the line that docker must be called with.
fn reads_plainly(rendered: &str, host: &str, user: &str, password: &str) -> String {
    let config = String::from_utf8(STANDARD.decode(rendered).unwrap()).unwrap();
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~:/-".contains(&b));
    for value in [host, user, password] {
        assert!(!value.is_empty() && plain(value), "{config}");
    }
    assert!(!config.contains([' ', '\\', '$', '`', '\n']), "{config}");
    let json: serde_json::Value = serde_json::from_str(&config).unwrap();
    let pair = STANDARD.encode(format!("{user}:{password}"));
    assert_eq!(
        json,
        serde_json::json!({"auths": {host: {"username": user, "password": password, "auth": pair}}}),
        "one host, everything explicit"
    );
    format!("login {host} --username={user} --password={password}")
}
