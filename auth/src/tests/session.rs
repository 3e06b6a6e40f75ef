use super::*;

/// Opens a session with a key: its id, its secret and who acts in it.
async fn open(world: &World, key: &Actor) -> (Id, Secret, Actor) {
    let (session, secret) = world.auth.open_session(key).await.unwrap();
    let actor = world.auth.authenticate_session(secret.reveal(), HERE).await.unwrap();
    (session.id, secret, actor)
}

async fn told(world: &World, secret: &Secret) -> String {
    let refused = world.auth.authenticate_session(secret.reveal(), HERE).await;
    refused.map_or_else(|refusal| refusal.text(HOST), |actor| actor.label())
}

#[tokio::test]
async fn a_session_acts_as_its_key_for_eight_hours() {
    let world = World::new().await;
    let (key, viewer) =
        world.key("acme", NewKey { role: Role::Viewer, label: "ann".into(), ..NewKey::default() }).await;
    let (id, secret, actor) = open(&world, &viewer).await;
    assert!(secret.reveal().starts_with("hyse_") && secret.kind() == Kind::Session);
    let session = world.auth.get_session(&actor).unwrap();
    assert_eq!((&session.id, &session.key, session.role, &*session.label), (&id, &key, Role::Viewer, "ann"));
    assert_eq!((session.expires_at - session.created_at).num_hours(), 8);
    for right in Right::ALL.into_iter().filter(|right| !matches!(right, Right::OpenSession | Right::OwnSession)) {
        let may = |who| world.auth.admit(who, right, Some(&name("acme"))).is_ok();
        assert_eq!(may(&actor), may(&viewer), "{right:?}");
        assert!(world.auth.admit(&actor, right, Some(&name("beta"))).is_err(), "{right:?}");
    }
    world.pass(8 * 3600 - 1);
    assert!(world.auth.authenticate_session(secret.reveal(), HERE).await.is_ok());
    world.pass(1);
    assert_eq!(told(&world, &secret).await, "this credential expired at 2027-01-15 16:00:00 UTC");
}

#[tokio::test]
async fn a_session_opens_no_other_and_a_key_is_none() {
    let world = World::new().await;
    let (_, owner) = world.owner("acme").await;
    let (_, _, actor) = open(&world, &owner).await;
    let refused = |error: Error| match error {
        Error::Refused(Refusal::Denied(reason)) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(world.auth.open_session(&actor).await.unwrap_err()), Reason::InSession);
    assert_eq!(refused(world.auth.get_session(&owner).unwrap_err()), Reason::NoSession);
    assert_eq!(refused(world.auth.close_session(&owner).await.unwrap_err()), Reason::NoSession);
    let operator = Actor::OperatorKey { id: Id::operator() };
    for other in [operator, Actor::Store] {
        assert_eq!(refused(world.auth.open_session(&other).await.unwrap_err()), Reason::Operator);
    }
}

#[tokio::test]
async fn a_retired_key_opens_no_session_and_the_sessions_it_has_only_read_and_end() {
    let world = World::new().await;
    let made = world.auth.create_key(&Actor::Store, &name("acme"), &NewKey::default()).await.unwrap();
    let secret = made.key.unwrap();
    let owner = world.auth.authenticate_api(Some(secret.reveal()), HERE).await.unwrap();
    let (_, session, _) = open(&world, &owner).await;
    world.auth.retire_key(&Actor::Store, &name("acme"), &made.id).await.unwrap();
    let retired = world.auth.authenticate_api(Some(secret.reveal()), HERE).await.unwrap();
    assert!(matches!(world.auth.open_session(&retired).await, Err(Error::Refused(Refusal::Denied(Reason::Retired)))));
    let actor = world.auth.authenticate_session(session.reveal(), HERE).await.unwrap();
    let minted = world.auth.mint(&actor, &name("acme"), &pull()).await;
    assert!(matches!(minted, Err(Error::Refused(Refusal::Denied(Reason::Retired)))));
    world.auth.close_session(&actor).await.unwrap();
}

#[tokio::test]
async fn a_session_dies_with_its_key_in_every_way() {
    let world = World::new().await;
    let acme = name("acme");
    let (key, owner) = world.owner("acme").await;
    let (_, secret, _) = open(&world, &owner).await;
    world.auth.revoke_key(&Actor::Store, &acme, &key).await.unwrap();
    assert!(told(&world, &secret).await.starts_with("this credential was revoked at "));

    let soon = DateTime::from_timestamp(1_800_003_600, 0).unwrap();
    let (_, owner) = world.key("acme", NewKey { expires_at: Some(soon), ..NewKey::default() }).await;
    let (session, secret) = world.auth.open_session(&owner).await.unwrap();
    assert_eq!(session.expires_at, soon);
    world.pass(3600);
    assert!(told(&world, &secret).await.starts_with("this credential expired at "));

    let (_, owner) = world.owner("acme").await;
    let (_, secret, _) = open(&world, &owner).await;
    let halt = AccountChange { state: Some(AccountState::Suspended), ..AccountChange::default() };
    world.auth.change_account(&Actor::Store, &acme, &halt, None).await.unwrap();
    assert_eq!(told(&world, &secret).await, "account acme is suspended");
}

