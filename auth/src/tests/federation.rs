use std::collections::BTreeMap;

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::*;

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "registry.example/acme";

/// Somebody who signs, in every way that there is.
struct Signer {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

impl Signer {
    fn new() -> Self {
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            ed: Ed25519KeyPair::generate().unwrap(),
        }
    }

    fn jwks(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (point, rsa) = (self.ec.public_key().as_ref(), self.rsa.public_key());
        let (n, e) =
            (rsa.modulus().big_endian_without_leading_zero(), rsa.exponent().big_endian_without_leading_zero());
        json!({"keys": [
            {"kty": "RSA", "kid": "rsa", "alg": "RS256", "use": "sig", "n": text(n), "e": text(e)},
            {"kty": "EC", "kid": "ec", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])},
            {"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": text(self.ed.public_key().as_ref())},
        ]})
    }

    /// A token of this header and these claims, signed with the key of this name.
    fn sign(&self, key: &str, header: &Value, claims: &Value) -> String {
        let text = format!("{}.{}", encoded(header), encoded(claims));
        let signature = match key {
            "rsa" => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
                signature
            }
            "ec" => self.ec.sign(&SystemRandom::new(), text.as_bytes()).unwrap().as_ref().to_vec(),
            _ => self.ed.sign(text.as_bytes()).as_ref().to_vec(),
        };
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn conditions(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect()
}

fn grant(actions: &[&str]) -> NewGrant {
    NewGrant { actions: actions.iter().map(|&a| a.into()).collect(), ..NewGrant::default() }
}

fn policy(signer: &Signer) -> NewTrust {
    NewTrust {
        issuer: ISSUER.into(),
        jwks: Some(NewKeys::Given(signer.jwks())),
        conditions: conditions(&[("sub", "robot")]),
        grant: grant(&["pull"]),
        ..NewTrust::default()
    }
}

/// A world with a policy, and who signs for it.
struct Trusting {
    world: World,
    signer: Signer,
    trust: Id,
}

impl Trusting {
    async fn new(change: impl FnOnce(&mut NewTrust)) -> Self {
        let (world, signer) = (World::new().await, Signer::new());
        let mut new = policy(&signer);
        change(&mut new);
        let made = world.auth.create_trust(&Actor::Store, &name("acme"), &new, AUDIENCE).await.unwrap();
        Self { world, signer, trust: made.id }
    }

    fn claims(&self) -> Value {
        let now = self.world.clock.now().timestamp();
        json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "robot", "jti": "1", "iat": now, "exp": now + 600})
    }

    fn token(&self) -> String {
        self.signer.sign("ed", &json!({"alg": "EdDSA", "kid": "ed"}), &self.claims())
    }

    async fn at(&self, account: &str, trust: &str, token: &str, scopes: &[&str]) -> Result<Minted, ExchangeRefusal> {
        let asked = self.world.auth.ask_exchange(account, trust, token, HERE).await?;
        self.world.auth.exchange(asked, None, scopes, HOST, HERE).await
    }

    async fn exchange(&self, token: &str) -> Result<Minted, ExchangeRefusal> {
        self.at("acme", self.trust.as_str(), token, &[]).await
    }

    async fn is_wrong(&self, token: &str) -> bool {
        matches!(self.exchange(token).await, Err(ExchangeRefusal::Wrong))
    }
}

#[tokio::test]
async fn a_token_becomes_a_credential_that_pulls_and_says_whose_it_is() {
    let t = Trusting::new(|new| new.label = "ci".into()).await;
    let minted = t.exchange(&t.token()).await.unwrap();
    let credential = &minted.credential;
    assert_eq!((credential.kind, credential.label.as_str()), (Kind::Pull, "ci"));
    assert_eq!((credential.expires_at - credential.created_at).num_seconds(), 3600);
    let issuer = Issuer { kind: IssuerKind::Oidc, id: t.trust.clone(), subject: Some("robot".into()) };
    assert_eq!(credential.issuer, issuer);
    let who = t.world.basic(&minted, "acme/web").await.unwrap();
    assert_eq!(outcomes(&who, "acme/web"), ["yes", "403", "403"]);
}

