//! "This repository contains this digest, and its bytes are X": the record that a pull reads, that a promise renews and that
//! collection takes away.
//!
//! A member is `live` or `dying`. Collection marks an unreferenced member dying first and removes it in a later pass; whoever
//! meets a dying one and needs it flips it back by compare-and-swap, which makes the removal fail. Every promise (a commit, a
//! mount, a HEAD under a push token) has a durable lease before it is spoken.

use serde::{Deserialize, Serialize};

use crate::{
    Account, Digest, Error, Readable, Repository, RepositoryName, Store, Time, Writable,
    key::{self, DataId},
    record::{self, Document},
    repository,
    store::Deadline,
    usage,
};

/// How far a member is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// In the repository.
    Live,
    /// Marked by collection or a deletion; still readable.
    Dying,
    /// Named by an upstream, its bytes not here: absent for everything that this module answers.
    Known,
}

/// The record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) state: State,
    /// Where the bytes are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) x: Option<String>,
    pub(crate) size: u64,
    /// The repository (path in the account) whose push stored X.
    pub(crate) origin: String,
    /// The upload session that stored X.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sid: Option<String>,
    /// Until when an unreferenced member is promised to stay.
    pub(crate) lease: Time,
    /// The collection pass that marked it dying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) marked_by_pass: Option<String>,
}

/// A pointer to try a mount with; wrong hints are harmless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Hint {
    x: String,
    repository: String,
}

/// What the trash needs to know about an X that somebody gave up.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TrashIntent {
    /// Where it was to be used.
    pub(crate) repository: String,
    /// The digests it may have been committed under.
    pub(crate) digests: Vec<Digest>,
    /// The repository whose push stored it.
    pub(crate) origin: String,
    /// Its upload session.
    pub(crate) sid: Option<String>,
    /// Its bytes, for those who count what the trash holds.
    #[serde(default)]
    pub(crate) size: u64,
}

impl Member {
    /// The bytes, if this member has any.
    pub(crate) fn data(&self, account: &Account) -> Option<DataId> {
        match self.state {
            State::Live | State::Dying => DataId::parse(account.generation(), self.x.as_ref()?),
            State::Known => None,
        }
    }
}

/// Attempts at one record before its contention is an error.
const ATTEMPTS: usize = 16;

fn contended(what: &str) -> Error {
    Error::unavailable(format!("{what} is changed by too many at once"))
}

/// The member, if the repository contains the digest here.
pub(crate) async fn get(
    store: &Store,
    repository: &Repository,
    digest: &Digest,
) -> Result<Option<Document<Member>>, Error> {
    let found = record::read::<Member>(store.records(), &key::member(repository, digest)).await?;
    Ok(found.filter(|member| member.value.data(repository.account()).is_some()))
}

/// Sees that the member is there and stays: flips a dying one back, and renews the lease when `renew` says so. `Ok(None)` if the
/// repository does not contain it.
async fn keep(
    store: &Store,
    repository: &Repository,
    digest: &Digest,
    renew: impl Fn(&Member) -> bool,
) -> Result<Option<Member>, Error> {
    let key = key::member(repository, digest);
    for _ in 0..ATTEMPTS {
        let Some(mut member) = get(store, repository, digest).await? else { return Ok(None) };
        if member.value.state == State::Live && !renew(&member.value) {
            return Ok(Some(member.value));
        }
        member.value.state = State::Live;
        member.value.marked_by_pass = None;
        member.value.lease = store.lease();
        match record::update(store.records(), &key, &mut member).await {
            Ok(()) => return Ok(Some(member.value)),
            Err(Error::Conflict) => {}
            Err(other) => return Err(other),
        }
    }
    Err(contended("a blob"))
}

/// A promise: the blob stays for at least half a promise life, and that is durable before this returns. `Ok(None)` if absent.
pub(crate) async fn promise(store: &Store, target: &Writable, digest: &Digest) -> Result<Option<Member>, Error> {
    let half = store.lives().promise / 2;
    let now = store.now();
    if store.writable().is_err() {
        return Ok(get(store, target.repository(), digest).await?.map(|member| member.value));
    }
    keep(store, target.repository(), digest, |member| member.lease - now < half).await
}

/// A look on behalf of a manifest: a dying member is flipped back, a live one needs nothing. `Ok(None)` if absent.
pub(crate) async fn reference(store: &Store, target: &Writable, digest: &Digest) -> Result<Option<Member>, Error> {
    keep(store, target.repository(), digest, |_| false).await
}

/// What a commit made of its X.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NewMember<'a> {
    /// The bytes, whole and durable.
    pub(crate) x: &'a DataId,
    /// Their number.
    pub(crate) size: u64,
    /// The session that stored them.
    pub(crate) sid: &'a str,
}

