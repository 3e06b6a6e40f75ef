use config::{DeclaredAccount, DeclaredKey, Origin};

use super::*;

fn origin() -> Origin {
    Origin::File { path: "hythe.toml".into(), line: 7 }
}

/// A declared account of its own name and one owner key, and that key's secret.
fn account(name: &str, generation: &storage::Generation) -> (DeclaredAccount, Secret) {
    let secret = declare_key(generation, DateTime::from_timestamp(1_800_000_000, 0).unwrap());
    let key = DeclaredKey {
        origin: origin(),
        id: secret.id().to_string(),
        hash: secret.hash().to_hex(),
        role: None,
        delete: false,
        repositories: Vec::new(),
        label: None,
        max_ttl: None,
        expires: None,
        ip_allow: Vec::new(),
    };
    let account = DeclaredAccount {
        origin: origin(),
        name: name.to_owned(),
        generation: generation.to_string(),
        display: None,
        state: None,
        public: None,
        on_stale: None,
        hosts: None,
        ip_allow: None,
        max_ttl_pull: None,
        max_ttl_push: None,
        keys: vec![key],
    };
    (account, secret)
}

fn checked(accounts: &[DeclaredAccount]) -> Declared {
    Declared::check(accounts).unwrap()
}

#[tokio::test]
async fn a_declared_key_mints_and_only_while_it_is_named() {
    let world = World::new().await;
    let (gamma, secret) = account("gamma", &storage::Generation::random());
    assert!(world.auth.authenticate_api(Some(secret.reveal()), HERE).await.is_err());
    world.auth.declare(&checked(std::slice::from_ref(&gamma))).await.unwrap();
    let actor = world.auth.authenticate_api(Some(secret.reveal()), HERE).await.unwrap();
    world.mint(&actor, "gamma", push()).await;

    // One that left the file is in the store, and is not taken any more.
    let bare = DeclaredAccount { keys: Vec::new(), ..gamma.clone() };
    world.auth.declare(&checked(&[bare])).await.unwrap();
    assert!(world.auth.authenticate_api(Some(secret.reveal()), HERE).await.is_err());
    let key = world.auth.get_key(&Actor::Store, &name("gamma"), secret.id()).await.unwrap();
    assert_eq!(key.state, KeyState::Active);
    let told = |account: &str, key: Option<&Id>| Departed { account: name(account), key: key.cloned() };
    let bare = checked(&[DeclaredAccount { keys: Vec::new(), ..gamma.clone() }]);
    assert_eq!(world.auth.departed(&bare).await.unwrap(), [told("gamma", Some(secret.id()))]);
    assert_eq!(world.auth.departed(&checked(&[gamma])).await.unwrap(), []);
    assert_eq!(world.auth.departed(&Declared::default()).await.unwrap(), [told("gamma", None)]);
}

#[tokio::test]
async fn declared_names_are_given_with_the_account_and_a_name_of_another_s_stops_the_start() {
    let world = World::new().await;
    let (gamma, _) = account("gamma", &storage::Generation::random());
    let with = |names: &[&str]| {
        let hosts = Some(names.iter().map(|&name| name.to_owned()).collect());
        checked(&[DeclaredAccount { hosts, ..gamma.clone() }])
    };
    let whose = async |host| world.auth.account_host(host, HERE).await.unwrap().map(|account| account.to_string());
    world.auth.declare(&with(&["registry.gamma.com"])).await.unwrap();
    assert_eq!(whose("registry.gamma.com").await.as_deref(), Some("gamma"));
    world.auth.declare(&with(&["images.gamma.com"])).await.unwrap();
    assert_eq!(whose("registry.gamma.com").await, None);
    assert_eq!(whose("images.gamma.com").await.as_deref(), Some("gamma"));
    let hosts = Some(vec!["registry.acme.com".into()]);
    let change = AccountChange { hosts, ..AccountChange::default() };
    world.auth.change_account(&Actor::Store, &name("acme"), &change, None).await.unwrap();
    let refused = world.auth.declare(&with(&["registry.acme.com"])).await.unwrap_err();
    assert_eq!(refused.to_string(), "account gamma cannot have the host registry.acme.com: it is account acme's");
    let bad = DeclaredAccount { hosts: Some(vec!["10.0.0.1".into()]), ..gamma.clone() };
    let told = Declared::check(&[bad]).unwrap_err().to_string();
    assert!(told.ends_with("hosts: a full name, like registry.acme.com"), "{told}");
}

