use super::*;

#[tokio::test]
async fn the_day_of_last_use_is_written_once_a_day_off_the_way_of_a_request() {
    let world = World::new().await;
    let acme = name("acme");
    let (id, owner) = world.owner("acme").await;
    let minted = world.mint(&owner, "acme", MintRequest { ttl_seconds: Some(3 * 86_400), ..pull() }).await;
    let shown = async || world.auth.get_credential(&owner, &acme, &minted.credential.id).await.unwrap();
    world.basic(&minted, "acme/x").await.unwrap();
    assert_eq!(shown().await.last_used_on, None);
    assert_eq!(world.auth.write_last_use().await.unwrap(), 2);
    assert_eq!(shown().await.last_used_on.map(|day| day.to_string()), Some("2027-01-15".into()));
    let key = world.auth.get_key(&owner, &acme, &id).await.unwrap();
    assert_eq!(key.last_used_on.map(|day| day.to_string()), Some("2027-01-15".into()));

    world.basic(&minted, "acme/x").await.unwrap();
    assert_eq!(world.auth.write_last_use().await.unwrap(), 0);
    world.pass(86_400);
    world.basic(&minted, "acme/x").await.unwrap();
    assert_eq!(world.auth.write_last_use().await.unwrap(), 1);
    assert_eq!(shown().await.last_used_on.map(|day| day.to_string()), Some("2027-01-16".into()));
    assert!(world.basic(&minted, "acme/x").await.is_ok());
}

#[tokio::test]
async fn what_ended_a_week_ago_is_swept_and_nothing_else() {
    let world = World::new().await;
    let acme = name("acme");
    let (_, owner) = world.owner("acme").await;
    let account = world.auth.resolve(&acme).await.unwrap().unwrap();
    let long = MintRequest { ttl_seconds: Some(30 * 86_400), ..pull() };
    let mut made = Vec::new();
    for request in [pull(), long.clone(), long] {
        made.push(world.mint(&owner, "acme", request).await.credential.id);
    }
    world.auth.revoke_credential(&owner, &acme, &made[1]).await.unwrap();
    let left = async || {
        assert_eq!(world.auth.sweep_credentials(&account, None).await.unwrap(), None);
        let listed = world.auth.list_credentials(&owner, &acme, &Page::default()).await.unwrap();
        let mut ids: Vec<_> = listed.items.into_iter().map(|credential| credential.id).collect();
        ids.sort();
        ids
    };
    world.pass(7 * 86_400);
    assert_eq!(left().await.len(), 3);
    world.pass(1);
    assert_eq!(left().await.len(), 2);
    world.pass(12 * 3600);
    assert_eq!(left().await, [made[2].clone()]);
}

/// The targets of the events of one name in an account's audit.
async fn told(world: &World, event: &str) -> Vec<String> {
    let page = Page { after: None, limit: 100 };
    let events = world.auth.audit(&Actor::Store, &name("acme"), None, &page).await.unwrap().items;
    events.into_iter().filter(|one| one.event == event).filter_map(|one| one.target).collect()
}

#[tokio::test]
async fn the_audit_tells_once_whose_time_was_over_and_when() {
    let world = World::new().await;
    let acme = name("acme");
    let (_, owner) = world.owner("acme").await;
    let account = world.auth.resolve(&acme).await.unwrap().unwrap();
    let expired = world.mint(&owner, "acme", pull()).await.credential;
    let revoked = world.mint(&owner, "acme", pull()).await.credential;
    world.auth.revoke_credential(&owner, &acme, &revoked.id).await.unwrap();
    let (_, secret) = world.auth.open_session(&owner).await.unwrap();
    let session = world.auth.authenticate_session(secret.reveal(), HERE).await.unwrap();
    world.auth.close_session(&session).await.unwrap();
    let sibling = world.sibling(settings()).await.unwrap();
    let sweep = async || {
        for (one, other) in [(&world.auth, &sibling), (&sibling, &world.auth)] {
            let (one, other) =
                tokio::join!(one.sweep_credentials(&account, None), other.sweep_credentials(&account, None));
            assert!(one.unwrap().is_none() && other.unwrap().is_none());
        }
        world.auth.flush_audit().await.unwrap();
        sibling.flush_audit().await.unwrap();
    };
    sweep().await;
    assert_eq!(told(&world, "credential.expire").await, Vec::<String>::new());
    world.pass(12 * 3600);
    let once = [format!("{} 2027-01-15T20:00:00Z", expired.id)];
    for days in [0, 1, 7] {
        world.pass(days * 86_400);
        sweep().await;
        assert_eq!(told(&world, "credential.expire").await, once, "{days}");
    }
    assert!(world.auth.get_credential(&owner, &acme, &expired.id).await.is_err());
}

/// Two processes read the same record, and each would tell.
#[tokio::test]
async fn of_two_that_notice_an_end_one_tells() {
    let world = World::new().await;
    let account = world.auth.resolve(&name("acme")).await.unwrap().unwrap();
    let minted = world.mint(&Actor::Store, "acme", pull()).await.credential;
    world.pass(13 * 3600);
    let key = storage::key::credential(&account, minted.id.as_str());
    let now = world.clock.now();
    let read = async || storage::record::read(&*world.records, &key).await.unwrap().unwrap();
    let (mut one, mut other) = (read().await, read().await);
    assert!(world.auth.tell_end(&account, &key, minted.id.as_str(), &mut one, now).await.unwrap());
    assert!(!world.auth.tell_end(&account, &key, minted.id.as_str(), &mut other, now).await.unwrap());
    world.auth.flush_audit().await.unwrap();
    assert_eq!(told(&world, "credential.expire").await.len(), 1);
}

#[tokio::test]
async fn a_sweep_that_comes_after_the_week_tells_before_it_removes() {
    let world = World::new().await;
    let account = world.auth.resolve(&name("acme")).await.unwrap().unwrap();
    world.mint(&Actor::Store, "acme", pull()).await;
    world.pass(30 * 86_400);
    world.auth.sweep_credentials(&account, None).await.unwrap();
    world.auth.flush_audit().await.unwrap();
    assert_eq!(told(&world, "credential.expire").await.len(), 1);
    let left = world.auth.list_credentials(&Actor::Store, &name("acme"), &Page::default()).await.unwrap();
    assert!(left.items.is_empty());
}

#[tokio::test]
async fn a_sweep_goes_on_where_it_stopped() {
    let world = World::new().await;
    let account = world.auth.resolve(&name("acme")).await.unwrap().unwrap();
    for _ in 0..150 {
        world.mint(&Actor::Store, "acme", pull()).await;
    }
    world.pass(8 * 86_400);
    let next = world.auth.sweep_credentials(&account, None).await.unwrap();
    assert!(next.is_some());
    assert_eq!(world.auth.sweep_credentials(&account, next.as_deref()).await.unwrap(), None);
    let left = world.auth.list_credentials(&Actor::Store, &name("acme"), &Page::default()).await.unwrap();
    assert!(left.items.is_empty());
}
