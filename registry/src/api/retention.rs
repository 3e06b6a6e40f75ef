//! What goes by itself in an account: its rules, and what they would let go now.

use auth::Actor;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use storage::{
    Account, AccountName, Digest, Tag,
    retention::{self, Gone, Rule, Rules, What},
};

use super::{
    Call, Problem,
    envelope::{With, document, if_match, json, kept_by},
};
use crate::{App, error::Failure, oci::Answered};

/// Most things that a test names.
const MOST: usize = 1000;

/// The rules as a request has them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RulesDocument {
    rules: Vec<Rule>,
}

/// What is to be tested.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RetentionTest {
    /// The path in the account.
    repository: String,
    /// Rules that are no account's yet; without them those that are.
    #[serde(default)]
    rules: Option<Vec<Rule>>,
}

/// What would go.
#[derive(Debug, Serialize)]
struct GoneDocument {
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<Tag>,
    digest: Digest,
    why: String,
}

#[derive(Debug, Serialize)]
struct Tested {
    items: Vec<GoneDocument>,
    more: bool,
}

impl From<Gone> for GoneDocument {
    fn from(gone: Gone) -> Self {
        match gone.what {
            What::Tag(tag, digest) => Self { tag: Some(tag), digest, why: gone.why },
            What::Manifest(digest) => Self { tag: None, digest, why: gone.why },
        }
    }
}

async fn account(app: &App, actor: &Actor, name: &AccountName) -> Result<Account, Failure> {
    Ok(app.auth.account_for(actor, name).await?)
}

/// Rules that can be kept, or all that is wrong with them.
fn checked(rules: Vec<Rule>) -> Result<Rules, Failure> {
    let rules = Rules { rules };
    let wrong = rules.check();
    if wrong.is_empty() {
        return Ok(rules);
    }
    let wrong = wrong.into_iter().map(|(field, message)| auth::Invalid { field, message: message.to_owned() });
    Err(auth::Error::Invalid(wrong.collect()).into())
}

pub(super) async fn get(call: Call) -> Answered {
    let (rules, rev) =
        retention::get(&call.app.store, &account(&call.app, &call.actor, call.account()?).await?).await?;
    json(StatusCode::OK, &rules).tagged(rev)
}

pub(super) async fn set(call: Call) -> Answered {
    let seen = if_match(&call.headers)?;
    let account = account(&call.app, &call.actor, call.account()?).await?;
    let rules = checked(document::<RulesDocument>(call.body).await?.rules)?;
    let rev = retention::change(&call.app.store, &account, &rules, seen).await?;
    let count = rules.rules.len();
    tracing::info!(event = "retention.set", account = %account.name(), actor = call.actor.label(), rules = count, "rules were set");
    let entry = auth::Entry::new(auth::Happened::RepoChange, &call.actor).of(&account);
    call.app.auth.note(entry.target(format!("{}: {count} rules of retention", account.name())));
    json(StatusCode::OK, &rules).tagged(rev)
}

pub(super) async fn test(call: Call) -> Answered {
    let account = account(&call.app, &call.actor, call.account()?).await?;
    let asked: RetentionTest = document(call.body).await?;
    let name = format!("{}/{}", account.name(), asked.repository).parse();
    let name = name.map_err(|error: storage::NameError| Problem::invalid("/repository", error.to_string()))?;
    let permit = auth::authorize_actor::<auth::Pull>(&call.actor, &name).map_err(Problem::refused)?;
    let rules = match asked.rules {
        Some(rules) => checked(rules)?,
        None => retention::get(&call.app.store, &account).await?.0,
    };
    let tested = retention::preview(&call.app.store, &permit.repository(), &rules, MOST).await;
    let (gone, more) = tested.map_err(kept_by("repository"))?;
    json(StatusCode::OK, &Tested { items: gone.into_iter().map(GoneDocument::from).collect(), more })
}
