//! The deletion of a manifest, with the tags that point at it.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt};

use super::{PARALLEL, load};
use crate::{
    Deletable, Digest, Error, Repository, Store, Tag, blob::pinned_by, key, member::State, record, referrer,
    repository, tag,
};

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
    let removed = loop {
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
        match store.records().remove(&key, header.version()).await {
            Ok(()) => break header.value,
            // A push flipped it back meanwhile; the deletion still wins last.
            Err(Error::Conflict) => {}
            Err(other) => return Err(other),
        }
    };
    // Not before the manifest is gone: it might have to live on after all, and then has to be listed.
    if let Some(subject) = &removed.subject {
        referrer::clear_of(store, repository, subject, digest, removed.artifact_type.as_deref()).await?;
    }
    clear_tags(store, target, digest).await
}

/// Removes the tags that still point at a manifest that is gone. Their marks stay for the sweep of marks: a push of the same
/// manifest to the same tag may have begun meanwhile, and the next deletion has to find its tag.
pub(super) async fn clear_tags(store: &Store, target: &Deletable, digest: &Digest) -> Result<(), Error> {
    const PAGE: usize = 1000;
    let marks = key::tagged_of(target.repository(), digest);
    let mut after: Option<String> = None;
    loop {
        let entries = store.records().page(&marks, after.as_deref(), PAGE).await?;
        let tags: BTreeSet<Tag> = entries.iter().filter_map(|entry| key::tag_of_mark(&entry.name)).collect();
        futures::stream::iter(tags.iter())
            .map(Ok::<_, Error>)
            .try_for_each_concurrent(PARALLEL, |tag| tag::remove_if(store, target.repository(), tag, digest))
            .await?;
        if entries.len() < PAGE {
            return Ok(());
        }
        after = entries.last().map(|entry| entry.name.clone());
    }
}
