//! The trash: the one place that deletes bytes.
//!
//! Whoever gives up a data object X leaves an intent; a run over the intents looks hours later whether anybody uses X. Who uses X is a
//! member that names it. A new one can only come from a commit of the session that stored X, from a retry of it, or from a mount,
//! which writes a *share* of X first and looks at a member that it mounts from second. So a run looks at the session, then at the
//! members of everybody who may have X, then at the shares again: if nobody had X and no share was written meanwhile, nobody has it
//! now and nobody can get it. All ages are against the store's time at the start of the run.

use serde::Serialize;

use crate::{
    Account, Digest, Error, Generation, Repository, Store, Time, generation,
    generation::{GenerationRecord, GenerationState},
    key::{self, DataId},
    member::{self, State, TrashIntent},
    record, upload,
    work::{self, Entry},
};

/// Intents that are looked at together; between their looks and their deletes is one look at the holds.
const AT_ONCE: usize = 16;
/// Rows of a page.
const PAGE: usize = 1000;

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Emptied {
    /// Data objects that were deleted, and their bytes.
    pub deleted: u64,
    /// See `deleted`.
    pub deleted_bytes: u64,
    /// Intents that were dropped because somebody uses their bytes.
    pub kept: u64,
    /// Intents that were put off: their upload or a mount may be under way.
    pub later: u64,
    /// A backup or a move is under way: nothing is deleted.
    pub held: bool,
}

/// What became of one intent.
enum Verdict {
    /// Nobody uses the bytes, and nobody can come to.
    Dead { size: u64 },
    /// Somebody uses them.
    Used,
    /// It cannot be said yet.
    Later { body: bytes::Bytes, size: u64 },
    /// Nothing is known of its account.
    Strange,
}

/// One run over the intents that are due; `process` is a name of its own for each process. `Ok(None)`: none is due, nothing was
/// written.
pub async fn empty(store: &Store, process: &str) -> Result<Option<Emptied>, Error> {
    store.writable()?;
    let prefix = key::trash_all();
    let until = store.now() - store.lives().trash;
    let (mut entries, mut next) = work::page(store, &prefix, None, until).await?;
    if entries.is_empty() {
        return Ok(None);
    }
    let stamp = key::trash_stamp(process);
    store.records().put(&stamp, bytes::Bytes::from_static(b".")).await?;
    let began = store.records().get_plain(&stamp).await?;
    let began = began.ok_or_else(|| Error::unavailable("the stamp of a run over the trash is gone"))?.modified;
    let mut emptied = Emptied { held: held(store, began).await?, ..Emptied::default() };
    while !emptied.held {
        entries.retain(|entry| entry.modified <= began - store.lives().trash);
        for some in entries.chunks(AT_ONCE) {
            together(store, some, began, &mut emptied).await?;
        }
        let Some(after) = next else { break };
        (entries, next) = work::page(store, &prefix, Some(&after), until).await?;
    }
    store.records().delete(&stamp).await?;
    forget_stamps(store, began).await?;
    Ok(Some(emptied))
}

/// Takes away the stamps of processes that died in a run.
async fn forget_stamps(store: &Store, began: Time) -> Result<(), Error> {
    let prefix = key::trash_stamps();
    for stamp in store.records().page(&prefix, None, PAGE).await? {
        if stamp.modified <= began - store.lives().in_flight {
            store.records().delete(&prefix.plain(&stamp.name)).await?;
        }
    }
    Ok(())
}

async fn together(store: &Store, entries: &[Entry], began: Time, emptied: &mut Emptied) -> Result<(), Error> {
    let verdicts = futures::future::try_join_all(entries.iter().map(|entry| readable(store, entry, began)));
    let verdicts = verdicts.await?;
    // Again, because the looks took their time: what a backup has read since is not deleted.
    emptied.held = held(store, began).await?;
    if emptied.held {
        return Ok(());
    }
    for (entry, verdict) in entries.iter().zip(verdicts) {
        match verdict {
            Verdict::Dead { size } => {
                let Some(x) = data_of(entry) else { continue };
                delete(store, &x).await?;
                store.records().delete(&entry.key).await?;
                emptied.deleted += 1;
                emptied.deleted_bytes += size;
            }
            Verdict::Used => {
                store.records().delete(&entry.key).await?;
                emptied.kept += 1;
            }
            Verdict::Later { body, .. } => {
                let Some(x) = data_of(entry) else { continue };
                let again = key::trash(store.now(), &x);
                store.records().put(&again, body).await?;
                if again != entry.key {
                    store.records().delete(&entry.key).await?;
                }
                emptied.later += 1;
            }
            Verdict::Strange => {}
        }
    }
    Ok(())
}

/// Step 4, and the only delete of bytes there is: the bytes, then the shares, then (the caller's) what named them.
pub(crate) async fn delete(store: &Store, x: &DataId) -> Result<(), Error> {
    store.bytes().delete(x).await?;
    let prefix = key::shares(x);
    loop {
        let shares = store.records().page(&prefix, None, PAGE).await?;
        for share in &shares {
            store.records().delete(&prefix.plain(&share.name)).await?;
        }
        if shares.len() < PAGE {
            return Ok(());
        }
    }
}

