//! The distribution protocol: thin handlers between headers and storage.
//!
//! Every handler is given a permit and spends it: reading headers, one call into storage, setting headers.

pub(crate) mod blob;
pub(crate) mod manifest;
pub(crate) mod page;
pub(crate) mod range;
pub(crate) mod referrer;
pub mod route;
pub(crate) mod tag;
pub(crate) mod upload;

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::{
    body::Body,
    error::{Code, Failure},
};

/// The header that clients know a registry by.
pub(crate) const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
/// The digest of what is served or was stored.
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A handler's answer.
pub(crate) type Answered = Result<Response<Body>, Failure>;

/// A request's query, decoded once.
#[derive(Debug, Default)]
pub(crate) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    pub(crate) fn parse(query: Option<&'a str>) -> Self {
        Self(url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).collect())
    }

    /// The first value of a parameter.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Every value of a parameter.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_ref())
    }

    /// The names of the parameters.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_ref())
    }

    /// The first value of a parameter, parsed; a bad one is an error with `code`.
    pub(crate) fn parsed<T: std::str::FromStr<Err = storage::NameError>>(
        &self,
        name: &str,
        code: Code,
    ) -> Result<Option<T>, Failure> {
        self.first(name)
            .map(|text| text.parse().map_err(|error: storage::NameError| Failure::Bad(code, error.to_string())))
            .transpose()
    }
}

/// An empty response with a status.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Sets a header whose value is made of names, digests and numbers: always valid.
pub(crate) fn set(response: &mut Response<Body>, name: impl Into<HeaderName>, value: impl AsRef<str>) {
    if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
        response.headers_mut().append(name.into(), value);
    }
}

/// A header as text.
pub(crate) fn text(headers: &HeaderMap, name: impl http::header::AsHeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Whether `If-None-Match` names this digest (RFC 9110 section 13.1.2; our ETags are digests).
pub(crate) fn unchanged(headers: &HeaderMap, digest: &storage::Digest) -> bool {
    text(headers, http::header::IF_NONE_MATCH).is_some_and(|tags| {
        tags.split(',')
            .map(|tag| tag.trim().trim_start_matches("W/").trim_matches('"'))
            .any(|tag| tag == digest.as_str())
    })
}
