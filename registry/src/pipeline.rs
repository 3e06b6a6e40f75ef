//! THE WAY of a request, one screen. Every step is one call; no middleware stands elsewhere.

use std::{sync::Arc, time::Duration};

use auth::{Delete, Principal, Pull, Push, Refusal, Scopes, authorize};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use hyper::body::Incoming;
use packages::View;
use storage::{Opener, RepositoryName, stream::ByteStream};
use tracing::Instrument;

use crate::{
    App,
    access::Access,
    api, audited,
    body::{self, Body, Lent},
    ending::{Ending, Known},
    error::{self, Failure},
    footing::Footing,
    hosts::{Accepted, Unlisted},
    oci::{
        API_VERSION, Answered, Query, blob, manifest, referrer,
        route::{self, Operation, RouteError},
        set, tag, upload,
    },
    presented::{Authorization, challenge},
    server::{Handler, Peer},
    telemetry, token, traces,
};

impl Handler for App {
    async fn handle(self: Arc<Self>, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let id = storage::random_text(16);
        let span = telemetry::request_span(&id, request.method());
        traces::continued(&span, request.headers());
        // Boxed: the way holds every operation's state, a waiting connection should not.
        Box::pin(way(self, request, peer, id)).instrument(span).await
    }
}

async fn way(app: Arc<App>, request: Request<Incoming>, peer: Peer, id: String) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = Lent::new(body::incoming(body, app.limits.now().body_timeout));
    // One event, one measurement and one span, whatever happens from here on.
    let mut ending = Ending::new(&app, &parts, &peer, &body);
    let known = &mut ending.known;

    let outcome = answer(&app, &parts, &body, &peer, known, &id).await;

    let mut response = match outcome {
        Ok(response) => response,
        Err(failure) => {
            known.hidden = failure.hidden().map(telemetry::chain);
            refuse(&app, &failure, known, &id)
        }
    };
    let refused = response.status().is_client_error() || response.status().is_server_error();
    // Whoever was too slow has been waited for.
    if refused && response.status() != StatusCode::REQUEST_TIMEOUT {
        let waiting = parts.headers.contains_key(header::EXPECT);
        body.clone().drain(DRAINED, DRAIN_FOR, waiting).await;
    }
    if parts.method == Method::HEAD {
        let length = http_body::Body::size_hint(response.body()).exact().unwrap_or_default();
        if !response.headers().contains_key(header::CONTENT_LENGTH) {
            response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
        *response.body_mut() = Body::empty();
    }
    if known.scopes.is_some() {
        response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    }
    set(&mut response, REQUEST_ID, &id);
    if let Some(warning) = &known.warning {
        set(&mut response, header::WARNING, format!("299 - \"{warning}\""));
    }
    ending.answered(response.status());
    response.map(|body| body.at_end(|sent| ending.sent(sent)))
}

/// The steps, in order.
async fn answer(app: &Arc<App>, parts: &Parts, body: &Lent, peer: &Peer, known: &mut Known, id: &str) -> Answered {
    let path = parts.uri.path();
    // Naming the operation is pure, reveals nothing, and tells the challenge its scope and the log its name.
    let operation = route::parse(&parts.method, path);
    if path == "/v2" || path.starts_with("/v2/") {
        known.scopes = Some(Scopes::none());
    }
    if let Ok(operation) = &operation {
        known.operation = Some(operation.kind().label());
        // The API's operations have names of their own.
        if *operation != Operation::Api {
            tracing::Span::current().record("operation", operation.kind().label());
        }
    }
    let asked = app.hosts.accept(&parts.uri, &parts.headers, peer);
    known.client = Some(asked.as_ref().map_or_else(|unlisted| unlisted.client, |host| host.client));
    if let Ok(Operation::Health | Operation::Ready) = &operation {
        // A probe knows no host name.
        return app.readiness.public(path).await.ok_or(Failure::Route(RouteError::NotFound { v2: false }));
    }
    // A host that is not ours gets no realm to send passwords to.
    let host = match asked {
        Ok(host) => host,
        Err(unlisted) => account_host(app, unlisted).await?,
    };
    known.host = Some((host.host.clone(), format!("{}://{}", host.scheme, host.host)));
    // From here on whatever is audited, however deep below, says where it came from.
    let origin = audited::origin(&host, &parts.headers, id);
    origin.scope(Box::pin(accepted(app, parts, body, &host, operation, known))).await
}

