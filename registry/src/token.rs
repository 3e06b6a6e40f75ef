//! `/token` and the keys it signs with: forms and headers in, `auth`'s token out (distribution, "Token Authentication"; RFC 6749).

use std::time::Duration;

use auth::{IssuedToken, Presented, RefreshToken, Refusal, TokenRefusal, TokenRequest, WRONG};
use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use serde_json::json;
use storage::stream::ByteStream;
use zeroize::Zeroizing;

use crate::{
    App,
    body::{self, Body},
    error::{Code, Failure, say_why},
    hosts::Accepted,
    oci::{Answered, Query, set, text},
    pipeline::stale_warning,
    presented::Authorization,
};

/// Largest form in bytes.
const FORM_LIMIT: usize = 64 << 10;
/// How long a form may take as a whole: it is one packet, and whoever sends it has not said yet who they are.
const FORM_PATIENCE: Duration = Duration::from_secs(10);

/// `GET /token`: Basic, and the scopes in the query.
pub(crate) async fn get(app: &App, query: &Query<'_>, authorization: &Authorization, host: &Accepted) -> Answered {
    no_password_in(query)?;
    let name = host.host.to_string();
    let request = request(authorization.presented(), None, query, &name);
    answer(app, request, host, false).await
}

/// `POST /token`: an OAuth 2 form with `grant_type=password` or `refresh_token`, or Basic beside it.
pub(crate) async fn post(
    app: &App,
    parts: &Parts,
    query: &Query<'_>,
    authorization: &Authorization,
    host: &Accepted,
    body: ByteStream,
) -> Answered {
    no_password_in(query)?;
    let form = match form(parts, body, "a token request").await? {
        Ok(form) => form,
        Err(refused) => return Ok(refused),
    };
    let form = Query::parse(std::str::from_utf8(&form).ok());
    let refresh = form.first("refresh_token");
    let (presented, refresh) = match (form.first("grant_type"), authorization) {
        (Some("password"), _) => match (form.first("username"), form.first("password")) {
            (Some(user), Some(secret)) => (Presented::Basic { user, secret }, None),
            _ => {
                return Ok(oauth(StatusCode::BAD_REQUEST, "invalid_request", "username and password are needed"));
            }
        },
        (Some("refresh_token"), _) => match refresh {
            Some(token) => (Presented::None, Some(RefreshToken(token))),
            None => return Ok(oauth(StatusCode::BAD_REQUEST, "invalid_request", "refresh_token is needed")),
        },
        (None, Authorization::Basic { .. } | Authorization::Malformed) => (authorization.presented(), None),
        _ => {
            let text = "grant_type is password or refresh_token";
            return Ok(oauth(StatusCode::BAD_REQUEST, "unsupported_grant_type", text));
        }
    };
    let name = host.host.to_string();
    let request = request(presented, refresh, &form, &name);
    answer(app, request, host, true).await
}

/// A form whole, or the answer to what is none.
pub(crate) async fn form(
    parts: &Parts,
    body: ByteStream,
    what: &str,
) -> Result<Result<Zeroizing<Vec<u8>>, Response<Body>>, Failure> {
    let content_type = text(&parts.headers, header::CONTENT_TYPE).unwrap_or_default();
    let content_type = content_type.split(';').next().unwrap_or_default().trim();
    if !content_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        let text = "the body must be application/x-www-form-urlencoded";
        return Ok(Err(oauth(StatusCode::BAD_REQUEST, "invalid_request", text)));
    }
    let form = body::collect_within(FORM_PATIENCE, body, FORM_LIMIT, what).await?;
    Ok(Ok(Zeroizing::new(form.to_vec())))
}

/// A password in a URL ends up in every log on its way.
fn no_password_in(query: &Query<'_>) -> Result<(), Failure> {
    if query.first("password").is_some() || query.first("refresh_token").is_some() {
        let text = "a password must not stand in a URL: send Basic, or a POST form";
        return Err(Failure::Bad(Code::Unsupported, text.into()));
    }
    Ok(())
}

