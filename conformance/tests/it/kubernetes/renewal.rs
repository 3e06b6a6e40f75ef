//! Keys that renew themselves: a pull credential that lives a minute keeps pods pulling for as long as the test runs.

use std::{
    env,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use conformance::{
    Actor, Harness, Request,
    client::Client,
    harness::{binary, free_address, log_file, read_text, until, write_file},
    kubernetes::{Cluster, Namespace, Provided},
    tools::{self, Run},
};
use serde_json::{Value, json};

use super::push_program;

/// How long the credentials live that are renewed here.
const LIFE: &str = "60s";
/// A pod of each namespace begins this often.
const TURN: Duration = Duration::from_secs(5);

/// Two minutes, or with `HYTHE_LONG=1` ten: so many turns.
fn turns() -> usize {
    let minutes = if env::var_os("HYTHE_LONG").is_some() { 10 } else { 2 };
    minutes * 60 / usize::try_from(TURN.as_secs()).unwrap()
}

/// An installer key of `acme` whose credentials live no longer than [`LIFE`], in a file of its owner's.
pub(crate) async fn installer_key(harness: &Harness, label: &str) -> PathBuf {
    let create =
        ["key", "create", "acme", "--role", "installer", "--max-ttl", LIFE, "--output", "json", "--label", label];
    let made: Value = serde_json::from_str(&harness.hythe(&create).await.stdout).unwrap();
    let path = harness.scratch("keys").join(label);
    write_file(&path, made["key"].as_str().unwrap().as_bytes());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// The credentials of `acme` with this label.
async fn minted(harness: &Harness, label: &str) -> Vec<Value> {
    let listed = harness.hythe(&["credential", "list", "acme", "--output", "json"]).await.stdout;
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
    listed.into_iter().filter(|one| one["label"] == label).collect()
}

/// Runs pod after pod in each namespace, each of which asks the registry for its image, and fails at the first that waits.
async fn keep_pulling(spaces: &[Namespace], image: &str) -> usize {
    let one = async |space: &Namespace| {
        let mut turn = tokio::time::interval(TURN);
        for n in 0..turns() {
            turn.tick().await;
            let name = format!("pod{n}");
            space.pod(&name, image, &[]).await;
            space.ran(&name).await;
            space.kubectl().args(["delete", "pod", &name, "--force", "--grace-period=0", "--wait=false"]).ok().await;
        }
        // The kubelet tries again what failed: that it did not have to is what its events say.
        let failed = ["get", "events", "--field-selector", "reason=Failed", "-o", "jsonpath={.items[*].message}"];
        assert_eq!(space.kubectl().args(failed).ok().await.stdout, "", "in {}", space.name());
    };
    futures::future::join_all(spaces.iter().map(one)).await;
    turns() * spaces.len()
}

async fn spaces(cluster: &'static Cluster, names: [&str; 3]) -> Vec<Namespace> {
    futures::future::join_all(names.map(|name| cluster.namespace(name))).await
}

#[tokio::test]
async fn pods_of_three_namespaces_pull_without_a_gap_through_the_credential_provider() {
    let cluster = Cluster::shared().await;
    let harness = Harness::at(cluster.registry(Provided::ByKey)).await;
    push_program(&harness.account("acme").await, "web/api").await;
    let key = installer_key(&harness, "node").await;
    cluster.provide(&format!(
        "[[registry]]\nurl = 'http://{}'\naccount = 'acme'\nkey_file = '{}'\n",
        harness.host(),
        key.display()
    ));
    let spaces = spaces(cluster, ["one", "two", "three"]).await;
    let pulled = keep_pulling(&spaces, &format!("{}/acme/web/api:1", harness.host())).await;
    // The kubelet keeps each for half of its minute, so it asked for one about every thirty seconds.
    let minted = minted(&harness, "hythe-credential-provider").await;
    let turns = turns();
    assert!((turns / 12 * 2 - 1..=turns).contains(&minted.len()), "{pulled} pods, {} credentials", minted.len());
    println!("{pulled} pods pulled through {} credentials of {LIFE}", minted.len());
}

#[tokio::test]
async fn a_pod_pulls_with_its_service_account_s_own_identity_until_that_is_no_longer_trusted() {
    let cluster = Cluster::shared().await;
    let harness = Harness::at(cluster.registry(Provided::ByToken)).await;
    let acme = harness.account("acme").await;
    push_program(&acme, "web/api").await;
    let (space, image) = (cluster.namespace("identity").await, format!("{}/acme/web/api:1", harness.host()));
    cluster.provide(&format!("[[registry]]\nurl = 'http://{}'\naccount = 'acme'\n", harness.host()));

    let raw = async |path: &str| -> Value {
        serde_json::from_str(&cluster.kubectl().args(["get", "--raw", path]).ok().await.stdout).unwrap()
    };
    let owner = acme.actor(Actor::AccessKey).await;
    let policy = json!({
        "label": "cluster",
        "issuer": raw("/.well-known/openid-configuration").await["issuer"],
        "audience": "registry.example",
        "jwks": raw("/openid/v1/jwks").await,
        "match": {"sub": format!("system:serviceaccount:{}:default", space.name())},
        "grant": {"actions": ["pull"], "repositories": ["acme/web/*"], "max_ttl_seconds": 60},
    });
    let made = Request::post("/api/v1/accounts/acme/trusts").header("content-type", "application/json");
    let made = owner.send(made.body(policy.to_string())).await.expect(201);
    let trust = made.json()["id"].as_str().unwrap().to_owned();

    let annotated = ["hythe.io/account=acme".to_owned(), format!("hythe.io/trust={trust}")];
    space.kubectl().args(["annotate", "serviceaccount", "default"]).args(&annotated).ok().await;
    space.pod("trusted", &image, &[]).await;
    space.ran("trusted").await;

    // Another service account that names the policy is not the one it trusts.
    let other = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "other", "annotations": {"hythe.io/account": "acme", "hythe.io/trust": trust}},
    });
    space.apply(&other.to_string()).await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stranger"},
        "spec": {
            "serviceAccountName": "other", "automountServiceAccountToken": false, "restartPolicy": "Never",
            "containers": [{"name": "main", "image": image, "imagePullPolicy": "Always"}],
        },
    });
    space.apply(&pod.to_string()).await;
    let refused = space.refusal("stranger").await;
    assert!(refused.contains("no user name and password were sent"), "{refused}");

    // The end of the policy is the end of what the kubelet still holds.
    let read = owner.send(Request::get(format!("/api/v1/accounts/acme/trusts/{trust}"))).await.expect(200);
    let delete = Request::delete(format!("/api/v1/accounts/acme/trusts/{trust}"));
    let ended = owner.send(delete.header("if-match", read.header("etag"))).await;
    assert!(ended.status.is_success(), "{} {}", ended.status, ended.text());
    space.pod("late", &image, &[]).await;
    space.refusal("late").await;
}

