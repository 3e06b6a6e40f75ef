use super::*;

#[tokio::test]
async fn defaults_are_twelve_hours_to_pull_and_four_to_push_in_the_whole_account() {
    let world = World::new().await;
    let (_, acme) = world.owner("acme").await;
    let pulling = world.mint(&acme, "acme", pull()).await.credential;
    let pushing = world.mint(&acme, "acme", push()).await.credential;
    let hours = |c: &Credential| (c.expires_at - c.created_at).num_hours();
    assert_eq!((hours(&pulling), hours(&pushing)), (12, 4));
    assert_eq!(pulling.actions.to_string(), "pull");
    assert_eq!(pushing.actions.to_string(), "pull,push");
    assert_eq!(pulling.repositories, ["acme/**".parse().unwrap()]);
    assert_eq!(pulling.username, format!("acme.pull.{}", pulling.id));
}

#[tokio::test]
async fn each_excess_is_told_with_its_field() {
    let world = World::new().await;
    let new = NewKey {
        role: Role::Publisher,
        repositories: vec!["acme/web/*".into()],
        max_ttl_seconds: Some(3600),
        ..NewKey::default()
    };
    let (_, key) = world.key("acme", new).await;
    let acme = name("acme");
    let list = |texts: &[&str]| Some(texts.iter().map(|&t| t.to_owned()).collect::<Vec<_>>());
    let cases: Vec<(MintRequest, Vec<&str>)> = vec![
        (MintRequest { kind: "admin".into(), ..pull() }, vec!["/kind"]),
        (MintRequest { kind: "session".into(), ..pull() }, vec!["/kind"]),
        (MintRequest { repositories: list(&["acme/**"]), ..pull() }, vec!["/repositories/0"]),
        (MintRequest { repositories: list(&["acme/web/x", "beta/web/x"]), ..pull() }, vec!["/repositories/1"]),
        (
            MintRequest { repositories: list(&["acme/web/x", "acme", "*/x"]), ..pull() },
            vec!["/repositories/1", "/repositories/2"],
        ),
        (MintRequest { repositories: list(&[]), ..pull() }, vec!["/repositories"]),
        (MintRequest { actions: list(&["push"]), ..pull() }, vec!["/actions/0"]),
        (MintRequest { actions: list(&["pull", "delete"]), ..push() }, vec!["/actions/1"]),
        (MintRequest { actions: list(&["fly"]), ..push() }, vec!["/actions/0"]),
        (MintRequest { actions: list(&[]), ..push() }, vec!["/actions"]),
        (MintRequest { ttl_seconds: Some(59), ..pull() }, vec!["/ttl_seconds"]),
        (MintRequest { ttl_seconds: Some(3601), ..pull() }, vec!["/ttl_seconds"]),
        (MintRequest { label: Some("a\nb".into()), ..pull() }, vec!["/label"]),
        (MintRequest { label: Some("x".repeat(201)), ..pull() }, vec!["/label"]),
        (MintRequest { ip_allow: list(&["10.0.0.0/33"]), ..pull() }, vec!["/ip_allow/0"]),
        (MintRequest { replaces: Some("x".into()), ..pull() }, vec!["/replaces"]),
        (MintRequest { replaces: Some("0000000000000001".into()), ..pull() }, vec!["/replaces"]),
        (MintRequest { ttl_seconds: Some(1), label: Some("\u{7}".into()), ..pull() }, vec!["/ttl_seconds", "/label"]),
    ];
    for (request, expected) in cases {
        let error = world.auth.mint(&key, &acme, &request).await.unwrap_err();
        assert_eq!(fields(&error), expected, "{request:?}");
    }
    let minted = world.mint(&key, "acme", pull()).await.credential;
    assert_eq!((minted.expires_at - minted.created_at).num_seconds(), 3600);
    assert_eq!(minted.repositories, ["acme/web/*".parse().unwrap()]);
}

