//! `POST /api/v1/exchange`: a token of somebody else's for a credential (RFC 8693). It needs no key: the token is what is presented.

use std::sync::Arc;

use auth::{CredentialDocument, ExchangeRefusal, KeysNeeded, Minted, SecretName, Shown};
use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use serde::Serialize;
use serde_json::json;
use storage::stream::ByteStream;
use tracing::Instrument;

use super::credentials;
use crate::{
    App,
    body::Body,
    ending::Known,
    error::{Code, say_why},
    hosts::Accepted,
    issuers::NoKeys,
    oci::{Answered, Query, set},
    token::{form, never_stored, oauth},
};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const CREDENTIAL: &str = "urn:hythe:token-type:credential";
/// All that is said, whatever was wrong.
const WRONG: &str = "account, trust policy or token is wrong, or the token is over or was used";

/// The answer: what RFC 8693 section 2.2.1 wants, and the credential as the API shows it.
#[derive(Serialize)]
struct Exchanged {
    access_token: Option<Shown>,
    issued_token_type: &'static str,
    /// The credential is a user name and a password, so no `Bearer`.
    token_type: &'static str,
    expires_in: i64,
    #[serde(flatten)]
    credential: CredentialDocument,
}

/// Answers an exchange.
pub(crate) async fn post(
    app: &Arc<App>,
    parts: &Parts,
    body: ByteStream,
    host: &Accepted,
    known: &mut Known,
) -> Answered {
    let bytes = match form(parts, body, "an exchange").await? {
        Ok(bytes) => bytes,
        Err(refused) => return Ok(refused),
    };
    let form = Query::parse(std::str::from_utf8(&bytes).ok());
    if form.first("grant_type") != Some(GRANT) {
        return Ok(oauth(StatusCode::BAD_REQUEST, "unsupported_grant_type", &format!("grant_type is {GRANT}")));
    }
    let invalid = |text: &str| Ok(oauth(StatusCode::BAD_REQUEST, "invalid_request", text));
    if form.first("subject_token_type") != Some(JWT) {
        return invalid(&format!("subject_token_type is {JWT}"));
    }
    if form.first("requested_token_type").is_some_and(|asked| asked != CREDENTIAL) {
        return invalid(&format!("requested_token_type is {CREDENTIAL}, or absent"));
    }
    if form.first("actor_token").is_some() {
        return invalid("nobody acts for another here: leave actor_token out");
    }
    let (Some(token), Some(account), Some(trust)) =
        (form.first("subject_token"), form.first("account"), form.first("trust"))
    else {
        return invalid("subject_token, account and trust are needed");
    };
    let name = host.host.to_string();
    let ours = [app.auth.service().to_owned(), name.clone(), app.hosts.canonical().host().to_string()];
    if form.all("audience").any(|audience| !ours.iter().any(|own| own == audience)) {
        let text = format!("audience is {} or {name}, or absent", app.auth.service());
        return Ok(oauth(StatusCode::BAD_REQUEST, "invalid_target", &text));
    }
    let scopes: Vec<String> = form.all("scope").map(str::to_owned).collect();

    // On an account's host every other account is as unknown as one that does not exist.
    let other = host.account.as_ref().is_some_and(|only| only.as_str() != account);
    let account = if other { "" } else { account };
    let asked = match app.auth.ask_exchange(account, trust, token, host.client).await {
        Ok(asked) => asked,
        Err(refusal) => return refused(refusal),
    };
    let keys = match asked.keys() {
        KeysNeeded::Inline => None,
        KeysNeeded::Discover { issuer, kid } => match app.issuers.keys(issuer, kid).await {
            Ok(keys) => Some(keys),
            Err(NoKeys::Untrusted) => return refused(app.auth.refuse_exchange(&asked, host.client)),
            Err(NoKeys::Unavailable) => return Ok(unavailable()),
        },
    };
    let (app, client) = (Arc::clone(app), host.client);
    let rendered = credentials::host(&app)?;
    let tasks = app.tasks.clone();
    let work = async move {
        let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
        app.auth.exchange(asked, keys.as_deref(), &scopes, &name, client).await
    };
    // A client that leaves must not leave a token behind that was used for nothing.
    match tasks
        .spawn(auth::Origin::continued(auth::Origin::current(), work).in_current_span())
        .await
        .map_err(storage::Error::unknown)?
    {
        Ok(minted) => {
            known.credential = Some(minted.credential.username.clone());
            exchanged(minted, &rendered)
        }
        Err(refusal) => refused(refusal),
    }
}

fn exchanged(minted: Minted, host: &auth::Host) -> Answered {
    let credential = minted.document(host, &SecretName::default());
    let document = Exchanged {
        access_token: credential.password.clone(),
        issued_token_type: CREDENTIAL,
        token_type: "N_A",
        expires_in: (credential.expires_at - credential.created_at).num_seconds(),
        credential,
    };
    let bytes = serde_json::to_vec(&document).map_err(storage::Error::unknown)?;
    let mut response = Response::new(Body::full(bytes));
    never_stored(&mut response);
    Ok(response)
}

fn refused(refusal: ExchangeRefusal) -> Answered {
    match refusal {
        ExchangeRefusal::Wrong => {
            let document = json!({
                "error": "invalid_grant",
                "error_description": WRONG,
                "errors": [{ "code": Code::Unauthorized.as_str(), "message": WRONG }],
            });
            let mut response = Response::new(Body::full(document.to_string()));
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            say_why(&mut response, WRONG);
            never_stored(&mut response);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            Ok(response)
        }
        ExchangeRefusal::Scope(text) => Ok(oauth(StatusCode::BAD_REQUEST, "invalid_scope", text)),
        ExchangeRefusal::Refused(error) => Err(error.into()),
    }
}

/// The token may be right: who has it tries again.
fn unavailable() -> Response<Body> {
    let text = "the keys of the token's issuer cannot be read now; try again";
    let document = json!({
        "error": "temporarily_unavailable",
        "error_description": text,
        "errors": [{ "code": Code::Unavailable.as_str(), "message": text }],
    });
    let mut response = Response::new(Body::full(document.to_string()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    say_why(&mut response, text);
    never_stored(&mut response);
    set(&mut response, header::RETRY_AFTER, "10");
    response
}
