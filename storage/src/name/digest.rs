use std::{str::FromStr, sync::Arc};

use super::{NameError, text_name};

/// The digest algorithms that are registered by the image-spec and accepted here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// SHA-256, 64 hex characters: the canonical one.
    Sha256,
    /// SHA-512, 128 hex characters.
    Sha512,
}

impl Algorithm {
    /// The name in front of the colon.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    const fn hex_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl FromStr for Algorithm {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(NameError::new("digest algorithm", "sha256 or sha512")),
        }
    }
}

/// A content digest, `algorithm:hex` (image-spec, descriptor.md, "Digests").
///
/// - the algorithm is [`Algorithm`], the hex is lower case and of the algorithm's length.
///
/// ```
/// use storage::Digest;
/// let hex = "a".repeat(64);
/// assert!(format!("sha256:{hex}").parse::<Digest>().is_ok());
/// assert!(format!("sha512:{hex}").parse::<Digest>().is_err());
/// assert!(format!("sha256:{}", hex.to_uppercase()).parse::<Digest>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    text: Arc<str>,
}

impl Digest {
    /// The digest whose value is `hash`, the raw output of `algorithm`; `None` if its length is wrong.
    pub fn from_hash(algorithm: Algorithm, hash: &[u8]) -> Option<Self> {
        (hash.len() * 2 == algorithm.hex_length())
            .then(|| Self { algorithm, text: format!("{}:{}", algorithm.as_str(), hex::encode(hash)).into() })
    }

    /// The digest of `bytes`.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        let hex = match algorithm {
            Algorithm::Sha256 => hex::encode(sha2::Sha256::digest(bytes)),
            Algorithm::Sha512 => hex::encode(sha2::Sha512::digest(bytes)),
        };
        Self { algorithm, text: format!("{}:{hex}", algorithm.as_str()).into() }
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The lower-case hex.
    pub fn hex(&self) -> &str {
        self.text.split_once(':').map_or("", |(_, hex)| hex)
    }

    /// `algorithm:hex`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `algorithm-hex`, as it stands in keys and in fallback tags.
    pub fn dashed(&self) -> String {
        format!("{}-{}", self.algorithm.as_str(), self.hex())
    }

    /// Reads what [`Digest::dashed`] wrote.
    pub fn from_dashed(text: &str) -> Result<Self, NameError> {
        text.replacen('-', ":", 1).parse()
    }
}

impl FromStr for Digest {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (algorithm, hex) = text.split_once(':').ok_or(NameError::new("digest", "algorithm:hex"))?;
        let algorithm: Algorithm = algorithm.parse()?;
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if hex.len() != algorithm.hex_length() || !hex.bytes().all(lower_hex) {
            return Err(NameError::new("digest", "64 (sha256) or 128 (sha512) lower-case hex characters"));
        }
        Ok(Self { algorithm, text: text.into() })
    }
}
text_name!(Digest);
