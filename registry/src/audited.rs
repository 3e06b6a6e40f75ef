//! What the distribution protocol writes into the audit: what was pulled, pushed and deleted, once it was.

use std::sync::Arc;

use auth::{Delete, Entry, Happened, Origin, Party, Permit, Principal, Pull, Push};
use http::{HeaderMap, Method, StatusCode, header};
use storage::Reference;

use crate::{
    App,
    hosts::Accepted,
    oci::{Answered, CONTENT_DIGEST, manifest, text},
};

/// Where a request comes from.
pub(crate) fn origin(host: &Accepted, headers: &HeaderMap, id: &str) -> Arc<Origin> {
    Arc::new(Origin {
        ip: host.client,
        user_agent: text(headers, header::USER_AGENT).map(str::to_owned),
        request_id: id.to_owned(),
    })
}

fn entry<A>(happened: Happened, who: &Principal, permit: &Permit<A>) -> Entry {
    Entry::new(happened, Party::seen_from(permit.account(), who)).of(permit.account())
}

/// The headers of an answer with this status.
fn answered_with(answered: &Answered, status: StatusCode) -> Option<&HeaderMap> {
    answered.as_ref().ok().filter(|answer| answer.status() == status).map(http::Response::headers)
}

/// A manifest was read.
pub(crate) fn pulled(
    app: &App,
    who: &Principal,
    permit: &Permit<Pull>,
    reference: &Reference,
    method: &Method,
    answered: &Answered,
) {
    // Whoever only asks whether it is there, or has it, takes nothing away.
    let Some(headers) = answered_with(answered, StatusCode::OK).filter(|_| method == Method::GET) else { return };
    let digest = text(headers, CONTENT_DIGEST).unwrap_or_default();
    let name = permit.name();
    let target = match reference {
        Reference::Digest(_) => format!("{name}@{digest}"),
        Reference::Tag(tag) => format!("{name}:{tag}@{digest}"),
    };
    app.auth.note(entry(Happened::ManifestPull, who, permit).target(target));
}

/// A manifest was pushed, and tags were set to it.
pub(crate) fn pushed(app: &App, who: &Principal, permit: &Permit<Push>, reference: &Reference, answered: &Answered) {
    let Some(headers) = answered_with(answered, StatusCode::CREATED) else { return };
    let digest = text(headers, CONTENT_DIGEST).unwrap_or_default();
    let name = permit.name();
    app.auth.note(entry(Happened::ManifestPush, who, permit).target(format!("{name}@{digest}")));
    let moved = |tag: &str| {
        app.auth.note(entry(Happened::TagMove, who, permit).target(format!("{name}:{tag}@{digest}")));
    };
    match reference {
        Reference::Tag(tag) => moved(tag.as_str()),
        Reference::Digest(_) => {
            headers.get_all(manifest::TAG).iter().filter_map(|tag| tag.to_str().ok()).for_each(moved);
        }
    }
}

/// A tag or a manifest was deleted.
pub(crate) fn deleted(app: &App, who: &Principal, permit: &Permit<Delete>, reference: &Reference, answered: &Answered) {
    if answered_with(answered, StatusCode::ACCEPTED).is_none() {
        return;
    }
    let name = permit.name();
    app.auth.note(match reference {
        Reference::Tag(tag) => entry(Happened::TagDelete, who, permit).target(format!("{name}:{tag}")),
        Reference::Digest(digest) => entry(Happened::ManifestDelete, who, permit).target(format!("{name}@{digest}")),
    });
}