#[tokio::test]
async fn account_policy_bounds_even_the_store() {
    let world = World::new().await;
    let acme = name("acme");
    let lives = |pull, push| {
        let policy = PolicyChange { max_ttl_pull: Some(pull), max_ttl_push: Some(push), ..PolicyChange::default() };
        AccountChange { policy, ..AccountChange::default() }
    };
    let days = |days: u64| Some(days * 86_400);
    let mint = async |request: MintRequest, ttl| {
        let request = MintRequest { ttl_seconds: ttl, ..request };
        world.auth.mint(&Actor::Store, &acme, &request).await.is_ok()
    };
    assert!(mint(pull(), days(30)).await && !mint(pull(), days(31)).await);
    assert!(mint(push(), days(1)).await && !mint(push(), days(2)).await);
    world.auth.change_account(&Actor::Store, &acme, &lives(days(90), Some(3600)), None).await.unwrap();
    assert!(mint(pull(), days(90)).await && !mint(push(), Some(3601)).await);
    assert!(mint(push(), None).await);
    assert_eq!(
        fields(&world.auth.change_account(&Actor::Store, &acme, &lives(days(91), None), None).await.unwrap_err()),
        ["/policy/max_ttl_pull"]
    );
}

#[tokio::test]
async fn roles_mint_what_the_table_says() {
    let world = World::new().await;
    let acme = name("acme");
    let of = async |role, delete| world.key("acme", NewKey { role, delete, ..NewKey::default() }).await.1;
    let deleting = MintRequest { actions: Some(vec!["delete".into()]), ..push() };
    let three = async |who: &Actor| {
        let mut outcomes = Vec::new();
        for request in [pull(), push(), deleting.clone()] {
            outcomes.push(match world.auth.mint(who, &acme, &request).await {
                Ok(_) => "yes",
                Err(Error::Refused(Refusal::Denied(_))) => "403",
                Err(Error::Invalid(_)) => "422",
                Err(_) => "other",
            });
        }
        outcomes
    };
    assert_eq!(three(&Actor::Store).await, ["yes", "yes", "yes"]);
    assert_eq!(three(&of(Role::Owner, false).await).await, ["yes", "yes", "yes"]);
    assert_eq!(three(&of(Role::Publisher, true).await).await, ["yes", "yes", "yes"]);
    assert_eq!(three(&of(Role::Publisher, false).await).await, ["yes", "yes", "422"]);
    assert_eq!(three(&of(Role::Installer, false).await).await, ["yes", "403", "403"]);
    assert_eq!(three(&of(Role::Viewer, false).await).await, ["403", "403", "403"]);
    assert_eq!(three(&world.owner("beta").await.1).await, ["403", "403", "403"]);
    assert_eq!(three(&Actor::OperatorKey { id: Id::operator() }).await, ["403", "403", "403"]);
}

#[tokio::test]
async fn keys_are_kept_by_owners_and_never_reach_further_than_their_maker() {
    let world = World::new().await;
    let acme = name("acme");
    let new = NewKey {
        repositories: vec!["acme/web/*".into()],
        max_ttl_seconds: Some(3600),
        expires_at: Some(DateTime::from_timestamp(1_800_100_000, 0).unwrap()),
        ..NewKey::default()
    };
    let (id, owner) = world.key("acme", new.clone()).await;
    let error = world.auth.create_key(&owner, &acme, &NewKey::default()).await.unwrap_err();
    assert_eq!(fields(&error), ["/repositories/0", "/max_ttl_seconds", "/expires_at"]);
    assert!(world.auth.create_key(&owner, &acme, &new).await.is_ok());
    assert_eq!(
        fields(
            &world
                .auth
                .create_key(&owner, &acme, &NewKey { role: Role::Viewer, delete: true, ..new.clone() })
                .await
                .unwrap_err()
        ),
        ["/delete"]
    );

    for role in [Role::Publisher, Role::Installer, Role::Viewer] {
        let (_, actor) = world.key("acme", NewKey { role, ..NewKey::default() }).await;
        assert!(matches!(world.auth.create_key(&actor, &acme, &new).await, Err(Error::Refused(Refusal::Denied(_)))));
        assert!(matches!(world.auth.revoke_key(&actor, &acme, &id).await, Err(Error::Refused(Refusal::Denied(_)))));
        let lists = world.auth.list_keys(&actor, &acme, &Page::default()).await.is_ok();
        assert_eq!(lists, role == Role::Viewer);
    }
    let (_, foreign) = world.owner("beta").await;
    let before = world.records.faults().calls();
    assert!(matches!(
        world.auth.get_key(&foreign, &acme, &id).await,
        Err(Error::Refused(Refusal::Denied(Reason::OtherAccount { .. })))
    ));
    assert_eq!(world.records.faults().calls(), before);
    let listed = world.auth.list_keys(&owner, &acme, &Page { after: None, limit: 2 }).await.unwrap();
    assert_eq!(listed.items.len(), 2);
    assert!(listed.items.iter().all(|key| key.key.is_none()));
    let rest = world.auth.list_keys(&owner, &acme, &Page { after: listed.next, limit: 100 }).await.unwrap();
    assert_eq!((rest.items.len(), rest.next), (3, None));
}

