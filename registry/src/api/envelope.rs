//! What all calls share: documents in and out, `ETag` and `If-Match`, and the errors.

use auth::{Error, Invalid, Refusal};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_path_to_error::Segment;
use storage::stream::ByteStream;

use crate::{
    body::{self, Body},
    error::{Answer, Code, Failure, Told, refused, stored},
    oci::{Answered, set, text},
};

/// Largest request document in bytes.
const LIMIT: usize = 1 << 20;

/// A call that is not answered with what it asked for.
#[derive(Debug)]
pub(crate) enum Problem {
    /// An outcome of `auth`.
    Auth(Error),
    /// No operation has this path.
    NoEndPoint,
    /// The path has these methods.
    Method(String),
    /// The request's document is too large.
    TooLarge(String),
    /// It is not a JSON object.
    NotJson(String),
    /// It has a field that the operation does not know.
    UnknownField(Invalid),
    /// There is no `If-Match`.
    NoIfMatch,
    /// The resource is no longer what `If-Match` named; this is its version now.
    Changed(String),
    /// A session changes something, and the call does not come from its own pages at this origin.
    Foreign(String),
    /// The `next_token` was not made by this registry for this list.
    PageToken,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Api(Problem::Auth(error))
    }
}

impl Problem {
    /// A refusal of `auth`.
    pub(super) fn refused(refusal: Refusal) -> Self {
        Self::Auth(refusal.into())
    }

    /// One field, or with `?` before its name one parameter, that cannot be accepted.
    pub(super) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Auth(Error::Invalid(vec![Invalid { field: field.into(), message: message.into() }]))
    }

    /// A parameter that the operation does not have.
    pub(super) fn unknown_parameter(name: &str) -> Self {
        let message = "this operation has no such parameter".to_owned();
        Self::UnknownField(Invalid { field: format!("?{name}"), message })
    }

    /// The answer; the only match from outcomes of the API to status and code.
    pub(crate) fn answer(&self, host: &str) -> Answer {
        use Code as C;
        use StatusCode as S;
        match self {
            Self::Auth(error) => kept(error, host),
            Self::NoEndPoint => Answer::new(S::NOT_FOUND, C::NotFound, "no operation of this API has this path"),
            Self::Method(allow) => {
                let text = format!("this path takes {allow}");
                Answer::new(S::METHOD_NOT_ALLOWED, C::Unsupported, text).with(header::ALLOW, allow)
            }
            Self::TooLarge(text) => Answer::new(S::PAYLOAD_TOO_LARGE, C::TooLarge, text),
            Self::NotJson(text) => Answer::new(S::BAD_REQUEST, C::InvalidJson, text),
            Self::UnknownField(invalid) => told(S::BAD_REQUEST, C::UnknownField, std::slice::from_ref(invalid)),
            Self::NoIfMatch => {
                let text = "changing this needs If-Match with the ETag that it was read with";
                Answer::new(S::PRECONDITION_REQUIRED, C::PreconditionRequired, text)
            }
            Self::Changed(now) => {
                let text = "changed by somebody else meanwhile: read it again";
                Answer::new(S::PRECONDITION_FAILED, C::PreconditionFailed, text)
                    .with(header::ETAG, format!("\"{now}\""))
            }
            Self::Foreign(own) => {
                let text =
                    format!("a session changes things from its own pages only: send Origin: {own} and X-Hythe: 1");
                Answer::new(S::FORBIDDEN, C::Denied, text)
            }
            Self::PageToken => {
                let text = "next_token belongs to another list or filter; begin again without it";
                Answer::new(S::BAD_REQUEST, C::InvalidToken, text)
            }
        }
    }

    /// What is for the log, because the client is not told.
    pub(crate) fn hidden(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Auth(Error::Store(error) | Error::NotAudited(error)) => Some(error),
            Self::Auth(error @ Error::CannotOpen(_)) => Some(error),
            _ => None,
        }
    }
}

fn told(status: StatusCode, code: Code, invalid: &[Invalid]) -> Answer {
    let told = |one: &Invalid| Told { code, message: one.message.clone(), field: Some(one.field.clone()) };
    Answer { status, errors: invalid.iter().map(told).collect(), headers: Vec::new() }
}

