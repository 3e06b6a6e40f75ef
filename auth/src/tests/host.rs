//! Names of an account's own, and what a host leaves in reach.

use storage::{backend::Records as _, key};

use super::*;

const NAME: &str = "registry.acme.com";

fn hosts(names: &[&str]) -> AccountChange {
    AccountChange { hosts: Some(names.iter().map(|&name| name.to_owned()).collect()), ..AccountChange::default() }
}

impl World {
    async fn give(&self, account: &str, names: &[&str]) -> Result<AccountDocument, Error> {
        self.auth.change_account(&Actor::Store, &name(account), &hosts(names), None).await
    }

    /// Whose host a name is here.
    async fn whose(&self, host: &str) -> Option<String> {
        whose(&self.auth, host).await.unwrap()
    }

    fn reads(&self) -> u64 {
        self.records.faults().calls()
    }
}

async fn whose(auth: &Auth, host: &str) -> Result<Option<String>, Refusal> {
    Ok(auth.account_host(host, HERE).await?.map(|account| account.to_string()))
}

#[tokio::test]
async fn a_name_is_one_account_s_until_it_is_taken_back() {
    let world = World::new().await;
    assert_eq!(world.whose(NAME).await, None);
    assert_eq!(
        world.give("acme", &["Registry.Acme.com", NAME, "images.acme.com"]).await.unwrap().hosts,
        [NAME, "images.acme.com"]
    );
    assert_eq!(world.whose(NAME).await.as_deref(), Some("acme"));
    let taken = world.give("beta", &["registry.beta.com", NAME]).await.unwrap_err();
    assert_eq!(taken.to_string(), "account beta cannot have the host registry.acme.com: it is account acme's");
    // Nothing of what was refused was done.
    assert_eq!(world.whose("registry.beta.com").await, None);
    assert!(world.auth.get_account(&Actor::Store, &name("beta")).await.unwrap().hosts.is_empty());
    assert!(world.give("acme", &["registry.beta.com"]).await.is_ok());
    assert_eq!(world.whose(NAME).await, None);
    world.give("beta", &[NAME]).await.unwrap();
    assert_eq!(world.whose(NAME).await.as_deref(), Some("beta"));
    world.give("beta", &[]).await.unwrap();
    assert_eq!(world.whose(NAME).await, None);
}

#[tokio::test]
async fn of_two_who_are_given_a_name_at_once_one_has_it() {
    let world = World::new().await;
    let other = world.sibling(settings()).await.unwrap();
    let (acme, beta) = (name("acme"), name("beta"));
    let change = hosts(&[NAME]);
    let (one, two) = tokio::join!(
        world.auth.change_account(&Actor::Store, &acme, &change, None),
        other.change_account(&Actor::Store, &beta, &change, None),
    );
    assert!(one.is_ok() != two.is_ok());
    let owner = if one.is_ok() { "acme" } else { "beta" };
    assert_eq!(world.whose(NAME).await.as_deref(), Some(owner));
}

#[tokio::test]
async fn a_name_dies_with_its_account_and_is_not_inherited() {
    let world = World::new().await;
    world.give("acme", &[NAME]).await.unwrap();
    assert_eq!(world.whose(NAME).await.as_deref(), Some("acme"));
    world.auth.delete_account(&Actor::Store, &name("acme"), None).await.unwrap();
    assert_eq!(world.whose(NAME).await, None);
    assert!(world.create("acme").await.unwrap().hosts.is_empty());
    assert_eq!(world.whose(NAME).await, None);
    world.give("beta", &[NAME]).await.unwrap();
    assert_eq!(world.whose(NAME).await.as_deref(), Some("beta"));
}

