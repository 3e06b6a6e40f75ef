//! The systemd unit and the compose file.

use conformance::{
    Harness, Store,
    harness::{binary, read_text, write_file},
    tools::Run,
};
use serde_json::{Value, json};

use super::file;

/// systemd checks it, with the program under test in the place of the installed one, and finds it well locked in.
#[tokio::test]
async fn the_systemd_unit_is_sound_and_locked_in() {
    let harness = Harness::stopped(Store::Local).await;
    let unit = harness.scratch("unit").join("hythe.service");
    let text = read_text(&file("hythe.service"));
    let installed = "/usr/local/bin/hythe";
    assert!(text.contains(&format!("ExecStart={installed} serve ")));
    write_file(&unit, text.replace(installed, &binary().display().to_string()).as_bytes());
    let verified = Run::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).ok().await;
    assert_eq!(verified.all(), "");
    // Exposure in tenths: 100 is everything, 20 "OK" but good for a service that opens a port.
    let security = Run::new("systemd-analyze").args(["security", "--offline=true", "--no-pager", "--threshold=20"]);
    security.arg(&unit).ok().await;
    // The service gives requests their time to end.
    assert!(text.contains("TimeoutStopSec=35"));
}

#[tokio::test]
async fn the_compose_file_describes_the_container_of_the_image() {
    let compose: Value = serde_yaml_ng::from_str(&read_text(&file("compose.yaml"))).unwrap();
    let hythe = &compose["services"]["hythe"];
    assert_eq!(hythe["volumes"], json!(["data:/data"]));
    assert_eq!(compose["volumes"], json!({"data": null}));
    assert_eq!(hythe["ports"], json!(["${HYTHE_PUBLISH:-127.0.0.1:5080}:5080"]));
    assert_eq!((&hythe["read_only"], &hythe["cap_drop"]), (&json!(true), &json!(["ALL"])));
    // Every variable is one that the program knows, and its default is accepted.
    let mut run = Run::of(&binary()).args(["config", "check"]);
    for (name, value) in hythe["environment"].as_object().unwrap() {
        let value = value.as_str().unwrap();
        let default = value.split_once(":-").map_or(value, |(_, rest)| rest.trim_end_matches('}'));
        run = run.env(name, default);
        let known = config::SETTINGS.iter().any(|setting| setting.variable() == *name);
        assert!(known, "{name} is no setting");
    }
    run.ok().await;
}
