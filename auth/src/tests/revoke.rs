use chrono::TimeDelta;
use storage::{Clock, backend::Records, key};

use super::*;

/// The log as it is stored: its number and what its entries say.
async fn log(world: &World) -> (u64, Vec<String>) {
    let found = world.records.get(&key::authlog()).await.unwrap().unwrap();
    let log: serde_json::Value = serde_json::from_slice(&found.body).unwrap();
    let entries = log["ring"].as_array().unwrap().iter().map(|entry| entry[2].as_str().unwrap().to_owned()).collect();
    (log["seq"].as_u64().unwrap(), entries)
}

#[tokio::test]
async fn a_revoked_credential_is_dead_at_once_and_in_the_log() {
    let world = World::new().await;
    let (_, acme) = world.owner("acme").await;
    let minted = world.mint(&acme, "acme", push()).await;
    let token = world.token(&minted, &["repository:acme/x:pull"]).await;
    assert_eq!(log(&world).await, (0, vec![]));
    let ended = world.auth.revoke_credential(&acme, &name("acme"), &minted.credential.id).await.unwrap();
    assert_eq!(ended.effective_by, world.clock.now() + TimeDelta::seconds(5));
    assert_eq!(serde_json::to_string(&ended).unwrap(), r#"{"effective_by":"2027-01-15T08:00:05.000Z"}"#);
    assert_eq!(log(&world).await, (1, vec![minted.credential.id.to_string()]));
    assert!(matches!(world.bearer(&token, "acme/x").await, Err(Refusal::InvalidToken)));
    assert!(world.basic(&minted, "acme/x").await.is_err());
}

#[tokio::test]
async fn a_revoked_key_takes_its_credentials_with_it_and_no_others() {
    let world = World::new().await;
    let (id, one) = world.owner("acme").await;
    let (_, two) = world.owner("acme").await;
    let dying = world.mint(&one, "acme", push()).await;
    let token = world.token(&dying, &[]).await;
    let living = world.mint(&two, "acme", push()).await;
    world.auth.revoke_key(&two, &name("acme"), &id).await.unwrap();
    assert!(world.basic(&dying, "acme/x").await.is_err());
    assert!(matches!(world.bearer(&token, "acme/x").await, Err(Refusal::InvalidToken)));
    assert!(world.basic(&living, "acme/x").await.is_ok());
}

#[tokio::test]
async fn a_log_that_cannot_be_written_is_no_success_and_asking_again_is() {
    let world = World::new().await;
    let (_, acme) = world.owner("acme").await;
    let minted = world.mint(&acme, "acme", pull()).await;
    let id = &minted.credential.id;
    let account = name("acme");
    // Account, credential, its mark; then the log's read fails.
    world.records.faults().die_after(3);
    assert!(matches!(world.auth.revoke_credential(&acme, &account, id).await, Err(Error::Store(_))));
    world.records.faults().heal();
    assert_eq!(log(&world).await, (0, vec![]));
    assert!(world.basic(&minted, "acme/x").await.is_err());
    world.auth.revoke_credential(&acme, &account, id).await.unwrap();
    world.auth.revoke_credential(&acme, &account, id).await.unwrap();
    assert_eq!(log(&world).await.0, 2);
}

#[tokio::test]
async fn the_first_revocation_s_time_stays() {
    let world = World::new().await;
    let (_, acme) = world.owner("acme").await;
    let minted = world.mint(&acme, "acme", pull()).await;
    let account = name("acme");
    world.auth.revoke_credential(&acme, &account, &minted.credential.id).await.unwrap();
    let first = world.clock.now();
    world.pass(60);
    world.auth.revoke_credential(&acme, &account, &minted.credential.id).await.unwrap();
    let shown = world.auth.get_credential(&acme, &account, &minted.credential.id).await.unwrap();
    assert_eq!(shown.revoked_at, Some(first));
}

#[tokio::test]
async fn revocations_of_one_account_are_limited() {
    let world = World::new().await;
    let (_, acme) = world.owner("acme").await;
    let minted = world.mint(&acme, "acme", pull()).await;
    let revoke = || world.auth.revoke_credential(&acme, &minted.credential.account, &minted.credential.id);
    for _ in 0..5 {
        revoke().await.unwrap();
    }
    assert!(matches!(revoke().await, Err(Error::Refused(Refusal::Throttled(_)))));
    world.pass(1);
    revoke().await.unwrap();
}

/// An installer's key, which may be a customer's, cannot use up what a leak of the vendor's needs.
#[tokio::test]
async fn who_may_not_revoke_takes_nothing_from_the_limit() {
    let world = World::new().await;
    let (_, owner) = world.owner("acme").await;
    let new = NewKey { role: Role::Installer, repositories: vec!["acme/**".into()], ..NewKey::default() };
    let (_, installer) = world.key("acme", new).await;
    let minted = world.mint(&owner, "acme", pull()).await;
    let acme = name("acme");
    for _ in 0..10 {
        let refused = world.auth.revoke_credential(&installer, &acme, &minted.credential.id).await;
        assert!(matches!(refused, Err(Error::Refused(Refusal::Denied(_)))), "{refused:?}");
        let absent = world.auth.revoke_credential(&owner, &acme, &Id::operator()).await;
        assert!(matches!(absent, Err(Error::NotFound { .. })), "{absent:?}");
        let absent = world.auth.revoke_key(&owner, &acme, &Id::operator()).await;
        assert!(matches!(absent, Err(Error::NotFound { .. })), "{absent:?}");
    }
    for _ in 0..5 {
        world.auth.revoke_credential(&owner, &acme, &minted.credential.id).await.unwrap();
    }
}

#[tokio::test]
async fn roles_revoke_what_the_table_says() {
    let world = World::new().await;
    let acme = name("acme");
    let of = async |role, pattern: &str| {
        let new = NewKey { role, repositories: vec![pattern.into()], ..NewKey::default() };
        world.key("acme", new).await.1
    };
    let owner = of(Role::Owner, "acme/**").await;
    let publisher = of(Role::Publisher, "acme/web/*").await;
    let installer = of(Role::Installer, "acme/web/*").await;
    let viewer = of(Role::Viewer, "acme/**").await;
    let in_web = world.mint(&publisher, "acme", pull()).await.credential.id;
    let in_all = world.mint(&owner, "acme", pull()).await.credential.id;
    let installed = world.mint(&installer, "acme", pull()).await.credential.id;
    let may = async |who: &Actor, id: &Id| {
        world.pass(2);
        match world.auth.revoke_credential(who, &acme, id).await {
            Ok(_) => true,
            Err(Error::Refused(Refusal::Denied(_))) => false,
            Err(other) => panic!("{other}"),
        }
    };
    assert!(!may(&installer, &in_web).await && !may(&publisher, &in_all).await && !may(&viewer, &in_web).await);
    let (_, foreign) = world.owner("beta").await;
    assert!(!may(&foreign, &in_web).await);
    assert!(may(&installer, &installed).await && may(&publisher, &installed).await && may(&publisher, &in_web).await);
    assert!(may(&owner, &in_all).await && may(&Actor::Store, &in_all).await);
    let absent = world.auth.revoke_credential(&owner, &acme, &Id::operator()).await;
    assert!(matches!(absent, Err(Error::NotFound { what: "credential" })));
    for (who, reads) in [(&viewer, true), (&publisher, true), (&installer, false)] {
        assert_eq!(world.auth.list_credentials(who, &acme, &Page::default()).await.is_ok(), reads);
        assert_eq!(world.auth.get_credential(who, &acme, &in_web).await.is_ok(), reads);
    }
}
