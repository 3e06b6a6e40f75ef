use super::*;

#[tokio::test]
async fn an_account_made_anew_accepts_nothing_of_its_predecessor() {
    let world = World::new().await;
    let acme = name("acme");
    let made = world.auth.create_key(&Actor::Store, &acme, &NewKey::default()).await.unwrap();
    let secret = made.key.unwrap();
    let key = world.auth.authenticate_api(Some(secret.reveal()), HERE).await.unwrap();
    let minted = world.mint(&key, "acme", push()).await;
    let token = world.token(&minted, &["repository:acme/x:pull,push"]).await;
    let patterns = PublicDocument { patterns: vec!["acme/**".into()], rev: 0 };
    world.auth.set_public(&Actor::Store, &acme, &patterns, None).await.unwrap();
    let before = world.auth.get_account(&Actor::Store, &acme).await.unwrap();

    world.auth.delete_account(&Actor::Store, &acme, None).await.unwrap();
    let dead = async || {
        assert!(matches!(world.bearer(&token, "acme/x").await, Err(Refusal::InvalidToken)));
        assert!(matches!(world.basic(&minted, "acme/x").await, Err(Refusal::Unauthenticated(None))));
        let api = world.auth.authenticate_api(Some(secret.reveal()), HERE).await;
        assert!(matches!(api, Err(Refusal::Unauthenticated(None))));
        assert_eq!(outcomes(&world.nobody("acme/x").await, "acme/x"), ["401"; 3]);
    };
    dead().await;
    assert!(matches!(world.auth.get_account(&Actor::Store, &acme).await, Err(Error::NotFound { .. })));
    assert!(world.auth.resolve(&acme).await.unwrap().is_none());

    let after = world.create("acme").await.unwrap();
    assert_ne!(after.generation, before.generation);
    dead().await;
    assert!(world.auth.list_keys(&Actor::Store, &acme, &Page::default()).await.unwrap().items.is_empty());
    assert!(world.auth.get_public(&Actor::Store, &acme).await.unwrap().patterns.is_empty());
    assert_eq!(world.auth.resolve(&acme).await.unwrap().unwrap().generation(), &after.generation);
}

#[tokio::test]
async fn a_living_name_is_taken_and_a_bad_one_is_refused() {
    let world = World::new().await;
    assert!(matches!(world.create("acme").await, Err(Error::Taken { .. })));
    assert_eq!(fields(&world.create("Acme").await.unwrap_err()), ["/name"]);
    assert_eq!(fields(&world.create("token").await.unwrap_err()), ["/name"]);
    let (a, b) = tokio::join!(world.create("gamma"), world.create("gamma"));
    assert_eq!(usize::from(a.is_ok()) + usize::from(b.is_ok()), 1);
}

#[tokio::test]
async fn only_the_operator_keeps_accounts() {
    let world = World::new().await;
    let (_, owner) = world.owner("acme").await;
    let operator = Actor::OperatorKey { id: Id::operator() };
    let new = NewAccount { name: "gamma".into(), display: String::new() };
    let denied = |error: Error| matches!(error, Error::Refused(Refusal::Denied(_)));
    assert!(denied(world.auth.create_account(&owner, &new).await.unwrap_err()));
    assert!(denied(world.auth.list_accounts(&owner, &Page::default()).await.unwrap_err()));
    assert!(denied(world.auth.delete_account(&owner, &name("acme"), None).await.unwrap_err()));
    assert!(denied(world.auth.get_account(&owner, &name("beta")).await.unwrap_err()));
    assert!(world.auth.create_account(&operator, &new).await.is_ok());
    assert!(world.auth.get_account(&owner, &name("acme")).await.is_ok());
    let listed = world.auth.list_accounts(&operator, &Page::default()).await.unwrap();
    let names: Vec<_> = listed.items.iter().map(|account| account.name.as_str()).collect();
    assert_eq!(names, ["acme", "beta", "gamma"]);
    assert!(denied(world.auth.create_key(&operator, &name("acme"), &NewKey::default()).await.unwrap_err()));
    let put = world.auth.set_public(&operator, &name("acme"), &PublicDocument::default(), None).await;
    assert!(denied(put.unwrap_err()));
}

