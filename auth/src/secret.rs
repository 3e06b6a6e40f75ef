//! The one format of every secret that Hythe hands out.
//!
//! `PFX_` + generation (12) + id (16) + secret (52) + tag (8) = 93 characters of `[a-z0-9_]`. The tag is the first 40 bits of
//! an HMAC over what precedes it. It is not security but a sieve: a guess made without the MAC key never reaches the store,
//! so garbage costs no read and its timing depends on nothing that exists. What is stored is a SHA-256; a slow hash would
//! stretch guessable secrets, and these have 256 random bits.

use std::fmt;

use aws_lc_rs::{hkdf, hmac};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use storage::{Generation, random_text};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    access_key::Shown,
    id::{Id, base32, is_crockford},
};

/// Length of every secret, in characters.
pub const LENGTH: usize = 93;
const PREFIX: usize = 5;
const GENERATION: usize = 12;
const ID: usize = 16;
const RANDOM: usize = 52;
const TAG: usize = 8;
/// What precedes a secret in its hash, so that the hash of one purpose is never the hash of another.
const DOMAIN: &[u8] = b"hythe/secret/v1";

/// What a secret is for; its prefix tells, to scanners of leaked text too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `hypl_`: logs in and pulls.
    Pull,
    /// `hyps_`: logs in, pulls and pushes.
    Push,
    /// `hyak_`: mints credentials on the API.
    AccessKey,
    /// `hyop_`: keeps accounts on the API.
    OperatorKey,
    /// `hyse_`: a session of the console.
    Session,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Pull, Self::Push, Self::AccessKey, Self::OperatorKey, Self::Session];

    /// The first five characters of a secret of this kind.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Pull => "hypl_",
            Self::Push => "hyps_",
            Self::AccessKey => "hyak_",
            Self::OperatorKey => "hyop_",
            Self::Session => "hyse_",
        }
    }

    /// As it stands in records, user names and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::AccessKey => "access key",
            Self::OperatorKey => "operator key",
            Self::Session => "session",
        }
    }
}

/// A secret with a good tag: well formed and made by this installation, which does not say that it is still alive.
///
/// Zeroised when dropped; `Debug` shows what is public of it; no `Display` and no `==`, so that it cannot leak or be
/// compared in a hurry.
#[derive(Clone)]
pub struct Secret {
    text: Zeroizing<String>,
    kind: Kind,
    generation: Generation,
    id: Id,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("kind", &self.kind).field("id", &self.id).finish_non_exhaustive()
    }
}

impl Secret {
    /// The 93 characters: for the one answer that shows them.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The same on its way into a document that shows it.
    pub fn shown(&self) -> Shown {
        Shown::new(&self.text)
    }

    /// What it is for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The generation of the account it belongs to; the installation's for an operator key.
    pub fn generation(&self) -> &Generation {
        &self.generation
    }

    /// The id of its record.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// What the record keeps.
    pub fn hash(&self) -> SecretHash {
        SecretHash(Sha256::new().chain_update(DOMAIN).chain_update(self.text.as_bytes()).finalize().into())
    }
}

/// SHA-256 of a secret, domain-separated: all that a record keeps of it. 64 hex characters as JSON.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretHash(#[serde(with = "hex")] [u8; 32]);

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl SecretHash {
    /// Reads 64 hex digits.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// As a configuration names it: 64 hex digits.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Whether both are of one secret.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// Whether it is the hash of this secret, in constant time.
    pub fn matches(&self, secret: &Secret) -> bool {
        self.0.ct_eq(&secret.hash().0).into()
    }
}

/// One purpose's key, derived from a MAC root of the installation (HKDF-SHA256, RFC 5869, the label as info).
pub(crate) fn derive(root: &[u8], label: &str) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"hythe").extract(root);
    if let Ok(okm) = prk.expand(&[label.as_bytes()], hkdf::HKDF_SHA256) {
        // 32 bytes is one block of the hash: the length is never refused.
        let filled = okm.fill(key.as_mut());
        debug_assert!(filled.is_ok());
    }
    key
}

/// The keys that make and check tags: the newest makes, all of them check, because a tag lasts as long as its secret.
pub(crate) struct SecretKeys(Vec<hmac::Key>);

impl fmt::Debug for SecretKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKeys({} keys)", self.0.len())
    }
}

