//! A running server takes a changed configuration over: at SIGHUP, and by itself when the file is another.

use std::path::PathBuf;

use conformance::{
    Caller, Harness, Request, Store,
    harness::{read_text, until, write_file},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, net::TcpStream};

struct Served {
    harness: Harness,
    file: PathBuf,
}

impl Served {
    async fn new(toml: &str) -> Self {
        let mut harness = Harness::stopped(Store::Local).await;
        let file = harness.scratch("config").join("hythe.toml");
        harness.set(&[], &["--config", &file.display().to_string()]);
        write_file(&file, toml.as_bytes());
        harness.boot().await;
        Self { harness, file }
    }

    /// Waits until the server has logged this once more than before.
    async fn logged(&self, text: &str, before: usize) {
        until(text, async || self.count(text) > before).await;
    }

    fn count(&self, text: &str) -> usize {
        self.harness.log().matches(text).count()
    }

    /// Writes the file, asks for it to be read, and waits until the server says so.
    async fn reload(&self, toml: &str, says: &str) {
        let before = self.count(says);
        write_file(&self.file, toml.as_bytes());
        self.harness.signal(Signal::HUP);
        self.logged(says, before).await;
    }
}

const READ: &str = "the configuration was read again";

#[tokio::test]
async fn each_setting_that_can_be_reloaded_takes_effect() {
    let served = Served::new("[log]\nfilter = 'info,hythe=info'\n").await;
    let harness = &served.harness;
    let pid = harness.pid();

    // Trusted proxies: the client's address in the log is the one that the proxy reports.
    let proxied = || Request::get("/v2/").header("X-Forwarded-For", "192.0.2.77");
    harness.send(proxied()).await.expect(401);
    served.reload("trusted_proxy = ['127.0.0.1']\n", READ).await;
    assert_eq!(served.count("client_address=192.0.2.77"), 0);
    harness.send(proxied()).await.expect(401);
    served.logged("client_address=192.0.2.77", 0).await;

    // Limits: a head that fitted is too long, with the new limit in the answer.
    let long = || Request::get("/v2/").header("X-Long", "x".repeat(10_000));
    harness.send(long()).await.expect(401);
    served.reload("[limits]\nheader_size = '8KiB'\nheader_timeout = '1s'\n", READ).await;
    let fresh = conformance::Client::new(harness.client().address());
    // The server may hang up while the rest of it is still being sent.
    let answer = fresh.try_send(long()).await;
    assert!(!answer.as_ref().is_ok_and(|answer| answer.status != 431), "{answer:?}");
    // A connection that says nothing is ended after the new time; the old one was ten seconds.
    let mut silent = TcpStream::connect(harness.client().address()).await.unwrap();
    let end = tokio::time::timeout(std::time::Duration::from_secs(8), silent.read_u8()).await;
    assert!(matches!(end, Ok(Err(_))), "{end:?}");

    // Declared accounts.
    let made = harness.bare(&["key", "declare", "acme", "--output", "json"]).ok().await;
    let made: Value = serde_json::from_str(&made.stdout).unwrap();
    let text = |field: &str| made.get(field).and_then(Value::as_str).unwrap();
    let owner = Caller::bearer(&fresh, text("key"));
    let mint = || {
        let request = Request::post("/api/v1/accounts/acme/credentials").header("Content-Type", "application/json");
        owner.send(request.body(json!({"kind": "push"}).to_string()))
    };
    assert_eq!(mint().await.status, 401);
    served.reload(text("toml"), READ).await;
    mint().await.expect(201);
    served.reload("", READ).await;
    assert_eq!(mint().await.status, 401);

    // The log's filter; a warning tells that it is in force.
    served.reload("read_only = true\n[log]\nfilter = 'warn'\n", "with a restart: read_only").await;
    let before = served.count(" answered ");
    assert!(before > 0);
    for _ in 0..3 {
        harness.send(Request::get("/v2/")).await.expect(401);
    }
    served.reload("", READ).await;
    assert_eq!(served.count(" answered "), before);
    assert_eq!(harness.pid(), pid);
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_a_bad_file_changes_nothing() {
    let served = Served::new("").await;
    served.reload("listen = '127.0.0.1:1'\nread_only = true\n", "take effect with a restart: read_only").await;
    // --listen is a flag here and wins: it did not change.
    assert_eq!(served.count("restart: listen"), 0);
    served.harness.send(Request::get("/readyz")).await.expect(200);

    let bad = "the configuration stays as it was: ";
    served.reload("trusted_proxy = ['127.0.0.1']\nread_only = 'perhaps'\n", bad).await;
    assert!(served.harness.log().contains("hythe.toml line 2"), "{}", served.harness.log());
    served.harness.send(Request::get("/v2/").header("X-Forwarded-For", "192.0.2.78")).await.expect(401);
    served.reload("[[accounts]]\nname = 'acme'\ngen = 'x'\n", bad).await;
    served.reload("", READ).await;
    assert_eq!(served.count("client_address=192.0.2.78"), 0);
}

#[tokio::test]
async fn a_changed_file_is_taken_over_without_a_signal() {
    let served = Served::new("").await;
    write_file(&served.file, b"trusted_proxy = ['127.0.0.1']\n");
    served.logged(READ, 0).await;
    served.harness.send(Request::get("/v2/").header("X-Forwarded-For", "192.0.2.79")).await.expect(401);
    served.logged("client_address=192.0.2.79", 0).await;
    assert!(read_text(&served.file).contains("trusted_proxy"));
}
