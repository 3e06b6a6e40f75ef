//! What an account uses, and what it may: exact when nothing happens, refused in words, on a folder and on a bucket with two
//! servers.

use conformance::{
    Actor, Caller, Harness, Request, Store,
    fixture::{self, Algorithm, Content, Format},
    harness::until,
    push,
};
use serde_json::Value;

async fn usage(owner: &Caller) -> Value {
    owner.send(Request::get("/api/v1/accounts/acme/usage")).await.expect(200).json()
}

/// The sum that quotas are compared with has become what a count finds.
async fn exact(owner: &Caller, bytes: u64) {
    until("the sum is the count", async || {
        let usage = usage(owner).await;
        assert_eq!(usage["bytes"], bytes, "{usage}");
        usage["used_bytes"] == bytes
    })
    .await;
}

fn blob(seed: &str, size: usize) -> Content {
    Content::random(Algorithm::Sha256, seed, size)
}

async fn quota(harness: &Harness, quota: &str) {
    harness.hythe(&["account", "set", "acme", "--quota", quota]).await;
    harness.heard().await;
}

#[tokio::test]
async fn usage_is_exact_when_nothing_happens_whatever_was_pushed_mounted_and_deleted() {
    for store in Store::ALL {
        let harness = Harness::on(store).await;
        let acme = harness.account("acme").await;
        let (owner, key) = (acme.actor(Actor::AccessKey).await, acme.push_delete().await);
        let first = acme.caller(&key);
        let other = match store {
            Store::Local => None,
            Store::Minio | Store::Versitygw => Some(harness.replica(None).await),
        };
        let second = other
            .as_ref()
            .map_or_else(|| acme.caller(&key), |other| Caller::basic(other.client(), &key.username, &key.password));
        let (one, two) = (blob("one", 1000), blob("two", 300));
        push::blob(&first, "acme/a", &one).await;
        push::blob(&second, "acme/a", &two).await;
        // Known already, by upload and by mount: nothing, and once more.
        push::blob(&second, "acme/a", &one).await;
        let mount = format!("/v2/acme/b/blobs/uploads/?mount={}&from=acme/a", one.digest);
        second.send(Request::post(mount)).await.expect(201);
        exact(&owner, 2300).await;
        first.send(Request::delete(format!("/v2/acme/a/blobs/{}", two.digest))).await.expect(202);
        second.send(Request::delete(format!("/v2/acme/a/blobs/{}", one.digest))).await.expect(202);
        exact(&owner, 1000).await;
        assert_eq!(usage(&owner).await["stored_bytes"], 1000, "the mount is the last to have it");
        let gone = Request::delete("/api/v1/accounts/acme/repositories?name=b").header("If-Match", "*");
        owner.send(gone).await.expect(202);
        until("the repository is gone", async || usage(&owner).await["repositories"] == 1).await;
        exact(&owner, 0).await;
    }
}

#[tokio::test]
async fn a_push_over_the_quota_is_refused_at_every_server_and_goes_on_when_it_is_raised() {
    let harness = Harness::on(Store::Minio).await;
    let acme = harness.account("acme").await;
    let (owner, key) = (acme.actor(Actor::AccessKey).await, acme.push().await);
    let first = acme.caller(&key);
    let replica = harness.replica(None).await;
    let second = Caller::basic(replica.client(), &key.username, &key.password);
    quota(&harness, "2000B").await;
    push::blob(&first, "acme/a", &blob("one", 1500)).await;
    exact(&owner, 1500).await;
    let big = blob("big", 800);
    let refused = async |caller: &Caller| {
        let location = push::open(caller, "acme/a").await;
        let put = Request::put(push::with_digest(&location, &big.digest)).body(big.bytes.clone());
        caller.send(put).await.refused(403, "DENIED").message()
    };
    // The other server reads the counters when it is asked, a second later at most.
    until("both servers know", async || {
        let asked = Caller::bearer(replica.client(), owner.authorization().unwrap().trim_start_matches("Bearer "));
        usage(&asked).await["left_bytes"] == 500 && usage(&owner).await["left_bytes"] == 500
    })
    .await;
    for caller in [&first, &second] {
        assert_eq!(
            refused(caller).await,
            "account acme uses 1.4 KiB of its quota of 1.9 KiB and cannot take this: delete what is not needed, or have the \
             operator raise the quota (hythe account set acme --quota SIZE)"
        );
    }
    // A manifest is none of the bytes that are counted.
    push::blob(&first, "acme/a", &blob("two", 500)).await;
    exact(&owner, 2000).await;
    let open = Request::post("/v2/acme/a/blobs/uploads/");
    first.send(open).await.refused(403, "DENIED");
    quota(&harness, "4000B").await;
    let opens = async || second.send(Request::post("/v2/acme/a/blobs/uploads/")).await.status == 202;
    until("the other server has heard of it", opens).await;
    push::blob(&second, "acme/a", &big).await;
    exact(&owner, 2800).await;
    quota(&harness, "none").await;
    push::bundle(&first, "acme/a", "v1", &fixture::image("free", Format::Oci)).await;
}

