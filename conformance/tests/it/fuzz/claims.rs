//! Payloads under a good signature, as nobody outside can make them: whatever they say, they are worth no more than their credential.

use auth::{Delete, Presented, Principal, Pull, Push, Refusal, authorize, authorize_catalog};
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use conformance::fuzz::{self, Fuzz};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;
use storage::{key, record};

use super::{HERE, Installation};

const WORDS: &[&str] = &[
    "\"acc\":\"beta\",",
    "\"acc\":null,",
    "\"gen\":\"000000000000\",",
    "\"cid\":\"anon\",",
    "\"knd\":\"push\",",
    "\"knd\":\"session\",",
    "\"knd\":\"access-key\",",
    "\"view\":null,",
    "\"view\":{\"kind\":\"release\",\"id\":\"x\"},",
    "\"view\":\"live\",",
    "\"iat\":1800000061,",
    "\"exp\":-1,",
    "\"exp\":9223372036854775807,",
    "\"exp\":1e99,",
    "\"aud\":[],",
    "\"access\":[],",
    "{\"type\":\"repository\",\"name\":\"acme/web/api\",\"actions\":[\"*\"]},",
    "{\"type\":\"repository\",\"name\":\"beta/x\",\"actions\":[\"pull\"]},",
    "{\"type\":\"registry\",\"name\":\"catalog\",\"actions\":[\"*\"]},",
    "\"acme/secret/x\"",
    "\"delete\",",
    "\"push\",",
    "..",
    "\\u0000",
    "[",
    "{",
    "}",
    "]",
];

/// What the judge reads of a payload. Other claims may hold what nobody can read, bytes that are no text and numbers beyond any number:
/// a claim that this build does not know is skipped, not read.
#[derive(Debug, Deserialize)]
struct Said {
    iss: String,
    aud: String,
    iat: i64,
    exp: i64,
    cid: String,
    view: Option<IgnoredAny>,
}

/// The installation's own signing key, out of its store.
async fn own_key(installation: &Installation) -> (Ed25519KeyPair, String) {
    let keys = record::read::<Value>(&*installation.records, &key::signing_keys()).await.unwrap().unwrap();
    let key = &keys.value["keys"][0];
    let private = STANDARD.decode(key["private"]["plain"].as_str().unwrap()).unwrap();
    let header = format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{}"}}"#, key["kid"].as_str().unwrap());
    (Ed25519KeyPair::from_pkcs8(&private).unwrap(), URL_SAFE_NO_PAD.encode(header))
}

/// A name inside the credential's patterns, and three outside.
const INSIDE: &str = "acme/web/api";
const OUTSIDE: [&str; 3] = ["acme/secret/x", "acme/web", "beta/web/api"];

#[tokio::test]
async fn no_payload_is_worth_more_than_its_credential() {
    let installation = Installation::new().await;
    let (login, id) = installation.mint("acme", "pull", &["acme/web/*"]).await;
    let good = installation.token(&login, &["repository:acme/web/api:pull", "repository:acme/web/b:pull"]).await;
    let good = URL_SAFE_NO_PAD.decode(good.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&good).unwrap();
    let (pair, header) = own_key(&installation).await;

    let text = |field: &str| claims[field].as_str().unwrap().to_owned();
    let filled = |template: &Vec<u8>| {
        let mut seed = String::from_utf8_lossy(template).trim_end().to_owned();
        for field in ["iss", "sub", "jti", "gen", "cid"] {
            seed = seed.replace(&format!("{{{field}}}"), &text(field));
        }
        seed.into_bytes()
    };
    let mut seeds = vec![good];
    seeds.extend(fuzz::corpus("claims").iter().map(filled));
    let mut fuzz = Fuzz::new("claims", seeds, WORDS);
    while let Some(payload) = fuzz.next() {
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(&payload));
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes()).as_ref()));
        let about = INSIDE.parse().unwrap();
        let outcome = installation.auth.authenticate(Presented::Bearer(&token), HERE, Some(&about)).await;
        let principal = match outcome {
            Ok(principal) => principal,
            Err(Refusal::InvalidToken) => {
                fuzz.saw("refused");
                continue;
            }
            Err(other) => panic!("{other:?}"),
        };
        let said: Said = serde_json::from_slice(&payload).expect("what is accepted can be read");
        assert_eq!((&said.iss, &said.aud), (&text("iss"), &text("aud")));
        assert!(said.iat <= 1_800_000_060 && said.view.is_none());
        match &principal {
            Principal::Token(holder, _) => {
                assert_eq!((holder.id(), holder.account().name().as_str()), (&id, "acme"));
                assert!(said.exp > 1_800_000_000);
                fuzz.saw(if authorize::<Pull>(&principal, &about).is_ok() { "pulls" } else { "pulls not" });
            }
            Principal::ExpiredToken(holder, _) => {
                assert_eq!(holder.id(), &id);
                fuzz.saw("expired");
            }
            Principal::AnonymousToken(_) => {
                assert_eq!(said.cid, "anon");
                authorize::<Pull>(&principal, &about).unwrap_err();
                fuzz.saw("anonymous");
            }
            Principal::Anonymous(_) | Principal::Credential(_) => panic!("{principal:?}"),
        }
        authorize::<Push>(&principal, &about).unwrap_err();
        authorize::<Delete>(&principal, &about).unwrap_err();
        authorize_catalog(&principal).unwrap_err();
        for outside in OUTSIDE {
            let outside = outside.parse().unwrap();
            authorize::<Pull>(&principal, &outside).unwrap_err();
            authorize::<Push>(&principal, &outside).unwrap_err();
        }
    }
    fuzz.finish(&["refused", "pulls", "pulls not", "expired", "anonymous"]);
}