fn request<'a>(
    presented: Presented<'a>,
    refresh_token: Option<RefreshToken<'a>>,
    parameters: &'a Query<'a>,
    name: &'a str,
) -> TokenRequest<'a> {
    TokenRequest {
        presented,
        refresh_token,
        account: parameters.first("account"),
        service: parameters.first("service").filter(|service| !service.is_empty()),
        scopes: parameters.all("scope").collect(),
        client_id: parameters.first("client_id"),
        host: name,
    }
}

async fn answer(app: &App, request: TokenRequest<'_>, host: &Accepted, form: bool) -> Answered {
    let anonymous = matches!(request.presented, Presented::None) && request.refresh_token.is_none();
    match app.auth.issue(request, host.whence()).await {
        Ok(IssuedToken { token, expires_in, scope, stale }) => {
            // `issued_at` is left out: docker would count from it with its own clock.
            let document = json!({
                "token": token,
                "access_token": token,
                "expires_in": expires_in,
                "scope": scope.to_string(),
            });
            let mut response = Response::new(Body::full(document.to_string()));
            never_stored(&mut response);
            if let Some(age) = stale {
                set(&mut response, header::WARNING, format!("299 - \"{}\"", stale_warning(age)));
            }
            Ok(response)
        }
        Err(TokenRefusal::UnknownService) => {
            let text = TokenRefusal::UnknownService.text(&host.host.to_string());
            Err(Failure::Bad(Code::Unsupported, text))
        }
        Err(TokenRefusal::Refused(refusal @ (Refusal::Unauthenticated(_) | Refusal::InvalidToken))) => {
            let mut response = wrong(&refusal, host, form);
            if anonymous {
                // The body stays the one that every wrong caller reads.
                say_why(&mut response, "no user name and password were sent");
            }
            Ok(response)
        }
        Err(TokenRefusal::Refused(refusal)) => Err(refusal.into()),
    }
}

/// One body for all who do not hold a right secret; who does reads the reason.
fn wrong(refusal: &Refusal, host: &Accepted, form: bool) -> Response<Body> {
    let message = match refusal {
        Refusal::Unauthenticated(Some(reason)) => reason.text(&host.host.to_string()),
        _ => WRONG.to_owned(),
    };
    let mut document = json!({ "errors": [{ "code": Code::Unauthorized.as_str(), "message": message }] });
    if let (true, Some(fields)) = (form, document.as_object_mut()) {
        fields.insert("error".into(), "invalid_grant".into());
        fields.insert("error_description".into(), message.as_str().into());
    }
    let mut response = Response::new(Body::full(document.to_string()));
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    say_why(&mut response, &message);
    never_stored(&mut response);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"Hythe\""));
    response
}

/// An error of RFC 6749 section 5.2, in both dresses.
pub(crate) fn oauth(status: StatusCode, error: &str, message: &str) -> Response<Body> {
    let document = json!({
        "error": error,
        "error_description": message,
        "errors": [{ "code": Code::Unsupported.as_str(), "message": message }],
    });
    let mut response = Response::new(Body::full(document.to_string()));
    *response.status_mut() = status;
    say_why(&mut response, message);
    never_stored(&mut response);
    response
}

pub(crate) fn never_stored(response: &mut Response<Body>) {
    set(response, header::CONTENT_TYPE, "application/json");
    set(response, header::CACHE_CONTROL, "no-store");
    set(response, header::PRAGMA, "no-cache");
}

/// `GET /.well-known/jwks.json`: the public halves of our keys (RFC 7517).
pub(crate) async fn jwks(app: &App) -> Result<Response<Body>, Refusal> {
    let keys = app.auth.jwks().await.map_err(|error| Refusal::Unavailable(storage::Error::unavailable(error)))?;
    let document = serde_json::to_vec(&keys).map_err(|e| Refusal::Unavailable(storage::Error::unknown(e)))?;
    let mut response = Response::new(Body::full(document));
    set(&mut response, header::CONTENT_TYPE, "application/json");
    set(&mut response, header::CACHE_CONTROL, "max-age=300");
    Ok(response)
}
