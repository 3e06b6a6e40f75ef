//! A trust policy: the record, its document, and the rules that it has to satisfy before there is one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use storage::{AccountName, Time};

use super::{
    claims::{Expected, LONGEST_TEXT, RESERVED},
    keys::{IssuerKeys, SigningAlgorithm},
};
use crate::{
    account::{AccountRecord, SHORTEST, check_text},
    error::Invalid,
    id::Id,
    principal::KeyHolder,
    public::parse_patterns,
    scope::{Actions, Pattern},
    secret::Kind,
};

/// The life of a credential where the policy says nothing, in seconds.
const USUAL_LIFE: u64 = 3600;
/// Most conditions of a policy.
const MOST_CONDITIONS: usize = 16;
/// Who signs for GitHub Actions; with a path behind it, for an enterprise of its own.
const GITHUB: &str = "https://token.actions.githubusercontent.com";
/// What a token of a Kubernetes service account says that it is.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
const NAMESPACE: &str = "/kubernetes.io/namespace";

/// Where an issuer's keys come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeySource {
    /// From the issuer itself (OpenID Connect Discovery), if the operator lets the registry ask it.
    #[default]
    Discover,
    /// The owner gave them: for issuers that cannot be reached from here.
    Inline(Value),
}

/// What the credentials of a policy may do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TrustGrant {
    pub(crate) actions: Actions,
    pub(crate) patterns: Vec<Pattern>,
    /// In seconds.
    pub(crate) max_ttl: u64,
}

impl TrustGrant {
    pub(crate) fn kind(&self) -> Kind {
        kind_of(self.actions)
    }
}

/// Whoever may change something has a push credential.
pub(super) fn kind_of(actions: Actions) -> Kind {
    if actions.contains(Actions::PUSH) || actions.contains(Actions::DELETE) { Kind::Push } else { Kind::Pull }
}

/// `auth/GEN/trust/ID`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TrustRecord {
    pub(crate) account: AccountName,
    #[serde(default)]
    pub(crate) label: String,
    pub(crate) issuer: String,
    pub(crate) audience: String,
    pub(crate) jwks: KeySource,
    pub(crate) algs: Vec<SigningAlgorithm>,
    #[serde(rename = "match")]
    pub(crate) conditions: BTreeMap<String, Expected>,
    pub(crate) grant: TrustGrant,
    pub(crate) single_use: bool,
    pub(crate) created: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<Time>,
    /// It is gone for everybody; the record stays until no credential of it can be alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deleted_at: Option<Time>,
}

/// What the credentials of a policy may do, as the API shows it.
#[derive(Debug, Clone, Serialize)]
pub struct GrantDocument {
    /// `pull`, `push`, `delete`.
    pub actions: Actions,
    /// Where.
    pub repositories: Vec<Pattern>,
    /// How long a credential lives, in seconds.
    pub max_ttl_seconds: u64,
}

/// A trust policy as the API shows it.
#[derive(Debug, Clone, Serialize)]
pub struct TrustDocument {
    /// Its id: what an exchange names.
    pub id: Id,
    /// Its account.
    pub account: AccountName,
    /// What people call it.
    pub label: String,
    /// Whose tokens are taken: their `iss`.
    pub issuer: String,
    /// What their `aud` has to hold.
    pub audience: String,
    /// `"discover"`, or the keys.
    pub jwks: Value,
    /// How they may be signed.
    pub algorithms: Vec<SigningAlgorithm>,
    /// What else they have to say.
    #[serde(rename = "match")]
    pub conditions: BTreeMap<String, Expected>,
    /// What they are good for.
    pub grant: GrantDocument,
    /// Whether each is good once.
    pub single_use: bool,
    /// When it was made.
    #[serde(with = "crate::time::millis")]
    pub created_at: Time,
    /// When it ends by itself, if it does.
    #[serde(with = "crate::time::millis::option")]
    pub expires_at: Option<Time>,
    /// The record's `rev`: its `ETag`.
    #[serde(skip)]
    pub rev: u64,
}

