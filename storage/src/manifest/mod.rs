//! Manifests: kept byte for byte, committed only when the repository contains what they name (distribution-spec, end-3, end-7, end-9).
//!
//! A push first writes down what it is about to name (*pending*), then looks at every member; collection marks a member
//! first and looks at pending and manifests second. So a committed manifest never loses a blob, whatever interleaves.

mod parse;
mod retire;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

pub use parse::{
    DOCKER_LIST, DOCKER_MANIFEST, Kind, ManifestReference, OCI_ARTIFACT, OCI_INDEX, OCI_MANIFEST, Parsed,
    REFERENCE_LIMIT, SIZE_LIMIT, parse,
};

pub use retire::promise;
pub(crate) use retire::{Retired, mark, retire};

use crate::{
    Algorithm, Deletable, Digest, Error, Readable, Reference, Repository, Store, Tag, Time, Writable,
    blob::pinned_by,
    key,
    member::{self, State},
    record::{self, Document},
    referrer, repository,
    store::Deadline,
    tag::{self, TagRecord},
};

/// The header of a manifest's record; its exact bytes follow it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) state: State,
    pub(crate) media_type: String,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    /// Written by a HEAD under a push token, once a retention rule exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lease: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) marked_by_pass: Option<String>,
    pub(crate) refs: Vec<ManifestReference>,
}

/// A manifest as it is served.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The digest it was asked for under, or that its tag names.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// What it refers to.
    pub subject: Option<Digest>,
    /// What it names.
    pub references: Vec<ManifestReference>,
    /// Its exact bytes.
    pub bytes: Bytes,
}

/// What a push of a manifest did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Its digest.
    pub digest: Digest,
    /// Its subject, for the `OCI-Subject` header.
    pub subject: Option<Digest>,
    /// The tags that point at it now, for `OCI-Tag`.
    pub tags: Vec<Tag>,
}

/// A manifest to push.
#[derive(Debug, Clone)]
pub struct Push {
    /// Where: a tag, or the digest of the bytes.
    pub reference: Reference,
    /// Further tags (`tag=`, end-7b).
    pub tags: Vec<Tag>,
    /// `Content-Type` without parameters, empty if there was none.
    pub content_type: String,
    /// The exact bytes.
    pub bytes: Bytes,
    /// Who pushes: the credential's id, for the tag records.
    pub by: String,
}

/// Requests under way at once for one manifest.
const PARALLEL: usize = 64;
/// How often a push starts over because its manifest was deleted meanwhile.
const ROUNDS: usize = 3;
/// Most tags of one push.
pub const TAG_LIMIT: usize = 100;
/// Tries at one record before its contention is an error.
const ATTEMPTS: usize = 16;

/// Reads a manifest by tag or digest (end-3).
pub async fn get(store: &Store, source: &Readable, reference: &Reference) -> Result<Manifest, Error> {
    let digest = match reference {
        Reference::Digest(digest) => digest.clone(),
        Reference::Tag(tag) => tag::get(store, source, tag).await?.digest,
    };
    let repository = source.repository();
    match load(store, repository, &digest).await? {
        Some((header, bytes)) => Ok(Manifest {
            digest,
            media_type: header.value.media_type,
            subject: header.value.subject,
            references: header.value.refs,
            bytes,
        }),
        None => Err(repository::absent(store, repository, Error::NoManifest).await),
    }
}

pub(crate) async fn load(
    store: &Store,
    repository: &Repository,
    digest: &Digest,
) -> Result<Option<(Document<Header>, Bytes)>, Error> {
    let key = key::manifest(repository, digest);
    let Some(found) = store.records().get(&key).await? else { return Ok(None) };
    let (header, bytes) = record::decode::<Header>(&key, &found)?;
    if header.value.state == State::Known {
        return Ok(None);
    }
    Ok(Some((header, bytes)))
}

