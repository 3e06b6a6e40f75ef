//! The container image, made by `deploy/image/build` from the program that `conformance/run` has built.

use std::{
    env::consts::ARCH,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use conformance::{
    Client, Harness, Store,
    bucket::{Bucket, Server},
    harness::{answers, binary, free_address, read_text, until, write_file},
    tools::Run,
};
use serde_json::{Value, json};
use tokio::net::UdpSocket;

use super::file;
use crate::clients::docker::Daemon;

/// The static program, as `deploy/image/program` leaves it.
fn program() -> PathBuf {
    let release = binary();
    let target = release.ancestors().nth(2).unwrap();
    let path = target.join("image").join(format!("hythe-{}", architecture()));
    assert!(path.exists(), "{} is missing: run conformance/run, or deploy/image/program", path.display());
    path
}

fn architecture() -> &'static str {
    if ARCH == "aarch64" { "arm64" } else { "amd64" }
}

/// Makes the image and gives the archive for `docker load`.
pub(crate) async fn build(harness: &Harness) -> PathBuf {
    let output = harness.scratch("image");
    package(harness, &[&program()], "image").await;
    output.join(format!("hythe-{}.tar", architecture()))
}

async fn package(harness: &Harness, programs: &[&PathBuf], output: &str) {
    let mut run = Run::of(&file("image/build")).env("SOURCE_DATE_EPOCH", "1795275296");
    for program in programs {
        run = run.arg("--binary").arg(program);
    }
    run.arg("--output").arg(harness.scratch(output)).ok().await;
}

/// The JSON that skopeo prints about an image of the layout.
async fn inspect(harness: &Harness, output: &str, args: &[&str]) -> Value {
    let layout = harness.scratch(output).join("oci");
    let run = Run::new("skopeo").arg("inspect").args(args).arg(format!("oci:{}:hythe", layout.display()));
    serde_json::from_str(&run.ok().await.stdout).unwrap()
}

#[tokio::test]
async fn the_image_is_small_runs_as_nobody_and_is_the_same_when_made_again() {
    let harness = Harness::stopped(Store::Local).await;
    let archive = build(&harness).await;
    let unpacked = std::fs::metadata(&archive).unwrap().len();
    assert!(unpacked < 34_000_000, "the image has {unpacked} bytes");
    let blobs = harness.scratch("image").join("oci/blobs/sha256");
    let pulled: u64 = std::fs::read_dir(blobs).unwrap().map(|blob| blob.unwrap().metadata().unwrap().len()).sum();
    assert!(pulled < 15_000_000, "{pulled} bytes are pulled");
    let image = inspect(&harness, "image", &["--config"]).await;
    assert_eq!(image["architecture"], architecture());
    let config = &image["config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Volumes"], json!({"/data": {}}));
    assert_eq!(config["ExposedPorts"], json!({"5080/tcp": {}}));
    assert_eq!((&config["Entrypoint"], &config["Cmd"]), (&json!(["/usr/bin/hythe"]), &json!(["serve"])));
    for variable in ["HYTHE_DATA=/data", "HYTHE_LISTEN=0.0.0.0:5080"] {
        assert!(config["Env"].as_array().unwrap().contains(&variable.into()), "{config}");
    }
    for label in ["title", "description", "licenses", "version", "revision", "created"] {
        let label = format!("org.opencontainers.image.{label}");
        assert!(config["Labels"][&label].as_str().is_some_and(|text| !text.is_empty()), "{label}: {config}");
    }
    package(&harness, &[&program()], "again").await;
    let index = |output| read_text(&harness.scratch(output).join("oci/index.json"));
    assert_eq!(index("image"), index("again"));
}

#[expect(clippy::disallowed_methods, reason = "the program is a file of the build")]
fn for_another_machine(program: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(program).unwrap();
    // e_machine (ELF, offset 18): 183 is arm64, 62 amd64.
    bytes[18] = if architecture() == "amd64" { 183 } else { 62 };
    bytes
}

/// Programs for two architectures make one index; the second here is the first with another machine in its head.
#[tokio::test]
async fn programs_of_two_architectures_make_an_index_of_both() {
    let harness = Harness::stopped(Store::Local).await;
    let first = program();
    let second = harness.scratch("other").join("hythe");
    write_file(&second, &for_another_machine(&first));
    package(&harness, &[&first, &second], "both").await;
    let index = inspect(&harness, "both", &["--raw"]).await;
    let platforms: Vec<_> = index["manifests"].as_array().unwrap().iter().map(|m| m["platform"].clone()).collect();
    let of = |architecture| json!({"architecture": architecture, "os": "linux"});
    assert_eq!(platforms, [of("amd64"), of("arm64")]);
    for architecture in ["amd64", "arm64"] {
        let image = inspect(&harness, "both", &["--config", "--override-arch", architecture]).await;
        assert_eq!(image["architecture"], architecture);
    }
    let dynamic =
        Run::of(&file("image/build")).arg("--binary").arg(binary()).arg("--output").arg(harness.scratch("no"));
    dynamic.fails().await.says("is not static");
}

