//! The workspace's own promises: arrows point down, HTTP stays in `registry`, one TLS stack, declared once.

use std::collections::{BTreeMap, BTreeSet};

use conformance::tools::{self, Run};
use serde_json::Value;

/// From the bottom up: a layer may depend on what stands before it.
const LAYERS: [&str; 5] = ["hythe-config", "hythe-storage", "hythe-auth", "hythe-packages", "hythe-registry"];

async fn metadata() -> Value {
    let manifest = tools::file("../Cargo.toml");
    let run = Run::new("cargo").args(["metadata", "--format-version=1", "--locked", "--manifest-path"]).arg(manifest);
    serde_json::from_str(&run.ok().await.stdout).unwrap()
}

/// The names of a member's ordinary dependencies.
fn members(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .filter(|package| package["source"].is_null())
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let ordinary = dependencies.filter(|dependency| dependency["kind"].is_null());
            let names = ordinary.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect();
            (package["name"].as_str().unwrap().to_owned(), names)
        })
        .collect()
}

#[tokio::test]
async fn dependencies_point_down_only() {
    let members = members(&metadata().await);
    for (height, layer) in LAYERS.iter().enumerate() {
        let above: BTreeSet<_> =
            LAYERS[height..].iter().chain(&["hythe-conformance"]).map(ToString::to_string).collect();
        let wrong: Vec<_> = members[*layer].intersection(&above).collect();
        assert!(wrong.is_empty(), "{layer} depends on {wrong:?}");
    }
}

#[tokio::test]
async fn the_model_stands_apart() {
    let metadata = metadata().await;
    for package in metadata["packages"].as_array().unwrap() {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let names: BTreeSet<_> = dependencies.map(|dependency| dependency["name"].as_str().unwrap()).collect();
        assert!(!names.contains("hythe-model"), "{} depends on the model", package["name"]);
        if package["name"] == "hythe-model" {
            assert_eq!(names, BTreeSet::from(["stateright"]), "the model is of the protocol, not of the code");
        }
    }
}

#[tokio::test]
async fn only_the_registry_speaks_http() {
    let members = members(&metadata().await);
    for layer in &LAYERS[..4] {
        for banned in ["hyper", "hyper-util", "axum", "tower", "reqwest"] {
            assert!(!members[*layer].contains(banned), "{layer} depends on {banned}");
        }
    }
}

#[tokio::test]
async fn there_is_one_tls_stack_and_one_runtime() {
    let metadata = metadata().await;
    let names: BTreeSet<_> =
        metadata["packages"].as_array().unwrap().iter().map(|package| package["name"].as_str().unwrap()).collect();
    assert!(names.contains("rustls"));
    for banned in ["openssl", "openssl-sys", "native-tls", "async-std", "smol"] {
        let tree = Run::new("cargo")
            .args(["tree", "--locked", "--edges", "normal", "--invert", banned, "--manifest-path"])
            .arg(tools::file("../Cargo.toml"))
            .end()
            .await;
        // What is in the lock file for another platform alone has no tree here.
        assert!(!tree.success || tree.stdout.trim().is_empty(), "{banned} came in:\n{}", tree.stdout);
    }
}
