//! The same for `/api/v1`: every operation, asked for by every key and by everything that is none.

use std::collections::HashMap;

use auth::{AccountChange, Actor, NewKey, PolicyChange, Role};
use conformance::{Answer, Request};
use http::Method;
use registry::api::ApiOperation;

use super::{
    Seen,
    caller::keys,
    oracle::{Principal, Stage},
    visitor,
    world::{ACME, ALLOWED, BETA, FROZEN, HALTED, PHOENIX, PRIVATE, TAG, World, order},
};

/// Who calls: the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// No living key, or one in another dress than a Bearer.
    Unknown,
    /// An owner's key.
    Owner,
    /// A publisher's.
    Publisher,
    /// A publisher's that may delete.
    Deleter,
    /// An installer's.
    Installer,
    /// A viewer's.
    Viewer,
    /// An owner's that was retired.
    Retired,
    /// An owner's, of a read-only account or at a read-only server.
    Frozen,
    /// An owner's, from an address that is not allowed.
    Away,
    /// A session of an owner's key.
    Session,
    /// The same as a page of another origin makes a browser send it.
    ForeignSession,
    /// A session of a viewer's.
    ViewerSession,
    /// An operator key.
    Operator,
    /// The same at a read-only server.
    FrozenOperator,
}

impl Caller {
    pub(super) const ALL: [Self; 14] = [
        Self::Unknown,
        Self::Owner,
        Self::Publisher,
        Self::Deleter,
        Self::Installer,
        Self::Viewer,
        Self::Retired,
        Self::Frozen,
        Self::Away,
        Self::Session,
        Self::ForeignSession,
        Self::ViewerSession,
        Self::Operator,
        Self::FrozenOperator,
    ];

    /// As the page calls it.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Unknown => "nobody, any credential or token, a dead key or session, one in another dress",
            Self::Owner => "owner's key",
            Self::Publisher => "publisher's key",
            Self::Deleter => "publisher's key with delete",
            Self::Installer => "installer's key",
            Self::Viewer => "viewer's key",
            Self::Retired => "owner's key, retired",
            Self::Frozen => "owner's key, account or server read-only",
            Self::Away => "owner's key, address not allowed",
            Self::Session => "owner's session",
            Self::ForeignSession => "owner's session, from another origin's page",
            Self::ViewerSession => "viewer's session",
            Self::Operator => "operator key",
            Self::FrozenOperator => "operator key, server read-only",
        }
    }
}

/// What must come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The operation's own answer.
    Done,
    /// 401 and a challenge without a realm.
    Unknown,
    /// 403.
    Denied,
    /// 405.
    Frozen,
}

impl Verdict {
    /// As the page shows it.
    pub(super) const fn cell(self) -> &'static str {
        match self {
            Self::Done => "**yes**",
            Self::Unknown => "401",
            Self::Denied => "403",
            Self::Frozen => "405",
        }
    }
}

/// What an operation is, for who may call it.
#[derive(Debug, Clone, Copy)]
enum Need {
    /// A living key.
    Any,
    /// An operator key, to read.
    OperatorReads,
    /// An operator key, to write.
    OperatorWrites,
    /// To read: operator, owner, publisher, viewer.
    ReadAccount,
    /// To write: operator, owner.
    ChangeAccount,
    /// To read: owner, publisher, viewer.
    Read,
    /// To read: owner, viewer.
    ReadKeys,
    /// To write: owner.
    Write,
    /// To end a key or a trust policy, read-only and retired or not: owner.
    EndKey,
    /// To mint, read-only or not: owner, publisher, installer.
    Mint,
    /// To end a credential, read-only and retired or not: owner, publisher; an installer its own.
    EndCredential,
    /// To delete content: owner; a publisher whose key may delete.
    DeleteContent,
    /// To read how much there is: operator, owner, publisher, viewer.
    ReadUsage,
    /// To open a session, read-only or not: every role, by the key itself.
    OpenSession,
    /// To ask about a session and to close it: the session.
    OwnSession,
}

