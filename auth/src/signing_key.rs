//! The keys that sign access tokens: Ed25519, one active, an old one until its last token is dead, a next one before it signs.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use storage::{Generation, Time, key, record};

use crate::{
    audit::{Entry, Happened},
    error::Error,
    follow::Standing,
    installation::Auth,
    revocation::What,
    seal::{Kept, SealKey},
    watch::{Ends, Held},
};

/// How long a key signs.
const ACTIVE: TimeDelta = TimeDelta::days(30);
/// How long an old key verifies: the life of its last token (6 h), the grace of an upload (6 h), and an hour of clocks.
const OLD: TimeDelta = TimeDelta::hours(13);

/// `sys/keys`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SigningKeys {
    keys: Vec<SigningKey>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct SigningKey {
    /// RFC 7638 thumbprint.
    kid: String,
    /// The public point, base64url: `x` of the JWK (RFC 8037).
    public: String,
    /// PKCS#8.
    private: Kept,
    state: State,
    since: Time,
}

/// What a signing key is for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Published, signs nothing yet: every replica must know it first.
    Next,
    /// Signs.
    Active,
    /// Verifies until its last token is dead.
    Old,
}

impl State {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Active => "active",
            Self::Old => "old",
        }
    }
}

fn purpose(kid: &str) -> String {
    format!("signing key {kid}")
}

impl SigningKey {
    fn generate(state: State, now: Time, seal: Option<&SealKey>) -> Result<Self, Error> {
        let failed = || Error::CannotOpen("the system made no signing key".into());
        let private = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| failed())?;
        let pair = Ed25519KeyPair::from_pkcs8(private.as_ref()).map_err(|_| failed())?;
        let public = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let thumbprint = Sha256::digest(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{public}"}}"#));
        let kid = URL_SAFE_NO_PAD.encode(thumbprint);
        let private = Kept::keep(private.as_ref(), &purpose(&kid), seal)?;
        Ok(Self { kid, public, private, state, since: now })
    }
}

impl SigningKeys {
    /// A new installation's: one, active.
    pub(crate) fn first(now: Time, seal: Option<&SealKey>) -> Result<Self, Error> {
        Ok(Self { keys: vec![SigningKey::generate(State::Active, now, seal)?] })
    }

    pub(crate) fn seal(&mut self, seal: &SealKey) -> Result<bool, Error> {
        let mut changed = false;
        for key in self.keys.iter_mut().filter(|key| key.private.is_plain()) {
            let purpose = purpose(&key.kid);
            key.private = Kept::keep(&key.private.open(&purpose, None)?, &purpose, Some(seal))?;
            changed = true;
        }
        Ok(changed)
    }

    /// One step of rotation, if one is due; `early` publishes a next key whatever the age of the active one.
    fn turn(&mut self, now: Time, early: bool, settle: TimeDelta, seal: Option<&SealKey>) -> Result<bool, Error> {
        let before = self.keys.len();
        self.keys.retain(|key| key.state != State::Old || now - key.since < OLD);
        let mut changed = self.keys.len() != before;
        let in_state = |keys: &[SigningKey], state| keys.iter().position(|key| key.state == state);
        if let Some(next) = in_state(&self.keys, State::Next) {
            if self.keys.get(next).is_some_and(|key| now - key.since >= settle) {
                for key in &mut self.keys {
                    match key.state {
                        State::Active => (key.state, key.since) = (State::Old, now),
                        State::Next => (key.state, key.since) = (State::Active, now),
                        State::Old => {}
                    }
                }
                changed = true;
            }
        } else {
            let active = self.keys.iter().find(|key| key.state == State::Active);
            if early || active.is_none_or(|key| now - key.since >= ACTIVE) {
                let state = if active.is_some() { State::Next } else { State::Active };
                self.keys.push(SigningKey::generate(state, now, seal)?);
                changed = true;
            }
        }
        Ok(changed)
    }
}