fn kept(error: &Error, host: &str) -> Answer {
    use Code as C;
    use StatusCode as S;
    match error {
        Error::Refused(refusal) => {
            let answer = refused(refusal, host);
            let unknown = answer.status == S::UNAUTHORIZED;
            if unknown { answer.with(header::WWW_AUTHENTICATE, "Bearer") } else { answer }
        }
        Error::NotFound { .. } => Answer::new(S::NOT_FOUND, C::NotFound, error.to_string()),
        Error::Taken { .. } | Error::HostTaken { .. } => Answer::new(S::CONFLICT, C::NameTaken, error.to_string()),
        Error::Invalid(invalid) => told(S::UNPROCESSABLE_ENTITY, C::Validation, invalid),
        Error::Changed { rev } => {
            Answer::new(S::PRECONDITION_FAILED, C::PreconditionFailed, error.to_string()).with(header::ETAG, etag(*rev))
        }
        Error::Limit(text) => Answer::new(S::TOO_MANY_REQUESTS, C::TooManyRequests, text),
        Error::Store(error) => stored(error),
        Error::NotAudited(_) => {
            Answer::new(S::SERVICE_UNAVAILABLE, C::Unavailable, error.to_string()).with(header::RETRY_AFTER, "1")
        }
        // The second is for what auth's enum may grow: what is not known here is a failure of ours.
        Error::CannotOpen(_) | _ => {
            Answer::new(S::INTERNAL_SERVER_ERROR, C::Unknown, "the registry failed; its log has the reason")
        }
    }
}

/// A record's `rev` as a strong entity tag (RFC 9110 section 8.8.3).
fn etag(rev: u64) -> String {
    format!("\"{rev}\"")
}

/// What `If-Match` asks for: `Some` is the text of the strong tag that the caller saw, `None` is `*`. Anything but one strong tag
/// is empty, which no version is, and fails like a stale one.
pub(super) fn if_match_text(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    if !headers.contains_key(header::IF_MATCH) {
        return Err(Problem::NoIfMatch);
    }
    let one = text(headers, header::IF_MATCH).filter(|_| headers.get_all(header::IF_MATCH).iter().count() == 1);
    let Some(one) = one.map(str::trim) else { return Ok(Some("")) };
    if one == "*" {
        return Ok(None);
    }
    let tag = one.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    Ok(Some(tag.unwrap_or_default()))
}

/// The same where versions are a record's `rev`.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    Ok(if_match_text(headers)?.map(|tag| tag.parse().unwrap_or(u64::MAX)))
}

/// What storage's outcomes are here: what it does not know is not found, and the rest is as everywhere.
pub(super) fn kept_by(what: &'static str) -> impl Fn(storage::Error) -> Failure {
    move |error| match error {
        storage::Error::NoRepository => Error::NotFound { what: "repository" }.into(),
        storage::Error::NoManifest => Error::NotFound { what }.into(),
        other => other.into(),
    }
}

/// Reads a request's document.
pub(super) async fn document<T: DeserializeOwned>(body: ByteStream) -> Result<T, Failure> {
    let bytes = read(body).await?;
    Ok(parse(&bytes)?)
}

/// A body that may be left out and says nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Reads the body of a call that takes none: nothing, or an empty object.
pub(super) async fn nothing(body: ByteStream) -> Result<(), Failure> {
    let bytes = read(body).await?;
    if !bytes.is_empty() {
        parse::<Nothing>(&bytes)?;
    }
    Ok(())
}

async fn read(body: ByteStream) -> Result<bytes::Bytes, Failure> {
    body::collect(body, LIMIT, "a request document").await.map_err(|error| match error {
        storage::Error::TooLarge(text) => Problem::TooLarge(text).into(),
        other => other.into(),
    })
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if bytes.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Problem::NotJson("the body has to be a JSON object".into()));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| wrong(&error))?;
    json.end().map_err(|error| Problem::NotJson(error.to_string()))?;
    Ok(value)
}