#[tokio::test]
async fn a_retired_key_mints_no_more_and_its_credentials_live_out_their_time() {
    let world = World::new().await;
    let acme = name("acme");
    let (id, _) = world.owner("acme").await;
    let made = world.auth.create_key(&Actor::Store, &acme, &NewKey::default()).await.unwrap();
    let secret = made.key.unwrap();
    let actor = world.auth.authenticate_api(Some(secret.reveal()), HERE).await.unwrap();
    let minted = world.mint(&actor, "acme", pull()).await;
    world.auth.retire_key(&Actor::Store, &acme, &made.id).await.unwrap();
    let actor = world.auth.authenticate_api(Some(secret.reveal()), HERE).await.unwrap();
    assert!(matches!(
        world.auth.mint(&actor, &acme, &pull()).await,
        Err(Error::Refused(Refusal::Denied(Reason::Retired)))
    ));
    assert!(matches!(
        world.auth.create_key(&actor, &acme, &NewKey::default()).await,
        Err(Error::Refused(Refusal::Denied(Reason::Retired)))
    ));
    assert!(world.basic(&minted, "acme/x").await.is_ok());
    assert!(world.auth.revoke_credential(&actor, &acme, &minted.credential.id).await.is_ok());
    world.auth.revoke_key(&Actor::Store, &acme, &made.id).await.unwrap();
    world.auth.retire_key(&Actor::Store, &acme, &made.id).await.unwrap();
    assert_eq!(world.auth.get_key(&Actor::Store, &acme, &made.id).await.unwrap().state, KeyState::Revoked);
    assert_eq!(world.auth.get_key(&Actor::Store, &acme, &id).await.unwrap().state, KeyState::Active);
}

#[tokio::test]
async fn a_replaced_credential_ends_in_ten_minutes_and_only_its_own_issuer_replaces_it() {
    let world = World::new().await;
    let acme = name("acme");
    let (_, one) = world.owner("acme").await;
    let (_, two) = world.owner("acme").await;
    let old = world.mint(&one, "acme", pull()).await;
    let renew = MintRequest { replaces: Some(old.credential.id.to_string()), ..pull() };
    assert_eq!(fields(&world.auth.mint(&two, &acme, &renew).await.unwrap_err()), ["/replaces"]);
    world.mint(&one, "acme", renew).await;
    world.pass(599);
    assert!(world.basic(&old, "acme/x").await.is_ok());
    world.pass(1);
    assert!(world.basic(&old, "acme/x").await.is_err());
}

#[tokio::test]
async fn a_key_has_only_so_many_live_credentials_and_renewals_stay_flat() {
    let world = World::with(Settings { live_credentials_per_key: 2, ..settings() }).await;
    let acme = name("acme");
    let (_, one) = world.owner("acme").await;
    let (_, two) = world.owner("acme").await;
    let mut last = world.mint(&one, "acme", pull()).await;
    world.mint(&one, "acme", pull()).await;
    assert!(matches!(world.auth.mint(&one, &acme, &pull()).await, Err(Error::Limit(_))));
    world.mint(&two, "acme", pull()).await;
    for _ in 0..5 {
        let renew = MintRequest { replaces: Some(last.credential.id.to_string()), ..pull() };
        last = world.mint(&one, "acme", renew).await;
    }
    assert!(matches!(world.auth.mint(&one, &acme, &pull()).await, Err(Error::Limit(_))));
    world.pass(13 * 3600);
    world.mint(&one, "acme", pull()).await;
}

#[tokio::test]
async fn one_key_is_limited_in_its_mints() {
    let world = World::new().await;
    let (_, acme) = world.owner("acme").await;
    for _ in 0..100 {
        world.mint(&acme, "acme", pull()).await;
    }
    assert!(matches!(world.auth.mint(&acme, &name("acme"), &pull()).await, Err(Error::Refused(Refusal::Throttled(_)))));
    world.pass(1);
    world.mint(&acme, "acme", pull()).await;
}

