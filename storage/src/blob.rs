//! Blobs: read, promise, delete (distribution-spec, end-2 and end-10).

use std::ops::Range;

use crate::{
    Deletable, Digest, Error, Readable, Store, Writable, backend::Content, key, member, member::State, record,
    repository,
};

/// The size of a blob that the repository contains.
pub async fn stat(store: &Store, source: &Readable, digest: &Digest) -> Result<u64, Error> {
    match member::get(store, source.repository(), digest).await? {
        Some(found) => Ok(found.value.size),
        None => Err(repository::absent(store, source.repository(), Error::NoBlob).await),
    }
}

/// [`stat`] for a client that may push and will rely on the answer: the blob is promised to stay until its manifest can arrive,
/// durably, before this returns.
pub async fn promise(store: &Store, target: &Writable, digest: &Digest) -> Result<u64, Error> {
    match member::promise(store, target, digest).await? {
        Some(found) => Ok(found.size),
        None => Err(repository::absent(store, target.repository(), Error::NoBlob).await),
    }
}

/// Chooses the range to read once the size is known.
pub type ChooseRange<'a> = &'a (dyn Fn(u64) -> Option<Range<u64>> + Send + Sync);

/// The bytes of a blob, or of the range that `choose` picks from its size (`None`: all). The content's `size` is the blob's.
pub async fn read(
    store: &Store,
    source: &Readable,
    digest: &Digest,
    choose: ChooseRange<'_>,
) -> Result<Content, Error> {
    let repository = source.repository();
    let Some(found) = member::get(store, repository, digest).await? else {
        return Err(repository::absent(store, repository, Error::NoBlob).await);
    };
    let size = found.value.size;
    let x = found.value.data(repository.account()).ok_or(Error::NoBlob)?;
    // Never "the file": only what the member says.
    let range = choose(size).unwrap_or(0..size);
    let range = range.start.min(size)..range.end.min(size);
    if range.is_empty() {
        return Ok(Content { size, stream: Box::pin(futures::stream::empty()) });
    }
    let content = store.bytes().read(&x, Some(range)).await?;
    if content.size < size {
        return Err(Error::corrupt(format!("data {} holds {} bytes, its member says {size}", x.id(), content.size)));
    }
    Ok(Content { size, stream: content.stream })
}

/// Takes a blob out of the repository. Manifests that use it break; a blob of a repository with pins stays
/// ([`Error::Pinned`]). Its bytes go later, when nobody uses them.
pub async fn delete(store: &Store, target: &Deletable, digest: &Digest) -> Result<(), Error> {
    store.writable()?;
    let (work, target, digest) = (store.clone(), target.clone(), digest.clone());
    store.detached(async move { delete_now(&work, &target, &digest).await }).await
}

pub(crate) async fn delete_now(store: &Store, target: &Deletable, digest: &Digest) -> Result<(), Error> {
    let repository = target.repository();
    let key = key::member(repository, digest);
    store.mark_dirty(repository).await?;
    loop {
        let Some(mut found) = member::get(store, repository, digest).await? else {
            return Err(repository::absent(store, repository, Error::NoBlob).await);
        };
        // Flag first, look second: publishing pins first and looks at members second, so one of the two sees the other.
        found.value.state = State::Dying;
        found.value.marked_by_pass = None;
        match record::update(store.records(), &key, &mut found).await {
            Ok(()) => {}
            Err(Error::Conflict) => continue,
            Err(other) => return Err(other),
        }
        if let Some(by) = pinned_by(store, &key::pins(repository)).await? {
            found.value.state = State::Live;
            match record::update(store.records(), &key, &mut found).await {
                Ok(()) | Err(Error::Conflict) => return Err(Error::Pinned { by }),
                Err(other) => return Err(other),
            }
        }
        member::leave_behind(store, repository, digest, &found.value).await?;
        match store.records().remove(&key, found.version()).await {
            Ok(()) => {
                store.usage().removed(repository.account(), found.value.size);
                return member::forget_hint(store, repository, digest, &found.value).await;
            }
            // A push flipped it back meanwhile; the deletion still wins last.
            Err(Error::Conflict) => {}
            Err(other) => return Err(other),
        }
    }
}

/// Who pins something under `prefix`, as `package@version`.
pub(crate) async fn pinned_by(store: &Store, prefix: &key::Prefix) -> Result<Option<String>, Error> {
    let entries = store.records().page(prefix, None, 1).await?;
    Ok(entries.first().map(|entry| {
        let by = entry.name.rsplit('/').next().unwrap_or(&entry.name);
        by.rsplit_once('.').map_or(by, |(version, _publish)| version).to_owned()
    }))
}
