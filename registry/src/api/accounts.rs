//! Accounts: the operator's, and what an owner may say of its own.

use auth::{AccountChange, AccountDocument, NewAccount};
use http::{StatusCode, header};

use super::{
    Call,
    envelope::{With, document, if_match, json, nothing},
    page::{Asked, Filters},
};
use crate::oci::Answered;

fn shown(status: StatusCode, account: &AccountDocument) -> Answered {
    json(status, account).tagged(account.rev)
}

pub(super) async fn list(call: Call) -> Answered {
    let asked = Asked::read(&call, Filters::None)?;
    asked.answer(call.app.auth.list_accounts(&call.actor, &asked.page).await?)
}

pub(super) async fn create(call: Call) -> Answered {
    let new: NewAccount = document(call.body).await?;
    let account = call.app.auth.create_account(&call.actor, &new).await?;
    shown(StatusCode::CREATED, &account).with(header::LOCATION, format!("/api/v1/accounts/{}", account.name))
}

pub(super) async fn get(call: Call) -> Answered {
    shown(StatusCode::OK, &call.app.auth.get_account(&call.actor, call.account()?).await?)
}

pub(super) async fn change(call: Call) -> Answered {
    let seen = if_match(&call.headers)?;
    let name = call.account()?.clone();
    let change: AccountChange = document(call.body).await?;
    shown(StatusCode::OK, &call.app.auth.change_account(&call.actor, &name, &change, seen).await?)
}

pub(super) async fn delete(call: Call) -> Answered {
    let seen = if_match(&call.headers)?;
    let name = call.account()?.clone();
    nothing(call.body).await?;
    json(StatusCode::OK, &call.app.auth.delete_account(&call.actor, &name, seen).await?)
}
