//! The distribution-spec's end-points, one file per group; each test cites its end-N, and together they hold one for
//! each check of the specification's own program.

mod blob;
mod delete;
mod manifest;
mod mount;
mod name;
mod ping;
mod referrer;
mod tag;
mod upload;

use conformance::{Actor, Caller, Harness};

/// The repository that the tests of this module push to.
const REPOSITORY: &str = "acme/web/api";

/// A server and a caller that may do everything in `acme`.
async fn registry() -> (Harness, Caller) {
    let harness = Harness::start().await;
    let vendor = harness.account("acme").await.actor(Actor::PushDelete).await;
    (harness, vendor)
}

fn manifest_path(reference: &str) -> String {
    format!("/v2/{REPOSITORY}/manifests/{reference}")
}

fn blob_path(digest: &str) -> String {
    format!("/v2/{REPOSITORY}/blobs/{digest}")
}
