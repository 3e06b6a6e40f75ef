//! Pages: `limit` and `next_token`, which goes on in the list and with the filter that it was made for, and nowhere else.

use auth::{Listing, Page};
use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use http::StatusCode;
use serde::Serialize;
use storage::Time;

use super::{Call, Problem, envelope};
use crate::oci::{Answered, Query};

/// Items of a page where the call says nothing, and the most it may say.
pub(super) const USUAL: usize = 20;
pub(super) const MOST: usize = 100;
/// Bytes of a token's MAC: HMAC-SHA256, whole.
const MAC: usize = 32;

/// The page that a call asks for.
pub(super) struct Asked {
    pub(super) page: Page,
    /// What a token is good for: path and filter.
    bound: String,
    expiring: Option<TimeDelta>,
    /// The other filters, as they came.
    given: Vec<(&'static str, String)>,
    keys: Vec<hmac::Key>,
}

/// What a list can be filtered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filters {
    /// Nothing.
    None,
    /// `expiring=7d`: what ends by itself within that time.
    Expiring,
    /// `name_prefix` and `kind`; or `name`, which is no list.
    Repositories,
    /// `repository`, which has to be given.
    Tags,
    /// `since`: what was done from then on.
    Audit,
    /// Nothing, not even `limit`: how far a page goes is the list's own affair.
    Slices,
}

impl Filters {
    /// The parameters beside `next_token`.
    pub(super) const fn names(self) -> &'static [&'static str] {
        match self {
            Self::None => &["limit"],
            Self::Expiring => &["limit", "expiring"],
            Self::Repositories => &["limit", "name_prefix", "kind", "name"],
            Self::Tags => &["limit", "repository"],
            Self::Audit => &["limit", "since"],
            Self::Slices => &[],
        }
    }
}

/// A page as it is answered.
#[derive(Serialize)]
struct Shown<T> {
    items: Vec<T>,
    /// Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

impl Asked {
    /// Reads a call's query.
    pub(super) fn read(call: &Call, filters: Filters) -> Result<Self, Problem> {
        let keys = call.app.auth.keys_for("page-token");
        let keys = keys.iter().map(|key| hmac::Key::new(hmac::HMAC_SHA256, &key[..])).collect();
        Self::of(call.uri.path(), call.uri.query(), filters, keys)
    }

    fn of(path: &str, query: Option<&str>, filters: Filters, keys: Vec<hmac::Key>) -> Result<Self, Problem> {
        let query = Query::parse(query);
        for name in query.names() {
            if name != "next_token" && !filters.names().contains(&name) {
                return Err(Problem::unknown_parameter(name));
            }
        }
        let limit = match query.first("limit").map(str::parse) {
            None => USUAL,
            Some(Ok(limit)) if (1..=MOST).contains(&limit) => limit,
            Some(_) => return Err(Problem::invalid("?limit", format!("1 to {MOST}"))),
        };
        let expiring = query.first("expiring").map(|text| {
            let time = humantime::parse_duration(text).ok().and_then(|time| TimeDelta::from_std(time).ok());
            time.ok_or_else(|| Problem::invalid("?expiring", "a time such as 12h or 7d"))
        });
        let expiring = expiring.transpose()?;
        let filter = expiring.map_or_else(String::new, |time| time.num_milliseconds().to_string());
        let named = filters.names().iter().filter(|name| !["limit", "expiring"].contains(name));
        let given: Vec<_> = named.filter_map(|&name| Some((name, query.first(name)?.to_owned()))).collect();
        let filters = given.iter().map(|(name, value)| format!("\n{name}={}", value.escape_default()));
        let bound = format!("{path}\nexpiring={filter}{}", filters.collect::<String>());
        let mut asked = Self { page: Page { after: None, limit }, bound, expiring, given, keys };
        if let Some(token) = query.first("next_token") {
            asked.page.after = Some(asked.opened(token).ok_or(Problem::PageToken)?);
        }
        Ok(asked)
    }

