//! What a removed record leaves behind on a store that deletes without a condition.

use crate::{Error, key::PlainKey};

/// Size of a tombstone in bytes. No record is that short and no plain key has a body of that size, so a list tells it apart.
const SIZE: usize = 16;

/// A tombstone unlike every other of its key. Where an `ETag` is a hash of the content, equal ones have equal versions, and a creation
/// over the first that arrives again would be good for the second.
pub(super) fn fresh() -> bytes::Bytes {
    crate::random_text(SIZE).into()
}

/// Whether an object of this size is one. Earlier releases left empty ones.
pub(crate) fn is(size: usize) -> bool {
    size == 0 || size == SIZE
}

/// Refuses the body of a plain key that a list would take for a tombstone.
pub(super) fn refuse(key: &PlainKey, body: &[u8]) -> Result<(), Error> {
    if is(body.len()) { Err(Error::corrupt(format!("a body of {} bytes for {key}", body.len()))) } else { Ok(()) }
}