/// What a server had counted and not written dies with it; the next comparison has the account counted.
#[tokio::test]
async fn a_killed_server_s_account_is_counted_anew() {
    let mut harness = Harness::on(Store::Local).await;
    let key = {
        let acme = harness.account("acme").await;
        let key = acme.push().await;
        push::blob(&acme.caller(&key), "acme/a", &blob("lost", 1500)).await;
        key
    };
    harness.restart().await;
    let acme = harness.account("acme").await;
    let owner = acme.actor(Actor::AccessKey).await;
    quota(&harness, "2000B").await;
    push::blob(&acme.caller(&key), "acme/a", &blob("next", 100)).await;
    exact(&owner, 1600).await;
    let location = push::open(&acme.caller(&key), "acme/a").await;
    let more = blob("more", 900);
    let put = Request::put(push::with_digest(&location, &more.digest)).body(more.bytes.clone());
    acme.caller(&key).send(put).await.refused(403, "DENIED");
}

#[tokio::test]
async fn a_default_holds_until_the_account_says_otherwise() {
    let harness = Harness::with(Store::Local, &["--default-quota", "1KiB", "--open-uploads", "2"]).await;
    let acme = harness.account("acme").await;
    let (owner, vendor) = (acme.actor(Actor::AccessKey).await, acme.caller(&acme.push().await));
    let answer = usage(&owner).await;
    assert_eq!((&answer["quota_bytes"], &answer["left_bytes"]), (&1024.into(), &1024.into()));
    let over = blob("over", 2000);
    let single = || Request::post(format!("/v2/acme/a/blobs/uploads/?digest={}", over.digest)).body(over.bytes.clone());
    vendor.send(single()).await.refused(403, "DENIED");
    quota(&harness, "none").await;
    assert_eq!(usage(&owner).await["quota_bytes"], Value::Null);
    vendor.send(single()).await.expect(201);
    quota(&harness, "default").await;
    vendor.send(Request::post("/v2/acme/a/blobs/uploads/")).await.refused(403, "DENIED");
    quota(&harness, "1MiB").await;
    for _ in 0..2 {
        let location = push::open(&vendor, "acme/a").await;
        push::chunk(&vendor, &location, 0, blob("part", 10).bytes).await.expect(202);
    }
    let refused = vendor.send(Request::post("/v2/acme/a/blobs/uploads/")).await.refused(403, "DENIED").message();
    assert!(refused.starts_with("account acme has 2 unfinished uploads here"), "{refused}");
    // The owner sees its quota and does not set it.
    let account = owner.send(Request::get("/api/v1/accounts/acme")).await.expect(200).json();
    assert_eq!(account["quota_bytes"], 1 << 20);
    let raise =
        Request::patch("/api/v1/accounts/acme").header("If-Match", "*").header("Content-Type", "application/json");
    let raise = raise.body(r#"{"quota_bytes": 9000000}"#);
    owner.send(raise.clone()).await.refused(403, "DENIED");
    let operator = acme.actor(Actor::OperatorKey).await;
    assert_eq!(operator.send(raise).await.expect(200).json()["quota_bytes"], 9_000_000);
}
