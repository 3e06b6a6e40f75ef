use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn payload(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

async fn pusher(world: &World) -> Minted {
    let (_, acme) = world.owner("acme").await;
    world.mint(&acme, "acme", push()).await
}

#[tokio::test]
async fn the_grant_is_the_intersection_and_never_an_error() {
    let world = World::new().await;
    let (_, acme) = world.owner("acme").await;
    let mut narrow = push();
    narrow.repositories = Some(vec!["acme/web/*".into()]);
    let minted = world.mint(&acme, "acme", narrow).await;
    for (asked, granted) in [
        (&["repository:acme/web/api:pull,push,delete"][..], "repository:acme/web/api:pull,push"),
        (&["repository:acme/web/api:*"], "repository:acme/web/api:pull,push"),
        (&["repository:registry.example/acme/web/api:pull"], "repository:acme/web/api:pull"),
        (&["repository:beta/x:pull", "repository:acme/other:pull", "registry:catalog:*", "rubbish"], ""),
        (
            &["repository:acme/web/api:pull,push repository:acme/web/b:pull"],
            "repository:acme/web/api:pull,push repository:acme/web/b:pull",
        ),
        (&[], ""),
    ] {
        let issued = world.issue(&minted, asked).await.unwrap();
        assert_eq!(issued.scope.to_string(), granted, "{asked:?}");
        assert_eq!(issued.expires_in, 300);
    }
}

#[tokio::test]
async fn a_token_is_signed_for_six_hours_or_the_rest_of_its_credential() {
    let world = World::new().await;
    let (_, acme) = world.owner("acme").await;
    let issued_at = 1_800_000_000;
    let claims = payload(&world.token(&world.mint(&acme, "acme", pull()).await, &[]).await);
    assert_eq!(claims["exp"], json!(issued_at + 6 * 3600));
    let mut short = pull();
    short.ttl_seconds = Some(120);
    let issued = world.issue(&world.mint(&acme, "acme", short).await, &[]).await.unwrap();
    assert_eq!(payload(&issued.token)["exp"], json!(issued_at + 120));
    assert_eq!(issued.expires_in, 120);
}

#[tokio::test]
async fn the_claims_are_the_documented_ones() {
    let world = World::new().await;
    let minted = pusher(&world).await;
    let token = world.token(&minted, &["repository:acme/x:pull,push"]).await;
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let kid = world.auth.jwks().await.unwrap().keys[0].kid.clone();
    assert_eq!(String::from_utf8(header).unwrap(), format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}"}}"#));
    let mut claims = payload(&token);
    let jti = claims.as_object_mut().unwrap().remove("jti").unwrap();
    assert!(jti.as_str().unwrap().parse::<Id>().is_ok());
    assert_eq!(
        claims,
        json!({
            "iss": world.auth.service(), "aud": world.auth.service(), "sub": minted.credential.username,
            "iat": 1_800_000_000, "exp": 1_800_000_000 + 4 * 3600, "acc": "acme",
            "gen": minted.secret.generation(), "cid": minted.credential.id, "knd": "push",
            "access": [{"type": "repository", "name": "acme/x", "actions": ["pull", "push"]}]
        })
    );
}

#[tokio::test]
async fn another_service_is_refused_and_ours_or_none_is_not() {
    let world = World::new().await;
    let minted = pusher(&world).await;
    let ask = async |service: Option<&str>, account: Option<&str>| {
        let (user, secret) = (minted.credential.username.as_str(), minted.secret.reveal());
        let mut request = request(Presented::Basic { user, secret }, &[]);
        (request.service, request.account) = (service, account);
        world.auth.issue(request, HERE).await.map(|_| ())
    };
    assert!(ask(Some(world.auth.service()), Some(&minted.credential.username)).await.is_ok());
    assert!(matches!(ask(Some("other"), None).await, Err(TokenRefusal::UnknownService)));
    assert!(matches!(ask(None, Some("other")).await, Err(TokenRefusal::Refused(Refusal::Unauthenticated(None)))));
}

#[tokio::test]
async fn a_password_by_itself_is_a_refresh_token() {
    let world = World::new().await;
    let minted = pusher(&world).await;
    let mut asked = request(Presented::None, &["repository:acme/x:pull"]);
    asked.refresh_token = Some(RefreshToken(minted.secret.reveal()));
    assert_eq!(world.auth.issue(asked, HERE).await.unwrap().scope.to_string(), "repository:acme/x:pull");
    let mut asked = request(Presented::None, &[]);
    asked.refresh_token = Some(RefreshToken("wrong"));
    assert!(world.auth.issue(asked, HERE).await.is_err());
}

#[tokio::test]
async fn one_credential_is_limited_in_its_token_requests() {
    let world = World::new().await;
    let minted = pusher(&world).await;
    for _ in 0..200 {
        world.issue(&minted, &[]).await.unwrap();
    }
    assert!(matches!(world.issue(&minted, &[]).await, Err(TokenRefusal::Refused(Refusal::Throttled(_)))));
    world.pass(1);
    assert!(world.issue(&minted, &[]).await.is_ok());
}

/// Signs any payload with the installation's own key: what a later release, or nobody, could issue.
async fn signed(world: &World, payload: &str) -> String {
    world.auth.keys(crate::follow::Standing::Confirmed).await.unwrap().value.sign(payload.as_bytes()).unwrap()
}

#[tokio::test]
async fn every_way_to_twist_a_token_is_invalid() {
    let world = World::new().await;
    let minted = pusher(&world).await;
    let good = world.token(&minted, &["repository:acme/x:pull,push"]).await;
    assert!(world.bearer(&good, "acme/x").await.is_ok());
    let [header, body, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three segments") };
    let kid = world.auth.jwks().await.unwrap().keys[0].kid.clone();
    let x = world.auth.jwks().await.unwrap().keys[0].x.clone();
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let claims = payload(&good);
    let with = |field: &str, value: Value| {
        let mut claims = claims.clone();
        claims[field] = value;
        claims.to_string()
    };
    let foreign = World::new().await;

    let mut twisted = vec![
        String::new(),
        ".".into(),
        "..".into(),
        "a.b.c".into(),
        format!("{header}.{body}"),
        format!("{header}.{body}."),
        format!("{good}."),
        format!("{good}.{signature}"),
        format!("{good}="),
        format!(" {good}"),
        format!("{good} "),
        format!("{header}.{body}.{}", "A".repeat(86)),
        format!("{header}.{body}.{}", &signature[..85]),
        format!("{header}.{body}=.{signature}"),
        format!("{header}.{}.{signature}", encode(&with("sub", json!("root")))),
        "x".repeat(20 * 1024),
        world.token(&minted, &[]).await.split_once('.').unwrap().1.into(),
    ];
    // The header: anything but the very bytes.
    for header in [
        r#"{"alg":"none","typ":"at+jwt"}"#.to_owned(),
        r#"{"alg":"none"}"#.to_owned(),
        format!(r#"{{"alg":"HS256","typ":"at+jwt","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"RS256","typ":"at+jwt","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{kid}"}}"#),
        format!(r#"{{"alg": "EdDSA","typ":"at+jwt","kid":"{kid}"}}"#),
        format!(r#"{{"typ":"at+jwt","alg":"EdDSA","kid":"{kid}"}}"#),
        r#"{"alg":"EdDSA","typ":"at+jwt","kid":"../../etc/passwd"}"#.to_owned(),
        r#"{"alg":"EdDSA","typ":"at+jwt","kid":"' OR 1=1 --"}"#.to_owned(),
        format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}","jwk":{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}}}"#),
        format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}","jku":"https://evil.example/jwks"}}"#),
        format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}","x5c":["MII"]}}"#),
        format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}","crit":["exp"]}}"#),
    ] {
        twisted.push(format!("{}.{body}.{signature}", encode(&header)));
        twisted.push(format!("{}.{body}.", encode(&header)));
        let message = format!("{}.{body}", encode(&header));
        let hmac = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, x.as_bytes());
        let mac = aws_lc_rs::hmac::sign(&hmac, message.as_bytes());
        twisted.push(format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac)));
    }
    // Properly signed, and still nothing: by another installation's key, or with claims that are not ours.
    twisted.push(signed(&foreign, &claims.to_string()).await);
    let text = claims.to_string();
    for payload in [
        with("iss", json!("other")),
        with("aud", json!("other")),
        with("aud", json!([world.auth.service()])),
        with("iss", json!(foreign.auth.service())),
        with("iat", json!(1_800_000_061)),
        with("exp", json!("1800014400")),
        with("gen", json!("000000000001")),
        with("gen", json!(storage::Generation::random())),
        with("acc", json!("beta")),
        with("cid", json!("anon")),
        with("cid", json!("0000000000000001")),
        with("cid", json!("../key/x")),
        with("knd", json!("pull")),
        with("knd", json!("access-key")),
        with("view", json!({"kind": "release", "id": "x"})),
        with("view", json!("live")),
        with("access", json!({})),
        with("acc", Value::Null),
        text.replacen('{', r#"{"aud":"x","#, 1),
        text.replacen('{', r#"{"cid":"0000000000000001","#, 1),
        text.replacen(r#""access":["#, r#""access":[],"access":["#, 1),
        format!("{text}x"),
        "[]".into(),
        String::new(),
    ] {
        twisted.push(signed(&world, &payload).await);
    }
    for token in &twisted {
        let refused = world.bearer(token, "acme/x").await;
        assert!(matches!(refused, Err(Refusal::InvalidToken)), "{token}: {refused:?}");
    }
    assert!(world.bearer(&signed(&world, &text).await, "acme/x").await.is_ok());
    assert!(world.bearer(&signed(&world, &with("new_claim", json!(1))).await, "acme/x").await.is_ok());
    assert!(world.bearer(&signed(&world, &with("iat", json!(1_800_000_060))).await, "acme/x").await.is_ok());
}

#[test]
fn no_single_change_of_a_token_verifies() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (world, token) = runtime.block_on(async {
        let world = World::new().await;
        let minted = pusher(&world).await;
        let token = world.token(&minted, &["repository:acme/x:pull,push"]).await;
        (world, token)
    });
    let alphabet: Vec<u8> = (b'!'..=b'~').collect();
    let config = ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(at in 0..token.len(), to in prop::sample::select(alphabet), cut in any::<bool>())| {
        let mut changed = token.clone().into_bytes();
        if cut { changed.remove(at); } else { changed[at] = to; }
        let changed = String::from_utf8(changed).unwrap();
        let verified = runtime.block_on(world.bearer(&changed, "acme/x")).is_ok();
        prop_assert_eq!(verified, changed == token);
    });
    proptest!(|(garbage in "\\PC{0,300}")| {
        prop_assert!(runtime.block_on(world.bearer(&garbage, "acme/x")).is_err());
    });
}

