//! umoci: image layouts that were not made by a registry's client.

use conformance::{
    Harness,
    harness::{read_text, write_file},
    tools::Run,
};
use serde_json::Value;

use super::digest_of;

fn umoci() -> Run {
    Run::new("umoci")
}

#[tokio::test]
async fn a_layout_made_by_umoci_comes_back_with_the_same_digest() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let (from, to) = (harness.scratch("umoci").join("from"), harness.scratch("umoci").join("to"));
    let image = format!("{}:v1", from.display());
    let file = harness.scratch("umoci").join("hello.txt");
    write_file(&file, b"made by umoci");
    umoci().args(["init", "--layout"]).arg(&from).ok().await;
    umoci().args(["new", "--image", &image]).ok().await;
    umoci().args(["insert", "--rootless", "--image", &image]).arg(&file).arg("/hello.txt").ok().await;
    umoci().args(["config", "--image", &image, "--config.cmd", "/hello", "--author", "conformance"]).ok().await;
    let index: Value = serde_json::from_str(&read_text(&from.join("index.json"))).unwrap();
    let made = index["manifests"][0]["digest"].as_str().unwrap().to_owned();

    let remote = format!("docker://{}/acme/umoci:v1", harness.host());
    let copy = |from: &str, to: &str, creds: &str, key: &conformance::Credential| {
        Run::new("skopeo")
            .args(["copy", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"])
            .args([creds, &format!("{}:{}", key.username, key.password), from, to])
    };
    copy(&format!("oci:{image}"), &remote, "--dest-creds", &acme.push().await).ok().await;
    assert_eq!(digest_of(&acme, "acme/umoci", "v1").await, made);
    copy(&remote, &format!("oci:{}:v1", to.display()), "--src-creds", &acme.pull().await).ok().await;
    let index: Value = serde_json::from_str(&read_text(&to.join("index.json"))).unwrap();
    assert_eq!(index["manifests"][0]["digest"], made.as_str());

    let bundle = harness.scratch("umoci").join("bundle");
    umoci().args(["unpack", "--rootless", "--image", &format!("{}:v1", to.display())]).arg(&bundle).ok().await;
    assert_eq!(read_text(&bundle.join("rootfs/hello.txt")), "made by umoci");
}
