//! `--tls-self-signed`: an authority and a certificate of the server's own, and clients that trust it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use conformance::{
    Credential, Harness,
    harness::{binary, free_address, log_file, read_text, until, write_file},
    tools::{self, Run},
};
use tokio::process::{Child, Command};

use crate::clients::{containerd, docker};

/// Seconds.
const DAY: i64 = 86_400;

/// A server with a certificate of its own, beside the harness's plain one.
struct Secured {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Secured {
    async fn start(folder: &Path, host: &str) -> Self {
        Self::start_through(&[], folder, free_address(), host).await
    }

    /// The same at an address of one's own, started through a program that executes what follows in its own place.
    async fn start_through(through: &[String], folder: &Path, address: SocketAddr, host: &str) -> Self {
        let log = folder.join(format!("server-{}.log", address.port()));
        let mut words = through.iter().map(PathBuf::from).chain([binary()]);
        let child = Command::new(words.next().unwrap())
            .args(words)
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

    /// Runs the lines that the server has printed as they stand, but for the folder that they are told of.
    async fn trust(&self, etc: &str) {
        let log = read_text(&self.log);
        let printed = |line: &&str| line.starts_with("mkdir ") || line.starts_with("printf ");
        let lines: Vec<_> = log.lines().filter(printed).collect();
        assert_eq!(lines.len(), 4, "{log}");
        let script = lines.join("\n").replace("/etc/", &format!("{etc}/"));
        let done = Command::new("sh").args(["-e", "-c", &script]).status().await.unwrap();
        assert!(done.success(), "{script}");
    }

    /// A push key of a new account, minted on this server's store.
    async fn key(&self, harness: &Harness, folder: &Path) -> Credential {
        let data = folder.join("data").display().to_string();
        harness.bare(&["account", "create", "acme", "--data", &data]).ok().await;
        let mint = ["credential", "create", "acme", "--kind", "push", "--output", "json", "--data", &data];
        Credential::parse(&harness.bare(&mint).ok().await.stdout)
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

#[tokio::test]
async fn the_lines_that_it_prints_put_the_authority_where_clients_look() {
    let harness = Harness::start().await;
    let folder = harness.scratch("secured");
    clock(&folder, 0);
    let secured = Secured::start(&folder, "localhost").await;
    let host = format!("localhost:{}", secured.address.port());
    let etc = folder.join("etc").display().to_string();
    secured.trust(&etc).await;
    let authority = read_text(&folder.join("data/tls/ca.crt"));
    for client in ["docker", "containers", "containerd"] {
        assert_eq!(read_text(Path::new(&format!("{etc}/{client}/certs.d/{host}/ca.crt"))), authority, "{client}");
    }
    let hosts = read_text(Path::new(&format!("{etc}/containerd/certs.d/{host}/hosts.toml")));
    let hosts: toml::Value = toml::from_str(&hosts).unwrap();
    assert_eq!(hosts.get("server").and_then(toml::Value::as_str), Some(format!("https://{host}").as_str()));

    // skopeo reads the same folders as podman.
    let key = secured.key(&harness, &folder).await;
    assert_eq!(key.field("host"), host);
    let login = Run::new("skopeo")
        .args(["login", "--cert-dir", &format!("{etc}/containers/certs.d/{host}"), "-u", &key.username])
        .args(["--authfile", &folder.join("auth.json").display().to_string(), "--password-stdin", &host])
        .input(key.password.clone());
    login.ok().await.says("Login Succeeded");
    secured.stop().await;
}

/// A network of the test's own with one address that is not loopback, where docker and containerd would ask no certificate.
pub(crate) struct Network {
    name: String,
}

impl Network {
    /// For examples in documents (RFC 5737).
    pub(crate) const ADDRESS: &str = "203.0.113.1";

    /// `test` tells it from those of other tests of this process.
    pub(crate) async fn new(test: &str) -> Self {
        let network = Self { name: format!("hythe-{test}-{}", std::process::id()) };
        let name = &network.name;
        for command in [
            format!("netns add {name}"),
            format!("-n {name} link set lo up"),
            format!("-n {name} address add {}/32 dev lo", Self::ADDRESS),
        ] {
            Run::new("ip").args(command.split(' ')).ok().await;
        }
        network
    }

    /// The words before a program that is to run in it, with the folder's `hosts` and `etc/docker` in the place of the machine's.
    pub(crate) fn words(&self, folder: &Path) -> Vec<String> {
        let bound = "mkdir -p /etc/docker \"$0/etc/docker\" && mount --bind \"$0/etc/docker\" /etc/docker && \
                     mount --bind \"$0/hosts\" /etc/hosts && exec \"$@\"";
        // Not `ip netns exec`: it hides the control groups that dockerd needs.
        let net = format!("--net=/run/netns/{}", self.name);
        let words = ["nsenter", &net, "unshare", "--mount", "sh", "-c", bound].map(str::to_owned);
        words.into_iter().chain([folder.display().to_string()]).collect()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _gone = std::process::Command::new(tools::find("ip")).args(["netns", "delete", &self.name]).status();
    }
}

#[tokio::test]
async fn docker_and_containerd_push_and_pull_where_the_lines_were_run() {
    let harness = Harness::start().await;
    let (network, folder) = (Network::new("signed").await, harness.scratch("secured"));
    clock(&folder, 0);
    write_file(
        &folder.join("hosts"),
        format!("127.0.0.1 localhost\n{} registry.example\n", Network::ADDRESS).as_bytes(),
    );
    let words = network.words(&folder);
    let address = SocketAddr::new(Network::ADDRESS.parse().unwrap(), 443);
    let secured = Secured::start_through(&words, &folder, address, "registry.example").await;
    let key = secured.key(&harness, &folder).await;
    let host = key.field("host");
    assert_eq!(host, "registry.example");
    let etc = folder.join("etc").display().to_string();

    let docker = docker::Daemon::start_through(&harness, &words).await;
    docker.login_at(host, &key).fails().await.says("certificate signed by unknown authority");
    secured.trust(&etc).await;
    docker.login_at(host, &key).ok().await.says("Login Succeeded");
    let image = format!("{host}/acme/docker:v1");
    docker.load("self-signed", &image).await;
    let pushed = docker.docker().args(["push", &image]).ok().await.digest();
    docker.docker().args(["rmi", "-f", &image]).ok().await;
    assert_eq!(docker.docker().args(["pull", &image]).ok().await.digest(), pushed);

    let containerd = containerd::Daemon::start(&harness).await;
    let pull = containerd.ctr_through(&words).args(["images", "pull", "--snapshotter", "native", "--user"]);
    let pull = pull.arg(format!("{}:{}", key.username, key.password));
    pull.args(["--hosts-dir", &format!("{etc}/containerd/certs.d"), &image]).ok().await;
    secured.stop().await;
}