/// The program has no library to load a resolver from: it must find names in DNS by itself. What it is told to store in is a
/// bucket behind a name that only this test's name server knows.
#[tokio::test]
async fn the_program_of_the_image_finds_names_in_dns() {
    let harness = Harness::stopped(Store::Local).await;
    let minio = Bucket::start(Server::Minio, &harness.scratch("bucket")).await;
    let archive = build(&harness).await;
    let daemon = Daemon::start(&harness).await;
    daemon.docker().args(["load", "--input"]).arg(&archive).ok().await;
    let names = NameServer::start();
    let resolv = harness.scratch("resolv").join("resolv.conf");
    write_file(&resolv, format!("nameserver {}\n", NameServer::ADDRESS).as_bytes());
    let mut run = daemon
        .docker()
        .args(["run", "--rm", "--network", "host", "--read-only", "--cap-drop", "ALL", "--env", "HYTHE_DATA="])
        .args(["--volume", &format!("{}:/etc/resolv.conf:ro", resolv.display())]);
    for (name, value) in minio.environment() {
        run = run.args(["--env", &format!("{name}={}", value.replace("127.0.0.1", NameServer::NAME))]);
    }
    run.args(["hythe", "account", "create", "acme", "--store", &Bucket::url()])
        .ok()
        .await
        .says("account acme was made");
    assert!(names.was_asked());
}

/// The container as the quick start runs it, but for the network of the machine, with a root it cannot write to.
#[tokio::test]
async fn a_container_serves_and_ends_at_sigterm_at_once() {
    let harness = Harness::stopped(Store::Local).await;
    let archive = build(&harness).await;
    let daemon = Daemon::start(&harness).await;
    daemon.docker().args(["load", "--input"]).arg(&archive).ok().await.says("hythe:latest");
    let address = free_address();
    let run = daemon.docker().args(["run", "--detach", "--name", "hythe", "--network", "host", "--read-only"]);
    let run = run.args(["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--volume", "hythe:/data"]);
    let listen = format!("HYTHE_LISTEN={address}");
    run.args(["--env", &listen, "--env", "HYTHE_OPERATIONS=off", "hythe"]).ok().await;
    let exec = |args: &[&str]| daemon.docker().args(["exec", "hythe", "hythe"]).args(args);
    exec(&["account", "create", "acme"]).ok().await;
    exec(&["key", "create", "acme"]).ok().await.says("hyak_");
    let client = Client::new(address);
    until("the container is ready", async || answers(&client, "/readyz").await).await;
    let owner = daemon.docker().args(["exec", "hythe", "/usr/bin/hythe", "--version"]).ok().await;
    owner.says(env!("CARGO_PKG_VERSION"));
    // A process that ignored the signal would be killed after ten seconds, and end with 137.
    daemon.docker().args(["stop", "hythe"]).ok().await;
    let state = daemon.docker().args(["inspect", "--format", "{{.State.ExitCode}}", "hythe"]).ok().await;
    assert_eq!(state.stdout.trim(), "0");
    daemon.docker().args(["rm", "--volumes", "hythe"]).ok().await;
}

/// A name server that knows one name: DNS over UDP (RFC 1035), A records alone.
struct NameServer {
    asked: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl NameServer {
    /// An address of loopback that nobody else uses; the port of DNS cannot be chosen.
    const ADDRESS: &str = "127.80.80.53";
    const NAME: &str = "bucket.example";

    #[expect(clippy::disallowed_methods, reason = "the name server ends with its test")]
    fn start() -> Self {
        let socket = std::net::UdpSocket::bind((Self::ADDRESS, 53)).expect("port 53 of loopback: tests run as root");
        socket.set_nonblocking(true).unwrap();
        let socket = UdpSocket::from_std(socket).unwrap();
        let asked = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((size, from)) = socket.recv_from(&mut query).await {
                let query = &query[..size];
                // After a head of twelve bytes: labels, each after its length, a zero, the type and the class.
                let Some(end) = query.iter().skip(12).position(|&byte| byte == 0) else { continue };
                let question = &query[12..12 + end + 5];
                let name: Vec<u8> = Self::NAME
                    .split('.')
                    .flat_map(|l| [&[u8::try_from(l.len()).unwrap()], l.as_bytes()].concat())
                    .collect();
                let known = question[..end] == name && question[end + 1..end + 3] == [0, 1];
                seen.fetch_or(known, SeqCst);
                let mut answer = [&query[..2], &[0x81, 0x80, 0, 1, 0, u8::from(known), 0, 0, 0, 0], question].concat();
                if known {
                    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]);
                }
                let _sent = socket.send_to(&answer, from).await;
            }
        });
        Self { asked, task }
    }

    fn was_asked(&self) -> bool {
        self.asked.load(SeqCst)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
