//! From headers to what `auth` is handed, and the challenge that goes back.

use auth::{Presented, Scopes};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, header};

/// What an `Authorization` header holds, decoded and owned.
pub(crate) enum Authorization {
    None,
    Basic { user: String, secret: zeroize::Zeroizing<String> },
    Bearer(zeroize::Zeroizing<String>),
    Malformed,
}

impl Authorization {
    /// Reads the header. Two of them, another scheme or a broken Basic are malformed: presented, and no good.
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Self::None };
        if values.next().is_some() {
            return Self::Malformed;
        }
        let Ok(value) = value.to_str() else { return Self::Malformed };
        // A scheme with nothing behind it is that scheme still: a Bearer that is no good is told so.
        let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Self::Bearer(rest.to_owned().into());
        }
        if scheme.eq_ignore_ascii_case("basic")
            && let Ok(decoded) = STANDARD.decode(rest)
            && let Ok(text) = String::from_utf8(decoded)
            && let Some((user, secret)) = text.split_once(':')
        {
            return Self::Basic { user: user.to_owned(), secret: secret.to_owned().into() };
        }
        Self::Malformed
    }

    /// The same, as `auth` takes it.
    pub(crate) fn presented(&self) -> Presented<'_> {
        match self {
            Self::None => Presented::None,
            Self::Basic { user, secret } => Presented::Basic { user, secret },
            Self::Bearer(token) => Presented::Bearer(token),
            Self::Malformed => Presented::Malformed,
        }
    }
}

/// The Bearer challenge (RFC 6750 section 3; distribution, "Token Authentication Specification"). `error` is absent on a first,
/// unauthenticated challenge and required on a rejected token: clients drop a cached token only when it is there.
pub(crate) fn challenge(realm: &str, service: &str, scopes: &Scopes, error: Option<&str>) -> String {
    let mut text = format!("Bearer realm=\"{realm}\",service=\"{service}\"");
    if !scopes.is_empty() {
        text.extend([",scope=\"", &scopes.to_string(), "\""]);
    }
    if let Some(error) = error {
        text.extend([",error=\"", error, "\""]);
    }
    text
}
