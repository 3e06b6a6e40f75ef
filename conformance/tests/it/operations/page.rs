//! `docs/observability.md` says what the program does, and what `deploy/` asks for is there.

use std::{collections::BTreeSet, fmt::Write};

use conformance::{
    harness::{read_text, write_file},
    tools::{self, Run},
};
use registry::{metrics::family, telemetry::FIELDS};
use serde_json::Value;

fn fields() -> String {
    let mut table = "| field | meaning |\n| --- | --- |\n".to_owned();
    for (name, meaning) in FIELDS {
        writeln!(table, "| `{name}` | {meaning} |").unwrap();
    }
    table
}

fn metrics() -> String {
    let mut table = "| name | type | labels | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for family in family::ALL {
        let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind) = (family.name, family.kind.as_str());
        writeln!(table, "| `{name}` | {kind} | {} | {} |", labels.join(", "), family.help).unwrap();
    }
    table
}

/// The page with the table in the place of the one that begins with the same line.
fn with(page: &str, table: &str) -> String {
    let head = table.lines().next().unwrap();
    let from = page.find(head).unwrap_or_else(|| panic!("docs/observability.md has no table {head}"));
    let until = page[from..].find("\n\n").map_or(page.len(), |length| from + length + 1);
    format!("{}{table}{}", &page[..from], &page[until..])
}

#[test]
fn the_page_s_tables_are_those_of_the_program() {
    let path = tools::file("../docs/observability.md");
    let kept = read_text(&path);
    let page = with(&with(&kept, &fields()), &metrics());
    if std::env::var_os("HYTHE_REWRITE").is_some() {
        write_file(&path, page.as_bytes());
    }
    assert!(read_text(&path) == page, "docs/observability.md is stale: run this test again with HYTHE_REWRITE=1");
}

/// The names of metrics in a query.
fn named(query: &str) -> BTreeSet<&str> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    query.split(word).filter(|word| word.starts_with("hythe_") || word.starts_with("process_")).collect()
}

/// What a metric of this name shows in a query.
fn exists(name: &str) -> bool {
    family::ALL.iter().any(|family| match family.kind {
        family::Kind::Histogram => {
            ["_bucket", "_sum", "_count"].iter().any(|end| name.strip_suffix(end) == Some(family.name))
        }
        family::Kind::Counter | family::Kind::Gauge => name == family.name,
    })
}

fn queries(panel: &Value, found: &mut Vec<String>) {
    match panel {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("expr" | "query", Value::String(query)) => found.push(query.clone()),
                    (_, value) => queries(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| queries(value, found)),
        _ => {}
    }
}

#[test]
fn every_metric_of_the_dashboard_is_one_of_the_program() {
    let dashboard: Value = serde_json::from_str(&read_text(&tools::file("../deploy/grafana-dashboard.json"))).unwrap();
    let mut found = Vec::new();
    queries(&dashboard, &mut found);
    let named: BTreeSet<_> = found.iter().flat_map(|query| named(query)).collect();
    let unknown: Vec<_> = named.iter().filter(|name| !exists(name)).collect();
    assert!(unknown.is_empty(), "the dashboard asks for {unknown:?}");
    for family in family::ALL {
        assert!(named.iter().any(|name| name.starts_with(family.name)), "the dashboard leaves out {}", family.name);
    }
}

#[test]
fn every_metric_of_the_alerts_is_one_of_the_program() {
    let alerts = read_text(&tools::file("../deploy/alerts.yaml"));
    let named = named(&alerts);
    assert!(named.len() > 8, "{named:?}");
    let unknown: Vec<_> = named.into_iter().filter(|name| !exists(name)).collect();
    assert!(unknown.is_empty(), "the alerts ask for {unknown:?}");
}

#[tokio::test]
async fn prometheus_takes_the_alerts() {
    let run = Run::new("promtool").args(["check", "rules"]).arg(tools::file("../deploy/alerts.yaml"));
    run.ok().await.says("SUCCESS: 14 rules found");
}