const fn need(operation: ApiOperation) -> Need {
    use ApiOperation as O;
    match operation {
        O::OpenApi => Need::Any,
        O::AccountList | O::UsageList | O::InstallationAuditList => Need::OperatorReads,
        O::AccountCreate | O::AccountDelete => Need::OperatorWrites,
        O::AccountGet => Need::ReadAccount,
        O::AccountChange => Need::ChangeAccount,
        O::PublicGet
        | O::CredentialList
        | O::CredentialGet
        | O::RepositoryList
        | O::TagList
        | O::RetentionGet
        | O::RetentionTest => Need::Read,
        O::KeyList | O::KeyGet | O::TrustList | O::TrustGet | O::AuditList => Need::ReadKeys,
        O::PublicSet | O::KeyCreate | O::TrustCreate | O::RepositoryChange | O::RetentionSet => Need::Write,
        O::KeyRetire | O::KeyRevoke | O::TrustDelete => Need::EndKey,
        O::CredentialMint => Need::Mint,
        O::CredentialRevoke => Need::EndCredential,
        O::RepositoryDelete | O::TagDelete => Need::DeleteContent,
        O::UsageGet => Need::ReadUsage,
        O::SessionOpen => Need::OpenSession,
        O::SessionGet | O::SessionClose => Need::OwnSession,
    }
}

/// One row: what must happen in the caller's own account. A publisher's key that may delete and sessions have no place in it:
/// [`expected`] knows the few things in which they differ.
const fn row(need: Need) -> [Verdict; 10] {
    use Verdict::{Denied, Done, Frozen, Unknown};
    // unknown, owner, publisher, installer, viewer, retired, frozen, away, operator, frozen operator
    match need {
        Need::Any => [Unknown, Done, Done, Done, Done, Done, Done, Denied, Done, Done],
        Need::OperatorReads => [Unknown, Denied, Denied, Denied, Denied, Denied, Denied, Denied, Done, Done],
        Need::OperatorWrites => [Unknown, Denied, Denied, Denied, Denied, Denied, Denied, Denied, Done, Frozen],
        Need::ReadAccount | Need::ReadUsage => [Unknown, Done, Done, Denied, Done, Done, Done, Denied, Done, Done],
        Need::ChangeAccount => [Unknown, Done, Denied, Denied, Denied, Denied, Frozen, Denied, Done, Frozen],
        Need::Read => [Unknown, Done, Done, Denied, Done, Done, Done, Denied, Denied, Denied],
        Need::ReadKeys => [Unknown, Done, Denied, Denied, Done, Done, Done, Denied, Denied, Denied],
        Need::Write | Need::DeleteContent => {
            [Unknown, Done, Denied, Denied, Denied, Denied, Frozen, Denied, Denied, Denied]
        }
        Need::EndKey => [Unknown, Done, Denied, Denied, Denied, Done, Done, Denied, Denied, Denied],
        Need::Mint => [Unknown, Done, Done, Done, Denied, Denied, Done, Denied, Denied, Denied],
        // Of the ids that are tried here none is of a credential that the installer minted.
        Need::EndCredential => [Unknown, Done, Done, Denied, Denied, Done, Done, Denied, Denied, Denied],
        Need::OpenSession => [Unknown, Done, Done, Done, Done, Denied, Done, Denied, Denied, Denied],
        Need::OwnSession => [Unknown, Denied, Denied, Denied, Denied, Denied, Denied, Denied, Denied, Denied],
    }
}

/// What must happen in the caller's own account.
pub(super) fn expected(operation: ApiOperation, caller: Caller) -> Verdict {
    let [unknown, owner, publisher, installer, viewer, retired, frozen, away, operator, frozen_operator] =
        row(need(operation));
    // A session has what its key has, but for what only one of the two can.
    let in_session = |key| match need(operation) {
        Need::OpenSession => Verdict::Denied,
        Need::OwnSession => Verdict::Done,
        _ => key,
    };
    match caller {
        Caller::Unknown => unknown,
        Caller::Owner => owner,
        Caller::Publisher => publisher,
        Caller::Deleter => match need(operation) {
            Need::DeleteContent => Verdict::Done,
            _ => publisher,
        },
        Caller::Installer => installer,
        Caller::Viewer => viewer,
        Caller::Retired => retired,
        Caller::Frozen => frozen,
        Caller::Away => away,
        Caller::ViewerSession => in_session(viewer),
        Caller::ForeignSession if operation.method() != Method::GET => Verdict::Denied,
        Caller::Session | Caller::ForeignSession => in_session(owner),
        Caller::Operator => operator,
        Caller::FrozenOperator => frozen_operator,
    }
}