/// `hythe-credential-provider` as a kubelet runs it.
fn provider(harness: &Harness, config: &str, image: &str) -> Run {
    let link = harness.scratch("bin").join("hythe-credential-provider");
    if !link.exists() {
        std::os::unix::fs::symlink(binary(), &link).unwrap();
    }
    let path = harness.scratch("provider").join("config.toml");
    write_file(&path, config.as_bytes());
    let request = json!({
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "kind": "CredentialProviderRequest",
        "image": image,
    });
    Run::of(&link).arg("--config").arg(path).input(request.to_string())
}

#[tokio::test]
async fn the_provider_answers_for_its_accounts_alone_and_keeps_its_key_to_itself() {
    let harness = Harness::start().await;
    harness.account("acme").await;
    let key = installer_key(&harness, "provider").await;
    let cache = harness.scratch("provider").join("cache");
    let config = format!(
        "cache = '{}'\n[[registry]]\nurl = 'http://{}'\naccount = 'acme'\nkey_file = '{}'\n",
        cache.display(),
        harness.host(),
        key.display()
    );
    let answer = async |image: &str| -> Value {
        serde_json::from_str(&provider(&harness, &config, image).ok().await.stdout).unwrap()
    };
    let host = harness.host();
    let given = answer(&format!("{host}/acme/web/api:1")).await;
    let login = &given["auth"][format!("{host}/acme")];
    assert!(login["username"].as_str().unwrap().starts_with("acme.pull."), "{given}");
    assert_eq!((&given["kind"], &given["cacheKeyType"]), (&json!("CredentialProviderResponse"), &json!("Image")));
    let seconds =
        |given: &Value| given["cacheDuration"].as_str().unwrap().trim_end_matches('s').parse::<u64>().unwrap();
    assert!((25..=30).contains(&seconds(&given)), "{given}");
    // A second image of the account costs no mint.
    let second = answer(&format!("{host}/acme/other@sha256:0")).await;
    assert_eq!(second["auth"], given["auth"]);
    assert_eq!(minted(&harness, "hythe-credential-provider").await.len(), 1);
    for other in ["nginx", "elsewhere.example/acme/web:1", &format!("{host}/beta/web:1"), &format!("{host}/acme:1")] {
        let nothing = answer(other).await;
        assert_eq!((&nothing["auth"], &nothing["cacheDuration"]), (&Value::Null, &json!("0s")), "{other}");
    }

    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::remove_dir_all(&cache).unwrap();
    let refused = provider(&harness, &config, &format!("{host}/acme/web/api:1")).fails().await;
    assert!(refused.stderr.contains(key.to_str().unwrap()) && refused.stdout.is_empty(), "{}", refused.all());
    let future = provider(&harness, &config, "x").input(r#"{"apiVersion":"v2","kind":"X","image":"x"}"#).fails().await;
    future.says("speaks credentialprovider.kubelet.k8s.io/v1 alone");
}

/// The refresher as its chart would run it: with the file that the chart made and the rights of its service account.
struct Refresher {
    child: Child,
    metrics: Client,
    log: PathBuf,
}

impl Refresher {
    /// Installs the chart as `r` in `space` with these values and starts what its pod would run.
    async fn start(harness: &Harness, space: &Namespace, values: &Value, key: &Path) -> Self {
        let chart = tools::file("../deploy/secret-refresher");
        let helm = Run::new("helm").env("HOME", harness.scratch("helm")).env("KUBECONFIG", space.kubeconfig());
        helm.args(["install", "r"]).arg(chart).args(["--values", "-"]).input(values.to_string()).ok().await;
        Self::run(harness, space, key).await
    }

    async fn run(harness: &Harness, space: &Namespace, key: &Path) -> Self {
        let folder = harness.scratch("refresher");
        let file = ["get", "configmap", "r-hythe-secret-refresher", "-o", "jsonpath={.data.secret-refresher\\.toml}"];
        let file = space.kubectl().args(file).ok().await.stdout;
        let file = file.replace("/etc/hythe/keys/acme-key/key", &key.display().to_string());
        let config = folder.join("secret-refresher.toml");
        write_file(&config, file.as_bytes());
        let kubeconfig = space.kubeconfig_of("r-hythe-secret-refresher", &folder).await;
        let (address, log) = (free_address(), folder.join("log"));
        let child = Command::new(binary())
            .arg("secret-refresher")
            .args(["--listen", &address.to_string()])
            .arg("--config")
            .arg(config)
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_file(&log))
            .spawn()
            .unwrap();
        let refresher = Self { child, metrics: Client::new(address), log };
        let ready = async || refresher.metrics.try_send(Request::get("/readyz")).await.is_ok_and(|a| a.status == 200);
        until("the refresher is ready", ready).await;
        refresher
    }

    /// The seconds that the Secret of a namespace has left.
    async fn seconds(&self, space: &Namespace, name: &str) -> Option<i64> {
        let page = self.metrics.send(Request::get("/metrics")).await.expect(200).text();
        let series = format!("hythe_secret_seconds_to_expiry{{namespace=\"{}\",secret=\"{name}\"}} ", space.name());
        page.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok())
    }
}

