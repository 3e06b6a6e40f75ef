use super::*;

async fn told(world: &World, presented: Presented<'_>) -> String {
    match world.auth.issue(request(presented, &[]), HERE).await {
        Err(refusal) => refusal.text(HOST),
        Ok(_) => "a token".into(),
    }
}

#[tokio::test]
async fn whoever_lacks_the_right_secret_reads_one_constant_text() {
    let world = World::new().await;
    let (_, acme) = world.owner("acme").await;
    let minted = world.mint(&acme, "acme", pull()).await;
    let other = world.mint(&acme, "acme", push()).await;
    let (user, secret) = (minted.credential.username.as_str(), minted.secret.reveal());
    let mut forged = secret.to_owned();
    forged.replace_range(40..41, if secret.as_bytes()[40] == b'0' { "1" } else { "0" });
    let absent = world.auth.secrets.mint(Kind::Pull, minted.secret.generation(), &Id::operator());
    let same_id = world.auth.secrets.mint(Kind::Pull, minted.secret.generation(), &minted.credential.id);
    let long = "x".repeat(20_000);
    let attempts = [
        (user, "wrong"),
        (user, ""),
        (user, long.as_str()),
        (user, forged.as_str()),
        (user, same_id.reveal()),
        (user, other.secret.reveal()),
        ("beta.pull.0000000000000001", secret),
        ("acme", secret),
        ("", secret),
        ("acme.pull.0000000000000000", absent.reveal()),
    ];
    for (user, secret) in attempts {
        assert_eq!(told(&world, Presented::Basic { user, secret }).await, WRONG, "{user}");
        let refused = world.auth.authenticate(Presented::Basic { user, secret }, HERE, None).await;
        assert!(matches!(refused, Err(Refusal::Unauthenticated(None))), "{user}");
    }
    assert_eq!(told(&world, Presented::None).await, WRONG);
    assert_eq!(told(&world, Presented::Malformed).await, WRONG);
    assert_eq!(told(&world, Presented::Bearer(secret)).await, WRONG);
    assert_eq!(told(&world, Presented::Session(secret)).await, WRONG);
    assert_eq!(told(&world, Presented::Basic { user, secret }).await, "a token");
}

#[tokio::test]
async fn holders_of_the_right_secret_are_told_the_truth() {
    let world = World::new().await;
    let (key_id, acme) = world.owner("acme").await;
    let acme_name = name("acme");
    let basic = |m: &Minted| (m.credential.username.clone(), m.secret.reveal().to_owned());

    let minted = world.mint(&acme, "acme", pull()).await;
    let (user, secret) = basic(&minted);
    let state = |state| AccountChange { state: Some(state), ..AccountChange::default() };
    world.auth.change_account(&Actor::Store, &acme_name, &state(AccountState::Suspended), None).await.unwrap();
    let told_now = told(&world, Presented::Basic { user: &user, secret: &secret }).await;
    assert_eq!(told_now, "account acme is suspended");
    world.auth.change_account(&Actor::Store, &acme_name, &state(AccountState::Active), None).await.unwrap();
    assert_eq!(told(&world, Presented::Basic { user: &user, secret: &secret }).await, "a token");

    world.auth.revoke_credential(&acme, &acme_name, &minted.credential.id).await.unwrap();
    let told_now = told(&world, Presented::Basic { user: &user, secret: &secret }).await;
    assert_eq!(told_now, "this credential was revoked at 2027-01-15 08:00:00 UTC");

    let minted = world.mint(&acme, "acme", pull()).await;
    let (user, secret) = basic(&minted);
    world.pass(12 * 3600);
    let told_now = told(&world, Presented::Basic { user: &user, secret: &secret }).await;
    assert_eq!(told_now, "this credential expired at 2027-01-15 20:00:00 UTC");

    let minted = world.mint(&acme, "acme", pull()).await;
    let (user, secret) = basic(&minted);
    world.auth.revoke_key(&Actor::Store, &acme_name, &key_id).await.unwrap();
    let told_now = told(&world, Presented::Basic { user: &user, secret: &secret }).await;
    assert_eq!(told_now, "this credential was revoked at 2027-01-15 20:00:00 UTC");
}

