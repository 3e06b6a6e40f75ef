//! `docs/audit.md`: its commands, its columns and its events.

use std::fmt::Write as _;

use auth::{Happened, audit::csv};
use conformance::{
    Actor, Harness, Store,
    harness::{read_text, write_file},
    page::Page,
    tools,
};

#[tokio::test]
async fn the_audit_is_read_and_proved_as_the_page_says() {
    let harness = Harness::on(Store::Local).await;
    let acme = harness.account("acme").await;
    let owner = acme.actor(Actor::AccessKey).await;
    let key = owner.authorization().unwrap().trim_start_matches("Bearer ").to_owned();
    let mut page = Page::open("docs/audit.md")
        .reading("127.0.0.1:5080", &harness.host())
        .reading("--data data", &harness.store_flags().join(" "))
        .variable("HYTHE_KEY", &key)
        .variable("HYTHE_URL", &format!("http://{}", harness.host()));
    let said = page.run_all().await;
    assert!(said[0].stdout.contains(" key.create "), "{}", said[0].stdout);
    assert!(said[0].stdout.contains(r#""event":"account.create""#), "{}", said[0].stdout);
    let table = read_text(&page.folder().join("acme.csv"));
    assert!(table.starts_with(&csv::heading()) && table.contains(",key.create,acme,"), "{table}");
    let heads = read_text(&page.folder().join("heads.jsonl"));
    assert!(heads.lines().count() >= 3 && heads.contains("sha256"), "{heads}");
    for ended in &said[1..3] {
        assert!(!ended.stdout.contains("NOT"), "{}", ended.stdout);
    }
    assert!(said[1].stdout.contains("account acme (") && said[1].stdout.contains(": as it was written"));
}

#[test]
fn the_page_s_events_and_columns_are_those_of_the_program() {
    let path = tools::file("../docs/audit.md");
    let kept = read_text(&path);
    let mut table = "| event | what happened |\n| --- | --- |\n".to_owned();
    for happened in Happened::ALL {
        writeln!(table, "| `{}` | {} |", happened.as_str(), happened.says()).unwrap();
    }
    let head = table.lines().next().unwrap();
    let from = kept.find(head).expect("the table of events");
    let until = kept[from..].find("\n\n").map_or(kept.len(), |length| from + length + 1);
    let page = format!("{}{table}{}", &kept[..from], &kept[until..]);
    if std::env::var_os("HYTHE_REWRITE").is_some() {
        write_file(&path, page.as_bytes());
    }
    assert!(read_text(&path) == page, "docs/audit.md is stale: run this test again with HYTHE_REWRITE=1");
    assert!(page.lines().any(|line| line == csv::heading().trim_end()), "the heading of the table");
}
