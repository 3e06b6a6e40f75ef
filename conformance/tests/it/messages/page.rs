//! `docs/troubleshooting.md`: prose by hand, and between its marks what the fixtures say.

use std::fmt::Write as _;

use conformance::{
    harness::{read_text, write_file},
    tools,
};

use super::recorded::{Cell, Recorded};

/// The fixtures, and what a reader types.
const CLIENTS: [(&str, &str); 9] = [
    ("docker", "docker"),
    ("podman", "podman"),
    ("skopeo", "skopeo"),
    ("crane", "crane"),
    ("helm", "helm"),
    ("oras-go", "oras-go"),
    ("oras-python", "oras (Python)"),
    ("containerd", "ctr images"),
    ("kubelet", "kubelet"),
];
const BEGIN: &str = "<!-- what the clients print: ";
const END: &str = "<!-- as recorded -->";

/// Everything that was recorded: who types it, and the cell.
fn cells() -> Vec<(String, Cell)> {
    let of = |(fixture, typed): (&str, &'static str)| {
        Recorded::kept(fixture).cells.into_iter().map(move |cell| (format!("{typed} {}", cell.verb), cell))
    };
    CLIENTS.into_iter().flat_map(of).collect()
}

/// The block of one situation: who prints the same stands together.
fn block(situation: &str, cells: &[(String, Cell)]) -> String {
    let mut groups: Vec<(Vec<&str>, &str)> = Vec::new();
    for (typed, cell) in cells.iter().filter(|(_, cell)| cell.situation == situation) {
        match groups.iter_mut().find(|(_, text)| *text == cell.text) {
            Some((who, _)) => who.push(typed),
            None => groups.push((vec![typed], &cell.text)),
        }
    }
    let mut block = String::from("```text\n");
    for (at, (who, text)) in groups.iter().enumerate() {
        let _ = writeln!(block, "{}# {}\n{text}", if at > 0 { "\n" } else { "" }, who.join(", "));
    }
    block + "```\n"
}

#[test]
fn the_troubleshooting_page_shows_what_the_clients_print() {
    let path = tools::file("../docs/troubleshooting.md");
    let kept = read_text(&path);
    let cells = cells();
    let mut page = String::new();
    let mut shown = Vec::new();
    let mut lines = kept.lines();
    while let Some(line) = lines.next() {
        let _ = writeln!(page, "{line}");
        if let Some(situation) = line.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(" -->")) {
            page += &block(situation, &cells);
            let _ = writeln!(page, "{END}");
            shown.push(situation);
            assert!(lines.any(|line| line == END), "{situation}: its block does not end");
        }
    }
    for (_, cell) in &cells {
        assert!(shown.contains(&cell.situation.as_str()), "the page does not speak of: {}", cell.situation);
    }
    for situation in shown {
        assert!(cells.iter().any(|(_, cell)| cell.situation == situation), "nobody records: {situation}");
    }
    if std::env::var_os("HYTHE_REWRITE").is_some() {
        write_file(&path, page.as_bytes());
        return;
    }
    assert!(kept == page, "docs/troubleshooting.md is stale: run this test again with HYTHE_REWRITE=1");
}