impl TrustDocument {
    pub(super) fn new(id: Id, rev: u64, record: TrustRecord) -> Self {
        let TrustGrant { actions, patterns, max_ttl } = record.grant;
        Self {
            id,
            account: record.account,
            label: record.label,
            issuer: record.issuer,
            audience: record.audience,
            jwks: match record.jwks {
                KeySource::Discover => "discover".into(),
                KeySource::Inline(keys) => keys,
            },
            algorithms: record.algs,
            conditions: record.conditions,
            grant: GrantDocument { actions, repositories: patterns, max_ttl_seconds: max_ttl },
            single_use: record.single_use,
            created_at: record.created,
            expires_at: record.expires,
            rev,
        }
    }
}

/// Where the keys come from, as a request says it.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum NewKeys {
    /// `"discover"`.
    Named(String),
    /// `{"keys": [...]}` (RFC 7517 section 5).
    Given(Value),
}

/// What the credentials of a new policy may do.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewGrant {
    /// `pull`, `push`, `delete`.
    pub actions: Vec<String>,
    /// Patterns; absent: the whole account.
    #[serde(default)]
    pub repositories: Option<Vec<String>>,
    /// How long a credential lives; absent: an hour.
    #[serde(default)]
    pub max_ttl_seconds: Option<u64>,
}

/// What a trust policy is made with.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTrust {
    /// What people call it.
    #[serde(default)]
    pub label: String,
    /// Whose tokens are taken, as their `iss` says it.
    pub issuer: String,
    /// What their `aud` has to hold; absent: `HOST/ACCOUNT`.
    #[serde(default)]
    pub audience: Option<String>,
    /// Absent: from the issuer itself.
    #[serde(default)]
    pub jwks: Option<NewKeys>,
    /// Absent: RS256, or what the given keys are for.
    #[serde(default)]
    pub algorithms: Option<Vec<String>>,
    /// What else they have to say, by claim.
    #[serde(rename = "match")]
    pub conditions: BTreeMap<String, String>,
    /// What they are good for.
    pub grant: NewGrant,
    /// Whether each is good once; absent: yes where more than pulling is granted.
    #[serde(default)]
    pub single_use: Option<bool>,
    /// When it ends by itself.
    #[serde(default)]
    pub expires_at: Option<Time>,
}

/// What a new policy is held against.
pub(super) struct Bounds<'a> {
    pub(super) account: &'a AccountRecord,
    /// The key that makes it; nobody makes one that reaches further than itself.
    pub(super) maker: Option<&'a KeyHolder>,
    /// The audience where the request says none.
    pub(super) audience: &'a str,
    /// The issuers whose keys this registry asks for.
    pub(super) trusted: &'a [String],
    pub(super) now: Time,
}

/// Reads a request; every field that cannot be accepted is told.
pub(super) fn check(new: &NewTrust, bounds: &Bounds<'_>) -> Result<TrustRecord, Vec<Invalid>> {
    let mut invalid: Vec<Invalid> = check_text("/label", &new.label).into_iter().collect();
    let audience = new.audience.as_deref().unwrap_or(bounds.audience);
    invalid.extend(check_issuer(&new.issuer));
    invalid.extend(check_audience(audience, &new.issuer));
    let (jwks, usual) = check_keys(new, bounds.trusted).map_err(|wrong| invalid.push(wrong)).unwrap_or_default();
    let algs = check_algorithms(new, usual).map_err(|wrong| invalid.push(wrong)).unwrap_or_default();
    let conditions = check_conditions(&new.conditions).map_err(|more| invalid.extend(more)).unwrap_or_default();
    let grant = check_grant(&new.grant, bounds).map_err(|more| invalid.extend(more)).ok();
    if let (Some(grant), false) = (&grant, conditions.is_empty()) {
        invalid.extend(check_pins(&new.issuer, &conditions, grant.kind()));
    }
    let later =
        bounds.maker.and_then(|maker| maker.expires).is_some_and(|end| new.expires_at.is_none_or(|at| at > end));
    if new.expires_at.is_some_and(|at| at <= bounds.now) {
        invalid.push(Invalid::new("/expires_at", "a time to come"));
    } else if later {
        invalid.push(Invalid::new("/expires_at", "not after this key's own end"));
    }
    let (Some(grant), true) = (grant, invalid.is_empty()) else { return Err(invalid) };
    Ok(TrustRecord {
        account: bounds.account.name.clone(),
        label: new.label.clone(),
        issuer: new.issuer.clone(),
        audience: audience.to_owned(),
        jwks,
        algs,
        conditions,
        single_use: new.single_use.unwrap_or(grant.kind() == Kind::Push),
        grant,
        created: bounds.now,
        expires: new.expires_at,
        deleted_at: None,
    })
}