/// A host that the configuration does not name may have been approved for an account.
async fn account_host(app: &App, unlisted: Unlisted) -> Result<Accepted, Failure> {
    let Unlisted { message, client, own: Some((host, scheme)) } = unlisted else {
        return Err(Failure::Host(unlisted.message));
    };
    match app.auth.account_host(host.name(), client).await? {
        Some(account) => Ok(Accepted { host, scheme, client, account: Some(account) }),
        None => Err(Failure::Host(message)),
    }
}

/// The steps of a request to a host of ours.
async fn accepted(
    app: &Arc<App>,
    parts: &Parts,
    body: &Lent,
    host: &Accepted,
    operation: Result<Operation, RouteError>,
    known: &mut Known,
) -> Answered {
    let size = head_size(parts);
    let limit = app.limits.now().header_size;
    if size > limit {
        return Err(Failure::Head { size, limit });
    }
    let query = Query::parse(parts.uri.query());
    let authorization = Authorization::read(&parts.headers);
    let operation = match operation {
        Ok(operation) => operation,
        Err(error @ (RouteError::NotFound { v2: true } | RouteError::Method { v2: true, .. })) => {
            // Strangers are asked who they are before they are told what there is.
            let who = app.auth.authenticate(authorization.presented(), host.whence(), None).await?;
            auth::authorize_ping(&who)?;
            return Err(error.into());
        }
        Err(error) => return Err(error.into()),
    };
    let body = body.stream();
    match operation {
        Operation::Root => Ok(crate::operations::root(&app.hosts)),
        Operation::Jwks => Ok(token::jwks(app).await?),
        Operation::TokenGet => token::get(app, &query, &authorization, host).await,
        Operation::TokenPost => token::post(app, parts, &query, &authorization, host, body).await,
        Operation::Exchange => Box::pin(api::exchange(app, parts, body, host, known)).await,
        Operation::Api => {
            let mut called = api::Called::default();
            let outcome = Box::pin(api::call(app, parts, body, &authorization, host, &mut called)).await;
            known.operation = called.operation.map(api::ApiOperation::label).or(known.operation);
            known.credential = called.key;
            outcome
        }
        operation => {
            known.scopes = Some(scopes(&operation, &query));
            let name = operation.repository();
            if let Some(name) = name {
                let span = tracing::Span::current();
                span.record("account", name.account().as_str()).record("repository", name.as_str());
            }
            let place = app.auth.place();
            let who = app.auth.authenticate(authorization.presented(), host.whence(), name).await?;
            known.credential = who.holder().map(|holder| holder.user().to_owned());
            let stale = who.holder().and_then(auth::Holder::stale).map(stale_warning);
            known.warning = stale.or_else(|| who.holder().and_then(auth::Holder::expiry_warning));
            let writes = matches!(operation.kind().access(), Access::RepoWrite | Access::Upload);
            let about = name.cloned();
            let footing = || {
                let (auth, who, from) = (Arc::clone(&app.auth), who.clone(), host.client);
                about.clone().map(|about| Footing { auth, who, about, writes, from, place })
            };
            let body = match writes.then(footing).flatten() {
                Some(footing) => footing.under(body),
                None => body,
            };
            let response = Box::pin(protocol(app, operation, &who, &query, parts, body)).await?;
            Ok(response.map(|body| body.under(footing)))
        }
    }
}

