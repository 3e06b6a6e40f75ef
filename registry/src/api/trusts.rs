//! Trust policies of an account.

use auth::NewTrust;
use http::{StatusCode, header};

use super::{
    Call,
    envelope::{With, document, if_match, json, nothing},
    page::{Asked, Filters},
};
use crate::oci::Answered;

pub(super) async fn list(call: Call) -> Answered {
    let asked = Asked::read(&call, Filters::None)?;
    asked.answer(call.app.auth.list_trusts(&call.actor, call.account()?, &asked.page).await?)
}

pub(super) async fn create(call: Call) -> Answered {
    let name = call.account()?.clone();
    let new: NewTrust = document(call.body).await?;
    let audience = format!("{}/{name}", call.app.hosts.canonical().host());
    let trust = call.app.auth.create_trust(&call.actor, &name, &new, &audience).await?;
    let location = format!("/api/v1/accounts/{name}/trusts/{}", trust.id);
    json(StatusCode::CREATED, &trust).tagged(trust.rev).with(header::LOCATION, location)
}

pub(super) async fn get(call: Call) -> Answered {
    let trust = call.app.auth.get_trust(&call.actor, call.account()?, &call.id()).await?;
    json(StatusCode::OK, &trust).tagged(trust.rev)
}

pub(super) async fn delete(call: Call) -> Answered {
    let seen = if_match(&call.headers)?;
    let (name, id) = (call.account()?.clone(), call.id());
    nothing(call.body).await?;
    json(StatusCode::OK, &call.app.auth.delete_trust(&call.actor, &name, &id, seen).await?)
}
