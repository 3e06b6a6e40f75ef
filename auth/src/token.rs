//! The access token: a JWT with a pinned header, worth what the credential's record is worth when it is used.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use storage::{AccountName, Generation, Time};

use crate::{
    cache::Weighs,
    error::Error,
    follow::Standing,
    id::Id,
    installation::Auth,
    principal::{Grant, user_name},
    refusal::Refusal,
    revocation::What,
    scope::{Actions, Scope},
    secret::Kind,
    signing_key::Keyring,
    watch::{Ends, Held, Moment},
};

/// A token longer than this is not looked at.
const LONGEST: usize = 16 * 1024;
/// How long a signature is good at most; clients are told 300 s and their token never dies on the way.
pub(crate) const SIGNED_FOR: TimeDelta = TimeDelta::hours(6);
/// How long after its end a token may still finish the upload that its credential began.
pub(crate) const UPLOAD_GRACE: TimeDelta = TimeDelta::hours(6);
/// How far the clock of the replica that signed may run ahead of ours.
const SKEW: TimeDelta = TimeDelta::seconds(60);
/// How old the keys must be before an unknown header is a reason to read them again.
const UNKNOWN_KEY: Duration = Duration::from_secs(1);
/// Credential of a token that anybody may have.
const ANONYMOUS: &str = "anon";

/// The payload. A repeated claim is an error; one that this build does not know is ignored, so a new *restricting* claim must be
/// understood one release before it is issued.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    jti: Id,
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    acc: Option<AccountName>,
    #[serde(rename = "gen", skip_serializing_if = "Option::is_none")]
    generation: Option<Generation>,
    cid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    knd: Option<Kind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    view: Option<serde_json::Value>,
    access: Vec<Access>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Access {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

impl From<&Scope> for Access {
    fn from(scope: &Scope) -> Self {
        match scope {
            Scope::Repository { name, actions } => Self {
                kind: "repository".into(),
                name: name.to_string(),
                actions: actions.names().map(str::to_owned).collect(),
            },
            Scope::Catalog => Self { kind: "registry".into(), name: "catalog".into(), actions: vec!["*".into()] },
        }
    }
}

impl Access {
    /// What it grants; nothing if this build does not know it.
    fn scope(&self) -> Option<Scope> {
        match self.kind.as_str() {
            "repository" => {
                let actions = self.actions.iter().filter_map(|a| Actions::named(a)).fold(Actions::NONE, Actions::union);
                Some(Scope::Repository { name: self.name.parse().ok()?, actions })
            }
            "registry" if self.name == "catalog" && self.actions == ["*"] => Some(Scope::Catalog),
            _ => None,
        }
    }
}

/// Whose token it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    Anonymous,
    Credential { account: AccountName, generation: Generation, kind: Kind, id: Id },
}

/// A token that one of our keys signed for us.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) subject: Subject,
    pub(crate) grant: Grant,
    pub(crate) expires: Time,
}

impl Ends for Verified {
    /// With the keys; whose it is, is looked at on every use.
    fn ended_by(&self, generation: &Generation, what: &What) -> bool {
        *generation == Generation::installation() && matches!(what, What::Keys | What::Everything)
    }
}

impl Weighs for Verified {
    fn weight(&self) -> usize {
        // Names and ids are texts of their own, with a count before each.
        let subject = match &self.subject {
            Subject::Anonymous => 0,
            Subject::Credential { account, .. } => account.as_str().len() + 100,
        };
        let scope = |scope: &Scope| match scope {
            Scope::Repository { name, .. } => name.as_str().len() + name.account().as_str().len() + 32,
            Scope::Catalog => 0,
        };
        let scopes = self.grant.scopes.iter().map(|one| size_of::<Scope>() + scope(one)).sum::<usize>();
        size_of::<Held<Self>>() + subject + scopes
    }
}

impl Auth {
    /// A token that one of our keys signed: verified once, afterwards it costs a hash and a look.
    pub(crate) async fn verified(
        &self,
        token: &str,
        now: Time,
        standing: Standing,
    ) -> Result<Option<Arc<Held<Verified>>>, Refusal> {
        if token.len() > LONGEST {
            return Ok(None);
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        let knowing = self.knowing(standing);
        if let Some(held) = self.verified.get(&digest, knowing) {
            return Ok(Some(held));
        }
        let place = self.watch.place();
        let mut ring = self.keys(standing).await?;
        // A key of ours that another replica has begun to sign with, and this one has not read of yet.
        if !ring.value.knows(token) && standing == Standing::Confirmed {
            ring = self.renewed_keys(standing, UNKNOWN_KEY).await?;
        }
        let Some(verified) = verify(&ring.value, &self.service, token, now) else { return Ok(None) };
        let held = Arc::new(Held::new(verified, place, Moment::now(&*self.clock)));
        self.verified.keep(digest, Arc::clone(&held));
        Ok(Some(held))
    }
}

/// Signs a token until `expires`.
pub(crate) fn sign(
    ring: &Keyring,
    service: &str,
    subject: &Subject,
    scopes: &[Scope],
    now: Time,
    expires: Time,
) -> Result<String, Error> {
    let (acc, generation, cid, knd, sub) = match subject {
        Subject::Anonymous => (None, None, ANONYMOUS.to_owned(), None, "anonymous".to_owned()),
        Subject::Credential { account, generation, kind, id } => (
            Some(account.clone()),
            Some(generation.clone()),
            id.to_string(),
            Some(*kind),
            user_name(account, *kind, id),
        ),
    };
    let claims = Claims {
        iss: service.to_owned(),
        aud: service.to_owned(),
        sub,
        jti: Id::new(now),
        iat: now.timestamp(),
        exp: expires.timestamp(),
        acc,
        generation,
        cid,
        knd,
        view: None,
        access: scopes.iter().map(Access::from).collect(),
    };
    let payload = serde_json::to_vec(&claims).map_err(|e| storage::Error::corrupt(e.to_string()))?;
    ring.sign(&payload)
}

/// Checks a token, in this order and nothing else: length; form, header and signature ([`Keyring::verify`]); the payload; issuer
/// and audience; the time it was issued at. Whether it has expired is told, not judged. `None` is the only answer to whatever is
/// wrong.
pub(crate) fn verify(ring: &Keyring, service: &str, token: &str, now: Time) -> Option<Verified> {
    if token.len() > LONGEST {
        return None;
    }
    let claims: Claims = serde_json::from_slice(&ring.verify(token)?).ok()?;
    if claims.iss != service || claims.aud != service {
        return None;
    }
    if Time::from_timestamp(claims.iat, 0)? > now + SKEW {
        return None;
    }
    // The live repository is all that this build knows.
    if claims.view.is_some() {
        return None;
    }
    let subject = match (claims.acc, claims.generation, claims.knd) {
        (None, None, None) if claims.cid == ANONYMOUS => Subject::Anonymous,
        (Some(account), Some(generation), Some(kind @ (Kind::Pull | Kind::Push))) => {
            Subject::Credential { account, generation, kind, id: claims.cid.parse().ok()? }
        }
        _ => return None,
    };
    let grant = Grant { scopes: claims.access.iter().filter_map(Access::scope).collect() };
    Some(Verified { subject, grant, expires: Time::from_timestamp(claims.exp, 0)? })
}
