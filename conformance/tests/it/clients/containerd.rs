//! containerd, through ctr, with a daemon of the test's own.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use conformance::{
    Harness,
    fixture::{self, Algorithm, Format},
    harness::{log_file, running, write_file},
    push,
    tools::{self, Run},
};
use serde_json::Value;

use super::{bad_keys, digest_of};

/// A containerd with its own root, state and socket, without CRI.
pub(crate) struct Daemon {
    child: Child,
    socket: PathBuf,
}

impl Daemon {
    pub(crate) async fn start(harness: &Harness) -> Self {
        let dir = harness.scratch("containerd");
        let (config, log, socket) = (dir.join("config.toml"), dir.join("log"), dir.join("containerd.sock"));
        let text = format!(
            "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {socket:?}\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\npath = {:?}\n",
            dir.join("opt")
        );
        write_file(&config, text.as_bytes());
        let child = Command::new(tools::find("containerd"))
            .arg("--config")
            .arg(&config)
            .arg("--root")
            .arg(dir.join("root"))
            .arg("--state")
            .arg(dir.join("state"))
            .stdin(Stdio::null())
            .stdout(log_file(&log))
            .stderr(log_file(&log))
            .spawn()
            .unwrap();
        let mut daemon = Self { child, socket };
        running(
            &mut daemon,
            |daemon| &mut daemon.child,
            &log,
            async |daemon| daemon.ctr().args(["images", "ls", "-q"]).end().await.success,
        )
        .await;
        daemon
    }

    pub(crate) fn ctr(&self) -> Run {
        Run::new("ctr").arg("--address").arg(&self.socket)
    }

    /// The same, started through a program that executes what follows in its own place.
    pub(crate) fn ctr_through(&self, through: &[String]) -> Run {
        let run = Run::new(&through[0]).args(&through[1..]).arg(tools::find("ctr"));
        run.arg("--address").arg(&self.socket)
    }

    pub(crate) fn pull(&self, pair: &str, reference: &str) -> Run {
        self.ctr().args(["images", "pull", "--plain-http", "--snapshotter", "native", "--user", pair, reference])
    }

    /// The digest that containerd keeps under a name.
    pub(crate) async fn digest(&self, reference: &str) -> String {
        self.ctr().args(["images", "ls", &format!("name=={reference}")]).ok().await.digest()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[tokio::test]
async fn containerd_pushes_and_pulls_the_same_digests() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let daemon = Daemon::start(&harness).await;
    let key = acme.push().await;
    let pair = format!("{}:{}", key.username, key.password);
    for (name, bundle) in [
        ("image", fixture::image("containerd", Format::Oci)),
        ("index", fixture::index("containerd", Algorithm::Sha256, false)),
    ] {
        let reference = format!("{}/acme/containerd/{name}:v1", harness.host());
        push::bundle(&acme.caller(&key), &format!("acme/containerd/{name}"), "v1", &bundle).await;
        daemon.pull(&pair, &reference).ok().await;
        assert_eq!(daemon.digest(&reference).await, bundle.root().digest);
        if name == "image" {
            let copy = format!("{}/acme/containerd/copy:v1", harness.host());
            let push = ["images", "push", "--plain-http", "--user", &pair, &copy, &reference];
            daemon.ctr().args(push).ok().await;
            assert_eq!(digest_of(&acme, "acme/containerd/copy", "v1").await, bundle.root().digest);
        }
    }
}

/// ctr prints no more than the status of a refused pull.
#[tokio::test]
async fn containerd_is_refused_with_every_bad_key() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let daemon = Daemon::start(&harness).await;
    let key = acme.push().await;
    push::bundle(&acme.caller(&key), "acme/containerd", "v1", &fixture::image("refused", Format::Oci)).await;
    let reference = format!("{}/acme/containerd:v1", harness.host());
    let copy = format!("{}/acme/containerd:v2", harness.host());
    let good = format!("{}:{}", key.username, key.password);
    for bad in bad_keys(&harness).await {
        let pair = format!("{}:{}", bad.credential.username, bad.credential.password);
        let status = if bad.refused_at_login { "401 Unauthorized" } else { "403 Forbidden" };
        daemon.pull(&pair, &reference).fails().await.says(status);
    }
    daemon.pull(&good, &reference).ok().await;
    for bad in bad_keys(&harness).await {
        let pair = format!("{}:{}", bad.credential.username, bad.credential.password);
        daemon.ctr().args(["images", "push", "--plain-http", "--user", &pair, &copy, &reference]).fails().await;
    }
    acme.caller(&key).send(conformance::Request::get("/v2/acme/containerd/manifests/v2")).await.expect(404);
}

/// What a kubelet does with the Secret: the one host's user name and password, from the base64 in its data.
#[tokio::test]
async fn containerd_pulls_with_the_login_from_the_rendered_secret() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let daemon = Daemon::start(&harness).await;
    let bundle = fixture::image("secret", Format::Oci);
    push::bundle(&acme.caller(&acme.push().await), "acme/secret", "v1", &bundle).await;
    let secret = acme.pull().await.field("kubernetes_secret").to_owned();
    assert!(secret.contains("type: kubernetes.io/dockerconfigjson"), "{secret}");
    let line = secret.lines().find_map(|line| line.trim().strip_prefix(".dockerconfigjson: ")).unwrap();
    let config: Value = serde_json::from_slice(&STANDARD.decode(line).unwrap()).unwrap();
    let auths = config["auths"].as_object().unwrap();
    assert_eq!(auths.keys().collect::<Vec<_>>(), [&harness.host()]);
    let entry = &auths[&harness.host()];
    let pair = format!("{}:{}", entry["username"].as_str().unwrap(), entry["password"].as_str().unwrap());
    assert_eq!(STANDARD.decode(entry["auth"].as_str().unwrap()).unwrap(), pair.as_bytes());
    let reference = format!("{}/acme/secret:v1", harness.host());
    daemon.pull(&pair, &reference).ok().await;
    assert_eq!(daemon.digest(&reference).await, bundle.root().digest);
}
