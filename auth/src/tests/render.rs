use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;

use super::*;
use crate::render::render;

async fn minted() -> (World, Minted) {
    let world = World::new().await;
    let minted = world.mint(&Actor::Store, "acme", MintRequest { label: Some("node 7".into()), ..pull() }).await;
    (world, minted)
}

fn host(name: &str) -> Host {
    Host::new(name, false).unwrap()
}

#[tokio::test]
async fn the_renderings_are_the_documented_ones() {
    let (_, minted) = minted().await;
    let (user, password) = (minted.credential.username.as_str(), minted.secret.reveal());
    let rendering = render(&minted, &host("registry.example:5443"), &SecretName::default());
    assert_eq!(
        rendering.docker_login.reveal(),
        format!("printf %s '{password}' | docker login registry.example:5443 -u {user} --password-stdin")
    );
    assert_eq!(
        rendering.helm_login.reveal(),
        format!("printf %s '{password}' | helm registry login registry.example:5443 -u {user} --password-stdin")
    );
    let auth = STANDARD.encode(format!("{user}:{password}"));
    let config = format!(
        r#"{{"auths":{{"registry.example:5443":{{"username":"{user}","password":"{password}","auth":"{auth}"}}}}}}"#
    );
    assert_eq!(rendering.config.reveal(), config);
    assert!(serde_json::from_str::<serde_json::Value>(&config).is_ok());
    let encoded = STANDARD.encode(&config);
    assert_eq!(rendering.dockerconfigjson.reveal(), encoded);
    assert!(encoded.starts_with("eyJh"));
    assert_eq!(
        rendering.kubernetes_secret.reveal(),
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: hythe-acme\n  annotations:\n    hythe.io/credential: {user}\n    \
             hythe.io/expires: \"2027-01-15T20:00:00Z\"\ntype: kubernetes.io/dockerconfigjson\ndata:\n  .dockerconfigjson: \
             {encoded}\n"
        )
    );
}

#[tokio::test]
async fn a_secret_takes_its_name_and_namespace() {
    let (_, minted) = minted().await;
    let named = SecretName { name: Some("pull".into()), namespace: Some("web".into()) };
    let yaml = render(&minted, &host("registry.example"), &named).kubernetes_secret;
    assert!(yaml.reveal().contains("  name: pull\n  namespace: web\n  annotations:\n"));
}

#[tokio::test]
async fn an_account_is_reached_at_its_own_name_or_under_the_account_domain_at_the_registry_s_port() {
    let (world, minted) = minted().await;
    let name = |minted: &Minted, host: &str, domain| {
        let host = Host::new(host, false).unwrap().with_account_domain(domain);
        let document = minted.clone().document(&host, &SecretName::default());
        assert!(document.docker_login.unwrap().reveal().contains(&format!(" docker login {} -u ", document.host)));
        document.host
    };
    assert_eq!(name(&minted, "registry.example:5443", None), "registry.example:5443");
    assert_eq!(name(&minted, "registry.example", Some("registry.example")), "acme.registry.example");
    assert_eq!(name(&minted, "[::1]:5443", Some("registry.example")), "acme.registry.example:5443");
    assert_eq!(name(&minted, "[::1]", Some("registry.example")), "acme.registry.example");
    let hosts = Some(vec!["registry.acme.com".into(), "images.acme.com".into()]);
    let change = AccountChange { hosts, ..AccountChange::default() };
    world.auth.change_account(&Actor::Store, &super::name("acme"), &change, None).await.unwrap();
    let minted = world.mint(&Actor::Store, "acme", pull()).await;
    assert_eq!(name(&minted, "registry.example:5443", Some("registry.example")), "registry.acme.com:5443");
    let id = &minted.credential.id;
    let shown = world.auth.get_credential(&Actor::Store, &super::name("acme"), id).await.unwrap();
    assert_eq!(shown.document(&host("registry.example")).host, "registry.acme.com");
}

#[tokio::test]
async fn over_plain_http_helm_and_podman_are_told() {
    let (_, minted) = minted().await;
    let plain = Host::new("127.0.0.1:5080", true).unwrap();
    let rendering = render(&minted, &plain, &SecretName::default());
    assert!(rendering.helm_login.reveal().ends_with(" --password-stdin --plain-http"));
    assert!(rendering.docker_login.reveal().contains(" --password-stdin # "));
    assert!(rendering.docker_login.reveal().contains("--tls-verify=false"));
}

#[tokio::test]
async fn the_document_has_the_documented_fields_whole_once_and_bare_in_lists() {
    let (world, minted) = minted().await;
    let keys = |document: &CredentialDocument| {
        let value = serde_json::to_value(document).unwrap();
        value.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>().join(" ")
    };
    let id = minted.credential.id.clone();
    let whole = minted.document(&host("registry.example"), &SecretName::default());
    assert_eq!(
        keys(&whole),
        "id account username password host kind actions repositories label created_at expires_at docker_login helm_login \
         dockerconfigjson kubernetes_secret"
    );
    let shown = world.auth.get_credential(&Actor::Store, &name("acme"), &id).await.unwrap();
    let bare = shown.document(&host("registry.example"));
    assert_eq!(keys(&bare), "id account username host kind actions repositories label created_at expires_at issuer");
    let value = serde_json::to_value(&bare).unwrap();
    assert_eq!(value["expires_at"], "2027-01-15T20:00:00.000Z");
    assert_eq!((&value["kind"], &value["label"]), (&"pull".into(), &"node 7".into()));
    let key = world.auth.create_key(&Actor::Store, &name("acme"), &NewKey::default()).await.unwrap();
    let value = serde_json::to_value(&key).unwrap();
    let fields = value.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>().join(" ");
    assert_eq!(fields, "id account key role actions repositories label max_ttl_seconds created_at expires_at state");
    assert!(!format!("{key:?} {whole:?}").contains("hyak_"));
}

#[test]
fn no_value_of_a_config_needs_an_escape_anywhere() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let world = runtime.block_on(World::with(settings()));
    proptest!(|(kind in prop::sample::select(vec!["pull", "push"]), name_of_host in "[a-z0-9.-]{1,40}(:[0-9]{1,5})?")| {
            let request = MintRequest { kind: kind.into(), ..pull() };
            let minted = runtime.block_on(world.mint(&Actor::Store, "acme", request));
            let rendering = render(&minted, &host(&name_of_host), &SecretName::default());
            let config: serde_json::Value = serde_json::from_str(rendering.config.reveal()).unwrap();
            let entry = &config["auths"][&name_of_host];
            for value in [&entry["username"], &entry["password"], &entry["auth"]] {
                let value = value.as_str().unwrap();
    let plain = !value.contains(['"', '\'', '\\', ' ', '\n']) && !value.contains("${");
                prop_assert!(plain);
            }
            prop_assert!(!rendering.config.reveal().contains([' ', '\n', '\\', '\'']));
            prop_assert!(!rendering.dockerconfigjson.reveal().contains(char::is_whitespace));
        });
    for bad in ["", "https://x", "x/y", "x y", "x\"y", "x'y", "${x}", "x\\y"] {
        assert!(Host::new(bad, false).is_none(), "{bad}");
    }
}
