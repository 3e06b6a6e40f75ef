//! The situations in which a client is refused, and the servers on which they happen.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use conformance::{
    AccountUnderTest, Caller, Credential, Harness, Store,
    fixture::{self, Format},
    push,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What a client tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Login,
    Pull,
    Push,
    Delete,
}

impl Verb {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }
}

/// One thing that a client tries and must not get.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    /// The name of the situation, as fixtures and page spell it.
    pub(super) situation: &'static str,
    pub(super) verb: Verb,
    /// `127.0.0.1:PORT`.
    pub(super) host: String,
    pub(super) repository: &'static str,
    pub(super) tag: &'static str,
    pub(super) key: Option<Credential>,
}

/// The tag of all that is there: charts take nothing but versions.
pub(super) const TAG: &str = "1.0.0";
const THROTTLED: &str = "too many failures";

/// Servers for one client, so that no other's failures are counted with its own.
#[derive(Debug)]
pub(super) struct World {
    /// Loopback, accounts in every state.
    pub(super) main: Harness,
    /// `serve --read-only`.
    frozen: Harness,
    /// Listens everywhere under a public name alone.
    named: Harness,
}

impl World {
    pub(super) async fn start() -> Self {
        let mut named = Harness::stopped(Store::Local).await;
        named.listen_at(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        named.serve_with(&["--public-url", "https://registry.example"]);
        let (main, mut frozen, ()) = tokio::join!(Harness::on(Store::Local), Harness::on(Store::Local), named.boot());
        let image = fixture::image("messages", Format::Oci);
        {
            let account = frozen.account("acme").await;
            push::bundle(&account.caller(&account.push().await), "acme/hello", TAG, &image).await;
        }
        frozen.serve_with(&["--read-only"]);
        frozen.restart().await;
        let world = Self { main, frozen, named };
        for account in ["acme", "frozen", "full", "asleep"] {
            let account = world.main.account(account).await;
            let caller = account.caller(&account.push().await);
            push::bundle(&caller, &account.repository("hello"), TAG, &image).await;
        }
        world
    }

    /// Every attempt, in the order of the page.
    pub(super) async fn attempts(&self) -> Vec<Attempt> {
        use Verb::{Delete, Login, Pull, Push};
        let mut all = Vec::new();
        let main = self.main.host();
        let mut add = |situation, host: &str, repository, tag, key: Option<&Credential>, verbs: &[Verb]| {
            all.extend(verbs.iter().map(|&verb| Attempt {
                situation,
                verb,
                host: host.to_owned(),
                repository,
                tag,
                key: key.cloned(),
            }));
        };
        let hello = "acme/hello";
        let acme = self.main.account("acme").await;
        let (push, pull) = (acme.push().await, acme.pull().await);
        add("no key", &main, hello, TAG, None, &[Pull, Push]);
        add("wrong key", &main, hello, TAG, Some(&push.with_wrong_password()), &[Login, Pull, Push]);
        add("expired key", &main, hello, TAG, Some(&acme.expired().await), &[Login, Pull, Push]);
        add("revoked key", &main, hello, TAG, Some(&acme.revoked().await), &[Login, Pull, Push]);
        add("access key", &main, hello, TAG, Some(&access_key(&self.main, &acme).await), &[Login, Pull]);
        let stranger = self.main.account("stranger").await.push_delete().await;
        add("another account", &main, hello, TAG, Some(&stranger), &[Pull, Push]);
        let narrow = acme.mint(&["--kind", "push", "--repository", "acme/web/*"]).await;
        add("outside the key's patterns", &main, hello, TAG, Some(&narrow), &[Pull, Push]);
        add("push with a pull key", &main, "acme/new", TAG, Some(&pull), &[Push]);
        add("delete without the right", &main, hello, TAG, Some(&push), &[Delete]);
        add("name of one segment", &main, "hello", TAG, Some(&push), &[Pull, Push]);
        add("absent tag", &main, hello, "9.9.9", Some(&pull), &[Pull]);
        add("absent repository", &main, "acme/absent", TAG, Some(&pull), &[Pull]);
        let named = self.named.account("acme").await.push().await;
        add("unlisted host", &self.named.host(), hello, TAG, Some(&named), &[Login, Pull, Push]);
        let frozen = self.main.account("frozen").await;
        let frozen_key = frozen.push_delete().await;
        self.main.hythe(&["account", "set", "frozen", "--state", "read-only"]).await;
        add("read-only account", &main, "frozen/new", TAG, Some(&frozen_key), &[Push]);
        add("read-only account", &main, "frozen/hello", TAG, Some(&frozen_key), &[Delete]);
        let full = self.main.account("full").await.push().await;
        self.main.hythe(&["account", "set", "full", "--quota", "64B"]).await;
        add("quota used up", &main, "full/new", TAG, Some(&full), &[Push]);
        let still = self.frozen.account("acme").await.push_delete().await;
        add("read-only server", &self.frozen.host(), hello, TAG, Some(&still), &[Push, Delete]);
        let asleep_key = self.main.account("asleep").await.push().await;
        self.main.hythe(&["account", "set", "asleep", "--state", "suspended"]).await;
        self.main.heard().await;
        add("suspended account", &main, "asleep/hello", TAG, Some(&asleep_key), &[Login, Pull, Push]);
        add(THROTTLED, &main, hello, TAG, Some(&push.with_wrong_password()), &[Pull]);
        all
    }

    /// What has to go on while the attempt is made: failures enough that the next is one too many.
    pub(super) async fn prepare(&self, attempt: &Attempt) -> Option<DropGuard> {
        let key = attempt.key.as_ref().filter(|_| attempt.situation == THROTTLED)?;
        let caller = Caller::basic(self.main.client(), &key.username, &key.password);
        while caller.ask_token(&[]).await.status != 429 {}
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        // Often enough that the one failure that is allowed in a second is never the client's.
        let mut beat = tokio::time::interval(Duration::from_millis(2));
        #[expect(clippy::disallowed_methods, reason = "it ends with the attempt")]
        tokio::spawn(async move {
            while !stopped.is_cancelled() {
                beat.tick().await;
                let _one_too_many = caller.ask_token(&[]).await;
            }
        });
        Some(stop.drop_guard())
    }

    /// The text without what differs from run to run.
    pub(super) fn normal(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for harness in [&self.main, &self.frozen, &self.named] {
            text = text.replace(&harness.host(), "HOST").replace(&harness.scratch("").display().to_string(), "DIR/");
        }
        let mut lines: Vec<String> = Vec::new();
        for line in text.lines().map(|line| plain(line.trim_end())) {
            // ctr says so of itself now and then, whatever it failed at.
            if lines.last() != Some(&line) && !line.contains("active check failed") {
                lines.push(line);
            }
        }
        lines.join("\n")
    }
}

/// Shown as a user would try it: user name and password of the key's own kind.
async fn access_key(harness: &Harness, account: &AccountUnderTest<'_>) -> Credential {
    let made = harness.hythe(&["key", "create", account.name(), "--output", "json"]).await;
    let document: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
    let text = |name: &str| document[name].as_str().unwrap().to_owned();
    Credential {
        id: text("id"),
        username: account.name().to_owned(),
        password: text("key"),
        document: document.clone(),
    }
}

/// Replaces times, digests and ids.
fn plain(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        if let Some(length) = time(rest) {
            out.push_str("TIME");
            rest = &rest[length..];
        } else if let Some(after) = digest(rest) {
            out.push_str("sha256:DIGEST");
            rest = after;
        } else if let Some((kind, after)) = id(rest) {
            out.push_str(kind);
            out.push_str("ID");
            rest = after;
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// The length of a date and time at the start, with its zone.
fn time(text: &str) -> Option<usize> {
    const FORM: &[u8] = b"0000-00-00T00:00:00";
    let bytes = text.as_bytes();
    let fits = FORM.iter().enumerate().all(|(at, form)| match (form, bytes.get(at)) {
        (b'0', Some(byte)) => byte.is_ascii_digit(),
        (b'-', Some(byte)) => matches!(byte, b'-' | b'/'),
        (b'T', Some(byte)) => matches!(byte, b'T' | b' '),
        (form, Some(byte)) => form == byte,
        (_, None) => false,
    });
    if !fits {
        return None;
    }
    let after = &text[FORM.len()..];
    let zone = after.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | ':' | 'Z'))).unwrap_or(after.len());
    // The colon of "TIME: message" is not a zone's.
    let zone = after[..zone].trim_end_matches(':').len();
    Some(FORM.len() + zone)
}

fn digest(text: &str) -> Option<&str> {
    let hex = text.strip_prefix("sha256:")?;
    let length = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
    (length == 64).then(|| &hex[length..])
}

/// The id of a user name or of the installation at the start: `pull.ID`, `push.ID`, `hythe-ID`.
fn id(text: &str) -> Option<(&'static str, &str)> {
    let (kind, id) =
        ["pull.", "push.", "hythe-"].into_iter().find_map(|kind| Some((kind, text.strip_prefix(kind)?)))?;
    let length = id.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(id.len());
    (length == 16).then(|| (kind, &id[length..]))
}

#[test]
fn what_differs_from_run_to_run_is_replaced() {
    let digest = "a".repeat(64);
    let line =
        format!("2026/11/21 15:12:55 at 2026-11-21 15:12:55 UTC, time=\"2026-11-21T15:12:55.1Z\" sha256:{digest}: no");
    assert_eq!(plain(&line), "TIME at TIME UTC, time=\"TIME\" sha256:DIGEST: no");
    assert_eq!(plain("acme.push.0k3v9x0a2m4p6r1t pull.me"), "acme.push.ID pull.me");
}
