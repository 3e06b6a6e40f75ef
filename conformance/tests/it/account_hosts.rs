//! Names of accounts: what is served at them and what is not, over HTTP; with real clients over TLS; on two servers of one bucket.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use conformance::{
    Actor, Answer, Caller, Credential, Harness, Request, Store,
    fixture::{self, Format},
    harness::{binary, log_file, make_dir, read_text, until, write_file},
    push,
    tools::{self, Run},
};
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    time::Instant,
};

use crate::{clients::docker::Daemon, self_signed::Network};

/// A server with an account domain.
async fn under_a_domain() -> Harness {
    Harness::with(Store::Local, &["--account-domain", "accounts.example"]).await
}

/// A name as a request to this harness names it.
fn at(harness: &Harness, name: &str, request: Request) -> Request {
    request.header("Host", format!("{name}:{}", harness.client().address().port()))
}

fn realm(answer: &Answer) -> String {
    let challenge = answer.header("www-authenticate");
    challenge.split('"').nth(1).unwrap_or_default().to_owned()
}

fn names(patch: &[&str]) -> Value {
    json!({ "hosts": patch })
}

fn patch(account: &str, body: &Value) -> Request {
    let request = Request::patch(format!("/api/v1/accounts/{account}"));
    let request = request.header("If-Match", "*").header("Content-Type", "application/merge-patch+json");
    request.body(body.to_string())
}

#[tokio::test]
async fn the_operator_gives_a_name_and_takes_it_back_and_a_name_is_one_account_s() {
    let harness = under_a_domain().await;
    let (acme, beta) = (harness.account("acme").await, harness.account("beta").await);
    let (operator, owner) = (acme.actor(Actor::OperatorKey).await, acme.actor(Actor::AccessKey).await);
    let ask = async |name| harness.send(at(&harness, name, Request::get("/v2/"))).await;
    ask("registry.acme.example").await.refused(421, "UNSUPPORTED");
    owner.send(patch("acme", &names(&["registry.acme.example"]))).await.refused(403, "DENIED");
    let given = operator.send(patch("acme", &names(&["Registry.acme.example"]))).await.expect(200).json();
    assert_eq!(given["hosts"], json!(["registry.acme.example"]));
    let port = harness.client().address().port();
    let stranger = ask("registry.acme.example").await.expect(401);
    assert_eq!(realm(&stranger), format!("http://registry.acme.example:{port}/token"));
    assert_eq!(owner.send(Request::get("/api/v1/accounts/acme")).await.expect(200).json()["hosts"], given["hosts"]);

    let taken = operator.send(patch("beta", &names(&["registry.acme.example"]))).await.refused(409, "NAME_TAKEN");
    assert_eq!(taken.message(), "account beta cannot have the host registry.acme.example: it is account acme's");
    let command = harness.run_at(0, &["account", "set", "beta", "--host", "registry.acme.example"]).fails().await;
    command.says("account beta cannot have the host registry.acme.example");
    for bad in ["127.0.0.1", "registry.acme.example:5443", "beta.accounts.example"] {
        operator.send(patch("acme", &names(&[bad]))).await.refused(422, "VALIDATION");
    }
    // What is rendered has the account's own name, else that under the domain; a list as well.
    let minted = acme.push().await;
    assert_eq!(minted.field("host"), format!("registry.acme.example:{port}"));
    assert!(minted.field("docker_login").contains(&format!(" docker login registry.acme.example:{port} ")));
    assert_eq!(beta.push().await.field("host"), format!("beta.accounts.example:{port}"));
    let listed = owner.send(Request::get("/api/v1/accounts/acme/credentials")).await.expect(200).json();
    assert_eq!(listed["items"][0]["host"], minted.field("host"));

    harness.hythe(&["account", "set", "acme", "--host="]).await;
    until("the name is nobody's again", async || ask("registry.acme.example").await.status == 421).await;
    harness.hythe(&["account", "set", "beta", "--host", "registry.acme.example"]).await;
    until("the name is beta's", async || ask("registry.acme.example").await.status == 401).await;
    harness.hythe(&["account", "delete", "beta"]).await;
    until("the name died with its account", async || ask("registry.acme.example").await.status == 421).await;
    harness.hythe(&["account", "create", "beta"]).await;
    harness.heard().await;
    ask("registry.acme.example").await.refused(421, "UNSUPPORTED");
}