#[tokio::test]
async fn every_algorithm_is_taken_with_its_own_key() {
    let t = Trusting::new(|_| {}).await;
    for (alg, key) in [("RS256", "rsa"), ("ES256", "ec"), ("EdDSA", "ed")] {
        let token = t.signer.sign(key, &json!({"alg": alg, "kid": key}), &t.claims());
        t.exchange(&token).await.unwrap();
    }
}

#[tokio::test]
async fn an_algorithm_that_is_not_the_policy_s_or_not_the_key_s_is_refused() {
    let t = Trusting::new(|new| new.algorithms = Some(vec!["RS256".into(), "EdDSA".into()])).await;
    let claims = t.claims();
    let right = t.signer.sign("ed", &json!({"alg": "EdDSA", "kid": "ed"}), &claims);
    assert!(t.exchange(&right).await.is_ok());
    for (key, header) in [
        ("ec", json!({"alg": "ES256", "kid": "ec"})),
        ("ed", json!({"alg": "EdDSA", "kid": "rsa"})),
        ("rsa", json!({"alg": "RS256", "kid": "ed"})),
        ("rsa", json!({"alg": "RS384", "kid": "rsa"})),
        ("rsa", json!({"alg": "PS256", "kid": "rsa"})),
        ("ed", json!({"alg": "none", "kid": "ed"})),
        ("ed", json!({"alg": "eddsa", "kid": "ed"})),
        ("ed", json!({"kid": "ed"})),
        ("ed", json!({"alg": "EdDSA", "kid": "ed", "crit": ["b64"], "b64": false})),
    ] {
        assert!(t.is_wrong(&t.signer.sign(key, &header, &claims)).await, "{header}");
    }
    // With the public key as the secret of a MAC, which anybody has.
    let header = json!({"alg": "HS256", "kid": "ed"});
    let text = format!("{}.{}", encoded(&header), encoded(&claims));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, t.signer.ed.public_key().as_ref());
    let mac = aws_lc_rs::hmac::sign(&key, text.as_bytes());
    assert!(t.is_wrong(&format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac))).await);
    let unsigned = format!("{}.{}.", encoded(&json!({"alg": "none"})), encoded(&claims));
    assert!(t.is_wrong(&unsigned).await);
}

