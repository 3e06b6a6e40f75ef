//! Tokens of other issuers: one becomes a credential only if the issuer signed it, for this policy, now; and the credential is the
//! policy's.

use std::collections::{BTreeMap, HashSet};

use auth::{Actor, ExchangeRefusal, NewGrant, NewKeys, NewTrust};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use conformance::fuzz::{self, Fuzz};
use serde_json::{Value, json};

use super::{HERE, Installation, name};

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "registry.example/acme";
/// The clock of the installation stands here.
const NOW: i64 = 1_800_000_000;
const DAY: i64 = 24 * 3600;
const LEEWAY: i64 = 60;

const WORDS: &[&str] = &[
    "\"iss\":\"https://issuer.example/\",",
    "\"iss\":\"https://evil.example\",",
    "\"aud\":[\"registry.example/acme\"],",
    "\"aud\":[],",
    "\"aud\":\"registry.example\",",
    "\"sub\":\"robot\\u0000\",",
    "\"sub\":[\"robot\"],",
    "\"sub\":\"Robot\",",
    "\"exp\":1.8e9,",
    "\"exp\":\"1800000600\",",
    "\"exp\":1800086401,",
    "\"exp\":1799999941,",
    "\"nbf\":1800000061,",
    "\"iat\":1800000061,",
    "\"iat\":null,",
    "\"kid\":\"ed\"",
    "\"alg\":\"none\"",
    "\"alg\":\"HS256\"",
    "\"crit\":[\"b64\"],\"b64\":false,",
    "*",
    ".",
    "=",
    "null",
    "{",
    "}",
    "[",
    "]",
    "e30",
];

/// What the claims must be, read once more by nothing that the registry reads them with.
fn good(claims: &Value) -> bool {
    let audience = match &claims["aud"] {
        Value::Array(list) => list.contains(&json!(AUDIENCE)),
        one => *one == AUDIENCE,
    };
    let number = |name: &str| claims.get(name).and_then(Value::as_i64);
    let (Some(issued), Some(ends)) = (number("iat"), number("exp")) else { return false };
    let lives = ends > NOW - LEEWAY && i128::from(ends) - i128::from(issued) <= i128::from(DAY);
    let began =
        issued <= NOW + LEEWAY && claims.get("nbf").is_none_or(|at| at.as_i64().is_some_and(|at| at <= NOW + LEEWAY));
    claims["iss"] == ISSUER && audience && claims["sub"] == "robot" && lives && began
}

#[tokio::test]
async fn no_foreign_token_is_exchanged_but_one_that_its_policy_means() {
    let installation = Installation::new().await;
    let pair = Ed25519KeyPair::generate().unwrap();
    let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    let new = NewTrust {
        issuer: ISSUER.into(),
        jwks: Some(NewKeys::Given(json!({"keys": [{"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": x}]}))),
        conditions: BTreeMap::from([("sub".to_owned(), "robot".to_owned())]),
        grant: NewGrant { actions: vec!["pull".into()], ..NewGrant::default() },
        ..NewTrust::default()
    };
    let trust = installation.auth.create_trust(&Actor::Store, &name("acme"), &new, AUDIENCE).await.unwrap().id;
    let signed = |header: &str, claims: &[u8]| {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes()).as_ref()))
    };
    let header = r#"{"alg":"EdDSA","kid":"ed"}"#;
    let mut seeds = fuzz::corpus("oidc");
    // One that says a thing twice is none, whatever it says last: written anew it is another.
    let meant = |seed: &&Vec<u8>| {
        let claims: Value = serde_json::from_slice(seed).unwrap_or_default();
        good(&claims) && claims.to_string().as_bytes() == seed.as_slice()
    };
    let issued: HashSet<String> = seeds.iter().filter(meant).map(|claims| signed(header, claims)).collect();
    assert!(issued.len() >= 2, "seeds that are good");
    seeds.extend(issued.iter().map(|token| token.clone().into_bytes()));
    for other in
        [r#"{"alg":"none"}"#, r#"{"alg":"HS256","kid":"ed"}"#, r#"{"alg":"EdDSA","kid":"../ed"}"#, r#"{"alg":"EdDSA"}"#]
    {
        seeds.push(signed(other, &fuzz::corpus("oidc")[0]).into_bytes());
    }
    let mut fuzz = Fuzz::new("oidc", seeds, WORDS);
    while let Some(input) = fuzz.next() {
        // Claims are signed by the issuer, whatever they say; everything else is a token as it stands.
        let claims = input.first() == Some(&b'{');
        let token = if claims { signed(header, &input) } else { String::from_utf8_lossy(&input).into_owned() };
        let outcome = match installation.auth.ask_exchange("acme", trust.as_str(), &token, HERE).await {
            Ok(asked) => installation.auth.exchange(asked, None, &[], "registry.example", HERE).await,
            Err(refusal) => Err(refusal),
        };
        match outcome {
            Ok(minted) => {
                if claims {
                    let said =
                        serde_json::from_str(&String::from_utf8_lossy(&input)).expect("what is accepted is JSON");
                    assert!(good(&said), "it is exchanged");
                } else {
                    assert!(issued.contains(&token), "it is exchanged");
                }
                assert!(minted.credential.username.starts_with("acme.pull."), "{}", minted.credential.username);
                fuzz.saw(if claims { "claims exchanged" } else { "token exchanged" });
            }
            Err(ExchangeRefusal::Wrong) => {
                assert!(!issued.contains(&token), "it is refused");
                fuzz.saw("refused");
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    fuzz.finish(&["claims exchanged", "token exchanged", "refused"]);
}
