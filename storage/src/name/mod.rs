//! The vocabulary of every layer, parsed once at the edge and trusted inside.
//!
//! Each type has private fields and one checked constructor (`FromStr`), so a value that exists is a value that is valid.

mod account;
mod digest;
mod reference;
mod repository;
mod tag;
mod upload_id;

pub use account::{Account, AccountName, Generation, random_text};
pub use digest::{Algorithm, Digest};
pub use reference::Reference;
pub use repository::{Repository, RepositoryName};
pub use tag::Tag;
pub(crate) use upload_id::upload_time;
pub use upload_id::{Opener, UploadId, UploadKeys};

/// Why a piece of text is not a name: what it should have been, and the rule it breaks.
///
/// The text itself is not kept: a message about a bad name must never echo what a stranger sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {rule}")]
pub struct NameError {
    /// The thing that was to be named, e.g. `repository name`.
    pub what: &'static str,
    /// The rule that the text breaks, e.g. `at most 255 characters`.
    pub rule: &'static str,
}

impl NameError {
    const fn new(what: &'static str, rule: &'static str) -> Self {
        Self { what, rule }
    }
}

/// Implements the conversions every name has: `Display`, `AsRef<str>`, and serde as its text, through `FromStr`.
macro_rules! text_name {
    ($name:ident) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
use text_name;
