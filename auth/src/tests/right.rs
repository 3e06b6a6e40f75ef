use super::*;

/// Which rights an actor has in `acme`, in the order of [`Right::ALL`]: `y`es, `n`o, or `f`rozen.
fn rights(auth: &Auth, actor: &Actor, account: &str) -> String {
    let letter = |right| match auth.admit(actor, right, account.parse().ok().as_ref()) {
        Ok(_) => 'y',
        Err(Refusal::Denied(_)) => 'n',
        Err(Refusal::ReadOnly { .. }) => 'f',
        Err(other) => panic!("{other:?}"),
    };
    Right::ALL.into_iter().map(letter).collect()
}

async fn of_role(world: &World, role: Role) -> Actor {
    world.key("acme", NewKey { role, ..NewKey::default() }).await.1
}

/// The columns: list and keep accounts; read and change one; read and set what is public; read, make and end keys; read, mint
/// and end credentials; read, make and end trust policies; read and change repositories, delete in them; read and set what goes by itself; read the usage of one
/// account and of all; read the audit of one account, and the installation's; open a session, whose account nobody names, and have one.
#[tokio::test]
async fn every_actor_has_the_rights_of_its_role_and_no_other() {
    let world = World::new().await;
    let operator = Actor::OperatorKey { id: Id::operator() };
    let at = |actor: &Actor, account: &str| rights(&world.auth, actor, account);
    assert_eq!(at(&Actor::Store, "acme"), "yyyyyyyyyyyyyyyyyyyyyyyyyy");
    assert_eq!(at(&operator, "acme"), "yyyynnnnnnnnnnnnnnnnyynynn");
    for (role, expected) in [
        (Role::Owner, "nnyyyyyyyyyyyyyyyyyyynynyn"),
        (Role::Publisher, "nnynynnnnyyynnnynnynynnnyn"),
        (Role::Installer, "nnnnnnnnnnyynnnnnnnnnnnnyn"),
        (Role::Viewer, "nnynynynnynnynnynnynynynyn"),
    ] {
        let actor = of_role(&world, role).await;
        assert_eq!(at(&actor, "acme"), expected, "{role:?}");
        for elsewhere in ["beta", "nothing", "Not A Name"] {
            assert_eq!(at(&actor, elsewhere), "nnnnnnnnnnnnnnnnnnnnnnnnyn", "{role:?} in {elsewhere}");
        }
    }
}

#[tokio::test]
async fn a_publisher_deletes_if_its_key_says_so_and_usage_is_for_keys_that_reach_all() {
    let world = World::new().await;
    let key = |delete, patterns: &[&str]| NewKey {
        role: Role::Publisher,
        delete,
        repositories: patterns.iter().map(|&pattern| pattern.into()).collect(),
        ..NewKey::default()
    };
    for (new, expected) in
        [(key(true, &[]), "nnynynnnnyyynnnynyynynnnyn"), (key(false, &["acme/web/*"]), "nnynynnnnyyynnnynnnnnnnnyn")]
    {
        let actor = world.key("acme", new).await.1;
        assert_eq!(rights(&world.auth, &actor, "acme"), expected);
    }
}

#[tokio::test]
async fn a_retired_key_reads_and_ends_rights_and_does_nothing_else() {
    let world = World::new().await;
    let made = world.auth.create_key(&Actor::Store, &name("acme"), &NewKey::default()).await.unwrap();
    world.auth.retire_key(&Actor::Store, &name("acme"), &made.id).await.unwrap();
    let retired = world.auth.authenticate_api(Some(made.key.unwrap().reveal()), HERE).await.unwrap();
    assert_eq!(rights(&world.auth, &retired, "acme"), "nnynynynyynyynyynnynynynnn");
}

#[tokio::test]
async fn a_read_only_account_is_not_changed_while_mints_and_revocations_go_on() {
    let world = World::new().await;
    let made = world.auth.create_key(&Actor::Store, &name("acme"), &NewKey::default()).await.unwrap();
    let secret = made.key.unwrap();
    let change = AccountChange { state: Some(AccountState::ReadOnly), ..AccountChange::default() };
    world.auth.change_account(&Actor::Store, &name("acme"), &change, None).await.unwrap();
    let owner = world.auth.authenticate_api(Some(secret.reveal()), HERE).await.unwrap();
    assert_eq!(rights(&world.auth, &owner, "acme"), "nnyfyfyfyyyyyfyyffyfynynyn");
    let operator = Actor::OperatorKey { id: Id::operator() };
    assert_eq!(rights(&world.auth, &operator, "acme"), "yyyynnnnnnnnnnnnnnnnyynynn", "who froze it thaws it");

    let frozen = world.sibling(Settings { read_only: true, ..settings() }).await.unwrap();
    let owner = frozen.authenticate_api(Some(secret.reveal()), HERE).await.unwrap();
    assert_eq!(rights(&frozen, &owner, "acme"), "nnyfyfyfyyyyyfyyffyfynynyn");
    assert_eq!(rights(&frozen, &operator, "acme"), "yfyfnnnnnnnnnnnnnnnnyynynn");
}

#[tokio::test]
async fn what_is_public_is_replaced_from_the_rev_it_was_read_with() {
    let world = World::new().await;
    let acme = name("acme");
    let set = async |pattern: &str, seen| {
        let document = PublicDocument { patterns: vec![pattern.into()], rev: 0 };
        world.auth.set_public(&Actor::Store, &acme, &document, seen).await
    };
    assert_eq!(world.auth.get_public(&Actor::Store, &acme).await.unwrap().rev, 0);
    assert_eq!(set("acme/a", Some(0)).await.unwrap().rev, 1);
    assert!(matches!(set("acme/b", Some(0)).await, Err(Error::Changed { rev: 1 })));
    assert_eq!(set("acme/b", Some(1)).await.unwrap().rev, 2);
    assert_eq!(set("acme/b", Some(2)).await.unwrap().rev, 2, "the same again writes nothing");
    let (a, b) = tokio::join!(set("acme/c", Some(2)), set("acme/d", Some(2)));
    assert_eq!(usize::from(a.is_ok()) + usize::from(b.is_ok()), 1);
}