fn plain(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST_TEXT && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn check_issuer(issuer: &str) -> Option<Invalid> {
    (!plain(issuer)).then(|| Invalid::new("/issuer", "the iss of the tokens, exactly as they say it"))
}

fn check_audience(audience: &str, issuer: &str) -> Option<Invalid> {
    let wrong = |rule| Some(Invalid::new("/audience", rule));
    if !plain(audience) {
        return wrong("an audience that tokens for this account are asked with, e.g. registry.example/acme");
    }
    if audience == issuer {
        return wrong("tokens that are for the issuer itself are everywhere; ask for some that are for this registry");
    }
    let githubs = audience.strip_prefix("https://github.com/").is_some() || audience == "https://github.com";
    if githubs {
        return wrong("this is GitHub's default, which every workflow asks with; name one that is for this registry");
    }
    None
}

/// Where the keys come from, and what they are for unless the request says.
fn check_keys(new: &NewTrust, trusted: &[String]) -> Result<(KeySource, Vec<SigningAlgorithm>), Invalid> {
    match &new.jwks {
        None => {}
        Some(NewKeys::Named(name)) if name == "discover" => {}
        Some(NewKeys::Named(_)) => return Err(Invalid::new("/jwks", r#""discover", or {"keys": [...]}"#)),
        Some(NewKeys::Given(document)) => {
            let keys = IssuerKeys::given(document).map_err(|error| Invalid::new("/jwks", error.to_string()))?;
            return Ok((KeySource::Inline(keys.document()), keys.algorithms()));
        }
    }
    if !trusted.contains(&new.issuer) {
        let rule = "this registry asks no such issuer for its keys: the operator adds it with --trusted-issuer, or give the \
                    keys themselves";
        return Err(Invalid::new("/issuer", rule));
    }
    Ok((KeySource::Discover, vec![SigningAlgorithm::RS256]))
}

fn check_algorithms(new: &NewTrust, usual: Vec<SigningAlgorithm>) -> Result<Vec<SigningAlgorithm>, Invalid> {
    let Some(names) = &new.algorithms else { return Ok(usual) };
    let mut all = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let algorithm: SigningAlgorithm =
            name.parse().map_err(|rule: &str| Invalid::new(format!("/algorithms/{i}"), rule))?;
        if !all.contains(&algorithm) {
            all.push(algorithm);
        }
    }
    if all.is_empty() { Err(Invalid::new("/algorithms", "one at least: RS256, ES256 or EdDSA")) } else { Ok(all) }
}

fn check_conditions(conditions: &BTreeMap<String, String>) -> Result<BTreeMap<String, Expected>, Vec<Invalid>> {
    if conditions.is_empty() || conditions.len() > MOST_CONDITIONS {
        return Err(vec![Invalid::new("/match", "1 to 16 claims and what each has to be")]);
    }
    let (mut read, mut invalid) = (BTreeMap::new(), Vec::new());
    for (name, text) in conditions {
        // RFC 6901 section 3.
        let field = format!("/match/{}", name.replace('~', "~0").replace('/', "~1"));
        if RESERVED.contains(&name.trim_start_matches('/')) {
            invalid.push(Invalid::new(field, "this claim has rules of its own"));
        } else if !plain(name) {
            invalid.push(Invalid::new(field, "the name of a claim, or the JSON pointer of one inside another"));
        } else {
            match text.parse() {
                Ok(expected) => drop(read.insert(name.clone(), expected)),
                Err(rule) => invalid.push(Invalid::new(field, rule)),
            }
        }
    }
    // What only looks like something may be made by somebody else: `repo:acme*` is whoever registers acme-evil.
    if invalid.is_empty() && !read.values().any(Expected::is_exact) {
        invalid.push(Invalid::new("/match", "one claim at least has to be named in full, without *"));
    }
    if invalid.is_empty() { Ok(read) } else { Err(invalid) }
}

fn check_grant(grant: &NewGrant, bounds: &Bounds<'_>) -> Result<TrustGrant, Vec<Invalid>> {
    let mut invalid = Vec::new();
    let own = bounds.maker.map_or(Actions::ALL, |maker| maker.actions);
    let mut actions = Actions::NONE;
    for (i, name) in grant.actions.iter().enumerate() {
        let field = format!("/grant/actions/{i}");
        match Actions::named(name) {
            None => invalid.push(Invalid::new(field, "pull, push or delete")),
            Some(action) if !own.contains(action) => invalid.push(Invalid::new(field, "this key may not give it")),
            Some(action) => actions = actions.union(action.closed()),
        }
    }
    if actions.is_empty() && invalid.is_empty() {
        invalid.push(Invalid::new("/grant/actions", "one action at least"));
    }
    let name = &bounds.account.name;
    let all = [format!("{name}/**")];
    let texts = grant.repositories.as_deref().unwrap_or(&all);
    let patterns = parse_patterns(name, "/grant/repositories", texts).map_err(|more| invalid.extend(more));
    let patterns = patterns.unwrap_or_default();
    if texts.is_empty() {
        invalid.push(Invalid::new("/grant/repositories", "one pattern at least; leave it out for the whole account"));
    }
    for (i, pattern) in patterns.iter().enumerate() {
        if bounds.maker.is_some_and(|maker| !maker.patterns.iter().any(|own| own.covers(pattern))) {
            invalid.push(Invalid::new(format!("/grant/repositories/{i}"), "outside the patterns of this key"));
        }
    }
    let longest = bounds.account.policy.longest(kind_of(actions));
    let longest = longest.min(bounds.maker.and_then(|maker| maker.max_ttl).unwrap_or(u64::MAX));
    let max_ttl = match grant.max_ttl_seconds {
        None => USUAL_LIFE.min(longest),
        Some(life) => {
            if !(SHORTEST..=longest).contains(&life) {
                let rule = format!("{SHORTEST} to {longest} seconds");
                invalid.push(Invalid::new("/grant/max_ttl_seconds", rule));
            }
            life
        }
    };
    if invalid.is_empty() { Ok(TrustGrant { actions, patterns, max_ttl }) } else { Err(invalid) }
}

/// What a policy has to name so that it lets in who is meant and nobody else, where the issuer is one whose claims are known.
fn check_pins(issuer: &str, conditions: &BTreeMap<String, Expected>, kind: Kind) -> Option<Invalid> {
    let exact = |name: &str| conditions.get(name).is_some_and(Expected::is_exact);
    let begins = |name: &str, start: &str| conditions.get(name).is_some_and(|text| text.as_str().starts_with(start));
    let wrong = |rule| Some(Invalid::new("/match", rule));
    if is_github(issuer) {
        if !exact("repository_id") && !exact("repository_owner_id") {
            return wrong(
                "name repository_id or repository_owner_id, without *: the name of an owner may be registered by another",
            );
        }
        // The workflow of a pull request has whatever else its repository has.
        let branch = begins("ref", "refs/heads/") || begins("ref", "refs/tags/");
        if kind == Kind::Push && !exact("environment") && !exact("job_workflow_ref") && !branch {
            return wrong(
                "to push, also name environment or job_workflow_ref, without *, or a ref under refs/heads/ or refs/tags/: \
                 otherwise any pull request's workflow could",
            );
        }
    }
    let kubernetes =
        begins("sub", SERVICE_ACCOUNT) || conditions.keys().any(|name| name.starts_with("/kubernetes.io/"));
    let account = exact("sub") && conditions.get("sub").is_some_and(|sub| is_service_account(sub.as_str()));
    if kubernetes && !account && !exact(NAMESPACE) {
        return wrong("name sub in full, system:serviceaccount:NAMESPACE:NAME, or /kubernetes.io/namespace, without *");
    }
    None
}

/// GitHub's own, an enterprise's of its own, and those of GitHub Enterprise Server.
fn is_github(issuer: &str) -> bool {
    let own = issuer.strip_prefix(GITHUB).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let host = issuer.strip_prefix("https://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
    own || host.ends_with(".ghe.com") || issuer.trim_end_matches('/').ends_with("/_services/token")
}

fn is_service_account(subject: &str) -> bool {
    let parts: Option<Vec<_>> = subject.strip_prefix(SERVICE_ACCOUNT).map(|rest| rest.split(':').collect());
    parts.is_some_and(|parts| parts.len() == 2 && parts.iter().all(|part| !part.is_empty()))
}