fn wrong(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let text = error.inner().to_string();
    if !error.inner().is_data() {
        return Problem::NotJson(text);
    }
    let mut field = String::new();
    for segment in error.path() {
        let segment = match segment {
            Segment::Seq { index } => index.to_string(),
            // RFC 6901 section 3.
            Segment::Map { key } => key.replace('~', "~0").replace('/', "~1"),
            Segment::Enum { .. } | Segment::Unknown => continue,
        };
        field = field + "/" + &segment;
    }
    let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message).to_owned();
    // serde's own words: it tells the two apart from other errors of its kind in no other way.
    if message.starts_with("unknown field") {
        return Problem::UnknownField(Invalid { field, message });
    }
    if let Some(missing) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        field = field + "/" + missing;
    }
    Problem::invalid(field, message)
}

/// Answers with a document.
pub(super) fn json<T: Serialize>(status: StatusCode, document: &T) -> Answered {
    let bytes = serde_json::to_vec(document).map_err(storage::Error::unknown)?;
    Ok(json_bytes(status, bytes))
}

/// The same, written already.
pub(super) fn json_bytes(status: StatusCode, bytes: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // What a key may read is nobody else's, and some of it is shown once.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Adds headers to an answer.
pub(super) trait With {
    /// Adds a header.
    fn with(self, name: HeaderName, value: impl AsRef<str>) -> Self;
    /// Adds the `ETag` of a record's `rev`.
    fn tagged(self, rev: u64) -> Self;
}

impl With for Answered {
    fn with(self, name: HeaderName, value: impl AsRef<str>) -> Self {
        self.map(|mut response| {
            set(&mut response, name, value);
            response
        })
    }

    fn tagged(self, rev: u64) -> Self {
        self.with(header::ETAG, etag(rev))
    }
}

#[cfg(test)]
mod tests {
    use auth::{MintRequest, NewAccount, Reason};
    use serde_json::{Value, json};

    use super::*;

    async fn rendered(failure: Failure) -> (u16, HeaderMap, Value) {
        use http_body_util::BodyExt;
        let response = crate::error::render(&failure.answer("registry.example"), "an-id");
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), head.headers, serde_json::from_slice(&body).unwrap())
    }

    fn problem<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> Problem {
        parse::<T>(text.as_bytes()).unwrap_err()
    }

    #[tokio::test]
    async fn an_unknown_field_is_named() {
        let (status, _, body) = rendered(problem::<NewAccount>(r#"{"name":"acme","nmae":1}"#).into()).await;
        assert_eq!(status, 400);
        let expected = json!([{
            "code": "UNKNOWN_FIELD",
            "message": "unknown field `nmae`, expected `name` or `display`",
            "detail": {"field": "/nmae"},
        }]);
        assert_eq!(body["errors"], expected);
        let nested = problem::<auth::AccountChange>(r#"{"policy":{"a/b":1}}"#);
        assert!(matches!(&nested, Problem::UnknownField(i) if i.field == "/policy/a~1b"), "{nested:?}");
    }

    #[tokio::test]
    async fn a_wrong_type_and_a_missing_field_are_named() {
        for (text, field) in [
            (r#"{"kind":"pull","repositories":["a",1]}"#, "/repositories/1"),
            (r#"{"kind":"pull","ttl_seconds":"1h"}"#, "/ttl_seconds"),
            ("{}", "/kind"),
        ] {
            let (status, _, body) = rendered(problem::<MintRequest>(text).into()).await;
            assert_eq!(status, 422, "{text}");
            assert_eq!(body["errors"][0]["code"], "VALIDATION");
            assert_eq!(body["errors"][0]["detail"]["field"], field);
            assert!(!body.to_string().contains(" line "), "{body}");
        }
    }

    #[test]
    fn what_is_no_json_object_is_refused() {
        for text in ["", " ", "[]", r#"["acme","x"]"#, "null", "{", r#"{"name":"a"} x"#, "\u{feff}{}"] {
            assert!(matches!(problem::<NewAccount>(text), Problem::NotJson(_)), "{text}");
        }
    }

    #[tokio::test]
    async fn every_invalid_field_is_told_at_once() {
        let invalid = ["/a", "/b/0"].map(|field| Invalid { field: field.into(), message: format!("{field} is bad") });
        let (status, _, body) = rendered(Error::Invalid(invalid.into()).into()).await;
        assert_eq!(status, 422);
        assert_eq!(
            body["errors"][1],
            json!({"code": "VALIDATION", "message": "/b/0 is bad", "detail": {"field": "/b/0"}})
        );
        assert_eq!(body["errors"].as_array().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn outcomes_have_their_status_and_code() {
        let role = Refusal::Denied(Reason::Role(auth::Role::Viewer));
        for (failure, status, code) in [
            (Error::NotFound { what: "account" }.into(), 404, "NOT_FOUND"),
            (Error::Taken { name: "acme".parse().unwrap() }.into(), 409, "NAME_TAKEN"),
            (Error::Limit("too many".into()).into(), 429, "TOOMANYREQUESTS"),
            (Error::CannotOpen("x".into()).into(), 500, "UNKNOWN"),
            (Error::Store(storage::Error::unavailable("x")).into(), 503, "UNAVAILABLE"),
            (Error::NotAudited(storage::Error::unavailable("x")).into(), 503, "UNAVAILABLE"),
            (Problem::refused(role).into(), 403, "DENIED"),
            (Problem::refused(Refusal::ReadOnly { account: None }).into(), 405, "UNSUPPORTED"),
            (Problem::NoIfMatch.into(), 428, "PRECONDITION_REQUIRED"),
            (Problem::PageToken.into(), 400, "INVALID_TOKEN"),
            (Problem::Foreign("https://registry.example".into()).into(), 403, "DENIED"),
            (Problem::NoEndPoint.into(), 404, "NOT_FOUND"),
            (Problem::TooLarge("x".into()).into(), 413, "TOO_LARGE"),
        ] {
            let failure: Failure = failure;
            let shown = format!("{failure:?}");
            let (answered, _, body) = rendered(failure).await;
            assert_eq!((answered, body["errors"][0]["code"].as_str()), (status, Some(code)), "{shown}");
        }
    }

    #[tokio::test]
    async fn a_failure_of_ours_tells_the_client_an_id_and_the_log_the_reason() {
        let failure = Failure::from(Error::Store(storage::Error::unavailable("disk on fire")));
        assert!(crate::telemetry::chain(failure.hidden().unwrap()).contains("disk on fire"));
        let (_, _, body) = rendered(failure).await;
        assert_eq!(body["errors"][0]["detail"], json!({"request_id": "an-id"}));
        assert!(!body.to_string().contains("disk"), "{body}");
    }

    #[tokio::test]
    async fn a_stranger_is_challenged_for_a_bearer_and_told_no_realm() {
        let (status, headers, _) = rendered(Problem::refused(Refusal::Unauthenticated(None)).into()).await;
        assert_eq!((status, headers[header::WWW_AUTHENTICATE].as_bytes()), (401, &b"Bearer"[..]));
    }

    #[tokio::test]
    async fn a_stale_tag_is_answered_with_the_current_one() {
        let (status, headers, body) = rendered(Error::Changed { rev: 7 }.into()).await;
        assert_eq!((status, headers[header::ETAG].as_bytes()), (412, &b"\"7\""[..]));
        assert_eq!(body["errors"][0]["code"], "PRECONDITION_FAILED");
    }

    #[test]
    fn if_match_is_one_strong_tag_or_anything() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::IF_MATCH, HeaderValue::from_static(value));
            }
            if_match(&headers)
        };
        assert!(matches!(read(&[]), Err(Problem::NoIfMatch)));
        assert_eq!(read(&["*"]).unwrap(), None);
        assert_eq!(read(&["\"7\""]).unwrap(), Some(7));
        for stale in ["7", "W/\"7\"", "\"x\"", "", "\"7\", \"8\""] {
            assert_eq!(read(&[stale]).unwrap(), Some(u64::MAX), "{stale}");
        }
        assert_eq!(read(&["\"7\"", "\"7\""]).unwrap(), Some(u64::MAX));
    }
}
