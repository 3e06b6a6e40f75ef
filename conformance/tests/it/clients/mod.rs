//! Real clients: each logs in with a minted key, pushes, pulls the same digest back, and is refused with a wrong, an
//! expired, a revoked and a foreign key, in the registry's own words where the client prints them.

mod buildah;
mod containerd;
mod crane;
pub(crate) mod docker;
mod helm;
mod oras;
mod podman;
mod skopeo;
mod umoci;

use conformance::{AccountUnderTest, Credential, Harness, Request};

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
async fn digest_of(acme: &AccountUnderTest<'_>, repository: &str, tag: &str) -> String {
    let caller = acme.caller(&acme.pull().await);
    let answer = caller.send(Request::head(format!("/v2/{repository}/manifests/{tag}"))).await.expect(200);
    answer.header("docker-content-digest").to_owned()
}