impl Drop for Refresher {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the refresher's log\n{}", read_text(&self.log));
        }
    }
}

/// The values of a chart that keeps one Secret, with these further fields of the entry.
fn values(harness: &Harness, more: &Value) -> Value {
    let mut secret = json!({"name": "hythe-acme", "account": "acme", "key": {"secret": "acme-key", "key": "key"}});
    secret.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"url": format!("http://{}", harness.host()), "look": "1s", "secrets": [secret]})
}

async fn label(space: &Namespace, label: &str) {
    space.kubectl().args(["label", "namespace", space.name(), label]).ok().await;
}

async fn field(space: &Namespace, object: &str, path: &str) -> String {
    let got = space.kubectl().args(["get", object, "-o", &format!("jsonpath={path}"), "--ignore-not-found"]).ok().await;
    got.stdout
}

/// Until the pods of the default service account get the Secret.
async fn served(space: &Namespace) {
    let has =
        async || field(space, "serviceaccount/default", "{.imagePullSecrets[*].name}").await.contains("hythe-acme");
    until("the service account has the Secret", has).await;
}

#[tokio::test]
async fn pods_of_three_namespaces_pull_without_a_gap_through_the_refresher_and_a_new_one_starts_by_itself() {
    let (harness, cluster) = tokio::join!(Harness::start(), Cluster::shared());
    let acme = harness.account("acme").await;
    push_program(&acme, "web/api").await;
    let key = installer_key(&harness, "cluster").await;
    let home = cluster.namespace("refresher").await;
    let spaces = spaces(cluster, ["red", "green", "blue"]).await;
    let mark = format!("hythe.io/pull={}", home.name());
    for space in &spaces {
        label(space, &mark).await;
    }
    let more = json!({"namespaceSelector": mark, "serviceAccounts": ["default"]});
    let refresher = Refresher::start(&harness, &home, &values(&harness, &more), &key).await;
    for space in &spaces {
        served(space).await;
    }
    let uid = async || field(&spaces[0], "secret/hythe-acme", "{.metadata.uid}").await;
    let (before, image) = (uid().await, format!("{}/acme/web/api:1", harness.host()));

    // A namespace, and in it at once a pod that names the Secret which nobody has made.
    let newcomer = async {
        let space = cluster.namespace("new").await;
        label(&space, &mark).await;
        space.pod("first", &image, &["hythe-acme"]).await;
        space.ran("first").await;
        served(&space).await;
        space.pod("second", &image, &[]).await;
        space.ran("second").await;
        space
    };
    let (pulled, newcomer) = tokio::join!(keep_pulling(&spaces, &image), newcomer);

    assert_eq!(uid().await, before, "the Secret was changed in place");
    for space in spaces.iter().chain([&newcomer]) {
        let left = refresher.seconds(space, "hythe-acme").await.unwrap();
        assert!((20..=60).contains(&left), "{left} s left in {}", space.name());
    }
    // Each is renewed after thirty seconds, in four namespaces.
    let minted = minted(&harness, "secret-refresher hythe-acme").await.len();
    assert!(minted >= turns() / 12 * 2 * 3, "{minted} credentials");
    println!("{pulled} pods pulled through {minted} credentials of {LIFE}");

    // What the service account may do was enough for that, and is not more.
    let may = async |verb: &str, what: &str| {
        let who = format!("--as=system:serviceaccount:{}:r-hythe-secret-refresher", home.name());
        spaces[0].kubectl().args(["auth", "can-i", verb, what, &who]).end().await.stdout.trim() == "yes"
    };
    for (verb, what) in [("get", "secrets/hythe-acme"), ("patch", "serviceaccounts/default"), ("create", "secrets")] {
        assert!(may(verb, what).await, "{verb} {what}");
    }
    for (verb, what) in [
        ("get", "secrets/other"),
        ("list", "secrets"),
        ("delete", "secrets/hythe-acme"),
        ("patch", "secrets/other"),
        ("patch", "serviceaccounts/other"),
        ("list", "serviceaccounts"),
        ("create", "pods"),
    ] {
        assert!(!may(verb, what).await, "{verb} {what}");
    }
}

