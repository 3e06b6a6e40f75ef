//! What a command prints on stdout: text for people, or one JSON document.

use std::{
    fs::OpenOptions,
    io::{self, IsTerminal, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use serde::Serialize;

/// `--output` of most commands.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Output {
    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
}

impl Output {
    /// Prints a document: as JSON, or as the text that `text` makes of it.
    pub(crate) fn print<T: Serialize>(self, document: &T, text: impl FnOnce(&T) -> String) -> io::Result<()> {
        match self.output {
            Format::Text => print(&text(document)),
            Format::Json => print(&json(document)?),
        }
    }
}

/// A document as one line of JSON.
pub(crate) fn json<T: Serialize>(document: &T) -> io::Result<String> {
    Ok(serde_json::to_string(document)?)
}

/// Prints lines on stdout. A reader that has gone away (`| head`) is no error.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    match write!(out, "{text}{end}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// Writes a file that its owner alone can read, in the place of one that is there: whoever reads it finds the old or the new.
pub(crate) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)
    };
    write().map_err(told)
}

/// Says something to the person at the terminal, apart from what is printed.
pub(crate) fn say(text: &str) {
    // Nobody is left to be told that stderr is closed.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether a person reads stderr.
pub(crate) fn terminal() -> bool {
    io::stderr().is_terminal()
}

/// Rows under a heading, columns aligned; nothing at all for no rows.
pub(crate) fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let heading = heading.map(str::to_owned);
    let lines = || std::iter::once(&heading).chain(rows);
    let mut widths = [0; N];
    for line in lines() {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in lines() {
        let cells: Vec<String> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_is_nothing() {
        let rows = [["a".to_owned(), "long".to_owned()], ["bcd".to_owned(), "x".to_owned()]];
        assert_eq!(table(["ID", "N"], &rows), "ID   N\na    long\nbcd  x\n");
        assert_eq!(table(["ID", "N"], &[]), "");
    }
}
