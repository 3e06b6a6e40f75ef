//! A Kubernetes of one node: the real API server on a real etcd, a real kubelet on a real containerd, on loopback.
//!
//! There is no scheduler, no controller and no network plug-in: a policy of the API server puts every pod on the node and
//! into its network, and a namespace comes with its `default` service account. So a Deployment makes no pods here.
//! Service accounts have the rights that they are given, and no others (RBAC).
//!
//! The kubelet asks `hythe-credential-provider` for images of a few registries ([`Cluster::registry`]); it knows what
//! [`Cluster::provide`] told it.
//!
//! One cluster serves the tests of a process. It lives in namespaces of its own for processes and mounts and ends with
//! the process, however that ends: its first process reads from a pipe that only this process holds.

#![expect(clippy::panic, reason = "a cluster that cannot be started ends the test with its logs")]

mod node;

use std::{
    fmt::Write as _,
    io::Write as _,
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::{
    encoding::AsDer as _,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use config::SelfSigned;
use parking_lot::Mutex;
use registry::server::Authority;
use serde_json::{Value, json};
use storage::clock::SystemClock;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use self::node::Ports;
use crate::{
    fixture,
    harness::{binary, free_address, make_dir, read_text, write_file},
    tools::{self, Ended, Run},
};

pub use self::node::{NODE, PAUSE};

/// How often the cluster is looked at, and how often at most: two minutes in all.
const LOOK: Duration = Duration::from_millis(100);
const LOOKS: usize = 1200;

/// The programs, in the order of their starts.
const PROGRAMS: [&str; 4] = ["etcd", "containerd", "kube-apiserver", "kubelet"];

/// How many tests may have a registry that the kubelet's provider is asked for, of each kind.
const REGISTRIES: usize = 2;

/// How the kubelet's provider comes by a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provided {
    /// By a key of the node's.
    ByKey,
    /// By the token of the pod's service account, for the audience `registry.example`.
    ByToken,
}

/// An API server, its store and its one node.
#[derive(Debug)]
pub struct Cluster {
    dir: PathBuf,
    ports: Ports,
    token: String,
    /// Where registries may be started for whose images the kubelet asks its provider: it wants to know their ports.
    registries: Mutex<Vec<(Provided, SocketAddr)>>,
    /// The keeper; the cluster ends when its input is closed.
    keeper: Mutex<Child>,
}

/// A namespace of a test's own.
#[derive(Debug)]
pub struct Namespace {
    cluster: &'static Cluster,
    name: String,
}

impl Cluster {
    /// The cluster of this process, started with the first test that wants it.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// Starts one and waits until its node is ready.
    async fn start() -> Self {
        let dir = TempDir::with_prefix("hythe-kubernetes-").unwrap_or_else(|error| panic!("temporary folder: {error}"));
        // The keeper's parent removes it: it outlives this process by the time that takes.
        let dir = dir.keep();
        let group = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let port = || free_address().port();
        let ports = Ports { etcd: port(), etcd_peer: port(), api: port(), kubelet: port(), kubelet_health: port() };
        let cluster = Self {
            token: hex::encode(rand::random::<[u8; 16]>()),
            keeper: Mutex::new(keep(&dir, &group)),
            registries: Mutex::new(
                [Provided::ByKey, Provided::ByToken]
                    .iter()
                    .flat_map(|by| std::array::from_fn::<_, REGISTRIES, _>(|_| (*by, free_address())))
                    .collect(),
            ),
            dir,
            ports,
        };
        cluster.write_configuration(&group);
        let [etcd, containerd, api_server, kubelet] = PROGRAMS.map(tools::find);
        cluster.run(PROGRAMS[0], &node::etcd(&etcd, ports));
        cluster.run(PROGRAMS[1], &node::containerd(&containerd));
        cluster.run(PROGRAMS[2], &node::api_server(&api_server, ports));
        cluster.import_pause().await;
        cluster.until("the API server is ready", || cluster.kubectl().args(["get", "--raw", "/readyz"])).await;
        cluster.run(PROGRAMS[3], &node::kubelet(&kubelet, &cluster.dir));
        cluster.place_pods().await;
        let ready = ["wait", "--for=condition=Ready", "--timeout=30s", "node", NODE];
        cluster.until("the node is ready", || cluster.kubectl().args(ready)).await;
        cluster
    }

    fn write_configuration(&self, group: &str) {
        let write = |name: &str, text: &str| write_file(&self.dir.join(name), text.as_bytes());
        write("tokens.csv", &format!("{},admin,admin,system:masters\n", self.token));
        let (private, public) = service_account_keys();
        write("service-account.pem", &private);
        write("service-account.pub", &public);
        write("containerd.toml", &node::containerd_config(&self.dir));
        write("cni/none.conflist", node::CNI);
        write("kubelet.json", &node::kubelet_config(&self.dir, group, self.ports).to_string());
        let own = SelfSigned { hosts: Vec::new(), folder: self.dir.join("pki") };
        let made = Authority::new(&own, None, Arc::new(SystemClock::new())).keep();
        made.unwrap_or_else(|error| panic!("{error}"));
        self.kubeconfig("default", "kubeconfig");
        self.write_providers();
    }

    /// The two examples of `deploy/kubelet`, each for its registries.
    fn write_providers(&self) {
        make_dir(&self.dir.join("providers"));
        let providers = [Provided::ByKey, Provided::ByToken].map(|by| {
            let (example, name) = match by {
                Provided::ByKey => ("credential-provider.yaml", "hythe-credential-provider"),
                Provided::ByToken => ("credential-provider-token.yaml", "hythe-credential-provider-token"),
            };
            let link = self.dir.join("providers").join(name);
            std::os::unix::fs::symlink(binary(), link).unwrap_or_else(|error| panic!("{error}"));
            let example = read_text(&tools::file("../deploy/kubelet").join(example));
            let registries: Vec<_> =
                self.registries.lock().iter().filter(|(of, _)| *of == by).map(|(_, address)| *address).collect();
            node::credential_provider(&example, name, &self.dir, &registries)
        });
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1",
            "kind": "CredentialProviderConfig",
            "providers": providers,
        });
        write_file(&self.dir.join("credential-provider.json"), config.to_string().as_bytes());
        write_file(&self.dir.join("credential-provider.toml"), b"");
    }

    /// An address for a registry ([`Harness::at`](crate::Harness::at)) for whose images the kubelet asks its provider.
    ///
    /// # Panics
    /// When other tests have them all.
    pub fn registry(&self, by: Provided) -> SocketAddr {
        let mut registries = self.registries.lock();
        let found = registries.iter().position(|(of, _)| *of == by);
        let found = found.unwrap_or_else(|| panic!("raise REGISTRIES: {REGISTRIES} are too few"));
        registries.remove(found).1
    }

    /// Tells the node's credential provider of a registry: lines of its file, which may be added to while the node runs.
    ///
    /// # Panics
    /// When the file cannot be replaced.
    pub fn provide(&self, registry: &str) {
        static FILE: Mutex<()> = Mutex::new(());
        let _alone = FILE.lock();
        let (file, fresh) = (self.dir.join("credential-provider.toml"), self.dir.join("credential-provider.new"));
        write_file(&fresh, format!("{}{registry}\n", read_text(&file)).as_bytes());
        std::fs::rename(&fresh, &file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }

    /// Has the keeper start a program in the cluster's folder; what it prints goes to `NAME.log` there.
    fn run(&self, name: &str, command: &str) {
        let mut keeper = self.keeper.lock();
        let written = keeper.stdin.as_mut().map(|input| writeln!(input, "{name} {command}"));
        assert!(matches!(written, Some(Ok(()))), "the keeper of the cluster is gone: {}", self.logs());
    }

    async fn import_pause(&self) {
        let archive = self.dir.join("pause.tar");
        write_file(&archive, &fixture::pause_archive(PAUSE));
        self.until("the pause image is imported", || {
            let ctr = Run::new("ctr").arg("--address").arg(node::socket(&self.dir)).args(["--namespace", "k8s.io"]);
            ctr.args(["images", "import", "--snapshotter", "native"]).arg(&archive)
        })
        .await;
    }

    /// Pods find the node from the moment on when a pod that is only tried out does.
    async fn place_pods(&self) {
        let apply = || self.kubectl().args(["apply", "-f", "-"]).input(node::placing().to_string());
        self.until("the pods' places are given", apply).await;
        self.until("there is a service account", || {
            self.kubectl().args(["apply", "-f", "-"]).input(node::namespace("default").to_string())
        })
        .await;
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "probe"},
            "spec": {"containers": [{"name": "probe", "image": PAUSE}]},
        });
        let mut looks = tokio::time::interval(LOOK);
        for _ in 0..LOOKS {
            looks.tick().await;
            let probe =
                self.kubectl().args(["create", "--dry-run=server", "-o", "jsonpath={.spec.nodeName}", "-f", "-"]);
            if probe.input(pod.to_string()).end().await.stdout == NODE {
                return;
            }
        }
        panic!("pods are not given their node: {}", self.logs())
    }

    /// Runs a command until it succeeds.
    async fn until(&self, what: &str, command: impl Fn() -> Run) {
        let mut looks = tokio::time::interval(LOOK);
        let mut last = String::new();
        for _ in 0..LOOKS {
            looks.tick().await;
            let ended = command().end().await;
            if ended.success {
                return;
            }
            last = ended.all();
        }
        panic!("not within two minutes: {what}: {last}\n{}", self.logs())
    }

    /// kubectl as the cluster's administrator, in the namespace `default`.
    pub fn kubectl(&self) -> Run {
        Run::new("kubectl").env("KUBECONFIG", self.dir.join("kubeconfig"))
    }

    /// A new namespace, whose name begins with `name`.
    pub async fn namespace(&'static self, name: &str) -> Namespace {
        let name = format!("{name}-{}", hex::encode(rand::random::<[u8; 3]>()));
        let namespace = Namespace { cluster: self, name };
        self.kubeconfig(&namespace.name, &format!("{}.json", namespace.name));
        let list = node::namespace(&namespace.name).to_string();
        self.kubectl().args(["apply", "-f", "-"]).input(list).ok().await;
        namespace
    }

    /// Tells the node's containerd how to reach a registry, as the file `certs.d/NAME/hosts.toml` does.
    pub fn write_hosts(&self, registry: &str, hosts: &str) {
        write_file(&self.dir.join("certs.d").join(registry).join("hosts.toml"), hosts.as_bytes());
    }

    fn kubeconfig(&self, namespace: &str, file: &str) {
        let config = node::kubeconfig(&self.dir, self.ports, &json!({"token": self.token}), namespace);
        write_file(&self.dir.join(file), config.to_string().as_bytes());
    }

    /// The last words of each program.
    fn logs(&self) -> String {
        PROGRAMS.iter().fold(String::new(), |mut out, name| {
            let log = read_text(&self.dir.join(format!("{name}.log")));
            let from = log.char_indices().nth_back(2000).map_or(0, |(at, _)| at);
            let _infallible = write!(out, "--- {name}\n{}\n", log.get(from..).unwrap_or_default());
            out
        })
    }
}

