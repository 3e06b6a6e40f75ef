//! Everybody who comes: for each row of the oracle one or more ways to be it.

use std::collections::VecDeque;

use auth::{AccountChange, NewKey, NewOperatorKey, PolicyChange, Role};
use conformance::{Request, push};
use parking_lot::Mutex;

use super::{
    forged,
    oracle::{Place, Principal},
    world::{
        ACME, ALLOWED, BETA, FROZEN, GONE, HALTED, LATE, Login, PHOENIX, WALLED, World, basic, bearer, cookie, order,
        session_id,
    },
};

/// Someone with something to present.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) title: &'static str,
    pub(super) principal: Principal,
    /// Whose repositories are the row's own.
    pub(super) account: &'static str,
    /// Headers of every request.
    pub(super) headers: Vec<(&'static str, String)>,
    /// User name and password, where they can go into a form.
    pub(super) form: Option<(String, String)>,
    /// What goes into a form as `refresh_token`.
    pub(super) bearer: Option<String>,
    /// Where it comes from, if that matters.
    pub(super) from: Option<&'static str>,
    /// Goes to the server that is read-only.
    pub(super) read_only: bool,
    /// A part of the message that only who holds the right secret reads; without one everybody's.
    pub(super) truth: Option<&'static str>,
    /// Upload sessions in its own private repository that its own credential opened.
    pub(super) sessions: Mutex<VecDeque<String>>,
}

