//! What a token says, and whether a policy is satisfied by it.

use std::{borrow::Cow, collections::BTreeMap, fmt, str::FromStr};

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use storage::Time;

/// How far an issuer's clock may be from ours.
pub(super) const LEEWAY: TimeDelta = TimeDelta::seconds(60);
/// The longest life of a token that is taken.
const LONGEST_LIFE: i64 = 24 * 3600;
/// Longest text of a condition or a subject.
pub(super) const LONGEST_TEXT: usize = 512;
/// Claims that have rules of their own: a condition on one would be no condition.
pub(super) const RESERVED: [&str; 6] = ["iss", "aud", "exp", "nbf", "iat", "jti"];

/// What a claim has to be: the whole text, in which `*` stands for any characters but `:` and `/`, or for none.
///
/// ```
/// use auth::Expected;
/// let branch: Expected = "repo:acme/*:ref:refs/heads/main".parse().unwrap();
/// assert!(branch.matches("repo:acme/web:ref:refs/heads/main"));
/// assert!(!branch.matches("repo:acme/web:ref:refs/heads/main2"));
/// assert!(!branch.matches("repo:acme/web/x:ref:refs/heads/main"));
/// assert!(!branch.matches("repo:acme/web:environment:x:ref:refs/heads/main"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Expected(Box<str>);

impl Expected {
    /// Whether it has no wildcard.
    pub fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a claim of this text is what is expected.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        // The last `*`, and how far it reaches: the one place to go back to, as no `*` reaches over what stops it.
        let mut star: Option<(usize, usize)> = None;
        while let Some(&byte) = text.get(t) {
            match (pattern.get(p), star) {
                (Some(b'*'), _) => {
                    star = Some((p, t));
                    p += 1;
                }
                (Some(&literal), _) if literal == byte => (p, t) = (p + 1, t + 1),
                (_, Some((at, reach))) if text.get(reach).is_some_and(|byte| !matches!(byte, b':' | b'/')) => {
                    star = Some((at, reach + 1));
                    (p, t) = (at + 1, reach + 1);
                }
                _ => return false,
            }
        }
        pattern.iter().skip(p).all(|byte| *byte == b'*')
    }
}

impl FromStr for Expected {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let good = !text.is_empty() && text.len() <= LONGEST_TEXT && !text.chars().any(char::is_control);
        if good { Ok(Self(text.into())) } else { Err("1 to 512 characters; * stands for any but : and /") }
    }
}

impl TryFrom<String> for Expected {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a token is not taken: for the log, never for who presented it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    #[error("it is no signed token")]
    Form,
    #[error("its algorithm is not one of the policy's, or not its key's")]
    Algorithm,
    #[error("the issuer has no key of this kid")]
    Kid,
    #[error("its signature is not the key's")]
    Signature,
    #[error("it is of another issuer")]
    Issuer,
    #[error("it is for another audience")]
    Audience,
    #[error("it has no subject")]
    Subject,
    #[error("it says not when it begins and ends, or lives for more than a day")]
    Life,
    #[error("it is over")]
    Over,
    #[error("it begins later")]
    Early,
    #[error("its claim {0} is not what the policy expects")]
    Claim(String),
    #[error("it was used before")]
    Used,
    #[error("there is no such account or policy")]
    Unknown,
    #[error("the policy is over")]
    PolicyOver,
    #[error("its issuer is not one that this registry trusts")]
    Untrusted,
}