/// The live keys, ready for use.
#[derive(Debug)]
pub(crate) struct Keyring {
    live: Vec<LiveKey>,
    active: Option<(usize, EncodingKey)>,
}

struct LiveKey {
    kid: String,
    public: String,
    /// The encoded header segment of every token that this key signs: compared byte for byte and never parsed.
    header: String,
    verifying: DecodingKey,
}

impl std::fmt::Debug for LiveKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Ends for Keyring {
    fn ended_by(&self, generation: &Generation, what: &What) -> bool {
        *generation == Generation::installation() && matches!(what, What::Keys | What::Everything)
    }
}

impl Keyring {
    /// Whether one of the keys may have signed this: its header is one of ours.
    pub(crate) fn knows(&self, token: &str) -> bool {
        let header = token.split('.').next().unwrap_or_default();
        self.live.iter().any(|key| key.header == header)
    }

    pub(crate) fn open(keys: &SigningKeys, seal: Option<&SealKey>) -> Result<Self, Error> {
        let mut ring = Self { live: Vec::new(), active: None };
        for key in &keys.keys {
            let damaged = || Error::Store(storage::Error::corrupt(format!("{} cannot be read", purpose(&key.kid))));
            let point = URL_SAFE_NO_PAD.decode(&key.public).map_err(|_| damaged())?;
            if key.state == State::Active {
                let private = key.private.open(&purpose(&key.kid), seal)?;
                ring.active = Some((ring.live.len(), EncodingKey::from_ed_der(&private)));
            }
            let header = format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{}"}}"#, key.kid);
            ring.live.push(LiveKey {
                kid: key.kid.clone(),
                public: key.public.clone(),
                header: URL_SAFE_NO_PAD.encode(header),
                verifying: DecodingKey::from_ed_der(&point),
            });
        }
        Ok(ring)
    }

    /// The signed token over `payload`, a JSON text.
    pub(crate) fn sign(&self, payload: &[u8]) -> Result<String, Error> {
        let unusable = || Error::Store(storage::Error::corrupt("sys/keys has no key that signs"));
        let (index, signing) = self.active.as_ref().ok_or_else(unusable)?;
        let header = self.live.get(*index).map(|key| key.header.as_str()).ok_or_else(unusable)?;
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), signing, Algorithm::EdDSA).map_err(|_| unusable())?;
        Ok(format!("{message}.{signature}"))
    }

    /// The payload of a token that one of the live keys signed. What is compared, in this order: exactly three segments; the
    /// header, byte for byte, with each live key's; canonical base64url; the signature.
    pub(crate) fn verify(&self, token: &str) -> Option<Vec<u8>> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        if payload.contains('.') {
            return None;
        }
        let key = self.live.iter().find(|key| key.header.as_bytes() == header.as_bytes())?;
        // This engine refuses padding and set trailing bits: one token has one spelling.
        let bytes = URL_SAFE_NO_PAD.decode(payload).ok()?;
        if URL_SAFE_NO_PAD.decode(signature).ok()?.len() != 64 {
            return None;
        }
        let good = jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key.verifying, Algorithm::EdDSA);
        good.is_ok_and(|good| good).then_some(bytes)
    }
}

/// The public half of a signing key (RFC 8037).
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Jwk {
    /// `OKP`.
    pub kty: &'static str,
    /// `Ed25519`.
    pub crv: &'static str,
    /// The public point, base64url.
    pub x: String,
    /// RFC 7638 thumbprint.
    pub kid: String,
    /// `EdDSA`.
    pub alg: &'static str,
    /// `sig`.
    #[serde(rename = "use")]
    pub usage: &'static str,
}

/// What `/.well-known/jwks.json` serves.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Jwks {
    /// Next, active and old keys.
    pub keys: Vec<Jwk>,
}

/// A signing key as the command line shows it.
#[derive(Debug, Clone, Serialize)]
pub struct SigningKeyDocument {
    /// RFC 7638 thumbprint, as in the header of its tokens.
    pub kid: String,
    /// What it is for.
    pub state: State,
    /// Since when.
    #[serde(with = "crate::time::millis")]
    pub since: Time,
}

