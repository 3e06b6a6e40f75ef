use std::{fmt, str::FromStr};

use aws_lc_rs::hmac;
use chrono::{DateTime, Utc};
use rand::Rng;

use super::{Algorithm, NameError, Repository, account::CROCKFORD};

/// Who opened an upload, as 16 opaque characters that the layer above takes from its permit.
///
/// An expired credential may finish only the sessions that it opened itself; storage carries the mark and never reads it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Opener(Box<str>);

impl Opener {
    /// The opener as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Opener {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() == 16 && text.bytes().all(|b| CROCKFORD.contains(&b)) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::new("upload opener", "16 characters of lower-case Crockford base32"))
        }
    }
}

/// The id of an upload session (distribution-spec, end-4a to end-6): a signed capability, not a stored object.
///
/// - names a time (so a listing of sessions is a listing by age) and 80 random bits;
/// - carries the digest algorithm the client announced (end-4c) and who opened it;
/// - its text form ends in a MAC over the generation, the repository and all of this, so under another repository or
///   after the account was made anew it is not an id at all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UploadId {
    id: Box<str>,
    algorithm: Option<Algorithm>,
    opener: Opener,
    created_ms: i64,
}

/// Length of the time-ordered part: 48 bits of milliseconds and 80 random bits, five bits a character.
const ID: usize = 26;
const OPENER: usize = 16;
const MAC: usize = 32;

impl UploadId {
    /// The time-ordered part: the name of the session's document.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The algorithm announced when the session was opened, if any was.
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.algorithm
    }

    /// Who opened it.
    pub fn opener(&self) -> &Opener {
        &self.opener
    }

    /// When it was opened.
    pub fn created(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.created_ms).unwrap_or_default()
    }

    fn payload(&self) -> String {
        let algorithm = match self.algorithm {
            None => '0',
            Some(Algorithm::Sha256) => '1',
            Some(Algorithm::Sha512) => '2',
        };
        format!("{}{algorithm}{}", self.id, self.opener.as_str())
    }
}

/// The keys that sign upload ids: the newest signs, all of them verify.
pub struct UploadKeys(Vec<hmac::Key>);

impl fmt::Debug for UploadKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UploadKeys({} keys)", self.0.len())
    }
}

impl UploadKeys {
    /// From raw key bytes, the newest first. Without any key no id verifies and none can be made.
    pub fn new<'a>(newest_first: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self(newest_first.into_iter().map(|k| hmac::Key::new(hmac::HMAC_SHA256, k)).collect())
    }

    /// A new session's id and its text form; `None` if there is no key.
    pub fn open(
        &self,
        repository: &Repository,
        algorithm: Option<Algorithm>,
        opener: Opener,
        now: DateTime<Utc>,
    ) -> Option<(UploadId, String)> {
        let key = self.0.first()?;
        let created_ms = now.timestamp_millis();
        let time = u128::from(created_ms.unsigned_abs()) & ((1 << 48) - 1);
        let random = rand::rng().random::<u128>() & ((1 << 80) - 1);
        let id = UploadId { id: base32((time << 80) | random).into(), algorithm, opener, created_ms };
        let payload = id.payload();
        let mac = hmac::sign(key, &signed(repository, &payload));
        let mac = mac.as_ref().get(..MAC / 2)?;
        let text = format!("{payload}{}", hex::encode(mac));
        Some((id, text))
    }

    /// Reads a text form back; `None` unless one of the keys signed it for this repository in this generation.
    pub fn verify(&self, repository: &Repository, text: &str) -> Option<UploadId> {
        if text.len() != ID + 1 + OPENER + MAC || !text.is_ascii() {
            return None;
        }
        let (payload, mac) = text.split_at(ID + 1 + OPENER);
        let presented = hex::decode(mac).ok()?;
        let message = signed(repository, payload);
        let good = self.0.iter().any(|key| {
            let expected = hmac::sign(key, &message);
            expected
                .as_ref()
                .get(..MAC / 2)
                .is_some_and(|expected| aws_lc_rs::constant_time::verify_slices_are_equal(expected, &presented).is_ok())
        });
        if !good {
            return None;
        }
        let (id, rest) = payload.split_at(ID);
        let (algorithm, opener) = rest.split_at(1);
        let algorithm = match algorithm {
            "1" => Some(Algorithm::Sha256),
            "2" => Some(Algorithm::Sha512),
            _ => None,
        };
        let created_ms = milliseconds(id)?;
        Some(UploadId { id: id.into(), algorithm, opener: opener.parse().ok()?, created_ms })
    }
}

/// When the session was opened whose document has this name; `None` if it is none of a session.
pub(crate) fn upload_time(id: &str) -> Option<DateTime<Utc>> {
    (id.len() == ID).then(|| milliseconds(id)).flatten().and_then(DateTime::from_timestamp_millis)
}

fn milliseconds(id: &str) -> Option<i64> {
    i64::try_from(unbase32(id)? >> 80).ok()
}

fn signed(repository: &Repository, payload: &str) -> Vec<u8> {
    let generation = repository.account().generation();
    format!("{generation}\n{}\n{payload}", repository.name().path()).into_bytes()
}

/// 128 bits as 26 characters, most significant first, so text order is number order.
fn base32(value: u128) -> String {
    (0..ID).rev().filter_map(|i| CROCKFORD.get(((value >> (5 * i)) & 31) as usize)).map(|&b| char::from(b)).collect()
}

fn unbase32(text: &str) -> Option<u128> {
    text.bytes().try_fold(0u128, |value, b| {
        let digit = CROCKFORD.iter().position(|&c| c == b)?;
        Some((value << 5) | digit as u128)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Account, Generation};

    fn repository(account: &Account, name: &str) -> Repository {
        Repository::new(account.clone(), name.parse().unwrap()).unwrap()
    }

    #[test]
    fn an_upload_id_is_good_for_one_repository_of_one_generation() {
        #[expect(clippy::disallowed_methods, reason = "a test may name an account")]
        let account = |generation| Account::new("acme".parse().unwrap(), generation);
        let (old, new) = (account(Generation::random()), account(Generation::random()));
        let keys = UploadKeys::new([&b"newest"[..], &b"older"[..]]);
        let opener: Opener = "0000000000000001".parse().unwrap();
        let now = DateTime::from_timestamp_millis(1_800_000_000_123).unwrap();
        let (id, text) = keys.open(&repository(&old, "acme/a"), Some(Algorithm::Sha512), opener, now).unwrap();

        assert_eq!(keys.verify(&repository(&old, "acme/a"), &text), Some(id.clone()));
        assert_eq!(id.created(), now);
        assert_eq!(upload_time(id.id()), Some(now));
        assert_eq!(upload_time(&text), None);
        assert_eq!(UploadKeys::new([&b"older"[..]]).verify(&repository(&old, "acme/a"), &text), None);
        assert_eq!(keys.verify(&repository(&old, "acme/b"), &text), None);
        assert_eq!(keys.verify(&repository(&new, "acme/a"), &text), None);
        for i in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[i] = if changed[i] == b'0' { b'1' } else { b'0' };
            assert_eq!(keys.verify(&repository(&old, "acme/a"), &String::from_utf8(changed).unwrap()), None);
        }
    }
}
