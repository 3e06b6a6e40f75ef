//! The names that a registry answers to, with real clients: loopback in every spelling, a public name, and another one after a
//! restart, always with the same credential.

use std::{
    net::{IpAddr, Ipv6Addr},
    path::{Path, PathBuf},
};

use conformance::{
    Credential, Harness, Request, Store,
    fixture::{self, Format},
    harness::write_file,
    push,
    tools::{self, Run},
};

use crate::clients::docker::Daemon;

/// Runs what follows with a hosts file of its own, in a mount namespace of its own.
const WITH_HOSTS: [&str; 4] = ["unshare", "--mount", "sh", "-c"];
const BIND: &str = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";

/// A hosts file in which two public names are this machine.
fn hosts(harness: &Harness) -> PathBuf {
    let file = harness.scratch("names").join("hosts");
    write_file(&file, b"127.0.0.1 localhost registry.example moved.example\n::1 localhost\n");
    file
}

/// The words before a program that is to resolve names by that file.
fn through(hosts: &Path) -> Vec<String> {
    let words = WITH_HOSTS.into_iter().chain([BIND]).map(str::to_owned);
    words.chain([hosts.display().to_string()]).collect()
}

fn tool(harness: &Harness, hosts: &Path, name: &str) -> Run {
    let words = through(hosts);
    let home = harness.scratch("tools");
    Run::new(&words[0])
        .args(&words[1..])
        .arg(tools::find(name))
        .env("HOME", &home)
        .env("DOCKER_CONFIG", &home)
        .env("REGISTRY_AUTH_FILE", home.join("config.json"))
}

async fn docker_goes_round(daemon: &Daemon<'_>, host: &str, key: &Credential) {
    let reference = format!("{host}/acme/docker:v1");
    daemon.login_at(host, key).ok().await.says("Login Succeeded");
    daemon.load("hosts", &reference).await;
    let pushed = daemon.docker().args(["push", &reference]).ok().await.digest();
    daemon.docker().args(["rmi", "-f", &reference]).ok().await;
    assert_eq!(daemon.docker().args(["pull", &reference]).ok().await.digest(), pushed);
}

async fn skopeo_goes_round(harness: &Harness, hosts: &Path, host: &str, key: &Credential) {
    let skopeo = || tool(harness, hosts, "skopeo");
    let (layout, to) = (harness.scratch("layout"), harness.scratch("pulled"));
    fixture::write_layout(&fixture::image("hosts", Format::Oci), &layout, "v1");
    let login = ["login", "--tls-verify=false", "--password-stdin", "-u", &key.username, host];
    skopeo().args(login).input(key.password.clone()).ok().await;
    let remote = format!("docker://{host}/acme/skopeo:v1");
    let push = ["copy", "--dest-tls-verify=false", &format!("oci:{}:v1", layout.display()), &remote];
    skopeo().args(push).ok().await;
    skopeo().args(["copy", "--src-tls-verify=false", &remote, &format!("dir:{}", to.display())]).ok().await;
}

async fn crane_goes_round(harness: &Harness, hosts: &Path, host: &str, key: &Credential) {
    let crane = || tool(harness, hosts, "crane");
    let (layout, to) = (harness.scratch("layout"), harness.scratch("image").join("image.tar"));
    fixture::write_layout(&fixture::image("hosts", Format::Oci), &layout, "v1");
    let login = ["auth", "login", "--password-stdin", "-u", &key.username, host];
    crane().args(login).input(key.password.clone()).ok().await;
    let remote = format!("{host}/acme/crane:v1");
    crane().arg("push").arg(layout).args([&remote, "--index", "--insecure"]).ok().await;
    crane().args(["pull", "--insecure", &remote]).arg(to).ok().await;
}

async fn oras_goes_round(harness: &Harness, host: &str, key: &Credential) {
    let oras = || Run::new("hythe-oras-go").env("ORAS_USERNAME", &key.username).env("ORAS_PASSWORD", &key.password);
    let note = harness.scratch("oras").join("note.txt");
    write_file(&note, b"a note");
    oras().args(["login", host]).ok().await;
    let remote = format!("{host}/acme/oras:v1");
    oras().args(["push", &remote]).arg(&note).ok().await;
    oras().args(["pull", &remote]).arg(harness.scratch("pulled-note")).ok().await;
}