#[tokio::test]
async fn a_rotation_is_noticed_by_nobody_and_a_replacement_by_every_token() {
    let world = World::new().await;
    let minted = pusher(&world).await;
    let token = world.token(&minted, &[]).await;
    let kids = async || world.auth.jwks().await.unwrap().keys.into_iter().map(|k| k.kid).collect::<Vec<_>>();
    let first = kids().await;
    world.auth.turn_signing_keys().await.unwrap();
    assert_eq!(kids().await, first);

    world.auth.rotate_signing_keys().await.unwrap();
    assert_eq!(kids().await.len(), 2);
    world.auth.turn_signing_keys().await.unwrap();
    assert_eq!(payload(&world.token(&minted, &[]).await)["iss"], payload(&token)["iss"]);
    assert_eq!(token.split('.').next(), world.token(&minted, &[]).await.split('.').next());
    world.pass(10);
    world.auth.turn_signing_keys().await.unwrap();
    let second = world.token(&minted, &[]).await;
    assert_ne!(token.split('.').next(), second.split('.').next());
    assert!(world.bearer(&token, "acme/x").await.is_ok());
    assert!(world.bearer(&second, "acme/x").await.is_ok());
    world.pass(13 * 3600);
    world.auth.turn_signing_keys().await.unwrap();
    assert_eq!(kids().await.len(), 1);

    let minted = pusher(&world).await;
    let token = world.token(&minted, &[]).await;
    let other = world.sibling(settings()).await.unwrap();
    assert!(other.authenticate(Presented::Bearer(&token), HERE, None).await.is_ok());
    world.auth.replace_signing_keys().await.unwrap();
    assert!(matches!(world.bearer(&token, "acme/x").await, Err(Refusal::InvalidToken)));
    world.pass(5);
    assert!(matches!(other.authenticate(Presented::Bearer(&token), HERE, None).await, Err(Refusal::InvalidToken)));
    let token = world.token(&minted, &[]).await;
    assert!(world.bearer(&token, "acme/x").await.is_ok());
}

