//! The Helm chart: what it renders, read as YAML, and what it refuses.

use conformance::{
    Harness, Store,
    harness::{binary, read_text, write_file},
    tools::Run,
};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::file;

fn helm(args: &[&str]) -> Run {
    Run::new("helm").args(args).arg(file("chart"))
}

/// A chart rendered with values, given as YAML.
struct Rendered(Vec<Value>);

impl Rendered {
    async fn with(values: &str) -> Self {
        let output = render(values).ok().await.stdout;
        let documents = serde_yaml_ng::Deserializer::from_str(&output).map(|d| Value::deserialize(d).unwrap());
        Self(documents.filter(|document| !document.is_null()).collect())
    }

    /// The one object of this kind and name.
    #[track_caller]
    fn object(&self, kind: &str, name: &str) -> &Value {
        let found: Vec<_> = self.0.iter().filter(|o| o["kind"] == kind && o["metadata"]["name"] == name).collect();
        assert_eq!(found.len(), 1, "{kind} {name}: {found:?}");
        found[0]
    }

    fn kinds(&self) -> Vec<&str> {
        let mut kinds: Vec<_> = self.0.iter().map(|object| object["kind"].as_str().unwrap()).collect();
        kinds.sort_unstable();
        kinds
    }

    fn pod(&self) -> &Value {
        &self.object("StatefulSet", "r-hythe")["spec"]["template"]["spec"]
    }

    /// A variable of the container.
    fn variable(&self, name: &str) -> Option<&str> {
        let variables = self.pod()["containers"][0]["env"].as_array().unwrap();
        variables.iter().find(|variable| variable["name"] == name)?["value"].as_str()
    }

    /// The configuration as the container will have it is one that the program accepts.
    async fn check(&self) -> String {
        let harness = Harness::stopped(Store::Local).await;
        let config = harness.scratch("config").join("hythe.toml");
        let text = self.object("ConfigMap", "r-hythe")["data"]["hythe.toml"].as_str().unwrap();
        write_file(&config, text.as_bytes());
        let mut run = Run::of(&binary()).args(["config", "show", "--output", "json"]);
        for variable in self.pod()["containers"][0]["env"].as_array().unwrap() {
            let (name, value) = (variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap());
            let value = match name {
                "HYTHE_CONFIG" => config.display().to_string(),
                // What is mounted into the container is not here.
                "HYTHE_SEAL_KEY_FILE" | "HYTHE_TLS_CERT" | "HYTHE_TLS_KEY" => continue,
                _ => value.to_owned(),
            };
            run = run.env(name, value);
        }
        run.ok().await.stdout
    }
}

fn render(values: &str) -> Run {
    helm(&["template", "r", "--namespace", "hythe", "--values", "-"]).input(values)
}

