use super::*;

fn in_repositories(mut request: MintRequest, repositories: &[&str]) -> MintRequest {
    request.repositories = Some(repositories.iter().map(|&r| r.to_owned()).collect());
    request
}

#[tokio::test]
async fn the_isolation_matrix_of_a_private_repository_holds() {
    let world = World::new().await;
    let (_, acme) = world.owner("acme").await;
    let (_, beta) = world.owner("beta").await;
    let asks = ["repository:acme/web/api:pull,push,delete"];

    let puller = world.mint(&acme, "acme", in_repositories(pull(), &["acme/web/*"])).await;
    let pusher = world.mint(&acme, "acme", in_repositories(push(), &["acme/web/*"])).await;
    let mut with_delete = in_repositories(push(), &["acme/web/*"]);
    with_delete.actions = Some(vec!["push".into(), "delete".into()]);
    let deleter = world.mint(&acme, "acme", with_delete).await;
    let stranger = world.mint(&beta, "beta", push()).await;

    let there = "acme/web/api";
    assert_eq!(outcomes(&world.nobody(there).await, there), ["401"; 3]);

    let basic = world.basic(&puller, there).await.unwrap();
    assert_eq!(outcomes(&basic, there), ["yes", "403", "403"]);
    let basic = world.basic(&pusher, there).await.unwrap();
    assert_eq!(outcomes(&basic, there), ["yes", "yes", "403"]);
    let basic = world.basic(&deleter, there).await.unwrap();
    assert_eq!(outcomes(&basic, there), ["yes", "yes", "yes"]);

    let rows: [(&Minted, &[&str], [&str; 3]); 8] = [
        (&puller, &asks, ["yes", "403", "403"]),
        (&puller, &["repository:acme/web/other:pull"], ["401 is", "403", "403"]),
        (&pusher, &["repository:acme/web/api:pull"], ["yes", "401 is", "403"]),
        (&pusher, &asks, ["yes", "yes", "403"]),
        (&deleter, &["repository:acme/web/api:pull,push"], ["yes", "yes", "401 is"]),
        (&deleter, &asks, ["yes", "yes", "yes"]),
        (&pusher, &[], ["401 is", "401 is", "403"]),
        (&stranger, &asks, ["403", "403", "403"]),
    ];
    for (i, (minted, scopes, expected)) in rows.into_iter().enumerate() {
        let token = world.token(minted, scopes).await;
        let who = world.bearer(&token, there).await.unwrap();
        assert_eq!(outcomes(&who, there), expected, "row {i}");
        assert!(authorize_ping(&who).is_ok());
    }

    let token = world.token(&puller, &asks).await;
    for outside in ["acme/webshop/api", "acme/web/api/v2", "acme/other", "beta/web/api"] {
        let who = world.bearer(&token, outside).await.unwrap();
        assert_eq!(outcomes(&who, outside), ["403"; 3], "{outside}");
    }
}

#[tokio::test]
async fn a_refusal_says_what_the_credential_is_for() {
    let world = World::new().await;
    let (_, acme) = world.owner("acme").await;
    let patterns = ["acme/a/*", "acme/b/*", "acme/c/*", "acme/d/*", "acme/e/*"];
    let minted = world.mint(&acme, "acme", in_repositories(push(), &patterns)).await;
    let who = world.basic(&minted, "beta/api").await.unwrap();
    let text = |refusal: Refusal| refusal.text(HOST);

    assert_eq!(
        text(authorize::<Pull>(&who, &repo("beta/api")).unwrap_err()),
        "this credential is for acme/a/*, acme/b/*, acme/c/* and 2 more; beta/api is outside it"
    );
    assert_eq!(
        text(authorize::<Push>(&who, &repo("beta/api")).unwrap_err()),
        "this credential is for acme/a/*, acme/b/*, acme/c/* and 2 more; beta/api is outside it; repositories here begin with \
         your account: push to registry.example/acme/api"
    );
    assert_eq!(
        text(authorize::<Delete>(&who, &repo("acme/a/x")).unwrap_err()),
        "this credential may not delete; mint one with --delete"
    );
    let puller = world.mint(&acme, "acme", pull()).await;
    let who = world.basic(&puller, "acme/x").await.unwrap();
    assert_eq!(text(authorize::<Push>(&who, &repo("acme/x")).unwrap_err()), "this is a pull credential");
    let token = world.token(&world.mint(&acme, "acme", push()).await, &[]).await;
    let who = world.bearer(&token, "acme/x").await.unwrap();
    let Err(Refusal::InsufficientScope(scopes)) = authorize::<Push>(&who, &repo("acme/x")) else {
        panic!("has the scope")
    };
    assert_eq!(scopes.to_string(), "repository:acme/x:pull,push");
}

