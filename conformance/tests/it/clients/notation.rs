//! notation, with a key and a certificate of its own.

use conformance::{
    Credential, Harness, Request,
    fixture::{self, Format},
    harness::write_file,
    push,
    tools::Run,
};
use serde_json::json;

use super::bad_keys;

fn notation(harness: &Harness, key: &Credential) -> Run {
    let home = harness.scratch("notation");
    Run::new("notation")
        .env("HOME", &home)
        .env("XDG_CONFIG_HOME", home.join("config"))
        .env("DOCKER_CONFIG", home.join("docker"))
        .env("NOTATION_USERNAME", &key.username)
        .env("NOTATION_PASSWORD", &key.password)
}

/// A key pair, and a policy that trusts whom `trusted` names.
async fn trust(harness: &Harness, key: &Credential, trusted: &str) {
    let policy = json!({"version": "1.0", "trustPolicies": [{
        "name": "all",
        "registryScopes": ["*"],
        "signatureVerification": {"level": "strict"},
        "trustStores": [format!("ca:{trusted}")],
        "trustedIdentities": ["*"],
    }]});
    let file = harness.scratch("notation").join("policy.json");
    write_file(&file, policy.to_string().as_bytes());
    notation(harness, key).args(["policy", "import", "--force"]).arg(file).ok().await;
}

#[tokio::test]
async fn notation_signs_lists_and_verifies_by_both_ways_to_refer() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let (writes, reads) = (acme.push().await, acme.pull().await);
    let image = fixture::image("notation", Format::Oci);
    push::bundle(&acme.caller(&writes), "acme/signed", "v1", &image).await;
    let digest = &image.root().digest;
    let remote = format!("{}/acme/signed@{digest}", harness.host());
    notation(&harness, &writes).args(["cert", "generate-test", "signer.test"]).ok().await;
    notation(&harness, &writes).args(["cert", "generate-test", "other.test"]).ok().await;
    trust(&harness, &reads, "signer.test").await;
    let verify = ["verify", "--insecure-registry", &remote];
    notation(&harness, &reads).args(verify).fails().await.says("no signature is associated");
    for (format, by_tag) in [("jws", true), ("cose", false)] {
        notation(&harness, &writes)
            .args(["sign", "--insecure-registry", "--key", "signer.test", "--signature-format", format])
            .args([&format!("--force-referrers-tag={by_tag}"), &remote])
            .ok()
            .await;
    }
    notation(&harness, &reads).args(verify).ok().await.says("Successfully verified signature");
    let listed = notation(&harness, &reads).args(["list", "--insecure-registry", &remote]).ok().await;
    let caller = acme.caller(&reads);
    let found = caller.send(Request::get(format!("/v2/acme/signed/referrers/{digest}"))).await.expect(200).json();
    let signatures = found["manifests"].as_array().unwrap();
    assert_eq!(signatures.len(), 2);
    for signature in signatures {
        assert_eq!(signature["artifactType"], "application/vnd.cncf.notary.signature");
        listed.says(signature["digest"].as_str().unwrap());
    }
    trust(&harness, &reads, "other.test").await;
    notation(&harness, &reads).args(verify).fails().await.says("signature verification failed");

    let sign = ["sign", "--insecure-registry", "--key", "signer.test", &remote];
    notation(&harness, &reads).args(sign).fails().await.says("this is a pull credential");
    for bad in bad_keys(&harness).await {
        let says = if bad.refused_at_login { bad.says } else { bad.status };
        notation(&harness, &bad.credential).args(verify).fails().await.says(says);
    }
}
