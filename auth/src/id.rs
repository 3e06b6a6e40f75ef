use std::{fmt, str::FromStr, sync::Arc};

use chrono::DateTime;
use storage::{Opener, Time, random_text};

/// Crockford's base32 alphabet in lower case.
const CROCKFORD: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 2020-01-01T00:00:00Z: where the seconds of an id begin.
const EPOCH: i64 = 1_577_836_800;
/// Characters of time in front of the random ones.
const TIME: usize = 7;
const LENGTH: usize = 16;

/// The id of a key, a credential, an installation or whatever else may end a credential.
///
/// - 16 characters of lower-case Crockford base32: 7 of seconds since 2020, 9 random (45 bits);
/// - so a listing by name is a listing by age;
/// - sixteen `0` are the operator on the store, who has no key ([`Id::operator`]).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(Arc<str>);

/// Whether every character is of the alphabet that ids and secrets are made of.
pub(crate) fn is_crockford(text: &str) -> bool {
    text.bytes().all(|b| CROCKFORD.contains(&b))
}

/// The lowest `5 * count` bits of `value`, most significant first.
pub(crate) fn base32(value: u64, count: usize) -> String {
    (0..count)
        .rev()
        .filter_map(|i| CROCKFORD.get((value.checked_shr(5 * u32::try_from(i).ok()?)? & 31) as usize))
        .map(|&b| char::from(b))
        .collect()
}

impl Id {
    /// A new id, made at `now`.
    pub fn new(now: Time) -> Self {
        let seconds = u64::try_from(now.timestamp() - EPOCH).unwrap_or_default();
        Self(format!("{}{}", base32(seconds, TIME), random_text(LENGTH - TIME)).into())
    }

    /// Who works on the store itself: no key, no parent.
    pub fn operator() -> Self {
        Self("0000000000000000".into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// When it was made, to the second.
    pub fn created(&self) -> Time {
        let seconds = self.0.bytes().take(TIME).fold(0i64, |value, b| {
            (value << 5)
                | CROCKFORD.iter().position(|&c| c == b).and_then(|d| i64::try_from(d).ok()).unwrap_or_default()
        });
        DateTime::from_timestamp(EPOCH + seconds, 0).unwrap_or_default()
    }

    /// The mark that an upload session carries of who opened it.
    pub fn opener(&self) -> Opener {
        // Both are 16 characters of one alphabet, so the other arm is never taken; it would match no session.
        self.0.parse().unwrap_or_else(|_: storage::NameError| Self::operator().opener())
    }
}

/// Text that is not an [`Id`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is 16 characters of lower-case Crockford base32")]
pub struct NotAnId;

impl FromStr for Id {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        if text.len() == LENGTH && is_crockford(text) { Ok(Self(text.into())) } else { Err(NotAnId) }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_age_and_tell_it() {
        let at = |seconds| DateTime::from_timestamp(1_800_000_000i64 + seconds, 0).unwrap();
        let (older, newer) = (Id::new(at(0)), Id::new(at(1)));
        assert!(older < newer);
        assert_eq!(newer.created(), at(1));
        assert_eq!(older.opener().as_str(), older.as_str());
    }

    #[test]
    fn only_sixteen_characters_of_the_alphabet_are_an_id() {
        for bad in
            ["", "0k3v9x0a2m4p6r1", "0k3v9x0a2m4p6r1tt", "0K3v9x0a2m4p6r1t", "0k3v9x0a2m4p6r1l", "../v9x0a2m4p6r1t"]
        {
            assert!(bad.parse::<Id>().is_err(), "{bad}");
        }
        assert!("0k3v9x0a2m4p6r1t".parse::<Id>().is_ok());
    }
}
