//! `/api/v1/session`: what a browser carries of a key, and what it is not good for.

use conformance::{AccountUnderTest, Answer, Caller, Harness, Request, Store, harness::until};
use serde_json::{Value, json};

use super::{holder, key, text};

const SESSION: &str = "/api/v1/session";
const CREDENTIALS: &str = "/api/v1/accounts/acme/credentials";

/// A browser at a server's own pages: the cookie that it was given, and what its scripts add.
struct Browser<'a> {
    harness: &'a Harness,
    cookie: String,
}

/// The name and value of the cookie in an answer.
fn cookie(answer: &Answer) -> String {
    answer.header("set-cookie").split(';').next().unwrap_or_default().to_owned()
}

impl<'a> Browser<'a> {
    async fn open(harness: &'a Harness, key: &Caller) -> Self {
        let answer = key.send(Request::post(SESSION)).await.expect(201);
        Self { harness, cookie: cookie(&answer) }
    }

    fn origin(&self) -> String {
        format!("http://{}", self.harness.host())
    }

    /// As the own pages send it.
    async fn send(&self, request: Request) -> Answer {
        self.bare(request.header("Origin", self.origin()).header("X-Hythe", "1")).await
    }

    /// As any page makes a browser send it.
    async fn bare(&self, request: Request) -> Answer {
        self.harness.send(request.header("Cookie", &self.cookie)).await
    }
}

async fn owner(account: &AccountUnderTest<'_>, harness: &Harness) -> (Caller, String) {
    let (caller, document) = key(account, harness, &["--label", "ann"]).await;
    (caller, text(&document, "/id").to_owned())
}

fn mint() -> Request {
    Request::post(CREDENTIALS).body(json!({"kind": "pull"}).to_string())
}

#[tokio::test]
async fn a_key_opens_a_session_whose_secret_is_in_the_cookie_and_nowhere_else() {
    let harness = Harness::start().await;
    let (key, id) = owner(&harness.account("acme").await, &harness).await;
    let answer = key.send(Request::post(SESSION)).await.expect(201);
    let (secret, attributes) = answer.header("set-cookie").split_once(';').unwrap();
    assert_eq!(attributes, " Secure; HttpOnly; SameSite=Strict; Path=/");
    let secret = secret.strip_prefix("__Host-hythe=").unwrap();
    assert!(secret.starts_with("hyse_") && secret.len() == 93, "{secret}");
    assert!(!answer.text().contains("hyse_"), "{}", answer.text());
    assert_eq!((answer.header("location"), answer.header("cache-control")), (SESSION, "no-store"));

    let browser = Browser { harness: &harness, cookie: cookie(&answer) };
    let shown = browser.bare(Request::get(SESSION)).await.expect(200);
    assert_eq!((shown.json(), shown.header("set-cookie")), (answer.json(), ""));
    let said = shown.json();
    for (field, value) in [("account", "acme"), ("role", "owner"), ("key", &*id), ("label", "ann")] {
        assert_eq!(said[field], value, "{field}");
    }
    let time = |field| chrono::DateTime::parse_from_rfc3339(text(&said, field)).unwrap();
    assert_eq!((time("/expires_at") - time("/created_at")).num_hours(), 8);
    assert!(!harness.log().contains("hyse_"), "{}", harness.log());

    let minted = browser.send(mint()).await.expect(201).json();
    holder(&harness, &minted).send(Request::get("/v2/")).await.expect(200);
    let issuer = &key.send(Request::get(format!("{CREDENTIALS}/{}", text(&minted, "/id")))).await.json()["issuer"];
    assert_eq!(*issuer, json!({"type": "session", "id": said["id"]}));
}

