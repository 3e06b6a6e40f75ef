//! Hashes of a blob on its way in: on a blocking thread, saved and resumed with the session.

use serde::{Deserialize, Serialize};
use sha2::digest::{Digest as _, common::hazmat::SerializableState};

use crate::{Algorithm, Digest, Error};

/// The release line of the hash crate whose saved states this build can read.
const STATE_FORMAT: &str = "sha2-0.11";

/// A running hash of everything a session has received.
#[derive(Debug, Clone)]
pub(crate) struct Hasher {
    sha256: Option<sha2::Sha256>,
    sha512: Option<sha2::Sha512>,
}

/// A saved hash state, as the session's document carries it: hex, with the format it is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HashState {
    format: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha512: Option<String>,
}

impl Hasher {
    /// A fresh hash. sha256 always runs; `announced` says whether sha512 has to run beside it.
    pub(crate) fn new(announced: Option<Algorithm>) -> Self {
        let sha512 = matches!(announced, Some(Algorithm::Sha512)).then(sha2::Sha512::new);
        Self { sha256: Some(sha2::Sha256::new()), sha512 }
    }

    /// Goes on from a saved state. A state of a format that this build does not know yields a hasher of nothing: the commit then
    /// reads the bytes back.
    pub(crate) fn resume(state: &HashState) -> Self {
        fn load<H: SerializableState>(text: Option<&String>) -> Option<H> {
            let bytes = hex::decode(text?).ok()?;
            let state = bytes.as_slice().try_into().ok()?;
            H::deserialize(&state).ok()
        }
        if state.format == STATE_FORMAT {
            Self { sha256: load(state.sha256.as_ref()), sha512: load(state.sha512.as_ref()) }
        } else {
            Self { sha256: None, sha512: None }
        }
    }

    /// The state so far.
    pub(crate) fn save(&self) -> HashState {
        HashState {
            format: STATE_FORMAT.into(),
            sha256: self.sha256.as_ref().map(|h| hex::encode(h.serialize())),
            sha512: self.sha512.as_ref().map(|h| hex::encode(h.serialize())),
        }
    }

    /// Takes the next bytes.
    pub(crate) fn update(&mut self, data: &[u8]) {
        if let Some(h) = &mut self.sha256 {
            h.update(data);
        }
        if let Some(h) = &mut self.sha512 {
            h.update(data);
        }
    }

    /// [`Hasher::update`] on a blocking thread, so that hashing overlaps with receiving and writing.
    pub(crate) async fn update_detached(mut self, data: bytes::Bytes) -> Result<Self, Error> {
        tokio::task::spawn_blocking(move || {
            self.update(&data);
            self
        })
        .await
        .map_err(Error::unknown)
    }

    /// The digest of everything taken so far; `None` if this algorithm was not followed from the start.
    pub(crate) fn digest(&self, algorithm: Algorithm) -> Option<Digest> {
        match algorithm {
            Algorithm::Sha256 => Digest::from_hash(algorithm, &self.sha256.clone()?.finalize()),
            Algorithm::Sha512 => Digest::from_hash(algorithm, &self.sha512.clone()?.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_hash_goes_on_where_it_was() {
        let data: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        for cut in [0, 1, 63, 64, 65, 127, 128, 4096, data.len()] {
            let mut first = Hasher::new(Some(Algorithm::Sha512));
            first.update(&data[..cut]);
            let state: HashState = serde_json::from_str(&serde_json::to_string(&first.save()).unwrap()).unwrap();
            let mut second = Hasher::resume(&state);
            second.update(&data[cut..]);
            for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                assert_eq!(second.digest(algorithm), Some(Digest::of(algorithm, &data)));
            }
        }
    }

    #[test]
    fn a_state_of_another_format_is_not_guessed_at() {
        let mut state = Hasher::new(None).save();
        state.format = "sha2-9.9".into();
        assert_eq!(Hasher::resume(&state).digest(Algorithm::Sha256), None);
    }
}
