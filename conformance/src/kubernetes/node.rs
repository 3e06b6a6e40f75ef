//! How each program of the cluster is started: its arguments and its configuration file.
//!
//! Everything listens on loopback, keeps its state in the cluster's own folder and finds nothing of the machine's.

#![expect(clippy::unnecessary_debug_formatting, reason = "paths in quotes, as a shell and TOML read them")]

use std::{net::SocketAddr, path::Path};

use serde_json::{Value, json};

/// The one node's name.
pub const NODE: &str = "node";
/// The image that holds a pod together; it is imported, never pulled.
pub const PAUSE: &str = "hythe.invalid/pause:1";

/// The ports of a cluster.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) etcd: u16,
    pub(super) etcd_peer: u16,
    pub(super) api: u16,
    pub(super) kubelet: u16,
    pub(super) kubelet_health: u16,
}

/// Runs as the first process of namespaces of its own for processes and mounts. What it reads it starts; when its input
/// ends, or it dies, the kernel ends all that it started, and the mounts are gone.
pub(super) fn keeper(dir: &Path) -> String {
    format!(
        "cd {dir:?}\n\
         mkdir -p /run/containerd /var/lib/kubelet /var/log/containers state\n\
         for folder in /run/containerd /var/lib/kubelet /var/log/containers state; do\n\
         mount -t tmpfs none $folder || exit 1\n\
         done\n\
         while read -r name line; do\n\
         {{ eval \"exec $line\" >$name.log 2>&1 </dev/null; }} &\n\
         done\n"
    )
}

/// What is left when the namespaces are gone: empty groups of the kernel's resource control, and the folder.
pub(super) fn sweeper(dir: &Path, group: &str) -> String {
    format!(
        "unshare --pid --mount --fork --mount-proc --kill-child sh {dir:?}/keeper.sh\n\
         find /sys/fs/cgroup -depth -type d \\( -name {group} -o -path '*/{group}/*' \\) -exec rmdir {{}} + 2>/dev/null\n\
         rm -rf {dir:?}\n"
    )
}

pub(super) fn etcd(program: &Path, ports: Ports) -> String {
    let (client, peer) = (format!("http://127.0.0.1:{}", ports.etcd), format!("http://127.0.0.1:{}", ports.etcd_peer));
    format!(
        "{program:?} --data-dir state/etcd --listen-client-urls {client} --advertise-client-urls {client} \
         --listen-peer-urls {peer} --initial-advertise-peer-urls {peer} --initial-cluster default={peer}"
    )
}

/// Every right to the one who holds the token, and to service accounts those that they were given. The admission policy that
/// puts pods on the node is in beta, so it is switched on.
pub(super) fn api_server(program: &Path, ports: Ports) -> String {
    format!(
        "{program:?} --etcd-servers http://127.0.0.1:{} --bind-address 127.0.0.1 --advertise-address 127.0.0.1 \
         --secure-port {} --tls-cert-file pki/server.pem --tls-private-key-file pki/server.pem \
         --token-auth-file tokens.csv --authorization-mode RBAC \
         --service-account-issuer https://kubernetes.default.svc --service-account-key-file service-account.pub \
         --service-account-signing-key-file service-account.pem --service-cluster-ip-range 10.96.0.0/24 \
         --endpoint-reconciler-type none --disable-admission-plugins TaintNodesByCondition \
         --feature-gates MutatingAdmissionPolicy=true --runtime-config admissionregistration.k8s.io/v1beta1=true",
        ports.etcd, ports.api
    )
}

pub(super) fn containerd(program: &Path) -> String {
    format!("{program:?} --config containerd.toml")
}