#[tokio::test]
async fn a_closed_session_is_over_and_its_cookie_is_taken_back() {
    let harness = Harness::start().await;
    let (key, _) = owner(&harness.account("acme").await, &harness).await;
    let (closed, other) = (Browser::open(&harness, &key).await, Browser::open(&harness, &key).await);
    let kept = closed.send(mint()).await.expect(201).json();
    let answer = closed.send(Request::post("/api/v1/session/close")).await.expect(200);
    let gone = "__Host-hythe=; Max-Age=0; Secure; HttpOnly; SameSite=Strict; Path=/";
    assert_eq!(answer.header("set-cookie"), gone);
    assert!(!text(&answer.json(), "/effective_by").is_empty(), "{}", answer.text());
    closed.send(Request::get(SESSION)).await.refused(401, "UNAUTHORIZED");
    closed.send(mint()).await.refused(401, "UNAUTHORIZED");
    other.send(Request::get(SESSION)).await.expect(200);
    holder(&harness, &kept).send(Request::get("/v2/")).await.expect(200);
}

/// CSRF: a page of another origin makes the browser send its cookie, were `SameSite` not there.
#[tokio::test]
async fn no_page_of_another_origin_changes_anything_by_a_session() {
    let harness = Harness::start().await;
    let (key, _) = owner(&harness.account("acme").await, &harness).await;
    let browser = Browser::open(&harness, &key).await;
    let own = browser.origin();
    let line = format!("a session changes things from its own pages only: send Origin: {own} and X-Hythe: 1");
    let evil = "http://evil.example";
    for headers in [
        &[][..],
        &[("Origin", &*own)],
        &[("X-Hythe", "1")],
        &[("Origin", evil), ("X-Hythe", "1")],
        &[("Origin", "null"), ("X-Hythe", "1")],
        &[("Origin", &own), ("Origin", evil), ("X-Hythe", "1")],
        &[("Origin", &own), ("X-Hythe", "true")],
        &[("Referer", &own), ("X-Hythe", "1")],
        &[("Origin", "http://localhost"), ("X-Hythe", "1")],
    ] {
        for request in [mint(), Request::post("/api/v1/session/close"), Request::delete("/api/v1/nothing")] {
            let request = headers.iter().fold(request, |request, (name, value)| request.header(name, *value));
            let answer = browser.bare(request).await.refused(403, "DENIED");
            assert_eq!(answer.message(), line, "{headers:?}");
        }
    }
    // Nothing was minted, and the session lives. What is read is read by nobody else: no answer allows another origin to.
    let listed = browser.bare(Request::get(CREDENTIALS).header("Origin", evil)).await.expect(200);
    assert_eq!(listed.json()["items"].as_array().unwrap().len(), 1, "{}", listed.text());
    assert_eq!(listed.header("access-control-allow-origin"), "");
    let asked = Request::new(http::Method::OPTIONS, CREDENTIALS)
        .header("Origin", evil)
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "x-hythe");
    let preflight = harness.send(asked).await;
    assert!(preflight.status.is_client_error() && preflight.header("access-control-allow-origin").is_empty());
}

/// Cookie tossing: a neighbouring host sets a cookie of the same name for this one. The prefix keeps browsers from taking it; where
/// one does all the same, two of them are none.
#[tokio::test]
async fn a_cookie_that_a_neighbour_tossed_in_is_not_followed() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let (key, _) = owner(&acme, &harness).await;
    let beta = harness.account("beta").await;
    let (stranger, _) = owner(&beta, &harness).await;
    let (victim, attacker) = (Browser::open(&harness, &key).await, Browser::open(&harness, &stranger).await);
    for cookies in [
        format!("{}; {}", attacker.cookie, victim.cookie),
        format!("{}; {}", victim.cookie, attacker.cookie),
        format!("{}; __Host-hythe=", victim.cookie),
    ] {
        let request = || Request::get(SESSION).header("Cookie", &cookies);
        harness.send(request()).await.refused(401, "UNAUTHORIZED");
    }
    let twice = Request::get(SESSION).header("Cookie", &victim.cookie).header("Cookie", &attacker.cookie);
    harness.send(twice).await.refused(401, "UNAUTHORIZED");
    // Names that only look alike, and a header for each cookie, as HTTP/2 has them.
    let alike = format!("{}; hythe=x", attacker.cookie.replace("__Host-", "__host-"));
    let apart = Request::get(SESSION).header("Cookie", alike).header("Cookie", &victim.cookie);
    assert_eq!(harness.send(apart).await.expect(200).json()["account"], "acme");
}

