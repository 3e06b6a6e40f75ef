//! The pass over one repository, its preview, and whose turn it is.

use std::collections::VecDeque;

use super::{
    judge::{Judge, TagSeen, Verdict, subject_of},
    manifests, pulls,
    rule::{self, Rules},
};
use crate::{
    Account, Deletable, Digest, Error, Readable, Repository, RepositoryName, Store, Tag,
    generation::Round,
    key, manifest,
    record::{self, Document},
    repository::{self, RepositorySettings},
    tag::TagRecord,
};

/// Rows of a page, and records read at once.
const PAGE: usize = 500;
const AT_ONCE: usize = 16;

/// What a pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pass {
    /// Tags that went.
    pub tags_removed: u64,
    /// Manifests that were marked: the next pass but an hour looks at them again.
    pub manifests_marked: u64,
    /// Manifests that went.
    pub manifests_removed: u64,
}

/// What goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A tag, and what it points at, which stays.
    Tag(Tag, Digest),
    /// A manifest.
    Manifest(Digest),
}

/// What would go, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// What.
    pub what: What,
    /// Why.
    pub why: String,
}

/// A page of tags with their records, and where the next one begins.
type Tags = (Vec<(Tag, Document<TagRecord>)>, Option<String>);

async fn page(store: &Store, repository: &Repository, after: Option<&str>) -> Result<Tags, Error> {
    let prefix = key::tags(repository);
    let entries = store.records().page(&prefix, after, PAGE).await?;
    let mut tags = Vec::new();
    for some in entries.chunks(AT_ONCE) {
        let keys: Vec<_> = some.iter().map(|entry| prefix.record(&entry.name)).collect();
        let reads = keys.iter().map(|key| record::read::<TagRecord>(store.records(), key));
        for (entry, found) in some.iter().zip(futures::future::join_all(reads).await) {
            if let (Ok(tag), Some(found)) = (entry.name.parse(), found?) {
                tags.push((tag, found));
            }
        }
    }
    let next = entries.last().filter(|_| entries.len() == PAGE).map(|entry| entry.name.clone());
    Ok((tags, next))
}

/// A judge that has seen every tag of a repository; `None` if no rule is about them.
async fn judge<'a>(
    store: &Store,
    repository: &Repository,
    rules: &'a Rules,
    settings: &'a RepositorySettings,
) -> Result<Option<Judge<'a>>, Error> {
    let mut judge = Judge::new(&rules.rules, repository.name().path(), settings, store.now());
    if judge.is_idle() {
        return Ok(None);
    }
    let mut after = None;
    loop {
        let (tags, next) = page(store, repository, after.as_deref()).await?;
        for (tag, found) in tags {
            let attached = subject_of(&tag).map(|_| false);
            judge.show(&TagSeen { tag, pushed_at: found.value.pushed_at, attached });
        }
        after = next;
        if after.is_none() {
            return Ok(Some(judge));
        }
    }
}

/// What becomes of a tag.
async fn verdict(store: &Store, repository: &Repository, judge: &Judge<'_>, seen: &TagSeen) -> Result<Verdict, Error> {
    let mut seen = seen.clone();
    if let Some(subject) = subject_of(&seen.tag) {
        seen.attached = Some(manifest::load(store, repository, &subject).await?.is_some());
    }
    let mark = key::last_pull_tag(repository, &seen.tag);
    let pulled = if judge.asks_for_pull(&seen) { pulls::day(store, &mark).await? } else { None };
    Ok(judge.verdict(&seen, pulled))
}

/// The settings that make tags immutable, or none.
async fn settings(store: &Store, repository: &Repository) -> Result<RepositorySettings, Error> {
    Ok(repository::immutable(store, repository).await?.unwrap_or_default())
}

