//! What is shown of repositories: pages of names, and of one repository its kind, settings and last push.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{RepositoryRecord, RepositorySettings};
use crate::{
    Account, Error, Readable, Repository, RepositoryName, Store, Tag, Time, key,
    manifest::{DOCKER_MANIFEST, OCI_ARTIFACT, OCI_MANIFEST, Parsed},
    record,
};

/// Most tags that are counted for [`Summary::tag_count`]: one page.
pub const TAGS_COUNTED: usize = 1000;
/// Rows of a page whose records are read at once.
const AT_ONCE: usize = 16;
/// How often a repository that is pushed to all the time has its last push written down by one process.
const NOTED: Duration = Duration::from_mins(1);

/// What a repository holds, going by what was pushed to it under a tag last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Container images.
    Image,
    /// Helm charts.
    Chart,
    /// Anything else.
    Artifact,
}

impl Kind {
    fn of(parsed: &Parsed) -> Self {
        match (parsed.media_type.as_str(), parsed.artifact_type.as_deref()) {
            (OCI_MANIFEST, Some("application/vnd.cncf.helm.config.v1+json")) => Self::Chart,
            (
                OCI_MANIFEST,
                Some("application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"),
            )
            | (DOCKER_MANIFEST, _) => Self::Image,
            (OCI_MANIFEST | OCI_ARTIFACT, _) | (_, Some(_)) => Self::Artifact,
            // An index that says nothing of itself.
            (_, None) => Self::Image,
        }
    }
}

/// The last push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct News {
    kind: Kind,
    pushed_at: Time,
}

/// A repository as it is shown.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Its full name.
    pub name: RepositoryName,
    /// What it holds; absent before anything was pushed under a tag.
    pub kind: Option<Kind>,
    /// Its settings.
    pub settings: RepositorySettings,
    /// When the first push made it.
    pub created: Time,
    /// When something was pushed under a tag last, to within a minute; before that, when it was made.
    pub updated: Time,
    /// Since when it is being deleted.
    pub deleting: Option<Time>,
    /// How often its record was written.
    pub rev: u64,
    /// How many tags it has, up to [`TAGS_COUNTED`]; known only where one repository was asked for.
    pub tag_count: Option<usize>,
}

/// Writes down what was pushed under a tag, off the push's path. Attached things (signatures, attestations) say nothing of what a
/// repository holds.
pub(crate) fn note(store: &Store, repository: &Repository, parsed: &Parsed, tags: &[Tag]) {
    let attached = |tag: &Tag| tag.as_str().starts_with("sha256-");
    if parsed.subject.is_some() || tags.iter().all(attached) {
        return;
    }
    let news = News { kind: Kind::of(parsed), pushed_at: store.now() };
    if !store.news(repository, news.kind, NOTED) {
        return;
    }
    let (work, key) = (store.clone(), key::news(repository));
    store.afterwards("a repository's last push", async move {
        let body = serde_json::to_vec(&news).map_err(Error::unknown)?;
        work.records().put(&key, body.into()).await
    });
}

async fn read(store: &Store, repository: &Repository) -> Result<Option<Summary>, Error> {
    let (record_key, news_key) = (key::repository_record(repository), key::news(repository));
    let (found, news) = tokio::join!(
        record::read::<RepositoryRecord>(store.records(), &record_key),
        store.records().get_plain(&news_key)
    );
    let Some(found) = found? else { return Ok(None) };
    let news: Option<News> = news?.and_then(|news| serde_json::from_slice(&news.body).ok());
    Ok(Some(Summary {
        name: repository.name().clone(),
        kind: news.as_ref().map(|news| news.kind),
        created: found.value.created,
        updated: news.map_or(found.value.created, |news| news.pushed_at.max(found.value.created)),
        deleting: found.value.deleting.as_ref().map(|deleting| deleting.since),
        rev: found.rev(),
        settings: found.value.settings,
        tag_count: None,
    }))
}

/// One repository.
pub async fn get(store: &Store, source: &Readable) -> Result<Summary, Error> {
    let repository = source.repository();
    let mut summary = read(store, repository).await?.ok_or(Error::NoRepository)?;
    let tags = store.records().page(&key::tags(repository), None, TAGS_COUNTED + 1).await?.len();
    summary.tag_count = (tags <= TAGS_COUNTED).then_some(tags);
    Ok(summary)
}

/// A page of repository names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The names, in the byte order of their keys.
    pub names: Vec<RepositoryName>,
    /// Whether more follow.
    pub more: bool,
}

/// At most `limit` repositories of one account, those after `after`. An empty account costs one request.
pub async fn page(
    store: &Store,
    account: &Account,
    after: Option<&RepositoryName>,
    limit: usize,
) -> Result<Page, Error> {
    if limit == 0 {
        return Ok(Page { names: Vec::new(), more: false });
    }
    let after = after.map(|name| key::bang(name.path()));
    let mut entries =
        store.records().page(&key::repositories(account), after.as_deref(), limit.saturating_add(1)).await?;
    let more = entries.len() > limit;
    entries.truncate(limit);
    let names = entries
        .iter()
        .filter_map(|entry| format!("{}/{}", account.name(), entry.name.replace('!', "/")).parse().ok())
        .collect();
    Ok(Page { names, more })
}

/// A page of repositories with what is shown of them.
#[derive(Debug, Clone)]
pub struct Found {
    /// The repositories, in the byte order of their keys.
    pub summaries: Vec<Summary>,
    /// What `after` is for the next page; `None` at the end.
    pub next: Option<String>,
}

/// At most `limit` repositories whose path in the account begins with `start`, those after `after` (a [`Found::next`]); of them
/// those that `wanted` lets pass, so a page may be shorter. One list and two reads a row.
pub async fn summaries(
    store: &Store,
    account: &Account,
    start: &str,
    after: Option<&str>,
    limit: usize,
    wanted: impl Fn(&RepositoryName) -> bool,
) -> Result<Found, Error> {
    let limit = limit.max(1);
    let entries = store.records().page(&key::repositories_from(account, start), after, limit).await?;
    let next = entries.last().filter(|_| entries.len() == limit).map(|entry| entry.name.clone());
    let start = key::bang(start);
    let repositories = entries.iter().filter_map(|entry| {
        let path = format!("{start}{}", entry.name).replace('!', "/");
        let name = format!("{}/{path}", account.name()).parse().ok().filter(&wanted)?;
        Repository::new(account.clone(), name)
    });
    let repositories: Vec<_> = repositories.collect();
    let mut summaries = Vec::new();
    for some in repositories.chunks(AT_ONCE) {
        for found in futures::future::join_all(some.iter().map(|repository| read(store, repository))).await {
            summaries.extend(found?);
        }
    }
    Ok(Found { summaries, next })
}
