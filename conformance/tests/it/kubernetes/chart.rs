//! Charts: a vendor's, installed from the registry with a pod that pulls from it, and Hythe's own.

use conformance::{
    Harness,
    fixture::{gzip, tar},
    harness::write_file,
    kubernetes::{Cluster, Namespace},
    tools::{self, Run},
};

use super::push_program;

/// A chart whose one pod runs the image given, with the Secret given.
fn pod_chart(name: &str, version: &str) -> Vec<u8> {
    let chart = format!("apiVersion: v2\nname: {name}\nversion: {version}\n");
    let values = "image: \"\"\npullSecret: regcred\n";
    let pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {{ .Release.Name }}\nspec:\n  restartPolicy: Never\n  \
               imagePullSecrets:\n    - name: {{ .Values.pullSecret }}\n  containers:\n    - name: main\n      \
               image: {{ .Values.image }}\n      imagePullPolicy: Always\n";
    gzip(&tar(&[
        (&format!("{name}/Chart.yaml"), chart.as_bytes()),
        (&format!("{name}/values.yaml"), values.as_bytes()),
        (&format!("{name}/templates/pod.yaml"), pod.as_bytes()),
    ]))
}

/// helm with a home of its own, in a namespace of the cluster.
fn helm(harness: &Harness, space: &Namespace) -> Run {
    let home = harness.scratch("helm");
    Run::new("helm")
        .env("HOME", &home)
        .env("HELM_REGISTRY_CONFIG", home.join("registry.json"))
        .env("DOCKER_CONFIG", home.join("docker"))
        .env("KUBECONFIG", space.kubeconfig())
}

/// Pushes a chart of one pod with helm.
pub(crate) async fn push_chart(harness: &Harness, space: &Namespace, name: &str, version: &str) {
    let key = harness.account("acme").await.push().await;
    let login = ["registry", "login", &harness.host(), "--plain-http", "--password-stdin", "-u", &key.username];
    helm(harness, space).args(login).input(key.password.clone()).ok().await;
    let archive = harness.scratch("charts").join(format!("{name}-{version}.tgz"));
    write_file(&archive, &pod_chart(name, version));
    let to = format!("oci://{}/acme/charts", harness.host());
    helm(harness, space).arg("push").arg(&archive).args([&to, "--plain-http"]).ok().await;
    helm(harness, space).args(["registry", "logout", &harness.host()]).ok().await;
}

#[tokio::test]
async fn a_chart_and_its_image_come_from_the_registry_with_one_credential() {
    let (harness, cluster) = tokio::join!(Harness::start(), Cluster::shared());
    let acme = harness.account("acme").await;
    let digest = push_program(&acme, "web/api").await;
    let space = cluster.namespace("chart").await;
    push_chart(&harness, &space, "web", "1.0.0").await;

    let key = acme.pull().await;
    space.apply(key.field("kubernetes_secret")).await;
    let login = ["registry", "login", &harness.host(), "--plain-http", "--password-stdin", "-u", &key.username];
    helm(&harness, &space).args(login).input(key.password.clone()).ok().await;
    let chart = format!("oci://{}/acme/charts/web", harness.host());
    let image = format!("image={}/acme/web/api:1", harness.host());
    let install = ["upgrade", "--install", "web", &chart, "--version", "1.0.0", "--plain-http", "--set", &image];
    helm(&harness, &space).args(install).args(["--set", "pullSecret=hythe-acme"]).ok().await;
    let ran = space.ran("web").await;
    assert!(ran.contains(&digest), "{ran} is {digest}");
}

/// The API server checks every object of Hythe's own chart; without controllers, none becomes a pod.
#[tokio::test]
async fn the_chart_of_hythe_is_accepted_by_a_real_api_server() {
    let (harness, cluster) = tokio::join!(Harness::start(), Cluster::shared());
    let space = cluster.namespace("hythe").await;
    let chart = tools::file("../deploy/chart");
    let variants: [(&str, &[&str]); 4] = [
        ("plain", &[]),
        (
            "public",
            &[
                "--set=publicUrls={https://registry.example}",
                "--set=ingress.enabled=true",
                "--set=ingress.hosts={registry.example}",
                "--set=trustedProxies={10.42.0.0/16}",
            ],
        ),
        ("bucket", &["--set=store.url=s3://bucket/prefix", "--set=env[0].name=AWS_REGION", "--set=env[0].value=eu"]),
        (
            "sealed",
            &[
                "--set=sealKey.existingSecret=seal",
                "--set=tls.existingSecret=tls",
                "--set=persistence.existingClaim=volume",
                "--set=service.type=LoadBalancer",
            ],
        ),
    ];
    for (name, values) in variants {
        let install = helm(&harness, &space).args(["install", name]).arg(&chart).args(values);
        install.args(["--set", "image.repository=registry.example/ops/hythe"]).ok().await;
        let set = ["get", "statefulset", "-l", &format!("app.kubernetes.io/instance={name}"), "-o", "name"];
        let set = space.kubectl().args(set).ok().await.stdout;
        assert!(set.contains("statefulset.apps/"), "{name}: {set}");
        let upgrade = helm(&harness, &space).args(["upgrade", name]).arg(&chart).args(values);
        upgrade.args(["--set", "image.repository=registry.example/ops/hythe", "--set", "image.tag=next"]).ok().await;
        helm(&harness, &space).args(["uninstall", name]).ok().await;
    }
}