#[tokio::test]
async fn at_an_account_s_host_that_account_is_served_and_no_other_is_seen() {
    let harness = under_a_domain().await;
    let (acme, beta) = (harness.account("acme").await, harness.account("beta").await);
    harness.hythe(&["account", "set", "beta", "--public", "beta/open/*"]).await;
    let image = fixture::image("hosts", Format::Oci);
    let (own, other) = (acme.caller(&acme.push().await), beta.caller(&beta.push().await));
    push::bundle(&own, "acme/web/app", "v1", &image).await;
    push::bundle(&other, "beta/open/app", "v1", &image).await;
    harness.heard().await;
    let nobody = Caller::anonymous(harness.client());
    let ask = async |who: &Caller, name, path: &str| who.send(at(&harness, name, Request::get(path))).await;
    let (here, there, none) = ("acme.accounts.example", "beta.accounts.example", "nobody.accounts.example");
    let (private, public) = ("/v2/acme/web/app/manifests/v1", "/v2/beta/open/app/manifests/v1");
    for name in [here, "localhost"] {
        ask(&own, name, private).await.expect(200);
        ask(&nobody, name, private).await.expect(401);
    }
    // A push, with a session whose address names no host.
    let opened = own.send(at(&harness, here, Request::post("/v2/acme/web/app/blobs/uploads/"))).await.expect(202);
    assert!(opened.header("location").starts_with("/v2/acme/web/app/blobs/uploads/"));
    // Public to everybody, but not there.
    for name in [there, "localhost"] {
        ask(&nobody, name, public).await.expect(200);
        ask(&own, name, public).await.expect(200);
    }
    for name in [here, none] {
        ask(&nobody, name, public).await.expect(401);
        ask(&other, name, public).await.refused(403, "DENIED");
        assert_eq!(ask(&nobody, name, "/token?scope=repository:beta/open/app:pull").await.status, 401);
        let grant = ask(&other, name, "/token?scope=repository:beta/open/app:pull%20registry:catalog:*").await;
        assert_eq!(grant.expect(200).json()["scope"], "");
        let catalog = ask(&other, name, "/v2/_catalog").await.refused(403, "DENIED");
        assert!(catalog.message().starts_with("this host serves account "), "{}", catalog.message());
    }
    ask(&own, here, public).await.refused(403, "DENIED");
    // A token is good wherever its account is.
    let token = other.with_token(&["repository:beta/open/app:pull"]).await;
    ask(&token, there, public).await.expect(200);
    ask(&token, here, public).await.refused(403, "DENIED");

    // The API: the account of the host, and nothing that is not in it.
    let keys = [acme.actor(Actor::AccessKey).await, beta.actor(Actor::AccessKey).await];
    let operator = acme.actor(Actor::OperatorKey).await;
    ask(&keys[0], here, "/api/v1/accounts/acme").await.expect(200);
    ask(&operator, here, "/api/v1/accounts/acme").await.expect(200);
    ask(&keys[1], here, "/api/v1/accounts/acme").await.refused(403, "DENIED");
    for (who, path) in
        [(&keys[1], "/api/v1/accounts/beta"), (&operator, "/api/v1/accounts/beta"), (&operator, "/api/v1/accounts")]
    {
        let refused = ask(who, here, path).await.refused(403, "DENIED");
        assert_eq!(refused.message(), "this host serves account acme alone; ask at a name of the registry's own");
        ask(who, "localhost", path).await.expect(200);
    }
    ask(&nobody, here, "/api/v1/accounts/beta").await.expect(401);
}

