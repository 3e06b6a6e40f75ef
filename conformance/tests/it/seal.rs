//! Private keys at rest under a seal key that a program prints, as the client of a key management service would.

use conformance::{
    Harness, Store,
    harness::write_file,
    tools::{self, Run},
};

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A program's arguments: a script for a shell, which prints the key, or says why not.
fn command(harness: &Harness, name: &str, script: &str) -> String {
    let path = harness.scratch("kms").join(name);
    write_file(&path, script.as_bytes());
    format!("{} {}", tools::find("sh").display(), path.display())
}

fn list(harness: &Harness, command: Option<&str>) -> Run {
    let run = harness.run_at(0, &["account", "list"]);
    match command {
        Some(command) => run.env("HYTHE_SEAL_KEY_COMMAND", command),
        None => run,
    }
}

#[tokio::test]
async fn a_store_is_sealed_and_opened_by_what_a_program_prints() {
    let mut harness = Harness::stopped(Store::Local).await;
    let good = command(&harness, "good", &format!("echo asked >&2; echo {KEY}"));
    harness.set(&[("HYTHE_SEAL_KEY_COMMAND", &good)], &["--account", "acme"]);
    harness.boot().await;
    assert!(list(&harness, Some(&good)).ok().await.stdout.contains("acme"));
    harness.restart().await;
    let log = harness.log();
    harness.kill();
    assert!(!log.contains(KEY) && !log.contains("asked"), "{log}");

    let other = command(&harness, "other", &format!("echo {KEY} | tr a b"));
    let refusing = command(&harness, "refusing", &format!("echo {KEY}; echo the token has run out >&2; exit 2"));
    for (command, why) in [
        (None, "the keys of this store are sealed: set HYTHE_SEAL_KEY, or seal_key_command"),
        (Some(&other), "is not the key that this store was sealed with"),
        (Some(&refusing), "gave no key: exit status: 2: the token has run out"),
    ] {
        let ended = list(&harness, command.map(String::as_str)).fails().await;
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
        assert!(!ended.stderr.contains(KEY) && !ended.stdout.contains(KEY), "{}", ended.stderr);
    }
    let flags = ["serve", "--operations", "off", "--listen", "127.0.0.1:0", "--seal-key-command", &refusing];
    let ended = harness.run_at(0, &flags).fails().await;
    assert!(ended.stderr.contains("the token has run out"), "{}", ended.stderr);
    assert!(!ended.stderr.contains(KEY) && !ended.stderr.contains("listens"), "{}", ended.stderr);
}
