//! Access keys of an account.

use auth::{KeyState, NewKey};
use http::{StatusCode, header};

use super::{
    Call,
    envelope::{With, document, json, nothing},
    page::{Asked, Filters},
};
use crate::oci::Answered;

pub(super) async fn list(call: Call) -> Answered {
    let asked = Asked::read(&call, Filters::Expiring)?;
    let now = call.app.clock.now();
    let mut keys = call.app.auth.list_keys(&call.actor, call.account()?, &asked.page).await?;
    keys.items.retain(|key| asked.wants(now, key.expires_at.filter(|_| key.state != KeyState::Revoked)));
    asked.answer(keys)
}

pub(super) async fn create(call: Call) -> Answered {
    let name = call.account()?.clone();
    let new: NewKey = document(call.body).await?;
    let key = call.app.auth.create_key(&call.actor, &name, &new).await?;
    json(StatusCode::CREATED, &key).with(header::LOCATION, format!("/api/v1/accounts/{name}/keys/{}", key.id))
}

pub(super) async fn get(call: Call) -> Answered {
    json(StatusCode::OK, &call.app.auth.get_key(&call.actor, call.account()?, &call.id()).await?)
}

pub(super) async fn retire(call: Call) -> Answered {
    let (name, id) = (call.account()?.clone(), call.id());
    nothing(call.body).await?;
    json(StatusCode::OK, &call.app.auth.retire_key(&call.actor, &name, &id).await?)
}

pub(super) async fn revoke(call: Call) -> Answered {
    let (name, id) = (call.account()?.clone(), call.id());
    nothing(call.body).await?;
    json(StatusCode::OK, &call.app.auth.revoke_key(&call.actor, &name, &id).await?)
}