/// Makes the repository contain `digest`, promised, with the bytes of `new`, or with bytes that the account has already: then `new`
/// is given up to the trash. Durable when it returns.
pub(crate) async fn commit(
    store: &Store,
    target: &Writable,
    digest: &Digest,
    new: NewMember<'_>,
    deadline: Deadline,
) -> Result<(), Error> {
    let repository = target.repository();
    let account = repository.account();
    let hint_key = key::hint(account, digest);
    let (hint, marked, ensured) = tokio::join!(
        record::read::<Hint>(store.records(), &hint_key),
        store.mark_dirty(repository),
        repository::ensure(store, target),
    );
    marked?;
    ensured?;
    let hint = hint?;

    // The account may have these bytes already, in another repository: then that copy is shared and the fresh one goes.
    if let Some(found) = &hint
        && found.value.repository != repository.name().path()
        && let Some(other) = sibling(repository, &found.value.repository)
        && share(store, target, &other, digest, deadline).await?.is_some()
    {
        return give_up(store, repository, new.x, std::slice::from_ref(digest), new.size, Some(new.sid)).await;
    }

    deadline.check(store)?;
    let key = key::member(repository, digest);
    let member = Member {
        state: State::Live,
        x: Some(new.x.id().to_owned()),
        size: new.size,
        origin: repository.name().path().to_owned(),
        sid: Some(new.sid.to_owned()),
        lease: store.lease(),
        marked_by_pass: None,
    };
    let mut ours = false;
    for _ in 0..ATTEMPTS {
        match record::create(store.records(), &key, member.clone()).await {
            Ok(_) => {
                store.usage().added(account, new.size);
                ours = true;
                break;
            }
            Err(Error::Conflict) => {}
            Err(other) => return Err(other),
        }
        // Somebody's bytes are there: keep those, unless they are the very ones a repeated commit brings again.
        let Some(mut present) = record::read::<Member>(store.records(), &key).await? else { continue };
        let absent = present.value.data(account).is_none();
        if absent {
            present.value = member.clone();
        } else {
            present.value.state = State::Live;
            present.value.marked_by_pass = None;
            present.value.lease = store.lease();
        }
        match record::update(store.records(), &key, &mut present).await {
            Ok(()) => {
                if absent {
                    store.usage().added(account, new.size);
                }
                ours = present.value.x == member.x;
                if !ours {
                    let digests = std::slice::from_ref(digest);
                    give_up(store, repository, new.x, digests, new.size, Some(new.sid)).await?;
                }
                break;
            }
            Err(Error::Conflict) => {}
            Err(other) => return Err(other),
        }
    }
    if ours {
        write_hint(store, repository, digest, new.x, hint);
        return Ok(());
    }
    match get(store, repository, digest).await? {
        Some(_) => Ok(()),
        None => Err(contended("a blob")),
    }
}

/// Writes the dedupe hint after the answer, if there is none.
fn write_hint(store: &Store, repository: &Repository, digest: &Digest, x: &DataId, present: Option<Document<Hint>>) {
    let hint = Hint { x: x.id().to_owned(), repository: repository.name().path().to_owned() };
    let key = key::hint(repository.account(), digest);
    let work = store.clone();
    store.afterwards("a dedupe hint", async move {
        match present {
            None => record::create(work.records(), &key, hint).await.map(|_| ()),
            Some(present) if present.value == hint => Ok(()),
            // It led to nothing that could be shared: it is wrong.
            Some(mut present) => {
                present.value = hint;
                record::update(work.records(), &key, &mut present).await
            }
        }
    });
}

/// Another repository of the same account, from its path.
pub(crate) fn sibling(repository: &Repository, path: &str) -> Option<Repository> {
    let account = repository.account();
    let name: RepositoryName = format!("{}/{path}", account.name()).parse().ok()?;
    Repository::new(account.clone(), name)
}

/// The repository of the account that may have these bytes, for a mount without `from`. The caller asks whether the token may
/// read it before it mounts from it.
pub async fn hint(store: &Store, target: &Writable, digest: &Digest) -> Result<Option<RepositoryName>, Error> {
    let repository = target.repository();
    let found = record::read::<Hint>(store.records(), &key::hint(repository.account(), digest)).await?;
    Ok(found.and_then(|found| sibling(repository, &found.value.repository)).map(|other| other.name().clone()))
}

