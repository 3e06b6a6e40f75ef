//! The only file that spells keys.
//!
//! `G` = generation, `R!` = repository path inside the account with `/` written `!`, `D`,`M` = digest with `-` for `:`,
//! `X` = data id. What an account owns lies under its generation, so a recreated account cannot name its predecessor's keys.
//!
//! | key | family | content |
//! | --- | --- | --- |
//! | `sys/format` | record | layout number, lowest release, state ([`crate::format`]) |
//! | `sys/replicas/<id>` | record | a running server |
//! | `sys/copied` | record | whose copy this store is, until it is served ([`crate::copy`]) |
//! | `sys/install`, `sys/keys`, `sys/authlog`, `sys/public`, `sys/op/<ID>`, `sys/host/<NAME>` | record | `auth`'s; storage never reads them |
//! | `gen/<G>` | record | account name as a label, live or deleted |
//! | `acct/<NAME>` | record | name to generation; `auth`'s |
//! | `auth/<G>/key\|cred\|trust\|count/<ID>`, `auth/<G>/jti/<hash>`, `auth/<G>/public` | record | `auth`'s |
//! | `audit/<G>/<day>/<time>-<chain>-<seq>` | plain | an audit batch; a chain is one replica's, of one account |
//! | `t/<G>/c/<R!>` | record | repository: created, settings, `deleting` |
//! | `t/<G>/n/<R!>` | plain | what was pushed to R last: kind and time, advice only |
//! | `t/<G>/r/<R!>/t/<tag>` | record | tag |
//! | `t/<G>/r/<R!>/m/<M>` | record | manifest: header line and exact bytes |
//! | `t/<G>/r/<R!>/i/<M>.<nonce>` | plain | pending: the references of a manifest in flight |
//! | `t/<G>/r/<R!>/y/<M>/<tag>/<nonce>` | plain | mark: the tag may point at M; the release before writes no nonce |
//! | `t/<G>/r/<R!>/f/<S>/<th>-<M>` | plain | referrer descriptor; `f/<S>/!fallback` marks a fallback tag |
//! | `t/<G>/r/<R!>/p/<M>/<by>` | plain | mark: pinned by a published version |
//! | `t/<G>/r/<R!>/l/<M>`, `l/!<tag>` | plain | day of the last pull; `l/.stamp` the store's time when a pass of retention began |
//! | `t/<G>/r/<R!>/b/<D>` | record | member: R contains D, its bytes are X |
//! | `t/<G>/r/<R!>/g` | record | collection cursor |
//! | `t/<G>/b/<D>` | record | dedupe hint, never authoritative |
//! | `t/<G>/s/<X>/<R!>` | plain | share: R may use X besides its origin |
//! | `t/<G>/retention` | record | which tags and manifests of the account go by themselves |
//! | `t/<G>/q/<counter>` | record | what one process has added and removed; `q/!base` the last recount |
//! | `t/<G>/u/<id>` | record | upload session; `u/<id>.tail.<rev>.<k>` (plain) its unwritten bytes |
//! | `z/<hour>/<G>/<R!>` | plain | R had garbage-making work in this hour |
//! | `x/<hour>/<G>/<X>`, `x/.stamp/<process>` | plain | trash intent; the store's time of a run over them |
//! | `sys/hold/<id>` | plain | a backup or a move is under way: no bytes are deleted |
//! | `w/<kind>/<hour>/<G>/<id>` | plain | somebody must finish this; for a deletion `id` is `R!` |
//!
//! Two families, two types: a [`RecordKey`] is moved by compare-and-swap only, a [`PlainKey`] is unique or idempotent and is
//! put and deleted blindly. The wrong call does not compile.

use std::fmt;

use chrono::SubsecRound;

use crate::{Account, AccountName, Digest, Generation, Repository, Tag, clock::Time};

/// The key of a record: read, created, updated and removed by compare-and-swap.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordKey(String);

/// The key of a mark, an intent, a share, a tail: put and deleted without a condition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlainKey(String);

/// A prefix to page under; always ends in `/`, `-` or another separator of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Prefix(String);

