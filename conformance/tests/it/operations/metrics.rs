//! `/metrics` has what the documentation says, and what the dashboard and the alerts of `deploy/` ask for.

use std::collections::{BTreeMap, BTreeSet};

use conformance::{
    Actor, Client, Harness, Request, Store,
    fixture::{self, Format},
    harness, push,
};
use registry::metrics::family::{self, Kind};

/// The series of a page of Prometheus' text format: name and labels to number.
fn series(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, number) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            (series.to_owned(), number.parse().unwrap_or_else(|_| panic!("{line}")))
        })
        .collect()
}

/// The name of a series, and the names of its labels.
fn parts(series: &str) -> (&str, BTreeSet<&str>) {
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.trim_end_matches('}').split("\",").filter_map(|label| label.split_once('=')).map(|pair| pair.0);
    (name, labels.collect())
}

/// A server on which everything has happened that is counted.
async fn page_of_a_busy_server() -> String {
    let operations = harness::free_address();
    let args = ["--operations", &operations.to_string(), "--default-quota", "1GiB"];
    let mut harness = Harness::with(Store::Local, &args).await;
    let acme = harness.account("acme").await;
    let caller = acme.caller(&acme.push().await);
    let image = fixture::image("metrics", Format::Oci);
    push::bundle(&caller, "acme/web", "v1", &image).await;
    caller.send(Request::get("/v2/acme/web/manifests/v1")).await.expect(200);
    let mint = Request::post("/api/v1/accounts/acme/credentials").body(r#"{"kind":"pull"}"#);
    acme.actor(Actor::AccessKey).await.send(mint).await.expect(201);
    acme.actor(Actor::WrongKey).await.send(Request::get("/v2/acme/web/manifests/v1")).await.expect(401);
    drop(acme);
    let page = Client::new(operations).send(Request::get("/metrics")).await.expect(200);
    assert_eq!(page.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    harness.stop().await;
    page.text()
}

#[tokio::test]
async fn every_documented_metric_is_there_and_no_other() {
    let page = page_of_a_busy_server().await;
    let series = series(&page);
    // Counted only when something goes wrong, with TLS, with a quota, or after minutes.
    let unseen = [
        "hythe_requests_incomplete_total",
        "hythe_store_errors_total",
        "hythe_tls_certificate_not_after_seconds",
        "hythe_reclaimable_bytes",
        "hythe_quota_used_ratio",
    ];
    let mut seen = BTreeSet::new();
    for one in series.keys() {
        let (name, mut labels) = parts(one);
        let family = family::ALL.iter().find(|family| match family.kind {
            Kind::Histogram => {
                ["_bucket", "_sum", "_count"].iter().any(|end| name.strip_suffix(end) == Some(family.name))
            }
            Kind::Counter | Kind::Gauge => name == family.name,
        });
        let family = family.unwrap_or_else(|| panic!("{one} is not documented"));
        labels.remove("le");
        assert_eq!(labels, family.labels.iter().copied().collect(), "{one}");
        seen.insert(family.name);
    }
    for family in family::ALL {
        let told = format!("# HELP {0} {1}\n# TYPE {0} {2}\n", family.name, family.help, family.kind.as_str());
        assert!(page.contains(&told), "{} has no head", family.name);
        assert!(seen.contains(family.name) || unseen.contains(&family.name), "{} has no series", family.name);
    }
    for (one, least) in [
        ("hythe_requests_total{operation=\"manifest_get\",status=\"200\"}", 1.0),
        ("hythe_requests_refused_total{reason=\"unauthenticated\"}", 1.0),
        ("hythe_received_bytes_total", 100.0),
        ("hythe_sent_bytes_total", 100.0),
        ("hythe_connections", 1.0),
        ("hythe_store_call_duration_seconds_count{part=\"bytes\",call=\"checkpoint\"}", 1.0),
        ("hythe_live_credentials_limit_ratio{of=\"key\"}", 0.0001),
        ("hythe_live_credentials_limit_ratio{of=\"account\"}", 0.0),
        ("hythe_disk_free_bytes", 1.0),
        ("hythe_disk_reserve_bytes", 1.0),
        ("process_resident_memory_bytes", 1e6),
        ("process_start_time_seconds", 1e9),
    ] {
        assert!(series.get(one).is_some_and(|number| *number >= least), "{one} is {:?}", series.get(one));
    }
}
