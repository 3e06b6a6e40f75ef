//! The keys that an issuer signs with (RFC 7517), and a signature held against them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::claims::Wrong;

/// Most keys of a set.
const MOST: usize = 64;
/// A token longer than this is not looked at.
const LONGEST_TOKEN: usize = 16 << 10;

/// How an issuer may sign. There is no symmetric one: who could check could sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SigningAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256, keys of 2048 to 8192 bits.
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// Ed25519.
    EdDSA,
}

impl SigningAlgorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::RS256, Self::ES256, Self::EdDSA];

    /// As it is written in a token's header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::ES256 => "ES256",
            Self::EdDSA => "EdDSA",
        }
    }

    const fn checked_as(self) -> Algorithm {
        match self {
            Self::RS256 => Algorithm::RS256,
            Self::ES256 => Algorithm::ES256,
            Self::EdDSA => Algorithm::EdDSA,
        }
    }
}

impl std::str::FromStr for SigningAlgorithm {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or("RS256, ES256 or EdDSA")
    }
}

/// Text that is no set of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotKeys(pub(super) String);

/// The public keys of one issuer.
#[derive(Debug, Clone)]
pub struct IssuerKeys(Vec<IssuerKey>);

#[derive(Debug, Clone)]
struct IssuerKey {
    kid: String,
    algorithm: SigningAlgorithm,
    key: DecodingKey,
    /// Its public members, and no others.
    members: Value,
}

impl IssuerKeys {
    /// Reads the set that an issuer publishes; keys of other kinds and uses in it are left out.
    pub fn published(document: &[u8]) -> Result<Self, NotKeys> {
        let document: Value = serde_json::from_slice(document).map_err(|_| NotKeys("it is no JSON".into()))?;
        let keys: Vec<_> = members(&document)?.iter().filter_map(|key| IssuerKey::read(key).ok()).take(MOST).collect();
        if keys.is_empty() { Err(NotKeys("it has no key for RS256, ES256 or EdDSA".into())) } else { Ok(Self(keys)) }
    }

    /// Reads a set that an owner gives; every key has to be one that can be used.
    pub fn given(document: &Value) -> Result<Self, NotKeys> {
        let given = members(document)?;
        if given.is_empty() || given.len() > MOST {
            return Err(NotKeys(format!("1 to {MOST} keys")));
        }
        let mut keys: Vec<IssuerKey> = Vec::new();
        for (i, key) in given.iter().enumerate() {
            let key = IssuerKey::read(key).map_err(|rule| NotKeys(format!("keys/{i}: {rule}")))?;
            if keys.iter().any(|other| other.kid == key.kid) {
                return Err(NotKeys(format!("keys/{i}: another key has this kid")));
            }
            keys.push(key);
        }
        Ok(Self(keys))
    }

    /// Whether a key has this name.
    pub fn has(&self, kid: &str) -> bool {
        self.0.iter().any(|key| key.kid == kid)
    }