/// Session fixation: the victim's browser has a session of the attacker's choice when it logs in.
#[tokio::test]
async fn a_login_makes_a_session_of_its_own_whatever_cookie_was_there() {
    let harness = Harness::start().await;
    let (key, _) = owner(&harness.account("acme").await, &harness).await;
    let (stranger, _) = owner(&harness.account("beta").await, &harness).await;
    let planted = Browser::open(&harness, &stranger).await;
    let made_up = format!("__Host-hythe=hyse_{}", "0".repeat(88));
    for before in [&planted.cookie, &made_up] {
        let answer = key.send(Request::post(SESSION).header("Cookie", before)).await.expect(201);
        let browser = Browser { harness: &harness, cookie: cookie(&answer) };
        assert_ne!(browser.cookie, *before);
        assert_eq!(browser.bare(Request::get(SESSION)).await.expect(200).json()["account"], "acme");
    }
    assert_eq!(planted.bare(Request::get(SESSION)).await.expect(200).json()["account"], "beta");
    let made_up = Request::get(SESSION).header("Cookie", made_up);
    harness.send(made_up).await.refused(401, "UNAUTHORIZED");
    // A session opens no further one, so eight hours are eight hours.
    let again = planted.send(Request::post(SESSION)).await.refused(403, "DENIED");
    assert_eq!(
        (again.message(), again.header("set-cookie")),
        ("this is a session; only the access key itself opens one".into(), "")
    );
}

#[tokio::test]
async fn a_header_goes_before_the_cookie_and_is_no_better_for_it() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let (key, _) = owner(&acme, &harness).await;
    let (stranger, _) = owner(&harness.account("beta").await, &harness).await;
    let browser = Browser::open(&harness, &key).await;
    let cookie = &browser.cookie;
    let other = stranger.send(Request::get("/api/v1/accounts/beta").header("Cookie", cookie)).await.expect(200);
    assert_eq!(other.json()["name"], "beta");
    // It is the key that calls, so it needs no Origin.
    key.send(mint().header("Cookie", cookie)).await.expect(201);
    stranger.send(mint().header("Cookie", cookie)).await.refused(403, "DENIED");
    key.send(Request::get(SESSION).header("Cookie", cookie)).await.refused(403, "DENIED");
    for bad in ["Bearer hyak_garbage", "Basic YTpi", "Digest x", ""] {
        let request = Request::get(SESSION).header("Authorization", bad).header("Cookie", cookie);
        harness.send(request).await.refused(401, "UNAUTHORIZED");
    }
}

#[tokio::test]
async fn a_session_means_nothing_outside_the_api_and_in_no_other_dress() {
    let harness = Harness::start().await;
    let (key, _) = owner(&harness.account("acme").await, &harness).await;
    let browser = Browser::open(&harness, &key).await;
    for path in ["/v2/", "/v2/_catalog", "/v2/acme/web/tags/list", "/token", "/token?scope=repository:acme/web:pull"] {
        browser.send(Request::get(path)).await.refused(401, "UNAUTHORIZED");
    }
    browser.send(Request::post("/v2/acme/web/blobs/uploads/")).await.refused(401, "UNAUTHORIZED");
    let secret = browser.cookie.strip_prefix("__Host-hythe=").unwrap();
    let session = browser.bare(Request::get(SESSION)).await.json();
    let user = format!("acme.session.{}", text(&session, "/id"));
    let basic = Caller::basic(harness.client(), &user, secret);
    basic.send(Request::get("/v2/")).await.refused(401, "UNAUTHORIZED");
    let told = basic.send(Request::get("/token")).await.refused(401, "UNAUTHORIZED");
    assert!(told.message().starts_with("this is a session of the console and cannot log in"), "{}", told.message());
    for caller in [&basic, &Caller::bearer(harness.client(), secret)] {
        caller.send(Request::get(SESSION)).await.refused(401, "UNAUTHORIZED");
    }
}