/// Each of the writes of giving and taking back is the last that is made.
#[tokio::test]
async fn what_a_crash_leaves_behind_serves_nobody_and_the_same_command_finishes_it() {
    for (before, after) in [(&[][..], &[NAME][..]), (&[NAME], &[])] {
        for calls in 0..24 {
            let world = World::new().await;
            world.give("acme", before).await.unwrap();
            world.records.faults().die_after(calls);
            let done = world.give("acme", after).await.is_ok();
            world.records.faults().heal();
            let other = world.sibling(settings()).await.unwrap();
            let listed = other.get_account(&Actor::Store, &name("acme")).await.unwrap().hosts;
            let served = whose(&other, NAME).await.unwrap().is_some();
            assert!(!served || listed == [NAME], "after {calls} calls");
            world.give("acme", after).await.unwrap();
            let other = world.sibling(settings()).await.unwrap();
            assert_eq!(whose(&other, NAME).await.unwrap().is_some(), after == [NAME], "after {calls} calls");
            world.pass(600);
            assert_eq!(world.give("beta", &[NAME]).await.is_ok(), after != [NAME], "after {calls} calls");
            if done {
                break;
            }
            assert!(calls < 23, "it never gets done");
        }
    }
}

#[tokio::test]
async fn an_account_that_died_without_giving_its_name_back_stands_in_nobody_s_way() {
    let world = World::new().await;
    world.give("acme", &[NAME]).await.unwrap();
    let kept = world.records.get(&key::host(NAME)).await.unwrap().unwrap().body;
    world.auth.delete_account(&Actor::Store, &name("acme"), None).await.unwrap();
    world.create("acme").await.unwrap();
    let body = storage::backend::Body { bytes: kept, nonce: "x".into() };
    world.records.create(&key::host(NAME), &body).await.unwrap();
    assert_eq!(whose(&world.sibling(settings()).await.unwrap(), NAME).await.unwrap(), None);
    world.give("beta", &[NAME]).await.unwrap();
    assert_eq!(world.whose(NAME).await.as_deref(), Some("beta"));
}

#[tokio::test]
async fn only_the_operator_gives_names_and_only_names_that_can_be_given() {
    let own = Settings {
        public_names: vec!["registry.example".into()],
        account_domain: Some("accounts.example".into()),
        ..settings()
    };
    let world = World::with(own).await;
    let (_, owner) = world.owner("acme").await;
    let refused = world.auth.change_account(&owner, &name("acme"), &hosts(&[NAME]), None).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::Denied(Reason::Role(_))))));
    let operator = Actor::OperatorKey { id: Id::operator() };
    assert!(world.auth.change_account(&operator, &name("acme"), &hosts(&[NAME]), None).await.is_ok());
    assert_eq!(world.auth.get_account(&owner, &name("acme")).await.unwrap().hosts, [NAME]);
    for bad in [
        "localhost",
        "10.0.0.1",
        "[::1]",
        "a_b c",
        "registry.acme.com:443",
        "https://registry.acme.com",
        "*.acme.com",
        "",
        "registry.example",
        "accounts.example",
        "beta.accounts.example",
        "a.b.accounts.example",
    ] {
        assert_eq!(fields(&world.give("acme", &[NAME, bad]).await.unwrap_err()), ["/hosts/1"], "{bad}");
    }
    assert!(world.give("acme", &["xaccounts.example"]).await.is_ok());
    let many: Vec<_> = (0..33).map(|i| format!("a{i}.acme.com")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert_eq!(fields(&world.give("acme", &many).await.unwrap_err()), ["/hosts"]);
}

#[tokio::test]
async fn a_change_that_is_refused_gives_no_name() {
    let world = World::new().await;
    let seen = world.auth.get_account(&Actor::Store, &name("acme")).await.unwrap().rev;
    let stale = world.auth.change_account(&Actor::Store, &name("acme"), &hosts(&[NAME]), Some(seen + 1)).await;
    assert!(matches!(stale, Err(Error::Changed { .. })));
    world.give("beta", &[NAME]).await.unwrap();
}

#[tokio::test]
async fn giving_and_taking_back_stand_in_both_audits() {
    let world = World::new().await;
    world.give("acme", &[NAME, "images.acme.com"]).await.unwrap();
    world.give("acme", &["images.acme.com"]).await.unwrap();
    let page = Page { after: None, limit: 100 };
    let own = world.auth.audit(&Actor::Store, &name("acme"), None, &page).await.unwrap().items;
    let all = world.auth.installation_audit(&Actor::Store, None, &page).await.unwrap().items;
    for lines in [own, all] {
        let lines: Vec<_> = lines.into_iter().filter(|line| line.event.starts_with("host.")).collect();
        let told: Vec<_> =
            lines.iter().map(|line| (line.event.as_str(), line.target.as_deref().unwrap_or_default())).collect();
        assert_eq!(told, [("host.approve", "registry.acme.com images.acme.com"), ("host.withdraw", NAME)]);
    }
}

