//! `docker-credential-hythe`, asked by real clients: nobody logs in, and nothing ends.

use std::{env, path::PathBuf};

use conformance::{
    Harness,
    fixture::{self, Format},
    harness::{binary, write_file},
    push,
    tools::{Ended, Run},
};
use serde_json::{Value, json};

use super::docker::Daemon;

/// A home with the helper in its path, and clients that are told to use it for this harness.
struct Helped<'a> {
    harness: &'a Harness,
    home: PathBuf,
}

impl<'a> Helped<'a> {
    fn new(harness: &'a Harness) -> Self {
        let home = harness.scratch("home");
        let bin = harness.scratch("bin");
        std::os::unix::fs::symlink(binary(), bin.join("docker-credential-hythe")).unwrap();
        let config = json!({"credHelpers": {harness.host(): "hythe"}}).to_string();
        for file in ["config.json", "auth.json"] {
            write_file(&home.join("docker").join(file), config.as_bytes());
        }
        Self { harness, home }
    }

    fn dress(&self, run: Run) -> Run {
        let path = env::var("PATH").unwrap_or_default();
        run.env("HOME", &self.home)
            .env("PATH", format!("{}:{path}:/usr/sbin:/sbin", self.harness.scratch("bin").display()))
            .env("DOCKER_CONFIG", self.home.join("docker"))
            .env("REGISTRY_AUTH_FILE", self.home.join("docker/auth.json"))
            .env("HELM_REGISTRY_CONFIG", self.home.join("docker/config.json"))
    }

    fn helper(&self, verb: &str, input: &str) -> Run {
        let helper = self.harness.scratch("bin").join("docker-credential-hythe");
        self.dress(Run::of(&helper)).arg(verb).input(input)
    }

    fn client(&self, name: &str) -> Run {
        self.dress(Run::new(name))
    }

    fn store(&self, user: &str, key: &str) -> Run {
        let given = json!({"ServerURL": self.harness.host(), "Username": user, "Secret": key});
        self.helper("store", &given.to_string())
    }

    async fn get(&self) -> Value {
        serde_json::from_str(&self.helper("get", &self.harness.host()).ok().await.stdout).unwrap()
    }

    /// The credentials that the helper has minted so far.
    async fn minted(&self) -> usize {
        let listed = self.harness.hythe(&["credential", "list", "acme", "--output", "json"]).await.stdout;
        let listed: Value = serde_json::from_str(&listed).unwrap();
        listed.as_array().unwrap().iter().filter(|one| one["label"] == "docker-credential-hythe").count()
    }
}

/// An access key of `acme`.
async fn key(harness: &Harness, role: &str) -> String {
    let made = harness.hythe(&["key", "create", "acme", "--role", role, "--output", "json"]).await.stdout;
    let made: Value = serde_json::from_str(&made).unwrap();
    made["key"].as_str().unwrap().to_owned()
}

fn says(ended: &Ended, text: &str) {
    assert_eq!((ended.code, ended.stdout.trim()), (Some(1), text));
}

#[tokio::test]
async fn the_helper_speaks_the_protocol_of_docker_s_helpers() {
    let harness = Harness::start().await;
    harness.account("acme").await;
    let helped = Helped::new(&harness);
    says(&helped.helper("get", "elsewhere.example").end().await, "credentials not found in native keychain");
    says(&helped.helper("get", &harness.host()).end().await, "credentials not found in native keychain");
    assert_eq!(helped.helper("list", "").ok().await.stdout.trim(), "{}");
    helped.helper("version", "").ok().await.says("docker-credential-hythe 0.");

    let key = key(&harness, "installer").await;
    let acme = harness.account("acme").await;
    let password = acme.pull().await.password;
    helped.store("acme", &password).fails().await.says("this helper keeps access keys");
    helped.store("acme", &key).ok().await;
    let listed: Value = serde_json::from_str(&helped.helper("list", "").ok().await.stdout).unwrap();
    assert_eq!(listed, json!({harness.host(): "acme.pull"}));

    // However a client names the host, it gets the one login.
    let login = helped.get().await;
    assert!(login["Username"].as_str().unwrap().starts_with("acme.pull."), "{login}");
    assert!(login["Secret"].as_str().unwrap().starts_with("hypl_"));
    let with_scheme = helped.helper("get", &format!("http://{}/", harness.host())).ok().await.stdout;
    let with_scheme: Value = serde_json::from_str(&with_scheme).unwrap();
    assert_eq!((&with_scheme["Secret"], helped.minted().await), (&login["Secret"], 1));

    helped.helper("erase", &harness.host()).ok().await;
    helped.helper("erase", "elsewhere.example").ok().await;
    assert_ne!(helped.get().await["Secret"], login["Secret"]);
    // An installer key mints nothing that pushes; the reason is where clients read it.
    helped.store("acme.push", &key).ok().await;
    says(&helped.helper("get", &harness.host()).end().await, "this is an installer key; its role does not allow this");
}