impl Visitor {
    pub(super) fn new(title: &'static str, principal: Principal) -> Self {
        Self {
            title,
            principal,
            account: ACME,
            headers: Vec::new(),
            form: None,
            bearer: None,
            from: None,
            read_only: false,
            truth: None,
            sessions: Mutex::default(),
        }
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn basic(mut self, user: &str, secret: &str) -> Self {
        self.form = Some((user.to_owned(), secret.to_owned()));
        self.header("Authorization", basic(user, secret))
    }

    pub(super) fn login(self, login: &Login) -> Self {
        self.basic(&login.user, &login.secret)
    }

    pub(super) fn token(mut self, token: &str) -> Self {
        self.bearer = Some(token.to_owned());
        self.header("Authorization", bearer(token))
    }

    pub(super) fn of(self, account: &'static str) -> Self {
        Self { account, ..self }
    }

    fn told(self, truth: &'static str) -> Self {
        Self { truth: Some(truth), ..self }
    }
}

/// The scopes of a token for the two repositories of an account's own.
pub(super) fn scopes(account: &str, actions: &str) -> Vec<String> {
    [Place::Own, Place::Public]
        .map(|place| format!("repository:{}:{actions}", World::repository(account, place)))
        .to_vec()
}

fn elsewhere() -> Vec<String> {
    vec![format!("repository:{ACME}/web/elsewhere:pull,push,delete")]
}

const ALL: &str = "pull,push,delete";
/// A credential that lives shortly, in seconds.
const SHORT: u64 = 60;

/// Makes everybody. The clock moves on: some have to have been here long ago.
pub(super) async fn all(world: &World) -> Vec<Visitor> {
    let mut all = Vec::new();
    late(world, &mut all).await;
    living(world, &mut all).await;
    strangers(world, &mut all).await;
    wrong(world, &mut all).await;
    dead(world, &mut all).await;
    frozen(world, &mut all).await;
    keys(world, &mut all).await;
    all.extend(
        forged::tokens(world)
            .await
            .into_iter()
            .map(|(title, token)| Visitor::new(title, Principal::ForgedBearer).token(&token)),
    );
    let bare = Visitor::new("Bearer without a token", Principal::ForgedBearer).header("Authorization", "Bearer");
    all.push(Visitor { bearer: Some(String::new()), ..bare });
    all
}

/// What has run out, at three distances.
async fn late(world: &World, all: &mut Vec<Visitor>) {
    use Principal::{DeadBasic, DeadBearer, ExpiredOwnSession};
    let short = |kind, actions: &[&str]| {
        let mut request = order(kind, actions, &[]);
        request.ttl_seconds = Some(SHORT);
        request
    };
    // A signing key that was replaced at once takes every token with it, and no credential.
    let lasting = world.mint(LATE, &order("push", &["push", "delete"], &[])).await;
    let signed_before = world.token(&lasting, &scopes(LATE, ALL)).await;
    world.auth().replace_signing_keys().await.unwrap();
    all.push(Visitor::new("token of a signing key that was replaced", DeadBearer).of(LATE).token(&signed_before));
    // Past six hours, a credential lives and its token does not; and a token's last grace is over.
    let day = world.mint(LATE, &order("push", &["push", "delete"], &[])).await;
    let old = world.token(&day, &scopes(LATE, ALL)).await;
    all.push(Visitor::new("token older than six hours of a living credential", DeadBearer).of(LATE).token(&old));
    let (ancient, sessions) = with_sessions(world, &world.mint(LATE, &short("push", &[])).await).await;
    let title = "token that expired over six hours ago, at its own upload";
    all.push(Visitor { sessions, ..Visitor::new(title, DeadBearer).of(LATE).token(&ancient) });
    world.pass(7 * 3600);

    let expired = world.mint(LATE, &short("push", &["push", "delete"])).await;
    let token = world.token(&expired, &scopes(LATE, ALL)).await;
    let basic = Visitor::new("expired credential", DeadBasic).of(LATE);
    all.push(basic.login(&expired).told("this credential expired at "));
    all.push(Visitor::new("token of an expired credential", DeadBearer).of(LATE).token(&token));
    let (token, sessions) = with_sessions(world, &expired).await;
    let own = Visitor::new("expired token, its own open upload", ExpiredOwnSession).of(LATE).token(&token);
    all.push(Visitor { sessions, ..own });
    let revoked = world.mint(LATE, &short("push", &[])).await;
    let (token, sessions) = with_sessions(world, &revoked).await;
    world.revoke(LATE, &revoked).await;
    let title = "expired token of a revoked credential, its own open upload";
    all.push(Visitor { sessions, ..Visitor::new(title, DeadBearer).of(LATE).token(&token) });
    world.pass(SHORT + 1);
}

/// A push token and as many upload sessions of its own as there are operations on one.
async fn with_sessions(world: &World, login: &Login) -> (String, Mutex<VecDeque<String>>) {
    let token = world.token(login, &scopes(LATE, "pull,push")).await;
    let caller = conformance::Caller::bearer(&world.main.client, &token);
    let mut sessions = VecDeque::new();
    // For each of the operations on one, at the registry's name and at the account's.
    for _ in 0..8 {
        sessions.push_back(session_id(&push::open(&caller, &World::repository(LATE, Place::Own)).await));
    }
    (token, Mutex::new(sessions))
}

/// Acme's own.
async fn living(world: &World, all: &mut Vec<Visitor>) {
    use Principal as P;
    let pull = world.mint(ACME, &order("pull", &[], &[])).await;
    let push = world.mint(ACME, &order("push", &[], &[])).await;
    let delete = world.mint(ACME, &order("push", &["push", "delete"], &[])).await;
    let part = world.mint(ACME, &order("pull", &[], &["acme/web/*", "acme/open/*"])).await;
    let outside = world.mint(ACME, &order("push", &["push", "delete"], &["acme/webshop/**", "acme/web/api/*"])).await;
    let (_, _, publisher) = world.key(ACME, NewKey { role: Role::Publisher, delete: true, ..NewKey::default() }).await;
    let minted = world.mint_as(&publisher, ACME, &order("push", &["push", "delete"], &[])).await;
    let (_, retired, issuer) = world.key(ACME, NewKey::default()).await;
    let outliving = world.mint_as(&issuer, ACME, &order("push", &["push", "delete"], &[])).await;
    world.pass(1);
    world.auth().retire_key(&auth::Actor::Store, &ACME.parse().unwrap(), &retired).await.unwrap();
    let shouted = Visitor::new("the same, schemes are not case-sensitive", P::DeleteBasic);
    all.push(shouted.header("Authorization", delete.basic().replacen("Basic", "bASIC", 1)));

    for (title, principal, login) in [
        ("pull credential", P::PullBasic, &pull),
        ("push credential", P::PushBasic, &push),
        ("push credential with delete", P::DeleteBasic, &delete),
        ("the same, minted with an access key", P::DeleteBasic, &minted),
        ("the same, minted with a key that was retired since", P::DeleteBasic, &outliving),
        ("credential for neighbours of the repository", P::OutsideBasic, &outside),
    ] {
        all.push(Visitor::new(title, principal).login(login));
    }
    let catalog = vec!["registry:catalog:*".to_owned()];
    let part_scopes = [scopes(ACME, ALL), catalog.clone()].concat();
    for (title, principal, login, scopes) in [
        ("pull token, this repository", P::PullToken, &pull, scopes(ACME, ALL)),
        ("pull token, another repository, credential covers both", P::PullTokenElsewhere, &pull, elsewhere()),
        ("scopeless token of a pull credential", P::PullTokenEmpty, &pull, vec![]),
        ("catalog token", P::CatalogToken, &pull, catalog),
        ("pull token that asked for the catalog, credential for a part", P::PartToken, &part, part_scopes),
        ("push token, this repository", P::PushToken, &push, scopes(ACME, ALL)),
        ("pull-only token of a push credential", P::PushTokenToPull, &push, scopes(ACME, "pull")),
        ("scopeless token of a push credential", P::PushTokenEmpty, &push, vec![]),
        ("token of a push credential for another account's repository", P::PushTokenEmpty, &push, scopes(BETA, ALL)),
        ("push and delete token", P::DeleteToken, &delete, scopes(ACME, ALL)),
        ("token for *", P::DeleteToken, &delete, scopes(ACME, "*")),
        ("push token, credential has delete", P::DeleteTokenToPush, &delete, scopes(ACME, "pull,push")),
        ("scopeless token, credential has delete", P::DeleteTokenEmpty, &delete, vec![]),
        ("scopeless token, credential for neighbours", P::OutsideToken, &outside, vec![]),
        ("token that asked for all, credential for neighbours", P::OutsideToken, &outside, scopes(ACME, ALL)),
    ] {
        all.push(Visitor::new(title, principal).token(&world.token(login, &scopes).await));
    }
}

/// Nobody, another account, and who comes from the wrong place.
async fn strangers(world: &World, all: &mut Vec<Visitor>) {
    use Principal as P;
    all.push(Visitor::new("nobody", P::Nobody));
    let cookie = format!("__Host-hythe=hyse_{}", "0".repeat(88));
    all.push(Visitor::new("a cookie alone", P::Nobody).header("Cookie", cookie));
    let mut elsewhere = Visitor::new("who they are, said in headers of proxies", P::Nobody);
    for name in ["Proxy-Authorization", "X-Registry-Auth", "X-Forwarded-User", "X-Remote-User", "X-Original-URL"] {
        elsewhere = elsewhere.header(name, "acme");
    }
    all.push(elsewhere);
    let public = vec![format!("repository:{}:pull", World::repository(ACME, Place::Public))];
    let anonymous = world.try_token(None, &public).await.expect(200).json();
    let anonymous = anonymous["token"].as_str().unwrap();
    all.push(Visitor::new("anonymous token of a public repository", P::AnonymousToken).token(anonymous));

    let beta = world.mint(BETA, &order("push", &["push", "delete"], &[])).await;
    all.push(Visitor::new("credential of another account", P::StrangerBasic).login(&beta));
    let own = world.token(&beta, &scopes(BETA, ALL)).await;
    all.push(Visitor::new("token of another account for its own", P::StrangerToken).token(&own));
    let asked = world.token(&beta, &scopes(ACME, ALL)).await;
    all.push(Visitor::new("token of another account that asked for this", P::StrangerToken).token(&asked));

    let networks = || vec![ALLOWED.to_owned()];
    let mut narrow = order("push", &["push", "delete"], &[]);
    narrow.ip_allow = Some(networks());
    let by_credential = world.mint(ACME, &narrow).await;
    let (_, _, key) = world.key(ACME, NewKey { ip_allow: networks(), ..NewKey::default() }).await;
    let by_key = world.mint_as(&key, ACME, &order("push", &["push", "delete"], &[])).await;
    // This machine's own address stays, for who fills the repositories.
    let policy = PolicyChange { ip_allow: Some(vec![ALLOWED.into(), "127.0.0.0/8".into()]), ..PolicyChange::default() };
    world.change(WALLED, AccountChange { policy, ..AccountChange::default() }).await;
    let by_account = world.mint(WALLED, &order("push", &["push", "delete"], &[])).await;
    for (account, basic, token, login) in [
        (ACME, "credential, its address not allowed", "its token, address not allowed", &by_credential),
        (ACME, "credential, its key's address not allowed", "its token, the key's address not allowed", &by_key),
        (WALLED, "credential, its account's policy does not allow it", "its token, the account's policy", &by_account),
    ] {
        let from = Some("198.51.100.7");
        all.push(Visitor { from, ..Visitor::new(basic, P::AwayBasic).of(account).login(login) });
        let bearer = world.token(login, &scopes(account, ALL)).await;
        all.push(Visitor { from, ..Visitor::new(token, P::AwayBearer).of(account).token(&bearer) });
        // From where it may come it is like any other.
        let from = Some("192.0.2.77");
        let title = "credential from an allowed address";
        all.push(Visitor { from, ..Visitor::new(title, P::DeleteBasic).of(account).login(login) });
        let title = "token from an allowed address";
        all.push(Visitor { from, ..Visitor::new(title, P::DeleteToken).of(account).token(&bearer) });
    }
}

/// What no credential is.
async fn wrong(world: &World, all: &mut Vec<Visitor>) {
    let one = world.mint(ACME, &order("push", &["push", "delete"], &[])).await;
    let two = world.mint(ACME, &order("push", &["push", "delete"], &[])).await;
    let pull = world.mint(ACME, &order("pull", &[], &[])).await;
    let beta = world.mint(BETA, &order("push", &["push", "delete"], &[])).await;
    let flipped = |secret: &str| {
        let last = if secret.ends_with('0') { '1' } else { '0' };
        format!("{}{last}", &secret[..secret.len() - 1])
    };
    let in_account = one.user.replace(ACME, BETA);
    let nowhere = one.user.replace(ACME, "nowhere");
    let upper = one.user.to_uppercase();
    for (title, user, secret) in [
        ("wrong password", &*one.user, &*flipped(&one.secret)),
        ("empty password", &one.user, ""),
        ("a word as the password", &one.user, "secret"),
        ("password cut short", &one.user, &one.secret[..92]),
        ("unknown user", "acme.push.0000000000000000", &one.secret),
        ("user that is a word", "admin", &one.secret),
        ("empty user", "", &one.secret),
        ("user in capitals", &upper, &one.secret),
        ("password of another credential", &one.user, &two.secret),
        ("pull password with a push user", &one.user, &pull.secret),
        ("password of another account's credential", &one.user, &beta.secret),
        ("user of another account with this password", &in_account, &one.secret),
        ("user of an account that does not exist", &nowhere, &one.secret),
    ] {
        all.push(Visitor::new(title, Principal::WrongBasic).basic(user, secret));
    }
    for (title, value) in [
        ("Basic that is not base64", "Basic !!!"),
        ("Basic without a colon", "Basic dXNlcg=="),
        ("Basic that is not UTF-8", "Basic //46/w=="),
        ("Basic without anything", "Basic"),
        ("another scheme", "Negotiate YWNtZQ=="),
        ("no scheme", "acme"),
    ] {
        all.push(Visitor::new(title, Principal::WrongBasic).header("Authorization", value));
    }
    let token = world.token(&one, &scopes(ACME, ALL)).await;
    for (title, user) in [("token as a password", &*one.user), ("token as a password of its own user name", "<token>")]
    {
        all.push(Visitor::new(title, Principal::WrongBasic).basic(user, &token));
    }
    // A form would take it as a refresh token, which is another way to log in; as a Bearer it is none.
    let password = Visitor::new("password as a Bearer", Principal::ForgedBearer);
    all.push(password.header("Authorization", bearer(&one.secret)));
    let twice = Visitor::new("two Authorization headers", Principal::WrongBasic);
    all.push(twice.header("Authorization", one.basic()).header("Authorization", two.basic()));
}

/// What was a credential.
async fn dead(world: &World, all: &mut Vec<Visitor>) {
    use Principal::{DeadBasic, DeadBearer};
    let request = order("push", &["push", "delete"], &[]);

    let revoked = world.mint(ACME, &request).await;
    let of_revoked = world.token(&revoked, &scopes(ACME, ALL)).await;
    world.revoke(ACME, &revoked).await;
    all.push(Visitor::new("revoked credential", DeadBasic).login(&revoked).told("this credential was revoked at "));
    all.push(Visitor::new("token of a revoked credential", DeadBearer).token(&of_revoked));

    let (_, key, actor) = world.key(ACME, NewKey::default()).await;
    let orphaned = world.mint_as(&actor, ACME, &request).await;
    let of_orphaned = world.token(&orphaned, &scopes(ACME, ALL)).await;
    world.revoke_key(ACME, &key).await;
    let title = "credential whose key was revoked";
    all.push(Visitor::new(title, DeadBasic).login(&orphaned).told("this credential was revoked at "));
    all.push(Visitor::new("token of a credential whose key was revoked", DeadBearer).token(&of_orphaned));

    let halted = world.mint(HALTED, &request).await;
    let of_halted = world.token(&halted, &scopes(HALTED, ALL)).await;
    let title = "credential of a suspended account";
    all.push(Visitor::new(title, DeadBasic).of(HALTED).login(&halted).told("account halted is suspended"));
    all.push(Visitor::new("token of a suspended account", DeadBearer).of(HALTED).token(&of_halted));

    world.create(GONE).await;
    let left = world.mint(GONE, &request).await;
    let of_left = world.token(&left, &scopes(GONE, ALL)).await;
    world.delete(GONE).await;
    all.push(Visitor::new("credential of a deleted account", DeadBasic).of(GONE).login(&left));
    all.push(Visitor::new("token of a deleted account", DeadBearer).of(GONE).token(&of_left));

    let former = world.mint(PHOENIX, &request).await;
    let of_former = world.token(&former, &scopes(PHOENIX, ALL)).await;
    world.delete(PHOENIX).await;
    world.create(PHOENIX).await;
    all.push(Visitor::new("credential of an account that was made again", DeadBasic).of(PHOENIX).login(&former));
    let title = "token of an account that was made again";
    all.push(Visitor::new(title, DeadBearer).of(PHOENIX).token(&of_former));
}

/// Who may write, where nobody may.
async fn frozen(world: &World, all: &mut Vec<Visitor>) {
    use Principal::{FrozenBasic, FrozenToken};
    for (account, read_only, basic, token) in [
        (FROZEN, false, "credential of a read-only account", "token of a read-only account"),
        (ACME, true, "credential at a read-only server", "token at a read-only server"),
    ] {
        let login = world.mint(account, &order("push", &["push", "delete"], &[])).await;
        let bearer = world.token(&login, &scopes(account, ALL)).await;
        all.push(Visitor { read_only, ..Visitor::new(basic, FrozenBasic).of(account).login(&login) });
        all.push(Visitor { read_only, ..Visitor::new(token, FrozenToken).of(account).token(&bearer) });
    }
}

/// What mints or keeps accounts, and never pulls.
async fn keys(world: &World, all: &mut Vec<Visitor>) {
    use Principal::{KeyBasic, KeyBearer, SessionCookie};
    let roles = [
        (Role::Owner, "owner's access key as a password", "owner's access key"),
        (Role::Publisher, "publisher's access key as a password", "publisher's access key"),
        (Role::Installer, "installer's access key as a password", "installer's access key"),
        (Role::Viewer, "viewer's access key as a password", "viewer's access key"),
    ];
    for (role, as_password, as_bearer) in roles {
        let (secret, id, _) = world.key(ACME, NewKey { role, ..NewKey::default() }).await;
        let user = format!("acme.key.{id}");
        all.push(Visitor::new(as_password, KeyBasic).basic(&user, &secret).told("this is an access key; it mints "));
        all.push(Visitor::new(as_bearer, KeyBearer).token(&secret).told("this is an access key; it mints "));
    }
    for (account, as_cookie) in [(ACME, "session cookie"), (BETA, "session cookie of another account")] {
        let (_, _, owner) = world.key(account, NewKey::default()).await;
        let (session, secret) = world.auth().open_session(&owner).await.unwrap();
        let visitor = Visitor::new(as_cookie, SessionCookie).header("Cookie", cookie(secret.reveal()));
        all.push(visitor.header("Origin", world.main.origin()).header("X-Hythe", "1"));
        if account == ACME {
            let truth = "this is a session of the console and cannot log in";
            let user = format!("acme.session.{}", session.id);
            all.push(Visitor::new("session as a password", KeyBasic).basic(&user, secret.reveal()).told(truth));
            all.push(Visitor::new("session as a Bearer", KeyBearer).token(secret.reveal()).told(truth));
        }
    }
    let made = world.auth().create_operator_key(&auth::Actor::Store, &NewOperatorKey::default()).await.unwrap();
    let secret = made.key.unwrap().reveal().to_owned();
    let truth = "this is an operator key; it keeps accounts ";
    all.push(Visitor::new("operator key as a password", KeyBasic).basic("operator", &secret).told(truth));
    all.push(Visitor::new("operator key", KeyBearer).token(&secret).told(truth));
}

/// Puts what a visitor presents into a request.
pub(super) fn dress(world: &World, visitor: &Visitor, request: Request) -> Request {
    let from = visitor.from.map_or_else(|| world.address().to_string(), str::to_owned);
    let request = request.header("X-Forwarded-For", from);
    visitor.headers.iter().fold(request, |request, (name, value)| request.header(name, value))
}