#[tokio::test]
async fn a_name_costs_one_read_and_is_remembered_for_a_minute_when_it_is_nobody_s() {
    let world = World::new().await;
    let before = world.reads();
    assert_eq!(world.whose(NAME).await, None);
    assert_eq!(world.reads() - before, 1);
    world.pass(3);
    assert_eq!(world.whose(NAME).await, None);
    assert_eq!(world.reads() - before, 1);
    // Looks at the log are reads as well.
    world.pass(57);
    world.auth.follow().await.unwrap();
    let before = world.reads();
    assert_eq!(world.whose(NAME).await, None);
    assert_eq!(world.reads() - before, 1);

    world.give("acme", &[NAME]).await.unwrap();
    assert_eq!(world.whose(NAME).await.as_deref(), Some("acme"));
    let before = world.reads();
    for _ in 0..3 {
        assert_eq!(world.whose(NAME).await.as_deref(), Some("acme"));
    }
    assert_eq!(world.reads(), before);
}

#[tokio::test]
async fn names_that_are_nobody_s_are_failures_of_the_address_and_stop_being_read() {
    let few = Settings { failures: Rate { burst: 3.0, per_second: 1.0 }, ..settings() };
    let world = World::with(few).await;
    world.give("acme", &[NAME]).await.unwrap();
    for i in 0..3 {
        assert_eq!(world.whose(&format!("a{i}.example")).await, None);
    }
    let before = world.reads();
    assert!(matches!(whose(&world.auth, "a3.example").await, Err(Refusal::Throttled(_))));
    assert!(matches!(whose(&world.auth, "a0.example").await, Err(Refusal::Throttled(_))));
    assert_eq!(world.reads(), before);
    // Another address is not held up, and once it has warmed the name nobody is.
    let elsewhere = "10.9.9.9".parse().unwrap();
    assert!(world.auth.account_host(NAME, elsewhere).await.unwrap().is_some());
    assert_eq!(world.whose(NAME).await.as_deref(), Some("acme"));
    // Nor when it has to be read again.
    world.auth.log_end(&storage::Generation::random(), crate::revocation::What::Hosts).await.unwrap();
    world.give("acme", &[NAME, "images.acme.com"]).await.unwrap();
    assert_eq!(world.whose(NAME).await.as_deref(), Some("acme"));
}

#[tokio::test]
async fn every_replica_hears_of_it_within_the_bound() {
    let world = World::new().await;
    let other = world.sibling(settings()).await.unwrap();
    let there = async || whose(&other, NAME).await.unwrap();
    assert_eq!(there().await, None);
    world.give("acme", &[NAME]).await.unwrap();
    assert_eq!(there().await, None);
    other.follow().await.unwrap();
    assert_eq!(there().await.as_deref(), Some("acme"));
    world.give("acme", &[]).await.unwrap();
    assert_eq!(there().await.as_deref(), Some("acme"));
    world.pass(5);
    assert_eq!(there().await, None);
    // A deletion is heard of like that, too.
    world.give("acme", &[NAME]).await.unwrap();
    other.follow().await.unwrap();
    assert_eq!(there().await.as_deref(), Some("acme"));
    world.auth.delete_account(&Actor::Store, &name("acme"), None).await.unwrap();
    world.pass(5);
    assert_eq!(there().await, None);
}