/// `oom_score_adj` cannot be lowered in every machine that runs tests. The network is the node's own.
pub(super) fn containerd_config(dir: &Path) -> String {
    format!(
        "version = 2\nroot = {:?}\nstate = {:?}\n[grpc]\naddress = {:?}\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\npath = {:?}\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = {PAUSE:?}\nrestrict_oom_score_adj = true\n\
         disable_tcp_service = true\nstream_server_address = \"127.0.0.1\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\nconf_dir = {:?}\n\
         [plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = {:?}\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"native\"\n",
        dir.join("state/containerd"),
        dir.join("state/run"),
        socket(dir),
        dir.join("state/opt"),
        dir.join("cni"),
        dir.join("certs.d"),
    )
}

/// Makes containerd say that its network is ready; every pod has the node's.
pub(super) const CNI: &str = r#"{"cniVersion":"0.4.0","name":"none","plugins":[{"type":"loopback"}]}"#;

pub(super) fn socket(dir: &Path) -> std::path::PathBuf {
    dir.join("containerd.sock")
}

/// It looks for the mount that its folder lies on, and finds it by an absolute path only.
pub(super) fn kubelet(program: &Path, dir: &Path) -> String {
    let root = dir.join("state/kubelet");
    format!(
        "{program:?} --config kubelet.json --kubeconfig kubeconfig --root-dir {root:?} --cert-dir {:?} \
         --hostname-override {NODE} --image-credential-provider-config {:?} --image-credential-provider-bin-dir {:?}",
        root.join("pki"),
        dir.join("credential-provider.json"),
        dir.join("providers"),
    )
}

pub(super) fn kubelet_config(dir: &Path, group: &str, ports: Ports) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "127.0.0.1",
        "port": ports.kubelet,
        "healthzPort": ports.kubelet_health,
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": format!("unix://{}", socket(dir).display()),
        "podLogsDir": dir.join("state/pods"),
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": false,
        "cgroupRoot": format!("/{group}"),
        "enforceNodeAllocatable": [],
        "evictionHard": {"memory.available": "0%"},
        "failCgroupV1": false,
        "failSwapOn": false,
        "localStorageCapacityIsolation": false,
        "makeIPTablesUtilChains": false,
        "serializeImagePulls": false,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
    })
}

/// An example of `deploy/kubelet` for these registries, with the provider under a name of its own, because a kubelet wants each
/// once, and with its file in the cluster's folder.
pub(super) fn credential_provider(example: &str, name: &str, dir: &Path, registries: &[SocketAddr]) -> Value {
    let mut config: Value = serde_yaml_ng::from_str(example).unwrap_or_default();
    let mut provider = config.pointer_mut("/providers/0").map(Value::take).unwrap_or_default();
    if let Some(fields) = provider.as_object_mut() {
        fields.insert("name".to_owned(), name.into());
        let images: Vec<_> = registries.iter().map(ToString::to_string).collect();
        fields.insert("matchImages".to_owned(), images.into());
        let file = format!("--config={}", dir.join("credential-provider.toml").display());
        fields.insert("args".to_owned(), vec![file].into());
    }
    provider
}

/// A way in for kubectl, helm, the kubelet and what else has a user of its own, in this namespace.
pub(super) fn kubeconfig(dir: &Path, ports: Ports, user: &Value, namespace: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "hythe", "cluster": {
            "server": format!("https://127.0.0.1:{}", ports.api),
            "certificate-authority": dir.join("pki/ca.crt"),
        }}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "hythe", "context": {"cluster": "hythe", "user": "user", "namespace": namespace}}],
        "current-context": "hythe",
    })
}

/// What a scheduler and a network would do: every pod is given the node, and the node's network.
pub(super) fn placing() -> Value {
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1beta1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": "one-node"},
        "spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
            }]},
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {
                "expression": format!("Object{{spec: Object.spec{{nodeName: {NODE:?}, hostNetwork: true}}}}"),
            }}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1beta1",
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": "one-node"},
        "spec": {"policyName": "one-node"},
    });
    json!({"apiVersion": "v1", "kind": "List", "items": [policy, binding]})
}

/// A namespace and what the controllers, which do not run here, would put into it.
pub(super) fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": name},
            "automountServiceAccountToken": false,
        },
    ]})
}