#[tokio::test]
async fn a_permit_yields_its_own_capability_and_names_its_opener() {
    let world = World::new().await;
    let (_, acme) = world.owner("acme").await;
    let minted = world.mint(&acme, "acme", push()).await;
    let who = world.basic(&minted, "acme/x").await.unwrap();
    let permit = authorize::<Push>(&who, &repo("acme/x")).unwrap();
    assert_eq!(permit.repository().repository().name(), &repo("acme/x"));
    assert_eq!(permit.opener(), opener(&minted.credential.id));
    assert_eq!(permit.label(), minted.credential.username);
    assert_eq!(permit.view(), &View::Live);
    assert_eq!(permit.expiry_warning(), None);

    world.pass(3 * 3600 + 20 * 60);
    let who = world.basic(&minted, "acme/x").await.unwrap();
    let permit = authorize::<Push>(&who, &repo("acme/x")).unwrap();
    let expected = format!("credential {} expires in 40m", minted.credential.username);
    assert_eq!(permit.expiry_warning(), Some(expected.as_str()));
}

#[tokio::test]
async fn an_expired_token_finishes_its_own_upload_and_nothing_else() {
    let world = World::new().await;
    let (_, acme) = world.owner("acme").await;
    let minted = world.mint(&acme, "acme", push()).await;
    let token = world.token(&minted, &["repository:acme/x:pull,push"]).await;
    world.pass(4 * 3600);
    let there = repo("acme/x");
    let own = opener(&minted.credential.id);
    let foreign = opener(&world.mint(&acme, "acme", push()).await.credential.id);

    let who = world.bearer(&token, "acme/x").await.unwrap();
    assert!(matches!(who, Principal::ExpiredToken(..)));
    assert_eq!(outcomes(&who, "acme/x"), ["401 it"; 3]);
    assert!(matches!(authorize_ping(&who), Err(Refusal::InvalidToken)));
    assert!(matches!(authorize_catalog(&who), Err(Refusal::InvalidToken)));
    assert_eq!(outcome(&authorize_upload(&who, &there, &own)), "yes");
    assert_eq!(outcome(&authorize_upload(&who, &there, &foreign)), "401 it");
    assert_eq!(outcome(&authorize_upload(&who, &repo("acme/y"), &own)), "401 it");

    world.pass(6 * 3600);
    assert_eq!(outcome(&authorize_upload(&world.bearer(&token, "acme/x").await.unwrap(), &there, &own)), "yes");
    world.pass(1);
    assert!(matches!(world.bearer(&token, "acme/x").await, Err(Refusal::InvalidToken)));
}

#[tokio::test]
async fn a_revoked_credential_does_not_even_finish_its_upload() {
    let world = World::new().await;
    let (_, acme) = world.owner("acme").await;
    let minted = world.mint(&acme, "acme", push()).await;
    let token = world.token(&minted, &["repository:acme/x:pull,push"]).await;
    world.auth.revoke_credential(&acme, &name("acme"), &minted.credential.id).await.unwrap();
    world.pass(4 * 3600);
    assert!(matches!(world.bearer(&token, "acme/x").await, Err(Refusal::InvalidToken)));
}

