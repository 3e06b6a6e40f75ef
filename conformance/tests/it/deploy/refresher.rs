//! The chart of the secret refresher, and the kubelet's example: what they render and what they refuse. That their rights are
//! enough is shown in `kubernetes::renewal`.

use conformance::{harness::read_text, tools::Run};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::file;

const EVERYWHERE: &str = "{name: pull, account: acme, key: {secret: acme-key, key: key}, namespaceSelector: 'a=b', serviceAccounts: \
                          [default]}";

fn helm(args: &[&str]) -> Run {
    Run::new("helm").args(args).arg(file("secret-refresher"))
}

fn values(secrets: &str, more: &str) -> String {
    format!("{{url: 'https://registry.example', secrets: [{secrets}], {more}}}")
}

async fn rendered(secrets: &str, more: &str) -> Vec<Value> {
    let template = helm(&["template", "r", "--namespace", "ops", "--values", "-"]).input(values(secrets, more));
    let output = template.ok().await.stdout;
    let documents = serde_yaml_ng::Deserializer::from_str(&output).map(|d| Value::deserialize(d).unwrap());
    documents.filter(|document| !document.is_null()).collect()
}

#[track_caller]
fn object<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found: Vec<_> = objects.iter().filter(|object| object["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind}: {found:?}");
    found[0]
}

fn kinds(objects: &[Value]) -> Vec<&str> {
    let mut kinds: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    kinds
}

#[tokio::test]
async fn helm_finds_nothing_to_say_against_the_refresher_s_chart() {
    helm(&["lint", "--strict", "--values", "-"]).input(values(EVERYWHERE, "")).ok().await.says("0 chart(s) failed");
    let version = env!("CARGO_PKG_VERSION");
    let chart: Value = serde_yaml_ng::from_str(&read_text(&file("secret-refresher/Chart.yaml"))).unwrap();
    assert_eq!((&chart["version"], &chart["appVersion"]), (&json!(version), &json!(version)));
}

#[tokio::test]
async fn the_refresher_gets_no_right_that_its_entries_do_not_need() {
    let objects = rendered(EVERYWHERE, "").await;
    let all = ["ClusterRole", "ClusterRoleBinding", "ConfigMap", "Deployment", "ServiceAccount"];
    assert_eq!(kinds(&objects), all);
    let core = |resource: &str, verbs: Value| json!({"apiGroups": [""], "resources": [resource], "verbs": verbs});
    let named = |resource: &str, name: &str| {
        let mut rule = core(resource, json!(["get", "patch"]));
        rule["resourceNames"] = json!([name]);
        rule
    };
    let mut rules = vec![
        core("namespaces", json!(["list", "watch"])),
        named("secrets", "pull"),
        core("secrets", json!(["create"])),
        named("serviceaccounts", "default"),
        core("events", json!(["create"])),
    ];
    assert_eq!(object(&objects, "ClusterRole")["rules"], json!(rules));
    rules.remove(2);
    assert_eq!(object(&rendered(EVERYWHERE, "create: false").await, "ClusterRole")["rules"], json!(rules));

    // In namespaces that are named it has a role in each, and none for the cluster.
    let there =
        "{name: argo, account: acme, key: {secret: k, key: key}, namespaces: [argocd], annotatedServiceAccounts: true}";
    let objects = rendered(there, "").await;
    assert_eq!(kinds(&objects), ["ConfigMap", "Deployment", "Role", "RoleBinding", "ServiceAccount"]);
    let role = object(&objects, "Role");
    assert_eq!(role["metadata"]["namespace"], "argocd");
    let rules = json!([
        named("secrets", "argo"),
        core("secrets", json!(["create"])),
        core("serviceaccounts", json!(["list", "patch"])),
        core("events", json!(["create"])),
    ]);
    assert_eq!(role["rules"], rules);
    assert_eq!(object(&objects, "RoleBinding")["subjects"][0]["namespace"], "ops");
}

#[tokio::test]
async fn the_refresher_s_pod_is_locked_in_and_finds_its_keys() {
    let ca = "ca: {configMap: authority}, env: [{name: HTTPS_PROXY, value: 'http://proxy.example:3128'}]";
    let objects = rendered(EVERYWHERE, ca).await;
    let pod = &object(&objects, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let container = &pod["containers"][0];
    let security = &container["securityContext"];
    let (no, yes) = (json!(false), json!(true));
    assert_eq!((&security["allowPrivilegeEscalation"], &security["readOnlyRootFilesystem"]), (&no, &yes));
    assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(container["env"][0]["name"], "HTTPS_PROXY");
    let config = object(&objects, "ConfigMap")["data"]["secret-refresher.toml"].as_str().unwrap();
    let config: toml::Table = config.parse().unwrap();
    assert_eq!(config["ca_file"].as_str(), Some("/etc/hythe/ca/ca.crt"));
    assert_eq!(config["secret"][0]["key_file"].as_str(), Some("/etc/hythe/keys/acme-key/key"));
    let mounted = |path: &str| {
        let mounts = container["volumeMounts"].as_array().unwrap();
        let name = &mounts.iter().find(|mount| mount["mountPath"] == path).unwrap()["name"];
        pod["volumes"].as_array().unwrap().iter().find(|volume| &volume["name"] == name).unwrap().clone()
    };
    let key = mounted("/etc/hythe/keys/acme-key");
    // A file that others than the pod's group can read would be refused. Kubernetes reads the number as YAML 1.1 does.
    assert_eq!((&key["secret"]["secretName"], &key["secret"]["defaultMode"]), (&json!("acme-key"), &json!("0440")));
    assert_eq!(mounted("/etc/hythe/ca")["configMap"]["name"], "authority");
}

#[tokio::test]
async fn entries_of_the_refresher_that_cannot_work_are_refused_with_their_place() {
    for (secrets, more, place) in [
        ("", "", "/secrets"),
        ("{name: a, account: acme, key: {secret: k, key: key}}", "", "/secrets/0"),
        ("{name: a, account: acme, namespaces: [b]}", "", "/secrets/0"),
        ("{name: a, account: acme, key: {secret: k, key: key}, namespaces: [b], kind: helm}", "", "/secrets/0/kind"),
        (EVERYWHERE, "created: false", "created"),
    ] {
        let render = helm(&["template", "r", "--values", "-"]).input(values(secrets, more));
        render.fails().await.says(place);
    }
}

#[test]
fn the_kubelet_s_example_is_one_that_the_provider_reads() {
    for name in ["kubelet/credential-provider.yaml", "kubelet/credential-provider-token.yaml"] {
        let example: Value = serde_yaml_ng::from_str(&read_text(&file(name))).unwrap();
        let provider = &example["providers"][0];
        assert_eq!(provider["name"], "hythe-credential-provider");
        assert_eq!(provider["args"], json!(["--config=/etc/hythe/credential-provider.toml"]));
    }
    let file: toml::Table = read_text(&file("kubelet/credential-provider.toml")).parse().unwrap();
    assert_eq!(file["registry"][0]["key_file"].as_str(), Some("/etc/hythe/acme.key"));
}