/// Removes the tags that no rule keeps.
async fn remove_tags(store: &Store, repository: &Repository, rules: &Rules, pass: &mut Pass) -> Result<(), Error> {
    let settings = settings(store, repository).await?;
    let Some(judge) = judge(store, repository, rules, &settings).await? else { return Ok(()) };
    let mut after = None;
    loop {
        let (tags, next) = page(store, repository, after.as_deref()).await?;
        for (tag, found) in tags {
            let seen = TagSeen { tag, pushed_at: found.value.pushed_at, attached: None };
            let Verdict::Goes(number) = verdict(store, repository, &judge, &seen).await? else { continue };
            let tag = seen.tag;
            store.mark_dirty(repository).await?;
            // The very version that was judged: whoever moved or pushed the tag meanwhile keeps it.
            match store.records().remove(&key::tag(repository, &tag), found.version()).await {
                Ok(()) => {
                    tracing::info!(repository = %repository.name(), %tag, rule = number + 1, "a rule let a tag go");
                    store.records().delete(&key::last_pull_tag(repository, &tag)).await?;
                    pass.tags_removed += 1;
                }
                Err(Error::Conflict) => {}
                Err(other) => return Err(other),
            }
        }
        after = next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// The longest time that untagged manifests of a repository stay, if its rules let them go at all.
fn untagged_days(rules: &Rules, path: &str) -> Option<u32> {
    rules.of(path).into_iter().filter_map(|rule| rule.untagged_days).max()
}

/// Lets go what the rules do not keep in one repository. Memory is bounded; it costs two reads of each tag, and where manifests
/// may go one or two of each manifest. Two passes at once waste work and harm nothing.
pub async fn pass(store: &Store, repository: &Repository, rules: &Rules) -> Result<Pass, Error> {
    store.writable()?;
    let mut pass = Pass::default();
    if rules.of(repository.name().path()).is_empty() {
        return Ok(pass);
    }
    #[expect(clippy::disallowed_methods, reason = "the account's rules are the right")]
    let target = &Deletable::new(repository.clone());
    remove_tags(store, repository, rules, &mut pass).await?;
    if let Some(days) = untagged_days(rules, repository.name().path()) {
        manifests::sweep(store, target, days, &mut pass).await?;
    }
    Ok(pass)
}

/// What [`pass`] would let go now, `most` things at most, and whether there is more. A manifest whose last tag is among them
/// goes later, when it has been untagged for as long as the rule says.
pub async fn preview(store: &Store, source: &Readable, rules: &Rules, most: usize) -> Result<(Vec<Gone>, bool), Error> {
    let repository = source.repository();
    repository::require(store, source).await?;
    let (mut gone, mut more) = (Vec::new(), false);
    let settings = settings(store, repository).await?;
    let judge = judge(store, repository, rules, &settings).await?;
    let mut after = None;
    while let Some(judge) = &judge {
        let (tags, next) = page(store, repository, after.as_deref()).await?;
        for (tag, found) in tags {
            let seen = TagSeen { tag, pushed_at: found.value.pushed_at, attached: None };
            if let Verdict::Goes(number) = verdict(store, repository, judge, &seen).await? {
                more = gone.len() >= most;
                if more {
                    break;
                }
                let why = format!("rule {} covers it, and none keeps it", number + 1);
                gone.push(Gone { what: What::Tag(seen.tag, found.value.digest), why });
            }
        }
        after = next;
        if more || after.is_none() {
            break;
        }
    }
    if let (Some(days), false) = (untagged_days(rules, repository.name().path()), more) {
        more = manifests::preview(store, repository, days, most, &mut gone).await?;
    }
    Ok((gone, more))
}

/// What a turn of a [`Retainer`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// A pass over this repository.
    Passed(RepositoryName, Pass),
    /// It looked for the next repository.
    Looked,
    /// There is nothing to do.
    Idle,
}

/// Runs the rules of all accounts, one repository a turn; accounts whose rules were changed in this process come first.
#[derive(Debug, Default)]
pub struct Retainer {
    /// Accounts, and behind which repository each goes on.
    queue: VecDeque<(Account, Option<String>)>,
    round: Round,
}

impl Retainer {
    /// Begins a round over all accounts, unless one is under way.
    pub fn begin_round(&mut self) {
        self.round.begin();
    }

    /// Takes one turn.
    pub async fn turn(&mut self, store: &Store) -> Result<Turn, Error> {
        store.writable()?;
        for account in store.retention().take_changed() {
            self.queue.push_front((account, None));
        }
        let Some((account, after)) = self.queue.pop_front() else {
            let Some(accounts) = self.round.next(store).await? else { return Ok(Turn::Idle) };
            self.queue.extend(accounts.into_iter().map(|account| (account, None)));
            return Ok(Turn::Looked);
        };
        let (rules, _) = rule::get(store, &account).await?;
        if rules.rules.is_empty() {
            return Ok(Turn::Looked);
        }
        let entries = store.records().page(&key::repositories(&account), after.as_deref(), 1).await?;
        let Some(entry) = entries.into_iter().next() else { return Ok(Turn::Looked) };
        let name = format!("{}/{}", account.name(), entry.name.replace('!', "/")).parse::<RepositoryName>().ok();
        let repository = name.and_then(|name| Repository::new(account.clone(), name));
        self.queue.push_front((account, Some(entry.name)));
        let Some(repository) = repository else { return Ok(Turn::Looked) };
        let pass = pass(store, &repository, &rules).await?;
        Ok(Turn::Passed(repository.name().clone(), pass))
    }
}
