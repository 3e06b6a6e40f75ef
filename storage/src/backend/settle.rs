//! What became of a conditional write whose answer cannot be trusted.

use super::{Body, Found, Version};
use crate::{Error, record};

/// A version that no record has: what a write gets that happened and was already overwritten, so that whoever builds on it
/// loses the next compare-and-swap instead of undoing the other's change.
pub(super) const SUPERSEDED: &str = "superseded";

fn nonce(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Head {
        nonce: String,
    }
    serde_json::from_slice::<Head>(body.split(|&b| b == b'\n').next()?).ok().map(|head| head.nonce)
}

/// Reads the outcome of writing `body` out of what is stored now. [`Error::Conflict`] if it is not there.
///
/// `ambiguous`: an earlier request with this body may have been applied, so it is a lost race only if the record still knows the
/// version that the write went upon, and [`Error::Unknown`] if not. Otherwise the refusal that led here was the only answer and
/// stands.
pub(super) fn settle(body: &Body, stored: Option<&Found>, ambiguous: bool) -> Result<Version, Error> {
    let Some(stored) = stored else {
        let gone = || Error::unknown("the record is gone; nobody can tell whether this write came before");
        return Err(if ambiguous { gone() } else { Error::Conflict });
    };
    if nonce(&stored.body).as_ref() == Some(&body.nonce) {
        return Ok(stored.version.clone());
    }
    match record::was_written(&stored.body, body) {
        Some(true) => Ok(Version::new(SUPERSEDED)),
        None if ambiguous => Err(Error::unknown(
            "the record was made again or overwritten too often; nobody can tell whether this write came before",
        )),
        Some(false) | None => Err(Error::Conflict),
    }
}