#[tokio::test]
async fn a_guess_of_a_declared_secret_costs_no_read() {
    let world = World::new().await;
    let generation = storage::Generation::random();
    let (gamma, secret) = account("gamma", &generation);
    world.auth.declare(&checked(&[gamma])).await.unwrap();
    let calls = world.records.faults().calls();
    // A good tag, which anybody can make, under an id that is declared and under one that is not; then garbage.
    let other = declare_key(&generation, world.clock.now());
    let same_id = format!("{}{}", &secret.reveal()[..33], &other.reveal()[33..]);
    for guess in [other.reveal(), &same_id, &secret.reveal()[1..]] {
        let refused = world.auth.authenticate_api(Some(guess), HERE).await;
        assert!(matches!(refused, Err(Refusal::Unauthenticated(None))), "{refused:?}");
    }
    assert_eq!(world.records.faults().calls(), calls);
    world.auth.authenticate_api(Some(secret.reveal()), HERE).await.unwrap();
    assert!(world.records.faults().calls() > calls);
}

#[tokio::test]
async fn what_differs_is_brought_and_what_was_ended_stays_ended() {
    let world = World::new().await;
    let generation = storage::Generation::random();
    let (mut gamma, secret) = account("gamma", &generation);
    world.auth.declare(&checked(std::slice::from_ref(&gamma))).await.unwrap();
    gamma.display = Some("Gamma".to_owned());
    gamma.state = Some("read-only".to_owned());
    gamma.public = Some(vec!["gamma/open/*".to_owned()]);
    gamma.max_ttl_pull = Some("1h".to_owned());
    gamma.keys[0].role = Some("publisher".to_owned());
    gamma.keys[0].expires = Some("2030-01-31".to_owned());
    world.auth.declare(&checked(std::slice::from_ref(&gamma))).await.unwrap();
    let shown = world.auth.get_account(&Actor::Store, &name("gamma")).await.unwrap();
    assert_eq!((shown.display.as_str(), shown.state), ("Gamma", AccountState::ReadOnly));
    assert_eq!(shown.policy.max_ttl_pull, Some(3600));
    assert_eq!(world.auth.get_public(&Actor::Store, &name("gamma")).await.unwrap().patterns, ["gamma/open/*"]);
    let key = world.auth.get_key(&Actor::Store, &name("gamma"), secret.id()).await.unwrap();
    assert_eq!((key.role, key.expires_at.is_some()), (Role::Publisher, true));

    // What the file does not say is left alone, and nothing is written where nothing differs.
    let before = world.records.listing();
    world.auth.declare(&checked(std::slice::from_ref(&gamma))).await.unwrap();
    assert_eq!(world.records.listing(), before);

    let suspended = AccountChange { state: Some(AccountState::Suspended), ..AccountChange::default() };
    world.auth.change_account(&Actor::Store, &name("gamma"), &suspended, None).await.unwrap();
    world.auth.retire_key(&Actor::Store, &name("gamma"), secret.id()).await.unwrap();
    gamma.state = Some("active".to_owned());
    gamma.keys[0].label = Some("new".to_owned());
    world.auth.declare(&checked(&[gamma])).await.unwrap();
    assert_eq!(world.auth.get_account(&Actor::Store, &name("gamma")).await.unwrap().state, AccountState::Suspended);
    let key = world.auth.get_key(&Actor::Store, &name("gamma"), secret.id()).await.unwrap();
    assert_eq!((key.state, key.label.as_str()), (KeyState::Retired, "new"));
}

fn told(error: &Error) -> String {
    assert!(matches!(error, Error::CannotOpen(_)), "{error}");
    error.to_string()
}

