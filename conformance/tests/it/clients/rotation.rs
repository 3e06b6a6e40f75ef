//! Signing keys change in the middle of a push and of a pull, and no client notices; after a leak clients fetch new tokens.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
};

use conformance::{
    Credential, Harness, Store,
    fixture::{self, Algorithm, Format},
    gate::Gate,
    harness::write_file,
    push,
    tools::{Ended, Run},
};
use serde_json::Value;

use super::{containerd, docker, helm, oras, podman, skopeo};

/// Where the server listens; the gate stands where clients come.
const BEHIND: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// The middle of a push: its blobs are there, its manifest is not.
const PUSH: (&str, &str) = ("PUT", "/manifests/");
/// The middle of a pull: its manifest was read, its first blob was not.
const PULL: (&str, &str) = ("GET", "/blobs/");

struct Registry {
    harness: Harness,
    gate: Gate,
    push: Credential,
}

impl Registry {
    async fn start() -> Self {
        let mut harness = Harness::stopped(Store::Local).await;
        harness.listen_at(BEHIND);
        let address = harness.client().address();
        let gate = Gate::start(address, SocketAddr::new(BEHIND, address.port())).await;
        harness.boot().await;
        let push = harness.account("acme").await.push().await;
        Self { harness, gate, push }
    }

    fn pair(&self) -> String {
        format!("{}:{}", self.push.username, self.push.password)
    }

    /// The key that signs.
    async fn active(&self) -> String {
        let listed = self.harness.hythe(&["signing-key", "list", "--output", "json"]).await;
        let keys: Vec<Value> = serde_json::from_str(&listed.stdout).unwrap();
        let active: Vec<_> = keys.iter().filter(|key| key["state"] == "active").collect();
        assert_eq!(active.len(), 1, "{}", listed.stdout);
        active[0]["kid"].as_str().unwrap().to_owned()
    }

    /// Both steps of a rotation: the second is due once every replica must know the next key.
    async fn rotate(&self, at: i64) {
        let before = self.active().await;
        self.harness.hythe(&["signing-key", "rotate"]).await;
        assert_eq!(self.active().await, before);
        self.harness.set_clock(at);
        self.harness.hythe(&["signing-key", "rotate"]).await;
        assert_ne!(self.active().await, before);
    }

    /// Runs a client, and rotates the keys in its middle.
    async fn through(&self, middle: (&'static str, &'static str), at: i64, client: Run) -> Ended {
        let rotation = async {
            self.gate.at(middle.0, middle.1, self.rotate(at)).await;
        };
        tokio::join!(client.ok(), rotation).0
    }

    /// A push and a pull, each with a rotation in its middle, and a pull after a replacement of all keys.
    async fn notices_nothing(&self, push: Run, pull: impl AsyncFn() -> Run) {
        self.through(PUSH, 60, push).await;
        self.through(PULL, 120, pull().await).await;
        self.harness.hythe(&["signing-key", "rotate", "--now"]).await;
        self.harness.heard().await;
        pull().await.ok().await;
    }
}

#[tokio::test]
async fn docker_notices_no_rotation() {
    let registry = Registry::start().await;
    let daemon = docker::Daemon::start(&registry.harness).await;
    let image = format!("{}/acme/docker:v1", registry.harness.host());
    daemon.login_at(&registry.harness.host(), &registry.push).ok().await;
    daemon.load("rotation", &image).await;
    let push = daemon.docker().args(["push", &image]);
    let pull = async || {
        daemon.docker().args(["rmi", "-f", &image]).ok().await;
        daemon.docker().args(["pull", &image])
    };
    registry.notices_nothing(push, pull).await;
}

#[tokio::test]
async fn podman_notices_no_rotation() {
    let registry = Registry::start().await;
    let harness = &registry.harness;
    let image = format!("{}/acme/podman:v1", harness.host());
    podman::login(harness, &registry.push).ok().await;
    podman::load(harness, "rotation", &image).await;
    let push = podman::podman(harness).args(["push", "--tls-verify=false", &image]);
    let pull = async || {
        podman::podman(harness).args(["rmi", "--all", "--force"]).ok().await;
        podman::podman(harness).args(["pull", "--tls-verify=false", &image])
    };
    registry.notices_nothing(push, pull).await;
}

#[tokio::test]
async fn skopeo_notices_no_rotation() {
    let registry = Registry::start().await;
    let harness = &registry.harness;
    skopeo::login(harness, &registry.push).ok().await;
    let layout = harness.scratch("layout");
    fixture::write_layout(&fixture::index("rotation", Algorithm::Sha256, false), &layout, "v1");
    let remote = format!("docker://{}/acme/skopeo:v1", harness.host());
    let push = skopeo::copy(harness, &format!("oci:{}:v1", layout.display()), &remote);
    let pull = async || skopeo::copy(harness, &remote, &format!("dir:{}", harness.scratch("pulled").display()));
    registry.notices_nothing(push, pull).await;
}

#[tokio::test]
async fn helm_notices_no_rotation() {
    let registry = Registry::start().await;
    let harness = &registry.harness;
    helm::login(harness, &registry.push).ok().await;
    let chart = fixture::chart("rotation", "1.0.0");
    let pull = async || helm::pull(harness, &chart, "pulled");
    registry.notices_nothing(helm::push(harness, &chart), pull).await;
}

#[tokio::test]
async fn oras_notices_no_rotation() {
    let registry = Registry::start().await;
    let harness = &registry.harness;
    let note = harness.scratch("oras").join("note.txt");
    write_file(&note, b"a note while keys change");
    let remote = format!("{}/acme/oras:v1", harness.host());
    let push = oras::go(&registry.push).args(["push", &remote]).arg(&note);
    let pull = async || oras::go(&registry.push).args(["pull", &remote]).arg(harness.scratch("pulled"));
    registry.notices_nothing(push, pull).await;
}

#[tokio::test]
async fn containerd_notices_no_rotation() {
    let registry = Registry::start().await;
    let harness = &registry.harness;
    let daemon = containerd::Daemon::start(harness).await;
    let (acme, pair) = (harness.account("acme").await, registry.pair());
    // Each time another image: containerd keeps what it has for a while.
    let fresh = async |name: &str| {
        let bundle = fixture::image(&format!("rotation {name}"), Format::Oci);
        push::bundle(&acme.caller(&registry.push), &format!("acme/{name}"), "v1", &bundle).await;
        format!("{}/acme/{name}:v1", harness.host())
    };
    let source = fresh("source").await;
    daemon.pull(&pair, &source).ok().await;
    let copy = format!("{}/acme/copy:v1", harness.host());
    let push = daemon.ctr().args(["images", "push", "--plain-http", "--user", &pair, &copy, &source]);
    let count = AtomicUsize::new(0);
    let pull = async || {
        let name = format!("pulled-{}", count.fetch_add(1, Ordering::Relaxed));
        daemon.pull(&pair, &fresh(&name).await)
    };
    registry.notices_nothing(push, pull).await;
}