#[tokio::test]
async fn a_foreign_key_a_foreign_kid_and_a_changed_claim_are_refused() {
    let t = Trusting::new(|_| {}).await;
    let header = json!({"alg": "EdDSA", "kid": "ed"});
    let stranger = Signer::new();
    assert!(t.is_wrong(&stranger.sign("ed", &header, &t.claims())).await);
    let own_key =
        json!({"alg": "EdDSA", "kid": "ed", "jwk": stranger.jwks()["keys"][2], "jku": "https://evil.example"});
    assert!(t.is_wrong(&stranger.sign("ed", &own_key, &t.claims())).await);
    for kid in ["", "ED", "ed ", "../ed", "' OR 1=1"] {
        assert!(t.is_wrong(&t.signer.sign("ed", &json!({"alg": "EdDSA", "kid": kid}), &t.claims())).await, "{kid}");
    }
    assert!(t.is_wrong(&t.signer.sign("ed", &json!({"alg": "EdDSA"}), &t.claims())).await);
    let good = t.token();
    let parts: Vec<&str> = good.split('.').collect();
    let mut other = t.claims();
    other["jti"] = "2".into();
    for changed in [
        format!("{}.{}.{}", parts[0], encoded(&other), parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{good}."),
        format!("{good}="),
        "x".repeat(20_000),
        String::new(),
    ] {
        assert!(t.is_wrong(&changed).await, "{changed}");
    }
    assert!(t.exchange(&good).await.is_ok());
}

#[tokio::test]
async fn who_names_no_account_and_no_policy_of_it_reads_the_same() {
    let t = Trusting::new(|_| {}).await;
    let token = t.token();
    for (account, trust) in [
        ("nobody", t.trust.as_str()),
        ("beta", t.trust.as_str()),
        ("acme", "0k3v9x0a2m4p6r1t"),
        ("acme", "0000000000000000"),
        ("acme", "../x"),
        ("ACME", t.trust.as_str()),
        ("", ""),
    ] {
        let outcome = t.at(account, trust, &token, &[]).await;
        assert!(matches!(outcome, Err(ExchangeRefusal::Wrong)), "{account} {trust}");
    }
    t.world.auth.delete_account(&Actor::Store, &name("acme"), None).await.unwrap();
    t.world.create("acme").await.unwrap();
    assert!(t.is_wrong(&token).await, "a new account of an old name trusts nobody");
}

#[tokio::test]
async fn a_deleted_policy_takes_what_it_gave_with_it() {
    let t = Trusting::new(|_| {}).await;
    let minted = t.exchange(&t.token()).await.unwrap();
    assert!(t.world.basic(&minted, "acme/web").await.is_ok());
    let (_, owner) = t.world.owner("acme").await;
    let stale = t.world.auth.delete_trust(&owner, &name("acme"), &t.trust, Some(7)).await;
    assert!(matches!(stale, Err(Error::Changed { rev: 1 })));
    t.world.auth.delete_trust(&owner, &name("acme"), &t.trust, Some(1)).await.unwrap();
    let told = t.world.basic(&minted, "acme/web").await;
    assert!(matches!(told, Err(Refusal::Unauthenticated(Some(Reason::RevokedAt(_))))), "{told:?}");
    assert!(t.is_wrong(&t.token()).await);
    assert!(matches!(t.world.auth.get_trust(&owner, &name("acme"), &t.trust).await, Err(Error::NotFound { .. })));
    // A call whose answer was lost is made again.
    t.world.auth.delete_trust(&owner, &name("acme"), &t.trust, Some(1)).await.unwrap();
    // When the mark itself is swept, what it gave stays dead.
    t.world.pass(8 * 86_400);
    let account = t.world.auth.resolve(&name("acme")).await.unwrap().unwrap();
    t.world.auth.sweep_trusts(&account, None).await.unwrap();
    let gone = t.world.auth.delete_trust(&owner, &name("acme"), &t.trust, None).await;
    assert!(matches!(gone, Err(Error::NotFound { .. })));
    assert!(t.world.basic(&minted, "acme/web").await.is_err());
}

#[tokio::test]
async fn a_single_use_token_is_good_once_and_is_remembered_while_it_could_be_used() {
    let t = Trusting::new(|new| new.single_use = Some(true)).await;
    let token = t.token();
    t.exchange(&token).await.unwrap();
    assert!(t.is_wrong(&token).await);
    // The same identity under another signature is no other token.
    let again = t.signer.sign("ec", &json!({"alg": "ES256", "kid": "ec"}), &t.claims());
    assert!(t.is_wrong(&again).await);
    let mut nameless = t.claims();
    nameless.as_object_mut().unwrap().remove("jti");
    let nameless = t.signer.sign("ed", &json!({"alg": "EdDSA", "kid": "ed"}), &nameless);
    t.exchange(&nameless).await.unwrap();
    assert!(t.is_wrong(&nameless).await, "a token without a name is known by what was signed");

    let account = t.world.auth.resolve(&name("acme")).await.unwrap().unwrap();
    let kept = async || {
        let prefix = storage::key::used_tokens(&account);
        storage::backend::Records::page(&*t.world.records, &prefix, None, 100).await.unwrap().len()
    };
    t.world.pass(660);
    t.world.auth.sweep_used_tokens(&account, None).await.unwrap();
    assert_eq!(kept().await, 2);
    assert!(t.is_wrong(&token).await);
    t.world.pass(1);
    t.world.auth.sweep_used_tokens(&account, None).await.unwrap();
    assert_eq!(kept().await, 0);
    assert!(t.is_wrong(&token).await);
}

#[tokio::test]
async fn a_reusable_token_is_taken_again_and_a_push_policy_takes_each_once() {
    let t = Trusting::new(|_| {}).await;
    let token = t.token();
    t.exchange(&token).await.unwrap();
    t.exchange(&token).await.unwrap();
    let t = Trusting::new(|new| new.grant = grant(&["push"])).await;
    let token = t.token();
    assert_eq!(t.exchange(&token).await.unwrap().credential.kind, Kind::Push);
    assert!(t.is_wrong(&token).await);
}

#[tokio::test]
async fn scopes_narrow_and_never_widen() {
    let t = Trusting::new(|new| {
        new.grant = grant(&["push"]);
        new.grant.repositories = Some(vec!["acme/web/*".into()]);
        new.single_use = Some(false);
    })
    .await;
    let token = t.token();
    let with = async |scopes: &[&str]| t.at("acme", t.trust.as_str(), &token, scopes).await;
    let shown = |minted: Minted| {
        let patterns: Vec<_> = minted.credential.repositories.iter().map(ToString::to_string).collect();
        (minted.credential.kind, minted.credential.actions.to_string(), patterns.join(" "))
    };
    let all = shown(with(&[]).await.unwrap());
    assert_eq!(all, (Kind::Push, "pull,push".into(), "acme/web/*".into()));
    assert_eq!(shown(with(&["", " "]).await.unwrap()), all);
    let pull = shown(with(&["repository:acme/web/api:pull repository:beta/x:pull"]).await.unwrap());
    assert_eq!(pull, (Kind::Pull, "pull".into(), "acme/web/api".into()));
    let two =
        shown(with(&["repository:acme/web/api:pull", "repository:registry.example/acme/web/ui:pull"]).await.unwrap());
    assert_eq!(two.2, "acme/web/api acme/web/ui");
    let most = shown(with(&["repository:acme/web/api:*"]).await.unwrap());
    assert_eq!(most, (Kind::Push, "pull,push".into(), "acme/web/api".into()));
    for none in [
        &["repository:acme/other:pull"][..],
        &["repository:beta/web/api:pull"],
        &["repository:acme/web/api:delete"],
        &["nonsense"],
        &["registry:catalog:*"],
        &["repository:acme/web/a:pull", "repository:acme/web/b:push"],
    ] {
        assert!(matches!(with(none).await, Err(ExchangeRefusal::Scope(_))), "{none:?}");
    }
}

#[tokio::test]
async fn a_credential_does_not_outlive_what_answers_for_it() {
    let t = Trusting::new(|new| {
        new.grant.max_ttl_seconds = Some(7200);
        new.expires_at = Some(chrono::DateTime::from_timestamp(1_800_000_000 + 5000, 0).unwrap());
    })
    .await;
    let life = |minted: &Minted| (minted.credential.expires_at - minted.credential.created_at).num_seconds();
    assert_eq!(life(&t.exchange(&t.token()).await.unwrap()), 5000);
    let policy = PolicyChange { max_ttl_pull: Some(Some(600)), ..PolicyChange::default() };
    let change = AccountChange { policy, ..AccountChange::default() };
    t.world.auth.change_account(&Actor::Store, &name("acme"), &change, None).await.unwrap();
    assert_eq!(life(&t.exchange(&t.token()).await.unwrap()), 600);
    t.world.pass(5000);
    assert!(t.is_wrong(&t.token()).await, "the policy is over");
}

#[tokio::test]
async fn who_is_known_is_told_what_stands_in_the_way() {
    let t = Trusting::new(|_| {}).await;
    let change = async |state, networks: Option<Vec<String>>| {
        let policy = PolicyChange { ip_allow: networks, ..PolicyChange::default() };
        let change = AccountChange { state: Some(state), policy, ..AccountChange::default() };
        t.world.auth.change_account(&Actor::Store, &name("acme"), &change, None).await.unwrap();
    };
    let denied = async |token: &str| match t.exchange(token).await {
        Err(ExchangeRefusal::Refused(Error::Refused(Refusal::Denied(reason)))) => Some(reason),
        _ => None,
    };
    change(AccountState::ReadOnly, None).await;
    t.exchange(&t.token()).await.unwrap();
    change(AccountState::Active, Some(vec!["192.0.2.0/24".into()])).await;
    assert_eq!(denied(&t.token()).await, Some(Reason::Address));
    change(AccountState::Suspended, None).await;
    assert_eq!(denied(&t.token()).await, Some(Reason::Suspended { account: name("acme") }));
    assert!(t.is_wrong("a.b.c").await, "who is not known is not told");
}

#[tokio::test]
async fn failures_are_slowed_and_a_right_token_is_not() {
    let clock_settings = Settings { failures: Rate { burst: 3.0, per_second: 0.001 }, ..settings() };
    let world = World::with(clock_settings).await;
    let signer = Signer::new();
    let made = world.auth.create_trust(&Actor::Store, &name("acme"), &policy(&signer), AUDIENCE).await.unwrap();
    let t = Trusting { world, signer, trust: made.id };
    for _ in 0..3 {
        assert!(t.is_wrong("a.b.c").await);
    }
    let slowed = t.exchange("a.b.c").await;
    assert!(matches!(slowed, Err(ExchangeRefusal::Refused(Error::Refused(Refusal::Throttled(_))))));
    t.exchange(&t.token()).await.unwrap();
}

#[tokio::test]
async fn the_keys_of_an_issuer_are_asked_for_only_when_the_claims_are_right() {
    let world = World::with(Settings { trusted_issuers: vec![ISSUER.into()], ..settings() }).await;
    let signer = Signer::new();
    let new = NewTrust { jwks: None, algorithms: Some(vec!["EdDSA".into()]), ..policy(&signer) };
    let made = world.auth.create_trust(&Actor::Store, &name("acme"), &new, AUDIENCE).await.unwrap();
    let t = Trusting { world, signer, trust: made.id };
    let ask = async |token: &str| t.world.auth.ask_exchange("acme", t.trust.as_str(), token, HERE).await;
    let mut wrong = t.claims();
    wrong["sub"] = "somebody".into();
    let wrong = t.signer.sign("ed", &json!({"alg": "EdDSA", "kid": "ed"}), &wrong);
    assert!(matches!(ask(&wrong).await, Err(ExchangeRefusal::Wrong)));
    let asked = ask(&t.token()).await.unwrap();
    assert_eq!(asked.keys(), KeysNeeded::Discover { issuer: ISSUER, kid: "ed" });
    // Claims alone are worth nothing: without the keys, and with those of somebody else.
    let outcome = t.world.auth.exchange(asked, None, &[], HOST, HERE).await;
    assert!(matches!(outcome, Err(ExchangeRefusal::Wrong)));
    let keys = |signer: &Signer| IssuerKeys::published(signer.jwks().to_string().as_bytes()).unwrap();
    let stranger = keys(&Signer::new());
    let outcome = t.world.auth.exchange(ask(&t.token()).await.unwrap(), Some(&stranger), &[], HOST, HERE).await;
    assert!(matches!(outcome, Err(ExchangeRefusal::Wrong)));
    let own = keys(&t.signer);
    t.world.auth.exchange(ask(&t.token()).await.unwrap(), Some(&own), &[], HOST, HERE).await.unwrap();
}

async fn refused(world: &World, new: &NewTrust) -> Vec<String> {
    match world.auth.create_trust(&Actor::Store, &name("acme"), new, AUDIENCE).await {
        Ok(made) => {
            world.auth.delete_trust(&Actor::Store, &name("acme"), &made.id, None).await.unwrap();
            Vec::new()
        }
        Err(error) => fields(&error).into_iter().map(str::to_owned).collect(),
    }
}

fn unlimited() -> Settings {
    Settings { revocations: Rate { burst: 1000.0, per_second: 1000.0 }, ..settings() }
}

#[tokio::test]
async fn a_policy_that_lets_in_more_than_is_meant_is_not_made() {
    let (world, signer) = (World::with(unlimited()).await, Signer::new());
    for (pairs, good) in [
        (&[("sub", "robot")][..], true),
        (&[("sub", "robot*")], false),
        (&[("sub", "*"), ("name", "a*")], false),
        (&[("sub", "robot*"), ("project_id", "7")], true),
        (&[], false),
        (&[("iss", ISSUER), ("sub", "robot*")], false),
        (&[("/iss", ISSUER), ("sub", "robot*")], false),
        (&[("aud", AUDIENCE)], false),
        (&[("sub", "")], false),
        (&[("", "x")], false),
        (&[("sub", "system:serviceaccount:prod:api")], true),
        (&[("sub", "system:serviceaccount:prod:*"), ("x", "1")], false),
        (&[("sub", "system:serviceaccount:prod:*"), ("/kubernetes.io/namespace", "prod")], true),
        (&[("sub", "system:serviceaccount:prod"), ("x", "1")], false),
        (&[("/kubernetes.io/namespace", "prod")], true),
        (&[("/kubernetes.io/namespace", "prod-*"), ("x", "1")], false),
        (&[("/kubernetes.io/pod/name", "api")], false),
    ] {
        let new = NewTrust { conditions: conditions(pairs), ..policy(&signer) };
        assert_eq!(refused(&world, &new).await.is_empty(), good, "{pairs:?}");
    }
}

#[tokio::test]
async fn a_github_policy_pins_ids_and_to_push_where_the_workflow_runs() {
    let github = "https://token.actions.githubusercontent.com";
    let (world, signer) = (World::with(unlimited()).await, Signer::new());
    let id = ("repository_owner_id", "123");
    for (issuer, action, pairs, good) in [
        (github, "pull", &[id][..], true),
        (github, "pull", &[("repository_id", "9")], true),
        (github, "pull", &[("repository_id", "9*")], false),
        (github, "pull", &[("repository_owner", "acme")], false),
        (github, "pull", &[("sub", "repo:acme/web:ref:refs/heads/main")], false),
        (github, "push", &[id], false),
        (github, "delete", &[id], false),
        (github, "push", &[id, ("environment", "production")], true),
        (github, "push", &[id, ("environment", "*")], false),
        (github, "push", &[id, ("ref", "refs/heads/main")], true),
        (github, "push", &[id, ("ref", "refs/tags/v*")], true),
        (github, "push", &[id, ("ref", "refs/pull/*/merge")], false),
        (github, "push", &[id, ("ref", "refs/*/main")], false),
        (github, "push", &[id, ("job_workflow_ref", "acme/w/.github/workflows/r.yml@refs/heads/main")], true),
        (github, "push", &[id, ("sub", "repo:acme/web:ref:refs/heads/main")], false),
        ("https://token.actions.githubusercontent.com/acme", "push", &[id], false),
        ("https://token.actions.acme.ghe.com", "push", &[id], false),
        ("https://github.acme.example/_services/token", "pull", &[("sub", "x")], false),
        ("https://token.actions.githubusercontent.com.evil.example", "pull", &[("sub", "x")], true),
    ] {
        let grant = grant(&[action]);
        let new = NewTrust { issuer: issuer.into(), conditions: conditions(pairs), grant, ..policy(&signer) };
        assert_eq!(refused(&world, &new).await.is_empty(), good, "{issuer} {action} {pairs:?}");
    }
}

#[tokio::test]
async fn every_field_that_cannot_be_accepted_is_told() {
    let (world, signer) = (World::with(unlimited()).await, Signer::new());
    let with = |change: &dyn Fn(&mut NewTrust)| {
        let mut new = policy(&signer);
        change(&mut new);
        new
    };
    let mut private = signer.jwks();
    private["keys"][2]["d"] = "AAAA".into();
    let mut symmetric = signer.jwks();
    symmetric["keys"][0] = json!({"kty": "oct", "kid": "x", "k": "AAAA"});
    let mut twice = signer.jwks();
    twice["keys"][0]["kid"] = "ed".into();
    let mut mixed = signer.jwks();
    mixed["keys"][0]["alg"] = "ES256".into();
    let mut weak = signer.jwks();
    weak["keys"][0]["n"] = URL_SAFE_NO_PAD.encode([0xff; 128]).into();
    let keys = |document: &Value| with(&|new| new.jwks = Some(NewKeys::Given(document.clone())));
    for (new, expected) in [
        (with(&|new| new.issuer = String::new()), "/issuer"),
        (with(&|new| new.jwks = None), "/issuer"),
        (with(&|new| new.jwks = Some(NewKeys::Named("discover".into()))), "/issuer"),
        (with(&|new| new.jwks = Some(NewKeys::Named("http://x".into()))), "/jwks"),
        (keys(&private), "/jwks"),
        (keys(&symmetric), "/jwks"),
        (keys(&twice), "/jwks"),
        (keys(&mixed), "/jwks"),
        (keys(&weak), "/jwks"),
        (keys(&json!({"keys": []})), "/jwks"),
        (keys(&json!([])), "/jwks"),
        (with(&|new| new.audience = Some("https://github.com/acme".into())), "/audience"),
        (with(&|new| new.audience = Some(ISSUER.into())), "/audience"),
        (with(&|new| new.audience = Some("two words".into())), "/audience"),
        (with(&|new| new.algorithms = Some(vec!["HS256".into()])), "/algorithms/0"),
        (with(&|new| new.algorithms = Some(Vec::new())), "/algorithms"),
        (with(&|new| new.grant.actions = vec!["fly".into()]), "/grant/actions/0"),
        (with(&|new| new.grant.actions = Vec::new()), "/grant/actions"),
        (with(&|new| new.grant.repositories = Some(vec!["beta/x".into()])), "/grant/repositories/0"),
        (with(&|new| new.grant.repositories = Some(Vec::new())), "/grant/repositories"),
        (with(&|new| new.grant.max_ttl_seconds = Some(59)), "/grant/max_ttl_seconds"),
        (with(&|new| new.grant.max_ttl_seconds = Some(40 * 86_400)), "/grant/max_ttl_seconds"),
        (with(&|new| new.expires_at = Some(chrono::DateTime::UNIX_EPOCH)), "/expires_at"),
        (with(&|new| new.label = "a\nb".into()), "/label"),
    ] {
        assert_eq!(refused(&world, &new).await, [expected], "{new:?}");
    }
    let several = with(&|new| (new.issuer, new.label) = (String::new(), "a\nb".into()));
    assert_eq!(refused(&world, &several).await, ["/label", "/issuer"]);
}

#[tokio::test]
async fn no_key_makes_a_policy_that_reaches_further_than_itself() {
    let (world, signer) = (World::new().await, Signer::new());
    let narrow = NewKey {
        repositories: vec!["acme/web/**".into()],
        max_ttl_seconds: Some(600),
        expires_at: Some(world.clock.now() + chrono::TimeDelta::days(1)),
        ..NewKey::default()
    };
    let (_, owner) = world.key("acme", narrow).await;
    let outcome = world.auth.create_trust(&owner, &name("acme"), &policy(&signer), AUDIENCE).await;
    assert_eq!(fields(&outcome.unwrap_err()), ["/grant/repositories/0", "/expires_at"]);
    let mut within = policy(&signer);
    within.grant.repositories = Some(vec!["acme/web/api".into()]);
    within.expires_at = Some(world.clock.now() + chrono::TimeDelta::hours(1));
    let made = world.auth.create_trust(&owner, &name("acme"), &within, AUDIENCE).await.unwrap();
    assert_eq!(made.grant.max_ttl_seconds, 600);
    for role in [Role::Publisher, Role::Installer, Role::Viewer] {
        let (_, actor) = world.key("acme", NewKey { role, ..NewKey::default() }).await;
        let outcome = world.auth.create_trust(&actor, &name("acme"), &policy(&signer), AUDIENCE).await;
        assert!(matches!(outcome, Err(Error::Refused(Refusal::Denied(Reason::Role(_))))), "{role:?}");
        let read = world.auth.list_trusts(&actor, &name("acme"), &Page::default()).await;
        assert_eq!(read.is_ok(), role == Role::Viewer, "{role:?}");
    }
}

#[tokio::test]
async fn a_policy_and_what_it_gave_and_refused_stand_in_the_audit() {
    let t = Trusting::new(|new| new.single_use = Some(true)).await;
    let token = t.token();
    let minted = t.exchange(&token).await.unwrap();
    assert!(t.is_wrong(&token).await && t.is_wrong("a.b.c").await);
    t.world.auth.delete_trust(&Actor::Store, &name("acme"), &t.trust, None).await.unwrap();
    let lines = t.world.auth.audit(&Actor::Store, &name("acme"), None, &Page::default()).await.unwrap().items;
    let told: Vec<_> = lines.iter().skip(1).map(|e| (e.event.as_str(), e.target.as_deref().unwrap())).collect();
    let (trust, given) = (t.trust.as_str(), minted.credential.id.as_str());
    let expected = [("trust.create", trust), ("exchange.ok", given), ("exchange.deny", trust), ("trust.delete", trust)];
    assert_eq!(told, expected);
    assert_eq!((lines[2].actor.id.as_deref(), lines[2].actor.label.as_deref()), (Some(trust), Some("robot")));
}
