//! Manifests: kept byte for byte, committed only when the repository contains what they name (distribution-spec, end-3, end-7, end-9).
//!
//! A push first writes down what it is about to name (*pending*), then looks at every member; collection marks a member
//! first and looks at pending and manifests second. So a committed manifest never loses a blob, whatever interleaves.

mod delete;
mod parse;
mod push;
mod retire;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use delete::delete;
pub(crate) use delete::delete_whatever;
pub use parse::{
    DOCKER_LIST, DOCKER_MANIFEST, Kind, ManifestReference, OCI_ARTIFACT, OCI_INDEX, OCI_MANIFEST, Parsed,
    REFERENCE_LIMIT, SIZE_LIMIT, parse,
};
pub use push::put;
pub use retire::promise;
pub(crate) use retire::{Retired, mark, retire};

use crate::{
    Digest, Error, Readable, Reference, Repository, Store, Tag, Time, key,
    member::State,
    record::{self, Document},
    repository, tag,
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

/// What a manifest in flight names.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Pending<'a> {
    pub(crate) refs: std::borrow::Cow<'a, [ManifestReference]>,
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
