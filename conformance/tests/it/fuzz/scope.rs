//! Scopes and patterns: what is read prints as it reads again, and no request gets more than its credential has.

use auth::{Pattern, Presented, Scope, Scopes, TokenRequest};
use conformance::fuzz::{self, Fuzz};

use super::{HERE, Installation};

const WORDS: &[&str] = &[
    "repository:",
    "repository(plugin):",
    "registry:catalog:*",
    ":pull",
    ":push",
    ":delete",
    ":*",
    ",",
    ",,",
    ":",
    "::",
    " ",
    "/",
    "//",
    "..",
    "*",
    "**",
    "acme/web/api",
    "acme/webshop/x",
    "acme",
    "beta/x",
    "registry.example/",
    "registry.example:443/",
    "acme/web/api/x",
    "ACME",
    "%2f",
    "%20",
    "\u{e9}",
    "\u{200b}",
    "@sha256:",
    "acme/**",
    "acme/web/*",
];

#[tokio::test]
async fn scopes_read_as_they_print_and_grant_no_more_than_there_is() {
    let installation = Installation::new().await;
    let (login, _) = installation.mint("acme", "push", &["acme/web/*"]).await;
    let reach: Pattern = "acme/web/*".parse().unwrap();
    let mut fuzz = Fuzz::new("scope", fuzz::corpus("scope"), WORDS);
    while let Some(input) = fuzz.next() {
        // Lines are parameters.
        let text = String::from_utf8_lossy(&input);
        let parameters: Vec<&str> = text.split('\n').collect();
        let host = if input.len() % 2 == 0 { Some("registry.example") } else { None };
        let read = Scopes::parse(parameters.iter().copied(), host);
        assert!(read.iter().count() <= 64);
        let printed = read.to_string();
        assert_eq!(Scopes::parse([printed.as_str()], None), read, "{printed}");
        for scope in read.iter() {
            assert_eq!(Scopes::parse([scope.to_string().as_str()], None).iter().collect::<Vec<_>>(), [scope]);
        }

        let (user, secret) = (login.0.as_str(), login.1.as_str());
        let request = TokenRequest {
            presented: Presented::Basic { user, secret },
            refresh_token: None,
            account: None,
            service: None,
            scopes: parameters.clone(),
            client_id: None,
            host: "registry.example",
        };
        let issued = installation
            .auth
            .issue(request, HERE)
            .await
            .expect("a living credential never gets an error for its scopes");
        for scope in issued.scope.iter() {
            let Scope::Repository { name, actions } = scope else { panic!("{scope}") };
            assert!(reach.matches(name) && !actions.contains(auth::Actions::DELETE), "{scope}");
        }
        fuzz.saw(if !issued.scope.is_empty() {
            "granted"
        } else if read.is_empty() {
            "nothing asked"
        } else {
            "nothing granted"
        });
        pattern(text.trim());
    }
    fuzz.finish(&["granted", "nothing asked", "nothing granted"]);
}

/// A pattern is its text, is of the one account that it begins with, and lies in itself and in all of its account.
fn pattern(text: &str) {
    let Ok(pattern) = text.parse::<Pattern>() else { return };
    assert_eq!(pattern.to_string(), text);
    let account = text.split('/').next().unwrap().parse().expect("it begins with an account");
    assert!(pattern.is_of(&account) && pattern.covers(&pattern) && Pattern::everything(&account).covers(&pattern));
    let neighbour = format!("{account}x").parse();
    assert!(neighbour.is_err() || !pattern.is_of(&neighbour.unwrap()));
}