/// Pushes a manifest and moves its tags (end-7). Everything is durable before it returns, and goes on if the client leaves.
pub async fn put(store: &Store, target: &Writable, push: Push) -> Result<Pushed, Error> {
    store.writable()?;
    let parsed = parse(&push.content_type, &push.bytes)?;
    let mut tags = push.tags;
    let digest = match &push.reference {
        Reference::Tag(tag) => {
            tags.insert(0, tag.clone());
            Digest::of(Algorithm::Sha256, &push.bytes)
        }
        Reference::Digest(expected) => {
            let actual = Digest::of(expected.algorithm(), &push.bytes);
            if actual != *expected {
                return Err(Error::DigestMismatch { expected: expected.clone(), actual });
            }
            actual
        }
    };
    let mut seen = std::collections::HashSet::new();
    tags.retain(|tag| seen.insert(tag.clone()));
    let (work, target, bytes, by) = (store.clone(), target.clone(), push.bytes, push.by);
    store
        .detached(async move {
            let deadline = Deadline::start(&work);
            let (ensured, marked) =
                tokio::join!(repository::ensure(&work, &target), work.mark_dirty(target.repository()));
            ensured?;
            marked?;
            for _ in 0..ROUNDS {
                if settle(&work, &target, &digest, &parsed, &bytes, &tags, &by, deadline).await? {
                    repository::note(&work, target.repository(), &parsed, &tags);
                    return Ok(Pushed { digest, subject: parsed.subject, tags });
                }
            }
            Err(Error::unavailable("the manifest was deleted again and again while it was pushed"))
        })
        .await
}

/// One round of a push; `false` if the manifest was deleted under it.
#[expect(clippy::too_many_arguments, reason = "one push's parts; a struct for one call would only rename them")]
async fn settle(
    store: &Store,
    target: &Writable,
    digest: &Digest,
    parsed: &Parsed,
    bytes: &Bytes,
    tags: &[Tag],
    by: &str,
    deadline: Deadline,
) -> Result<bool, Error> {
    let repository = target.repository();
    // One tag is refused where it is set; of several none is set if one is refused.
    if tags.len() > 1 {
        for tag in tags {
            tag::may_point(store, repository, tag, digest).await?;
        }
    }
    let key = key::manifest(repository, digest);
    let present = load(store, repository, digest).await?;
    let known = matches!(&present, Some((header, old)) if header.value.state == State::Live && old == bytes);
    if !known {
        commit(store, target, digest, parsed, bytes, deadline).await?;
    }
    if let Some(subject) = &parsed.subject {
        deadline.check(store)?;
        referrer::put(store, target, subject, digest, parsed, bytes.len() as u64).await?;
    }
    let record = TagRecord {
        digest: digest.clone(),
        media_type: parsed.media_type.clone(),
        size: bytes.len() as u64,
        pushed_at: store.now(),
        by: by.to_owned(),
    };
    for tag in tags {
        deadline.check(store)?;
        tag::set(store, target, tag, &record).await?;
    }
    // A deletion that began meanwhile removed the manifest before it looked at marks: then this push begins again.
    if known || !tags.is_empty() || parsed.subject.is_some() {
        for _ in 0..ATTEMPTS {
            let Some((mut header, old)) = load(store, repository, digest).await? else { return Ok(false) };
            if header.value.state == State::Live {
                return Ok(true);
            }
            header.value.state = State::Live;
            header.value.marked_by_pass = None;
            match record::update_with(store.records(), &key, &mut header, Some(&old)).await {
                Ok(()) => return Ok(true),
                Err(Error::Conflict) => {}
                Err(other) => return Err(other),
            }
        }
        return Ok(false);
    }
    Ok(true)
}

/// What a manifest in flight names.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Pending<'a> {
    pub(crate) refs: std::borrow::Cow<'a, [ManifestReference]>,
}

/// Writes the manifest: pending first, then the look at every member, then the record.
async fn commit(
    store: &Store,
    target: &Writable,
    digest: &Digest,
    parsed: &Parsed,
    bytes: &Bytes,
    deadline: Deadline,
) -> Result<(), Error> {
    let repository = target.repository();
    let pending = key::pending(repository, digest, &crate::random_text(16));
    let body = serde_json::to_vec(&Pending { refs: parsed.references.as_slice().into() }).map_err(Error::unknown)?;
    deadline.check(store)?;
    store.records().put(&pending, body.into()).await?;
    let written = write(store, target, digest, parsed, bytes, deadline).await;
    // A write that nobody can say the fate of may still arrive: then collection has to see what it names until it cannot.
    if !matches!(written, Err(Error::Unknown(_))) {
        let work = store.clone();
        store.afterwards("a pending manifest's mark", async move { work.records().delete(&pending).await });
    }
    written
}

