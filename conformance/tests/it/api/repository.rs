//! `/api/v1/accounts/{account}/repositories` and `/repository-tags`.

use conformance::{
    AccountUnderTest, Caller, Harness, Request,
    fixture::{self, Bundle, Format},
    harness::until,
    push,
};
use serde_json::{Value, json};

use super::{invalid, key, owned, text, with};

const REPOSITORIES: &str = "/api/v1/accounts/acme/repositories";
const TAGS: &str = "/api/v1/accounts/acme/repository-tags";

async fn pusher(harness: &Harness) -> Caller {
    let acme = harness.account("acme").await;
    let push = acme.push().await;
    acme.caller(&push)
}

async fn pushed(pusher: &Caller, repository: &str, tag: &str, seed: &str) -> Bundle {
    let bundle = fixture::image(seed, Format::Oci);
    push::bundle(pusher, &format!("acme/{repository}"), tag, &bundle).await;
    bundle
}

/// A chart as helm pushes it, as far as its manifest goes.
async fn chart(pusher: &Caller) {
    let image = fixture::image("chart", Format::Oci);
    push::bundle(pusher, "acme/chart", "base", &image).await;
    let mut manifest = serde_json::from_slice::<Value>(&image.root().bytes).unwrap();
    manifest["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json");
    let put = Request::put("/v2/acme/chart/manifests/1.0").header("Content-Type", image.root().media_type.clone());
    pusher.send(put.body(manifest.to_string())).await.expect(201);
}

fn names(document: &Value) -> Vec<String> {
    document["items"].as_array().unwrap().iter().map(|item| text(item, "/name").to_owned()).collect()
}

async fn get(caller: &Caller, query: &str) -> Value {
    caller.send(Request::get(format!("{REPOSITORIES}?{query}"))).await.expect(200).json()
}

async fn set(caller: &Caller, name: &str, patterns: Value) {
    let request =
        with(Request::patch(format!("{REPOSITORIES}?name={name}")), &json!({"settings": {"immutable_tags": patterns}}));
    caller.send(request.header("If-Match", "*")).await.expect(200);
}

#[tokio::test]
async fn repositories_are_listed_by_name_prefix_and_kind_within_the_key_s_patterns() {
    let (harness, owner) = owned().await;
    let pusher = pusher(&harness).await;
    for name in ["app", "web/a", "web/b", "webhook"] {
        pushed(&pusher, name, "v1", name).await;
    }
    chart(&pusher).await;
    until("the chart's kind", async || text(&get(&owner, "name=chart").await, "/kind") == "chart").await;
    assert_eq!(names(&get(&owner, "").await), ["app", "chart", "web/a", "web/b", "webhook"]);
    assert_eq!(names(&get(&owner, "name_prefix=web/").await), ["web/a", "web/b"]);
    assert_eq!(names(&get(&owner, "kind=chart").await), ["chart"]);
    let first = get(&owner, "limit=2&name_prefix=web").await;
    assert_eq!(names(&first), ["web/a", "web/b"]);
    let token = text(&first, "/next_token");
    assert_eq!(names(&get(&owner, &format!("name_prefix=web&next_token={token}")).await), ["webhook"]);
    let other = owner.send(Request::get(format!("{REPOSITORIES}?name_prefix=w&next_token={token}"))).await;
    other.refused(400, "INVALID_TOKEN");

    let acme = harness.account("acme").await;
    let (narrow, _) = key(&acme, &harness, &["--role", "viewer", "--repository", "acme/web/*"]).await;
    assert_eq!(names(&get(&narrow, "").await), ["web/a", "web/b"]);
    let outside = narrow.send(Request::get(format!("{REPOSITORIES}?name=app"))).await.refused(403, "DENIED");
    let absent = narrow.send(Request::get(format!("{REPOSITORIES}?name=nothing"))).await.refused(403, "DENIED");
    assert_eq!(outside.text().replace("app", "nothing"), absent.text());
    narrow.send(Request::get(format!("{TAGS}?repository=app"))).await.refused(403, "DENIED");
    narrow.send(Request::get("/api/v1/accounts/acme/usage")).await.refused(403, "DENIED");
    assert_eq!(invalid(owner.send(Request::get(format!("{REPOSITORIES}?name=UP"))).await), ["?name"]);
    assert_eq!(invalid(owner.send(Request::get(format!("{REPOSITORIES}?kind=x"))).await), ["?kind"]);
}

