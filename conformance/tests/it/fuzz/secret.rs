//! Passwords and keys: nothing logs in, mints or keeps accounts but what was handed out and lives, each where it belongs.

use std::collections::HashSet;

use auth::{Actor, NewKey, NewOperatorKey, Presented, RefreshToken, Refusal, TokenRefusal, TokenRequest};
use conformance::fuzz::{self, Fuzz};

use super::{HERE, Installation, Login, name};

const WORDS: &[&str] = &[
    "hypl_",
    "hyps_",
    "hyak_",
    "hyop_",
    "hyse_",
    "acme.pull.",
    "acme.push.",
    "beta.push.",
    ".",
    "_",
    "0",
    "o",
    "l",
    "1",
    "i",
    "O",
    "L",
    "I",
    "u",
    "000000000000",
    "0000000000000000",
    "\n",
    ":",
    " ",
    "\u{0}",
    "\u{ff10}",
];

#[tokio::test]
async fn no_secret_is_taken_but_one_that_was_handed_out() {
    let installation = Installation::new().await;
    let auth = &installation.auth;
    let mut living = HashSet::<Login>::new();
    for (account, kind, pattern) in [
        ("acme", "pull", "acme/**"),
        ("acme", "push", "acme/web/*"),
        ("acme", "push", "acme/**"),
        ("beta", "push", "beta/**"),
    ] {
        living.insert(installation.mint(account, kind, &[pattern]).await.0);
    }
    let (revoked, id) = installation.mint("acme", "push", &["acme/**"]).await;
    auth.revoke_credential(&Actor::Store, &name("acme"), &id).await.unwrap();
    let owner = auth.create_key(&Actor::Store, &name("acme"), &NewKey::default()).await.unwrap();
    let owner = owner.key.unwrap().reveal().to_owned();
    let caller = auth.authenticate_api(Some(&owner), HERE).await.unwrap();
    let session = auth.open_session(&caller).await.unwrap().1.reveal().to_owned();
    let operator = auth.create_operator_key(&Actor::Store, &NewOperatorKey::default()).await.unwrap();
    let operator = operator.key.unwrap().reveal().to_owned();

    let one = living.iter().next().unwrap().clone();
    let mut seeds: Vec<Vec<u8>> =
        living.iter().chain([&revoked]).map(|(user, secret)| format!("{user}\n{secret}").into_bytes()).collect();
    for template in fuzz::corpus("secret") {
        let text = String::from_utf8_lossy(&template).trim_end().to_owned();
        let text = text.replace("{user}", &one.0).replace("{secret}", &one.1);
        let text = text.replace("{owner}", &owner).replace("{session}", &session);
        seeds.push(text.replace("{operator}", &operator).into_bytes());
    }
    let mut fuzz = Fuzz::new("secret", seeds, WORDS);
    while let Some(input) = fuzz.next() {
        let text = String::from_utf8_lossy(&input);
        let (user, secret) = text.split_once('\n').unwrap_or(("", &text));
        let login = (user.to_owned(), secret.to_owned());
        let is_key = *secret == *owner || *secret == *operator;

        let basic = auth.authenticate(Presented::Basic { user, secret }, HERE, None).await;
        assert_eq!(basic.is_ok(), living.contains(&login), "as user and password: {basic:?}");
        let called = auth.authenticate_api(Some(secret), HERE).await;
        assert_eq!(called.is_ok(), is_key, "as a key: {called:?}");
        let is_session = *secret == *session;
        let in_session = auth.authenticate_session(secret, HERE).await;
        assert_eq!(in_session.is_ok(), is_session, "as a session: {in_session:?}");
        let request = TokenRequest {
            presented: Presented::None,
            refresh_token: Some(RefreshToken(secret)),
            account: None,
            service: None,
            scopes: Vec::new(),
            client_id: None,
            host: "registry.example",
        };
        let by_itself = auth.issue(request, HERE).await;
        assert_eq!(by_itself.is_ok(), living.iter().any(|(_, one)| one == secret), "by itself: {by_itself:?}");
        // The truth about a secret is for who holds it.
        let holds = is_key || is_session || *secret == *revoked.1 || living.iter().any(|(_, one)| one == secret);
        let told = |refusal: &Refusal| !matches!(refusal, Refusal::Unauthenticated(None));
        if let Err(refusal) = &basic {
            assert!(holds || !told(refusal), "{refusal:?}");
        }
        if let Err(TokenRefusal::Refused(refusal)) = &by_itself {
            assert!(holds || !told(refusal), "{refusal:?}");
        }
        fuzz.saw(match (basic.is_ok(), is_key || is_session, holds) {
            (true, ..) => "logs in",
            (false, true, _) => "key or session",
            (false, false, true) => "right secret in the wrong place",
            (false, false, false) => "refused",
        });
    }
    fuzz.finish(&["logs in", "key or session", "right secret in the wrong place", "refused"]);
}
