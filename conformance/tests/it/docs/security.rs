//! `docs/security.md` names tests; each has to be there, and to say which hole it is about.

use std::path::{Path, PathBuf};

use conformance::{harness::read_text, tools};

/// Every Rust file under the folders of sources and tests.
fn sources() -> Vec<(PathBuf, String)> {
    fn collect(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push((path.clone(), read_text(&path)));
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["tests/it", "../auth", "../storage/src", "../registry/src"] {
        collect(&tools::file(folder), &mut found);
    }
    found
}

/// The first line of a test's comment to its name, if a file where its path says has it.
fn test<'a>(sources: &'a [(PathBuf, String)], path: &str) -> Option<&'a str> {
    let parts: Vec<&str> = path.split("::").collect();
    let (name, modules) = parts.split_last()?;
    let module = modules.last()?;
    sources.iter().find_map(|(file, text)| {
        let there = file.file_stem().is_some_and(|stem| stem == *module)
            || file.parent().and_then(Path::file_name).is_some_and(|folder| folder == *module);
        let (before, _) = text.split_once(&format!("fn {name}(")).filter(|_| there)?;
        let start = before.rfind("\n\n").map_or(0, |at| at + 2);
        before.get(start..)
    })
}

#[test]
fn every_test_that_the_security_page_names_is_there() {
    let (sources, page) = (sources(), read_text(&tools::file("../docs/security.md")));
    let (mut named, mut holes) = (0, 0);
    for row in page.lines().filter(|line| line.starts_with('|')) {
        let columns: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let Some(last) = columns.last() else { continue };
        for path in last.split('`').filter(|text| text.contains("::")) {
            let comment = test(&sources, path).unwrap_or_else(|| panic!("no test {path}"));
            assert!(
                comment.contains("#[test]") || comment.contains("#[tokio::test") || comment.contains("proptest"),
                "{path}: {comment}"
            );
            named += 1;
            // A hole with a number stands in the comment of its test, as the page writes it.
            let hole = columns[0].trim().split([',', ':', ' ']).next().unwrap_or_default();
            if hole.starts_with("CVE-") || hole.contains('#') {
                holes += 1;
                assert!(comment.contains(hole), "{path} does not say {hole}: {comment}");
            }
        }
    }
    assert!(named >= 40 && holes >= 18, "{named} tests and {holes} holes: the tables were not read");
    for number in 1..=20 {
        assert!(page.contains(&format!("\n| {number}. ")), "attack {number} has no row");
    }
}
