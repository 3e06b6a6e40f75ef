//! What a line says.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use storage::{Account, AccountName, Generation, Time};

use super::origin::Origin;
use crate::{
    id::{Id, is_crockford},
    principal::{Actor, Holder, Principal},
};

macro_rules! happened {
    ($($name:ident $text:literal $says:literal;)*) => {
        /// What can happen: the closed list of events.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Happened {
            $(#[doc = $says] $name,)*
        }

        impl Happened {
            /// Every event, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name in a line.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// What it says, and what its target is.
            pub const fn says(self) -> &'static str {
                match self {
                    $(Self::$name => $says,)*
                }
            }
        }
    };
}

happened! {
    AccountCreate "account.create" "An account was made. Target: its name. Like all of `account.*`, a line of the account and one of the installation.";
    AccountChange "account.change" "An account's settings were changed. Target: its name.";
    AccountSuspend "account.suspend" "An account was suspended. Target: its name.";
    AccountResume "account.resume" "A suspended account was let go on. Target: its name.";
    AccountDelete "account.delete" "An account was deleted. Target: its name.";
    HostApprove "host.approve" "An account was given names of its own. Target: the names that are new. A line of the account and one of the installation.";
    HostWithdraw "host.withdraw" "Names of an account's own were taken back. Target: the names that are gone. A line of the account and one of the installation.";
    OperatorKeyCreate "operator_key.create" "An operator key was made. Target: its id. Of the installation.";
    OperatorKeyRevoke "operator_key.revoke" "An operator key was ended. Target: its id. Of the installation.";
    KeyCreate "key.create" "An access key was made. Target: its id.";
    KeyChange "key.change" "A declared access key was brought to what the configuration says now. Target: its id.";
    KeyRetire "key.retire" "An access key mints no more. Target: its id.";
    KeyRevoke "key.revoke" "An access key and all it minted were ended. Target: its id.";
    KeyUseDenied "key.use_denied" "Somebody with the right secret of a key was refused: it has ended, or may not do this. Target: the API's operation, if it came so far.";
    CredentialMint "credential.mint" "A credential was minted. Target: its id.";
    CredentialRenew "credential.renew" "A credential was minted in the place of another, which ends in ten minutes. Target: the new one's id, then the old one's.";
    CredentialRevoke "credential.revoke" "A credential was ended. Target: its id.";
    CredentialExpire "credential.expire" "The time of a credential, or of a session, was over; noticed within a day. Target: its id, then when it ended.";
    SessionOpen "session.open" "A session of the console was opened with an access key. Target: its id.";
    SessionClose "session.close" "A session was closed by whoever was in it; what was minted in it lives on. Target: its id.";
    TokenIssue "token.issue" "A credential logged in. Target: the scopes that its token was granted.";
    TokenDeny "token.deny" "A login with the right secret was refused: the credential has ended, or its account is suspended. Target: the credential's id.";
    TrustCreate "trust.create" "A trust policy was made. Target: its id.";
    TrustDelete "trust.delete" "A trust policy and all that was given by it were ended. Target: its id.";
    ExchangeOk "exchange.ok" "A token of a trusted issuer was exchanged for a credential. Target: the credential's id.";
    ExchangeDeny "exchange.deny" "A token that its issuer had signed was refused by the policy. Target: the policy's id.";
    SigningKeyRotate "signing_key.rotate" "The signing keys were turned, or replaced after a leak. Of the installation.";
    RepoPublic "repo.public" "Anybody may pull what could not be pulled by all before. Target: the patterns that are new.";
    RepoPrivate "repo.private" "What anybody could pull is private again. Target: the patterns that are gone.";
    RepoChange "repo.change" "A repository's settings were changed. Target: its name.";
    RepoDelete "repo.delete" "A repository's deletion was ordered. Target: its name.";
    ManifestPush "manifest.push" "A manifest was pushed. Target: `REPOSITORY@DIGEST`.";
    ManifestPull "manifest.pull" "A manifest was pulled; asking whether it is there is no pull. Target: `REPOSITORY@DIGEST`, by a tag `REPOSITORY:TAG@DIGEST`.";
    ManifestDelete "manifest.delete" "A manifest was deleted with its tags. Target: `REPOSITORY@DIGEST`.";
    TagMove "tag.move" "A tag was set. Target: `REPOSITORY:TAG@DIGEST`.";
    TagDelete "tag.delete" "A tag was deleted. Target: `REPOSITORY:TAG`.";
    IpDeny "ip.deny" "Somebody with the right secret came from an address that is not allowed. Target: the id of the key or credential.";
    StaleServe "stale.serve" "The log of ended rights could not be read for a while, and pulls went on because the account wants it (`on_stale`). Target: how many were decided so.";
    AuditSweep "audit.sweep" "Days of the audit were removed because their time was over. Target: the first day that is kept.";
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done.
    Ok,
    /// It was refused; `reason` says why.
    Denied,
}