async fn write(
    store: &Store,
    target: &Writable,
    digest: &Digest,
    parsed: &Parsed,
    bytes: &Bytes,
    deadline: Deadline,
) -> Result<(), Error> {
    // Pending is written: a deletion of the repository that does not see it is seen here.
    let (ensured, checked) =
        tokio::join!(repository::ensure_now(store, target.repository()), check_all(store, target, &parsed.references));
    ensured?;
    checked?;
    let key = key::manifest(target.repository(), digest);
    let header = Header {
        state: State::Live,
        media_type: parsed.media_type.clone(),
        size: bytes.len() as u64,
        subject: parsed.subject.clone(),
        artifact_type: parsed.artifact_type.clone(),
        lease: None,
        marked_by_pass: None,
        refs: parsed.references.clone(),
    };
    for _ in 0..ATTEMPTS {
        deadline.check(store)?;
        match record::create_with(store.records(), &key, header.clone(), Some(bytes)).await {
            Ok(_) => return Ok(()),
            Err(Error::Conflict) => {}
            Err(other) => return Err(other),
        }
        let Some(found) = store.records().get(&key).await? else { continue };
        let (mut present, _) = record::decode::<Header>(&key, &found)?;
        // The media type is part of what is pushed: the same bytes under another type are served as pushed last.
        present.value = header.clone();
        match record::update_with(store.records(), &key, &mut present, Some(bytes)).await {
            Ok(()) => return Ok(()),
            Err(Error::Conflict) => {}
            Err(other) => return Err(other),
        }
    }
    Err(Error::unavailable("a manifest is pushed by too many at once"))
}

async fn check_all(store: &Store, target: &Writable, references: &[ManifestReference]) -> Result<(), Error> {
    futures::stream::iter(references.iter().map(Ok::<_, Error>))
        .try_for_each_concurrent(PARALLEL, |reference| check(store, target, reference))
        .await
}

async fn check(store: &Store, target: &Writable, reference: &ManifestReference) -> Result<(), Error> {
    match reference.kind {
        Kind::Blob => match member::reference(store, target, &reference.digest).await? {
            Some(_) => Ok(()),
            None if store.settings().sparse_manifests => Ok(()),
            None => Err(Error::NoReference { digest: reference.digest.clone() }),
        },
        Kind::OptionalBlob => member::reference(store, target, &reference.digest).await.map(|_| ()),
        Kind::Manifest => revive(store, target, &reference.digest).await,
    }
}

/// A child that retention has marked is flipped back because an index names it now; an absent one is accepted (a sparse index).
async fn revive(store: &Store, target: &Writable, digest: &Digest) -> Result<(), Error> {
    let key = key::manifest(target.repository(), digest);
    for _ in 0..ATTEMPTS {
        let Some((mut header, bytes)) = load(store, target.repository(), digest).await? else { return Ok(()) };
        if header.value.state == State::Live {
            return Ok(());
        }
        header.value.state = State::Live;
        header.value.marked_by_pass = None;
        match record::update_with(store.records(), &key, &mut header, Some(&bytes)).await {
            Ok(()) => return Ok(()),
            Err(Error::Conflict) => {}
            Err(other) => return Err(other),
        }
    }
    Err(Error::unavailable("a manifest is changed by too many at once"))
}

/// Deletes a manifest by digest, with the tags that point at it (end-9). [`Error::Pinned`] if a published version needs it,
/// [`Error::Immutable`] if one of its tags is.
pub async fn delete(store: &Store, target: &Deletable, digest: &Digest) -> Result<(), Error> {
    store.writable()?;
    let (work, target, digest) = (store.clone(), target.clone(), digest.clone());
    store.detached(async move { delete_now(&work, &target, &digest, true).await }).await
}

