//! Accounts and keys that the configuration declares, through HTTP and the command line.

use std::{os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};

use conformance::{
    Caller, Client, Harness, Request, Store,
    harness::{read_text, write_file},
};
use registry::open::Opened;
use serde_json::{Value, json};
use storage::{
    backend::memory::{MemoryBytes, MemoryRecords},
    clock::SystemClock,
};

/// A server that was not started yet, its file, and a declared account with its owner key.
struct Declared {
    harness: Harness,
    file: PathBuf,
    made: Value,
}

impl Declared {
    async fn new() -> Self {
        let mut harness = Harness::stopped(Store::Local).await;
        let made = harness.bare(&["key", "declare", "acme", "--output", "json"]).ok().await;
        let made: Value = serde_json::from_str(&made.stdout).unwrap();
        let file = harness.scratch("config").join("hythe.toml");
        harness.set(&[], &["--config", &file.display().to_string()]);
        let declared = Self { harness, file, made };
        declared.write(declared.text("toml"));
        declared
    }

    fn text(&self, field: &str) -> &str {
        self.made.get(field).and_then(Value::as_str).unwrap()
    }

    fn write(&self, toml: &str) {
        write_file(&self.file, toml.as_bytes());
    }

    fn caller(&self) -> Caller {
        Caller::bearer(self.harness.client(), self.text("key"))
    }

    async fn mint(&self) -> u16 {
        let request = Request::post("/api/v1/accounts/acme/credentials");
        let body = json!({"kind": "push"}).to_string();
        self.caller().send(request.header("Content-Type", "application/json").body(body)).await.status.as_u16()
    }
}

#[tokio::test]
async fn a_declared_owner_key_mints_and_what_it_mints_logs_in() {
    let mut declared = Declared::new().await;
    declared.harness.boot().await;
    assert_eq!(declared.mint().await, 201);
    let keys = declared.caller().send(Request::get("/api/v1/accounts/acme/keys")).await.expect(200).json();
    assert_eq!(keys.pointer("/items/0/id").and_then(Value::as_str), Some(declared.text("id")));
    declared.harness.restart().await;
    assert_eq!(declared.mint().await, 201);

    // What was ended stays ended, though the file names it.
    let id = declared.text("id").to_owned();
    declared.harness.hythe(&["key", "revoke", "acme", &id]).await;
    declared.harness.restart().await;
    assert_eq!(declared.mint().await, 401);
}

#[tokio::test]
async fn what_left_the_file_is_told_by_the_check_and_no_more_taken() {
    let mut declared = Declared::new().await;
    let file = declared.file.display().to_string();
    let check = ["config", "check", "--config", &file];
    let before = declared.harness.hythe(&check).await;
    assert_eq!(before.all(), "");
    assert!(!declared.harness.data().exists(), "a check makes no store");
    declared.harness.boot().await;
    assert_eq!(declared.harness.hythe(&check).await.all(), "");
    let account = declared.text("toml").lines().take(3).collect::<Vec<_>>().join("\n");
    declared.write(&account);
    let id = declared.text("id").to_owned();
    declared.harness.hythe(&check).await.says(&format!("hythe key revoke acme {id}"));
    declared.harness.restart().await;
    assert_eq!(declared.mint().await, 401);
    declared.write("");
    declared.harness.hythe(&check).await.says("account acme left the file");
}

#[tokio::test]
async fn an_account_that_lives_under_another_generation_stops_the_start() {
    let mut declared = Declared::new().await;
    declared.harness.boot().await;
    declared.harness.kill();
    let other = declared.harness.bare(&["key", "declare", "acme", "--output", "json"]).ok().await;
    let other: Value = serde_json::from_str(&other.stdout).unwrap();
    declared.write(other.get("toml").and_then(Value::as_str).unwrap());
    let file = declared.file.display().to_string();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--operations", "off", "--config", &file];
    let ended = declared.harness.run_at(0, &serve).end().await;
    assert_eq!(ended.code, Some(1));
    ended.says(declared.text("gen"));
    ended.says(other.get("gen").and_then(Value::as_str).unwrap());
    declared.write("[[accounts]]\nname = 'acme'\ngen = 'nonsense'\n");
    let ended = declared.harness.run_at(0, &serve).end().await;
    assert_eq!(ended.code, Some(64), "{}", ended.stderr);
    ended.says("hythe.toml line 2): gen: expected 12 characters");
}