/// docker of this age and skopeo take no IPv6 address in a reference; crane and oras do.
#[tokio::test]
async fn every_spelling_of_loopback_is_pushed_to_and_pulled_from() {
    let mut harness = Harness::stopped(Store::Local).await;
    harness.listen_at(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    harness.boot().await;
    let (hosts, port) = (hosts(&harness), harness.client().address().port());
    let key = harness.account("acme").await.push().await;
    let daemon = Daemon::start(&harness).await;
    for name in ["127.0.0.1", "localhost"] {
        let host = format!("{name}:{port}");
        docker_goes_round(&daemon, &host, &key).await;
        skopeo_goes_round(&harness, &hosts, &host, &key).await;
        crane_goes_round(&harness, &hosts, &host, &key).await;
    }
    let host = format!("[::1]:{port}");
    crane_goes_round(&harness, &hosts, &host, &key).await;
    oras_goes_round(&harness, &host, &key).await;
}

#[tokio::test]
async fn a_public_name_works_and_so_does_the_next_one_with_the_old_credential() {
    let mut harness = Harness::stopped(Store::Local).await;
    let port = harness.client().address().port();
    let (first, second) = (format!("registry.example:{port}"), format!("moved.example:{port}"));
    harness.serve_with(&["--public-url", &format!("http://{first}")]);
    harness.boot().await;
    let hosts = hosts(&harness);
    let key = harness.account("acme").await.push().await;
    {
        let daemon = Daemon::start_through(&harness, &through(&hosts)).await;
        docker_goes_round(&daemon, &first, &key).await;
        skopeo_goes_round(&harness, &hosts, &first, &key).await;
        crane_goes_round(&harness, &hosts, &first, &key).await;
    }
    harness.kill();
    harness.serve_with(&["--public-url", &format!("http://{second}")]);
    harness.boot().await;
    let daemon = Daemon::start_through(&harness, &through(&hosts)).await;
    docker_goes_round(&daemon, &second, &key).await;
    skopeo_goes_round(&harness, &hosts, &second, &key).await;
    crane_goes_round(&harness, &hosts, &second, &key).await;

    // The name it had is a stranger now, and each client shows what would bring it back.
    let way_back =
        format!("this registry answers to {second}; to add this name start it with --public-url http://{first}");
    daemon.docker().args(["pull", &format!("{first}/acme/docker:v1")]).fails().await.says(&way_back);
    let old = format!("docker://{first}/acme/skopeo:v1");
    tool(&harness, &hosts, "skopeo").args(["inspect", "--tls-verify=false", &old]).fails().await.says("421");
    let old = format!("{first}/acme/crane:v1");
    tool(&harness, &hosts, "crane").args(["manifest", "--insecure", &old]).fails().await.says(&way_back);
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_realm_is_what_the_client_used_and_a_location_names_no_host() {
    let proxied = ["--trusted-proxy", "127.0.0.0/8", "--public-url", "https://registry.example"];
    let harness = Harness::with(Store::Local, &proxied).await;
    let acme = harness.account("acme").await;
    let forwarded = |request: Request| {
        request
            .header("Host", "upstream.internal:5080")
            .header("X-Forwarded-Host", "registry.example")
            .header("X-Forwarded-Proto", "https")
    };
    let stranger = harness.send(forwarded(Request::get("/v2/"))).await.expect(401);
    let realm = "Bearer realm=\"https://registry.example/token\",";
    assert!(stranger.header("www-authenticate").starts_with(realm), "{}", stranger.header("www-authenticate"));
    let caller = acme.caller(&acme.push().await);
    let opened = caller.send(forwarded(Request::post("/v2/acme/app/blobs/uploads/"))).await.expect(202);
    assert!(opened.header("location").starts_with("/v2/acme/app/blobs/uploads/"), "{}", opened.header("location"));
    let image = fixture::image("proxied", Format::Oci);
    push::bundle(&caller, "acme/app", "v1", &image).await;
    let put = Request::put("/v2/acme/app/manifests/v2").header("Content-Type", &image.root().media_type);
    let put = caller.send(forwarded(put.body(image.root().bytes.clone()))).await.expect(201);
    assert!(put.header("location").starts_with("/v2/acme/app/manifests/"), "{}", put.header("location"));
    // What the proxy itself is called is no name of this registry.
    let direct = Request::get("/v2/").header("Host", "upstream.internal:5080").header("X-Forwarded-Proto", "https");
    let answer = harness.send(direct).await.refused(421, "UNSUPPORTED");
    assert!(answer.message().ends_with("--public-url https://upstream.internal:5080"), "{}", answer.message());
}