impl Namespace {
    /// A kubeconfig for a service account of this namespace, written into a folder of the test's, with a token in a file of
    /// its own.
    pub async fn kubeconfig_of(&self, account: &str, folder: &Path) -> PathBuf {
        let token = self.kubectl().args(["create", "token", account, "--duration=1h"]).ok().await.stdout;
        write_file(&folder.join("token"), token.trim().as_bytes());
        let config =
            node::kubeconfig(&self.cluster.dir, self.cluster.ports, &json!({"tokenFile": "token"}), &self.name);
        let path = folder.join("kubeconfig");
        write_file(&path, config.to_string().as_bytes());
        path
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file for `KUBECONFIG` whose namespace is this one.
    pub fn kubeconfig(&self) -> PathBuf {
        self.cluster.dir.join(format!("{}.json", self.name))
    }

    /// kubectl in this namespace.
    pub fn kubectl(&self) -> Run {
        Run::new("kubectl").env("KUBECONFIG", self.kubeconfig())
    }

    /// Applies a document as it stands, YAML or JSON.
    pub async fn apply(&self, document: &str) -> Ended {
        self.kubectl().args(["apply", "-f", "-"]).input(document).ok().await
    }

    /// Creates a pod of one container that runs once; it always asks the registry, and shows it these Secrets.
    pub async fn pod(&self, name: &str, image: &str, secrets: &[&str]) {
        let secrets: Vec<_> = secrets.iter().map(|secret| json!({ "name": secret })).collect();
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "restartPolicy": "Never",
                "imagePullSecrets": secrets,
                "containers": [{"name": name, "image": image, "imagePullPolicy": "Always"}],
            },
        });
        self.apply(&pod.to_string()).await;
    }

    /// Waits until a pod has run to its end, and gives the image that ran.
    ///
    /// # Panics
    /// When it does not end well.
    pub async fn ran(&self, pod: &str) -> String {
        let ended = self
            .kubectl()
            .args(["wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=90s", &format!("pod/{pod}")])
            .end()
            .await;
        if !ended.success {
            let told = self.kubectl().args(["describe", "pod", pod]).end().await;
            panic!("pod {pod} does not run: {}{}{}", ended.all(), told.all(), self.cluster.logs());
        }
        let image = "jsonpath={.status.containerStatuses[0].imageID}";
        self.kubectl().args(["get", "pod", pod, "-o", image]).ok().await.stdout
    }

    /// Waits until the kubelet has failed to pull a pod's image, and gives the text of its event.
    ///
    /// # Panics
    /// When there is no such event, or the pod runs nevertheless.
    pub async fn refusal(&self, pod: &str) -> String {
        let selector = format!("involvedObject.name={pod},reason=Failed");
        let mut looks = tokio::time::interval(LOOK);
        for _ in 0..LOOKS {
            looks.tick().await;
            let events = self.kubectl().args(["get", "events", "-o", "json", "--field-selector", &selector]).ok().await;
            let events: Value = serde_json::from_str(&events.stdout).unwrap_or_default();
            let messages = events.get("items").and_then(Value::as_array).into_iter().flatten();
            let mut messages = messages.filter_map(|event| event.get("message").and_then(Value::as_str));
            if let Some(message) = messages.find(|message| message.starts_with("Failed to pull image")) {
                let phase = self.kubectl().args(["get", "pod", pod, "-o", "jsonpath={.status.phase}"]).ok().await;
                assert_eq!(phase.stdout, "Pending", "a pod whose image is refused does not run");
                return message.to_owned();
            }
        }
        panic!("the kubelet reports no failed pull of {pod}: {}", self.cluster.logs())
    }
}

/// Starts the keeper and, around it, what sweeps up after it.
fn keep(dir: &Path, group: &str) -> Child {
    write_file(&dir.join("keeper.sh"), node::keeper(dir).as_bytes());
    Command::new("sh")
        .args(["-c", &node::sweeper(dir, group)])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(crate::harness::log_file(&dir.join("keeper.log")))
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("sh: {error}"))
}

/// The pair of keys with which the API server signs its tokens for service accounts and checks them, as PEM.
fn service_account_keys() -> (String, String) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap_or_else(|error| panic!("{error}"));
    let private = pair.to_pkcs8v1().unwrap_or_else(|error| panic!("{error}"));
    let public = pair.public_key().as_der().unwrap_or_else(|error| panic!("{error}"));
    (pem("PRIVATE KEY", private.as_ref()), pem("PUBLIC KEY", public.as_ref()))
}

fn pem(label: &str, document: &[u8]) -> String {
    let body = STANDARD.encode(document);
    let lines: Vec<_> = body.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
