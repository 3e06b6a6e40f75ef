use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use auth::{
    AccountChange, Actor, Auth, Host, MintRequest, NewAccount, NewGrant, NewKey, NewTrust, Page, PolicyChange,
    PublicDocument, SecretName, Settings,
};
use chrono::DateTime;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use storage::{
    backend::memory::MemoryRecords,
    clock::ManualClock,
    retention::{Keep, Rule},
};

use super::{
    super::{
        repositories::{RepositoryChange, SettingsChange},
        retention::{RetentionTest, RulesDocument},
    },
    documents::Field,
    *,
};

fn tables() -> BTreeMap<&'static str, &'static [Field]> {
    DOCUMENTS.into_iter().collect()
}

#[test]
fn the_document_lists_every_operation_and_no_other() {
    let document = serde_json::to_value(document()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let mut listed = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let label = operation["operationId"].as_str().unwrap();
            listed.insert((method.to_uppercase(), path.clone(), label.to_owned()));
            for status in ["401", "429", "500", "503"] {
                assert!(operation["responses"][status].is_object(), "{label} {status}");
            }
        }
    }
    let all = ApiOperation::ALL.map(|o| (o.method().to_string(), o.path().to_owned(), o.label().to_owned()));
    assert_eq!(listed, all.into());
    assert!(document["security"][0]["key"].is_array() && document["security"][1]["session"].is_array());
    let security = |path: &str, method: &str| document["paths"][path][method]["security"].to_string();
    assert_eq!(security("/api/v1/session", "post"), r#"[{"key":[]}]"#);
    assert_eq!(security("/api/v1/session/close", "post"), r#"[{"session":[]}]"#);
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = serde_json::to_value(document()).unwrap();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 10, "{found:?}");
    for reference in found {
        let pointer = reference.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

/// The fields that a request may have, in the words of what reads it.
fn accepted<T: DeserializeOwned>() -> BTreeSet<String> {
    let text = serde_json::from_str::<T>(r#"{"?":0}"#).map(|_| ()).unwrap_err().to_string();
    let (_, expected) = text.split_once("expected ").unwrap();
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_document_names_the_fields_that_requests_may_have() {
    let read = [
        ("NewAccount", accepted::<NewAccount>()),
        ("AccountChange", accepted::<AccountChange>()),
        ("PolicyChange", accepted::<PolicyChange>()),
        ("Public", accepted::<PublicDocument>()),
        ("NewKey", accepted::<NewKey>()),
        ("MintRequest", accepted::<MintRequest>()),
        ("NewTrust", accepted::<NewTrust>()),
        ("NewTrustGrant", accepted::<NewGrant>()),
        ("NewRetention", accepted::<RulesDocument>()),
        ("NewRetentionTest", accepted::<RetentionTest>()),
        ("NewRetentionRule", accepted::<Rule>()),
        ("NewRetentionKeep", accepted::<Keep>()),
        ("RepositoryChange", accepted::<RepositoryChange>()),
        ("RepositorySettingsChange", accepted::<SettingsChange>()),
    ];
    for (name, accepted) in read {
        let told: BTreeSet<_> = tables()[name].iter().map(|field| field.name.to_owned()).collect();
        assert_eq!(told, accepted, "{name}");
        let closed = serde_json::to_value(document()).unwrap();
        assert_eq!(closed["components"]["schemas"][name]["additionalProperties"], false, "{name}");
    }
}

fn agrees<T: Serialize>(name: &str, answer: &T) {
    let answer = serde_json::to_value(answer).unwrap();
    let answer: BTreeSet<_> = answer.as_object().unwrap().keys().map(String::as_str).collect();
    let table = tables()[name];
    let all: BTreeSet<_> = table.iter().map(|field| field.name).collect();
    let required: BTreeSet<_> = table.iter().filter(|field| field.required).map(|field| field.name).collect();
    assert!(answer.is_subset(&all), "{name} has {answer:?}, told are {all:?}");
    assert!(answer.is_superset(&required), "{name} has {answer:?}, promised are {required:?}");
}

#[tokio::test]
async fn the_document_names_the_fields_that_answers_have() {
    let clock = Arc::new(ManualClock::at(DateTime::UNIX_EPOCH + chrono::Days::new(20_000)));
    let records = Arc::new(MemoryRecords::new(clock.clone()));
    let auth = Auth::open(records.clone(), clock.clone(), Settings::default()).await.unwrap();
    let (store, name) = (Actor::Store, "acme".parse().unwrap());
    let account =
        auth.create_account(&store, &NewAccount { name: "acme".into(), display: String::new() }).await.unwrap();
    agrees("Account", &account);
    agrees("Policy", &account.policy);
    agrees("Public", &auth.get_public(&store, &name).await.unwrap());
    let key = auth.create_key(&store, &name, &NewKey::default()).await.unwrap();
    agrees("AccessKey", &key);
    agrees("AccessKey", &auth.get_key(&store, &name, &key.id).await.unwrap());
    let here = std::net::Ipv4Addr::LOCALHOST.into();
    let secret = key.key.as_ref().map(auth::Shown::reveal);
    let owner = auth.authenticate_api(secret, here).await.unwrap();
    agrees("Session", &auth.open_session(&owner).await.unwrap().0);
    let trusted = Settings { trusted_issuers: vec!["https://issuer.example".into()], ..Settings::default() };
    let auth = Auth::open(records, clock, trusted).await.unwrap();
    let new = NewTrust {
        issuer: "https://issuer.example".into(),
        conditions: [("sub".to_owned(), "robot".to_owned())].into(),
        grant: NewGrant { actions: vec!["pull".into()], ..NewGrant::default() },
        ..NewTrust::default()
    };
    let trust = auth.create_trust(&store, &name, &new, "registry.example/acme").await.unwrap();
    agrees("Trust", &trust);
    agrees("TrustGrant", &trust.grant);
    let request = MintRequest { kind: "push".into(), ..MintRequest::default() };
    let minted = auth.mint(&store, &name, &request).await.unwrap();
    let (id, host) = (minted.credential.id.clone(), Host::new("registry.example", false).unwrap());
    agrees("Credential", &minted.document(&host, &SecretName::default()));
    agrees("Ended", &auth.revoke_credential(&store, &name, &id).await.unwrap());
    let listed = auth.list_credentials(&store, &name, &Page::default()).await.unwrap().items.remove(0);
    agrees("Issuer", &listed.issuer);
    let listed = listed.document(&host);
    assert!(serde_json::to_value(&listed).unwrap().get("revoked_at").is_some());
    agrees("Credential", &listed);
    let event = auth.audit(&store, &name, None, &Page::default()).await.unwrap().items.remove(0);
    agrees("Event", &event);
    agrees("Party", &event.actor);
}
