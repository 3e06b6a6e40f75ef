//! Everybody who comes to `/api/v1`: keys and sessions in every state, and what is none.

use auth::{Actor, NewKey, NewOperatorKey, Role};
use registry::api::ApiOperation;

use super::{
    api::Caller,
    visitor::scopes,
    world::{ACME, ALLOWED, FROZEN, HALTED, PHOENIX, World, basic, bearer, cookie, order},
};

/// Someone with something to present to the API.
pub(super) struct Key {
    pub(super) title: &'static str,
    pub(super) caller: Caller,
    pub(super) account: &'static str,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) from: Option<&'static str>,
    pub(super) read_only: bool,
    /// The key behind a living session, which opens the next one where this one was closed.
    pub(super) opener: Option<Actor>,
}

impl Key {
    fn new(title: &'static str, caller: Caller, value: Option<String>) -> Self {
        let headers = value.into_iter().map(|value| ("Authorization", value)).collect();
        Self { title, caller, account: ACME, headers, from: None, read_only: false, opener: None }
    }

    /// With nothing but these headers.
    fn with(title: &'static str, caller: Caller, headers: Vec<(&'static str, String)>) -> Self {
        Self { headers, ..Self::new(title, caller, None) }
    }

    /// What it sends: of who closes its session one that was just opened.
    pub(super) async fn headers(&self, world: &World, operation: ApiOperation) -> Vec<(&'static str, String)> {
        let mut headers = self.headers.clone();
        if operation == ApiOperation::SessionClose
            && let Some(opener) = &self.opener
        {
            let fresh = cookie(world.auth().open_session(opener).await.unwrap().1.reveal());
            headers.iter_mut().filter(|(name, _)| *name == "Cookie").for_each(|(_, value)| value.clone_from(&fresh));
        }
        headers
    }
}

/// A key that lives, in a role.
async fn key(world: &World, account: &str, role: Role) -> String {
    bearer(&world.key(account, NewKey { role, ..NewKey::default() }).await.0)
}

/// Everybody who comes to the API.
pub(super) async fn keys(world: &World) -> Vec<Key> {
    use Caller as C;
    let owner = world.key(ACME, NewKey::default()).await;
    let deleter = world.key(ACME, NewKey { role: Role::Publisher, delete: true, ..NewKey::default() }).await;
    let mut keys = vec![
        Key::new("publisher with delete", C::Deleter, Some(bearer(&deleter.0))),
        Key::new("owner", C::Owner, Some(bearer(&owner.0))),
        Key::new("publisher", C::Publisher, Some(key(world, ACME, Role::Publisher).await)),
        Key::new("installer", C::Installer, Some(key(world, ACME, Role::Installer).await)),
        Key::new("viewer", C::Viewer, Some(key(world, ACME, Role::Viewer).await)),
        Key::new("nobody", C::Unknown, None),
        Key::new("owner's key as a password", C::Unknown, Some(basic("", &owner.0))),
        Key::new("owner's key without a scheme", C::Unknown, Some(owner.0.clone())),
        Key::new("garbage", C::Unknown, Some(bearer("hyak_garbage"))),
    ];
    keys.push(Key::with("owner's key as a cookie", C::Unknown, vec![("Cookie", cookie(&owner.0))]));
    let twice = vec![("Authorization", bearer(&owner.0)), ("Authorization", bearer(&owner.0))];
    keys.push(Key::with("the same key twice", C::Unknown, twice));

    let delete = world.mint(ACME, &order("push", &["push", "delete"], &[])).await;
    let token = world.token(&delete, &[scopes(ACME, "*"), vec!["registry:catalog:*".into()]].concat()).await;
    for (title, value) in [
        ("push credential", delete.basic()),
        ("push credential's password as a Bearer", bearer(&delete.secret)),
        ("token", bearer(&token)),
    ] {
        keys.push(Key::new(title, C::Unknown, Some(value)));
    }

    let retired = world.key(ACME, NewKey::default()).await;
    world.pass(1);
    world.auth().retire_key(&Actor::Store, &ACME.parse().unwrap(), &retired.1).await.unwrap();
    keys.push(Key::new("retired", C::Retired, Some(bearer(&retired.0))));
    let revoked = world.key(ACME, NewKey::default()).await;
    world.revoke_key(ACME, &revoked.1).await;
    keys.push(Key::new("revoked key", C::Unknown, Some(bearer(&revoked.0))));
    let soon = storage::Clock::now(&*world.clock) + chrono::TimeDelta::seconds(30);
    let expired = world.key(ACME, NewKey { expires_at: Some(soon), ..NewKey::default() }).await;
    world.pass(31);
    keys.push(Key::new("expired key", C::Unknown, Some(bearer(&expired.0))));

    let halted = key(world, HALTED, Role::Owner).await;
    keys.push(Key { account: HALTED, ..Key::new("key of a suspended account", C::Unknown, Some(halted)) });
    let frozen = key(world, FROZEN, Role::Owner).await;
    keys.push(Key { account: FROZEN, ..Key::new("owner, account read-only", C::Frozen, Some(frozen)) });
    let at_server = Key::new("owner, server read-only", C::Frozen, Some(bearer(&owner.0)));
    keys.push(Key { read_only: true, ..at_server });
    let former = key(world, PHOENIX, Role::Owner).await;
    world.delete(PHOENIX).await;
    world.create(PHOENIX).await;
    keys.push(Key { account: PHOENIX, ..Key::new("key of an account made again", C::Unknown, Some(former)) });

    let narrow = world.key(ACME, NewKey { ip_allow: vec![ALLOWED.into()], ..NewKey::default() }).await;
    let from = Some("198.51.100.7");
    keys.push(Key { from, ..Key::new("owner, address not allowed", C::Away, Some(bearer(&narrow.0))) });
    let from = Some("192.0.2.9");
    keys.push(Key { from, ..Key::new("owner, address allowed", C::Owner, Some(bearer(&narrow.0))) });

    let operator = world.auth().create_operator_key(&Actor::Store, &NewOperatorKey::default()).await.unwrap();
    let operator = operator.key.unwrap().reveal().to_owned();
    keys.push(Key::new("operator", C::Operator, Some(bearer(&operator))));
    let at_server = Key::new("operator, server read-only", C::FrozenOperator, Some(bearer(&operator)));
    keys.push(Key { read_only: true, ..at_server });
    keys.push(Key::new("operator key as a password", C::Unknown, Some(basic("operator", &operator))));
    keys.extend(sessions(world, &owner.0).await);
    keys
}