#[tokio::test]
async fn two_servers_that_start_at_once_bring_one_account() {
    let declared = Declared::new().await;
    let clock = Arc::new(SystemClock::new());
    let (records, bytes) = (Arc::new(MemoryRecords::new(clock.clone())), Arc::new(MemoryBytes::growing()));
    let start = || {
        let sources = config::Sources::isolated().file(&declared.file);
        let config = config::load(&sources.set("listen", "127.0.0.1:0").set("operations", "off")).unwrap();
        registry::start_on(config, Opened::over(records.clone(), bytes.clone()), clock.clone())
    };
    let (one, other) = tokio::join!(start(), start());
    for running in [one.unwrap(), other.unwrap()] {
        let caller = Caller::bearer(&Client::new(running.address), declared.text("key"));
        let keys = caller.send(Request::get("/api/v1/accounts/acme/keys")).await.expect(200).json();
        assert_eq!(keys.pointer("/items").and_then(Value::as_array).map(Vec::len), Some(1), "{keys}");
        running.shutdown().await;
    }
}

#[tokio::test]
async fn a_key_is_printed_as_lines_for_a_shell_and_as_manifests() {
    let harness = Harness::start().await;
    harness.hythe(&["account", "create", "acme"]).await;
    let env = harness.hythe(&["key", "create", "acme", "--output", "env"]).await.stdout;
    let lines: Vec<_> = env.lines().collect();
    assert_eq!(lines[0], format!("HYTHE_URL=http://{}", harness.host()));
    let key = lines[1].strip_prefix("HYTHE_KEY=").unwrap();
    Caller::bearer(harness.client(), key).send(Request::get("/api/v1/accounts/acme")).await.expect(200);

    let asked = ["key", "create", "acme", "--output", "cronjob", "--namespace", "shop", "--max-ttl", "6h"];
    let yaml = harness.hythe(&asked).await.stdout;
    for text in [
        "kind: CronJob\nmetadata:\n  name: hythe-acme\n  namespace: shop\n",
        "resourceNames: [hythe-acme]\n",
        " --ttl, 21600s, ",
    ] {
        assert!(yaml.contains(text), "{text:?} is not in {yaml}");
    }
    let key = yaml.lines().find_map(|line| line.strip_prefix("  HYTHE_KEY: ")).unwrap();
    // The key of a cluster mints pull credentials and does nothing else; the arguments are those of the Job.
    let secret = harness.scratch("job").join("secret.yaml");
    let args = yaml.lines().find_map(|line| line.trim().strip_prefix("args: [credential, ")).unwrap();
    let args = args.trim_end_matches(']').replace("/work/secret.yaml", &secret.display().to_string());
    let args: Vec<_> = std::iter::once("credential").chain(args.split(", ")).collect();
    let run = harness.bare(&args).env("HYTHE_URL", format!("http://{}", harness.host())).env("HYTHE_KEY", key);
    assert_eq!(run.ok().await.all(), "");
    let written = read_text(&secret);
    assert!(
        written.contains("type: kubernetes.io/dockerconfigjson\n") && written.contains("  name: hythe-acme\n"),
        "{written}"
    );
    let mode = std::fs::metadata(&secret).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let pushed = harness.bare(&["credential", "create", "acme", "--kind", "push"]);
    let pushed = pushed.env("HYTHE_URL", format!("http://{}", harness.host())).env("HYTHE_KEY", key).end().await;
    assert_eq!(pushed.code, Some(1), "{}", pushed.all());
}
