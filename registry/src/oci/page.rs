//! Pages: `n`, `last` and the `Link` to the next one (distribution-spec, "Listing Tags"; RFC 8288).

use super::Query;
use crate::error::{Code, Failure};

/// Entries of a page when the client does not say.
const DEFAULT: usize = 1000;
/// Most entries of a page, whatever the client says (CVE-2023-2253).
const MOST: usize = 10_000;

/// The number of entries to answer.
pub(crate) fn limit(query: &Query<'_>) -> Result<usize, Failure> {
    match query.first("n") {
        None => Ok(DEFAULT),
        Some(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
            // More digits than fit are more than the most.
            Ok(text.parse().unwrap_or(MOST).min(MOST))
        }
        Some(_) => Err(Failure::Bad(Code::PaginationNumberInvalid, "n must be a number, 0 or more".into())),
    }
}

/// The `Link` header for the page after `last`.
pub(crate) fn next(path: &str, limit: usize, last: &str) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("n", &limit.to_string())
        .append_pair("last", last)
        .finish();
    format!("<{path}?{query}>; rel=\"next\"")
}
