//! Manifests on their way out by a rule, and the promise that holds one back.

use super::{ATTEMPTS, Header, Manifest, delete::clear_tags, get, load};
use crate::{
    Deletable, Digest, Error, Reference, Repository, Store, Time, Writable, key,
    member::State,
    record::{self, Document},
    referrer, repository, retention,
};

/// Who marked a manifest that a rule lets go; one that an explicit deletion marked has no such word.
const BY_RULE: &str = "retention";

/// [`get`] for a client that may push and will rely on the answer: where rules could take the manifest away, it is promised to stay
/// until what the client pushes names it, durably, before this returns.
pub async fn promise(store: &Store, target: &Writable, reference: &Reference) -> Result<Manifest, Error> {
    let found = get(store, &target.readable(), reference).await?;
    if store.writable().is_err() || !retention::any(store, target.repository().account()).await? {
        return Ok(found);
    }
    let repository = target.repository();
    let key = key::manifest(repository, &found.digest);
    for _ in 0..ATTEMPTS {
        let Some((mut header, bytes)) = load(store, repository, &found.digest).await? else {
            return Err(repository::absent(store, repository, Error::NoManifest).await);
        };
        let (now, lease) = (store.now(), store.lease());
        let long = header.value.lease.is_some_and(|held| held - now >= (lease - now) / 2);
        if header.value.state == State::Live && long {
            return Ok(found);
        }
        (header.value.state, header.value.marked_by_pass, header.value.lease) = (State::Live, None, Some(lease));
        match record::update_with(store.records(), &key, &mut header, Some(&bytes)).await {
            Ok(()) => return Ok(found),
            Err(Error::Conflict) => {}
            Err(other) => return Err(other),
        }
    }
    Err(Error::unavailable("a manifest is changed by too many at once"))
}

/// Marks a manifest that nothing names; whether it was done. Who names it meanwhile flips it back.
pub(crate) async fn mark(
    store: &Store,
    repository: &Repository,
    digest: &Digest,
    mut header: Document<Header>,
    bytes: &[u8],
) -> Result<bool, Error> {
    header.value.state = State::Dying;
    header.value.marked_by_pass = Some(BY_RULE.to_owned());
    match record::update_with(store.records(), &key::manifest(repository, digest), &mut header, Some(bytes)).await {
        Ok(()) => Ok(true),
        Err(Error::Conflict) => Ok(false),
        Err(other) => Err(other),
    }
}

impl Header {
    /// Whether a rule marked it.
    pub(crate) fn is_marked(&self) -> bool {
        self.state == State::Dying && self.marked_by_pass.as_deref() == Some(BY_RULE)
    }

    /// Whether a promise holds it.
    pub(crate) fn is_leased(&self, now: Time) -> bool {
        self.lease.is_some_and(|lease| lease > now)
    }
}

/// What became of a marked manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retired {
    /// It is gone.
    Gone,
    /// Somebody has changed it meanwhile.
    Stays,
}

/// Removes a marked manifest that was looked at again, or flips it back if something `named` it.
pub(crate) async fn retire(
    store: &Store,
    target: &Deletable,
    digest: &Digest,
    mut header: Document<Header>,
    bytes: &[u8],
    named: bool,
) -> Result<Retired, Error> {
    let key = key::manifest(target.repository(), digest);
    if named {
        (header.value.state, header.value.marked_by_pass) = (State::Live, None);
        return match record::update_with(store.records(), &key, &mut header, Some(bytes)).await {
            Ok(()) | Err(Error::Conflict) => Ok(Retired::Stays),
            Err(other) => Err(other),
        };
    }
    store.mark_dirty(target.repository()).await?;
    match store.records().remove(&key, header.version()).await {
        Ok(()) => {}
        // A push flipped it back.
        Err(Error::Conflict) => return Ok(Retired::Stays),
        Err(other) => return Err(other),
    }
    if let Some(subject) = &header.value.subject {
        let artifact_type = header.value.artifact_type.as_deref();
        referrer::clear_of(store, target.repository(), subject, digest, artifact_type).await?;
    }
    clear_tags(store, target, digest).await?;
    store.records().delete(&key::last_pull(target.repository(), digest)).await?;
    Ok(Retired::Gone)
}