#[tokio::test]
async fn an_immutable_tag_is_refused_by_name_with_the_way_out() {
    let (harness, owner) = owned().await;
    let pusher = pusher(&harness).await;
    pushed(&pusher, "app", "v1", "one").await;
    let path = format!("{REPOSITORIES}?name=app");
    let read = owner.send(Request::get(&*path)).await.expect(200);
    assert_eq!(read.json()["settings"], json!({"immutable_tags": []}));
    assert_eq!(read.json()["tag_count"], 1);
    let change = |patterns: Value| with(Request::patch(&*path), &json!({"settings": {"immutable_tags": patterns}}));
    owner.send(change(json!(["v*"]))).await.refused(428, "PRECONDITION_REQUIRED");
    let refused =
        owner.send(change(json!(["v*"])).header("If-Match", "\"77\"")).await.refused(412, "PRECONDITION_FAILED");
    assert_eq!(refused.header("etag"), read.header("etag"));
    let bad = owner.send(change(json!(["v*", "a b", "?"])).header("If-Match", "*")).await;
    assert_eq!(invalid(bad), ["/settings/immutable_tags/1", "/settings/immutable_tags/2"]);
    let changed = owner.send(change(json!(["v*"])).header("If-Match", read.header("etag"))).await.expect(200);
    assert_eq!(changed.json()["settings"]["immutable_tags"], json!(["v*"]));

    let other = fixture::image("two", Format::Oci);
    push::bundle(&pusher, "acme/app", "edge", &other).await;
    let manifest = |tag: &str, bundle: &Bundle| {
        Request::put(format!("/v2/acme/app/manifests/{tag}"))
            .header("Content-Type", bundle.root().media_type.clone())
            .body(bundle.root().bytes.clone())
    };
    let moved = pusher.send(manifest("v1", &other)).await.refused(405, "UNSUPPORTED");
    assert_eq!(moved.message(), "tag v1 is immutable in this repository; change that setting first");
    pusher.send(manifest("v1", &fixture::image("one", Format::Oci))).await.expect(201);
    pusher.send(manifest("v2", &other)).await.expect(201);
    let delete = |tag: &str| Request::delete(format!("{TAGS}?repository=app&tag={tag}")).header("If-Match", "*");
    owner.send(delete("v1")).await.refused(405, "UNSUPPORTED");
    owner.send(delete("edge")).await.expect(204);
    let (publisher, _) = key(&harness.account("acme").await, &harness, &["--role", "publisher", "--delete"]).await;
    publisher.send(change(json!([])).header("If-Match", "*")).await.refused(403, "DENIED");
    owner.send(change(Value::Null).header("If-Match", "*")).await.expect(200);
    publisher.send(delete("v1")).await.expect(204);
}

