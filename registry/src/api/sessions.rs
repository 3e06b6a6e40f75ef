//! Sessions of the console: the cookie, and the calls that open, show and close one.
//!
//! The cookie is read here and nowhere else, so that `/v2/`, `/token` and whatever is not `/api` have no code that could take it for
//! something. It is read only where there is no `Authorization`, and at no account's host.

use auth::Presented;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use zeroize::Zeroizing;

use super::{
    Call,
    envelope::{Problem, With, json, nothing},
};
use crate::{hosts::Accepted, oci::Answered, presented::Authorization};

/// The prefix binds it to this host, to `Path=/` and to TLS: no neighbouring name can set it (RFC 6265bis section 4.1.3.2).
const COOKIE: &[u8] = b"__Host-hythe";
const ATTRIBUTES: &str = "Secure; HttpOnly; SameSite=Strict; Path=/";
/// What pages of other origins cannot send without being allowed to, which they never are.
const MARK: HeaderName = HeaderName::from_static("x-hythe");

/// What a call of the API presents.
pub(super) enum Caller<'a> {
    /// The `Authorization` that came, whatever it is worth.
    Header(&'a Authorization),
    /// What the cookie holds.
    Session(Zeroizing<String>),
    /// A cookie of ours that cannot be read, or several.
    Malformed,
}

impl<'a> Caller<'a> {
    /// `Authorization` goes before the cookie, which a browser sends by itself.
    pub(super) fn read(authorization: &'a Authorization, headers: &HeaderMap, host: &Accepted) -> Self {
        if !matches!(authorization, Authorization::None) || host.account.is_some() {
            return Self::Header(authorization);
        }
        match cookie(headers) {
            Ok(None) => Self::Header(authorization),
            Ok(Some(secret)) => Self::Session(secret),
            Err(Unreadable) => Self::Malformed,
        }
    }

