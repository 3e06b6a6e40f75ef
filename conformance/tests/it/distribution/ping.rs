//! end-1: `GET /v2/`.

use conformance::{Actor, Request};

use super::registry;

/// end-1.
#[tokio::test]
async fn the_base_path_answers_who_has_logged_in() {
    let (harness, vendor) = registry().await;
    vendor.send(Request::get("/v2/")).await.expect(200);
    let scopeless = vendor.with_token(&[]).await;
    let _login = scopeless.send(Request::get("/v2/")).await.expect(200);
    let answer = harness.send(Request::get("/v2/")).await.refused(401, "UNAUTHORIZED");
    let challenge = answer.header("www-authenticate");
    assert!(challenge.starts_with("Bearer realm=\"http://"), "{challenge}");
    assert!(!challenge.contains("error="), "a first challenge names no error: {challenge}");
    assert!(!challenge.contains("scope="), "/v2/ asks for no scope: {challenge}");
    assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
}

/// end-1: a credential that is bad in any way is never taken for no credential.
#[tokio::test]
async fn the_base_path_refuses_every_dead_credential() {
    let (harness, _) = registry().await;
    let acme = harness.account("acme").await;
    for actor in [Actor::WrongKey, Actor::Expired, Actor::Revoked, Actor::RecreatedAccount] {
        let caller = acme.actor(actor).await;
        let answer = caller.send(Request::get("/v2/")).await.refused(401, "UNAUTHORIZED");
        assert!(answer.header("www-authenticate").starts_with("Bearer "), "{actor:?}: {:?}", answer.headers);
    }
}
