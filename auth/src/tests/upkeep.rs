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
