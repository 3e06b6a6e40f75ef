//! Credentials of an account: minted, listed, ended.

use auth::{Host, Listing, MintRequest, SecretName};
use config::{HostName, Scheme};
use http::{StatusCode, header};

use super::{
    Call,
    envelope::{With, document, json, nothing},
    page::{Asked, Filters},
};
use crate::{App, error::Failure, oci::Answered};

/// The host in what is rendered: the account's own or the canonical one, whichever name the caller used. A credential's holder is
/// not its minter.
pub(super) fn host(app: &App) -> Result<Host, Failure> {
    let url = app.hosts.canonical();
    let host = Host::new(&url.host().to_string(), url.scheme() == Scheme::Http);
    let host = host.map(|host| host.with_account_domain(app.hosts.account_domain().map(HostName::name)));
    host.ok_or_else(|| storage::Error::corrupt("the canonical host is none that clients can be told").into())
}

pub(super) async fn list(call: Call) -> Answered {
    let asked = Asked::read(&call, Filters::Expiring)?;
    let (now, host) = (call.app.clock.now(), host(&call.app)?);
    let Listing { mut items, next } = call.app.auth.list_credentials(&call.actor, call.account()?, &asked.page).await?;
    items.retain(|one| asked.wants(now, Some(one.expires_at).filter(|_| one.revoked_at.is_none())));
    let items: Vec<_> = items.into_iter().map(|one| one.document(&host)).collect();
    asked.answer(Listing { items, next })
}

pub(super) async fn mint(call: Call) -> Answered {
    let (name, host) = (call.account()?.clone(), host(&call.app)?);
    let request: MintRequest = document(call.body).await?;
    let minted = call.app.auth.mint(&call.actor, &name, &request).await?;
    let location = format!("/api/v1/accounts/{name}/credentials/{}", minted.credential.id);
    json(StatusCode::CREATED, &minted.document(&host, &SecretName::default())).with(header::LOCATION, location)
}

pub(super) async fn get(call: Call) -> Answered {
    let host = host(&call.app)?;
    let credential = call.app.auth.get_credential(&call.actor, call.account()?, &call.id()).await?;
    json(StatusCode::OK, &credential.document(&host))
}

pub(super) async fn revoke(call: Call) -> Answered {
    let (name, id) = (call.account()?.clone(), call.id());
    nothing(call.body).await?;
    json(StatusCode::OK, &call.app.auth.revoke_credential(&call.actor, &name, &id).await?)
}
