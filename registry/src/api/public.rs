//! What an account lets anybody pull.

use auth::PublicDocument;
use http::StatusCode;

use super::{
    Call,
    envelope::{With, document, if_match, json},
};
use crate::oci::Answered;

fn shown(public: &PublicDocument) -> Answered {
    json(StatusCode::OK, public).tagged(public.rev)
}

pub(super) async fn get(call: Call) -> Answered {
    shown(&call.app.auth.get_public(&call.actor, call.account()?).await?)
}

pub(super) async fn set(call: Call) -> Answered {
    let seen = if_match(&call.headers)?;
    let name = call.account()?.clone();
    let public: PublicDocument = document(call.body).await?;
    shown(&call.app.auth.set_public(&call.actor, &name, &public, seen).await?)
}