#[tokio::test]
async fn an_owner_lowers_its_policy_and_does_not_raise_it() {
    let world = World::new().await;
    let (_, owner) = world.owner("acme").await;
    let acme = name("acme");
    let change = |policy| AccountChange { policy, ..AccountChange::default() };
    let patch = async |policy| world.auth.change_account(&owner, &acme, &change(policy), None).await;
    let life = |life| PolicyChange { max_ttl_pull: Some(life), ..PolicyChange::default() };
    let from = |networks: &[&str]| {
        let networks = networks.iter().map(|&n| n.to_owned()).collect();
        PolicyChange { ip_allow: Some(networks), ..PolicyChange::default() }
    };
    assert_eq!(patch(life(Some(3600))).await.unwrap().policy.max_ttl_pull, Some(3600));
    assert_eq!(fields(&patch(life(Some(7200))).await.unwrap_err()), ["/policy/max_ttl_pull"]);
    assert_eq!(fields(&patch(life(None)).await.unwrap_err()), ["/policy/max_ttl_pull"]);
    patch(from(&["10.0.0.0/8"])).await.unwrap();
    patch(from(&["10.0.0.0/16"])).await.unwrap();
    assert_eq!(fields(&patch(from(&[])).await.unwrap_err()), ["/policy/ip_allow"]);
    let state = AccountChange { state: Some(AccountState::ReadOnly), ..AccountChange::default() };
    let refused = world.auth.change_account(&owner, &acme, &state, None).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::Denied(_)))));
    world.auth.change_account(&Actor::Store, &acme, &change(life(None)), None).await.unwrap();
    assert_eq!(world.auth.get_account(&Actor::Store, &acme).await.unwrap().policy.max_ttl_pull, None);
}

#[tokio::test]
async fn a_change_holds_to_the_rev_it_was_made_from() {
    let world = World::new().await;
    let acme = name("acme");
    let seen = world.auth.get_account(&Actor::Store, &acme).await.unwrap().rev;
    let change = AccountChange { display: Some("ACME".into()), ..AccountChange::default() };
    let changed = world.auth.change_account(&Actor::Store, &acme, &change, Some(seen)).await.unwrap();
    assert_eq!((changed.rev, changed.display.as_str()), (seen + 1, "ACME"));
    let stale = world.auth.change_account(&Actor::Store, &acme, &change, Some(seen)).await;
    assert!(matches!(stale, Err(Error::Changed { rev }) if rev == seen + 1));
    let stale = world.auth.delete_account(&Actor::Store, &acme, Some(seen)).await;
    assert!(matches!(stale, Err(Error::Changed { .. })));
    assert!(world.auth.delete_account(&Actor::Store, &acme, Some(seen + 1)).await.is_ok());
}

#[tokio::test]
async fn a_merge_patch_tells_null_from_absent() {
    let patch: AccountChange = serde_json::from_str(r#"{"policy":{"max_ttl_pull":null}}"#).unwrap();
    assert_eq!(patch.policy.max_ttl_pull, Some(None));
    assert_eq!(patch.policy.max_ttl_push, None);
    assert!(serde_json::from_str::<AccountChange>(r#"{"owner":"x"}"#).is_err());
}

#[tokio::test]
async fn public_patterns_are_the_account_s_own() {
    let world = World::new().await;
    let (_, narrow) = world.key("acme", NewKey { repositories: vec!["acme/web/*".into()], ..NewKey::default() }).await;
    let set = async |who: &Actor, patterns: &[&str]| {
        let document = PublicDocument { patterns: patterns.iter().map(|&p| p.to_owned()).collect(), rev: 0 };
        world.auth.set_public(who, &name("acme"), &document, None).await
    };
    assert_eq!(fields(&set(&Actor::Store, &["acme/x", "beta/x"]).await.unwrap_err()), ["/patterns/1"]);
    assert_eq!(fields(&set(&narrow, &["acme/**"]).await.unwrap_err()), ["/patterns/0"]);
    set(&narrow, &["acme/web/*"]).await.unwrap();
    assert_eq!(world.auth.get_public(&narrow, &name("acme")).await.unwrap().patterns, ["acme/web/*"]);
    let (_, publisher) = world.key("acme", NewKey { role: Role::Publisher, ..NewKey::default() }).await;
    assert!(matches!(set(&publisher, &[]).await, Err(Error::Refused(Refusal::Denied(_)))));
}