/// Makes `target` contain the `digest` that `source` contains, without moving a byte (distribution-spec, end-11). `Ok(None)` if the
/// source does not contain it: the client uploads. Both repositories are of one account.
pub async fn mount(store: &Store, target: &Writable, source: &Readable, digest: &Digest) -> Result<Option<u64>, Error> {
    store.writable()?;
    if target.repository().account() != source.repository().account() {
        return Ok(None);
    }
    if target.repository() == source.repository() {
        return Ok(promise(store, target, digest).await?.map(|member| member.size));
    }
    let (store, target, source, digest) = (store.clone(), target.clone(), source.clone(), digest.clone());
    let work = store.clone();
    store
        .detached(async move {
            let deadline = Deadline::start(&work);
            let Some(found) = get(&work, source.repository(), &digest).await? else { return Ok(None) };
            if let Some(room) = usage::room(&work, &target).await?
                && let Err(full) = room.take(found.value.size)
            {
                // What the target contains already takes nothing.
                let present = promise(&work, &target, &digest).await?;
                return present.map(|member| Some(member.size)).ok_or(full);
            }
            repository::ensure(&work, &target).await?;
            work.mark_dirty(target.repository()).await?;
            share(&work, &target, source.repository(), &digest, deadline).await
        })
        .await
}

/// The mount itself: the share first, the look at the source second (collection looks in the other order), the member last.
async fn share(
    store: &Store,
    target: &Writable,
    source: &Repository,
    digest: &Digest,
    deadline: Deadline,
) -> Result<Option<u64>, Error> {
    let repository = target.repository();
    let account = repository.account();
    let Some(first) = get(store, source, digest).await? else { return Ok(None) };
    let Some(x) = first.value.data(account) else { return Ok(None) };
    deadline.check(store)?;
    store.records().put(&key::share(&x, repository), bytes::Bytes::from_static(b".")).await?;
    let Some(present) = keep(store, source, digest, |_| false).await? else { return Ok(None) };
    if present.x.as_deref() != Some(x.id()) {
        return Ok(None);
    }
    let member = Member { lease: store.lease(), ..present };
    let key = key::member(repository, digest);
    for _ in 0..ATTEMPTS {
        deadline.check(store)?;
        match record::create(store.records(), &key, member.clone()).await {
            Ok(_) => {
                store.usage().added(account, member.size);
                return Ok(Some(member.size));
            }
            Err(Error::Conflict) => {}
            Err(other) => return Err(other),
        }
        // The target contains it already, with these bytes or with its own: either serves.
        if let Some(present) = keep(store, repository, digest, |_| true).await? {
            return Ok(Some(present.size));
        }
        if let Some(mut known) = record::read::<Member>(store.records(), &key).await? {
            known.value = member.clone();
            match record::update(store.records(), &key, &mut known).await {
                Ok(()) => {
                    store.usage().added(account, member.size);
                    return Ok(Some(member.size));
                }
                Err(Error::Conflict) => {}
                Err(other) => return Err(other),
            }
        }
    }
    Err(contended("a blob"))
}

/// Leaves an X that this repository's own push stored to the trash: the one place that deletes bytes looks later whether anybody
/// uses it.
pub(crate) async fn give_up(
    store: &Store,
    repository: &Repository,
    x: &DataId,
    digests: &[Digest],
    size: u64,
    sid: Option<&str>,
) -> Result<(), Error> {
    let path = repository.name().path().to_owned();
    let intent = TrashIntent {
        repository: path.clone(),
        digests: digests.to_vec(),
        origin: path,
        sid: sid.map(str::to_owned),
        size,
    };
    leave(store, x, &intent).await
}

/// Leaves the X of a member that is about to be removed to the trash. Its origin may be another repository, which may still use it.
pub(crate) async fn leave_behind(
    store: &Store,
    repository: &Repository,
    digest: &Digest,
    member: &Member,
) -> Result<(), Error> {
    let Some(x) = member.data(repository.account()) else { return Ok(()) };
    let intent = TrashIntent {
        repository: repository.name().path().to_owned(),
        digests: vec![digest.clone()],
        origin: member.origin.clone(),
        sid: member.sid.clone(),
        size: member.size,
    };
    leave(store, &x, &intent).await
}

async fn leave(store: &Store, x: &DataId, intent: &TrashIntent) -> Result<(), Error> {
    let body = serde_json::to_vec(intent).map_err(Error::unknown)?;
    store.records().put(&key::trash(store.now(), x), body.into()).await
}

/// Removes the dedupe hint that names a member which was removed; another hint stays.
pub(crate) async fn forget_hint(
    store: &Store,
    repository: &Repository,
    digest: &Digest,
    member: &Member,
) -> Result<(), Error> {
    let key = key::hint(repository.account(), digest);
    let Some(found) = record::read::<Hint>(store.records(), &key).await? else { return Ok(()) };
    if member.x.as_ref() != Some(&found.value.x) || found.value.repository != repository.name().path() {
        return Ok(());
    }
    match store.records().remove(&key, found.version()).await {
        // Somebody has just written a better one.
        Err(Error::Conflict) => Ok(()),
        other => other,
    }
}