#[tokio::test]
async fn a_tag_is_deleted_where_it_was_seen_and_its_manifest_stays() {
    let (harness, owner) = owned().await;
    let pusher = pusher(&harness).await;
    let one = pushed(&pusher, "app", "v1", "one").await;
    let two = pushed(&pusher, "app", "v2", "two").await;
    let listed = owner.send(Request::get(format!("{TAGS}?repository=app"))).await.expect(200).json();
    let digests: Vec<_> = listed["items"].as_array().unwrap().iter().map(|item| text(item, "/digest")).collect();
    assert_eq!(digests, [one.root().digest.as_str(), two.root().digest.as_str()]);
    assert_eq!(listed["items"][0]["size_bytes"], one.root().bytes.len());
    let delete = || Request::delete(format!("{TAGS}?repository=app&tag=v1"));
    owner.send(delete()).await.refused(428, "PRECONDITION_REQUIRED");
    let seen = |bundle: &Bundle| format!("\"{}\"", bundle.root().digest);
    let stale = owner.send(delete().header("If-Match", seen(&two))).await.refused(412, "PRECONDITION_FAILED");
    assert_eq!(stale.header("etag"), seen(&one));
    owner.send(delete().header("If-Match", seen(&one))).await.expect(204);
    owner.send(delete().header("If-Match", seen(&one))).await.refused(404, "NOT_FOUND");
    let manifest = Request::get(format!("/v2/acme/app/manifests/{}", one.root().digest));
    pusher.send(manifest).await.expect(200);
    assert_eq!(invalid(owner.send(Request::get(TAGS)).await), ["?repository"]);
    owner.send(Request::get(format!("{TAGS}?repository=nothing"))).await.refused(404, "NOT_FOUND");
    let unknown = owner.send(Request::delete(format!("{TAGS}?repository=app&tags=v2")).header("If-Match", "*")).await;
    unknown.refused(400, "UNKNOWN_FIELD");
}

#[tokio::test]
async fn a_deleted_repository_goes_with_all_that_is_in_it() {
    let (harness, owner) = owned().await;
    let pusher = pusher(&harness).await;
    for n in 0..5 {
        pushed(&pusher, "app", &format!("v{n}"), &format!("image {n}")).await;
    }
    let kept = pushed(&pusher, "other", "v1", "image 0").await;
    set(&owner, "app", json!(["*"])).await;
    let path = format!("{REPOSITORIES}?name=app");
    let etag = owner.send(Request::get(&*path)).await.expect(200).header("etag").to_owned();
    owner.send(Request::delete(&*path)).await.refused(428, "PRECONDITION_REQUIRED");
    owner.send(Request::delete(&*path).header("If-Match", "\"77\"")).await.refused(412, "PRECONDITION_FAILED");
    let ordered = owner.send(Request::delete(&*path).header("If-Match", etag)).await.expect(202).json();
    assert_eq!(text(&ordered, "/status"), "deleting");
    until("the end", async || owner.send(Request::get(&*path)).await.status == 404).await;
    assert_eq!(names(&get(&owner, "").await), ["other"]);
    pusher.send(Request::get("/v2/acme/app/tags/list")).await.refused(404, "NAME_UNKNOWN");
    let manifest = pusher.send(Request::get("/v2/acme/other/manifests/v1")).await.expect(200);
    assert_eq!(manifest.body, kept.root().bytes);
    pushed(&pusher, "app", "v1", "image 0").await;
    assert_eq!(get(&owner, "name=app").await["tag_count"], 1);
}

/// An account's key says nothing of deletions that another order began: they go on whoever ordered them.
#[tokio::test]
async fn a_publisher_deletes_only_with_delete_and_within_its_patterns() {
    let (harness, owner) = owned().await;
    let pusher = pusher(&harness).await;
    pushed(&pusher, "web/a", "v1", "one").await;
    let acme: AccountUnderTest<'_> = harness.account("acme").await;
    let (without, _) = key(&acme, &harness, &["--role", "publisher"]).await;
    let (within, _) = key(&acme, &harness, &["--role", "publisher", "--delete", "--repository", "acme/web/*"]).await;
    let delete = |name: &str| Request::delete(format!("{REPOSITORIES}?name={name}")).header("If-Match", "*");
    without.send(delete("web/a")).await.refused(403, "DENIED");
    within.send(delete("app")).await.refused(403, "DENIED");
    within.send(delete("web/nothing")).await.refused(404, "NOT_FOUND");
    within.send(delete("web/a")).await.expect(202);
    until("the end", async || names(&get(&owner, "").await).is_empty()).await;
}