#[tokio::test]
async fn any_living_push_right_continues_a_session() {
    let world = World::new().await;
    let (_, acme) = world.owner("acme").await;
    let old = world.mint(&acme, "acme", push()).await;
    let new = world.mint(&acme, "acme", push()).await;
    let who = world.basic(&new, "acme/x").await.unwrap();
    assert_eq!(outcome(&authorize_upload(&who, &repo("acme/x"), &opener(&old.credential.id))), "yes");
    let puller = world.mint(&acme, "acme", pull()).await;
    let who = world.basic(&puller, "acme/x").await.unwrap();
    assert_eq!(outcome(&authorize_upload(&who, &repo("acme/x"), &opener(&old.credential.id))), "403");
}

#[tokio::test]
async fn the_catalog_needs_the_whole_account_and_its_scope() {
    let world = World::new().await;
    let (_, acme) = world.owner("acme").await;
    let whole = world.mint(&acme, "acme", pull()).await;
    let part = world.mint(&acme, "acme", in_repositories(pull(), &["acme/web/*"])).await;
    let about = "acme/x";

    let account = authorize_catalog(&world.basic(&whole, about).await.unwrap()).unwrap();
    assert_eq!(account.name(), &name("acme"));
    assert!(matches!(authorize_catalog(&world.basic(&part, about).await.unwrap()), Err(Refusal::Denied(_))));
    assert!(matches!(authorize_catalog(&world.nobody(about).await), Err(Refusal::Unauthenticated(None))));
    let with = world.token(&whole, &["registry:catalog:*"]).await;
    assert!(authorize_catalog(&world.bearer(&with, about).await.unwrap()).is_ok());
    let without = world.token(&whole, &["repository:acme/x:pull"]).await;
    let who = world.bearer(&without, about).await.unwrap();
    assert!(matches!(authorize_catalog(&who), Err(Refusal::InsufficientScope(_))));
    let of_part = world.token(&part, &["registry:catalog:*"]).await;
    assert!(matches!(authorize_catalog(&world.bearer(&of_part, about).await.unwrap()), Err(Refusal::Denied(_))));
}

#[tokio::test]
async fn what_is_public_is_read_by_nobody_and_by_every_good_credential() {
    let world = World::new().await;
    let (_, acme) = world.owner("acme").await;
    let (_, beta) = world.owner("beta").await;
    let patterns = PublicDocument { patterns: vec!["acme/open/*".into()], rev: 0 };
    world.auth.set_public(&acme, &name("acme"), &patterns, None).await.unwrap();
    let there = "acme/open/x";

    assert_eq!(outcomes(&world.nobody(there).await, there), ["yes", "401", "401"]);
    assert_eq!(outcomes(&world.nobody("acme/closed").await, "acme/closed"), ["401"; 3]);
    let stranger = world.mint(&beta, "beta", push()).await;
    assert_eq!(outcomes(&world.basic(&stranger, there).await.unwrap(), there), ["yes", "403", "403"]);
    let token = world.token(&stranger, &[]).await;
    assert_eq!(outcomes(&world.bearer(&token, there).await.unwrap(), there), ["yes", "403", "403"]);
    let own = world.mint(&acme, "acme", push()).await;
    let token = world.token(&own, &[]).await;
    assert_eq!(outcomes(&world.bearer(&token, there).await.unwrap(), there), ["yes", "401 is", "403"]);
    let bad = Presented::Basic { user: "acme.pull.0000000000000001", secret: "wrong" };
    assert!(matches!(
        world.auth.authenticate(bad, HERE, Some(&repo(there))).await,
        Err(Refusal::Unauthenticated(None))
    ));

    let token = world.auth.issue(request(Presented::None, &["repository:acme/open/x:pull,push"]), HERE).await.unwrap();
    assert_eq!(token.scope.to_string(), "repository:acme/open/x:pull");
    let who = world.bearer(&token.token, there).await.unwrap();
    assert_eq!(outcomes(&who, there), ["yes", "401 it", "401 it"]);
    assert!(matches!(authorize_ping(&who), Err(Refusal::Unauthenticated(None))));

    world.auth.set_public(&acme, &name("acme"), &PublicDocument::default(), None).await.unwrap();
    assert_eq!(outcomes(&world.bearer(&token.token, there).await.unwrap(), there), ["401 it"; 3]);
    assert_eq!(outcomes(&world.nobody(there).await, there), ["401"; 3]);
}

