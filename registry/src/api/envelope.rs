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
            Self::PageToken => {
                let text = "next_token belongs to another list or filter; begin again without it";
                Answer::new(S::BAD_REQUEST, C::InvalidToken, text)
            }
        }
    }

    /// What is for the log, because the client is not told.
    pub(crate) fn hidden(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Auth(Error::Store(error)) => Some(error),
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
        Error::Taken { .. } => Answer::new(S::CONFLICT, C::NameTaken, error.to_string()),
        Error::Invalid(invalid) => told(S::UNPROCESSABLE_ENTITY, C::Validation, invalid),
        Error::Changed { rev } => Answer::new(S::PRECONDITION_FAILED, C::PreconditionFailed, error.to_string())
            .with(header::ETAG, etag(*rev)),
        Error::Limit(text) => Answer::new(S::TOO_MANY_REQUESTS, C::TooManyRequests, text),
        Error::Store(error) => stored(error),
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

/// What `If-Match` asks for: `Some` is the `rev` that the caller saw, `None` is `*`. Anything but one strong tag of ours is no
/// version that a record ever has, and fails like a stale one.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    if !headers.contains_key(header::IF_MATCH) {
        return Err(Problem::NoIfMatch);
    }
    let one = text(headers, header::IF_MATCH).filter(|_| headers.get_all(header::IF_MATCH).iter().count() == 1);
    let Some(one) = one.map(str::trim) else { return Ok(Some(u64::MAX)) };
    if one == "*" {
        return Ok(None);
    }
    let rev = one.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).and_then(|rev| rev.parse().ok());
    Ok(Some(rev.unwrap_or(u64::MAX)))
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
        match segment {
            Segment::Seq { index } => field += &format!("/{index}"),
            // RFC 6901 section 3.
            Segment::Map { key } => field += &format!("/{}", key.replace('~', "~0").replace('/', "~1")),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message).to_owned();
    // serde's own words: it tells the two apart from other errors of its kind in no other way.
    if message.starts_with("unknown field") {
        return Problem::UnknownField(Invalid { field, message });
    }
    if let Some(missing) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        field += &format!("/{missing}");
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
