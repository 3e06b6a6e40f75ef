//! Challenges: whatever is asked for, there is one, it is well formed, its realm is this registry's, and its scope reads as it stands.

use std::net::SocketAddr;

use auth::Scopes;
use conformance::fuzz::{self, Fuzz};
use rand::Rng as _;

use super::{Server, Told};

const WORDS: &[&str] = &[
    "/v2/",
    "/v2/_catalog",
    "/v2/acme/web/api/",
    "manifests/v1",
    "blobs/uploads/",
    "blobs/sha256:",
    "tags/list",
    "referrers/",
    "?mount=",
    "&from=",
    "?from=",
    "&mount=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "beta/x",
    "acme/web",
    "\"",
    "%22",
    "\\",
    "%5c",
    ",error=\"",
    "%2c",
    ",",
    ";",
    "%0d%0a",
    "%00",
    "%20",
    "+",
    "..",
    "%2e%2e",
    "%2f",
    "@",
    "http://evil.example",
    "//evil.example",
    "#",
    "realm=\"",
    "%e9",
    "?",
    "&",
    "=",
];
const METHODS: [&str; 5] = ["GET", "PUT", "POST", "PATCH", "DELETE"];

/// The parts of a challenge.
pub(super) struct Challenge {
    pub(super) scope: Option<String>,
    pub(super) error: Option<String>,
}

/// Reads the one challenge of a 401 by RFC 9110 section 11.6.1, and holds it to what it must be.
#[track_caller]
pub(super) fn read(told: &Told, host: SocketAddr) -> Challenge {
    let values = told.header("www-authenticate");
    let [value] = values[..] else { panic!("one challenge: {}", told.head) };
    let mut rest = value.strip_prefix("Bearer ").unwrap_or_else(|| panic!("{value}"));
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (name, quoted) = rest.split_once("=\"").unwrap_or_else(|| panic!("{value}"));
        let (text, after) = quoted.split_once('"').unwrap_or_else(|| panic!("{value}"));
        assert!(!text.contains('\\') && text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{value}");
        parts.push((name, text));
        rest = if after.is_empty() { after } else { after.strip_prefix(',').unwrap_or_else(|| panic!("{value}")) };
    }
    let mut parts = parts.into_iter().peekable();
    let mut next = |name| parts.next_if(|(is, _)| *is == name).map(|(_, text)| text.to_owned());
    let (realm, service, scope, error) = (next("realm"), next("service"), next("scope"), next("error"));
    assert_eq!(parts.next(), None, "{value}");
    assert_eq!(realm, Some(format!("http://{host}/token")));
    assert!(service.unwrap().starts_with("hythe-"));
    assert!(matches!(error.as_deref(), None | Some("invalid_token" | "insufficient_scope")), "{value}");
    if let Some(scope) = &scope {
        assert_eq!(Scopes::parse([scope.as_str()], None).to_string(), *scope);
    }
    Challenge { scope, error }
}

#[tokio::test]
async fn a_challenge_says_what_was_asked_for_and_nothing_that_was_smuggled_in() {
    let mut server = Server::start().await;
    let host = server.address();
    let mut fuzz = Fuzz::new("challenge", fuzz::corpus("challenge"), WORDS);
    while let Some(input) = fuzz.next() {
        // What cannot stand in a request line would end it.
        let target: String = input
            .iter()
            .take(6000)
            .map(
                |&byte| {
                    if (0x21..0x7f).contains(&byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") }
                },
            )
            .collect();
        let method = METHODS[fuzz.random().random_range(0..METHODS.len())];
        let bearer = fuzz.random().random_bool(0.5);
        let from = std::net::Ipv4Addr::from_bits(fuzz.random().random());
        let authorization = if bearer { "Authorization: Bearer a.b.c\r\n" } else { "" };
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: {from}\r\n{authorization}Content-Length: 0\r\n\r\n"
        );
        let Some(told) = server.ask(head.as_bytes()).await else { panic!("no answer") };
        assert!(told.status < 500, "{}", told.head);
        let path = target.split(['?', '#']).next().unwrap_or_default();
        let mut class = told.status.to_string();
        if told.status == 401 && (path == "/v2" || path.starts_with("/v2/")) {
            let challenge = read(&told, host);
            assert_eq!(challenge.error.as_deref(), bearer.then_some("invalid_token"), "{}", told.head);
            for scope in challenge.scope.iter().flat_map(|scope| scope.split(' ')) {
                let name = scope.split(':').nth(1).unwrap();
                assert!(name == "catalog" || asked_for(&target, name), "{scope} for {target}");
            }
            let scopes = challenge.scope.map_or(0, |scope| scope.split(' ').count());
            class = format!("401, {scopes} scopes");
        }
        fuzz.saw(&class);
    }
    fuzz.finish(&["401, 0 scopes", "401, 1 scopes", "401, 2 scopes", "400", "404"]);
}

/// A path is taken as it was written, a parameter as it was meant, and a fragment is no part of either.
fn asked_for(target: &str, name: &str) -> bool {
    let target = target.split('#').next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    path.contains(name) || url::form_urlencoded::parse(query.as_bytes()).any(|(_, value)| value == name)
}
