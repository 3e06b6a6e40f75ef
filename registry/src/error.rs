//! From outcome to answer: the one place that knows which status and code an error has.
//!
//! Codes are the distribution-spec's ("Error Codes") where it has one. A 5xx body says no more than the request's id; the chain goes
//! to the log.

use auth::Refusal;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use storage::Error;

use crate::{
    api::Problem,
    body::{Body, Interrupted},
    oci::{range, route::RouteError},
};

/// A request that is not answered with what it asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An outcome of storage.
    Storage(Error),
    /// A refusal of `auth`.
    Refused(Refusal),
    /// No operation has this method and path.
    Route(RouteError),
    /// The host is not one of this server's; the text names the flag that adds it.
    Host(String),
    /// A parameter or header that is not well formed.
    Bad(Code, String),
    /// A head above the limit, in bytes without its `Authorization`.
    Head {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// A range outside the content, of this size.
    Range(u64),
    /// More `tag=` than one push may have.
    TooManyTags,
    /// An outcome of the API.
    Api(Problem),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match Interrupted::of(&error) {
            // Its token is worth nothing any more, and the client is told so as if it had come now.
            Some(Interrupted::Ended) => Self::Refused(Refusal::InvalidToken),
            _ => Self::Storage(error),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<RouteError> for Failure {
    fn from(error: RouteError) -> Self {
        Self::Route(error)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Api(problem)
    }
}

/// The error codes of the distribution-spec, those of distribution that clients know, and the API's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    PaginationNumberInvalid,
    SizeInvalid,
    TagInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
    Unavailable,
    Unknown,
    InvalidJson,
    InvalidToken,
    NameTaken,
    NotFound,
    PreconditionFailed,
    PreconditionRequired,
    TooLarge,
    UnknownField,
    Validation,
}

impl Code {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::TagInvalid => "TAG_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unavailable => "UNAVAILABLE",
            Self::Unknown => "UNKNOWN",
            Self::InvalidJson => "INVALID_JSON",
            Self::InvalidToken => "INVALID_TOKEN",
            Self::NameTaken => "NAME_TAKEN",
            Self::NotFound => "NOT_FOUND",
            Self::PreconditionFailed => "PRECONDITION_FAILED",
            Self::PreconditionRequired => "PRECONDITION_REQUIRED",
            Self::TooLarge => "TOO_LARGE",
            Self::UnknownField => "UNKNOWN_FIELD",
            Self::Validation => "VALIDATION",
        }
    }
}

/// What a failure is over HTTP, before a renderer dresses it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// One at least.
    pub(crate) errors: Vec<Told>,
    /// Headers that belong to the answer whoever dresses it (`Allow`, `Range`, `Retry-After`).
    pub(crate) headers: Vec<(HeaderName, String)>,
}

/// One error of an answer.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) code: Code,
    /// One clear line for a person.
    pub(crate) message: String,
    /// JSON pointer to the field of the request that it is about.
    pub(crate) field: Option<String>,
}

