//! `/api/v1/usage` and `/api/v1/accounts/{account}/usage`.

use std::sync::Arc;

use conformance::{
    Actor, Caller, Harness, Request, Store,
    fixture::{self, Content, Format},
    harness::until,
    push,
};
use serde_json::{Value, json};
use storage::{
    Account, Clock, Repository,
    backend::local::{Folder, Options},
    clock::SystemClock,
    key, record,
    tag::TagRecord,
};

use super::{key as access_key, owned};

async fn get(caller: &Caller, path: &str) -> Value {
    caller.send(Request::get(path)).await.expect(200).json()
}

#[tokio::test]
async fn what_an_account_keeps_is_counted_and_shared_bytes_once() {
    let (harness, owner) = owned().await;
    let acme = harness.account("acme").await;
    let empty = json!({"account": "acme", "repositories": 0, "tags": 0, "manifests": 0, "blobs": 0, "bytes": 0,
        "stored_bytes": 0, "used_bytes": 0, "quota_bytes": null, "left_bytes": null, "complete": true});
    assert_eq!(get(&owner, "/api/v1/accounts/acme/usage").await, empty);
    let bundle = fixture::image("one", Format::Oci);
    let pusher = acme.caller(&acme.push().await);
    for repository in ["acme/a", "acme/b"] {
        push::bundle(&pusher, repository, "v1", &bundle).await;
        push::bundle(&pusher, repository, "v2", &bundle).await;
    }
    let path = "/api/v1/accounts/acme/usage";
    until("the sum is the count", async || {
        let usage = get(&owner, path).await;
        usage["used_bytes"] == usage["bytes"]
    })
    .await;
    let usage = get(&owner, path).await;
    let bytes = usage["stored_bytes"].as_u64().unwrap();
    assert!(bytes > 0);
    let blobs = usage["blobs"].as_u64().unwrap();
    assert!(blobs >= 4 && blobs % 2 == 0, "{usage}");
    let expected = json!({"account": "acme", "repositories": 2, "tags": 4, "manifests": 2, "blobs": blobs,
        "bytes": 2 * bytes, "stored_bytes": bytes, "used_bytes": 2 * bytes, "quota_bytes": null, "left_bytes": null,
        "complete": true});
    assert_eq!(usage, expected);

    harness.account("beta").await;
    let operator = acme.actor(Actor::OperatorKey).await;
    assert_eq!(get(&operator, "/api/v1/accounts/acme/usage").await, expected);
    let all = get(&operator, "/api/v1/usage").await;
    assert_eq!(all["items"][0], expected);
    assert_eq!(all["items"][1]["account"], "beta");
    assert_eq!(all["next_token"], Value::Null);
    owner.send(Request::get("/api/v1/usage")).await.refused(403, "DENIED");
    operator.send(Request::get("/api/v1/accounts/nothing/usage")).await.refused(404, "NOT_FOUND");
}

/// Writes 1100 tags beside the server: by requests it would take as many as many syncs of the disk.
#[expect(
    clippy::disallowed_methods,
    reason = "the test writes below the server, into an account whose generation it read"
)]
async fn write_tags(harness: &Harness, generation: &str, root: &Content) {
    let folder = Folder::open(&harness.data(), Options::default(), Arc::new(SystemClock::new())).unwrap();
    let account = Account::new("acme".parse().unwrap(), generation.parse().unwrap());
    let repository = Repository::new(account, "acme/a".parse().unwrap()).unwrap();
    let record = TagRecord {
        digest: root.digest.parse().unwrap(),
        media_type: root.media_type.clone(),
        size: root.bytes.len() as u64,
        pushed_at: SystemClock::new().now(),
        by: "test".into(),
    };
    let keys: Vec<_> = (0..1100).map(|n| key::tag(&repository, &format!("t{n}").parse().unwrap())).collect();
    let writes = keys.iter().map(|key| record::create(&*folder.records, key, record.clone()));
    futures::future::try_join_all(writes).await.unwrap();
}

/// More than one answer counts: the answers add up.
#[tokio::test]
async fn a_large_account_is_counted_in_parts() {
    let harness = Harness::on(Store::Local).await;
    let acme = harness.account("acme").await;
    let owner = access_key(&acme, &harness, &[]).await.0;
    let bundle = fixture::image("one", Format::Oci);
    let pusher = acme.caller(&acme.push().await);
    push::bundle(&pusher, "acme/a", "v0", &bundle).await;
    let generation = get(&owner, "/api/v1/accounts/acme").await["generation"].as_str().unwrap().to_owned();
    write_tags(&harness, &generation, bundle.root()).await;
    let first = get(&owner, "/api/v1/accounts/acme/usage").await;
    assert_eq!(first["complete"], false);
    let token = first["next_token"].as_str().unwrap();
    let second = get(&owner, &format!("/api/v1/accounts/acme/usage?next_token={token}")).await;
    let sum = |field: &str| first[field].as_u64().unwrap() + second[field].as_u64().unwrap();
    assert_eq!((sum("tags"), sum("manifests"), sum("repositories")), (1101, 1, 1));
    let operator = acme.actor(Actor::OperatorKey).await;
    let (mut tags, mut path, mut answers) = (0, "/api/v1/usage".to_owned(), 0);
    loop {
        let page = get(&operator, &path).await;
        tags += page["items"].as_array().unwrap().iter().map(|item| item["tags"].as_u64().unwrap()).sum::<u64>();
        answers += 1;
        match page["next_token"].as_str() {
            Some(token) => path = format!("/api/v1/usage?next_token={token}"),
            None => break,
        }
    }
    assert_eq!((tags, answers), (1101, 2));
}
