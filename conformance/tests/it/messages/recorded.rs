//! The fixture of one client: a line `[situation, verb]`, then what was printed.

use std::fmt::Write as _;

use conformance::{
    harness::{read_text, write_file},
    tools,
};

/// What a client printed, in the order of the situations.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Recorded {
    pub(super) cells: Vec<Cell>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) situation: String,
    pub(super) verb: String,
    pub(super) text: String,
}

impl Recorded {
    pub(super) fn add(&mut self, situation: &str, verb: &str, text: &str) {
        let text = text.trim().to_owned();
        assert!(!text.is_empty(), "{situation}, {verb}: nothing was printed");
        self.cells.push(Cell { situation: situation.to_owned(), verb: verb.to_owned(), text });
    }

    /// The fixture of a client as it is kept; empty if there is none.
    pub(super) fn kept(client: &str) -> Self {
        let text = read_text(&tools::file(&format!("fixtures/messages/{client}.txt")));
        let mut kept = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')?.rsplit_once(", ")) {
                Some((situation, verb)) => {
                    let text = String::new();
                    kept.cells.push(Cell { situation: situation.to_owned(), verb: verb.to_owned(), text });
                }
                None => {
                    if let Some(cell) = kept.cells.last_mut() {
                        let _ = writeln!(cell.text, "{line}");
                    }
                }
            }
        }
        for cell in &mut kept.cells {
            cell.text = cell.text.trim().to_owned();
        }
        kept
    }

    /// Compares with the fixture, or writes it.
    pub(super) fn compare(&self, client: &str) {
        if std::env::var_os("HYTHE_REWRITE").is_some() {
            let mut text = format!(
                "# What {client} prints when it is refused. Written by the test that checks it, with HYTHE_REWRITE=1:\n\
                 # conformance/tests/it/messages\n"
            );
            for cell in &self.cells {
                let _ = write!(text, "\n[{}, {}]\n{}\n", cell.situation, cell.verb, cell.text);
            }
            write_file(&tools::file(&format!("fixtures/messages/{client}.txt")), text.as_bytes());
            return;
        }
        let kept = Self::kept(client);
        let mut wrong = String::new();
        for cell in &self.cells {
            let same = |other: &&Cell| other.situation == cell.situation && other.verb == cell.verb;
            let before = kept.cells.iter().find(same).map_or("nothing", |cell| cell.text.as_str());
            if before != cell.text {
                let _ = writeln!(
                    wrong,
                    "[{}, {}]\n--- recorded\n{before}\n--- printed\n{}",
                    cell.situation, cell.verb, cell.text
                );
            }
        }
        assert!(wrong.is_empty(), "{client} prints something else (HYTHE_REWRITE=1 records it):\n{wrong}");
        assert_eq!(self.cells.len(), kept.cells.len(), "{client}: its fixture has cells that nothing runs any more");
    }
}
