//! Tokens that this registry did not sign, or that say what it would not have said.

use aws_lc_rs::{
    hmac, rand,
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use storage::{key, record};

use super::{
    oracle::Place,
    world::{ACME, World, order},
};

/// A key pair under a `kid`.
struct Signer {
    pair: Ed25519KeyPair,
    kid: String,
}

impl Signer {
    /// The installation's own, out of its store: who can read that can do this, and nobody else.
    async fn of(world: &World) -> Self {
        let keys = record::read::<Value>(world.counted.records(), &key::signing_keys()).await.unwrap().unwrap();
        let key = &keys.value["keys"][0];
        let private = STANDARD.decode(key["private"]["plain"].as_str().unwrap()).unwrap();
        Self { pair: Ed25519KeyPair::from_pkcs8(&private).unwrap(), kid: key["kid"].as_str().unwrap().to_owned() }
    }

    /// A stranger's, who says it is the installation's.
    fn foreign(kid: &str) -> Self {
        let private = Ed25519KeyPair::generate_pkcs8(&rand::SystemRandom::new()).unwrap();
        Self { pair: Ed25519KeyPair::from_pkcs8(private.as_ref()).unwrap(), kid: kid.to_owned() }
    }

    fn header(&self) -> String {
        format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{}"}}"#, self.kid)
    }

    fn sign(&self, payload: &str) -> String {
        self.sign_under(&self.header(), payload)
    }

    fn sign_under(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", encode(header), encode(payload));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(self.pair.sign(message.as_bytes()).as_ref()))
    }
}

fn encode(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// Every way to twist a good push and delete token.
pub(super) async fn tokens(world: &World) -> Vec<(&'static str, String)> {
    let login = world.mint(ACME, &order("push", &["push", "delete"], &[])).await;
    let scopes = [Place::Own, Place::Public]
        .map(|place| format!("repository:{}:pull,push,delete", World::repository(ACME, place)));
    let good = world.token(&login, &scopes).await;
    let [header, body, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three segments") };
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap();
    let claims: Value = serde_json::from_str(&text).unwrap();
    let own = Signer::of(world).await;
    assert_eq!(own.sign(&text), good, "the test signs as the registry does");

    let mut tokens = shapes(&good, header, body, signature);
    tokens.extend(headers(&own, &text, body, signature));
    tokens.extend(payloads(&own, &text, &claims));
    tokens.push(("foreign EdDSA under our kid", Signer::foreign(&own.kid).sign(&text)));
    tokens.push(("foreign EdDSA under its own kid", Signer::foreign("cm9ndWU").sign(&text)));
    tokens.push(("token of another installation", of_another_installation().await));
    tokens
}

/// Not even three good segments.
fn shapes(good: &str, header: &str, body: &str, signature: &str) -> Vec<(&'static str, String)> {
    // The last character of 64 bytes in base64url has four bits that mean nothing, and have to be zero.
    let (kept, last) = signature.split_at(signature.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet.find(last).and_then(|at| alphabet.get(at + 1..at + 2)).unwrap_or("B");
    vec![
        ("garbage", "garbage".into()),
        ("three dots of garbage", "a.b.c".into()),
        ("no signature", format!("{header}.{body}")),
        ("empty signature", format!("{header}.{body}.")),
        ("right kid, wrong signature", format!("{header}.{body}.{}", "A".repeat(86))),
        ("signature cut short", format!("{header}.{body}.{}", &signature[..85])),
        ("a fourth segment", format!("{good}.{signature}")),
        ("padded base64", format!("{good}==")),
        ("non-canonical base64", format!("{header}.{body}.{kept}{next}")),
        ("payload padded", format!("{header}.{body}=.{signature}")),
        ("20 KiB", format!("{header}.{}.{signature}", "A".repeat(20 << 10))),
    ]
}

/// The payload and, where it helps, a signature are good; the header is not byte for byte ours.
fn headers(own: &Signer, text: &str, body: &str, signature: &str) -> Vec<(&'static str, String)> {
    let kid = &own.kid;
    let x = URL_SAFE_NO_PAD.encode(own.pair.public_key().as_ref());
    let headers = [
        ("alg=none", r#"{"alg":"none","typ":"at+jwt"}"#.to_owned()),
        ("alg=None with kid", format!(r#"{{"alg":"None","typ":"at+jwt","kid":"{kid}"}}"#)),
        ("alg=RS256", format!(r#"{{"alg":"RS256","typ":"at+jwt","kid":"{kid}"}}"#)),
        ("alg=ES256", format!(r#"{{"alg":"ES256","typ":"at+jwt","kid":"{kid}"}}"#)),
        ("another typ", format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{kid}"}}"#)),
        ("header in another order", format!(r#"{{"typ":"at+jwt","alg":"EdDSA","kid":"{kid}"}}"#)),
        ("header with a space", format!(r#"{{"alg": "EdDSA","typ":"at+jwt","kid":"{kid}"}}"#)),
        ("kid that is a path", r#"{"alg":"EdDSA","typ":"at+jwt","kid":"../../dev/null"}"#.to_owned()),
        ("kid that is SQL", r#"{"alg":"EdDSA","typ":"at+jwt","kid":"' OR 1=1 --"}"#.to_owned()),
        ("no kid", r#"{"alg":"EdDSA","typ":"at+jwt"}"#.to_owned()),
        (
            "jwk",
            format!(
                r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}","jwk":{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}}}"#
            ),
        ),
        ("jku", format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}","jku":"https://evil.example/jwks"}}"#)),
        ("x5c", format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}","x5c":["MII="]}}"#)),
        ("crit", format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}","crit":["exp"]}}"#)),
    ];
    let mut tokens: Vec<_> = headers.iter().map(|(title, header)| (*title, own.sign_under(header, text))).collect();
    let none = encode(&headers[0].1);
    tokens.push(("alg=none, empty signature", format!("{none}.{body}.")));
    tokens.push(("alg=none, old signature", format!("{none}.{body}.{signature}")));
    for (title, secret) in [
        ("HS256 with our public key", own.pair.public_key().as_ref().to_vec()),
        ("HS256 with our public key as text", x.into_bytes()),
    ] {
        let header = encode(&format!(r#"{{"alg":"HS256","typ":"at+jwt","kid":"{kid}"}}"#));
        let message = format!("{header}.{body}");
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
        tokens.push((title, format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac))));
    }
    tokens
}

/// Properly signed, and still nothing.
fn payloads(own: &Signer, text: &str, claims: &Value) -> Vec<(&'static str, String)> {
    let with = |field: &str, value: Value| {
        let mut claims = claims.clone();
        claims[field] = value;
        claims.to_string()
    };
    let issued = claims["iat"].as_i64().unwrap();
    let payloads = [
        ("another audience", with("aud", json!("other"))),
        ("audience that is a list", with("aud", json!([claims["aud"]]))),
        ("another issuer", with("iss", json!("https://evil.example"))),
        ("issued in the future", with("iat", json!(issued + 3600))),
        ("no expiry", with("exp", Value::Null)),
        ("unknown view kind", with("view", json!({"kind": "unheard-of", "id": "x"}))),
        ("another account", with("acc", json!("beta"))),
        ("another generation", with("gen", json!("0123456789ab"))),
        ("another kind", with("knd", json!("pull"))),
        ("kind of an access key", with("knd", json!("access-key"))),
        ("anonymous with an account", with("cid", json!("anon"))),
        ("a credential that is a path", with("cid", json!("../key/x"))),
        ("an unknown credential", with("cid", json!("0000000000000001"))),
        ("duplicate audience", text.replacen('{', r#"{"aud":"other","#, 1)),
        ("duplicate access", text.replacen(r#""access":["#, r#""access":[],"access":["#, 1)),
        ("more after the payload", format!("{text}{{}}")),
        ("payload that is no object", "[]".to_owned()),
        ("empty payload", String::new()),
    ];
    payloads.into_iter().map(|(title, payload)| (title, own.sign(&payload))).collect()
}

/// The same account, repository and rights, somewhere else.
async fn of_another_installation() -> String {
    let other = Box::pin(World::new()).await;
    let login = other.mint(ACME, &order("push", &["push", "delete"], &[])).await;
    let scopes = [Place::Own, Place::Public]
        .map(|place| format!("repository:{}:pull,push,delete", World::repository(ACME, place)));
    other.token(&login, &scopes).await
}
