//! skopeo.

use conformance::{
    Credential, Harness,
    fixture::{self, Algorithm, Bundle, Format},
    push,
    tools::Run,
};

use super::{bad_keys, digest_of};

fn skopeo(harness: &Harness) -> Run {
    let home = harness.scratch("skopeo");
    Run::new("skopeo").env("HOME", &home).env("REGISTRY_AUTH_FILE", home.join("auth.json"))
}

pub(super) fn login(harness: &Harness, key: &Credential) -> Run {
    skopeo(harness)
        .args(["login", "--tls-verify=false", "--password-stdin", "-u", &key.username, &harness.host()])
        .input(key.password.clone())
}

pub(super) fn copy(harness: &Harness, from: &str, to: &str) -> Run {
    skopeo(harness)
        .args(["copy", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"])
        .args([from, to])
}

async fn round_trip(harness: &Harness, name: &str, bundle: &Bundle) {
    let acme = harness.account("acme").await;
    let (from, to) = (harness.scratch(&format!("{name}-from")), harness.scratch(&format!("{name}-to")));
    fixture::write_layout(bundle, &from, "v1");
    let remote = format!("docker://{}/acme/skopeo/{name}:v1", harness.host());
    copy(harness, &format!("oci:{}:v1", from.display()), &remote).ok().await;
    assert_eq!(digest_of(&acme, &format!("acme/skopeo/{name}"), "v1").await, bundle.root().digest);
    copy(harness, &remote, &format!("dir:{}", to.display())).ok().await;
    let pulled = conformance::harness::read_text(&to.join("manifest.json"));
    assert_eq!(Algorithm::Sha256.digest(pulled.as_bytes()), bundle.root().digest);
}

#[tokio::test]
async fn skopeo_logs_in_pushes_and_pulls_the_same_digests() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    login(&harness, &acme.push().await).ok().await;
    round_trip(&harness, "image", &fixture::image("skopeo", Format::Oci)).await;
    round_trip(&harness, "index", &fixture::index("skopeo", Algorithm::Sha256, false)).await;
}

#[tokio::test]
async fn skopeo_is_refused_with_every_bad_key() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    login(&harness, &acme.push().await).ok().await;
    let bundle = fixture::image("skopeo refused", Format::Oci);
    round_trip(&harness, "private", &bundle).await;
    let layout = format!("oci:{}:v1", harness.scratch("private-from").display());
    let remote = format!("docker://{}/acme/skopeo/private:v1", harness.host());
    for bad in bad_keys(&harness).await {
        if bad.refused_at_login {
            login(&harness, &bad.credential).fails().await.says("invalid username/password");
        } else {
            login(&harness, &bad.credential).ok().await;
        }
        let pair = format!("{}:{}", bad.credential.username, bad.credential.password);
        let nowhere = format!("dir:{}", harness.scratch("nowhere").display());
        copy(&harness, &remote, &nowhere).args(["--src-creds", &pair]).fails().await.says(bad.says);
        // A push begins with HEAD, whose refusal has no text; a dead key fails at /token before it, which has.
        let push = copy(&harness, &layout, &remote).args(["--dest-creds", &pair]).fails().await;
        push.says(if bad.refused_at_login { bad.says } else { bad.status });
    }
}

fn sync(harness: &Harness, from: (&str, &str), to: (&str, &str)) -> Run {
    skopeo(harness)
        .args(["sync", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"])
        .args(["--src", from.0, "--dest", to.0, from.1, to.1])
}

fn pair(flag: &str, key: &Credential) -> [String; 2] {
    [flag.to_owned(), format!("{}:{}", key.username, key.password)]
}

#[tokio::test]
async fn skopeo_sync_moves_every_tag_of_a_repository_through_a_folder_and_straight() {
    let (harness, other) = (Harness::start().await, Harness::start().await);
    let (acme, beta, away) =
        (harness.account("acme").await, harness.account("beta").await, other.account("away").await);
    let tags = [
        ("v1", fixture::image("sync", Format::Oci)),
        ("v2", fixture::image("sync", Format::Docker)),
        ("v3", fixture::index("sync", Algorithm::Sha256, false)),
    ];
    let owner = acme.caller(&acme.push().await);
    for (tag, bundle) in &tags {
        push::bundle(&owner, "acme/team/web", tag, bundle).await;
    }
    let reads = acme.pull().await;
    let source = format!("{}/acme/team/web", harness.host());
    let folder = harness.scratch("synced").display().to_string();
    sync(&harness, ("docker", &source), ("dir", &folder)).args(pair("--src-creds", &reads)).ok().await;
    let target = format!("{}/beta/mirror", harness.host());
    let writes = beta.push().await;
    sync(&harness, ("dir", &folder), ("docker", &target)).args(pair("--dest-creds", &writes)).ok().await;
    let target = format!("{}/away/mirror", other.host());
    let writes = away.push().await;
    sync(&harness, ("docker", &source), ("docker", &target))
        .args(pair("--src-creds", &reads))
        .args(pair("--dest-creds", &writes))
        .ok()
        .await;
    for (tag, bundle) in &tags {
        assert_eq!(digest_of(&beta, "beta/mirror/web", tag).await, bundle.root().digest);
        assert_eq!(digest_of(&away, "away/mirror/web", tag).await, bundle.root().digest);
    }
}
