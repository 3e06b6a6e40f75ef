//! The push of a manifest: pending, the look at every member, the record, its entry among referrers, its tags, and a last look.

use bytes::Bytes;
use futures::TryStreamExt;

use super::{ATTEMPTS, Header, Kind, ManifestReference, PARALLEL, Parsed, Pending, Push, Pushed, load, parse};
use crate::{
    Algorithm, Digest, Error, Reference, Store, Tag, Writable,
    key::{self, PlainKey},
    member::{self, State},
    record, referrer, repository,
    store::Deadline,
    tag::{self, TagRecord},
};

/// How often a push starts over because its manifest was deleted meanwhile.
const ROUNDS: usize = 3;

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
            let mut pushing = Pushing {
                store: &work,
                target: &target,
                digest: &digest,
                parsed: &parsed,
                bytes: &bytes,
                tags: &tags,
                by: &by,
                deadline,
                pendings: Vec::new(),
                listed: false,
                tagged: 0,
            };
            let pushed = pushing.run().await;
            pushing.end(&pushed).await;
            pushed?;
            repository::note(&work, target.repository(), &parsed, &tags);
            Ok(Pushed { digest, subject: parsed.subject, tags })
        })
        .await
}

/// One push under way.
struct Pushing<'a> {
    store: &'a Store,
    target: &'a Writable,
    digest: &'a Digest,
    parsed: &'a Parsed,
    bytes: &'a Bytes,
    tags: &'a [Tag],
    by: &'a str,
    deadline: Deadline,
    /// What was written to say that it is under way.
    pendings: Vec<PlainKey>,
    /// Whether its entry among referrers may have been written.
    listed: bool,
    /// So many of its tags may have been set.
    tagged: usize,
}

impl Pushing<'_> {
    async fn run(&mut self) -> Result<(), Error> {
        for _ in 0..ROUNDS {
            if self.round().await? {
                return Ok(());
            }
        }
        Err(Error::unavailable("the manifest was deleted again and again while it was pushed"))
    }

    /// One round; `false` if the manifest was deleted under it.
    async fn round(&mut self) -> Result<bool, Error> {
        let (store, repository) = (self.store, self.target.repository());
        // One tag is refused where it is set; of several none is set if one is refused.
        if self.tags.len() > 1 {
            for tag in self.tags {
                tag::may_point(store, repository, tag, self.digest).await?;
            }
        }
        let present = load(store, repository, self.digest).await?;
        let known = matches!(&present, Some((header, old)) if header.value.state == State::Live && old == self.bytes);
        if !known {
            self.commit().await?;
        }
        let size = self.bytes.len() as u64;
        if let Some(subject) = &self.parsed.subject {
            self.deadline.check(store)?;
            self.listed = true;
            referrer::put(store, repository, subject, self.digest, self.parsed, size).await?;
        }
        let record = TagRecord {
            digest: self.digest.clone(),
            media_type: self.parsed.media_type.clone(),
            size,
            pushed_at: store.now(),
            by: self.by.to_owned(),
        };
        for (index, tag) in self.tags.iter().enumerate() {
            self.deadline.check(store)?;
            self.tagged = self.tagged.max(index + 1);
            tag::set(store, self.target, tag, &record).await?;
        }
        // A deletion that began meanwhile removed the manifest before it looked at marks: then this push begins again.
        if known || !self.tags.is_empty() || self.parsed.subject.is_some() {
            return self.last_look().await;
        }
        Ok(true)
    }

    async fn last_look(&self) -> Result<bool, Error> {
        let key = key::manifest(self.target.repository(), self.digest);
        for _ in 0..ATTEMPTS {
            let found = load(self.store, self.target.repository(), self.digest).await?;
            let Some((mut header, old)) = found else { return Ok(false) };
            if header.value.state == State::Live {
                return Ok(true);
            }
            header.value.state = State::Live;
            header.value.marked_by_pass = None;
            match record::update_with(self.store.records(), &key, &mut header, Some(&old)).await {
                Ok(()) => return Ok(true),
                Err(Error::Conflict) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(false)
    }

    /// Writes the manifest: pending first, then the look at every member, then the record.
    async fn commit(&mut self) -> Result<(), Error> {
        let pending = key::pending(self.target.repository(), self.digest, &crate::random_text(16));
        let refs = self.parsed.references.as_slice().into();
        let body = serde_json::to_vec(&Pending { refs }).map_err(Error::unknown)?;
        self.deadline.check(self.store)?;
        self.pendings.push(pending.clone());
        self.store.records().put(&pending, body.into()).await?;
        write(self.store, self.target, self.digest, self.parsed, self.bytes, self.deadline).await
    }

    /// After its last write. The pendings go now and not before: until then a deletion of the repository waits for this push.
    async fn end(self, pushed: &Result<(), Error>) {
        if pushed.is_err()
            && let Err(error) = self.undo().await
        {
            // The marks of its tags are there: the sweep finds what is left by them.
            tracing::warn!(error = &error as &dyn std::error::Error, "a push that failed may have left its tag");
        }
        // A write that nobody can say the fate of may still arrive: then collection has to see what it names until it cannot.
        if !matches!(pushed, Err(Error::Unknown(_))) && !self.pendings.is_empty() {
            let (work, pendings) = (self.store.clone(), self.pendings);
            self.store.afterwards("a pending manifest's mark", async move {
                for pending in &pendings {
                    work.records().delete(pending).await?;
                }
                Ok(())
            });
        }
    }

    /// Takes its tags and its entry away if its manifest was deleted under it: whoever did that may have looked before they were
    /// written. The tag is read before the manifest: who has put that there again sets the tag after it.
    async fn undo(&self) -> Result<(), Error> {
        let repository = self.target.repository();
        for tag in self.tags.iter().take(self.tagged) {
            tag::remove_dangling(self.store, repository, tag, self.digest).await?;
        }
        if self.listed
            && let Some(subject) = &self.parsed.subject
            && load(self.store, repository, self.digest).await?.is_none()
        {
            let artifact_type = self.parsed.artifact_type.as_deref();
            referrer::clear_of(self.store, repository, subject, self.digest, artifact_type).await?;
        }
        Ok(())
    }
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
