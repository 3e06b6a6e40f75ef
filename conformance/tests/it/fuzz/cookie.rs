//! The `Cookie` header on the wire: it opens the API exactly when one living session stands in it, once.

use auth::{Actor, NewKey};
use conformance::fuzz::{self, Fuzz};
use rand::Rng as _;

use super::{HERE, Server, name};

const WORDS: &[&str] = &[
    "__Host-hythe=",
    "__Host-hythe",
    "__host-hythe=",
    "__Secure-hythe=",
    "hythe=",
    "hyse_",
    "hyak_",
    "; ",
    ";",
    "=",
    " ",
    "\t",
    ",",
    "\"",
    "a=b",
    "$Version=1",
    "Path=/",
    "%68",
    "\u{0}",
    "\u{80}",
];

/// Whether the header holds the session by its name, and the name no second time.
fn opens(value: &[u8], session: &str) -> bool {
    let blank = [b' ', b'\t', b'\x0c'];
    let trimmed = |bytes: &[u8]| {
        let from = bytes.iter().position(|b| !blank.contains(b)).unwrap_or(bytes.len());
        let to = bytes.iter().rposition(|b| !blank.contains(b)).map_or(from, |at| at + 1);
        bytes[from..to].to_vec()
    };
    let mut ours = Vec::new();
    for pair in value.split(|&b| b == b';').map(trimmed) {
        let mut halves = pair.splitn(2, |&b| b == b'=');
        if trimmed(halves.next().unwrap_or_default()) == b"__Host-hythe" {
            ours.push(halves.next().map(<[u8]>::to_vec));
        }
    }
    ours == [Some(session.as_bytes().to_vec())]
}

#[tokio::test]
async fn a_cookie_opens_only_as_one_living_session() {
    let mut server = Server::start().await;
    let auth = &server.running.app.auth;
    let owner = auth.create_key(&Actor::Store, &name("acme"), &NewKey::default()).await.unwrap().key.unwrap();
    let actor = auth.authenticate_api(Some(owner.reveal()), HERE).await.unwrap();
    let session = auth.open_session(&actor).await.unwrap().1.reveal().to_owned();
    let closed = auth.open_session(&actor).await.unwrap().1.reveal().to_owned();
    auth.close_session(&auth.authenticate_session(&closed, HERE).await.unwrap()).await.unwrap();
    let filled = |template: &Vec<u8>| {
        let text = String::from_utf8_lossy(template).trim_end_matches('\n').replace("{session}", &session);
        text.replace("{closed}", &closed).replace("{owner}", owner.reveal()).into_bytes()
    };
    let seeds = fuzz::corpus("cookie").iter().map(filled).collect();
    let mut fuzz = Fuzz::new("cookie", seeds, WORDS);
    let host = server.address();
    while let Some(input) = fuzz.next() {
        // A line's end would begin another header.
        let value: Vec<u8> = input.iter().map(|&byte| if b"\r\n".contains(&byte) { b' ' } else { byte }).collect();
        let from = std::net::Ipv4Addr::from_bits(fuzz.random().random::<u32>());
        let mut head =
            format!("GET /api/v1/session HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: {from}\r\nCookie: ").into_bytes();
        head.extend(&value);
        head.extend(b"\r\n\r\n");
        let told = server.ask(&head).await.expect("every head has an answer");
        match told.status {
            200 => assert!(opens(&value, &session), "it opens"),
            401 => assert!(!opens(&value, &session), "it does not open"),
            // What is no header at all, and what is too long for one.
            400 | 431 => {}
            other => panic!("{other}: {}", told.head),
        }
        fuzz.saw(&told.status.to_string());
    }
    fuzz.finish(&["200", "401", "400"]);
}