impl Answer {
    pub(crate) fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        let told = Told { code, message: message.into(), field: None };
        Self { status, errors: vec![told], headers: Vec::new() }
    }

    pub(crate) fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Failure {
    /// The answer. `host` is the one the client used: some messages say where to push instead.
    pub(crate) fn answer(&self, host: &str) -> Answer {
        use Code as C;
        use StatusCode as S;
        match self {
            Self::Storage(error) => stored(error),
            Self::Refused(refusal) => refused(refusal, host),
            Self::Host(text) => Answer::new(S::MISDIRECTED_REQUEST, C::Unsupported, text.clone()),
            Self::Bad(code, text) => Answer::new(S::BAD_REQUEST, *code, text.clone()),
            Self::Head { size, limit } => {
                let text = format!(
                    "the request's head has {size} bytes; this registry takes {limit} (limits.header_size, --limits-header-size)"
                );
                Answer::new(S::REQUEST_HEADER_FIELDS_TOO_LARGE, C::SizeInvalid, text)
            }
            Self::Range(size) => {
                let text = format!("the range lies outside the content, which has {size} bytes");
                Answer::new(S::RANGE_NOT_SATISFIABLE, C::SizeInvalid, text)
                    .with(header::CONTENT_RANGE, format!("bytes */{size}"))
            }
            Self::TooManyTags => {
                let text = format!("one push may set {} tags at most", storage::manifest::TAG_LIMIT);
                Answer::new(S::URI_TOO_LONG, C::TagInvalid, text)
            }
            Self::Api(problem) => problem.answer(host),
            Self::Route(error) => match error {
                RouteError::NotFound { .. } => {
                    Answer::new(S::NOT_FOUND, C::Unsupported, "no end-point of this registry has this path")
                }
                RouteError::Method { allow, .. } => {
                    let text = format!("this path takes {allow}");
                    Answer::new(S::METHOD_NOT_ALLOWED, C::Unsupported, text).with(header::ALLOW, *allow)
                }
                RouteError::Name(error) => Answer::new(S::BAD_REQUEST, C::NameInvalid, error.to_string()),
                RouteError::OneSegment(name) => {
                    let text = format!(
                        "a repository is ACCOUNT/NAME: add a repository name, {name}/NAME, or your account, ACCOUNT/{name}"
                    );
                    Answer::new(S::BAD_REQUEST, C::NameInvalid, text)
                }
                RouteError::Reference(error) => Answer::new(S::BAD_REQUEST, C::TagInvalid, error.to_string()),
                RouteError::Digest(error) => Answer::new(S::BAD_REQUEST, C::DigestInvalid, error.to_string()),
            },
        }
    }

    /// Whether the cause has to be logged, because the client is not told.
    pub(crate) fn hidden(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Storage(
                error @ (Error::Unavailable(_) | Error::Unknown(_) | Error::Corrupt { .. } | Error::Refused(_)),
            )
            | Self::Refused(Refusal::Unavailable(error)) => Interrupted::of(error).is_none().then_some(error as _),
            Self::Api(problem) => problem.hidden(),
            _ => None,
        }
    }
}

pub(crate) fn stored(error: &Error) -> Answer {
    use Code as C;
    use StatusCode as S;
    let say = |status, code| Answer::new(status, code, error.to_string());
    match error {
        Error::NoRepository => say(S::NOT_FOUND, C::NameUnknown),
        Error::NoManifest => say(S::NOT_FOUND, C::ManifestUnknown),
        Error::NoBlob => say(S::NOT_FOUND, C::BlobUnknown),
        Error::NoUpload => say(S::NOT_FOUND, C::BlobUploadUnknown),
        Error::NoReference { .. } => say(S::NOT_FOUND, C::ManifestBlobUnknown),
        Error::DigestMismatch { .. } => say(S::BAD_REQUEST, C::DigestInvalid),
        Error::Invalid(_) => say(S::BAD_REQUEST, C::ManifestInvalid),
        Error::Gap { have } => {
            say(S::RANGE_NOT_SATISFIABLE, C::BlobUploadInvalid).with(header::RANGE, range::held(*have))
        }
        Error::TooLarge(_) => say(S::PAYLOAD_TOO_LARGE, C::ManifestInvalid),
        Error::ChunkSize(_) => say(S::PAYLOAD_TOO_LARGE, C::SizeInvalid),
        Error::Pinned { .. } | Error::ReadOnly | Error::Immutable { .. } => {
            say(S::METHOD_NOT_ALLOWED, C::Unsupported).with(header::ALLOW, "GET, HEAD")
        }
        Error::QuotaExceeded { .. } | Error::TooManyUploads { .. } => say(S::FORBIDDEN, C::Denied),
        Error::Deleting | Error::Conflict => say(S::CONFLICT, C::Unsupported),
        Error::Stale { rev } => {
            say(S::PRECONDITION_FAILED, C::PreconditionFailed).with(header::ETAG, format!("\"{rev}\""))
        }
        Error::Full => say(S::INSUFFICIENT_STORAGE, C::Unavailable),
        Error::Unavailable(_) => match Interrupted::of(error) {
            Some(late @ (Interrupted::Stalled(_) | Interrupted::Slow(_))) => {
                Answer::new(S::REQUEST_TIMEOUT, C::SizeInvalid, late.to_string())
            }
            Some(gone @ (Interrupted::Gone(_) | Interrupted::Ended)) => {
                Answer::new(S::BAD_REQUEST, C::SizeInvalid, gone.to_string())
            }
            None => say(S::SERVICE_UNAVAILABLE, C::Unavailable).with(header::RETRY_AFTER, "1"),
        },
        Error::Unknown(_) | Error::Corrupt { .. } | Error::Refused(_) => {
            Answer::new(S::INTERNAL_SERVER_ERROR, C::Unknown, "the registry failed; its log has the reason")
        }
        // storage's enum may grow between releases of the two crates; what is not known here is a failure of ours.
        _ => Answer::new(S::INTERNAL_SERVER_ERROR, C::Unknown, "the registry failed; its log has the reason"),
    }
}

