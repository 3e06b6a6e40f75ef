//! nginx with TLS in front, configured by `deploy/proxy/nginx.conf`, and the clients behind it.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use conformance::{
    Credential, Harness, Store, fixture,
    harness::{free_address, log_file, make_dir, read_text, running, write_file},
    tools::{self, Run},
};
use serde_json::Value;

use super::file;
use crate::clients::{digest_of, docker::Daemon};

/// What nginx speaks to Hythe from, so that a client's address (127.0.0.1) is another than the proxy's.
const PROXY: &str = "127.0.0.2";
/// For two gibibytes on a slow machine.
const PATIENCE: Duration = Duration::from_mins(30);

/// An nginx with a certificate of its own for 127.0.0.1, in front of a server.
struct Nginx {
    harness: Harness,
    child: Child,
    dir: PathBuf,
    /// `127.0.0.1:PORT`, as clients name the registry.
    host: String,
}

impl Nginx {
    async fn start() -> Self {
        let host = free_address().to_string();
        let url = format!("https://{host}");
        let proxy = format!("{PROXY}/32");
        let flags = ["--public-url", &url, "--trusted-proxy", &proxy, "--log-format", "json"];
        let harness = Harness::with(Store::Local, &flags).await;
        let dir = harness.scratch("nginx");
        certificate(&dir).await;
        let path = |name: &str| dir.join(name).display().to_string();
        let server = read_text(&file("proxy/nginx.conf"))
            .replace("server 127.0.0.1:5080;", &format!("server {};", harness.host()))
            .replace("listen 443 ", &format!("listen {host} "))
            .replace("/etc/ssl/registry.example", &path("registry"));
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("    {kind}_temp_path {};\n", path(kind)))
            .concat();
        let main = format!(
            "daemon off;\npid {};\nerror_log {};\nevents {{}}\nhttp {{\n    log_format seen '$server_protocol $request_method \
             $status $remote_addr';\n    access_log {} seen;\n    proxy_bind {PROXY};\n{temporary}{server}}}\n",
            path("pid"),
            path("error.log"),
            path("access.log"),
        );
        write_file(&dir.join("nginx.conf"), main.as_bytes());
        let log = dir.join("nginx.log");
        let child = Command::new(tools::find("nginx"))
            .arg("-e")
            .arg(dir.join("error.log"))
            .arg("-c")
            .arg(dir.join("nginx.conf"))
            .stdin(Stdio::null())
            .stdout(log_file(&log))
            .stderr(log_file(&log))
            .spawn()
            .unwrap();
        let mut nginx = Self { harness, child, dir, host };
        running(
            &mut nginx,
            |nginx| &mut nginx.child,
            &log,
            async |nginx| nginx.curl("--http1.1").arg(format!("{url}/readyz")).end().await.success,
        )
        .await;
        nginx
    }

    /// A client that trusts the certificate.
    fn dress(&self, run: Run) -> Run {
        run.env("SSL_CERT_FILE", self.dir.join("registry.crt"))
    }

    fn curl(&self, version: &str) -> Run {
        let run = Run::new("curl").args(["--silent", "--show-error", "--fail", version, "--cacert"]);
        run.arg(self.dir.join("registry.crt"))
    }

    fn login(&self, daemon: &Daemon<'_>, key: &Credential) -> Run {
        let run = daemon.docker().args(["login", &self.host, "--password-stdin", "-u", &key.username]);
        run.input(key.password.clone())
    }

    /// The protocols that clients spoke to nginx.
    fn protocols(&self) -> Vec<String> {
        let log = read_text(&self.dir.join("access.log"));
        let mut seen: Vec<_> = log.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
        seen.sort();
        seen.dedup();
        seen
    }

    /// The addresses that Hythe logged of clients that called themselves so.
    fn addresses(&self, agent: &str) -> Vec<String> {
        let mut seen: Vec<String> = self
            .harness
            .log()
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter_map(|event| {
                let event = event.get("fields").cloned().unwrap_or(event);
                let named = event.get("user_agent")?.as_str()?.to_lowercase().contains(agent);
                named.then(|| event.get("client_address").and_then(Value::as_str).unwrap_or_default().to_owned())
            })
            .collect();
        seen.sort();
        seen.dedup();
        seen
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM, so that it ends its workers too.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _asked = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _reaped = self.child.wait();
    }
}

/// `registry.crt` and `registry.key` for 127.0.0.1, the certificate its own authority.
async fn certificate(dir: &Path) {
    make_dir(dir);
    Run::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=registry.example", "-addext", "subjectAltName=IP:127.0.0.1,DNS:registry.example"])
        .args(["-keyout", "registry.key", "-out", "registry.crt"])
        .current_dir(dir)
        .ok()
        .await;
}

/// A tar archive of one file of random bytes: a layer that no compression makes smaller.
async fn big_layer(dir: &Path, mebibytes: u64) -> PathBuf {
    let count = format!("count={mebibytes}");
    let dd = Run::new("dd").args(["if=/dev/urandom", "of=random.bin", "bs=1M", "iflag=fullblock", &count]);
    dd.current_dir(dir).ok().await;
    let archive = dir.join("layer.tar");
    Run::new("tar").arg("-C").arg(dir).arg("-cf").arg(&archive).args(["--remove-files", "random.bin"]).ok().await;
    archive
}