#[tokio::test]
async fn a_session_of_an_account_that_was_made_again_is_nobody_s() {
    let world = World::new().await;
    let (_, owner) = world.owner("acme").await;
    let (_, secret, _) = open(&world, &owner).await;
    world.auth.delete_account(&Actor::Store, &name("acme"), None).await.unwrap();
    assert_eq!(told(&world, &secret).await, "authentication required");
    world.create("acme").await.unwrap();
    assert_eq!(told(&world, &secret).await, "authentication required");
}

#[tokio::test]
async fn a_session_comes_from_where_its_key_may() {
    let world = World::new().await;
    let new = NewKey { ip_allow: vec!["10.0.0.0/24".into()], ..NewKey::default() };
    let (_, owner) = world.key("acme", new).await;
    let (_, secret, _) = open(&world, &owner).await;
    let away = world.auth.authenticate_session(secret.reveal(), "192.0.2.1".parse().unwrap()).await;
    assert!(matches!(away, Err(Refusal::Denied(Reason::Address))));
}

#[tokio::test]
async fn only_a_session_is_one_and_it_is_nothing_else() {
    let world = World::new().await;
    let (_, owner) = world.owner("acme").await;
    let (id, secret, _) = open(&world, &owner).await;
    let key = world.auth.create_key(&Actor::Store, &name("acme"), &NewKey::default()).await.unwrap().key.unwrap();
    let minted = world.mint(&owner, "acme", pull()).await;
    for other in [key.reveal(), minted.secret.reveal(), "hyse_", ""] {
        let refused = world.auth.authenticate_session(other, HERE).await;
        assert!(matches!(refused, Err(Refusal::Unauthenticated(None))));
    }
    // Neither a key nor a login, under the user name that lists show; the token end-point says what it is to who has it.
    assert!(world.auth.authenticate_api(Some(secret.reveal()), HERE).await.is_err());
    let user = format!("acme.session.{id}");
    let basic = Presented::Basic { user: &user, secret: secret.reveal() };
    assert!(matches!(world.auth.authenticate(basic, HERE, None).await, Err(Refusal::Unauthenticated(None))));
    let Err(TokenRefusal::Refused(told)) = world.auth.issue(request(basic, &[]), HERE).await else { panic!("a token") };
    assert!(told.text(HOST).starts_with("this is a session of the console and cannot log in"), "{}", told.text(HOST));
}

#[tokio::test]
async fn nothing_minted_in_a_session_reaches_further_than_its_key() {
    let world = World::new().await;
    let acme = name("acme");
    let new = NewKey { repositories: vec!["acme/web/*".into()], max_ttl_seconds: Some(3600), ..NewKey::default() };
    let (key, owner) = world.key("acme", new).await;
    let (id, _, actor) = open(&world, &owner).await;
    let minted = world.mint(&actor, "acme", push()).await;
    assert_eq!(minted.credential.issuer, Issuer { kind: IssuerKind::Session, id: id.clone(), subject: None });
    assert_eq!(minted.credential.repositories, ["acme/web/*".parse().unwrap()]);
    assert_eq!((minted.credential.expires_at - minted.credential.created_at).num_seconds(), 3600);
    let wide = MintRequest { repositories: Some(vec!["acme/**".into()]), ..pull() };
    assert_eq!(fields(&world.auth.mint(&actor, &acme, &wide).await.unwrap_err()), ["/repositories/0"]);
    let error = world.auth.create_key(&actor, &acme, &NewKey::default()).await.unwrap_err();
    assert_eq!(fields(&error), ["/repositories/0", "/max_ttl_seconds"]);
    // A session is not to be replaced by a credential.
    let replacing = MintRequest { replaces: Some(id.to_string()), ..pull() };
    assert_eq!(fields(&world.auth.mint(&owner, &acme, &replacing).await.unwrap_err()), ["/replaces"]);

    world.auth.revoke_key(&Actor::Store, &acme, &key).await.unwrap();
    assert!(world.basic(&minted, "acme/web/x").await.is_err(), "what a session minted dies with the key behind it");
}