/// A key that lives, with a session of its own: who it is, and the session's secret and id.
async fn session(world: &World, account: &str, new: NewKey) -> (Actor, String, auth::Id) {
    let (_, _, actor) = world.key(account, new).await;
    let (session, secret) = world.auth().open_session(&actor).await.unwrap();
    (actor, secret.reveal().to_owned(), session.id)
}

/// Whoever comes by a session, and whatever looks like one.
async fn sessions(world: &World, key: &str) -> Vec<Key> {
    use Caller as C;
    let role = |role| NewKey { role, ..NewKey::default() };
    let sent = |secret: &str, origin: &str| {
        vec![("Cookie", cookie(secret)), ("Origin", origin.to_owned()), ("X-Hythe", "1".to_owned())]
    };
    let own = world.main.origin();
    let (owner, secret, id) = session(world, ACME, NewKey::default()).await;
    let (viewer, viewers, _) = session(world, ACME, role(Role::Viewer)).await;
    let opener = Some(owner.clone());
    let mut all = vec![
        Key { opener: opener.clone(), ..Key::with("session of an owner", C::Session, sent(&secret, &own)) },
        Key { opener: Some(viewer), ..Key::with("session of a viewer", C::ViewerSession, sent(&viewers, &own)) },
        Key::with("session, page of another origin", C::ForeignSession, sent(&secret, "https://evil.example")),
        Key::with("session, page without an origin", C::ForeignSession, sent(&secret, "null")),
        Key::with("session, the cookie alone", C::ForeignSession, vec![("Cookie", cookie(&secret))]),
    ];
    let both = |authorization: String| [sent(&secret, &own), vec![("Authorization", authorization)]].concat();
    all.extend([
        Key::with("owner's key beside a session", C::Owner, both(bearer(key))),
        Key::with("a session beside garbage", C::Unknown, both(bearer("hyak_garbage"))),
        Key::with("a session beside Basic", C::Unknown, both(basic("a", "b"))),
        Key::new("session as a Bearer", C::Unknown, Some(bearer(&secret))),
        Key::new("session as a password", C::Unknown, Some(basic(&format!("acme.session.{id}"), &secret))),
    ]);
    let twice = [sent(&secret, &own), vec![("Cookie", cookie(&viewers))]].concat();
    all.push(Key::with("two sessions", C::Unknown, twice));
    for (title, text) in [
        ("session in quotes", format!("\"{secret}\"")),
        ("session cut short", secret.chars().take(92).collect()),
        ("session nobody opened", format!("hyse_{}", "0".repeat(88))),
    ] {
        all.push(Key::with(title, C::Unknown, sent(&text, &own)));
    }

    let (_, closed, _) = session(world, ACME, NewKey::default()).await;
    let in_it = world.auth().authenticate_session(&closed, "192.0.2.1".parse().unwrap()).await.unwrap();
    world.pass(1);
    world.auth().close_session(&in_it).await.unwrap();
    all.push(Key::with("closed session", C::Unknown, sent(&closed, &own)));
    let (_, revoked, id) = session(world, ACME, NewKey::default()).await;
    world.pass(1);
    world.auth().revoke_credential(&Actor::Store, &ACME.parse().unwrap(), &id).await.unwrap();
    all.push(Key::with("revoked session", C::Unknown, sent(&revoked, &own)));
    let (orphan, orphaned, _) = session(world, ACME, NewKey::default()).await;
    if let Actor::AccessKey(key) = &orphan {
        world.revoke_key(ACME, key.id()).await;
    }
    all.push(Key::with("session whose key was revoked", C::Unknown, sent(&orphaned, &own)));
    let soon = storage::Clock::now(&*world.clock) + chrono::TimeDelta::seconds(30);
    let (_, expired, _) = session(world, ACME, NewKey { expires_at: Some(soon), ..NewKey::default() }).await;
    world.pass(31);
    all.push(Key::with("session whose key expired", C::Unknown, sent(&expired, &own)));
    let (_, halted, _) = session(world, HALTED, NewKey::default()).await;
    let title = "session of a suspended account";
    all.push(Key { account: HALTED, ..Key::with(title, C::Unknown, sent(&halted, &own)) });
    let (_, former, _) = session(world, PHOENIX, NewKey::default()).await;
    world.delete(PHOENIX).await;
    world.create(PHOENIX).await;
    let title = "session of an account made again";
    all.push(Key { account: PHOENIX, ..Key::with(title, C::Unknown, sent(&former, &own)) });
    let narrow = NewKey { ip_allow: vec![ALLOWED.into()], ..NewKey::default() };
    let (_, narrow, _) = session(world, ACME, narrow).await;
    let from = Some("198.51.100.7");
    all.push(Key { from, ..Key::with("session, address not allowed", C::Away, sent(&narrow, &own)) });
    all
}