    /// What the keys are for, each once.
    pub fn algorithms(&self) -> Vec<SigningAlgorithm> {
        let mut all: Vec<_> = self.0.iter().map(|key| key.algorithm).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The set, its public members alone.
    pub(super) fn document(&self) -> Value {
        json!({ "keys": self.0.iter().map(|key| key.members.clone()).collect::<Vec<_>>() })
    }
}

fn members(document: &Value) -> Result<&Vec<Value>, NotKeys> {
    document.get("keys").and_then(Value::as_array).ok_or_else(|| NotKeys(r#"a set of keys is {"keys": [...]}"#.into()))
}

impl IssuerKey {
    fn read(jwk: &Value) -> Result<Self, &'static str> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str).unwrap_or_default();
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)).unwrap_or_default();
        let kid = text("kid");
        if kid.is_empty() || kid.len() > 256 {
            return Err("a key needs a kid");
        }
        if ["d", "k", "p", "q"].iter().any(|private| jwk.get(private).is_some()) {
            return Err("this is a secret: give the public half alone, and make another key");
        }
        if jwk.get("use").is_some_and(|usage| usage != "sig") {
            return Err("it is not for signing");
        }
        let (algorithm, names): (_, &[&str]) = match (text("kty"), text("crv")) {
            // Leading zeros are no bits.
            ("RSA", _) => match bytes("n").iter().skip_while(|byte| **byte == 0).count() {
                256..=1024 => (SigningAlgorithm::RS256, &["n", "e"]),
                _ => return Err("an RSA key has 2048 to 8192 bits"),
            },
            ("EC", "P-256") => (SigningAlgorithm::ES256, &["crv", "x", "y"]),
            ("OKP", "Ed25519") => (SigningAlgorithm::EdDSA, &["crv", "x"]),
            _ => return Err("a key is RSA, EC on P-256 or OKP Ed25519"),
        };
        let whole = |name| bytes(name).len() == 32;
        if jwk.get("alg").is_some_and(|alg| alg != algorithm.as_str()) {
            return Err("its alg is not one that its kty is used with here: RS256, ES256 or EdDSA");
        }
        let key = match algorithm {
            SigningAlgorithm::RS256 => DecodingKey::from_rsa_components(text("n"), text("e")),
            SigningAlgorithm::ES256 if whole("x") && whole("y") => {
                DecodingKey::from_ec_components(text("x"), text("y"))
            }
            SigningAlgorithm::EdDSA if whole("x") => DecodingKey::from_ed_components(text("x")),
            SigningAlgorithm::ES256 | SigningAlgorithm::EdDSA => return Err("its coordinates have 32 bytes each"),
        };
        let key = key.map_err(|_| "its numbers are not base64url")?;
        let mut members = json!({ "kid": kid, "kty": text("kty"), "alg": algorithm.as_str(), "use": "sig" });
        for name in names {
            if let Some(members) = members.as_object_mut() {
                members.insert((*name).to_owned(), text(name).into());
            }
        }
        Ok(Self { kid: kid.to_owned(), algorithm, key, members })
    }
}

/// A token as it was presented. What it says is worth nothing before [`Presented::verify`].
#[derive(Clone)]
pub(super) struct Presented {
    text: zeroize::Zeroizing<String>,
    pub(super) kid: String,
    algorithm: SigningAlgorithm,
    pub(super) claims: Value,
}

impl std::fmt::Debug for Presented {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Presented").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Presented {
    pub(super) fn read(text: &str) -> Result<Self, Wrong> {
        if text.len() > LONGEST_TOKEN || text.split('.').count() != 3 {
            return Err(Wrong::Form);
        }
        let header = jsonwebtoken::decode_header(text).map_err(|_| Wrong::Form)?;
        // What a token demands to be understood is not (RFC 7515 section 4.1.11).
        if header.crit.is_some() {
            return Err(Wrong::Form);
        }
        let algorithm = SigningAlgorithm::ALL.into_iter().find(|one| one.checked_as() == header.alg);
        Ok(Self {
            text: zeroize::Zeroizing::new(text.to_owned()),
            kid: header.kid.ok_or(Wrong::Kid)?,
            algorithm: algorithm.ok_or(Wrong::Algorithm)?,
            claims: jsonwebtoken::dangerous::insecure_decode_claims(text).map_err(|_| Wrong::Form)?,
        })
    }

    /// Whether the policy lets its issuer sign like this.
    pub(super) fn is_signed_by_one_of(&self, algorithms: &[SigningAlgorithm]) -> Result<(), Wrong> {
        if algorithms.contains(&self.algorithm) { Ok(()) } else { Err(Wrong::Algorithm) }
    }

    /// What the token says, once a key of the issuer has signed it in the way that is the key's own.
    pub(super) fn verify(&self, keys: &IssuerKeys) -> Result<Value, Wrong> {
        let named = keys.0.iter().filter(|key| key.kid == self.kid);
        let key = named.clone().find(|key| key.algorithm == self.algorithm);
        let key = key.ok_or(if named.count() == 0 { Wrong::Kid } else { Wrong::Algorithm })?;
        let mut validation = Validation::new(key.algorithm.checked_as());
        // Claims have rules of their own, by a clock of our own.
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
        let verified = jsonwebtoken::decode::<Value>(self.text.as_str(), &key.key, &validation);
        verified.map(|verified| verified.claims).map_err(|_| Wrong::Signature)
    }

    /// What makes this token another than every other: its `jti`, or what of it was signed.
    pub(super) fn identity(&self) -> (&'static str, &str) {
        match self.claims.get("jti").and_then(Value::as_str) {
            Some(jti) if !jti.is_empty() => ("jti", jti),
            _ => ("token", self.text.rsplit_once('.').map_or("", |(signed, _)| signed)),
        }
    }
}