macro_rules! key_text {
    ($($name:ident),*) => {$(
        impl $name {
            /// The key as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
key_text!(RecordKey, PlainKey, Prefix);

impl Prefix {
    /// A record that a page under this prefix named.
    pub fn record(&self, name: &str) -> RecordKey {
        RecordKey(format!("{}{name}", self.0))
    }

    /// A plain key that a page under this prefix named.
    pub fn plain(&self, name: &str) -> PlainKey {
        PlainKey(format!("{}{name}", self.0))
    }
}

/// The repositories of an account whose path begins with `start`, whatever follows; the names of its page lack `start`.
pub fn repositories_from(account: &Account, start: &str) -> Prefix {
    Prefix(format!("t/{}/c/{}", account.generation(), bang(start)))
}

/// Where the bytes of a blob lie: a generation and a random id that is never used again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DataId {
    generation: Generation,
    id: Box<str>,
}

impl DataId {
    /// A new id, 130 random bits.
    pub fn random(account: &Account) -> Self {
        Self { generation: account.generation().clone(), id: crate::random_text(26).into() }
    }

    /// Reads an id back out of a record of `generation`; `None` if it is not one.
    pub fn parse(generation: &Generation, id: &str) -> Option<Self> {
        let valid = id.len() == 26 && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        valid.then(|| Self { generation: generation.clone(), id: id.into() })
    }

    /// The account's generation.
    pub fn generation(&self) -> &Generation {
        &self.generation
    }

    /// The id alone, as records carry it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The object's key on a store of bytes that has keys.
    pub fn object_key(&self) -> String {
        format!("t/{}/d/{}", self.generation, self.id)
    }
}

/// Which audit batch: when it was written, so that a page by name is a page by time, and its place in its chain.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AuditBatch {
    at: Time,
    chain: Box<str>,
    seq: u64,
}

/// Digits of a sequence number: as many as never run out.
const SEQ_DIGITS: usize = 10;
/// `2026-11-21/131503042`: day, and time of day to the millisecond.
const AUDIT_TIME: &str = "%Y-%m-%d/%H%M%S%3f";

impl AuditBatch {
    /// The batch `seq` of a chain, written at `at`.
    pub fn new(at: Time, chain: &str, seq: u64) -> Self {
        Self { at: at.trunc_subsecs(3), chain: chain.into(), seq }
    }

    /// The name that a page under [`audits`] begins after to show what was written from `at` on.
    pub fn written_from(at: Time) -> String {
        at.format(AUDIT_TIME).to_string()
    }

    /// Reads a name that a page under [`audits`] gave; `None` if it is none of a batch.
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.rsplitn(3, '-');
        let (seq, chain, at) = (parts.next()?, parts.next()?, parts.next()?);
        let at = chrono::NaiveDateTime::parse_from_str(at, AUDIT_TIME).ok()?.and_utc();
        let batch = Self { at, chain: chain.into(), seq: seq.parse().ok()? };
        (batch.to_string() == name).then_some(batch)
    }

    /// When it was written.
    pub fn at(&self) -> Time {
        self.at
    }

    /// The day under which it lies.
    pub fn day(&self) -> chrono::NaiveDate {
        self.at.date_naive()
    }

    /// Its chain.
    pub fn chain(&self) -> &str {
        &self.chain
    }

    /// Its place in the chain, from 0.
    pub fn seq(&self) -> u64 {
        self.seq
    }
}

impl fmt::Display for AuditBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{:0SEQ_DIGITS$}", Self::written_from(self.at), self.chain, self.seq)
    }
}

/// `/` written `!`, so that a repository is one segment of a key.
pub(crate) fn bang(path: &str) -> String {
    path.replace('/', "!")
}

fn repository(repository: &Repository) -> String {
    format!("t/{}/r/{}", repository.account().generation(), bang(repository.name().path()))
}

/// The tag of a mark that a page under [`tagged_of`] named.
pub(crate) fn tag_of_mark(name: &str) -> Option<Tag> {
    name.split('/').next()?.parse().ok()
}

/// The hour of a work queue, sortable: `2026112113`.
fn hour(at: Time) -> String {
    at.format("%Y%m%d%H").to_string()
}