/// What is told to a client that is served although nobody can say what has ended since.
pub(crate) fn stale_warning(age: Duration) -> String {
    format!("revocation state is {} s old", age.as_secs())
}

/// Bytes of a request's head but for `Authorization`, which has a limit of its own where it is verified: a token too long is a bad
/// token, and who presents it is told to fetch another.
fn head_size(parts: &Parts) -> usize {
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let headers = parts.headers.iter().filter(|(name, _)| *name != header::AUTHORIZATION);
    target + headers.map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>()
}

/// Permit, view, operation: no arm reaches storage without a permit for its name.
async fn protocol(
    app: &App,
    operation: Operation,
    who: &Principal,
    query: &Query<'_>,
    parts: &Parts,
    body: ByteStream,
) -> Answered {
    let (store, headers) = (&app.store, &parts.headers);
    match operation {
        Operation::Ping => {
            auth::authorize_ping(who)?;
            let mut response = Response::new(Body::full("{}"));
            set(&mut response, header::CONTENT_TYPE, "application/json");
            Ok(response)
        }
        Operation::Catalog => tag::catalog(store, &auth::authorize_catalog(who)?, query).await,
        Operation::BlobGet(name, digest) => {
            let permit = authorize::<Pull>(who, &name)?;
            blob::get(store, &permit, View::of(&permit), &digest, headers).await
        }
        Operation::BlobHead(name, digest) => {
            // Who may push will rely on a 200: then it is a promise.
            let asker = match authorize::<Push>(who, &name) {
                Ok(permit) => blob::Asker::Pusher(permit),
                Err(_) => blob::Asker::Reader(authorize::<Pull>(who, &name)?),
            };
            blob::head(store, &asker, &digest).await
        }
        Operation::BlobDelete(name, digest) => blob::delete(store, &authorize::<Delete>(who, &name)?, &digest).await,
        Operation::ManifestGet(name, reference) | Operation::ManifestHead(name, reference) => {
            let permit = authorize::<Pull>(who, &name)?;
            // As with blobs: who may push relies on the answer of a HEAD.
            let pusher = if parts.method == Method::HEAD { authorize::<Push>(who, &name).ok() } else { None };
            let answered = manifest::get(store, &permit, pusher.as_ref(), View::of(&permit), &reference, headers).await;
            audited::pulled(app, who, &permit, &reference, &parts.method, &answered);
            answered
        }
        Operation::ManifestPut(name, reference) => {
            let permit = authorize::<Push>(who, &name)?;
            let answered = manifest::put(store, &permit, &reference, query, headers, body).await;
            audited::pushed(app, who, &permit, &reference, &answered);
            answered
        }
        Operation::ManifestDelete(name, reference) => {
            let permit = authorize::<Delete>(who, &name)?;
            let answered = manifest::delete(store, &permit, &reference).await;
            audited::deleted(app, who, &permit, &reference, &answered);
            answered
        }
        Operation::UploadOpen(name) => {
            let permit = authorize::<Push>(who, &name)?;
            let _counted = app.metrics.upload();
            upload::open(store, who, &permit, query, headers, body).await
        }
        Operation::UploadStatus(name, id) => upload::status(store, &upload_permit(app, who, &name, &id)?, &id).await,
        Operation::UploadAppend(name, id) => {
            let permit = upload_permit(app, who, &name, &id)?;
            let _counted = app.metrics.upload();
            upload::append(store, &permit, &id, headers, body).await
        }
        Operation::UploadCommit(name, id) => {
            let permit = upload_permit(app, who, &name, &id)?;
            let _counted = app.metrics.upload();
            upload::commit(store, &permit, &id, query, headers, body).await
        }
        Operation::UploadCancel(name, id) => upload::cancel(store, &upload_permit(app, who, &name, &id)?, &id).await,
        Operation::Tags(name) => {
            let permit = authorize::<Pull>(who, &name)?;
            tag::list(store, &permit, View::of(&permit), query).await
        }
        Operation::Referrers(name, digest) => {
            let permit = authorize::<Pull>(who, &name)?;
            referrer::list(store, &permit, View::of(&permit), &digest, query).await
        }
        // Answered before authentication, without a repository.
        Operation::Root
        | Operation::Health
        | Operation::Ready
        | Operation::TokenGet
        | Operation::TokenPost
        | Operation::Exchange
        | Operation::Jwks
        | Operation::Api => Err(Failure::Route(RouteError::NotFound { v2: false })),
    }
}

