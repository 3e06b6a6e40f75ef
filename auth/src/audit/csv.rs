//! Lines as rows of a table (RFC 4180), for who works with spreadsheets.

use chrono::SecondsFormat;

use super::event::{Event, Outcome};

/// The columns, in their order: nothing is ever taken out or moved, what is new comes behind.
pub const COLUMNS: [&str; 13] = [
    "ts",
    "event",
    "account",
    "gen",
    "actor_type",
    "actor_id",
    "actor_label",
    "target",
    "ip",
    "user_agent",
    "request_id",
    "outcome",
    "reason",
];

/// The heading: one row, with its end.
pub fn heading() -> String {
    row(COLUMNS.map(str::to_owned))
}

/// An event: one row, with its end. What is `null` in a line is empty.
pub fn event(event: &Event) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    row([
        event.ts.to_rfc3339_opts(SecondsFormat::Millis, true),
        event.event.clone(),
        event.account.as_ref().map(ToString::to_string).unwrap_or_default(),
        event.generation.to_string(),
        event.actor.kind.as_str().to_owned(),
        text(&event.actor.id),
        text(&event.actor.label),
        text(&event.target),
        event.ip.map(|ip| ip.to_string()).unwrap_or_default(),
        text(&event.user_agent),
        text(&event.request_id),
        match event.outcome {
            Outcome::Ok => "ok",
            Outcome::Denied => "denied",
        }
        .to_owned(),
        text(&event.reason),
    ])
}

fn row(fields: [String; COLUMNS.len()]) -> String {
    fields.map(|field| quoted(&field)).join(",") + "\r\n"
}

/// A field as it stands in a row: in quotes if it has to be.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\r', '\n']) || field.starts_with(' ') || field.ends_with(' ') {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads rows by the grammar of RFC 4180 section 2.
    fn read(text: &str) -> Vec<Vec<String>> {
        let (mut rows, mut fields, mut field) = (Vec::new(), Vec::new(), String::new());
        let mut rest = text.chars().peekable();
        let mut inside = false;
        while let Some(c) = rest.next() {
            match c {
                '"' if inside && rest.peek() == Some(&'"') => field.push(rest.next().unwrap()),
                '"' if inside => inside = false,
                c if inside => field.push(c),
                '"' => {
                    assert!(field.is_empty(), "a quote within a bare field: {text:?}");
                    inside = true;
                }
                ',' => fields.push(std::mem::take(&mut field)),
                '\r' => {
                    assert_eq!(rest.next(), Some('\n'), "a bare carriage return: {text:?}");
                    fields.push(std::mem::take(&mut field));
                    rows.push(std::mem::take(&mut fields));
                }
                '\n' => panic!("a bare line feed: {text:?}"),
                c => field.push(c),
            }
        }
        assert!(!inside && fields.is_empty() && field.is_empty(), "a row without an end: {text:?}");
        rows
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(fields in proptest::collection::vec("[a-z,\"\r\n =\u{fc}]{0,12}", 26)) {
            let (first, second) = fields.split_at(COLUMNS.len());
            let text = row(first.to_vec().try_into().unwrap()) + &row(second.to_vec().try_into().unwrap());
            prop_assert_eq!(read(&text), vec![first.to_vec(), second.to_vec()]);
        }
    }

    #[test]
    fn the_heading_is_one_plain_row() {
        assert_eq!(read(&heading()), [COLUMNS.map(str::to_owned).to_vec()]);
        assert!(!heading().contains('"'));
    }
}
