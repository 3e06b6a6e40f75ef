//! A configuration that changes under load: every request is answered, and the next connection sees what is new.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use conformance::{
    Harness, Store,
    fixture::{self, Format},
    harness::{self, until, write_file},
    tools,
};
use reqwest::{Method, StatusCode, tls::TlsInfo};
use rustix::process::Signal;
use tokio::task::JoinSet;

const CLIENTS: usize = 4;
/// Requests on one connection: old connections and new ones are always there at the same time.
const ON_ONE: usize = 10;

/// A file of the certificates that the server's own tests use; all that is asked of them is that they differ.
fn pem(name: &str) -> String {
    tools::file("../registry/src/server/tls").join(name).display().to_string()
}

fn configure(path: &Path, certificate: &str, key: &str, more: &str) {
    let text = format!("tls_cert = '{}'\ntls_key = '{}'\n{more}", pem(certificate), pem(key));
    write_file(path, text.as_bytes());
}

fn client() -> reqwest::Client {
    let builder = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).tls_info(true);
    builder.timeout(Duration::from_secs(30)).build().unwrap()
}

/// The certificate that a new connection is shown.
async fn shown(url: &str) -> Vec<u8> {
    let answer = client().get(format!("{url}/readyz")).send().await.unwrap();
    answer.extensions().get::<TlsInfo>().unwrap().peer_certificate().unwrap().to_vec()
}

/// Waits until a new connection is shown another certificate than `old`, and gives it.
async fn another(url: &str, old: &[u8]) -> Vec<u8> {
    let mut now = old.to_vec();
    until("another certificate", async || {
        now = shown(url).await;
        now != old
    })
    .await;
    now
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_under_load_fails_no_request_and_a_bad_one_changes_nothing() {
    let mut harness = Harness::stopped(Store::Local).await;
    let path = harness.scratch("etc").join("hythe.toml");
    let operations = harness::free_address().to_string();
    configure(&path, "cert.pem", "key.pem", "");
    let config = path.display().to_string();
    harness.set(&[], &["--operations", &operations, "--config", &config]);
    harness.boot().await;
    let acme = harness.account("acme").await;
    let credential = acme.push().await;
    drop(acme);
    let url = format!("https://localhost:{}", harness.client().address().port());
    let (answered, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (answered, done) = (Arc::clone(&answered), Arc::clone(&done));
        let (url, credential) = (url.clone(), credential.clone());
        let blob = fixture::image(&format!("reload {number}"), Format::Oci).blobs[0].clone();
        clients.spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let client = client();
                for asked in 0..ON_ONE {
                    let (method, path, expected) = match asked % 2 {
                        0 => {
                            let path = format!("/v2/acme/web/blobs/uploads/?digest={}", blob.digest);
                            (Method::POST, path, StatusCode::CREATED)
                        }
                        _ => (Method::GET, format!("/v2/acme/web/blobs/{}", blob.digest), StatusCode::OK),
                    };
                    let request = client.request(method, format!("{url}{path}"));
                    let request = request.basic_auth(&credential.username, Some(&credential.password));
                    let answer = request.body(blob.bytes.clone()).send().await.expect("no request fails");
                    assert_eq!(answer.status(), expected);
                    answer.bytes().await.expect("the whole answer");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }

    let pairs = [("other-cert.pem", "other-key.pem"), ("cert.pem", "key.pem")];
    let mut seen = shown(&url).await;
    for round in 0..4 {
        let before = answered.load(Ordering::Relaxed);
        let (certificate, key) = pairs[round % 2];
        let more = format!("trusted_proxy = ['10.0.0.{round}/32']\nlimits.idle_timeout = '{}s'\n", 60 + round);
        configure(&path, certificate, key, &more);
        harness.signal(Signal::HUP);
        seen = another(&url, &seen).await;
        until("more requests", async || answered.load(Ordering::Relaxed) >= before + CLIENTS * ON_ONE).await;
    }
    // A key that is not the certificate's, and a file that is no configuration.
    for (round, wrong) in ["", "lisen = 1\n"].into_iter().enumerate() {
        configure(&path, "cert.pem", if round == 0 { "other-key.pem" } else { "key.pem" }, wrong);
        let told = || harness.log().matches("the configuration stays as it was").count();
        let before = told();
        harness.signal(Signal::HUP);
        until("what is wrong is logged", async || told() > before).await;
        assert_eq!(shown(&url).await, seen, "a configuration that cannot be used was taken");
    }
    done.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.expect("no request was lost");
    }
    eprintln!("{} requests over six reloads", answered.load(Ordering::Relaxed));
    harness.stop().await;
}