impl Auth {
    /// The signing keys, without their private halves.
    pub async fn list_signing_keys(&self) -> Result<Vec<SigningKeyDocument>, Error> {
        let found = record::read::<SigningKeys>(&*self.records, &key::signing_keys()).await?;
        let keys = found.ok_or_else(|| storage::Error::corrupt("sys/keys is gone"))?.value.keys;
        let shown = |key: SigningKey| SigningKeyDocument { kid: key.kid, state: key.state, since: key.since };
        Ok(keys.into_iter().map(shown).collect())
    }

    /// The keys.
    pub(crate) async fn keys(&self, standing: Standing) -> Result<Arc<Held<Keyring>>, Error> {
        self.keyring.get(self.knowing(standing), self.read_keys()).await
    }

    /// The keys as they were a `moment` ago or later.
    pub(crate) async fn renewed_keys(&self, standing: Standing, moment: Duration) -> Result<Arc<Held<Keyring>>, Error> {
        self.keyring.renewed(self.knowing(standing), moment, self.read_keys()).await
    }

    async fn read_keys(&self) -> Result<Keyring, Error> {
        let found = record::read::<SigningKeys>(&*self.records, &key::signing_keys()).await?;
        let found = found.ok_or_else(|| storage::Error::corrupt("sys/keys is gone"))?;
        Keyring::open(&found.value, self.settings.seal_key.as_ref())
    }

    /// The public halves, for `/.well-known/jwks.json`.
    pub async fn jwks(&self) -> Result<Jwks, Error> {
        let ring = self.keys(self.standing().await).await?;
        let jwk = |key: &LiveKey| Jwk {
            kty: "OKP",
            crv: "Ed25519",
            x: key.public.clone(),
            kid: key.kid.clone(),
            alg: "EdDSA",
            usage: "sig",
        };
        Ok(Jwks { keys: ring.value.live.iter().map(jwk).collect() })
    }

    /// One step of the keys' rotation, if one is due. Any replica may drive it, often: the swap of the record decides.
    pub async fn turn_signing_keys(&self) -> Result<(), Error> {
        self.turn(false).await
    }

    /// Publishes the next signing key now; [`Auth::turn_signing_keys`] activates it when every replica knows it.
    pub async fn rotate_signing_keys(&self) -> Result<(), Error> {
        self.turn(true).await
    }

    async fn turn(&self, early: bool) -> Result<(), Error> {
        let now = self.clock.now();
        let settle = TimeDelta::from_std(2 * self.settings.bound).unwrap_or(TimeDelta::minutes(2));
        let seal = self.settings.seal_key.as_ref();
        let mut turned = false;
        record::modify(&*self.records, &key::signing_keys(), |keys: &mut SigningKeys| {
            turned = keys.turn(now, early, settle, seal)?;
            Ok::<_, Error>(turned)
        })
        .await?;
        self.keyring.forget();
        if turned {
            self.record(Entry::new(Happened::SigningKeyRotate, Self::REGISTRY)).await?;
        }
        Ok(())
    }

    /// After a leak: every signing key goes at once and with it every token; clients ask for a new one and go on.
    pub async fn replace_signing_keys(&self) -> Result<Time, Error> {
        let now = self.clock.now();
        record::modify(&*self.records, &key::signing_keys(), |keys: &mut SigningKeys| {
            *keys = SigningKeys::first(now, self.settings.seal_key.as_ref())?;
            Ok::<_, Error>(true)
        })
        .await?;
        self.keyring.forget();
        tracing::info!(event = "signing_key.rotate", "signing keys were replaced");
        let by = self.log_end(&Generation::installation(), What::Keys).await?;
        self.record(Entry::new(Happened::SigningKeyRotate, Self::REGISTRY)).await?;
        Ok(by)
    }
}
