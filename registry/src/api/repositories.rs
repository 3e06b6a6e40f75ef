//! Repositories of an account: listed, their settings changed, deleted.

use auth::{Delete, Listing, Pull, Push, authorize_actor};
use chrono::SecondsFormat;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use storage::{
    Time,
    repository::{self, Kind, PATTERN_LIMIT, RepositorySettings, Summary},
};

use super::{
    Call, Problem,
    envelope::{With, document, if_match, json, kept_by, nothing},
    page::{Asked, Filters},
};
use crate::{error::Failure, oci::Answered};

/// A repository as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct RepositoryDocument {
    /// The path in the account.
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<Kind>,
    status: &'static str,
    settings: SettingsDocument,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag_count: Option<usize>,
    created_at: String,
    updated_at: String,
}

/// Its settings: as the record has them, but nothing is left out.
#[derive(Debug, Default, Serialize)]
pub(super) struct SettingsDocument {
    immutable_tags: Vec<repository::TagPattern>,
}

/// A merge patch of a repository.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RepositoryChange {
    settings: Option<SettingsChange>,
}

/// Of its settings; what is left out stays, null is the default.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SettingsChange {
    #[serde(default, deserialize_with = "given")]
    immutable_tags: Option<Vec<String>>,
}

/// A field that is there; null is no pattern.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    Option::deserialize(deserializer).map(|given: Option<Vec<String>>| Some(given.unwrap_or_default()))
}

pub(super) fn millis(at: Time) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

impl From<Summary> for RepositoryDocument {
    fn from(summary: Summary) -> Self {
        Self {
            name: summary.name.path().to_owned(),
            kind: summary.kind,
            status: if summary.deleting.is_some() { "deleting" } else { "active" },
            settings: SettingsDocument { immutable_tags: summary.settings.immutable_tags },
            tag_count: summary.tag_count,
            created_at: millis(summary.created),
            updated_at: millis(summary.updated),
        }
    }
}

fn shown(status: StatusCode, summary: Summary) -> Answered {
    let rev = summary.rev;
    json(status, &RepositoryDocument::from(summary)).tagged(rev)
}

pub(super) async fn list(call: Call) -> Answered {
    let asked = Asked::read(&call, Filters::Repositories)?;
    if asked.given("name").is_some() {
        return one(call).await;
    }
    let kind = asked.given("kind").map(|text| match text {
        "image" => Ok(Kind::Image),
        "chart" => Ok(Kind::Chart),
        "artifact" => Ok(Kind::Artifact),
        _ => Err(Problem::invalid("?kind", "image, chart or artifact")),
    });
    let kind = kind.transpose()?;
    let start = asked.given("name_prefix").unwrap_or_default();
    if start.len() > 240 || !start.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-/".contains(&b))
    {
        return Err(Problem::invalid("?name_prefix", "the beginning of a path in the account, e.g. web/").into());
    }
    let key = call.key()?;
    let after = asked.page.after.as_deref();
    let wanted = |name: &storage::RepositoryName| key.covers(name);
    let found = repository::summaries(&call.app.store, key.account(), start, after, asked.page.limit, wanted).await?;
    let items = found.summaries.into_iter().filter(|summary| kind.is_none_or(|kind| summary.kind == Some(kind)));
    asked.answer(Listing { items: items.map(RepositoryDocument::from).collect(), next: found.next })
}

async fn one(call: Call) -> Answered {
    let permit = authorize_actor::<Pull>(&call.actor, &call.repository("name")?).map_err(Problem::refused)?;
    let found = repository::get(&call.app.store, &permit.repository()).await.map_err(kept_by("repository"))?;
    shown(StatusCode::OK, found)
}

pub(super) async fn change(call: Call) -> Answered {
    call.parameters(&["name"])?;
    let seen = if_match(&call.headers)?;
    let permit = authorize_actor::<Push>(&call.actor, &call.repository("name")?).map_err(Problem::refused)?;
    let change: RepositoryChange = document(call.body).await?;
    let (store, target) = (&call.app.store, permit.repository());
    let source = target.readable();
    // The settings that stay are those of the version that the caller saw, or of now with If-Match: *.
    let now = repository::get(store, &source).await.map_err(kept_by("repository"))?;
    let seen = seen.unwrap_or(now.rev);
    let settings = changed(now.settings, change)?;
    repository::change(store, &target, &settings, Some(seen)).await.map_err(kept_by("repository"))?;
    let patterns = settings.immutable_tags.len();
    tracing::info!(event = "repo.change", repository = %permit.name(), actor = call.actor.label(), immutable_tags = patterns, "settings were changed");
    let entry = auth::Entry::new(auth::Happened::RepoChange, &call.actor).of(permit.account());
    call.app.auth.note(entry.target(permit.name().as_str()));
    shown(StatusCode::OK, repository::get(store, &source).await.map_err(kept_by("repository"))?)
}

fn changed(mut settings: RepositorySettings, change: RepositoryChange) -> Result<RepositorySettings, Failure> {
    let Some(given) = change.settings.and_then(|settings| settings.immutable_tags) else { return Ok(settings) };
    let field = "/settings/immutable_tags";
    if given.len() > PATTERN_LIMIT {
        return Err(Problem::invalid(field, format!("at most {PATTERN_LIMIT} patterns")).into());
    }
    let (mut patterns, mut invalid) = (Vec::new(), Vec::new());
    for (i, text) in given.iter().enumerate() {
        match text.parse() {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => {
                let error: storage::NameError = error;
                invalid.push(auth::Invalid { field: format!("{field}/{i}"), message: error.to_string() });
            }
        }
    }
    if !invalid.is_empty() {
        return Err(auth::Error::Invalid(invalid).into());
    }
    settings.immutable_tags = patterns;
    Ok(settings)
}

pub(super) async fn delete(call: Call) -> Answered {
    call.parameters(&["name"])?;
    let seen = if_match(&call.headers)?;
    let permit = authorize_actor::<Delete>(&call.actor, &call.repository("name")?).map_err(Problem::refused)?;
    let read = authorize_actor::<Pull>(&call.actor, permit.name()).map_err(Problem::refused)?;
    nothing(call.body).await?;
    let store = &call.app.store;
    let before = repository::get(store, &read.repository()).await.map_err(kept_by("repository"))?;
    repository::delete(store, &permit.repository(), seen).await.map_err(kept_by("repository"))?;
    tracing::info!(event = "repo.delete", repository = %permit.name(), actor = call.actor.label(), "deletion was ordered");
    let entry = auth::Entry::new(auth::Happened::RepoDelete, &call.actor).of(permit.account());
    call.app.auth.note(entry.target(permit.name().as_str()));
    // It may be gone already: then it is shown as it was, on its way.
    let now = repository::get(store, &read.repository()).await.ok();
    let gone = || Summary { deleting: Some(call.app.clock.now()), ..before };
    shown(StatusCode::ACCEPTED, now.unwrap_or_else(gone))
}