#[tokio::test]
async fn a_secret_of_another_kind_is_explained_to_its_holder_at_the_token_endpoint_only() {
    let world = World::new().await;
    let made = world.auth.create_key(&Actor::Store, &name("acme"), &NewKey::default()).await.unwrap();
    let key = made.key.unwrap();
    let operator =
        world.auth.create_operator_key(&Actor::Store, &NewOperatorKey::default()).await.unwrap().key.unwrap();

    assert_eq!(
        told(&world, Presented::Basic { user: "anyone", secret: key.reveal() }).await,
        "this is an access key; it mints credentials and cannot log in: run `hythe credential create acme --kind push`, or POST \
         /api/v1/accounts/acme/credentials"
    );
    assert!(
        told(&world, Presented::Basic { user: "x", secret: operator.reveal() })
            .await
            .starts_with("this is an operator key")
    );
    for secret in [key.reveal(), operator.reveal()] {
        let refused = world.auth.authenticate(Presented::Basic { user: "x", secret }, HERE, None).await;
        assert!(matches!(refused, Err(Refusal::Unauthenticated(None))));
        let refused = world.auth.authenticate(Presented::Bearer(secret), HERE, None).await;
        assert!(matches!(refused, Err(Refusal::InvalidToken)));
    }
    let stranger = world.auth.secrets.mint(Kind::AccessKey, &storage::Generation::random(), &made.id);
    assert_eq!(told(&world, Presented::Basic { user: "x", secret: stranger.reveal() }).await, WRONG);
}

#[tokio::test]
async fn the_api_takes_keys_and_nothing_else() {
    let world = World::new().await;
    let (_, acme) = world.owner("acme").await;
    let minted = world.mint(&acme, "acme", push()).await;
    let token = world.token(&minted, &[]).await;
    for bearer in [Some(minted.secret.reveal()), Some(token.as_str()), Some("x"), None] {
        let refused = world.auth.authenticate_api(bearer, HERE).await;
        assert!(matches!(refused, Err(Refusal::Unauthenticated(None))));
    }
    let operator = world.auth.create_operator_key(&Actor::Store, &NewOperatorKey::default()).await.unwrap();
    let actor = world.auth.authenticate_api(operator.key.as_ref().map(Shown::reveal), HERE).await.unwrap();
    assert!(matches!(&actor, Actor::OperatorKey { id } if *id == operator.id));
    world.auth.revoke_operator_key(&Actor::Store, &operator.id).await.unwrap();
    let refused = world.auth.authenticate_api(operator.key.as_ref().map(Shown::reveal), HERE).await;
    assert!(matches!(refused, Err(Refusal::Unauthenticated(Some(Reason::RevokedAt(_))))));
}

#[tokio::test]
async fn addresses_of_account_key_and_credential_must_all_agree() {
    let world = World::new().await;
    let elsewhere: IpAddr = "192.0.2.7".parse().unwrap();
    let new = NewKey { ip_allow: vec!["10.0.0.0/8".into(), "192.0.2.0/24".into()], ..NewKey::default() };
    let (_, key) = world.key("acme", new).await;
    let mut narrow = pull();
    narrow.ip_allow = Some(vec!["10.0.0.0/24".into()]);
    let narrow = world.mint(&key, "acme", narrow).await;
    let wide = world.mint(&key, "acme", pull()).await;
    let from = async |minted: &Minted, from: &str| {
        let (user, secret) = (minted.credential.username.as_str(), minted.secret.reveal());
        let presented = Presented::Basic { user, secret };
        match world.auth.authenticate(presented, from.parse::<IpAddr>().unwrap(), None).await {
            Ok(_) => "yes",
            Err(Refusal::Denied(Reason::Address)) => "address",
            Err(_) => "other",
        }
    };
    assert_eq!(from(&narrow, "10.0.0.9").await, "yes");
    assert_eq!(from(&narrow, "10.0.1.9").await, "address");
    assert_eq!(from(&wide, "10.0.1.9").await, "yes");
    assert_eq!(from(&wide, "198.51.100.1").await, "address");
    assert_eq!(from(&wide, "192.0.2.7").await, "yes");
    let token = world.token(&wide, &[]).await;
    let policy = PolicyChange { ip_allow: Some(vec!["10.0.0.0/8".into()]), ..PolicyChange::default() };
    let change = AccountChange { policy, ..AccountChange::default() };
    world.auth.change_account(&Actor::Store, &name("acme"), &change, None).await.unwrap();
    assert_eq!(from(&wide, "192.0.2.7").await, "address");
    let refused = world.auth.authenticate(Presented::Bearer(&token), elsewhere, None).await;
    assert!(matches!(refused, Err(Refusal::Denied(Reason::Address))));
}

