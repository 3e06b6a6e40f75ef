//! crane.

use conformance::{
    Credential, Harness,
    fixture::{self, Algorithm, Bundle, Format},
    push,
    tools::Run,
};

use super::{bad_keys, digest_of};

fn crane(harness: &Harness) -> Run {
    Run::new("crane").env("DOCKER_CONFIG", harness.scratch("crane"))
}

/// crane's login asks nothing of the registry: a bad key shows at the first request.
async fn login(harness: &Harness, key: &Credential) {
    login_at(harness, &harness.host(), key).await;
}

async fn login_at(harness: &Harness, host: &str, key: &Credential) {
    crane(harness)
        .args(["auth", "login", "--password-stdin", "-u", &key.username, host])
        .input(key.password.clone())
        .ok()
        .await;
}

async fn round_trip(harness: &Harness, name: &str, bundle: &Bundle) {
    let (from, to) = (harness.scratch(&format!("{name}-from")), harness.scratch(&format!("{name}-to")));
    fixture::write_layout(bundle, &from, "v1");
    let remote = format!("{}/acme/crane/{name}:v1", harness.host());
    crane(harness).arg("push").arg(&from).args([&remote, "--index"]).ok().await;
    crane(harness).args(["pull", "--format=oci", &remote]).arg(&to).ok().await;
    let digest = crane(harness).args(["digest", &remote]).ok().await.digest();
    // Pushed as an index, the layout's own index.json is the root; what it names is the bundle's root.
    let there = crane(harness).args(["manifest", &remote]).ok().await;
    assert_eq!(Algorithm::Sha256.digest(there.stdout.as_bytes()), digest);
    there.says(&bundle.root().digest);
    for content in bundle.blobs.iter().chain(&bundle.manifests) {
        assert!(to.join("blobs").join(content.digest.replace(':', "/")).is_file(), "{} was not pulled", content.digest);
    }
}

#[tokio::test]
async fn crane_logs_in_pushes_and_pulls_the_same_digests() {
    let harness = Harness::start().await;
    login(&harness, &harness.account("acme").await.push_delete().await).await;
    round_trip(&harness, "image", &fixture::image("crane", Format::Oci)).await;
    round_trip(&harness, "index", &fixture::index("crane", Algorithm::Sha256, false)).await;
    let remote = |tag: &str| format!("{}/acme/crane/image:{tag}", harness.host());
    crane(&harness).args(["tag", &remote("v1"), "v2"]).ok().await;
    assert_eq!(
        crane(&harness).args(["ls", &format!("{}/acme/crane/image", harness.host())]).ok().await.stdout,
        "v1\nv2\n"
    );
    let copied = format!("{}/acme/crane/copy:v1", harness.host());
    crane(&harness).args(["copy", &remote("v1"), &copied]).ok().await;
    let digest = crane(&harness).args(["digest", &copied]).ok().await.digest();
    crane(&harness).args(["delete", &format!("{}/acme/crane/copy@{digest}", harness.host())]).ok().await;
    crane(&harness).args(["manifest", &copied]).fails().await.says("MANIFEST_UNKNOWN");
}

#[tokio::test]
async fn crane_is_refused_with_every_bad_key() {
    let harness = Harness::start().await;
    login(&harness, &harness.account("acme").await.push().await).await;
    round_trip(&harness, "private", &fixture::image("crane refused", Format::Oci)).await;
    let remote = format!("{}/acme/crane/private:v1", harness.host());
    for bad in bad_keys(&harness).await {
        login(&harness, &bad.credential).await;
        crane(&harness).args(["manifest", &remote]).fails().await.says(bad.says);
        let push = crane(&harness).arg("push").arg(harness.scratch("private-from")).args([&remote, "--index"]);
        // A push begins with HEAD, whose refusal has no text; a dead key fails at /token before it, which has.
        push.fails().await.says(if bad.refused_at_login { bad.says } else { bad.status });
    }
}

#[tokio::test]
async fn crane_copies_every_tag_of_a_repository_to_another_registry() {
    let (harness, other) = (Harness::start().await, Harness::start().await);
    let (acme, away) = (harness.account("acme").await, other.account("away").await);
    let tags = [
        ("v1", fixture::image("crane copy", Format::Oci)),
        ("v2", fixture::image("crane copy", Format::Docker)),
        ("v3", fixture::index("crane copy", Algorithm::Sha256, false)),
    ];
    let owner = acme.caller(&acme.push().await);
    for (tag, bundle) in &tags {
        push::bundle(&owner, "acme/web", tag, bundle).await;
    }
    login(&harness, &acme.pull().await).await;
    login_at(&harness, &other.host(), &away.push().await).await;
    let (from, to) = (format!("{}/acme/web", harness.host()), format!("{}/away/web", other.host()));
    crane(&harness).args(["copy", "--all-tags", &from, &to]).ok().await;
    for (tag, bundle) in &tags {
        assert_eq!(digest_of(&away, "away/web", tag).await, bundle.root().digest);
    }
}