/// A push right, or for a token that has only just expired the right to finish a session that its own credential opened.
fn upload_permit(app: &App, who: &Principal, name: &RepositoryName, id: &str) -> Result<auth::Permit<Push>, Refusal> {
    match opener_of(app, who, name, id) {
        Some(opener) => auth::authorize_upload(who, name, &opener),
        None => authorize::<Push>(who, name),
    }
}

/// The opener that a genuine session id carries; asked for only by a principal that depends on it.
fn opener_of(app: &App, who: &Principal, name: &RepositoryName, id: &str) -> Option<Opener> {
    match who {
        Principal::ExpiredToken(holder, _) => {
            let repository = storage::Repository::new(holder.account().clone(), name.clone())?;
            Some(app.store.upload_opener(&repository, id)?)
        }
        Principal::Anonymous(_) | Principal::AnonymousToken(_) | Principal::Credential(_) | Principal::Token(..) => {
            None
        }
    }
}

/// What a client has to ask for to be let in: by operation, for a mount the source too.
fn scopes(operation: &Operation, query: &Query<'_>) -> Scopes {
    let Some(name) = operation.repository() else {
        return if *operation == Operation::Catalog { Scopes::catalog() } else { Scopes::none() };
    };
    match operation.kind().access() {
        Access::RepoRead => Scopes::pull(name),
        Access::RepoDelete => Scopes::delete(name),
        Access::RepoWrite | Access::Upload => {
            let target = Scopes::push(name);
            let source = query.first("mount").and(query.first("from")).and_then(|from| from.parse().ok());
            match source {
                Some(source) => target.and(Scopes::pull(&source)),
                None => target,
            }
        }
        Access::Open
        | Access::Token
        | Access::Exchange
        | Access::V2Ping
        | Access::Catalog
        | Access::Api
        | Access::AccountRead
        | Access::AccountWrite
        | Access::KeyAdmin
        | Access::Mint
        | Access::Session
        | Access::Operator => Scopes::none(),
    }
}

/// Dresses a failure, with the challenge that a 401 needs.
fn refuse(app: &App, failure: &Failure, known: &Known, id: &str) -> Response<Body> {
    if let Failure::Refused(refusal) = failure {
        app.metrics.refused(error::reason(refusal));
    }
    let host = known.host.as_ref().map_or_else(String::new, |(host, _)| host.to_string());
    let mut response = error::render(&failure.answer(&host), id);
    if let (Failure::Refused(refusal), Some(scopes), Some((_, url))) = (failure, &known.scopes, &known.host) {
        let error = match refusal {
            Refusal::InvalidToken => Some("invalid_token"),
            Refusal::InsufficientScope(_) => Some("insufficient_scope"),
            Refusal::Unauthenticated(_) => None,
            Refusal::Denied(_)
            | Refusal::ReadOnly { .. }
            | Refusal::Throttled(_)
            | Refusal::Stale
            | Refusal::Unavailable(_) => return response,
        };
        let value = challenge(&format!("{url}/token"), app.auth.service(), scopes, error);
        set(&mut response, header::WWW_AUTHENTICATE, value);
    }
    response
}

/// Names the request in the answer, in the log and in the trace.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Most bytes of a refused request's body that are read, so that its client reads the answer instead of a broken connection.
const DRAINED: u64 = 16 << 20;
/// How long that may take.
const DRAIN_FOR: Duration = Duration::from_secs(5);