#[tokio::test]
async fn a_credential_does_not_outlive_its_key() {
    let world = World::new().await;
    let end = DateTime::from_timestamp(1_800_000_000 + 3600, 0).unwrap();
    let (_, key) = world.key("acme", NewKey { expires_at: Some(end), ..NewKey::default() }).await;
    assert_eq!(world.mint(&key, "acme", pull()).await.credential.expires_at, end);
    let long = MintRequest { ttl_seconds: Some(7200), ..pull() };
    assert_eq!(fields(&world.auth.mint(&key, &name("acme"), &long).await.unwrap_err()), ["/ttl_seconds"]);
}

#[test]
fn an_unknown_field_of_a_request_is_an_error() {
    assert!(serde_json::from_str::<MintRequest>(r#"{"kind":"pull","ttl":60}"#).is_err());
    assert!(serde_json::from_str::<MintRequest>(r#"{"kind":"pull","ttl_seconds":60}"#).is_ok());
}

#[tokio::test]
async fn an_account_has_only_so_many_live_credentials_whoever_mints_them() {
    let few = || Settings { live_credentials_per_account: 3, ..settings() };
    let world = World::with(few()).await;
    let acme = name("acme");
    let (_, one) = world.owner("acme").await;
    let (_, two) = world.owner("acme").await;
    for who in [&one, &two, &one] {
        world.auth.mint(who, &acme, &pull()).await.unwrap();
    }
    let told = world.auth.mint(&two, &acme, &pull()).await.unwrap_err();
    assert!(matches!(&told, Error::Limit(text) if text.contains("account acme has 3 live credentials")), "{told}");
    world.mint(&world.owner("beta").await.1, "beta", pull()).await;

    // Another process knows it a second later, when this one has written what it minted.
    world.pass(1);
    assert!(world.auth.mint(&one, &acme, &pull()).await.is_err());
    let sibling = world.sibling(few()).await.unwrap();
    assert!(sibling.mint(&Actor::Store, &acme, &pull()).await.is_err());

    // What is replaced makes room, and what is over counts no more.
    let mine = world.auth.list_credentials(&one, &acme, &Page::default()).await.unwrap().items;
    let mine = mine.iter().find(|credential| Some(&credential.issuer.id) == key_id(&one)).unwrap();
    let replacing = MintRequest { replaces: Some(mine.id.to_string()), ..pull() };
    world.auth.mint(&one, &acme, &replacing).await.unwrap();
    assert!(world.auth.mint(&one, &acme, &pull()).await.is_err());
    world.pass(14 * 3600);
    world.auth.mint(&one, &acme, &pull()).await.unwrap();
}

fn key_id(actor: &Actor) -> Option<&Id> {
    match actor {
        Actor::AccessKey(key) => Some(key.id()),
        Actor::Store | Actor::OperatorKey { .. } => None,
    }
}

#[tokio::test]
async fn it_is_known_for_an_hour_or_two_how_near_to_its_limit_anybody_came() {
    let few = Settings { live_credentials_per_key: 4, live_credentials_per_account: 8, ..settings() };
    let world = World::with(few).await;
    let near = || world.auth.nearest_limits().map(|(of, part)| format!("{of} {part}"));
    assert_eq!(near(), ["key 0", "account 0"]);
    let (_, one) = world.owner("acme").await;
    let (_, other) = world.owner("beta").await;
    for _ in 0..3 {
        world.mint(&one, "acme", pull()).await;
    }
    world.mint(&other, "beta", pull()).await;
    assert_eq!(near(), ["key 0.75", "account 0.25"], "the nearest, and of the account what was there before the mint");
    world.mint(&one, "acme", pull()).await;
    assert!(world.auth.mint(&one, &name("acme"), &pull()).await.is_err());
    assert_eq!(near(), ["key 1", "account 0.5"]);
    world.pass(3600);
    assert_eq!(near(), ["key 1", "account 0.5"]);
    world.mint(&other, "beta", pull()).await;
    world.pass(3600);
    assert_eq!(near(), ["key 0.5", "account 0.125"]);
    world.pass(7200);
    assert_eq!(near(), ["key 0", "account 0"]);
}