/// The same with its immutable tags: part of the deletion of its repository.
pub(crate) async fn delete_whatever(store: &Store, target: &Deletable, digest: &Digest) -> Result<(), Error> {
    delete_now(store, target, digest, false).await
}

/// Why a manifest that is marked dying has to live on.
async fn held(
    store: &Store,
    repository: &Repository,
    digest: &Digest,
    immutable: bool,
) -> Result<Option<Error>, Error> {
    if let Some(by) = pinned_by(store, &key::pins_of(repository, digest)).await? {
        return Ok(Some(Error::Pinned { by }));
    }
    let tag = if immutable { tag::kept(store, repository, digest).await? } else { None };
    Ok(tag.map(|tag| Error::Immutable { tag }))
}

async fn delete_now(store: &Store, target: &Deletable, digest: &Digest, immutable: bool) -> Result<(), Error> {
    let repository = target.repository();
    let key = key::manifest(repository, digest);
    store.mark_dirty(repository).await?;
    loop {
        let Some((mut header, bytes)) = load(store, repository, digest).await? else {
            // An earlier deletion may have died before it reached the tags.
            clear_tags(store, target, digest).await?;
            return Err(repository::absent(store, repository, Error::NoManifest).await);
        };
        header.value.state = State::Dying;
        match record::update_with(store.records(), &key, &mut header, Some(&bytes)).await {
            Ok(()) => {}
            Err(Error::Conflict) => continue,
            Err(other) => return Err(other),
        }
        if let Some(why) = held(store, repository, digest, immutable).await? {
            header.value.state = State::Live;
            match record::update_with(store.records(), &key, &mut header, Some(&bytes)).await {
                Ok(()) | Err(Error::Conflict) => return Err(why),
                Err(other) => return Err(other),
            }
        }
        if let Some(subject) = &header.value.subject {
            let artifact_type = header.value.artifact_type.as_deref();
            referrer::delete(store, target, subject, digest, artifact_type).await?;
        }
        match store.records().remove(&key, header.version()).await {
            Ok(()) => break,
            // A push flipped it back meanwhile; the deletion still wins last.
            Err(Error::Conflict) => {}
            Err(other) => return Err(other),
        }
    }
    clear_tags(store, target, digest).await
}

/// Removes the tags that still point at a manifest that is gone, and their marks.
async fn clear_tags(store: &Store, target: &Deletable, digest: &Digest) -> Result<(), Error> {
    const PAGE: usize = 1000;
    let marks = key::tagged_of(target.repository(), digest);
    let mut after: Option<String> = None;
    loop {
        let entries = store.records().page(&marks, after.as_deref(), PAGE).await?;
        futures::stream::iter(entries.iter())
            .map(Ok::<_, Error>)
            .try_for_each_concurrent(PARALLEL, |entry| {
                let marks = &marks;
                async move {
                    if let Ok(tag) = entry.name.parse() {
                        tag::remove_if(store, target, &tag, digest).await?;
                    }
                    store.records().delete(&marks.plain(&entry.name)).await
                }
            })
            .await?;
        if entries.len() < PAGE {
            return Ok(());
        }
        after = entries.last().map(|entry| entry.name.clone());
    }
}

/// The references of the fallback tag of `subject`, as raw descriptors: what clients without the referrers API wrote.
pub(crate) async fn fallback_descriptors(
    store: &Store,
    source: &Readable,
    subject: &Digest,
) -> Result<Vec<serde_json::Value>, Error> {
    let Ok(tag) = subject.dashed().parse::<Tag>() else { return Ok(Vec::new()) };
    match get(store, source, &Reference::Tag(tag)).await {
        Ok(index) if index.media_type == OCI_INDEX => {
            let document: serde_json::Value = serde_json::from_slice(&index.bytes).unwrap_or_default();
            Ok(document.get("manifests").and_then(|m| m.as_array()).cloned().unwrap_or_default())
        }
        Ok(_) | Err(Error::NoManifest | Error::NoRepository) => Ok(Vec::new()),
        Err(other) => Err(other),
    }
}