impl SecretKeys {
    /// From the installation's MAC roots, the newest first; there is at least one.
    pub(crate) fn new<'a>(roots: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let key = |root| hmac::Key::new(hmac::HMAC_SHA256, derive(root, "secret-tag").as_ref());
        Self(roots.into_iter().map(key).collect())
    }

    fn tag(key: &hmac::Key, signed: &str) -> String {
        let mac = hmac::sign(key, signed.as_bytes());
        base32(mac.as_ref().iter().take(5).fold(0, |value, &b| (value << 8) | u64::from(b)), TAG)
    }

    /// A new secret for the record `id`.
    pub(crate) fn mint(&self, kind: Kind, generation: &Generation, id: &Id) -> Secret {
        let mut text = Zeroizing::new(String::with_capacity(LENGTH));
        text.push_str(kind.prefix());
        text.push_str(generation.as_str());
        text.push_str(id.as_str());
        text.push_str(&Zeroizing::new(random_text(RANDOM)));
        if let Some(key) = self.0.first() {
            let tag = Self::tag(key, &text);
            text.push_str(&tag);
        }
        Secret { text, kind, generation: generation.clone(), id: id.clone() }
    }

    /// Reads a secret; `None` for whatever this installation did not make.
    pub(crate) fn parse(&self, text: &str) -> Option<Secret> {
        if text.len() != LENGTH || !text.is_ascii() {
            return None;
        }
        let (prefix, rest) = text.split_at_checked(PREFIX)?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.prefix() == prefix)?;
        if !is_crockford(rest) {
            return None;
        }
        let (signed, tag) = text.split_at_checked(LENGTH - TAG)?;
        let good = self.0.iter().any(|key| Self::tag(key, signed).as_bytes().ct_eq(tag.as_bytes()).into());
        if !good {
            return None;
        }
        let generation = rest.get(..GENERATION)?.parse().ok()?;
        let id = rest.get(GENERATION..GENERATION + ID)?.parse().ok()?;
        Some(Secret { text: Zeroizing::new(text.to_owned()), kind, generation, id })
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn keys() -> SecretKeys {
        SecretKeys::new([&[7u8; 32][..], &[8; 32]])
    }

    fn secret(keys: &SecretKeys) -> Secret {
        let id = Id::new(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        keys.mint(Kind::Pull, &Generation::random(), &id)
    }

    #[test]
    fn a_secret_is_93_plain_characters_and_reads_back() {
        let keys = keys();
        for kind in Kind::ALL {
            let id = Id::new(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
            let made = keys.mint(kind, &Generation::random(), &id);
            assert_eq!(made.reveal().len(), LENGTH);
            assert!(made.reveal().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
            let read = keys.parse(made.reveal()).unwrap();
            assert_eq!((read.kind(), read.id(), read.generation()), (kind, made.id(), made.generation()));
            assert!(made.hash().matches(&read));
        }
    }

    #[test]
    fn any_changed_character_is_stopped_by_the_tag() {
        let keys = keys();
        let made = secret(&keys);
        for i in 0..LENGTH {
            let mut changed = made.reveal().as_bytes().to_vec();
            changed[i] = if changed[i] == b'0' { b'1' } else { b'0' };
            assert!(keys.parse(&String::from_utf8(changed).unwrap()).is_none(), "position {i}");
        }
        assert!(keys.parse(&format!("{}0", made.reveal())).is_none());
        assert!(keys.parse(&made.reveal().to_uppercase()).is_none());
    }

    #[test]
    fn an_older_root_still_checks_and_a_foreign_one_does_not() {
        let old = SecretKeys::new([&[8u8; 32][..]]);
        let made = secret(&old);
        assert!(keys().parse(made.reveal()).is_some());
        assert!(SecretKeys::new([&[9u8; 32][..]]).parse(made.reveal()).is_none());
    }

    #[test]
    fn another_secret_of_the_same_record_does_not_match() {
        let keys = keys();
        let made = secret(&keys);
        let other = keys.mint(made.kind(), made.generation(), made.id());
        assert!(!made.hash().matches(&other));
    }

    #[test]
    fn debug_shows_no_secret() {
        let made = secret(&keys());
        let shown = format!("{made:?} {:?}", made.hash());
        assert!(!shown.contains(made.reveal().get(33..85).unwrap()));
        assert!(!shown.contains(&hex::encode(made.hash().0)));
    }

    #[test]
    fn purposes_have_keys_of_their_own() {
        assert_ne!(*derive(&[1; 32], "secret-tag"), *derive(&[1; 32], "upload"));
        assert_ne!(*derive(&[1; 32], "upload"), *derive(&[2; 32], "upload"));
        assert_ne!(*derive(&[1; 32], "upload"), [0; 32]);
    }
}