#[tokio::test]
async fn a_viewer_s_session_reads_and_changes_nothing() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let (viewer, _) = key(&acme, &harness, &["--role", "viewer"]).await;
    let browser = Browser::open(&harness, &viewer).await;
    for path in ["", "/keys", "/credentials", "/repositories", "/usage", "/audit", "/trusts", "/public"] {
        browser.bare(Request::get(format!("/api/v1/accounts/acme{path}"))).await.expect(200);
    }
    browser.send(mint()).await.refused(403, "DENIED");
    browser.send(Request::post("/api/v1/accounts/acme/keys").body("{}")).await.refused(403, "DENIED");
    browser.bare(Request::get("/api/v1/accounts")).await.refused(403, "DENIED");
    browser.bare(Request::get("/api/v1/accounts/beta")).await.refused(403, "DENIED");
    browser.send(Request::post("/api/v1/session/close")).await.expect(200);
}

#[tokio::test]
async fn a_session_lives_eight_hours_whatever_is_done_in_it() {
    let harness = Harness::start().await;
    let (key, _) = owner(&harness.account("acme").await, &harness).await;
    let browser = Browser::open(&harness, &key).await;
    harness.set_clock(8 * 3600 - 60);
    until("the session lives still", async || browser.bare(Request::get(SESSION)).await.status == 200).await;
    harness.set_clock(8 * 3600 + 60);
    let ended = async || {
        let answer = browser.bare(Request::get(SESSION)).await;
        answer.status == 401 && answer.message().starts_with("this credential expired at ")
    };
    until("the session is over", ended).await;
}

/// Whatever ends it ends it on every replica within the bound: its key, the session as a credential, a close elsewhere.
#[tokio::test]
async fn the_end_of_its_key_ends_a_session_everywhere_within_five_seconds() {
    let first = Harness::on(Store::Minio).await;
    let acme = first.account("acme").await;
    let (keeper, _) = owner(&acme, &first).await;
    let second = first.replica(None).await;
    let elsewhere = |cookie: &str| Request::get(SESSION).header("Cookie", cookie);
    for way in ["its key", "itself", "a close"] {
        let (key, id) = owner(&acme, &first).await;
        let browser = Browser::open(&first, &key).await;
        let session: Value = second.send(elsewhere(&browser.cookie)).await.expect(200).json();
        let end = match way {
            "its key" => keeper.send(Request::post(format!("/api/v1/accounts/acme/keys/{id}/revoke"))).await,
            "itself" => keeper.send(Request::post(format!("{CREDENTIALS}/{}/revoke", text(&session, "/id")))).await,
            _ => browser.send(Request::post("/api/v1/session/close")).await,
        };
        end.expect(200);
        let acknowledged = tokio::time::Instant::now();
        browser.bare(Request::get(SESSION)).await.refused(401, "UNAUTHORIZED");
        let mut last = acknowledged;
        until("the other replica has heard of it", async || {
            let asked = tokio::time::Instant::now();
            let alive = second.send(elsewhere(&browser.cookie)).await.status == 200;
            if alive {
                last = asked;
            }
            !alive
        })
        .await;
        let after = last - acknowledged;
        println!("{way}: last served {after:?} after the end was acknowledged");
        assert!(after.as_secs() < 5, "{way}: {after:?}");
    }
}

#[tokio::test]
async fn at_a_host_of_an_account_there_are_no_sessions() {
    let harness = Harness::with(Store::Local, &["--account-domain", "accounts.example"]).await;
    let (key, _) = owner(&harness.account("acme").await, &harness).await;
    let port = harness.client().address().port();
    let host = format!("acme.accounts.example:{port}");
    let there = |request: Request| request.header("Host", &host);
    let browser = Browser::open(&harness, &key).await;
    for path in ["/api/v1/accounts/acme", SESSION, "/v2/"] {
        browser.bare(there(Request::get(path))).await.refused(401, "UNAUTHORIZED");
    }
    let own = there(mint()).header("Origin", format!("http://{host}")).header("X-Hythe", "1");
    browser.bare(own).await.refused(401, "UNAUTHORIZED");
    let refused = key.send(there(Request::post(SESSION))).await.refused(403, "DENIED");
    assert_eq!(refused.header("set-cookie"), "");
    assert_eq!(refused.message(), "this host serves account acme alone; ask at a name of the registry's own");
    key.send(there(Request::get("/api/v1/accounts/acme")).header("Cookie", &browser.cookie)).await.expect(200);
    browser.bare(Request::get("/api/v1/accounts/acme")).await.expect(200);
}
