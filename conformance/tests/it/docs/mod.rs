//! The commands of the documentation, run as they stand: one module a page, named after it.

mod account_hosts;
mod api;
mod audit;
mod collection;
mod from_elsewhere;
mod keys_and_secrets;
mod kubernetes;
mod migration;
mod moving;
mod quick_start;
mod quotas;
mod readme;
mod renewal;
mod retention;
mod security;
mod workload_identity;

use conformance::{harness::read_text, page, tools};

/// `docs/reverse-proxies.md` with commands on it has a module `reverse_proxies.rs` here.
#[test]
fn every_page_with_commands_is_run_by_a_test() {
    let docs = std::fs::read_dir(tools::file("../docs")).unwrap();
    let pages = docs.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "md"));
    let mut seen = 0;
    for page in pages {
        seen += 1;
        if page::blocks(&read_text(&page)).is_empty() {
            continue;
        }
        let module = page.file_stem().unwrap().to_str().unwrap().replace('-', "_");
        let module = tools::file("tests/it/docs").join(module).with_extension("rs");
        assert!(module.exists(), "nothing runs {}: {} is missing", page.display(), module.display());
    }
    assert!(seen > 0);
}