/// What must happen in another account: an operator's work is the same everywhere, nobody else has any there.
fn elsewhere(operation: ApiOperation, caller: Caller) -> Verdict {
    let own = expected(operation, caller);
    let names_none = !operation.path().contains("{account}");
    match caller {
        Caller::Unknown | Caller::Away | Caller::Operator | Caller::FrozenOperator => own,
        _ if names_none => own,
        Caller::Owner
        | Caller::Publisher
        | Caller::Deleter
        | Caller::Installer
        | Caller::Viewer
        | Caller::Retired
        | Caller::Frozen
        | Caller::Session
        | Caller::ForeignSession
        | Caller::ViewerSession => Verdict::Denied,
    }
}

/// Ids in an account: something to read, and something to end that nobody needs.
struct Ids {
    key: String,
    credential: String,
    trust: String,
}

/// A trust policy that can be made.
const TRUST: &str = r#"{"issuer":"https://cluster.example","match":{"sub":"robot"},"grant":{"actions":["pull"]},"jwks":{"keys":[
    {"kty":"OKP","crv":"Ed25519","kid":"1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}}"#;

/// An id of the right form that nothing has.
const NO_ID: &str = "0k3v9x0a2m4p6r1t";

/// The request, with a document that is right. What would change an account for good presents a version that it never had.
fn request(operation: ApiOperation, account: &str, id: &str, number: usize) -> Request {
    use ApiOperation as O;
    let path = operation.path().replace("{account}", account).replace("{id}", id);
    // A repository is there or not as ids are.
    let name = if id == PRIVATE { PRIVATE } else { "web/nothing" };
    let path = match operation {
        O::RepositoryList | O::RepositoryChange | O::RepositoryDelete => format!("{path}?name={name}"),
        O::TagList => format!("{path}?repository={name}"),
        O::TagDelete => format!("{path}?repository={name}&tag={TAG}"),
        _ => path,
    };
    let request = Request::new(operation.method(), path);
    match operation {
        O::AccountCreate => request.body(format!(r#"{{"name":"made-{number}"}}"#)),
        O::AccountChange => request.header("If-Match", "\"999999\"").body(r#"{"display":"x"}"#),
        O::AccountDelete | O::TrustDelete | O::RepositoryDelete | O::TagDelete => {
            request.header("If-Match", "\"999999\"")
        }
        O::PublicSet => request.header("If-Match", "\"999999\"").body(r#"{"patterns":[]}"#),
        O::KeyCreate => request.body("{}"),
        O::TrustCreate => request.body(TRUST),
        O::CredentialMint => request.body(r#"{"kind":"pull"}"#),
        O::RetentionSet => request.header("If-Match", "\"999999\"").body(r#"{"rules":[]}"#),
        O::RetentionTest => request.body(format!(r#"{{"repository":"{name}"}}"#)),
        O::RepositoryChange => request.header("If-Match", "\"999999\"").body(r#"{"settings":{"immutable_tags":[]}}"#),
        O::RepositoryList
        | O::TagList
        | O::RetentionGet
        | O::UsageGet
        | O::UsageList
        | O::AuditList
        | O::InstallationAuditList
        | O::SessionOpen
        | O::SessionGet
        | O::SessionClose
        | O::OpenApi
        | O::AccountList
        | O::AccountGet
        | O::PublicGet
        | O::KeyList
        | O::KeyGet
        | O::KeyRetire
        | O::KeyRevoke
        | O::CredentialList
        | O::CredentialGet
        | O::CredentialRevoke
        | O::TrustList
        | O::TrustGet => request,
    }
}

const fn of_a_repository(operation: ApiOperation) -> bool {
    use ApiOperation as O;
    matches!(
        operation,
        O::RepositoryList | O::RepositoryChange | O::RepositoryDelete | O::TagList | O::TagDelete | O::RetentionTest
    )
}

/// The status of what is done, where account and id exist as told.
fn done(operation: ApiOperation, account: bool, id: bool) -> u16 {
    use ApiOperation as O;
    let named = operation.path().contains("{account}");
    let has_id = operation.path().contains("{id}") || of_a_repository(operation);
    match operation {
        _ if (named && !account) || (has_id && !id) => 404,
        O::AccountCreate | O::KeyCreate | O::CredentialMint | O::TrustCreate | O::SessionOpen => 201,
        O::AccountChange
        | O::AccountDelete
        | O::PublicSet
        | O::TrustDelete
        | O::RepositoryChange
        | O::RepositoryDelete
        | O::RetentionSet
        | O::TagDelete => 412,
        O::RepositoryList
        | O::RetentionGet
        | O::RetentionTest
        | O::TagList
        | O::UsageGet
        | O::UsageList
        | O::AuditList
        | O::InstallationAuditList
        | O::SessionGet
        | O::SessionClose
        | O::OpenApi
        | O::AccountList
        | O::AccountGet
        | O::PublicGet
        | O::KeyList
        | O::KeyGet
        | O::KeyRetire
        | O::KeyRevoke
        | O::CredentialList
        | O::CredentialGet
        | O::CredentialRevoke
        | O::TrustList
        | O::TrustGet => 200,
    }
}

fn check(verdict: Verdict, status: u16, answer: &Answer, wrong: &mut Vec<String>) {
    let (must, code, challenge) = match verdict {
        Verdict::Done => (status, None, ""),
        Verdict::Unknown => (401, Some("UNAUTHORIZED"), "Bearer"),
        Verdict::Denied => (403, Some("DENIED"), ""),
        Verdict::Frozen => (405, Some("UNSUPPORTED"), ""),
    };
    if answer.status != must {
        wrong.push(format!("{} instead of {must}: {}", answer.status, answer.text()));
        return;
    }
    if answer.header("www-authenticate") != challenge {
        wrong.push(format!("the challenge is «{}»", answer.header("www-authenticate")));
    }
    if let Some(code) = code
        && (answer.code() != code || answer.message().is_empty() || answer.message().contains('\n'))
    {
        wrong.push(format!("not {code} in one line: {}", answer.text()));
    }
    if answer.header("cache-control") != "no-store" && must != 200 {
        wrong.push("it may be kept by caches".to_owned());
    }
}

/// How many requests [`every_call_of_the_api_is_for_its_keys_alone`] makes: each key in its account and in others, where what is
/// asked for exists and where it does not.
pub(super) async fn size(world: &World) -> usize {
    ApiOperation::ALL.len() * keys(world).await.len() * PLACES
}

/// Accounts and ids that every key asks for.
const PLACES: usize = 7;

/// Whatever opens `/v2/`, and everything that opens nothing, is nobody to the API.
#[tokio::test]
async fn nothing_that_opens_repositories_opens_the_api() {
    let world = World::new().await;
    let visitors = visitor::all(&world).await;
    world.settle().await;
    let (mut cells, mut wrong) = (0, Vec::new());
    for visitor in
        visitors.iter().filter(|visitor| !matches!(visitor.principal, Principal::KeyBearer | Principal::SessionCookie))
    {
        let site = if visitor.read_only { &world.read_only } else { &world.main };
        let closed = |operation: &ApiOperation| expected(*operation, Caller::Unknown) == Verdict::Unknown;
        for operation in ApiOperation::ALL.into_iter().filter(closed) {
            let mut seen = None;
            for account in [visitor.account, BETA, "nowhere"] {
                cells += 1;
                // Some come from one address every time, and fail there.
                world.pass(1);
                let request = visitor::dress(&world, visitor, request(operation, account, NO_ID, cells));
                let before = world.counted.listing();
                world.counted.take();
                let answer = site.client.send(request).await;
                let mut found = Vec::new();
                check(Verdict::Unknown, 401, &answer, &mut found);
                if world.counted.listing() != before || !world.counted.take().is_empty() {
                    found.push("the store was touched".to_owned());
                }
                let now = Seen::of(&answer);
                if *seen.get_or_insert_with(|| Seen::of(&answer)) != now {
                    found.push(format!("what exists makes a difference: {now:?}"));
                }
                let title = visitor.title;
                wrong.extend(found.into_iter().map(|found| format!("{title}, {operation:?} of {account}: {found}")));
            }
        }
    }
    println!("{cells} cells of the API for who has no key");
    let (count, first) = (wrong.len(), wrong.iter().take(40).cloned().collect::<Vec<_>>());
    assert!(wrong.is_empty(), "{count} cells are wrong:\n{}", first.join("\n"));
}

#[tokio::test]
async fn every_call_of_the_api_is_for_its_keys_alone() {
    let world = World::new().await;
    let keys = keys(&world).await;
    for caller in Caller::ALL {
        assert!(keys.iter().any(|key| key.caller == caller), "nobody is {caller:?}");
    }
    let mut ids = HashMap::new();
    for account in [ACME, BETA, FROZEN, HALTED, PHOENIX] {
        let (_, key, _) = world.key(account, NewKey { role: Role::Viewer, ..NewKey::default() }).await;
        let credential = world.mint(account, &order("pull", &[], &[])).await.id;
        let new = serde_json::from_str(TRUST).unwrap();
        let trust = world.auth().create_trust(&Actor::Store, &account.parse().unwrap(), &new, "aud").await.unwrap().id;
        ids.insert(account, Ids { key: key.to_string(), credential: credential.to_string(), trust: trust.to_string() });
    }
    world.bring(Stage::NoRepository).await;
    world.bring(Stage::There).await;
    // Not even the policy of one account makes a difference in another.
    let policy = PolicyChange { ip_allow: Some(vec![ALLOWED.to_owned()]), ..PolicyChange::default() };
    world.change(BETA, AccountChange { policy, ..AccountChange::default() }).await;
    world.settle().await;
    let (mut cells, mut wrong, mut number) = (0, Vec::new(), 0);
    for operation in ApiOperation::ALL {
        for key in &keys {
            let mut seen: HashMap<bool, Seen> = HashMap::new();
            // The same id in another account is another id, so one that exists is tried everywhere.
            let id_of = |ids: &Ids| match operation {
                _ if of_a_repository(operation) => PRIVATE.to_owned(),
                _ if operation.path().contains("/keys/") => ids.key.clone(),
                _ if operation.path().contains("/trusts/") => ids.trust.clone(),
                _ => ids.credential.clone(),
            };
            let (id, beta) = (id_of(&ids[key.account]), id_of(&ids[BETA]));
            let places: [_; PLACES] = [
                (key.account, true, id.as_str(), true),
                (key.account, true, NO_ID, false),
                (key.account, true, "no-id", false),
                (BETA, true, beta.as_str(), true),
                (BETA, true, NO_ID, false),
                ("nowhere", false, NO_ID, false),
                ("No.Name", false, NO_ID, false),
            ];
            for (account, exists, id, has) in places {
                number += 1;
                // An account may end five rights a second.
                world.pass(1);
                let mut request = request(operation, account, id, number);
                let from = key.from.map_or_else(|| world.address().to_string(), str::to_owned);
                request = request.header("X-Forwarded-For", from);
                for (name, value) in key.headers(&world, operation).await {
                    request = request.header(name, value);
                }
                let own = account == key.account;
                let verdict = if own { expected(operation, key.caller) } else { elsewhere(operation, key.caller) };
                let before = world.counted.listing();
                world.counted.take();
                let site = if key.read_only { &world.read_only } else { &world.main };
                let answer = site.client.send(request).await;
                let mut found = Vec::new();
                check(verdict, done(operation, exists, has), &answer, &mut found);
                if verdict != Verdict::Done {
                    if world.counted.listing() != before {
                        found.push("the store is not what it was".to_owned());
                    }
                    let first = seen.entry(own).or_insert_with(|| Seen::of(&answer));
                    if *first != Seen::of(&answer) {
                        found.push(format!("what exists makes a difference: {first:?} and {}", answer.text()));
                    }
                }
                let touched = world.counted.take();
                // Of what is done only that which is about content touches storage, and there the account's own keys.
                let content = verdict == Verdict::Done
                    && (of_a_repository(operation)
                        || matches!(
                            operation,
                            ApiOperation::UsageGet
                                | ApiOperation::UsageList
                                | ApiOperation::RetentionGet
                                | ApiOperation::RetentionSet
                        ));
                let generation = world.generation(account).await.unwrap_or_default();
                let allowed = |touched: &String| {
                    content
                        && (operation == ApiOperation::UsageList || touched.split('/').any(|part| part == generation))
                };
                if !touched.iter().all(allowed) {
                    found.push(format!("storage calls: {touched:?}"));
                }
                cells += 1;
                let title = key.title;
                wrong.extend(
                    found
                        .into_iter()
                        .map(|found| format!("{title}, {operation:?} of {account} {id}: must be {verdict:?}: {found}")),
                );
            }
        }
    }
    println!("{cells} cells of the API");
    let (count, first) = (wrong.len(), wrong.iter().take(40).cloned().collect::<Vec<_>>());
    assert!(wrong.is_empty(), "{count} cells are wrong:\n{}", first.join("\n"));
}