/// What somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartyKind {
    /// A credential of the account.
    Credential,
    /// An access key of the account.
    Key,
    /// A session of the console, which acts as an access key of the account.
    Session,
    /// An operator key.
    OperatorKey,
    /// Whoever works on the store itself.
    Operator,
    /// Who presented a token to a trust policy, whose id it has.
    Oidc,
    /// What the configuration declares.
    Configuration,
    /// The registry by itself.
    Registry,
    /// Anybody: without a credential, or with another account's.
    Anonymous,
}

impl PartyKind {
    /// Its name in a line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Key => "key",
            Self::Session => "session",
            Self::OperatorKey => "operator_key",
            Self::Operator => "operator",
            Self::Oidc => "oidc",
            Self::Configuration => "configuration",
            Self::Registry => "registry",
            Self::Anonymous => "anonymous",
        }
    }
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: PartyKind,
    /// Its id, if it has one.
    pub id: Option<String>,
    /// What it is called: a credential's user name, the label of a key.
    pub label: Option<String>,
}

impl Party {
    /// One that has neither id nor name.
    pub const fn only(kind: PartyKind) -> Self {
        Self { kind, id: None, label: None }
    }

    pub(crate) fn key(id: &Id) -> Self {
        Self { kind: PartyKind::Key, id: Some(id.to_string()), label: None }
    }

    pub(crate) fn session(id: &Id) -> Self {
        Self { kind: PartyKind::Session, ..Self::key(id) }
    }

    pub(crate) fn operator_key(id: &Id) -> Self {
        Self { kind: PartyKind::OperatorKey, id: Some(id.to_string()), label: None }
    }

    pub(crate) fn oidc(policy: &Id, subject: Option<String>) -> Self {
        Self { kind: PartyKind::Oidc, id: Some(policy.to_string()), label: subject }
    }

    pub(crate) fn credential(id: &Id, user: String) -> Self {
        Self { kind: PartyKind::Credential, id: Some(id.to_string()), label: Some(user) }
    }

    /// Who asks under `/v2/`, as the account that is asked sees it: who another account's credential belongs to is not its affair.
    pub fn seen_from(account: &Account, who: &Principal) -> Self {
        match who.holder().filter(|holder| holder.account() == account) {
            Some(holder) => holder.into(),
            None => Self::only(PartyKind::Anonymous),
        }
    }
}

impl From<&Holder> for Party {
    fn from(holder: &Holder) -> Self {
        Self::credential(holder.id(), holder.user().to_owned())
    }
}

impl From<&Actor> for Party {
    fn from(actor: &Actor) -> Self {
        match actor {
            Actor::Store => Self { label: Some(actor.label()), ..Self::only(PartyKind::Operator) },
            Actor::OperatorKey { id } => Self::operator_key(id),
            Actor::AccessKey(key) => {
                let label = Some(key.label.to_string()).filter(|label| !label.is_empty());
                let party =
                    key.session.as_ref().map_or_else(|| Self::key(key.id()), |session| Self::session(&session.id));
                Self { label, ..party }
            }
        }
    }
}

/// One line of the audit. Every field is there, `null` where there is nothing to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    #[serde(serialize_with = "crate::time::millis::serialize")]
    pub ts: Time,
    /// What: a name of [`Happened`], or of a later release.
    pub event: String,
    /// The account that it concerns; `null`: the installation.
    pub account: Option<AccountName>,
    /// Its generation; twelve `0` for the installation.
    #[serde(rename = "gen")]
    pub generation: Generation,
    /// Who.
    pub actor: Party,
    /// What it was done to.
    pub target: Option<String>,
    /// The client's address.
    pub ip: Option<IpAddr>,
    /// What the client calls itself.
    pub user_agent: Option<String>,
    /// The id of the request, which its answer and the log carry too.
    pub request_id: Option<String>,
    /// How it went.
    pub outcome: Outcome,
    /// Why it was refused.
    pub reason: Option<String>,
}

/// An event on its way into the audit; time and origin are added there.
#[derive(Debug, Clone)]
pub struct Entry {
    happened: Happened,
    account: Option<Account>,
    /// Whose audit it stands in, if that is not the account's.
    apart: bool,
    by: Party,
    target: Option<String>,
    outcome: Outcome,
    reason: Option<String>,
}

impl Entry {
    /// An event of the installation.
    pub fn new(happened: Happened, by: impl Into<Party>) -> Self {
        Self { happened, account: None, apart: false, by: by.into(), target: None, outcome: Outcome::Ok, reason: None }
    }

    /// It concerns an account, and stands in its audit.
    #[must_use]
    pub fn of(mut self, account: &Account) -> Self {
        self.account = Some(account.clone());
        self
    }

    /// The same event as a line of the installation's audit.
    #[must_use]
    pub(crate) fn apart(mut self) -> Self {
        self.apart = true;
        self
    }

