//! The bytes of one blob, hashed on their way.

use futures::TryStreamExt;

use super::Half;
use crate::{
    Digest, Error,
    backend::{Claim, Content},
    hash::Hasher,
    key::DataId,
};

/// Below this a chunk is hashed where it is.
const SMALL: usize = 64 << 10;

/// What became of a blob's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Copied, so many bytes.
    Copied(u64),
    /// The target had them.
    There,
    /// The source does not have them.
    Missing,
    /// They are not what the blob's record says.
    Damaged(String),
}

/// Sees that the target has `size` bytes under `x` that hash to `digest`. `known`: this very copy has put them there before.
pub(super) async fn copy(
    source: &Half,
    target: &Half,
    x: &DataId,
    digest: &Digest,
    size: u64,
    known: bool,
) -> Result<Outcome, Error> {
    match target.bytes.read(x, Some(0..0)).await {
        Ok(present) if present.size == size => {
            // A bucket's object is whole or not there; a file that grows may be what a power cut left.
            if known || target.bytes.claim() == Claim::Document || is_whole(target, x, digest, size).await? {
                return Ok(Outcome::There);
            }
            target.bytes.delete(x).await?;
        }
        Ok(_) => target.bytes.delete(x).await?,
        Err(Error::NoBlob) => {}
        Err(other) => return Err(other),
    }
    let content = match source.bytes.read(x, Some(0..size)).await {
        Ok(content) => content,
        Err(Error::NoBlob) => return Ok(Outcome::Missing),
        Err(other) => return Err(other),
    };
    if content.size < size {
        return Ok(Outcome::Damaged(format!("has {} bytes, its record says {size}", content.size)));
    }
    let whole = target.bytes.first_part().is_some_and(|part| size <= part as u64);
    let saved = target.bytes.begin(x, whole, Some(size)).await?;
    let mut upload = target.bytes.open(x, &saved, 0, None).await?;
    let mut hasher = Hasher::new(Some(digest.algorithm()));
    let mut stream = content.stream;
    // An empty range is a question for the size alone.
    while size > 0
        && let Some(chunk) = stream.try_next().await?
    {
        upload.append(chunk.clone()).await?;
        hasher = update(hasher, chunk).await?;
    }
    if hasher.digest(digest.algorithm()).as_ref() != Some(digest) {
        drop(upload);
        target.bytes.abort(x, &saved).await?;
        target.bytes.delete(x).await?;
        return Ok(Outcome::Damaged("does not hash to its digest".into()));
    }
    upload.checkpoint(true).await?;
    upload.finish(size).await?;
    Ok(Outcome::Copied(size))
}

async fn update(mut hasher: Hasher, chunk: bytes::Bytes) -> Result<Hasher, Error> {
    if chunk.len() < SMALL {
        hasher.update(&chunk);
        return Ok(hasher);
    }
    hasher.update_detached(chunk).await
}

/// Whether what is there is what it should be.
async fn is_whole(half: &Half, x: &DataId, digest: &Digest, size: u64) -> Result<bool, Error> {
    let Content { mut stream, .. } = half.bytes.read(x, Some(0..size)).await?;
    let mut hasher = Hasher::new(Some(digest.algorithm()));
    while size > 0
        && let Some(chunk) = stream.try_next().await?
    {
        hasher = update(hasher, chunk).await?;
    }
    Ok(hasher.digest(digest.algorithm()).as_ref() == Some(digest))
}
