//! What became of a conditional write whose answer cannot be trusted.

use super::{Body, Found, Version};
use crate::{Error, record};

/// A version that no record has: what a write gets that happened and was already overwritten, so that whoever builds on it
/// loses the next compare-and-swap instead of undoing the other's change.
pub(super) const SUPERSEDED: &str = "superseded";

#[derive(serde::Deserialize)]
struct Head {
    rev: u64,
    nonce: String,
}

fn head(body: &[u8]) -> Option<Head> {
    serde_json::from_slice(body.split(|&b| b == b'\n').next()?).ok()
}

/// Reads the outcome of writing `body` out of what is stored now. [`Error::Conflict`] if it is not there.
///
/// `ambiguous`: an earlier request with this body may have been applied, so a record that has moved on too far to tell is
/// [`Error::Unknown`]. Otherwise the refusal that led here was the only answer and stands.
pub(super) fn settle(body: &Body, stored: Option<&Found>, ambiguous: bool) -> Result<Version, Error> {
    let Some(stored) = stored else {
        let gone = || Error::unknown("the record is gone; nobody can tell whether this write came before");
        return Err(if ambiguous { gone() } else { Error::Conflict });
    };
    if head(&stored.body).is_some_and(|head| head.nonce == body.nonce) {
        return Ok(stored.version.clone());
    }
    let rev_before = head(&body.bytes).map_or(0, |head| head.rev.saturating_sub(1));
    match record::was_written(&stored.body, &body.nonce, rev_before) {
        Some(true) => Ok(Version::new(SUPERSEDED)),
        None if ambiguous => {
            Err(Error::unknown("the record was overwritten too often to tell whether this write was among them"))
        }
        Some(false) | None => Err(Error::Conflict),
    }
}