    /// What it was done to.
    #[must_use]
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into()).filter(|target| !target.is_empty());
        self
    }

    /// It was refused.
    #[must_use]
    pub fn denied(mut self, reason: impl Into<String>) -> Self {
        (self.outcome, self.reason) = (Outcome::Denied, Some(reason.into()));
        self
    }

    /// The line, and whose audit it belongs to.
    pub(super) fn line(self, now: Time) -> (Generation, Vec<u8>) {
        let generation = self.account.as_ref().map_or_else(Generation::installation, |a| a.generation().clone());
        let origin = Origin::current();
        let clean = |text: Option<String>, most| text.map(|text| cleaned(&text, most));
        let event = Event {
            ts: now,
            event: self.happened.as_str().to_owned(),
            account: self.account.map(|account| account.name().clone()),
            generation: generation.clone(),
            actor: Party { label: clean(self.by.label, LABEL), ..self.by },
            target: clean(self.target, TARGET),
            ip: origin.as_ref().map(|origin| origin.ip),
            user_agent: origin
                .as_ref()
                .and_then(|origin| origin.user_agent.as_deref())
                .map(|text| cleaned(text, AGENT)),
            request_id: origin.as_ref().map(|origin| origin.request_id.clone()),
            outcome: self.outcome,
            reason: clean(self.reason, REASON),
        };
        // Texts, numbers and nothing else: this cannot fail.
        let mut line = serde_json::to_vec(&event).unwrap_or_default();
        line.push(b'\n');
        (if self.apart { Generation::installation() } else { generation }, line)
    }
}

/// Most characters of what is kept of a text.
const LABEL: usize = 256;
const TARGET: usize = 4096;
const AGENT: usize = 256;
const REASON: usize = 1024;

/// A text that somebody wrote freely, on one line, cut short, and without what looks like a secret of ours.
fn cleaned(text: &str, most: usize) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect();
    masked(&plain)
}

/// The prefixes of our secrets and of tokens, and the shortest rest that is masked behind each.
const SECRETS: [(&str, usize); 6] =
    [("hypl_", 16), ("hyps_", 16), ("hyak_", 16), ("hyop_", 16), ("hyse_", 16), ("eyJ", 24)];

/// Whether a character can be of a secret or token: Crockford's alphabet, or base64url and the dots of a JWT.
fn of_a_secret(prefix: &str, c: char) -> bool {
    if prefix == "eyJ" {
        c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
    } else {
        c.is_ascii() && is_crockford(c.encode_utf8(&mut [0; 4]))
    }
}

fn masked(text: &str) -> String {
    let (mut shown, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(first) = rest.chars().next() {
        let found = SECRETS.iter().find_map(|(prefix, least)| {
            let behind = rest.strip_prefix(prefix)?;
            let end = behind.find(|c| !of_a_secret(prefix, c)).unwrap_or(behind.len());
            (end >= *least).then(|| (*prefix, behind.split_at(end).1))
        });
        if let Some((prefix, behind)) = found {
            shown += prefix;
            shown += "***";
            rest = behind;
        } else {
            shown.push(first);
            rest = rest.split_at(first.len_utf8()).1;
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_given_once_and_say_what_the_target_is() {
        let names: std::collections::BTreeSet<_> = Happened::ALL.iter().map(|h| h.as_str()).collect();
        assert_eq!(names.len(), Happened::ALL.len());
        for happened in Happened::ALL {
            assert!(happened.says().contains("Target: ") || *happened == Happened::SigningKeyRotate, "{happened:?}");
        }
    }

    #[test]
    fn a_secret_in_a_free_text_is_masked_and_everything_else_stays() {
        let secret = format!("hyak_{}", "0k3v9x0a2m4p6r1t".repeat(6).get(..88).unwrap());
        let token = format!("eyJ{}.{}.{}", "a".repeat(40), "b-_".repeat(20), "c".repeat(86));
        for (text, kept) in [
            (format!("curl/8 {secret}"), "curl/8 hyak_***".to_owned()),
            (format!("{secret},{secret}x u"), "hyak_***,hyak_*** u".to_owned()),
            (format!("({token})"), "(eyJ***)".to_owned()),
            ("hyak_short eyJhbGci".to_owned(), "hyak_short eyJhbGci".to_owned()),
            ("containerd/1.6.20 über\n\u{7f}x".to_owned(), "containerd/1.6.20 über  x".to_owned()),
        ] {
            assert_eq!(cleaned(&text, 1000), kept);
        }
        assert_eq!(cleaned(&"ü".repeat(300), AGENT).chars().count(), AGENT);
        // A text is cut before it is masked, so a secret that is cut in two is masked too.
        assert!(!cleaned(&format!("{}{secret}", "x".repeat(220)), AGENT).contains("0k3v9x0a2m4p6r1t"));
    }
}