/// 128 MiB; with `HYTHE_LONG=1` 2 GiB, which takes some minutes and 6 GB of disk.
fn mebibytes() -> u64 {
    if env::var_os("HYTHE_LONG").is_some() { 2048 } else { 128 }
}

#[tokio::test]
async fn docker_pushes_and_pulls_a_big_layer_through_nginx() {
    let nginx = Nginx::start().await;
    let acme = nginx.harness.account("acme").await;
    let daemon = Daemon::start(&nginx.harness).await;
    let reference = format!("{}/acme/docker/big:v1", nginx.host);
    let layer = big_layer(&nginx.dir, mebibytes()).await;
    daemon.docker().patience(PATIENCE).arg("import").arg(&layer).arg(&reference).ok().await;
    std::fs::remove_file(&layer).unwrap();
    nginx.login(&daemon, &acme.push().await).ok().await.says("Login Succeeded");
    let pushed = daemon.docker().patience(PATIENCE).args(["push", &reference]).ok().await.digest();
    assert_eq!(digest_of(&acme, "acme/docker/big", "v1").await, pushed);
    daemon.docker().args(["rmi", "-f", &reference]).ok().await;
    nginx.login(&daemon, &acme.pull().await).ok().await;
    assert_eq!(daemon.docker().patience(PATIENCE).args(["pull", &reference]).ok().await.digest(), pushed);
    assert_eq!(nginx.addresses("docker"), ["127.0.0.1"]);
    // Nothing was collected on nginx's disk first, which it says where it does.
    let log = read_text(&nginx.dir.join("error.log"));
    assert!(!log.contains("buffered to a temporary file"), "{log}");
}

#[tokio::test]
async fn helm_oras_and_both_versions_of_http_work_through_nginx() {
    let nginx = Nginx::start().await;
    let acme = nginx.harness.account("acme").await;
    let key = acme.push().await;

    let home = nginx.harness.scratch("helm");
    let helm =
        || nginx.dress(Run::new("helm")).env("HOME", &home).env("HELM_REGISTRY_CONFIG", home.join("registry.json"));
    let login = helm().args(["registry", "login", &nginx.host, "--password-stdin", "-u", &key.username]);
    login.input(key.password.clone()).ok().await;
    let chart = fixture::chart("web", "0.1.0");
    let archive = home.join(chart.file_name());
    write_file(&archive, &chart.archive);
    let charts = format!("oci://{}/acme/charts", nginx.host);
    let pushed = helm().arg("push").arg(&archive).arg(&charts).ok().await.digest();
    let pull = helm().args(["pull", &format!("{charts}/web"), "--version", "0.1.0", "--destination"]);
    assert_eq!(pull.arg(nginx.harness.scratch("pulled")).ok().await.digest(), pushed);

    let oras = || {
        let run = nginx.dress(Run::new("hythe-oras-go")).env("ORAS_TLS", "1");
        run.env("ORAS_USERNAME", &key.username).env("ORAS_PASSWORD", &key.password)
    };
    let note = home.join("note.txt");
    write_file(&note, b"a note through nginx");
    let remote = format!("{}/acme/oras:v1", nginx.host);
    let pushed = oras().args(["push", &remote]).arg(&note).ok().await.digest();
    let to = nginx.harness.scratch("note");
    assert_eq!(oras().args(["pull", &remote]).arg(&to).ok().await.digest(), pushed);
    assert_eq!(read_text(&to.join("note.txt")), "a note through nginx");

    let url = format!("https://{}/v2/acme/oras/manifests/v1", nginx.host);
    for version in ["--http1.1", "--http2"] {
        let user = format!("{}:{}", key.username, key.password);
        let got = nginx.curl(version).args(["--user", &user, &url]).ok().await;
        assert_eq!(fixture::Algorithm::Sha256.digest(got.stdout.as_bytes()), pushed);
    }
    assert_eq!(nginx.protocols(), ["HTTP/1.1", "HTTP/2.0"]);
    for agent in ["helm", "go-http-client", "curl"] {
        assert_eq!(nginx.addresses(agent), ["127.0.0.1"], "{agent}");
    }
}

/// A client that brings its own X-Forwarded headers is logged under the address that it came from, and named no other host.
#[tokio::test]
async fn a_client_behind_nginx_cannot_say_where_it_comes_from() {
    let nginx = Nginx::start().await;
    let ask = nginx.curl("--http2").args(["--interface", "127.0.0.9", "--user-agent", "forger"]);
    let answer = ask
        .args([
            "-H",
            "X-Forwarded-For: 203.0.113.9",
            "-H",
            "X-Forwarded-Host: evil.example",
            "-H",
            "X-Forwarded-Proto: http",
        ])
        .args(["--no-fail", "--include", &format!("https://{}/v2/", nginx.host)])
        .ok()
        .await;
    answer.says(&format!("realm=\"https://{}/token\"", nginx.host));
    assert_eq!(nginx.addresses("forger"), ["127.0.0.9"]);
    // Who is no trusted proxy is not believed: here the test itself, from 127.0.0.1.
    let direct = Run::new("curl").args([
        "--silent",
        "--include",
        "--user-agent",
        "direct",
        "-H",
        "X-Forwarded-For: 203.0.113.9",
    ]);
    direct.arg(format!("http://{}/v2/", nginx.harness.host())).ok().await;
    assert_eq!(nginx.addresses("direct"), ["127.0.0.1"]);
}