    /// A filter as it came.
    pub(super) fn given(&self, name: &str) -> Option<&str> {
        self.given.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// Whether something that ends then, or never, is asked for.
    pub(super) fn wants(&self, now: Time, ends: Option<Time>) -> bool {
        self.expiring.is_none_or(|within| ends.is_some_and(|end| end > now && end - now <= within))
    }

    /// Answers with a page.
    pub(super) fn answer<T: Serialize>(&self, listing: Listing<T>) -> Answered {
        let next_token = listing.next.as_deref().and_then(|after| self.token(after));
        envelope::json(StatusCode::OK, &Shown { items: listing.items, next_token })
    }

    fn signed(&self, after: &str) -> Vec<u8> {
        // A path, a filter and a name have no line break.
        format!("{}\n{after}", self.bound).into_bytes()
    }

    /// The token that goes on after `after`.
    pub(super) fn token(&self, after: &str) -> Option<String> {
        let mac = hmac::sign(self.keys.first()?, &self.signed(after));
        Some(URL_SAFE_NO_PAD.encode([mac.as_ref(), after.as_bytes()].concat()))
    }

    fn opened(&self, token: &str) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (mac, after) = bytes.split_at_checked(MAC)?;
        let after = std::str::from_utf8(after).ok()?;
        let signed = self.signed(after);
        self.keys.iter().any(|key| hmac::verify(key, &signed, mac).is_ok()).then(|| after.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/api/v1/accounts/acme/keys";

    fn keys(seeds: &[u8]) -> Vec<hmac::Key> {
        seeds.iter().map(|seed| hmac::Key::new(hmac::HMAC_SHA256, &[*seed; 32])).collect()
    }

    fn asked(path: &str, query: &str, seeds: &[u8]) -> Result<Asked, Problem> {
        Asked::of(path, Some(query), Filters::Expiring, keys(seeds))
    }

    fn goes_on(path: &str, query: &str, seeds: &[u8]) -> bool {
        match asked(path, query, seeds) {
            Ok(asked) => asked.page.after.as_deref() == Some("0k3v9x0a2m4p6r1t"),
            Err(Problem::PageToken) => false,
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_token_is_good_for_its_list_and_filter_only() {
        let token = asked(PATH, "limit=2&expiring=7d", &[1]).unwrap().token("0k3v9x0a2m4p6r1t").unwrap();
        assert!(goes_on(PATH, &format!("expiring=7d&next_token={token}"), &[1]));
        assert!(goes_on(PATH, &format!("expiring=168h&limit=9&next_token={token}"), &[1]), "the same time");
        assert!(!goes_on(PATH, &format!("expiring=8d&next_token={token}"), &[1]));
        assert!(!goes_on(PATH, &format!("next_token={token}"), &[1]));
        assert!(!goes_on("/api/v1/accounts/beta/keys", &format!("expiring=7d&next_token={token}"), &[1]));
    }

    #[test]
    fn a_token_outlives_the_key_s_successor_and_no_stranger_makes_one() {
        let token = asked(PATH, "", &[1]).unwrap().token("0k3v9x0a2m4p6r1t").unwrap();
        assert!(goes_on(PATH, &format!("next_token={token}"), &[2, 1]));
        assert!(!goes_on(PATH, &format!("next_token={token}"), &[2]));
    }

    #[test]
    fn a_changed_token_is_refused() {
        let token = asked(PATH, "", &[1]).unwrap().token("0k3v9x0a2m4p6r1t").unwrap();
        for i in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[i] = if changed[i] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(!goes_on(PATH, &format!("next_token={changed}"), &[1]), "{i}");
        }
        for bad in ["", "x", "%00", "AAAA"] {
            assert!(!goes_on(PATH, &format!("next_token={bad}"), &[1]), "{bad}");
        }
    }

    #[test]
    fn limits_and_parameters_are_held_to_what_there_is() {
        assert_eq!(asked(PATH, "", &[1]).unwrap().page.limit, 20);
        assert_eq!(asked(PATH, "limit=100", &[1]).unwrap().page.limit, 100);
        for bad in ["limit=0", "limit=101", "limit=", "limit=-1", "expiring=soon"] {
            assert!(matches!(asked(PATH, bad, &[1]), Err(Problem::Auth(auth::Error::Invalid(_)))), "{bad}");
        }
        assert!(matches!(asked(PATH, "limits=1", &[1]), Err(Problem::UnknownField(_))));
        let without = Asked::of(PATH, Some("expiring=7d"), Filters::None, keys(&[1]));
        assert!(matches!(without, Err(Problem::UnknownField(_))));
    }

    #[test]
    fn expiring_means_alive_and_not_for_longer() {
        let now = chrono::DateTime::UNIX_EPOCH;
        let week = asked(PATH, "expiring=7d", &[1]).unwrap();
        for (days, wanted) in [(-1, false), (0, false), (1, true), (7, true), (8, false)] {
            assert_eq!(week.wants(now, Some(now + TimeDelta::days(days))), wanted, "{days}");
        }
        assert!(!week.wants(now, None));
        assert!(asked(PATH, "", &[1]).unwrap().wants(now, None));
    }
}
