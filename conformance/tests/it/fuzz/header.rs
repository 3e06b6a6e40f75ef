//! The `Authorization` header on the wire: it opens `/v2/` exactly when it says a living secret or token in its own form.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use conformance::fuzz::{self, Fuzz};
use rand::Rng as _;

use super::{Server, challenge, mint};

const WORDS: &[&str] = &[
    "Basic ",
    "basic ",
    "BASIC\t",
    "Bearer ",
    "bearer ",
    "Digest ",
    "Negotiate ",
    " ",
    "  ",
    "\t",
    ":",
    "=",
    "==",
    ",",
    "\"",
    "Basic realm=\"x\"",
    "token=",
    "AAAA",
    "Og==",
    "dTpw",
    "acme.pull.",
    "hypl_",
    "\u{80}",
    "\u{e9}",
];

/// Whether a value, white space around its parts aside, is one of these in its scheme's form.
fn opens(value: &[u8], basic: &str, token: &str) -> bool {
    let Ok(value) = std::str::from_utf8(value) else { return false };
    let Some((scheme, rest)) = value.trim_matches([' ', '\t']).split_once(' ') else { return false };
    let must = match scheme.to_ascii_lowercase().as_str() {
        "basic" => basic,
        "bearer" => token,
        _ => return false,
    };
    rest.trim_matches([' ', '\t']) == must
}

#[tokio::test]
async fn an_authorization_opens_only_in_its_own_form() {
    let mut server = Server::start().await;
    let ((user, secret), _) = mint(&server.running.app.auth, "acme", "pull", &["acme/**"]).await;
    let basic = STANDARD.encode(format!("{user}:{secret}"));
    let host = server.address();
    let asked =
        format!("GET /token HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAuthorization: Basic {basic}\r\n\r\n");
    let client = conformance::Client::new(host);
    let answer = String::from_utf8(client.raw(asked.as_bytes()).await.unwrap()).unwrap();
    let (_, document) = answer.split_once("\r\n\r\n").unwrap();
    let document: serde_json::Value = serde_json::from_str(document).unwrap();
    let token = document["token"].as_str().unwrap();

    let filled = |template: &Vec<u8>| {
        let text = String::from_utf8_lossy(template).trim_end_matches('\n').replace("{basic}", &basic);
        text.replace("{token}", token).replace("{user}", &user).replace("{secret}", &secret).into_bytes()
    };
    let seeds = fuzz::corpus("header").iter().map(filled).collect();
    let mut fuzz = Fuzz::new("header", seeds, WORDS);
    while let Some(input) = fuzz.next() {
        // A line's end would begin another header.
        let value: Vec<u8> = input.iter().map(|&byte| if b"\r\n".contains(&byte) { b' ' } else { byte }).collect();
        let from = fuzz.random().random::<u32>();
        let from = std::net::Ipv4Addr::from_bits(from);
        let mut head =
            format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: {from}\r\nAuthorization: ").into_bytes();
        head.extend(&value);
        head.extend(b"\r\n\r\n");
        let told = server.ask(&head).await.expect("every head has an answer");
        match told.status {
            200 => assert!(opens(&value, &basic, token), "it opens"),
            401 => {
                assert!(!opens(&value, &basic, token), "it does not open");
                let challenge = challenge::read(&told, host);
                let bearer = value.trim_ascii().to_ascii_lowercase().starts_with(b"bearer");
                assert!(bearer || challenge.error.is_none(), "{}", told.head);
            }
            // What is no header at all, and what is too long for one.
            400 | 431 => {}
            other => panic!("{other}: {}", told.head),
        }
        fuzz.saw(&told.status.to_string());
    }
    fuzz.finish(&["200", "401", "400"]);
}