#[tokio::test]
async fn racing_openers_agree_on_who_they_are() {
    let clock = std::sync::Arc::new(ManualClock::at(DateTime::UNIX_EPOCH + chrono::TimeDelta::days(20_000)));
    let records = std::sync::Arc::new(MemoryRecords::new(clock.clone()));
    let open = || Auth::open(records.clone(), clock.clone(), settings());
    let (a, b, c) = tokio::try_join!(open(), open(), open()).unwrap();
    assert!(a.service() == b.service() && b.service() == c.service());
    assert_eq!(a.jwks().await.unwrap(), c.jwks().await.unwrap());
    assert_eq!(*a.keys_for("upload")[0], *b.keys_for("upload")[0]);
    assert_ne!(*a.keys_for("upload")[0], *a.keys_for("page-token")[0]);
}

#[tokio::test]
async fn a_sealed_store_opens_with_its_seal_key_only() {
    let world = World::new().await;
    let minted = pusher(&world).await;
    let token = world.token(&minted, &[]).await;
    let sealed = |text: &str| Settings { seal_key: Some(SealKey::new(&text.repeat(32)).unwrap()), ..settings() };
    let auth = world.sibling(sealed("a")).await.unwrap();
    assert!(auth.authenticate(Presented::Bearer(&token), HERE, None).await.is_ok());
    auth.rotate_signing_keys().await.unwrap();
    assert!(world.sibling(sealed("a")).await.is_ok());
    assert!(matches!(world.sibling(sealed("b")).await, Err(Error::CannotOpen(_))));
    assert!(matches!(world.sibling(settings()).await, Err(Error::CannotOpen(_))));
}