/// A refusal's name in the metrics.
pub(crate) fn reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Unauthenticated(_) => "unauthenticated",
        Refusal::InvalidToken => "invalid_token",
        Refusal::InsufficientScope(_) => "insufficient_scope",
        Refusal::Denied(_) => "denied",
        Refusal::ReadOnly { .. } => "read_only",
        Refusal::Throttled(_) => "throttled",
        Refusal::Stale | Refusal::Unavailable(_) => "unavailable",
    }
}

pub(crate) fn refused(refusal: &Refusal, host: &str) -> Answer {
    use Code as C;
    use StatusCode as S;
    let say = |status, code| Answer::new(status, code, refusal.text(host));
    match refusal {
        Refusal::Unauthenticated(_) | Refusal::InvalidToken | Refusal::InsufficientScope(_) => {
            say(S::UNAUTHORIZED, C::Unauthorized)
        }
        Refusal::Denied(_) => say(S::FORBIDDEN, C::Denied),
        Refusal::ReadOnly { .. } => say(S::METHOD_NOT_ALLOWED, C::Unsupported).with(header::ALLOW, "GET, HEAD"),
        Refusal::Throttled(after) => {
            let seconds = after.as_secs().max(1).to_string();
            say(S::TOO_MANY_REQUESTS, C::TooManyRequests).with(header::RETRY_AFTER, seconds)
        }
        Refusal::Stale | Refusal::Unavailable(_) => {
            say(S::SERVICE_UNAVAILABLE, C::Unavailable).with(header::RETRY_AFTER, "1")
        }
    }
}

/// Dresses an answer as the distribution-spec's error document. `id` is shown where the reason is not.
pub(crate) fn render(answer: &Answer, id: &str) -> Response<Body> {
    let errors: Vec<_> = answer.errors.iter().map(|told| document(told, answer.status, id)).collect();
    let mut response = Response::new(Body::full(serde_json::json!({ "errors": errors }).to_string()));
    *response.status_mut() = answer.status;
    if let Some(told) = answer.errors.first() {
        say_why(&mut response, &told.message);
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for (name, value) in &answer.headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    response
}

/// Most bytes of a message that go into a status line: proxies keep the whole head of an answer in a few KiB.
const REASON_LIMIT: usize = 240;

/// Puts the message into the status line too, behind the status's own words ("403 Forbidden: this is a pull credential").
/// containerd shows nothing else of a refusal, so it is all that the events of a pod can say. HTTP/2 has no such words;
/// containerd speaks HTTP/1.1 to registries.
pub(crate) fn say_why(response: &mut Response<Body>, message: &str) {
    let words = response.status().canonical_reason().unwrap_or_default();
    let plain = message.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' });
    let line: String = words.chars().chain(": ".chars()).chain(plain).take(REASON_LIMIT).collect();
    if let Ok(reason) = hyper::ext::ReasonPhrase::try_from(line) {
        response.extensions_mut().insert(reason);
    }
}

fn document(told: &Told, status: StatusCode, id: &str) -> serde_json::Value {
    // Clients show the message alone: where the reason is not in it, it says what the operator finds the reason by.
    let message = match status {
        StatusCode::INTERNAL_SERVER_ERROR | StatusCode::SERVICE_UNAVAILABLE => {
            format!("{} (request {id})", told.message)
        }
        _ => told.message.clone(),
    };
    let mut error = serde_json::json!({ "code": told.code.as_str(), "message": message });
    let detail = match &told.field {
        Some(field) => Some(serde_json::json!({ "field": field })),
        None => status.is_server_error().then(|| serde_json::json!({ "request_id": id })),
    };
    if let (Some(fields), Some(detail)) = (error.as_object_mut(), detail) {
        fields.insert("detail".into(), detail);
    }
    error
}
