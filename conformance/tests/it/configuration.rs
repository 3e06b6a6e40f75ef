//! The table of settings is generated from the settings.

use std::fmt::Write as _;

use config::{SETTINGS, Sources};

const BEGIN: &str = "--test it configuration -->\n";
const END: &str = "<!-- end -->\n";

fn table() -> String {
    let defaults = config::load(&Sources::isolated()).unwrap().effective;
    let mut text =
        "\n| key | flag, variable | default | holds | reload | meaning |\n| --- | --- | --- | --- | --- | --- |\n"
            .to_owned();
    for setting in SETTINGS {
        let default = defaults.iter().find(|e| e.key == setting.key && !e.value.is_empty());
        let default = default.map_or_else(|| "none".to_owned(), |default| format!("`{}`", default.value));
        writeln!(
            text,
            "| `{}` | `--{}` `{}` | {default} | {} | {} | {} |",
            setting.key,
            setting.flag(),
            setting.variable(),
            setting.holds(),
            if setting.reload { "yes" } else { "restart" },
            setting.help.replace('|', "\\|"),
        )
        .unwrap();
    }
    text + "\n"
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the page is a file of the repository")]
fn the_table_of_settings_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let kept = std::fs::read_to_string(path).unwrap();
    let (head, rest) = kept.split_once(BEGIN).unwrap();
    let (_, tail) = rest.split_once(END).unwrap();
    let page = format!("{head}{BEGIN}{}{END}{tail}", table());
    if std::env::var_os("HYTHE_REWRITE").is_some() {
        std::fs::write(path, &page).unwrap();
        return;
    }
    assert!(kept == page, "docs/configuration.md is stale: run this test again with HYTHE_REWRITE=1");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the page is a file of the repository")]
fn the_files_on_the_page_can_be_used() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let page = std::fs::read_to_string(path).unwrap();
    let blocks: Vec<_> = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hythe.toml");
        std::fs::write(&file, block.replace("5f0c…", &"5f".repeat(32))).unwrap();
        let config = config::load(&Sources::isolated().file(&file)).unwrap();
        auth::Declared::check(&config.accounts).unwrap();
    }
}