#[tokio::test]
async fn a_name_that_only_a_stranger_s_header_brings_is_not_believed() {
    let harness = under_a_domain().await;
    harness.account("acme").await;
    harness.hythe(&["account", "set", "acme", "--host", "registry.acme.example"]).await;
    let own = async || harness.send(at(&harness, "registry.acme.example", Request::get("/v2/"))).await.status;
    until("the name is acme's", async || own().await == 401).await;
    let port = harness.client().address().port();
    for name in ["registry.acme.example", "acme.accounts.example", "evil.example"] {
        let forwarded = Request::get("/v2/").header("X-Forwarded-Host", format!("{name}:{port}"));
        assert_eq!(realm(&harness.send(forwarded).await.expect(401)), format!("http://{}/token", harness.host()));
        // Another port would be another server's.
        let elsewhere = Request::get("/v2/").header("Host", format!("{name}:1"));
        harness.send(elsewhere).await.refused(421, "UNSUPPORTED");
    }
    // Whoever tries many names is told to wait, and holds nobody up who has a good secret.
    let mut answers = Vec::new();
    for i in 0..70 {
        answers.push(harness.send(at(&harness, &format!("a{i}.example"), Request::get("/v2/"))).await.status.as_u16());
    }
    assert_eq!(answers[0], 421);
    assert_eq!(answers.last(), Some(&429), "{answers:?}");
    assert_eq!(own().await, 401);
    let acme = harness.account("acme").await;
    acme.caller(&acme.pull().await).send(at(&harness, "registry.acme.example", Request::get("/v2/"))).await.expect(200);
    harness.send(at(&harness, "b.example", Request::get("/healthz"))).await.expect(200);
}

#[tokio::test]
async fn two_servers_of_one_bucket_begin_and_end_to_answer_to_a_name_within_the_bound() {
    let harness = Harness::on(Store::Minio).await;
    let replica = harness.replica(None).await;
    let operator = harness.account("acme").await.actor(Actor::OperatorKey).await;
    let ask = async |server: &Harness| {
        server.send(at(server, "registry.acme.example", Request::get("/v2/"))).await.status.as_u16()
    };
    assert_eq!(ask(&replica).await, 421);
    let mut longest = [Duration::ZERO; 2];
    for _ in 0..3 {
        for (longest, (given, status)) in longest.iter_mut().zip([(&["registry.acme.example"][..], 401), (&[], 421)]) {
            operator.send(patch("acme", &names(given))).await.expect(200);
            let acknowledged = Instant::now();
            assert_eq!(ask(&harness).await, status);
            until("the other server has heard of it", async || ask(&replica).await == status).await;
            *longest = acknowledged.elapsed().max(*longest);
        }
    }
    println!("at most until the other server began {:?}, until it ended {:?}", longest[0], longest[1]);
    assert!(longest.iter().all(|longest| *longest < Duration::from_secs(5)), "{longest:?}");
}

/// An authority, and certificates of it: one for the domain and what is under it, one for the vendor's name alone.
async fn certificates(folder: &Path) -> PathBuf {
    let tls = folder.join("tls");
    make_dir(&tls);
    let (authority, key) = (folder.join("ca.crt"), folder.join("ca.key"));
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    let make = Run::new("openssl").args(new.split(' ')).args(["-subj", "/CN=authority"]);
    make.arg("-keyout").arg(&key).arg("-out").arg(&authority).ok().await;
    for (name, names) in
        [("wildcard", "DNS:registry.example,DNS:*.registry.example"), ("acme", "DNS:registry.acme.example")]
    {
        let make = Run::new("openssl").args(new.split(' ')).args(["-subj", &format!("/CN={name}")]);
        let make =
            make.args(["-addext", &format!("subjectAltName={names}"), "-addext", "basicConstraints=critical,CA:FALSE"]);
        let make = make.arg("-CA").arg(&authority).arg("-CAkey").arg(&key);
        make.arg("-keyout")
            .arg(tls.join(format!("{name}.key")))
            .arg("-out")
            .arg(tls.join(format!("{name}.crt")))
            .ok()
            .await;
    }
    authority
}