#[tokio::test]
async fn without_the_store_a_known_host_goes_on_as_its_account_s_pulls_do_and_an_unknown_one_is_unavailable() {
    let world = World::new().await;
    let serve = AccountChange { on_stale: Some(OnStale::Serve), ..hosts(&["registry.beta.com"]) };
    world.auth.change_account(&Actor::Store, &name("beta"), &serve, None).await.unwrap();
    world.give("acme", &[NAME]).await.unwrap();
    for host in [NAME, "registry.beta.com"] {
        assert!(world.whose(host).await.is_some());
    }
    world.records.faults().die_after(0);
    world.pass(4);
    assert_eq!(world.whose(NAME).await.as_deref(), Some("acme"));
    assert!(matches!(whose(&world.auth, "a.example").await, Err(Refusal::Unavailable(_))));
    world.pass(1);
    assert!(matches!(whose(&world.auth, NAME).await, Err(Refusal::Stale)));
    assert!(matches!(whose(&world.auth, "a.example").await, Err(Refusal::Stale)));
    assert_eq!(world.whose("registry.beta.com").await.as_deref(), Some("beta"));
    world.pass(3600);
    assert!(matches!(whose(&world.auth, "registry.beta.com").await, Err(Refusal::Stale)));
}

/// Everybody asks everywhere: at the registry's own name, at acme's host and at beta's.
#[tokio::test]
async fn on_an_account_s_host_no_other_account_is_in_anybody_s_reach() {
    let world = World::new().await;
    let document = PublicDocument { patterns: vec!["beta/open".into()], rev: 0 };
    world.auth.set_public(&Actor::Store, &name("beta"), &document, None).await.unwrap();
    let (acme, beta) = (name("acme"), name("beta"));
    let minted = world.mint(&Actor::Store, "beta", push()).await;
    let (user, secret) = (minted.credential.username.as_str(), minted.secret.reveal());
    let token = world.token(&minted, &["repository:beta/x:pull,push", "registry:catalog:*"]).await;
    let basic = Presented::Basic { user, secret };
    let anonymous =
        world.auth.issue(request(Presented::None, &["repository:beta/open:pull"]), HERE).await.unwrap().token;
    for only in [None, Some(&beta), Some(&acme)] {
        let here = Whence { from: HERE, only };
        let inside = only != Some(&acme);
        let ask = async |presented: Presented<'_>, about: &str| {
            let who = world.auth.authenticate(presented, here, Some(&repo(about))).await.unwrap();
            (outcomes(&who, about)[0], outcomes(&who, about)[1])
        };
        for who in [basic, Presented::Bearer(&token)] {
            assert_eq!(ask(who, "beta/x").await, if inside { ("yes", "yes") } else { ("403", "403") });
            assert_eq!(ask(who, "acme/x").await, ("403", "403"));
            let who = world.auth.authenticate(who, here, None).await.unwrap();
            assert!(authorize_ping(&who).is_ok());
            let catalog = authorize_catalog(&who);
            assert!(if inside {
                catalog.is_ok()
            } else {
                matches!(catalog, Err(Refusal::Denied(Reason::OtherHost { .. })))
            });
        }
        let open = if inside { "yes" } else { "401" };
        assert_eq!(ask(Presented::None, "beta/open").await, (open, "401"));
        let open = if inside { "yes" } else { "401 it" };
        assert_eq!(ask(Presented::Bearer(&anonymous), "beta/open").await, (open, "401 it"));

        let scopes = ["repository:beta/x:pull,push", "repository:beta/open:pull", "registry:catalog:*"];
        let granted = world.auth.issue(request(basic, &scopes), here).await.unwrap().scope.to_string();
        assert_eq!(granted, if inside { scopes.join(" ") } else { String::new() });
        let stranger = world.auth.issue(request(Presented::None, &scopes), here).await;
        assert_eq!(stranger.is_ok(), inside);
        let own = world.mint(&Actor::Store, "acme", pull()).await;
        let own = Presented::Basic { user: &own.credential.username, secret: own.secret.reveal() };
        let public = world.auth.issue(request(own, &["repository:beta/open:pull"]), here).await.unwrap().scope;
        assert_eq!(public.is_empty(), !inside);
    }
    let reads = world.reads();
    let here = Whence { from: HERE, only: Some(&acme) };
    let who = world.auth.authenticate(basic, here, Some(&repo("beta/open"))).await.unwrap();
    let Err(Refusal::Denied(reason)) = authorize::<Push>(&who, &repo("beta/open")) else { panic!("it was let in") };
    assert_eq!(reason.text("acme.example"), "this host serves account acme alone; ask at a name of the registry's own");
    assert_eq!(world.reads(), reads);
}