#[tokio::test]
async fn another_generation_or_a_deleted_one_is_refused_and_nothing_is_written() {
    let world = World::new().await;
    let lives = world.auth.get_account(&Actor::Store, &name("acme")).await.unwrap().generation;
    let wanted = storage::Generation::random();
    let before = world.records.listing();
    let fresh = account("gamma", &storage::Generation::random()).0;
    let error = world.auth.declare(&checked(&[fresh.clone(), account("acme", &wanted).0])).await.unwrap_err();
    let line = told(&error);
    assert!(
        line.contains(lives.as_str()) && line.contains(wanted.as_str()) && line.contains("hythe.toml line 7"),
        "{line}"
    );
    let error = world.auth.declare(&checked(&[fresh, account("delta", &lives).0])).await.unwrap_err();
    assert!(told(&error).contains("account acme's and cannot be account delta's"), "{error}");
    assert_eq!(world.records.listing(), before);

    world.auth.delete_account(&Actor::Store, &name("acme"), None).await.unwrap();
    let error = world.auth.declare(&checked(&[account("acme", &lives).0])).await.unwrap_err();
    assert!(told(&error).contains("which was deleted"), "{error}");
    // The name is free for another generation.
    world.auth.declare(&checked(&[account("acme", &wanted).0])).await.unwrap();
    assert_eq!(world.auth.get_account(&Actor::Store, &name("acme")).await.unwrap().generation, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_replicas_at_once_come_to_the_same() {
    let world = World::new().await;
    let mut accounts: Vec<_> =
        ["gamma", "delta", "epsilon"].map(|name| account(name, &storage::Generation::random()).0).into();
    for round in 0..3 {
        for account in &mut accounts {
            account.display = Some(format!("round {round}"));
            account.public = Some(vec![format!("{}/open{round}/*", account.name)]);
            account.keys[0].label = Some(format!("round {round}"));
        }
        let replicas = (0..16).map(|_| async {
            let replica = world.sibling(settings()).await.unwrap();
            replica.declare(&checked(&accounts)).await
        });
        for outcome in futures::future::join_all(replicas).await {
            outcome.unwrap();
        }
        for account in &accounts {
            let shown = world.auth.get_account(&Actor::Store, &name(&account.name)).await.unwrap();
            assert_eq!(
                (shown.generation.to_string(), shown.display),
                (account.generation.clone(), format!("round {round}"))
            );
            // Fifteen of sixteen found nothing to do: no record was written more often than it was changed.
            assert!(shown.rev <= round + 1, "rev {} in round {round}", shown.rev);
        }
    }
}

#[tokio::test]
async fn a_read_only_server_takes_what_is_there_and_writes_nothing() {
    let world = World::new().await;
    let (gamma, secret) = account("gamma", &storage::Generation::random());
    let frozen = world.sibling(Settings { read_only: true, ..settings() }).await.unwrap();
    let before = world.records.listing();
    frozen.declare(&checked(std::slice::from_ref(&gamma))).await.unwrap();
    assert_eq!(world.records.listing(), before);
    assert!(frozen.authenticate_api(Some(secret.reveal()), HERE).await.is_err());
    world.auth.declare(&checked(&[gamma])).await.unwrap();
    assert!(frozen.authenticate_api(Some(secret.reveal()), HERE).await.is_ok());
}

#[test]
fn a_declaration_that_cannot_be_used_is_one_line_with_its_place() {
    let good = account("gamma", &storage::Generation::random()).0;
    let key = |change: fn(&mut DeclaredKey)| {
        let mut account = good.clone();
        change(&mut account.keys[0]);
        vec![account]
    };
    let with = |change: fn(&mut DeclaredAccount)| {
        let mut account = good.clone();
        change(&mut account);
        vec![account]
    };
    let cases = [
        (with(|a| a.name = "Gamma".into()), "name: "),
        (with(|a| a.generation = "000000000000".into()), "gen: expected 12 characters"),
        (with(|a| a.state = Some("deleted".into())), "state: expected active, "),
        (with(|a| a.public = Some(vec!["acme/**".into()])), "public: a pattern of this account begins with gamma/"),
        (with(|a| a.max_ttl_pull = Some("91d".into())), "max_ttl_pull: expected 90 days at most"),
        (with(|a| a.ip_allow = Some(vec!["here".into()])), "ip_allow: a network is "),
        (key(|k| k.id = "x".into()), "id: an id is 16 characters"),
        (key(|k| k.hash = "ab".into()), "hash: expected 64 hexadecimal digits"),
        (key(|k| k.role = Some("root".into())), "role: a role is owner"),
        (key(|k| (k.role, k.delete) = (Some("viewer".into()), true)), "delete: only a publisher's"),
        (key(|k| k.expires = Some("soon".into())), "expires: expected a date or time"),
        (key(|k| k.max_ttl = Some("1s".into())), "max_ttl: expected 60 seconds"),
        (vec![good.clone(), good.clone()], "gamma is declared twice"),
        (
            vec![good.clone(), DeclaredAccount { name: "delta".into(), ..good.clone() }],
            " is of another account already",
        ),
        (with(|a| a.keys.push(a.keys[0].clone())), " is declared twice"),
    ];
    for (accounts, says) in cases {
        let line = Declared::check(&accounts).unwrap_err().to_string();
        assert!(line.starts_with("accounts (hythe.toml line 7): ") && line.contains(says), "{line}");
    }
}
