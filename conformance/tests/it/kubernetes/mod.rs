//! A real cluster whose pods pull from Hythe: with the rendered Secret they run, and without a good one the events say why.

pub(crate) mod chart;
mod pull;
pub(crate) mod renewal;

use conformance::{AccountUnderTest, Harness, fixture, push};

/// Pushes an image that runs, and gives its digest.
pub(crate) async fn push_program(acme: &AccountUnderTest<'_>, path: &str) -> String {
    let bundle = fixture::program(path);
    let key = acme.push().await;
    push::bundle(&acme.caller(&key), &acme.repository(path), "1", &bundle).await;
    acme.revoke(&key).await;
    bundle.root().digest.clone()
}

/// What `hythe credential create ACCOUNT --kind pull --output secret` prints under this name, minted `offset` seconds from now.
pub(crate) async fn secret(harness: &Harness, offset: i64, account: &str, name: &str, more: &[&str]) -> String {
    let mut args = vec!["credential", "create", account, "--kind", "pull", "--output", "secret", "--name", name];
    args.extend(more);
    harness.hythe_at(offset, &args).await.stdout
}
