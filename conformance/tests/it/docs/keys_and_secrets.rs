//! `docs/keys-and-secrets.md`: a key's whole life.

use conformance::{Harness, Request, page::Page};

use crate::clients::docker::Daemon;

#[tokio::test]
async fn keys_live_and_end_as_the_page_says() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let daemon = Daemon::start(&harness).await;
    let mut page = Page::open("docs/keys-and-secrets.md")
        .reading("127.0.0.1:5080", &harness.host())
        .reading("--data data", &harness.store_flags().join(" "));
    for (name, value) in daemon.variables() {
        page = page.variable(&name, &value);
    }
    let read = |page: &Page, file: &str| {
        let text = conformance::harness::read_text(&page.folder().join(file));
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        ["username", "password"].map(|field| document[field].as_str().unwrap().to_owned())
    };
    let pings = async |[user, password]: [String; 2]| {
        let caller = conformance::Caller::basic(harness.client(), &user, &password);
        caller.send(Request::get("/v2/")).await.status.as_u16()
    };
    let (ends, kills) = (page.with("credential revoke"), page.with("key revoke"));
    let (too_much, dead) = (page.with("create acme --kind push\n"), kills + 1);
    for n in 1..ends {
        if n == too_much {
            page.fails(n).await.says("this is an installer key; its role does not allow this");
        } else {
            page.run(n).await;
        }
    }
    assert_eq!(pings(read(&page, "after.json")).await, 200);
    assert_eq!(pings(read(&page, "from-api.json")).await, 200);
    page.run(ends).await;
    assert_eq!(pings(read(&page, "after.json")).await, 401);
    page.run(kills).await;
    harness.heard().await;
    assert_eq!(pings(read(&page, "from-api.json")).await, 401);
    page.fails(dead).await.says("this credential was revoked at");
    for n in dead + 1..=page.len() {
        page.run(n).await;
    }
    acme.caller(&acme.pull().await).send(Request::get("/v2/")).await.expect(200);
}