#[tokio::test]
async fn a_renewal_that_fails_leaves_the_old_secret_says_so_and_is_made_up_for() {
    let (mut harness, cluster) = tokio::join!(Harness::start(), Cluster::shared());
    harness.account("acme").await;
    let key = installer_key(&harness, "failing").await;
    let home = cluster.namespace("failing").await;
    let more = json!({"namespaces": [home.name()]});
    let values = values(&harness, &more);
    let refresher = Refresher::start(&harness, &home, &values, &key).await;
    let login = async || field(&home, "secret/hythe-acme", "{.data.\\.dockerconfigjson}").await;
    until("the Secret is made", async || !login().await.is_empty()).await;
    let (old, uid) = (login().await, field(&home, "secret/hythe-acme", "{.metadata.uid}").await);

    harness.kill();
    let events = async |kind: &str| {
        let selector = format!("involvedObject.kind=Secret,involvedObject.name=hythe-acme,type={kind}");
        let get = ["get", "events", "--field-selector", &selector, "-o", "jsonpath={.items[*].message}"];
        home.kubectl().args(get).ok().await.stdout
    };
    until("an Event says why", async || events("Warning").await.contains("cannot be reached")).await;
    assert_eq!(login().await, old);
    harness.boot().await;
    until("the Secret is renewed", async || login().await != old).await;
    until("an Event says so", async || events("Normal").await.contains("renewed again")).await;
    assert_eq!(field(&home, "secret/hythe-acme", "{.metadata.uid}").await, uid);
    assert!(refresher.seconds(&home, "hythe-acme").await.unwrap() > 20);

    // Deleted by hand, it is made again within a minute.
    home.kubectl().args(["delete", "secret", "hythe-acme"]).ok().await;
    until("the Secret is made again", async || !login().await.is_empty()).await;
}