/// Whether a backup or a move is under way: its hold was renewed within the last hour before `began`.
async fn held(store: &Store, began: Time) -> Result<bool, Error> {
    let holds = store.records().page(&key::holds(), None, PAGE).await?;
    Ok(holds.iter().any(|hold| hold.modified > began - store.lives().hold))
}

fn data_of(entry: &Entry) -> Option<DataId> {
    DataId::parse(&entry.generation.parse::<Generation>().ok()?, &entry.what)
}

/// Bytes in the trash that nobody uses, due or not; deletes nothing.
pub(crate) async fn unused(store: &Store) -> Result<u64, Error> {
    let prefix = key::trash_all();
    let (mut bytes, mut after) = (0, None::<String>);
    loop {
        let (entries, next) = work::page(store, &prefix, after.as_deref(), Time::MAX_UTC).await?;
        for some in entries.chunks(AT_ONCE) {
            let judged = some.iter().map(|entry| readable(store, entry, store.now()));
            for verdict in futures::future::try_join_all(judged).await? {
                match verdict {
                    Verdict::Dead { size } | Verdict::Later { size, .. } => bytes += size,
                    Verdict::Used | Verdict::Strange => {}
                }
            }
        }
        match next {
            Some(next) => after = Some(next),
            None => return Ok(bytes),
        }
    }
}

/// What can be said of an intent; one that cannot be read, or whose members cannot, stays and keeps no other from its turn.
async fn readable(store: &Store, entry: &Entry, began: Time) -> Result<Verdict, Error> {
    match judge(store, entry, began).await {
        Err(Error::Corrupt { what }) => {
            tracing::warn!("bytes in the trash stay there: {what}");
            Ok(Verdict::Strange)
        }
        other => other,
    }
}

/// Steps 1 to 3.
async fn judge(store: &Store, entry: &Entry, began: Time) -> Result<Verdict, Error> {
    let Some(x) = data_of(entry) else { return Ok(Verdict::Strange) };
    let key = key::generation(x.generation());
    let found = record::read::<GenerationRecord>(store.records(), &key).await?;
    // Without the record of its generation it stays for `verify`.
    let Some(record) = found.map(|found| found.value) else { return Ok(Verdict::Strange) };
    // Otherwise another worker was faster.
    let Some(found) = store.records().get_plain(&entry.key).await? else { return Ok(Verdict::Strange) };
    let intent: TrashIntent = serde_json::from_slice(&found.body)
        .map_err(|error| Error::corrupt(format!("the trash intent {}: {error}", entry.key)))?;
    if record.state == GenerationState::Deleted {
        return Ok(Verdict::Dead { size: intent.size });
    }
    let body = found.body;
    #[expect(clippy::disallowed_methods, reason = "the generation itself was read")]
    let account = Account::new(record.name, x.generation().clone());
    if let Some(sid) = &intent.sid
        && upload::may_commit(store, &account, sid, began).await?
    {
        return Ok(Verdict::Later { body, size: intent.size });
    }
    let shares = shares(store, &x).await?;
    let users = shares.iter().map(|(path, _)| path.as_str()).chain([intent.repository.as_str(), &intent.origin]);
    let users: std::collections::BTreeSet<String> = users.map(|path| path.replace('!', "/")).collect();
    let mut dying = false;
    for path in users {
        let Some(user) = generation::repository_of(account.clone(), &path) else { continue };
        match uses(store, &user, &x, &intent.digests).await? {
            None => {}
            Some(State::Dying) => dying = true,
            Some(State::Live | State::Known) => return Ok(Verdict::Used),
        }
    }
    // Whoever marked it may be about to remove it: then this intent is all that will name the bytes.
    if dying {
        return Ok(Verdict::Later { body, size: intent.size });
    }
    let in_flight = began - store.lives().in_flight;
    if self::shares(store, &x).await?.iter().any(|(_, modified)| *modified > in_flight) {
        return Ok(Verdict::Later { body, size: intent.size });
    }
    Ok(Verdict::Dead { size: intent.size })
}

/// How a repository uses X, if it does.
async fn uses(store: &Store, repository: &Repository, x: &DataId, digests: &[Digest]) -> Result<Option<State>, Error> {
    for digest in digests {
        let found = member::get(store, repository, digest).await?.map(|found| found.value);
        if let Some(member) = found.filter(|member| member.data(repository.account()).as_ref() == Some(x)) {
            return Ok(Some(member.state));
        }
    }
    Ok(None)
}

/// Who was given leave to use X, and when last.
async fn shares(store: &Store, x: &DataId) -> Result<Vec<(String, Time)>, Error> {
    let prefix = key::shares(x);
    let mut all = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.records().page(&prefix, after.as_deref(), PAGE).await?;
        all.extend(page.iter().map(|entry| (entry.name.clone(), entry.modified)));
        if page.len() < PAGE {
            return Ok(all);
        }
        after = page.last().map(|entry| entry.name.clone());
    }
}