#[tokio::test]
async fn a_closed_session_ends_alone_and_a_revoked_one_with_all_it_minted() {
    let world = World::new().await;
    let acme = name("acme");
    let (_, owner) = world.owner("acme").await;
    let (_, closed, actor) = open(&world, &owner).await;
    let kept = world.mint(&actor, "acme", MintRequest { ttl_seconds: Some(30 * 86_400), ..pull() }).await;
    world.basic(&kept, "acme/x").await.unwrap();
    world.auth.close_session(&actor).await.unwrap();
    assert!(told(&world, &closed).await.starts_with("this credential expired at "));
    world.basic(&kept, "acme/x").await.unwrap();

    let (stolen, secret, actor) = open(&world, &owner).await;
    let lost = world.mint(&actor, "acme", MintRequest { ttl_seconds: Some(30 * 86_400), ..pull() }).await;
    world.basic(&lost, "acme/x").await.unwrap();
    world.auth.revoke_credential(&owner, &acme, &stolen).await.unwrap();
    assert!(told(&world, &secret).await.starts_with("this credential was revoked at "));
    assert!(world.basic(&lost, "acme/x").await.is_err());
    // Both answers hold as long as anything minted in them may live, whatever was swept meanwhile.
    let account = world.auth.resolve(&acme).await.unwrap().unwrap();
    world.pass(29 * 86_400);
    assert_eq!(world.auth.sweep_credentials(&account, None).await.unwrap(), None);
    world.basic(&kept, "acme/x").await.unwrap();
    assert!(world.basic(&lost, "acme/x").await.is_err());
}

#[tokio::test]
async fn sessions_are_listed_and_counted_with_the_credentials_of_their_key() {
    let world = World::with(Settings { live_credentials_per_key: 2, ..settings() }).await;
    let acme = name("acme");
    let (_, owner) = world.owner("acme").await;
    let (id, _, actor) = open(&world, &owner).await;
    world.pass(1);
    let minted = world.mint(&actor, "acme", pull()).await;
    assert!(matches!(world.auth.open_session(&owner).await, Err(Error::Limit(_))));
    assert!(matches!(world.auth.mint(&actor, &acme, &pull()).await, Err(Error::Limit(_))));
    let listed = world.auth.list_credentials(&owner, &acme, &Page::default()).await.unwrap().items;
    let kinds: Vec<_> = listed.iter().map(|one| (one.kind, &one.id)).collect();
    assert_eq!(kinds, [(Kind::Session, &id), (Kind::Pull, &minted.credential.id)]);
}

#[tokio::test]
async fn an_installer_ends_what_it_minted_in_a_session_and_a_publisher_no_session_of_others() {
    let world = World::new().await;
    let acme = name("acme");
    let (_, installer) = world.key("acme", NewKey { role: Role::Installer, ..NewKey::default() }).await;
    let (_, _, actor) = open(&world, &installer).await;
    let minted = world.mint(&actor, "acme", pull()).await.credential;
    world.auth.revoke_credential(&installer, &acme, &minted.id).await.unwrap();
    let (_, owner) = world.owner("acme").await;
    let (owners, secret, _) = open(&world, &owner).await;
    let (_, publisher) = world.key("acme", NewKey { role: Role::Publisher, ..NewKey::default() }).await;
    for other in [&installer, &publisher] {
        let refused = world.auth.revoke_credential(other, &acme, &owners).await;
        assert!(matches!(refused, Err(Error::Refused(Refusal::Denied(_)))));
    }
    assert!(world.auth.authenticate_session(secret.reveal(), HERE).await.is_ok());
    let (own, _, _) = open(&world, &publisher).await;
    world.auth.revoke_credential(&publisher, &acme, &own).await.unwrap();
}

#[tokio::test]
async fn the_audit_tells_who_opened_a_session_and_what_was_done_in_it() {
    let world = World::new().await;
    let acme = name("acme");
    let (key, owner) = world.owner("acme").await;
    let (id, _, actor) = open(&world, &owner).await;
    let minted = world.mint(&actor, "acme", pull()).await.credential;
    world.auth.close_session(&actor).await.unwrap();
    let events = world.auth.audit(&Actor::Store, &acme, None, &Page { after: None, limit: 100 }).await.unwrap().items;
    let told: Vec<_> = events
        .iter()
        .filter(|event| event.actor.kind != crate::audit::PartyKind::Operator)
        .map(|event| (&*event.event, event.actor.kind.as_str(), event.actor.id.as_deref(), event.target.as_deref()))
        .collect();
    let (key, id, minted) = (Some(key.as_str()), Some(id.as_str()), Some(minted.id.as_str()));
    assert_eq!(
        told,
        [
            ("session.open", "key", key, id),
            ("credential.mint", "session", id, minted),
            ("session.close", "session", id, id)
        ]
    );
}
