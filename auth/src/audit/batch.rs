//! A batch: one line that says where it stands in its chain, then its events, a line each.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use storage::{Generation, key::AuditBatch};

/// The layout that this build writes and reads.
const VERSION: u32 = 1;

/// The first line of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Opening {
    v: u32,
    #[serde(rename = "gen")]
    pub(super) generation: Generation,
    /// Its own name below the account's audit: a batch under another's name is found out.
    pub(super) batch: String,
    /// Events of this chain that were lost before this batch, because too many waited.
    #[serde(default)]
    pub(super) lost: u64,
    /// The batch before it; `null` opens a chain.
    pub(super) previous: Option<Link>,
}

/// A batch by its name and its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Link {
    pub(super) batch: String,
    pub(super) sha256: String,
}

/// The hash that a chain is linked by.
pub(super) fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

impl Link {
    pub(super) fn to(batch: &AuditBatch, bytes: &[u8]) -> Self {
        Self { batch: batch.to_string(), sha256: hash(bytes) }
    }
}

impl Opening {
    pub(super) fn new(generation: &Generation, batch: &AuditBatch, lost: u64, previous: Option<Link>) -> Self {
        Self { v: VERSION, generation: generation.clone(), batch: batch.to_string(), lost, previous }
    }

    /// The whole batch over its lines.
    pub(super) fn before(&self, lines: &[u8]) -> Bytes {
        // Texts and numbers alone: this cannot fail, and a batch without its opening would be found damaged.
        let mut body = serde_json::to_vec(self).unwrap_or_default();
        body.push(b'\n');
        body.extend_from_slice(lines);
        body.into()
    }

    /// The opening of a batch and its lines; `None` if it is none.
    pub(super) fn read(body: &[u8]) -> Option<(Self, &[u8])> {
        let end = body.iter().position(|&b| b == b'\n')?;
        let (opening, lines) = body.split_at_checked(end + 1)?;
        let opening: Self = serde_json::from_slice(opening).ok()?;
        (opening.v <= VERSION).then_some((opening, lines))
    }
}

/// The lines of a batch without their ends.
pub(super) fn lines(lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    lines.split(|&b| b == b'\n').filter(|line| !line.is_empty())
}
