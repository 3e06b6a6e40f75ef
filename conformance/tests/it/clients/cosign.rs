//! cosign, with a key pair and nothing else: no transparency log, no Fulcio, no network.

use conformance::{
    Credential, Harness, Request,
    fixture::{self, Algorithm},
    harness::write_file,
    push,
    tools::Run,
};

/// Where a signature lies: under a tag made of the digest (cosign 1 and 2), or as a referrer (cosign 3).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Tag,
    Referrer,
}

impl Style {
    fn flag(self) -> &'static str {
        match self {
            Self::Tag => "--new-bundle-format=false",
            Self::Referrer => "--new-bundle-format=true",
        }
    }
}

fn cosign(harness: &Harness) -> Run {
    let home = harness.scratch("cosign");
    Run::new("cosign")
        .current_dir(&home)
        .env("HOME", &home)
        .env("DOCKER_CONFIG", home.join("docker"))
        .env("COSIGN_PASSWORD", "only for this test")
}

async fn login(harness: &Harness, key: &Credential) {
    let flags = ["login", &harness.host(), "-u", &key.username, "--password-stdin"];
    cosign(harness).args(flags).input(key.password.clone()).ok().await;
}

fn makes(harness: &Harness, verb: &str, style: Style, key: &str) -> Run {
    cosign(harness)
        .args([verb, "--yes", "--key", key, "--tlog-upload=false", "--use-signing-config=false"])
        .args(["--allow-http-registry", style.flag()])
}

fn checks(harness: &Harness, verb: &str, style: Style, key: &str) -> Run {
    cosign(harness).args([verb, "--key", key, "--insecure-ignore-tlog=true", "--allow-http-registry", style.flag()])
}

/// Signs and attests an index, verifies both, and finds nothing signed by a key that did not.
async fn sign_and_verify(style: Style) {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let bundle = fixture::index("cosign", Algorithm::Sha256, false);
    let key = acme.push().await;
    push::bundle(&acme.caller(&key), "acme/signed", "v1", &bundle).await;
    let digest = &bundle.root().digest;
    let image = format!("{}/acme/signed@{digest}", harness.host());
    cosign(&harness).arg("generate-key-pair").ok().await;
    cosign(&harness).args(["generate-key-pair", "--output-key-prefix", "other"]).ok().await;
    write_file(&harness.scratch("cosign").join("predicate.json"), br#"{"tested": true}"#);
    let kind = ["--type", "https://example.com/tested"];

    login(&harness, &key).await;
    makes(&harness, "sign", style, "cosign.key").arg(&image).ok().await;
    makes(&harness, "attest", style, "cosign.key")
        .args(["--predicate", "predicate.json"])
        .args(kind)
        .arg(&image)
        .ok()
        .await;

    // Who may only pull verifies.
    login(&harness, &acme.pull().await).await;
    checks(&harness, "verify", style, "cosign.pub").arg(&image).ok().await.says(digest);
    checks(&harness, "verify-attestation", style, "cosign.pub").args(kind).arg(&image).ok().await;
    checks(&harness, "verify", style, "other.pub").arg(&image).fails().await;
    checks(&harness, "verify-attestation", style, "other.pub").args(kind).arg(&image).fails().await;
    makes(&harness, "sign", style, "other.key").arg(&image).fails().await.says("this is a pull credential");

    let caller = acme.caller(&acme.pull().await);
    let tags = caller.send(Request::get("/v2/acme/signed/tags/list")).await.expect(200).json()["tags"].clone();
    let found = caller.send(Request::get(format!("/v2/acme/signed/referrers/{digest}"))).await.expect(200).json();
    let referrers = found["manifests"].as_array().unwrap().len();
    let tag = digest.replace(':', "-");
    match style {
        Style::Tag => {
            assert_eq!(tags, serde_json::json!([format!("{tag}.att"), format!("{tag}.sig"), "v1"]));
            assert_eq!(referrers, 0);
        }
        Style::Referrer => {
            assert_eq!(tags, serde_json::json!(["v1"]));
            assert_eq!(referrers, 2);
        }
    }
}

#[tokio::test]
async fn cosign_signs_and_attests_by_tags() {
    sign_and_verify(Style::Tag).await;
}

#[tokio::test]
async fn cosign_signs_and_attests_by_referrers() {
    sign_and_verify(Style::Referrer).await;
}
