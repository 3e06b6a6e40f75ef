//! docs/migration.md: between Hythe and a distribution registry.

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use conformance::{
    Client, Harness, Request,
    actor::Caller,
    fixture::{self, Algorithm, Bundle, Format, media},
    harness::{free_address, log_file, ready, write_file},
    page::Page,
    push,
    tools::{self, Run},
};

/// The registry that a reader leaves: distribution, open to everyone, without the referrers API.
struct Old {
    child: Child,
    address: SocketAddr,
}

impl Old {
    async fn start(harness: &Harness) -> Self {
        let address = free_address();
        let dir = harness.scratch("old");
        let (config, log) = (dir.join("config.yml"), dir.join("log"));
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {:?}}}}}\n\
             http: {{addr: {address}, relativeurls: true}}\n",
            dir.join("data")
        );
        write_file(&config, text.as_bytes());
        let mut child = Command::new(tools::find("registry"))
            .arg("serve")
            .arg(&config)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(log_file(&log))
            .stderr(log_file(&log))
            .spawn()
            .unwrap();
        ready(&Client::new(address), "/v2/", &mut child, &log).await;
        Self { child, address }
    }

    fn caller(&self) -> Caller {
        Caller::anonymous(&Client::new(self.address))
    }

    async fn push(&self, repository: &str, tag: &str, bundle: &Bundle) {
        push::bundle(&self.caller(), repository, tag, bundle).await;
    }

    async fn has(&self, repository: &str, reference: &str) {
        // This registry knows a manifest only to who accepts its type.
        let types = [media::OCI_INDEX, media::OCI_MANIFEST, media::DOCKER_MANIFEST].join(", ");
        let path = format!("/v2/{repository}/manifests/{reference}");
        self.caller().send(Request::head(path).header("Accept", types)).await.expect(200);
    }
}

impl Drop for Old {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[tokio::test]
async fn a_registry_moves_in_and_out_as_the_page_says() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let old = Old::start(&harness).await;
    let index = fixture::index("migration", Algorithm::Sha256, false);
    let docker = fixture::image("migration", Format::Docker);
    for repository in ["team/web", "team/api", "team/signed"] {
        old.push(repository, "v1", &index).await;
        old.push(repository, "v2", &docker).await;
    }
    // What refers to an image in a registry without the API lies under a tag, made by the client.
    let list = harness.scratch("list").join("list.json");
    write_file(&list, br#"{"packages": []}"#);
    let signed = format!("{}/team/signed:v1", old.address);
    Run::new("regctl")
        .env("HOME", harness.scratch("regctl"))
        .args(["--host", &format!("reg={},tls=disabled", old.address), "artifact", "put"])
        .args(["--artifact-type", "application/spdx+json", "--subject", &signed, "--file"])
        .arg(&list)
        .ok()
        .await;
    let fallback = index.root().digest.replace(':', "-");
    old.has("team/signed", &fallback).await;

    let mut page = Page::open("docs/migration.md")
        .reading("old.example:5000", &old.address.to_string())
        .reading("127.0.0.1:5080", &harness.host())
        .reading("--data data", &harness.store_flags().join(" "))
        .variable("HYTHE_URL", &format!("http://{}", harness.host()));
    let out = page.with("from-hythe/$repository");
    for n in 1..out {
        page.run(n).await;
    }
    let caller = acme.caller(&acme.pull().await);
    for repository in ["acme/web", "acme/api", "acme/shop/web", "acme/signed"] {
        for (tag, bundle) in [("v1", &index), ("v2", &docker)] {
            let there = caller.send(Request::get(format!("/v2/{repository}/manifests/{tag}"))).await.expect(200);
            assert_eq!(there.header("docker-content-digest"), bundle.root().digest);
        }
    }
    for repository in ["acme/signed", "acme/graph"] {
        let referrers = format!("/v2/{repository}/referrers/{}", index.root().digest);
        let found = caller.send(Request::get(referrers)).await.expect(200).json();
        assert_eq!(found["manifests"][0]["artifactType"], "application/spdx+json");
    }

    for n in out..=page.len() {
        page.run(n).await;
    }
    for repository in ["acme/web", "acme/api", "acme/shop/web", "acme/signed"] {
        for bundle in [&index, &docker] {
            old.has(&format!("from-hythe/{repository}"), &bundle.root().digest).await;
        }
    }
    old.has("from-hythe/acme/signed", &fallback).await;
}
