//! `--tls-self-signed`: an authority and a certificate of the server's own, and clients that trust it.

use std::{path::Path, process::Stdio};

use conformance::{
    Harness,
    harness::{binary, free_address, log_file, read_text, until, write_file},
};
use tokio::process::{Child, Command};

/// Seconds.
const DAY: i64 = 86_400;

/// A server with a certificate of its own, beside the harness's plain one.
struct Secured {
    child: Child,
    address: std::net::SocketAddr,
    log: std::path::PathBuf,
}

impl Secured {
    async fn start(folder: &Path, host: &str) -> Self {
        let address = free_address();
        let log = folder.join(format!("server-{}.log", address.port()));
        let child = Command::new(binary())
            .args(["serve", "--operations", "off", "--listen", &address.to_string(), "--tls-self-signed", host])
            .arg("--data")
            .arg(folder.join("data"))
            .env(conformance::clock::VARIABLE, folder.join("clock"))
            .stdout(Stdio::null())
            .stderr(log_file(&log))
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let secured = Self { child, address, log };
        until("serving under TLS", async || read_text(&secured.log).contains("serving https://")).await;
        secured
    }

    /// Asks by a name, trusting the authority alone.
    async fn get(&self, authority: &str, name: &str) -> Result<u16, reqwest::Error> {
        let root = reqwest::Certificate::from_pem(authority.as_bytes()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([root]).resolve(name, self.address).build().unwrap();
        let url = format!("https://{name}:{}/v2/", self.address.port());
        client.get(url).send().await.map(|answer| answer.status().as_u16())
    }

    async fn stop(mut self) {
        self.child.kill().await.unwrap();
    }
}

fn clock(folder: &Path, days: i64) {
    write_file(&folder.join("clock"), (days * DAY).to_string().as_bytes());
}

#[tokio::test]
async fn a_client_that_trusts_the_authority_is_served_and_goes_on_after_a_renewal() {
    let harness = Harness::start().await;
    let folder = harness.scratch("secured");
    clock(&folder, 0);
    let secured = Secured::start(&folder, "registry.example").await;
    let authority = read_text(&folder.join("data/tls/ca.crt"));
    assert_eq!(secured.get(&authority, "registry.example").await.unwrap(), 401);
    assert_eq!(secured.get(&authority, "localhost").await.unwrap(), 401);
    // A name that the certificate does not have, and a client that trusts another authority.
    assert!(secured.get(&authority, "other.example").await.is_err());
    let certificate = read_text(&folder.join("data/tls/server.pem"));
    secured.stop().await;

    let other = harness.scratch("other");
    clock(&other, 0);
    let stranger = Secured::start(&other, "registry.example").await;
    assert!(stranger.get(&authority, "registry.example").await.is_err());
    stranger.stop().await;

    let again = Secured::start(&folder, "registry.example").await;
    assert_eq!(read_text(&folder.join("data/tls/server.pem")), certificate);
    again.stop().await;
    clock(&folder, -61);
    let again = Secured::start(&folder, "another.example").await;
    assert_ne!(read_text(&folder.join("data/tls/server.pem")), certificate);
    assert_eq!(again.get(&authority, "another.example").await.unwrap(), 401);
    again.stop().await;
}

/// The lines that the server prints are run as they stand, but for the folder that they are told of.
#[tokio::test]
async fn the_lines_that_it_prints_put_the_authority_where_clients_look() {
    let harness = Harness::start().await;
    let folder = harness.scratch("secured");
    clock(&folder, 0);
    let secured = Secured::start(&folder, "localhost").await;
    let host = format!("localhost:{}", secured.address.port());
    let log = read_text(&secured.log);
    let etc = folder.join("etc").display().to_string();
    let lines: Vec<_> = log.lines().filter(|line| line.starts_with("mkdir ") || line.starts_with("printf ")).collect();
    assert_eq!(lines.len(), 4, "{log}");
    let script = lines.join("\n").replace("/etc/", &format!("{etc}/"));
    let done = Command::new("sh").args(["-e", "-c", &script]).status().await.unwrap();
    assert!(done.success(), "{script}");
    let authority = read_text(&folder.join("data/tls/ca.crt"));
    for client in ["docker", "containers", "containerd"] {
        assert_eq!(read_text(Path::new(&format!("{etc}/{client}/certs.d/{host}/ca.crt"))), authority, "{client}");
    }
    let hosts = read_text(Path::new(&format!("{etc}/containerd/certs.d/{host}/hosts.toml")));
    let hosts: toml::Value = toml::from_str(&hosts).unwrap();
    assert_eq!(hosts.get("server").and_then(toml::Value::as_str), Some(format!("https://{host}").as_str()));

    // skopeo reads the same folders as podman.
    let made = harness.bare(&["account", "create", "acme", "--data", &folder.join("data").display().to_string()]);
    made.ok().await;
    let minted = ["credential", "create", "acme", "--kind", "push", "--output", "json", "--data"];
    let minted = harness.bare(&minted).arg(folder.join("data")).ok().await;
    let minted: serde_json::Value = serde_json::from_str(&minted.stdout).unwrap();
    let text = |field: &str| minted.get(field).and_then(serde_json::Value::as_str).unwrap();
    assert_eq!(text("host"), host);
    let login = conformance::tools::Run::new("skopeo")
        .args(["login", "--cert-dir", &format!("{etc}/containers/certs.d/{host}"), "-u", text("username")])
        .args(["--authfile", &folder.join("auth.json").display().to_string(), "--password-stdin", &host])
        .input(text("password"));
    login.ok().await.says("Login Succeeded");
    secured.stop().await;
}