    /// The same as `auth` takes it.
    pub(super) fn presented(&self) -> Presented<'_> {
        match self {
            Self::Header(authorization) => authorization.presented(),
            Self::Session(secret) => Presented::Session(secret),
            Self::Malformed => Presented::Malformed,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Unreadable;

/// The one cookie of ours. Two of them are one too many to know which is meant, whatever they hold; other names are not looked at.
fn cookie(headers: &HeaderMap) -> Result<Option<Zeroizing<String>>, Unreadable> {
    // HTTP/2 may send each in a header of its own (RFC 9113 section 8.2.3). How much there is at most was settled with the head.
    let pairs = headers.get_all(header::COOKIE).iter().flat_map(|value| value.as_bytes().split(|&b| b == b';'));
    let mut ours = pairs.filter_map(|pair| {
        let pair = pair.trim_ascii();
        let (name, value) = pair.split_at(pair.iter().position(|&b| b == b'=').unwrap_or(pair.len()));
        (name.trim_ascii_end() == COOKIE).then_some(value)
    });
    let Some(first) = ours.next() else { return Ok(None) };
    if ours.next().is_some() {
        return Err(Unreadable);
    }
    let value = first.strip_prefix(b"=").and_then(|value| std::str::from_utf8(value).ok());
    let value = value.filter(|value| value.len() == auth::secret::LENGTH).ok_or(Unreadable)?;
    Ok(Some(value.to_owned().into()))
}

/// Refuses what a page of another origin could make a browser send. What only reads is let through: no other origin may look at the
/// answer.
pub(super) fn refuse_foreign(method: &Method, headers: &HeaderMap, host: &Accepted) -> Result<(), Problem> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    let own = format!("{}://{}", host.scheme, host.host);
    let is = |name: HeaderName, must: &str| {
        let mut values = headers.get_all(name).iter();
        values.next().is_some_and(|value| value == must) && values.next().is_none()
    };
    if is(MARK, "1") && is(header::ORIGIN, &own) { Ok(()) } else { Err(Problem::Foreign(own)) }
}

pub(super) async fn open(call: Call) -> Answered {
    nothing(call.body).await?;
    let (session, secret) = call.app.auth.open_session(&call.actor).await?;
    let cookie = Zeroizing::new(format!("__Host-hythe={}; {ATTRIBUTES}", secret.reveal()));
    let mut cookie = HeaderValue::try_from(cookie.as_str()).map_err(storage::Error::unknown)?;
    cookie.set_sensitive(true);
    let mut response = json(StatusCode::CREATED, &session).with(header::LOCATION, "/api/v1/session")?;
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

pub(super) fn get(call: &Call) -> Answered {
    json(StatusCode::OK, &call.app.auth.get_session(&call.actor)?)
}

pub(super) async fn close(call: Call) -> Answered {
    nothing(call.body).await?;
    let ended = call.app.auth.close_session(&call.actor).await?;
    json(StatusCode::OK, &ended).with(header::SET_COOKIE, format!("__Host-hythe=; Max-Age=0; {ATTRIBUTES}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<Option<String>, Unreadable> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::COOKIE, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        cookie(&headers).map(|found| found.map(|secret| secret.to_string()))
    }

    #[test]
    fn the_cookie_is_found_among_others_in_one_header_or_in_many() {
        let secret = format!("hyse_{}", "0".repeat(88));
        let ours = format!("__Host-hythe={secret}");
        for values in [
            &[&*ours][..],
            &[&format!("a=b; {ours}; c")],
            &[&format!("a=b;{ours}")],
            &["a=b", &ours, "c=d"],
            &[&format!(";;= ; {ours};")],
            &["__host-hythe=x; hythe=y; x__Host-hythe=z", &ours],
        ] {
            assert_eq!(read(values).unwrap().as_deref(), Some(&*secret), "{values:?}");
        }
        for none in [&[][..], &[""], &["a=b"], &["__Host-hythe2=x"], &["hythe=__Host-hythe"], &["__HOST-HYTHE=x"]] {
            assert_eq!(read(none), Ok(None), "{none:?}");
        }
    }

    #[test]
    fn a_cookie_that_comes_twice_or_has_another_form_is_no_session() {
        let secret = format!("hyse_{}", "0".repeat(88));
        let ours = format!("__Host-hythe={secret}");
        for bad in [
            &[&*ours, &ours][..],
            &[&format!("{ours}; {ours}")],
            &[&format!("{ours}; __Host-hythe=")],
            &[&ours, "__Host-hythe"],
            &["__Host-hythe"],
            &["__Host-hythe="],
            &["__Host-hythe= "],
            &[&format!("__Host-hythe=\"{secret}\"")],
            &[&format!("__Host-hythe={secret}0")],
            &[&format!("__Host-hythe== {secret}")],
            &[&format!("__Host-hythe={}ü", "0".repeat(92))],
        ] {
            assert_eq!(read(bad), Err(Unreadable), "{bad:?}");
        }
    }

    #[test]
    fn only_the_own_origin_and_the_mark_let_a_change_through() {
        let host = Accepted {
            host: "registry.example".parse().unwrap(),
            scheme: config::Scheme::Https,
            client: std::net::Ipv4Addr::LOCALHOST.into(),
            account: None,
        };
        let asked = |method: Method, all: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in all {
                headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
            }
            refuse_foreign(&method, &headers, &host).is_ok()
        };
        let (own, mark) = (("origin", "https://registry.example"), ("x-hythe", "1"));
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
            assert!(asked(method.clone(), &[own, mark]));
            for bad in [
                &[][..],
                &[own],
                &[mark],
                &[own, ("x-hythe", "0")],
                &[own, mark, mark],
                &[own, own, mark],
                &[("origin", "null"), mark],
                &[("origin", "http://registry.example"), mark],
                &[("origin", "https://registry.example:443"), mark],
                &[("origin", "https://registry.example.evil.example"), mark],
                &[("origin", "https://evil.registry.example"), mark],
                &[("referer", "https://registry.example/"), mark],
            ] {
                assert!(!asked(method.clone(), bad), "{method} {bad:?}");
            }
        }
        assert!(asked(Method::GET, &[]) && asked(Method::HEAD, &[("origin", "https://evil.example")]));
    }
}
