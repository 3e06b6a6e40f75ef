//! How much accounts keep: counted at the request, a slice an answer; and what the counters say, which quotas are compared with.

use auth::{Listing, Page};
use http::StatusCode;
use serde::Serialize;
use storage::{Account, AccountName, usage};

use super::{
    Call,
    envelope::json,
    page::{Asked, Filters},
};
use crate::{App, error::Failure, oci::Answered};

/// Most accounts of an answer.
const ACCOUNTS: usize = 20;

/// What was counted of one account.
#[derive(Debug, Serialize)]
pub(super) struct UsageDocument {
    account: AccountName,
    #[serde(flatten)]
    counted: usage::Usage,
    /// What the counters say.
    used_bytes: u64,
    /// `null`: no quota.
    quota_bytes: Option<u64>,
    left_bytes: Option<u64>,
    /// Whether this is all: it was counted from the beginning to the end.
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

impl UsageDocument {
    /// A count with what the account uses and may use.
    async fn of(app: &App, account: &Account, counted: usage::Usage, complete: bool) -> Result<Self, Failure> {
        let (used, quota) = tokio::join!(usage::used(&app.store, account), app.auth.quota_of(account.name()));
        let (used_bytes, quota_bytes) = (used?, quota?);
        let left_bytes = quota_bytes.map(|quota| quota.saturating_sub(used_bytes));
        let account = account.name().clone();
        Ok(Self { account, counted, used_bytes, quota_bytes, left_bytes, complete, next_token: None })
    }
}

pub(super) async fn get(call: Call) -> Answered {
    let asked = Asked::read(&call, Filters::Slices)?;
    let account = call.app.auth.account_for(&call.actor, call.account()?).await?;
    let from = asked.page.after.as_deref();
    let (counted, next) = usage::count(&call.app.store, &account, from).await?;
    let next_token = next.as_deref().and_then(|next| asked.token(next));
    let complete = from.is_none() && next.is_none();
    let document = UsageDocument::of(&call.app, &account, counted, complete).await?;
    json(StatusCode::OK, &UsageDocument { next_token, ..document })
}

/// Some accounts an answer, the last of them perhaps in part. A token is the name of the last account, with the place in it where
/// its count goes on if that is not its end.
pub(super) async fn list(call: Call) -> Answered {
    let asked = Asked::read(&call, Filters::Slices)?;
    let (mut items, mut budget) = (Vec::new(), usage::BUDGET);
    let mut page = Page { after: asked.page.after.clone(), limit: ACCOUNTS };
    if let Some((name, place)) = asked.page.after.as_deref().and_then(|after| after.split_once(' ')) {
        page.after = Some(name.to_owned());
        if let Ok(name) = name.parse::<AccountName>()
            && let Some(next) = slice(&call.app, &name, Some(place), &mut items, &mut budget).await?
        {
            return asked.answer(Listing { items, next: Some(next) });
        }
    }
    let listed = call.app.auth.list_accounts(&call.actor, &page).await?;
    for account in &listed.items {
        if budget == 0 {
            // The accounts before this one are counted.
            let next = items.last().map(|item: &UsageDocument| item.account.to_string());
            return asked.answer(Listing { items, next });
        }
        if let Some(next) = slice(&call.app, &account.name, None, &mut items, &mut budget).await? {
            return asked.answer(Listing { items, next: Some(next) });
        }
    }
    asked.answer(Listing { items, next: listed.next })
}

/// Counts a slice of an account; gives where the count goes on, if this was not its end. An account that is gone counts nothing.
async fn slice(
    app: &App,
    name: &AccountName,
    from: Option<&str>,
    items: &mut Vec<UsageDocument>,
    budget: &mut usize,
) -> Result<Option<String>, Failure> {
    let Some(account) = app.auth.resolve(name).await? else { return Ok(None) };
    let (counted, next) = usage::count(&app.store, &account, from).await?;
    let rows = counted.repositories + counted.tags + counted.manifests + counted.blobs;
    *budget = budget.saturating_sub(usize::try_from(rows).unwrap_or(usize::MAX).max(1));
    let complete = from.is_none() && next.is_none();
    items.push(UsageDocument::of(app, &account, counted, complete).await?);
    Ok(next.map(|place| format!("{name} {place}")))
}