/// A server under TLS with the names of two accounts, in a network where they mean it.
struct Vendors<'a> {
    harness: &'a Harness,
    words: Vec<String>,
    folder: PathBuf,
    authority: PathBuf,
    child: Child,
    _network: Network,
}

/// Acme's own name, and beta's under the domain.
const HOSTS: [(&str, &str); 2] = [("acme", "registry.acme.example"), ("beta", "beta.registry.example")];

impl<'a> Vendors<'a> {
    async fn start(harness: &'a Harness) -> Self {
        let (network, folder) = (Network::new("accounts").await, harness.scratch("vendors"));
        let names = format!("{} registry.example {} {}\n", Network::ADDRESS, HOSTS[0].1, HOSTS[1].1);
        write_file(&folder.join("hosts"), format!("127.0.0.1 localhost\n{names}").as_bytes());
        let authority = certificates(&folder).await;
        let words = network.words(&folder);
        let log = folder.join("server.log");
        let child = Command::new(&words[0])
            .args(&words[1..])
            .arg(binary())
            .args(["serve", "--operations", "off", "--listen", &format!("{}:443", Network::ADDRESS)])
            .args(["--public-url", "https://registry.example", "--account-domain", "registry.example"])
            .arg("--tls-dir")
            .arg(folder.join("tls"))
            .arg("--data")
            .arg(folder.join("data"))
            .stdout(Stdio::null())
            .stderr(log_file(&log))
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        until("serving under TLS", async || read_text(&log).contains("serving https://")).await;
        Self { harness, words, folder, authority, child, _network: network }
    }

    async fn hythe(&self, args: &[&str]) -> String {
        let data = self.folder.join("data").display().to_string();
        self.harness.bare(&[args, &["--data", &data]].concat()).ok().await.stdout
    }

    async fn key(&self, account: &str) -> Credential {
        let mint = ["credential", "create", account, "--kind", "push", "--output", "json"];
        Credential::parse(&self.hythe(&mint).await)
    }

    /// A program in the network, which trusts the authority alone and has a home of its own.
    fn tool(&self, name: &str) -> Run {
        let home = self.harness.scratch("vendors-home");
        Run::new(&self.words[0])
            .args(&self.words[1..])
            .arg(tools::find(name))
            .env("HOME", &home)
            .env("HELM_REGISTRY_CONFIG", home.join("registry.json"))
            .env("SSL_CERT_FILE", &self.authority)
            .env("ORAS_TLS", "1")
    }

    async fn status(&self, host: &str) -> String {
        let curl = self.tool("curl").args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"]);
        curl.arg(&self.authority).arg(format!("https://{host}/v2/")).ok().await.stdout
    }
}

async fn docker_keeps_both(vendors: &Vendors<'_>, keys: &[Credential; 2]) {
    let daemon = Daemon::start_through(vendors.harness, &vendors.words).await;
    let mut pushed = Vec::new();
    for ((account, host), key) in HOSTS.iter().zip(keys) {
        daemon.login_at(host, key).ok().await.says("Login Succeeded");
        let image = format!("{host}/{account}/docker:v1");
        daemon.load(account, &image).await;
        pushed.push((image.clone(), daemon.docker().args(["push", &image]).ok().await.digest()));
        daemon.docker().args(["rmi", "-f", &image]).ok().await;
    }
    let config = Path::new(&daemon.variables()[0].1).join("config.json");
    let config: Value = serde_json::from_str(&read_text(&config)).unwrap();
    let mut slots: Vec<_> = config["auths"].as_object().unwrap().keys().map(String::as_str).collect();
    slots.sort_unstable();
    assert_eq!(slots, ["beta.registry.example", "registry.acme.example"]);
    // The second login took nothing from the first.
    for (image, digest) in pushed {
        assert_eq!(daemon.docker().args(["pull", &image]).ok().await.digest(), digest);
    }
    let [(_, acme), (_, beta)] = HOSTS;
    let other = daemon.docker().args(["pull", &format!("{acme}/beta/docker:v1")]).fails().await;
    other.says("this credential is for acme/**; beta/docker is outside it");
    daemon.login_at(acme, &keys[1]).ok().await;
    let other = daemon.docker().args(["pull", &format!("{acme}/beta/docker:v1")]).fails().await;
    other.says("this host serves account acme alone");
    daemon.docker().args(["pull", &format!("{beta}/beta/docker:v1")]).ok().await;
}