/// A claim as text: by its name, or where that begins with `/` by its JSON pointer (RFC 6901), like `/kubernetes.io/namespace`.
/// Lists and objects are no text.
fn claim<'a>(claims: &'a Value, name: &str) -> Option<Cow<'a, str>> {
    let value = if name.starts_with('/') { claims.pointer(name) } else { claims.get(name) };
    match value? {
        Value::String(text) => Some(text.into()),
        Value::Number(number) => Some(number.to_string().into()),
        Value::Bool(flag) => Some(flag.to_string().into()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// When a token that satisfies the rules is over, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Satisfied {
    pub(super) subject: String,
    pub(super) ends: i64,
}

/// Holds claims against a policy at `now`. Whether anybody signed them is another question.
pub(super) fn satisfies(
    claims: &Value,
    issuer: &str,
    audience: &str,
    conditions: &BTreeMap<String, Expected>,
    now: Time,
) -> Result<Satisfied, Wrong> {
    if claims.get("iss").and_then(Value::as_str) != Some(issuer) {
        return Err(Wrong::Issuer);
    }
    let meant = match claims.get("aud") {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(several)) => several.iter().any(|one| one.as_str() == Some(audience)),
        _ => false,
    };
    if !meant {
        return Err(Wrong::Audience);
    }
    let time = |name| claims.get(name).map(|value| value.as_i64().ok_or(Wrong::Life)).transpose();
    let (Some(begun), Some(ends)) = (time("iat")?, time("exp")?) else { return Err(Wrong::Life) };
    let life = ends.checked_sub(begun).ok_or(Wrong::Life)?;
    if !(1..=LONGEST_LIFE).contains(&life) {
        return Err(Wrong::Life);
    }
    let (now, leeway) = (now.timestamp(), LEEWAY.num_seconds());
    if ends.saturating_add(leeway) <= now {
        return Err(Wrong::Over);
    }
    if begun.max(time("nbf")?.unwrap_or(begun)) > now.saturating_add(leeway) {
        return Err(Wrong::Early);
    }
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    if subject.is_empty() || subject.len() > LONGEST_TEXT || subject.chars().any(char::is_control) {
        return Err(Wrong::Subject);
    }
    for (name, expected) in conditions {
        if !claim(claims, name).is_some_and(|text| expected.matches(&text)) {
            return Err(Wrong::Claim(name.clone()));
        }
    }
    Ok(Satisfied { subject: subject.to_owned(), ends })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    /// The definition, written as slowly and plainly as possible.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['*', rest @ ..], _) => {
                naive(rest, text)
                    || matches!(text, [first, more @ ..] if ![':', '/'].contains(first) && naive(pattern, more))
            }
            ([literal, rest @ ..], [first, more @ ..]) => literal == first && naive(rest, more),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_wildcard_matches_as_the_plain_definition_does(pattern in "[ab:/*é]{1,12}", text in "[ab:/*é]{0,14}") {
            let expected = naive(&pattern.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>());
            prop_assert_eq!(pattern.parse::<Expected>().unwrap().matches(&text), expected);
        }

        #[test]
        fn what_has_no_wildcard_matches_itself_alone(pattern in "[ab:/]{1,6}", text in "[ab:/]{1,6}") {
            let exact: Expected = pattern.parse().unwrap();
            prop_assert!(exact.is_exact());
            prop_assert_eq!(exact.matches(&text), pattern == text);
        }
    }

    #[test]
    fn a_wildcard_stops_at_colons_and_slashes() {
        let pattern: Expected = "repo:acme/*:ref:refs/heads/main".parse().unwrap();
        for (text, matches) in [
            ("repo:acme/web:ref:refs/heads/main", true),
            ("repo:acme/:ref:refs/heads/main", true),
            ("repo:acme/web:environment:x:ref:refs/heads/main", false),
            ("repo:acme/a/b:ref:refs/heads/main", false),
            ("repo:acme-evil/web:ref:refs/heads/main", false),
            ("repo:acme/web:ref:refs/heads/main/x", false),
        ] {
            assert_eq!(pattern.matches(text), matches, "{text}");
        }
        assert!(!"*".parse::<Expected>().unwrap().matches("refs/heads/main"));
    }

    fn good() -> Value {
        json!({"iss": "https://i.example", "aud": "registry.example/acme", "sub": "s", "iat": NOW, "exp": NOW + 600})
    }

    fn told(change: &Value, conditions: &[(&str, &str)]) -> Result<Satisfied, Wrong> {
        let mut claims = good();
        for (name, value) in change.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        let conditions = conditions.iter().map(|(name, text)| ((*name).into(), text.parse().unwrap())).collect();
        let now = DateTime::from_timestamp(NOW, 0).unwrap();
        satisfies(&claims, "https://i.example", "registry.example/acme", &conditions, now)
    }

    #[test]
    fn issuer_and_audience_are_compared_byte_for_byte() {
        assert_eq!(told(&json!({}), &[]), Ok(Satisfied { subject: "s".into(), ends: NOW + 600 }));
        for issuer in ["https://i.example/", "https://I.example", "http://i.example", ""] {
            assert_eq!(told(&json!({ "iss": issuer }), &[]), Err(Wrong::Issuer), "{issuer}");
        }
        for audience in [json!("registry.example"), json!("registry.example/acme/"), json!([]), json!(7), json!(null)] {
            assert_eq!(told(&json!({ "aud": audience }), &[]), Err(Wrong::Audience), "{audience}");
        }
        assert!(told(&json!({"aud": ["other", "registry.example/acme"]}), &[]).is_ok());
        assert_eq!(told(&json!({"aud": ["other", ["registry.example/acme"]]}), &[]), Err(Wrong::Audience));
    }

    #[test]
    fn a_minute_of_leeway_is_given_and_no_more() {
        for (change, outcome) in [
            (json!({"iat": NOW - 600, "exp": NOW - 59}), None),
            (json!({"iat": NOW - 600, "exp": NOW - 60}), Some(Wrong::Over)),
            (json!({"iat": NOW + 60}), None),
            (json!({"iat": NOW + 61}), Some(Wrong::Early)),
            (json!({"nbf": NOW + 60}), None),
            (json!({"nbf": NOW + 61}), Some(Wrong::Early)),
        ] {
            assert_eq!(told(&change, &[]).err(), outcome, "{change}");
        }
    }

    #[test]
    fn a_token_lives_for_a_day_at_most_and_says_so() {
        assert!(told(&json!({"exp": NOW + 86_400}), &[]).is_ok());
        for change in [
            json!({"exp": NOW + 86_401}),
            json!({"exp": NOW}),
            json!({"exp": null}),
            json!({"iat": null}),
            json!({"exp": "never"}),
            json!({"exp": i64::MAX, "iat": i64::MIN}),
        ] {
            assert_eq!(told(&change, &[]), Err(Wrong::Life), "{change}");
        }
    }

    #[test]
    fn every_condition_has_to_hold_and_lists_hold_none() {
        let kubernetes = json!({"kubernetes.io": {"namespace": "prod", "pod": {"name": "a"}}, "n": 7, "flag": true});
        assert!(told(&kubernetes, &[("/kubernetes.io/namespace", "prod"), ("n", "7"), ("flag", "true")]).is_ok());
        for (name, text) in [
            ("/kubernetes.io/namespace", "prod2"),
            ("kubernetes.io", "*"),
            ("absent", "*"),
            ("/kubernetes.io/pod", "*"),
        ] {
            let outcome = told(&kubernetes, &[("sub", "s"), (name, text)]);
            assert_eq!(outcome, Err(Wrong::Claim(name.into())), "{name}");
        }
        assert_eq!(told(&json!({"groups": ["a"]}), &[("groups", "a")]), Err(Wrong::Claim("groups".into())));
    }

    #[test]
    fn a_token_of_nobody_is_not_taken() {
        for subject in [json!(""), json!(null), json!(7), json!("x".repeat(513)), json!("a\nb")] {
            assert_eq!(told(&json!({ "sub": subject }), &[]), Err(Wrong::Subject));
        }
    }
}