#[tokio::test]
async fn failures_are_throttled_by_address_and_a_good_secret_is_served_all_the_same() {
    let world = World::with(Settings::default()).await;
    let (_, acme) = world.owner("acme").await;
    let minted = world.mint(&acme, "acme", pull()).await;
    let (user, secret) = (minted.credential.username.as_str(), minted.secret.reveal());
    let bad = async |from: IpAddr| {
        let presented = Presented::Basic { user, secret: "wrong" };
        match world.auth.authenticate(presented, from, None).await {
            Err(Refusal::Unauthenticated(None)) => "401",
            Err(Refusal::Throttled(_)) => "429",
            _ => "other",
        }
    };
    for _ in 0..60 {
        assert_eq!(bad(HERE).await, "401");
    }
    assert_eq!(bad(HERE).await, "429");
    assert_eq!(bad("10.0.0.2".parse().unwrap()).await, "401");
    assert!(world.auth.authenticate(Presented::Basic { user, secret }, HERE, None).await.is_ok());
    assert!(matches!(
        world.auth.issue(request(Presented::None, &[]), HERE).await,
        Err(TokenRefusal::Refused(Refusal::Unauthenticated(None)))
    ));
    world.pass(1);
    assert_eq!(bad(HERE).await, "401");
    assert_eq!(bad(HERE).await, "429");
}

#[tokio::test]
async fn garbage_costs_no_read() {
    let world = World::new().await;
    let before = world.records.faults().calls();
    for secret in ["wrong", "hypl_", &"0".repeat(93)] {
        let presented = Presented::Basic { user: "acme.pull.0000000000000001", secret };
        assert!(world.auth.authenticate(presented, HERE, None).await.is_err());
        assert!(world.auth.authenticate_api(Some(secret), HERE).await.is_err());
    }
    assert_eq!(world.records.faults().calls(), before);
}

#[tokio::test]
async fn a_store_that_is_away_is_no_answer_about_anybody() {
    let world = World::new().await;
    let (_, acme) = world.owner("acme").await;
    let minted = world.mint(&acme, "acme", pull()).await;
    let token = world.token(&minted, &["repository:acme/x:pull"]).await;
    let unread = world.mint(&acme, "acme", pull()).await;
    world.records.faults().die_after(0);
    // What is known counts as long as the log was read within the bound; what is not known is no answer.
    assert!(world.basic(&minted, "acme/x").await.is_ok());
    assert!(matches!(world.basic(&unread, "acme/x").await, Err(Refusal::Unavailable(_))));
    world.pass(5);
    for refused in [world.basic(&minted, "acme/x").await, world.bearer(&token, "acme/x").await] {
        assert!(matches!(refused, Err(Refusal::Stale)), "{refused:?}");
    }
    assert!(matches!(world.auth.authenticate_api(None, HERE).await, Err(Refusal::Unauthenticated(None))));
    world.records.faults().heal();
    world.pass(1);
    assert!(world.basic(&minted, "acme/x").await.is_ok());
}
