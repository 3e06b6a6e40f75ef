//! Real clients: each logs in with a minted key, pushes, pulls the same digest back, and is refused with a wrong, an
//! expired, a revoked and a foreign key, in the registry's own words where the client prints them.

mod buildah;
mod buildkit;
pub(crate) mod containerd;
mod cosign;
mod crane;
pub(crate) mod docker;
mod helm;
mod helper;
mod notation;
mod oras;
mod podman;
mod regctl;
mod rotation;
mod skopeo;
mod umoci;

use conformance::{AccountUnderTest, Credential, Harness, Request, harness::read_text, tools};

/// A key that must not work.
struct BadKey {
    credential: Credential,
    /// Whether a login is refused already: a foreign key is alive, and is refused at the repository.
    refused_at_login: bool,
    /// What the registry says.
    says: &'static str,
    /// What a client says of a `HEAD` that was refused, where there is no text to show.
    status: &'static str,
}

/// The four keys that must not open `acme`.
async fn bad_keys(harness: &Harness) -> [BadKey; 4] {
    let acme = harness.account("acme").await;
    let dead = |credential, says| BadKey { credential, refused_at_login: true, says, status: "401" };
    [
        dead(acme.push().await.with_wrong_password(), "user name or password is wrong, expired or revoked"),
        dead(acme.expired().await, "this credential expired at"),
        dead(acme.revoked().await, "was revoked at"),
        BadKey {
            credential: harness.account("stranger").await.push_delete().await,
            refused_at_login: false,
            says: "this credential is for stranger/**; acme/",
            status: "403",
        },
    ]
}

/// The digest that the registry has under a tag, asked for through HTTP.
pub(crate) async fn digest_of(acme: &AccountUnderTest<'_>, repository: &str, tag: &str) -> String {
    let caller = acme.caller(&acme.pull().await);
    let answer = caller.send(Request::head(format!("/v2/{repository}/manifests/{tag}"))).await.expect(200);
    answer.header("docker-content-digest").to_owned()
}

/// The table of docs/clients.md names the versions that the tests above run.
#[test]
fn the_page_of_clients_names_the_versions_that_are_tried() {
    let page = read_text(&tools::file("../docs/clients.md"));
    let install = read_text(&tools::file("install"));
    let pinned = |name: &str| {
        let line = install.lines().find_map(|line| line.strip_prefix(&format!("go_program {name} ")));
        line.and_then(|line| line.split(' ').next_back()).unwrap_or_default().to_owned()
    };
    let required = |folder: &str, module: &str| {
        let file = read_text(&tools::file("clients").join(folder).join("go.mod"));
        let line = file.lines().find_map(|line| line.split_once(module).map(|(_, version)| version.to_owned()));
        line.and_then(|line| line.split(' ').next().map(str::to_owned)).unwrap_or_default()
    };
    for (client, version) in [
        ("crane", pinned("crane")),
        ("regctl", pinned("regctl")),
        ("helm", pinned("helm")),
        ("cosign", pinned("cosign")),
        ("notation", required("notation", "github.com/notaryproject/notation ")),
        ("BuildKit, `buildctl`", required("buildkit", "github.com/moby/buildkit ")),
        ("oras", required("oras", "oras.land/oras ")),
        ("oras-go (library)", required("oras-go", "oras.land/oras-go/v2 ")),
    ] {
        assert!(version.starts_with('v'), "{client} has no version");
        assert!(page.contains(&format!("| {client} | {version} |")), "{client} {version} is not in docs/clients.md");
    }
}
