//! Private keys and MAC roots at rest: sealed with AES-256-GCM where the operator gave a seal key, plain where not. Without a
//! seal key whoever reads the store can sign.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{error::Error, secret::derive};

/// The operator's second secret (`HYTHE_SEAL_KEY`), kept outside the store.
pub struct SealKey(RandomizedNonceKey);

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey(***)")
    }
}

/// Fewest characters of a seal key: shorter ones could be guessed.
const SHORTEST: usize = 32;
const NONCE: usize = 12;

impl SealKey {
    /// From the operator's text, 32 characters at least.
    pub fn new(text: &str) -> Result<Self, Error> {
        if text.len() < SHORTEST {
            return Err(Error::CannotOpen("the seal key is too short: give 32 random characters or more".into()));
        }
        let key = derive(text.as_bytes(), "seal");
        RandomizedNonceKey::new(&AES_256_GCM, key.as_ref())
            .map(Self)
            .map_err(|_| Error::CannotOpen("this build cannot seal with AES-256-GCM".into()))
    }
}

/// A secret as a record keeps it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kept {
    /// Base64 of the bytes.
    Plain(String),
    /// Base64 of nonce and ciphertext.
    Sealed(String),
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Kept {
    /// Keeps `bytes`; `purpose` is bound to them, so that one record's secret cannot be put in the place of another's.
    pub(crate) fn keep(bytes: &[u8], purpose: &str, key: Option<&SealKey>) -> Result<Self, Error> {
        let Some(key) = key else { return Ok(Self::Plain(STANDARD.encode(bytes))) };
        let mut text = bytes.to_vec();
        let nonce = key
            .0
            .seal_in_place_append_tag(Aad::from(purpose.as_bytes()), &mut text)
            .map_err(|_| Error::CannotOpen("a key could not be sealed".into()))?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut text);
        Ok(Self::Sealed(STANDARD.encode(sealed)))
    }

    /// The bytes that were kept for `purpose`.
    pub(crate) fn open(&self, purpose: &str, key: Option<&SealKey>) -> Result<Zeroizing<Vec<u8>>, Error> {
        let damaged = || Error::Store(storage::Error::corrupt(format!("{purpose} cannot be read")));
        match (self, key) {
            (Self::Plain(text), _) => STANDARD.decode(text).map(Zeroizing::new).map_err(|_| damaged()),
            (Self::Sealed(_), None) => Err(Error::CannotOpen(
                "the keys of this store are sealed: set HYTHE_SEAL_KEY, or seal_key_command, to the key they were sealed with".into(),
            )),
            (Self::Sealed(text), Some(key)) => {
                let mut sealed = Zeroizing::new(STANDARD.decode(text).map_err(|_| damaged())?);
                let (nonce, text) = sealed.split_at_mut_checked(NONCE).ok_or_else(damaged)?;
                let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
                let opened = key.0.open_in_place(nonce, Aad::from(purpose.as_bytes()), text).map_err(|_| {
                    Error::CannotOpen("HYTHE_SEAL_KEY, or what seal_key_command prints, is not the key that this store was sealed with".into())
                })?;
                Ok(Zeroizing::new(opened.to_vec()))
            }
        }
    }

    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_key_for_its_purpose_only() {
        let key = SealKey::new(&"k".repeat(32)).unwrap();
        let other = SealKey::new(&"o".repeat(32)).unwrap();
        let kept = Kept::keep(b"private", "signing key a", Some(&key)).unwrap();
        assert!(!serde_json::to_string(&kept).unwrap().contains(&STANDARD.encode("private")));
        assert_eq!(kept.open("signing key a", Some(&key)).unwrap().as_slice(), b"private");
        assert!(matches!(kept.open("signing key b", Some(&key)), Err(Error::CannotOpen(_))));
        assert!(matches!(kept.open("signing key a", Some(&other)), Err(Error::CannotOpen(_))));
        assert!(matches!(kept.open("signing key a", None), Err(Error::CannotOpen(_))));
    }

    #[test]
    fn a_short_seal_key_is_refused() {
        assert!(SealKey::new("short").is_err());
    }
}
