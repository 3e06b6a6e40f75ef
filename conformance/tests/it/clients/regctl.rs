//! regctl, of regclient.

use conformance::{
    Credential, Harness, Request,
    fixture::{self, Algorithm, Format},
    harness::{read_text, write_file},
    push,
    tools::Run,
};

use super::{bad_keys, digest_of};

fn regctl(harness: &Harness) -> Run {
    let home = harness.scratch("regctl");
    Run::new("regctl")
        .env("HOME", &home)
        .env("REGCTL_CONFIG", home.join("config.json"))
        .env("DOCKER_CONFIG", home.join("docker"))
}

/// Plain HTTP is a setting of the host, kept before the first login.
async fn plain(harness: &Harness, host: &str) {
    regctl(harness).args(["registry", "set", "--skip-check", "--tls", "disabled", host]).ok().await;
}

fn login(harness: &Harness, host: &str, key: &Credential) -> Run {
    regctl(harness).args(["registry", "login", host, "--pass-stdin", "-u", &key.username]).input(key.password.clone())
}

#[tokio::test]
async fn regctl_logs_in_pushes_and_pulls_the_same_digests() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    plain(&harness, &harness.host()).await;
    login(&harness, &harness.host(), &acme.push_delete().await).ok().await;
    for (name, bundle) in [
        ("image", fixture::image("regctl", Format::Oci)),
        ("index", fixture::index("regctl", Algorithm::Sha256, false)),
    ] {
        let (from, to) = (harness.scratch(&format!("{name}-from")), harness.scratch(&format!("{name}-to")));
        fixture::write_layout(&bundle, &from, "v1");
        let remote = format!("{}/acme/regctl/{name}:v1", harness.host());
        regctl(&harness).args(["image", "copy", &format!("ocidir://{}:v1", from.display()), &remote]).ok().await;
        assert_eq!(digest_of(&acme, &format!("acme/regctl/{name}"), "v1").await, bundle.root().digest);
        regctl(&harness).args(["image", "copy", &remote, &format!("ocidir://{}:v1", to.display())]).ok().await;
        for content in bundle.blobs.iter().chain(&bundle.manifests) {
            let pulled = to.join("blobs").join(content.digest.replace(':', "/"));
            assert!(pulled.is_file(), "{} was not pulled", content.digest);
        }
    }
    let index = format!("{}/acme/regctl/index", harness.host());
    regctl(&harness).args(["tag", "delete", &format!("{index}:v1")]).ok().await;
    assert_eq!(regctl(&harness).args(["tag", "ls", &index]).ok().await.stdout, "");
    regctl(&harness).args(["repo", "ls", &harness.host()]).ok().await.says("acme/regctl/image\n");
}

#[tokio::test]
async fn regctl_keeps_artifacts_and_copies_an_image_with_its_referrers() {
    let (harness, other) = (Harness::start().await, Harness::start().await);
    let (acme, away) = (harness.account("acme").await, other.account("away").await);
    for (host, key) in [(harness.host(), acme.push().await), (other.host(), away.push().await)] {
        plain(&harness, &host).await;
        login(&harness, &host, &key).ok().await;
    }
    let image = fixture::index("regctl artifact", Algorithm::Sha256, false);
    push::bundle(&acme.caller(&acme.push().await), "acme/app", "v1", &image).await;
    let source = format!("{}/acme/app:v1", harness.host());
    let file = harness.scratch("files").join("list.json");
    write_file(&file, b"{\"packages\": []}");
    let put = ["artifact", "put", "--artifact-type", "application/spdx+json", "--subject", &source, "--file"];
    regctl(&harness).args(put).arg(&file).ok().await;
    let get = ["artifact", "get", "--filter-artifact-type", "application/spdx+json", "--subject"];
    assert_eq!(regctl(&harness).args(get).arg(&source).ok().await.stdout, read_text(&file));

    let target = format!("{}/away/app:v1", other.host());
    regctl(&harness).args(["image", "copy", "--referrers", "--digest-tags", &source, &target]).ok().await;
    assert_eq!(digest_of(&away, "away/app", "v1").await, image.root().digest);
    let path = format!("/v2/away/app/referrers/{}", image.root().digest);
    let found = away.caller(&away.pull().await).send(Request::get(path)).await.expect(200).json();
    assert_eq!(found["manifests"][0]["artifactType"], "application/spdx+json");
    assert_eq!(regctl(&harness).args(get).arg(&target).ok().await.stdout, read_text(&file));
}

#[tokio::test]
async fn regctl_is_refused_with_every_bad_key() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let image = fixture::image("regctl refused", Format::Oci);
    push::bundle(&acme.caller(&acme.push().await), "acme/regctl", "v1", &image).await;
    plain(&harness, &harness.host()).await;
    let remote = format!("{}/acme/regctl:v1", harness.host());
    for bad in bad_keys(&harness).await {
        let login = login(&harness, &harness.host(), &bad.credential);
        if bad.refused_at_login {
            login.fails().await.says("unauthorized");
        } else {
            login.ok().await;
        }
        regctl(&harness).args(["manifest", "get", &remote]).fails().await;
        regctl(&harness).args(["tag", "ls", &remote]).fails().await;
        regctl(&harness).args(["image", "copy", &remote, &format!("{remote}-copy")]).fails().await;
    }
    acme.caller(&acme.pull().await).send(Request::get("/v2/acme/regctl/manifests/v1-copy")).await.expect(404);
}