#[tokio::test]
async fn each_reader_gets_its_kind_and_a_secret_of_another_type_is_left_alone() {
    let (harness, cluster) = tokio::join!(Harness::start(), Cluster::shared());
    harness.account("acme").await;
    let key = installer_key(&harness, "kinds").await;
    let home = cluster.namespace("kinds").await;
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "builder", "annotations": {"hythe.io/pull-secrets": "hythe-acme"}},
        "imagePullSecrets": [{"name": "mine"}],
    });
    home.apply(&account.to_string()).await;
    let taken = ["create", "secret", "generic", "taken", "--from-literal=a=b"];
    home.kubectl().args(taken).ok().await;
    let entry = |name: &str, kind: &str, more: Value| {
        let all = values(&harness, &json!({"name": name, "kind": kind, "namespaces": [home.name()]}));
        let mut entry = all["secrets"][0].clone();
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        entry
    };
    let mut values = values(&harness, &json!({"namespaces": [home.name()]}));
    values["secrets"] = json!([
        entry("hythe-acme", "dockerconfigjson", json!({"annotatedServiceAccounts": true})),
        entry("argo", "argocd-repository", json!({"fields": {"project": "web"}})),
        entry("flux", "flux", json!({})),
        entry("taken", "dockerconfigjson", json!({})),
    ]);
    let refresher = Refresher::start(&harness, &home, &values, &key).await;
    until("all are written", async || {
        let all = futures::future::join_all(["hythe-acme", "argo", "flux"].map(|name| refresher.seconds(&home, name)));
        all.await.into_iter().all(|left| left.is_some_and(|left| left > 0))
    })
    .await;
    let secret = async |name: &str| -> Value {
        let got = home.kubectl().args(["get", "secret", name, "-o", "json"]).ok().await.stdout;
        serde_json::from_str(&got).unwrap()
    };
    let argo = secret("argo").await;
    assert_eq!(argo["metadata"]["labels"]["argocd.argoproj.io/secret-type"], "repository");
    let fields: Vec<_> = argo["data"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields, ["enableOCI", "name", "password", "project", "type", "url", "username"]);
    assert_eq!(argo["type"], "Opaque");
    let flux = secret("flux").await;
    assert_eq!(flux["type"], "kubernetes.io/dockerconfigjson");
    assert!(flux["data"]["username"].is_string() && flux["data"][".dockerconfigjson"].is_string());
    let names = async || field(&home, "serviceaccount/builder", "{.imagePullSecrets[*].name}").await;
    until("the annotated service account has both", async || {
        let names = names().await;
        names.contains("mine") && names.contains("hythe-acme")
    })
    .await;
    assert_eq!(field(&home, "serviceaccount/default", "{.imagePullSecrets[*].name}").await, "");

    let taken = secret("taken").await;
    assert_eq!((taken["data"].clone(), &taken["type"]), (json!({"a": "Yg=="}), &json!("Opaque")));
    let why = ["get", "events", "--field-selector", "involvedObject.name=taken", "-o", "jsonpath={.items[*].message}"];
    until("an Event says why", async || {
        home.kubectl().args(why).ok().await.stdout.contains("the Secret is of the type Opaque")
    })
    .await;
}