/// What goes on while a store is frozen to be moved: the audit, which is copied last, and servers that say that they are there.
pub(crate) fn goes_on(key: &str) -> bool {
    ["audit/", "sys/replicas/"].iter().any(|prefix| key.starts_with(prefix))
}

macro_rules! keys {
    ($($(#[$doc:meta])* $kind:ident $name:ident($($arg:ident: $type:ty),*) = $format:literal $(, $value:expr)*;)*) => {$(
        $(#[$doc])*
        pub fn $name($($arg: $type),*) -> $kind {
            $kind(format!($format $(, $value)*))
        }
    )*};
}

keys! {
    /// Layout number and state of the store.
    RecordKey format() = "sys/format";
    /// A running server.
    RecordKey replica(id: &str) = "sys/replicas/{id}";
    /// All running servers.
    Prefix replicas() = "sys/replicas/";
    /// Whose copy this store is.
    RecordKey copied() = "sys/copied";
    /// The installation's identity and MAC roots (`auth`).
    RecordKey install() = "sys/install";
    /// Signing keys (`auth`).
    RecordKey signing_keys() = "sys/keys";
    /// The revocation log (`auth`).
    RecordKey authlog() = "sys/authlog";
    /// Accounts with something public (`auth`).
    RecordKey public_accounts() = "sys/public";
    /// An operator key (`auth`).
    RecordKey operator_key(id: &str) = "sys/op/{id}";
    /// All operator keys.
    Prefix operator_keys() = "sys/op/";
    /// An approved account host (`auth`).
    RecordKey host(name: &str) = "sys/host/{name}";
    /// A probe of the store at start; one fixed key, so that probes leave one object at most.
    RecordKey probe() = "sys/probe/record";
    /// The plain-key half of the probe.
    PlainKey probe_plain(id: &str) = "sys/probe/{id}";
    /// All account hosts.
    Prefix hosts() = "sys/host/";
    /// The keys, credentials and policies of every account: for copies alone.
    Prefix authorities() = "auth/";
    /// The audit of every account: for copies alone.
    Prefix all_audits() = "audit/";
    /// The probe's own prefix.
    Prefix probes() = "sys/probe/";

    /// A generation: live or deleted.
    RecordKey generation(generation: &Generation) = "gen/{generation}";
    /// All generations.
    Prefix generations() = "gen/";
    /// Name to generation (`auth`).
    RecordKey account(name: &AccountName) = "acct/{name}";
    /// All accounts.
    Prefix accounts() = "acct/";

    /// An access key (`auth`).
    RecordKey access_key(account: &Account, id: &str) = "auth/{}/key/{id}", account.generation();
    /// The access keys of an account, oldest first.
    Prefix access_keys(account: &Account) = "auth/{}/key/", account.generation();
    /// A credential (`auth`).
    RecordKey credential(account: &Account, id: &str) = "auth/{}/cred/{id}", account.generation();
    /// The credentials of an account, oldest first.
    Prefix credentials(account: &Account) = "auth/{}/cred/", account.generation();
    /// Live credentials of a key, by hour of expiry (`auth`).
    RecordKey credential_count(account: &Account, key: &str) = "auth/{}/count/{key}", account.generation();
    /// A trust policy (`auth`).
    RecordKey trust(account: &Account, id: &str) = "auth/{}/trust/{id}", account.generation();
    /// The trust policies of an account, oldest first.
    Prefix trusts(account: &Account) = "auth/{}/trust/", account.generation();
    /// A used token of somebody else's (`auth`).
    RecordKey used_token(account: &Account, hash: &str) = "auth/{}/jti/{hash}", account.generation();
    /// The used tokens of an account.
    Prefix used_tokens(account: &Account) = "auth/{}/jti/", account.generation();
    /// What is public in an account (`auth`).
    RecordKey public(account: &Account) = "auth/{}/public", account.generation();
    /// An audit batch (`auth`).
    PlainKey audit(generation: &Generation, batch: &AuditBatch) = "audit/{generation}/{batch}";
    /// The audit batches of a generation.
    Prefix audits(generation: &Generation) = "audit/{generation}/";

    /// A repository's own record.
    RecordKey repository_record(r: &Repository) = "t/{}/c/{}", r.account().generation(), bang(r.name().path());
    /// The repositories of an account.
    Prefix repositories(account: &Account) = "t/{}/c/", account.generation();
    /// What was pushed to a repository last.
    PlainKey news(r: &Repository) = "t/{}/n/{}", r.account().generation(), bang(r.name().path());
    /// What was pushed last to each repository of an account.
    Prefix all_news(account: &Account) = "t/{}/n/", account.generation();
    /// A tag.
    RecordKey tag(r: &Repository, tag: &Tag) = "{}/t/{tag}", repository(r);
    /// The tags of a repository.
    Prefix tags(r: &Repository) = "{}/t/", repository(r);
    /// A manifest.
    RecordKey manifest(r: &Repository, m: &Digest) = "{}/m/{}", repository(r), m.dashed();
    /// The manifests of a repository.
    Prefix manifests(r: &Repository) = "{}/m/", repository(r);
    /// The references of a manifest in flight.
    PlainKey pending(r: &Repository, m: &Digest, nonce: &str) = "{}/i/{}.{nonce}", repository(r), m.dashed();
    /// All manifests in flight.
    Prefix pendings(r: &Repository) = "{}/i/", repository(r);
    /// Mark: this tag may point at this manifest, because of one push. The release before has one mark for all pushes, without
    /// the nonce.
    PlainKey tagged(r: &Repository, m: &Digest, tag: &Tag, nonce: &str) = "{}/y/{}/{tag}/{nonce}", repository(r), m.dashed();
    /// The mark of the release before.
    PlainKey tagged_once(r: &Repository, m: &Digest, tag: &Tag) = "{}/y/{}/{tag}", repository(r), m.dashed();
    /// The marks of one tag and one manifest.
    Prefix tagged_by(r: &Repository, m: &Digest, tag: &Tag) = "{}/y/{}/{tag}/", repository(r), m.dashed();
    /// The marks of the tags that may point at a manifest ([`tag_of_mark`]).
    Prefix tagged_of(r: &Repository, m: &Digest) = "{}/y/{}/", repository(r), m.dashed();
    /// A referrer of a subject; `type_hash` is 8 hex characters of the artifact type's sha256.
    PlainKey referrer(r: &Repository, subject: &Digest, type_hash: &str, m: &Digest) = "{}/f/{}/{type_hash}-{}", repository(r), subject.dashed(), m.dashed();
    /// Mark: a fallback tag exists for this subject.
    PlainKey referrer_fallback(r: &Repository, subject: &Digest) = "{}/f/{}/!fallback", repository(r), subject.dashed();
    /// The referrers of a subject.
    Prefix referrers(r: &Repository, subject: &Digest) = "{}/f/{}/", repository(r), subject.dashed();
    /// The pins of one manifest.
    Prefix pins_of(r: &Repository, m: &Digest) = "{}/p/{}/", repository(r), m.dashed();
    /// The marks of all tags of a repository, by manifest.
    Prefix tagged_all(r: &Repository) = "{}/y/", repository(r);
    /// The referrers of all subjects of a repository.
    Prefix referrers_all(r: &Repository) = "{}/f/", repository(r);
    /// The days of last pulls in a repository.
    Prefix last_pulls(r: &Repository) = "{}/l/", repository(r);
    /// Every pin of a repository.
    Prefix pins(r: &Repository) = "{}/p/", repository(r);
    /// Day of the last pull of a manifest.
    PlainKey last_pull(r: &Repository, m: &Digest) = "{}/l/{}", repository(r), m.dashed();
    /// Day of the last pull of a tag.
    PlainKey last_pull_tag(r: &Repository, tag: &Tag) = "{}/l/!{tag}", repository(r);
    /// The store's time when a pass of retention began.
    PlainKey retention_stamp(r: &Repository) = "{}/l/.stamp", repository(r);
    /// Where the collection of a repository stands; advice only.
    RecordKey cursor(r: &Repository) = "{}/g", repository(r);
    /// Membership of a blob.
    RecordKey member(r: &Repository, d: &Digest) = "{}/b/{}", repository(r), d.dashed();
    /// Membership of a blob, by the repository's path: for whoever has no more of it.
    RecordKey member_at(generation: &Generation, path: &str, d: &Digest) = "t/{generation}/r/{}/b/{}", bang(path), d.dashed();
    /// The blobs of a repository.
    Prefix members(r: &Repository) = "{}/b/", repository(r);
    /// Dedupe hint of an account.
    RecordKey hint(account: &Account, d: &Digest) = "t/{}/b/{}", account.generation(), d.dashed();
    /// All dedupe hints of an account.
    Prefix hints(account: &Account) = "t/{}/b/", account.generation();
    /// Share: the repository may use X besides its origin.
    PlainKey share(x: &DataId, r: &Repository) = "t/{}/s/{}/{}", x.generation(), x.id(), bang(r.name().path());
    /// The shares of X.
    Prefix shares(x: &DataId) = "t/{}/s/{}/", x.generation(), x.id();
    /// What goes by itself in an account.
    RecordKey retention(account: &Account) = "t/{}/retention", account.generation();
    /// A usage counter; `!base` for what they count from.
    RecordKey usage(account: &Account, counter: &str) = "t/{}/q/{counter}", account.generation();
    /// All usage counters of an account.
    Prefix usages(account: &Account) = "t/{}/q/", account.generation();
    /// An upload session.
    RecordKey upload(account: &Account, id: &str) = "t/{}/u/{id}", account.generation();
    /// The upload sessions of an account, oldest first, with their tails between them.
    Prefix uploads(account: &Account) = "t/{}/u/", account.generation();
    /// One piece of a session's tail.
    PlainKey upload_tail(account: &Account, id: &str, rev: u64, piece: usize) = "t/{}/u/{id}.tail.{rev}.{piece}", account.generation();
    /// Mark: the repository had garbage-making work in this hour.
    PlainKey dirty(at: Time, r: &Repository) = "z/{}/{}/{}", hour(at), r.account().generation(), bang(r.name().path());
    /// The marks of repositories that have work for collection, by hour.
    Prefix dirty_all() = "z/";
    /// A repository is to be deleted.
    PlainKey repository_deletion(at: Time, r: &Repository) = "w/delete/{}/{}/{}", hour(at), r.account().generation(), bang(r.name().path());
    /// The repositories to be deleted, by the hour of the order.
    Prefix repository_deletions() = "w/delete/";
    /// Trash intent for X.
    PlainKey trash(at: Time, x: &DataId) = "x/{}/{}/{}", hour(at), x.generation(), x.id();
    /// All trash intents, by hour; the stamps before them.
    Prefix trash_all() = "x/";
    /// The store's time at the start of one process's run over the trash.
    PlainKey trash_stamp(process: &str) = "x/.stamp/{process}";
    /// The stamps of all processes.
    Prefix trash_stamps() = "x/.stamp/";
    /// A backup or a move is under way.
    PlainKey hold(id: &str) = "sys/hold/{id}";
    /// All of them.
    Prefix holds() = "sys/hold/";
    /// What an account stores, its data objects among it where records and bytes are in one bucket.
    Prefix stored(generation: &Generation) = "t/{generation}/";
    /// The keys, credentials and policies of an account.
    Prefix authority(generation: &Generation) = "auth/{generation}/";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_batch_is_read_back_from_its_name_and_sorts_by_time() {
        let at = |millis: i64| chrono::DateTime::from_timestamp_millis(1_795_267_203_042 + millis).unwrap();
        let batch = AuditBatch::new(at(0), "0k3v9x0a2m4p6r1t", 7);
        assert_eq!(batch.to_string(), "2026-11-21/132003042-0k3v9x0a2m4p6r1t-0000000007");
        assert_eq!(AuditBatch::parse(&batch.to_string()), Some(batch.clone()));
        assert!(AuditBatch::new(at(1), "0", 0).to_string() > batch.to_string());
        assert!(
            AuditBatch::written_from(at(0)) < batch.to_string() && AuditBatch::written_from(at(1)) > batch.to_string()
        );
        for bad in ["", "2026-11-21", "2026-11-21/132003042-x-7", "2026-11-21/132003042-0000000007", "x/y-z-0000000007"]
        {
            assert_eq!(AuditBatch::parse(bad), None, "{bad}");
        }
    }
}