#[tokio::test]
async fn many_clients_at_once_mint_one_login_and_the_next_after_half_its_life() {
    let harness = Harness::start().await;
    harness.account("acme").await;
    let helped = Helped::new(&harness);
    helped.store("acme", &key(&harness, "installer").await).ok().await;
    let logins = futures::future::join_all((0..8).map(|_| helped.get())).await;
    assert!(logins.iter().all(|login| login == &logins[0]), "{logins:?}");
    assert_eq!(helped.minted().await, 1);

    // A pull credential lives 12 hours.
    harness.set_clock(5 * 3600);
    let later = async || {
        let get = helped.helper("get", &harness.host());
        get.env(conformance::clock::VARIABLE, harness.clock_path()).ok().await.stdout
    };
    assert!(later().await.contains(logins[0]["Username"].as_str().unwrap()));
    harness.set_clock(7 * 3600);
    assert!(!later().await.contains(logins[0]["Username"].as_str().unwrap()));
    assert_eq!(helped.minted().await, 2);
}

#[tokio::test]
async fn a_source_that_others_can_read_is_refused_and_the_environment_is_one_too() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let harness = Harness::start().await;
    harness.account("acme").await;
    let helped = Helped::new(&harness);
    let key = key(&harness, "publisher").await;
    helped.store("acme", &key).ok().await;
    let folder = helped.home.join(".config/hythe/docker");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join("sources"))), (0o700, 0o700));
    let source = folder.join("sources").join(format!("{}.toml", harness.host()));
    assert_eq!(mode(&source), 0o600);
    std::fs::set_permissions(&source, std::fs::Permissions::from_mode(0o640)).unwrap();
    let refused = helped.helper("get", &harness.host()).fails().await;
    assert!(refused.stdout.contains(source.to_str().unwrap()), "{}", refused.stdout);

    std::fs::remove_file(&source).unwrap();
    let url = format!("http://{}", harness.host());
    let told = helped.helper("get", &harness.host()).env("HYTHE_URL", url).env("HYTHE_KEY", &key);
    told.env("HYTHE_ACCOUNT", "acme").env("HYTHE_KIND", "push").ok().await.says("acme.push.");
}

#[tokio::test]
async fn docker_pushes_and_pulls_without_a_login() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let helped = Helped::new(&harness);
    let daemon = Daemon::start(&harness).await;
    let docker = |args: &[&str]| helped.dress(daemon.docker()).args(args);
    let reference = format!("{}/acme/docker/helped:v1", harness.host());
    daemon.load("helped", &reference).await;
    helped.store("acme.push", &key(&harness, "publisher").await).ok().await;
    let pushed = docker(&["push", &reference]).ok().await.digest();
    assert_eq!(super::digest_of(&acme, "acme/docker/helped", "v1").await, pushed);
    // docker tries the login that it was given, and stores it back.
    docker(&["login", &harness.host()]).ok().await.says("Login Succeeded");

    helped.store("acme", &key(&harness, "installer").await).ok().await;
    daemon.docker().args(["rmi", "-f", &reference]).ok().await;
    let before = helped.minted().await;
    let (one, other) = (docker(&["pull", &reference]), docker(&["pull", &reference]));
    let (one, other) = tokio::join!(one.ok(), other.ok());
    assert_eq!((one.digest(), other.digest()), (pushed.clone(), pushed.clone()));
    assert_eq!(helped.minted().await, before + 1);

    // Somebody ended the login: `docker logout` forgets it, and the next pull has another.
    let name = helped.get().await["Username"].as_str().unwrap().to_owned();
    harness.hythe(&["credential", "revoke", "acme", name.rsplit('.').next().unwrap()]).await;
    harness.heard().await;
    docker(&["pull", &reference]).fails().await.says("was revoked at");
    docker(&["logout", &harness.host()]).ok().await;
    assert_eq!(docker(&["pull", &reference]).ok().await.digest(), pushed);
}

#[tokio::test]
async fn podman_skopeo_crane_oras_and_helm_ask_it_too() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let image = fixture::image("helped", Format::Oci);
    let chart = fixture::chart("helped", "1.0.0");
    let pusher = acme.caller(&acme.push().await);
    push::bundle(&pusher, "acme/helped", "v1", &image).await;
    push::bundle(&pusher, "acme/charts/helped", &chart.tag(), &chart.bundle()).await;
    let helped = Helped::new(&harness);
    helped.store("acme", &key(&harness, "installer").await).ok().await;
    let reference = format!("{}/acme/helped:v1", harness.host());
    let digest = &image.root().digest;

    let remote = format!("docker://{reference}");
    let inspected = helped.client("skopeo").args(["inspect", "--raw", "--tls-verify=false", &remote]).ok().await;
    assert_eq!(&fixture::Algorithm::Sha256.digest(inspected.stdout.as_bytes()), digest);
    helped.client("crane").args(["digest", &reference, "--insecure"]).ok().await.says(digest);
    let oras = ["manifest", "fetch", "--descriptor", "--plain-http", &reference];
    helped.client("oras").args(oras).ok().await.says(digest);
    let oci = format!("oci://{}/acme/charts/helped", harness.host());
    let to = harness.scratch("pulled");
    let pull = ["pull", &oci, "--version", "1.0.0", "--plain-http", "--destination"];
    helped.client("helm").args(pull).arg(&to).ok().await;
    assert!(to.join(chart.file_name()).exists());
    let podman = helped.client("podman").arg("--root").arg(helped.home.join("root")).arg("--runroot");
    let podman = podman.arg(helped.home.join("run")).env("XDG_RUNTIME_DIR", helped.home.join("xdg"));
    let podman = podman.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file"]);
    podman.args(["pull", "--tls-verify=false", &reference]).ok().await;
    assert_eq!(helped.minted().await, 1);
}