#[tokio::test]
async fn another_process_sees_what_went_private_within_the_bound() {
    let world = World::new().await;
    let patterns = PublicDocument { patterns: vec!["acme/**".into()], rev: 0 };
    world.auth.set_public(&Actor::Store, &name("acme"), &patterns, None).await.unwrap();
    let other = world.sibling(settings()).await.unwrap();
    let there = repo("acme/x");
    let reads = async || {
        let who = other.authenticate(Presented::None, HERE, Some(&there)).await.unwrap();
        authorize::<Pull>(&who, &there).is_ok()
    };
    assert!(reads().await);
    world.auth.set_public(&Actor::Store, &name("acme"), &PublicDocument::default(), None).await.unwrap();
    world.pass(5);
    assert!(!reads().await);
}

#[tokio::test]
async fn a_stranger_never_causes_a_read_of_an_account_that_has_nothing_public() {
    let world = World::new().await;
    world.nobody("acme/x").await;
    let before = world.records.faults().calls();
    world.nobody("acme/x").await;
    world.nobody("absent/x").await;
    assert_eq!(world.records.faults().calls(), before);
}

#[tokio::test]
async fn a_read_only_account_or_server_reads_and_does_not_write() {
    let world = World::new().await;
    let (_, acme) = world.owner("acme").await;
    let mut with_delete = push();
    with_delete.actions = Some(vec!["push".into(), "delete".into()]);
    let minted = world.mint(&acme, "acme", with_delete).await;
    let frozen = Auth::open(world.records.clone(), world.clock.clone(), Settings { read_only: true, ..settings() });
    let frozen = frozen.await.unwrap();
    let (user, secret) = (minted.credential.username.as_str(), minted.secret.reveal());
    let who = frozen.authenticate(Presented::Basic { user, secret }, HERE, None).await.unwrap();
    assert_eq!(outcomes(&who, "acme/x"), ["yes", "405", "405"]);
    assert_eq!(authorize::<Push>(&who, &repo("acme/x")).unwrap_err().text(HOST), "this registry is read-only");

    let change = AccountChange { state: Some(AccountState::ReadOnly), ..AccountChange::default() };
    world.auth.change_account(&Actor::Store, &name("acme"), &change, None).await.unwrap();
    let who = world.basic(&minted, "acme/x").await.unwrap();
    assert_eq!(outcomes(&who, "acme/x"), ["yes", "405", "405"]);
    assert_eq!(authorize::<Push>(&who, &repo("acme/x")).unwrap_err().text(HOST), "account acme is read-only");
    world.mint(&acme, "acme", pull()).await;
}

#[tokio::test]
async fn keys_act_in_repositories_by_role_and_pattern() {
    let world = World::new().await;
    let of = async |role: Role, delete: bool| {
        let new = NewKey { role, delete, repositories: vec!["acme/web/*".into()], ..NewKey::default() };
        world.key("acme", new).await.1
    };
    let three = |who: &Actor, about: &str| {
        let about = repo(about);
        [
            outcome(&authorize_actor::<Pull>(who, &about)),
            outcome(&authorize_actor::<Push>(who, &about)),
            outcome(&authorize_actor::<Delete>(who, &about)),
        ]
    };
    let owner = of(Role::Owner, false).await;
    assert_eq!(three(&owner, "acme/web/x"), ["yes", "yes", "yes"]);
    assert_eq!(three(&owner, "acme/other"), ["403"; 3]);
    assert_eq!(three(&owner, "beta/web/x"), ["403"; 3]);
    assert_eq!(three(&of(Role::Publisher, false).await, "acme/web/x"), ["yes", "yes", "403"]);
    assert_eq!(three(&of(Role::Publisher, true).await, "acme/web/x"), ["yes", "yes", "yes"]);
    assert_eq!(three(&of(Role::Installer, false).await, "acme/web/x"), ["yes", "403", "403"]);
    assert_eq!(three(&of(Role::Viewer, false).await, "acme/web/x"), ["yes", "403", "403"]);
    assert_eq!(three(&Actor::OperatorKey { id: Id::operator() }, "acme/web/x"), ["403"; 3]);
}
