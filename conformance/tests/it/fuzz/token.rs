//! Access tokens: what verifies is, byte for byte, what was issued and still lives.

use std::collections::HashSet;

use auth::{Actor, Presented, Refusal};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use conformance::fuzz::{self, Fuzz};

use super::{HERE, Installation, name};

const WORDS: &[&str] = &[
    ".",
    "..",
    "=",
    "==",
    "-",
    "_",
    "+",
    "/",
    " ",
    "Bearer ",
    "e30",
    "bnVsbA",
    "W10",
    "AAAA",
    "none",
    "HS256",
    "RS256",
    "EdDSA",
    "ES256",
    "\"alg\":\"none\"",
    "\"kid\":",
    "\"jwk\":{",
    "\"crit\":[\"exp\"],",
    "\"exp\":9999999999",
    "\"aud\":[",
    "\"access\":[",
    "null",
    "\\u0061",
    "eyJhbGciOiJub25lIn0",
    "eyJhbGciOiJIUzI1NiJ9",
];

/// Three lines of a kept seed, header, payload and signature, with what is this installation's in them. A line that begins with `!`
/// stands as it is, any other is encoded.
fn filled(template: &[u8], good: &str, kid: &str, x: &str) -> Vec<u8> {
    let parts: Vec<&str> = good.split('.').collect();
    let payload = String::from_utf8(URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    let text = String::from_utf8_lossy(template);
    let line = |line: &str| {
        let line = line
            .replace("{kid}", kid)
            .replace("{x}", x)
            .replace("{payload}", &payload)
            .replace("{signature}", parts[2]);
        line.strip_prefix('!').map_or_else(|| URL_SAFE_NO_PAD.encode(&line), str::to_owned)
    };
    text.lines().map(line).collect::<Vec<_>>().join(".").into_bytes()
}

#[tokio::test]
async fn no_token_verifies_but_one_that_was_issued() {
    let installation = Installation::new().await;
    let pull = installation.mint("acme", "pull", &["acme/**"]).await;
    let push = installation.mint("acme", "push", &["acme/web/*"]).await;
    let revoked = installation.mint("acme", "push", &["acme/**"]).await;
    let other = installation.mint("beta", "push", &["beta/**"]).await;
    let mut living = HashSet::new();
    for (login, scopes) in [
        (&pull.0, &["repository:acme/web/api:pull", "registry:catalog:*"][..]),
        (&pull.0, &[]),
        (&push.0, &["repository:acme/web/api:*"]),
        (&other.0, &["repository:beta/x:pull,push"]),
    ] {
        living.insert(installation.token(login, scopes).await);
    }
    let dead = installation.token(&revoked.0, &["repository:acme/web/api:pull"]).await;
    installation.auth.revoke_credential(&Actor::Store, &name("acme"), &revoked.1).await.unwrap();

    let jwk = installation.auth.jwks().await.unwrap().keys.remove(0);
    let good = living.iter().next().unwrap().clone();
    let mut seeds: Vec<Vec<u8>> = living.iter().chain([&dead]).map(|token| token.clone().into_bytes()).collect();
    seeds.extend(fuzz::corpus("token").iter().map(|template| filled(template, &good, &jwk.kid, &jwk.x)));
    let mut fuzz = Fuzz::new("token", seeds, WORDS);
    while let Some(input) = fuzz.next() {
        let token = String::from_utf8_lossy(&input);
        let outcome = installation.auth.authenticate(Presented::Bearer(&token), HERE, None).await;
        match outcome {
            Ok(_) => {
                assert!(living.contains(&*token), "it verifies");
                fuzz.saw("issued");
            }
            Err(Refusal::InvalidToken) => {
                assert!(!living.contains(&*token), "it does not verify");
                fuzz.saw("refused");
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    fuzz.finish(&["issued", "refused"]);
}