async fn helm_and_oras_keep_both(vendors: &Vendors<'_>, keys: &[Credential; 2]) {
    let folder = vendors.harness.scratch("vendors-files");
    let chart = fixture::chart("web", "0.1.0");
    let (archive, note) = (folder.join(chart.file_name()), folder.join("note.txt"));
    write_file(&archive, &chart.archive);
    write_file(&note, b"a note");
    for ((_, host), key) in HOSTS.iter().zip(keys) {
        let login = ["registry", "login", host, "--password-stdin", "-u", &key.username];
        vendors.tool("helm").args(login).input(key.password.clone()).ok().await;
    }
    for ((account, host), key) in HOSTS.iter().zip(keys) {
        let charts = format!("oci://{host}/{account}/charts");
        let pushed = vendors.tool("helm").arg("push").arg(&archive).arg(&charts).ok().await.digest();
        let to = vendors.harness.scratch(&format!("vendors-pulled-{account}"));
        let pull = ["pull", &format!("{charts}/web"), "--version", "0.1.0", "--destination"];
        assert_eq!(vendors.tool("helm").args(pull).arg(&to).ok().await.digest(), pushed);

        let oras = || {
            let run = vendors.tool("hythe-oras-go").env("ORAS_USERNAME", &key.username);
            run.env("ORAS_PASSWORD", &key.password)
        };
        let remote = format!("{host}/{account}/oras:v1");
        oras().args(["login", host]).ok().await;
        let pushed = oras().args(["push", &remote]).arg(&note).ok().await.digest();
        assert_eq!(oras().args(["pull", &remote]).arg(&to).ok().await.digest(), pushed);
        assert_eq!(read_text(&to.join("note.txt")), "a note");
    }
}

/// Each certificate is good for its own names alone, so whoever is let in was shown the right one.
#[tokio::test]
async fn docker_helm_and_oras_keep_a_login_for_each_account_s_host_over_tls() {
    let harness = Harness::start().await;
    let mut vendors = Vendors::start(&harness).await;
    for (account, host) in HOSTS {
        vendors.hythe(&["account", "create", account]).await;
        let trusted = vendors.folder.join("etc/docker/certs.d").join(host).join("ca.crt");
        write_file(&trusted, read_text(&vendors.authority).as_bytes());
    }
    vendors.hythe(&["account", "set", "acme", "--host", HOSTS[0].1]).await;
    let keys = [vendors.key("acme").await, vendors.key("beta").await];
    assert_eq!(keys.each_ref().map(|key| key.field("host")), HOSTS.map(|(_, host)| host));
    assert_eq!(vendors.status("registry.example").await, "401");
    docker_keeps_both(&vendors, &keys).await;
    helm_and_oras_keep_both(&vendors, &keys).await;
    vendors.hythe(&["account", "set", "acme", "--host="]).await;
    until("the name is taken back", async || vendors.status(HOSTS[0].1).await == "421").await;
    assert_eq!(vendors.status(HOSTS[1].1).await, "401");
    vendors.child.kill().await.unwrap();
}