/// The value of a setting in what `config show` prints.
fn setting(shown: &str, key: &str) -> String {
    let rows: Value = serde_json::from_str(shown).unwrap();
    let row = rows.as_array().unwrap().iter().find(|row| row["key"] == key);
    row.map(|row| row["value"].as_str().unwrap().to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn helm_finds_nothing_to_say_against_the_chart() {
    helm(&["lint", "--strict"]).ok().await.says("0 chart(s) failed");
    let version = env!("CARGO_PKG_VERSION");
    let chart: Value = serde_yaml_ng::from_str(&read_text(&file("chart/Chart.yaml"))).unwrap();
    assert_eq!((&chart["version"], &chart["appVersion"]), (&json!(version), &json!(version)));
}

#[tokio::test]
async fn the_chart_as_it_stands_is_one_locked_in_replica_on_a_volume() {
    let rendered = Rendered::with("{}").await;
    assert_eq!(rendered.kinds(), ["ConfigMap", "Service", "Service", "ServiceAccount", "StatefulSet"]);
    let set = &rendered.object("StatefulSet", "r-hythe")["spec"];
    assert_eq!(set["replicas"], 1);
    assert_eq!(set["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"], "20Gi");
    assert_eq!(set["selector"]["matchLabels"], rendered.object("Service", "r-hythe")["spec"]["selector"]);
    let pod = rendered.pod();
    assert_eq!(pod["enableServiceLinks"], false);
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(rendered.object("ServiceAccount", "r-hythe")["automountServiceAccountToken"], false);
    // The restricted Pod Security Standard.
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let container = &pod["containers"][0];
    let security = &container["securityContext"];
    assert_eq!(
        (&security["allowPrivilegeEscalation"], &security["readOnlyRootFilesystem"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(container["image"], concat!("hythe:", env!("CARGO_PKG_VERSION")));
    assert_eq!(
        container["readinessProbe"]["httpGet"],
        json!({"path": "/readyz", "port": "registry", "scheme": "HTTP"})
    );
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/healthz");
    let shown = rendered.check().await;
    assert_eq!((setting(&shown, "data"), setting(&shown, "listen")), ("/data".to_owned(), "0.0.0.0:5080".to_owned()));
}

#[tokio::test]
async fn every_value_reaches_its_object() {
    let rendered = Rendered::with(
        r#"
image: {repository: images.example/hythe, digest: "sha256:1111111111111111111111111111111111111111111111111111111111111111"}
imagePullSecrets: [{name: regcred}]
publicUrls: ["https://registry.example", "https://other.example:8443"]
trustedProxies: [10.42.0.0/16]
config: {log: {format: json}, limits: {connections: 5000, body_timeout: 2m}, read_only: true}
persistence: {size: 5Gi, storageClassName: fast}
sealKey: {existingSecret: seal}
tls: {existingSecret: registry-tls}
service: {type: LoadBalancer, port: 443, loadBalancerSourceRanges: [192.0.2.0/24]}
ingress: {enabled: true, className: nginx, hosts: [registry.example], tls: [{secretName: t, hosts: [registry.example]}]}
serviceMonitor: {enabled: true, labels: {release: prometheus}}
serviceAccount: {annotations: {eks.amazonaws.com/role-arn: role}}
env: [{name: RUST_BACKTRACE, value: "1"}]
envFrom: [{secretRef: {name: bucket}}]
"#,
    )
    .await;
    let pod = rendered.pod();
    let container = &pod["containers"][0];
    assert!(container["image"].as_str().unwrap().starts_with("images.example/hythe@sha256:1111"));
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "regcred"}]));
    assert_eq!(container["envFrom"], json!([{"secretRef": {"name": "bucket"}}]));
    assert_eq!(container["readinessProbe"]["httpGet"]["scheme"], "HTTPS");
    assert_eq!(rendered.variable("RUST_BACKTRACE"), Some("1"));
    // Secrets come as files from Secrets of the operator's own; none is in the chart's objects.
    assert_eq!(rendered.variable("HYTHE_SEAL_KEY_FILE"), Some("/etc/hythe/seal/seal-key"));
    assert_eq!(rendered.variable("HYTHE_TLS_KEY"), Some("/etc/hythe/tls/tls.key"));
    let volumes = pod["volumes"].as_array().unwrap();
    for (name, secret) in [("seal", "seal"), ("tls", "registry-tls")] {
        let volume = volumes.iter().find(|volume| volume["name"] == name).unwrap();
        assert_eq!(volume["secret"]["secretName"], secret);
    }
    let service = &rendered.object("Service", "r-hythe")["spec"];
    assert_eq!((&service["type"], &service["ports"][0]["port"]), (&json!("LoadBalancer"), &json!(443)));
    // Metrics are on a service of their own, which no ingress and no balancer leads to.
    assert_eq!(service["ports"].as_array().unwrap().len(), 1);
    assert_eq!(rendered.object("Service", "r-hythe-operations")["spec"]["type"], "ClusterIP");
    let ingress = rendered.object("Ingress", "r-hythe");
    assert_eq!(ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"], "0");
    assert_eq!(ingress["spec"]["rules"][0]["host"], "registry.example");
    let monitor = rendered.object("ServiceMonitor", "r-hythe");
    let operations = rendered.object("Service", "r-hythe-operations");
    for (label, value) in monitor["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&operations["metadata"]["labels"][label], value, "{label}");
    }
    let account = rendered.object("ServiceAccount", "r-hythe");
    assert_eq!(account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"], "role");
    let shown = rendered.check().await;
    for (key, value) in [
        ("public_url", "https://registry.example,https://other.example:8443"),
        ("trusted_proxy", "10.42.0.0/16"),
        ("log.format", "json"),
        ("limits.connections", "5000"),
        ("limits.body_timeout", "2m"),
        ("read_only", "true"),
        ("operations", "0.0.0.0:5081"),
    ] {
        assert_eq!(setting(&shown, key), value, "{key}: {shown}");
    }
}

#[tokio::test]
async fn a_bucket_takes_the_place_of_the_volume() {
    let rendered = Rendered::with("{store: {url: 's3://bucket/prefix'}, operations: {enabled: false}}").await;
    let set = &rendered.object("StatefulSet", "r-hythe")["spec"];
    assert_eq!(set["volumeClaimTemplates"], Value::Null);
    assert_eq!(rendered.kinds(), ["ConfigMap", "Service", "ServiceAccount", "StatefulSet"]);
    // The image names a folder, which this takes back.
    assert_eq!(rendered.variable("HYTHE_DATA"), Some(""));
    let shown = rendered.check().await;
    assert_eq!((setting(&shown, "store"), setting(&shown, "operations")), ("s3://bucket/prefix".into(), "off".into()));
}

#[tokio::test]
async fn declared_accounts_reach_the_configuration_with_everything_said_of_them() {
    let hash = "5".repeat(64);
    let values = format!(
        r#"
accounts:
  - name: acme
    gen: 0123456789ab
    display: "Acme \"& Sons\""
    public: [acme/public/*]
    hosts: [registry.acme.com]
    max_ttl_pull: 7d
    keys:
      - {{id: 0123456789abcdef, hash: "{hash}"}}
      - {{id: 0123456789abcdeg, hash: "{hash}", role: publisher, delete: true, repositories: [acme/web/*], label: ci}}
  - name: beta
    gen: ba9876543210
"#
    );
    let rendered = Rendered::with(&values).await;
    assert_eq!(setting(&rendered.check().await, "accounts"), "acme,beta");
    let text = rendered.object("ConfigMap", "r-hythe")["data"]["hythe.toml"].as_str().unwrap();
    let file: toml::Table = text.parse().unwrap();
    let accounts = serde_json::to_value(&file["accounts"]).unwrap();
    assert_eq!(accounts[0]["display"], "Acme \"& Sons\"");
    assert_eq!(accounts[0]["public"], json!(["acme/public/*"]));
    assert_eq!(accounts[0]["hosts"], json!(["registry.acme.com"]));
    assert_eq!(accounts[0]["keys"][0], json!({"id": "0123456789abcdef", "hash": hash}));
    assert_eq!((&accounts[0]["keys"][1]["delete"], &accounts[0]["keys"][1]["label"]), (&json!(true), &json!("ci")));
    assert_eq!(accounts[1], json!({"name": "beta", "gen": "ba9876543210"}));
}

#[tokio::test]
async fn a_restart_follows_a_changed_configuration() {
    let sum = |rendered: &Rendered| {
        rendered.object("StatefulSet", "r-hythe")["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
            .clone()
    };
    let (one, other) = (Rendered::with("{}").await, Rendered::with("{config: {log: {filter: debug}}}").await);
    assert!(sum(&one).is_string());
    assert_ne!(sum(&one), sum(&other));
    assert_eq!(sum(&one), sum(&Rendered::with("{podLabels: {a: b}}").await));
}

#[tokio::test]
async fn values_that_cannot_work_are_refused_with_their_place() {
    for (values, place) in [
        ("{replicas: 2}", "/replicas"),
        ("{replicas: 3, store: {url: 's3://bucket'}}", "/replicas"),
        ("{replcas: 1}", "replcas"),
        ("{publicUrls: [registry.example]}", "/publicUrls/0"),
        ("{config: {data: /elsewhere}}", "invalid propertyName 'data'"),
        ("{ingress: {enabled: true}}", "/ingress/hosts"),
        ("{accounts: [{name: acme, gen: 0123456789ab, keys: [{key: hyak_secret}]}]}", "/accounts/0/keys/0"),
        ("{accounts: [{name: Acme}]}", "/accounts/0"),
        (
            "{serviceMonitor: {enabled: true}, operations: {enabled: false}}",
            "serviceMonitor.enabled needs operations.enabled",
        ),
    ] {
        render(values).fails().await.says(place);
    }
}

#[tokio::test]
async fn the_notes_lead_to_the_first_login() {
    let notes = |values: &'static str| async move {
        let run =
            Run::new("helm").args(["install", "r"]).arg(file("chart")).args(["--dry-run=client", "--values", "-"]);
        let output = run.input(values).ok().await.stdout;
        output.split_once("NOTES:").unwrap().1.to_owned()
    };
    let plain = notes("{}").await;
    for line in [
        "port-forward service/r-hythe 5080:5080",
        "exec r-hythe-0 -- hythe account create acme",
        "exec r-hythe-0 -- hythe credential create acme --kind push --output login",
    ] {
        assert!(plain.contains(line), "{plain}");
    }
    let named = notes("{publicUrls: ['https://registry.example']}").await;
    assert!(named.contains("It answers to https://registry.example.") && !named.contains("port-forward"), "{named}");
}
