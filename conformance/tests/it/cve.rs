//! Holes that other registries had, each tried here under its number: what is kept and who gets at it. What clients stumble over is
//! in `client`, who takes over what in `takeover`.

mod client;
mod takeover;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use conformance::{
    AccountUnderTest, Actor, Caller, Harness, Request,
    fixture::{self, Algorithm, Content, Format, media},
    push,
};
use http::Method;
use serde_json::json;

async fn vendor(harness: &Harness) -> (AccountUnderTest<'_>, Caller) {
    let account = harness.account("acme").await;
    let caller = account.actor(Actor::PushDelete).await;
    (account, caller)
}

fn blob_path(repository: &str, digest: &str) -> String {
    format!("/v2/{repository}/blobs/{digest}")
}

/// CVE-2021-41190: a document that is an image to one reader and an index to another.
#[tokio::test]
async fn one_document_is_never_two_types() {
    let harness = Harness::start().await;
    let (_, vendor) = vendor(&harness).await;
    let image = fixture::image("ambiguous", Format::Oci);
    push::bundle(&vendor, "acme/web", "v1", &image).await;
    let plain: serde_json::Value = serde_json::from_slice(&image.root().bytes).unwrap();
    let put = async |kind: &str, document: &serde_json::Value| {
        let content = Content::new(Algorithm::Sha256, kind, document.to_string());
        for reference in ["both", content.digest.as_str()] {
            let answer = vendor.send(push::manifest_request("acme/web", reference, &content)).await;
            answer.refused(400, "MANIFEST_INVALID");
            vendor.send(Request::get(format!("/v2/acme/web/manifests/{reference}"))).await.expect(404);
        }
    };
    for kind in [media::OCI_MANIFEST, media::OCI_INDEX, media::DOCKER_MANIFEST, media::DOCKER_LIST] {
        let mut both = plain.clone();
        both["mediaType"] = json!(kind);
        both["manifests"] = json!([image.root().descriptor()]);
        put(kind, &both).await;
        // Without a type inside the header alone decides, and the rest may still not fit it.
        both.as_object_mut().unwrap().remove("mediaType");
        put(kind, &both).await;
    }
    let mut says_another = plain.clone();
    says_another["mediaType"] = json!(media::OCI_INDEX);
    put(media::OCI_MANIFEST, &says_another).await;
    let twice = image.root().bytes.clone();
    let twice = String::from_utf8(twice.to_vec()).unwrap();
    let twice = twice.replacen('{', &format!(r#"{{"mediaType":"{}","#, media::OCI_INDEX), 1);
    let content = Content::new(Algorithm::Sha256, media::OCI_INDEX, twice);
    vendor.send(push::manifest_request("acme/web", "twice", &content)).await.refused(400, "MANIFEST_INVALID");
}

/// CVE-2023-2253: a page as large as the client likes, made in memory.
#[tokio::test]
async fn a_page_is_no_larger_than_the_server_wants() {
    let harness = Harness::start().await;
    let (_, vendor) = vendor(&harness).await;
    push::bundle(&vendor, "acme/web", "v1", &fixture::image("paged", Format::Oci)).await;
    for path in ["/v2/_catalog", "/v2/acme/web/tags/list"] {
        for n in ["10001", "2147483648", "9223372036854775808", "99999999999999999999999999999"] {
            vendor.send(Request::get(format!("{path}?n={n}"))).await.expect(200);
        }
        for n in ["-1", "abc", "1e9", "", "%00", "+1", "0x10", "1.0"] {
            let refused = vendor.send(Request::get(format!("{path}?n={n}"))).await;
            refused.refused(400, "PAGINATION_NUMBER_INVALID");
        }
    }
}

/// CVE-2025-24976: a token that brings its own key, or names one.
#[tokio::test]
async fn a_token_does_not_choose_the_key_it_is_verified_with() {
    let harness = Harness::start().await;
    let (_, vendor) = vendor(&harness).await;
    push::bundle(&vendor, "acme/web", "v1", &fixture::image("keyed", Format::Oci)).await;
    let scope = "repository:acme/web:pull";
    let good = vendor.ask_token(&[scope]).await.expect(200).json();
    let good = good["token"].as_str().unwrap();
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three segments") };
    let header: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    let rogue = aws_lc_rs::signature::Ed25519KeyPair::generate().unwrap();
    let x = URL_SAFE_NO_PAD.encode(aws_lc_rs::signature::KeyPair::public_key(&rogue).as_ref());
    let mut headers = vec![header.clone()];
    for (field, value) in [
        ("jwk", json!({"kty": "OKP", "crv": "Ed25519", "x": x})),
        ("jku", json!("https://attacker.example/jwks.json")),
        ("x5c", json!(["MIIB"])),
        ("x5u", json!("https://attacker.example/chain.pem")),
        ("kid", json!("../../../../dev/null")),
        ("kid", json!(x)),
        ("kid", json!("")),
        ("kid", serde_json::Value::Null),
    ] {
        let mut changed = header.clone();
        changed[field] = value;
        headers.push(changed);
    }
    for header in headers {
        let message = format!("{}.{payload}", URL_SAFE_NO_PAD.encode(header.to_string()));
        let signed = URL_SAFE_NO_PAD.encode(rogue.sign(message.as_bytes()).as_ref());
        for token in [format!("{message}.{signed}"), format!("{message}.{signature}")] {
            if token == good {
                continue;
            }
            let thief = Caller::bearer(harness.client(), &token);
            let refused = thief.send(Request::get("/v2/acme/web/manifests/v1")).await.refused(401, "UNAUTHORIZED");
            assert!(refused.header("www-authenticate").ends_with("error=\"invalid_token\""), "{header}");
        }
    }
    let holder = Caller::bearer(harness.client(), good);
    holder.send(Request::get("/v2/acme/web/manifests/v1")).await.expect(200);
}

/// CVE-2024-39897: bytes that are kept once let everybody at them who knows their digest.
#[tokio::test]
async fn a_digest_that_is_kept_elsewhere_opens_nothing_here() {
    let harness = Harness::start().await;
    let (account, vendor) = vendor(&harness).await;
    let secret = Content::random(Algorithm::Sha256, "deduplicated", 4096);
    push::blob(&vendor, "acme/secret/x", &secret).await;
    let narrow = account.mint(&["--kind", "push", "--repository", "acme/web/*"]).await;
    let narrow = account.caller(&narrow);
    let stranger = harness.account("stranger").await;
    let stranger = stranger.caller(&stranger.push().await);
    for (thief, own) in [(&narrow, "acme/web/api"), (&stranger, "stranger/web")] {
        // The repository exists, with something else in it.
        push::blob(thief, own, &Content::random(Algorithm::Sha256, own, 100)).await;
        let unknown = Content::random(Algorithm::Sha256, "nobody has this", 10);
        for from in ["", "&from=acme/secret/x", "&from=acme%2Fsecret%2Fx", "&from=acme/nothing/x"] {
            let path = format!("/v2/{own}/blobs/uploads/?mount={}{from}", secret.digest);
            let opened = thief.send(Request::post(path)).await.expect(202);
            assert_eq!(opened.header("docker-content-digest"), "", "an ordinary session");
        }
        for request in [Request::head, Request::get] {
            let kept = thief.send(request(blob_path(own, &secret.digest))).await.expect(404);
            let never = thief.send(request(blob_path(own, &unknown.digest))).await.expect(404);
            assert_eq!(kept.body, never.body);
            thief.send(request(blob_path("acme/secret/x", &secret.digest))).await.expect(403);
        }
        // A manifest that names it is no way in either.
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
            "config": secret.descriptor(), "layers": [secret.descriptor()],
        });
        let manifest = Content::new(Algorithm::Sha256, media::OCI_MANIFEST, manifest.to_string());
        let put = push::manifest_request(own, "stolen", &manifest);
        thief.send(put).await.refused(404, "MANIFEST_BLOB_UNKNOWN");
        // Who has the bytes has them.
        push::blob(thief, own, &secret).await;
        let back = thief.send(Request::get(blob_path(own, &secret.digest))).await.expect(200);
        assert_eq!(back.body, secret.bytes);
    }
}

/// CVE-2026-32589: an upload's id that is good in every repository.
#[tokio::test]
async fn an_upload_belongs_to_its_repository() {
    let harness = Harness::start().await;
    let (_, vendor) = vendor(&harness).await;
    let stranger = harness.account("stranger").await;
    let stranger = stranger.caller(&stranger.push().await);
    let blob = Content::random(Algorithm::Sha256, "hijacked", 1000);
    let session = push::open(&vendor, "acme/web/api").await;
    push::chunk(&vendor, &session, 0, blob.bytes.slice(..500)).await.expect(202);
    for (thief, repository) in
        [(&vendor, "acme/web/other"), (&vendor, "acme/web"), (&stranger, "stranger/web/api"), (&stranger, "stranger/x")]
    {
        let moved = session.replace("acme/web/api", repository);
        for method in [Method::GET, Method::PATCH, Method::PUT, Method::DELETE] {
            let path = push::with_digest(&moved, &blob.digest);
            let request = Request::new(method, path).body(blob.bytes.slice(500..));
            thief.send(request).await.refused(404, "BLOB_UPLOAD_UNKNOWN");
        }
    }
    for method in [Method::GET, Method::PATCH, Method::PUT, Method::DELETE] {
        stranger.send(Request::new(method, session.clone())).await.refused(403, "DENIED");
    }
    let stands = vendor.send(Request::get(session.clone())).await.expect(204);
    assert_eq!(stands.header("range"), "0-499");
    push::chunk(&vendor, &session, 500, blob.bytes.slice(500..)).await.expect(202);
    push::commit(&vendor, &session, &blob.digest).await.expect(201);
}

/// goharbor/harbor#22900: a robot of a deleted project opens the project that is made under its name.
#[tokio::test]
async fn an_account_that_is_made_again_knows_nobody_of_before() {
    let harness = Harness::start().await;
    let phoenix = harness.account("phoenix").await;
    let former = phoenix.push_delete().await;
    let basic = phoenix.caller(&former);
    let image = fixture::image("former", Format::Oci);
    push::bundle(&basic, "phoenix/web", "v1", &image).await;
    let token = basic.with_token(&["repository:phoenix/web:pull,push,delete"]).await;
    let key = phoenix.actor(Actor::AccessKey).await;
    let session = push::open(&basic, "phoenix/web").await;
    harness.hythe(&["account", "delete", "phoenix"]).await;
    harness.hythe(&["account", "create", "phoenix"]).await;
    harness.heard().await;

    let manifest = || Request::get("/v2/phoenix/web/manifests/v1");
    basic.send(manifest()).await.refused(401, "UNAUTHORIZED");
    basic.ask_token(&["repository:phoenix/web:pull"]).await.refused(401, "UNAUTHORIZED");
    key.send(manifest()).await.refused(401, "UNAUTHORIZED");
    let refused = token.send(manifest()).await.refused(401, "UNAUTHORIZED");
    assert!(refused.header("www-authenticate").ends_with("error=\"invalid_token\""));
    token.send(Request::patch(session.clone()).body("more")).await.refused(401, "UNAUTHORIZED");

    // And whoever comes now finds nothing of theirs.
    let heir = phoenix.caller(&phoenix.push_delete().await);
    heir.send(manifest()).await.refused(404, "NAME_UNKNOWN");
    heir.send(Request::get(blob_path("phoenix/web", &image.blobs[0].digest))).await.refused(404, "NAME_UNKNOWN");
    heir.send(Request::get(session)).await.refused(404, "BLOB_UPLOAD_UNKNOWN");
    let catalog = heir.send(Request::get("/v2/_catalog")).await.expect(200).json();
    assert_eq!(catalog["repositories"], json!([]));
    let mount = format!("/v2/phoenix/web/blobs/uploads/?mount={}&from=phoenix/web", image.blobs[0].digest);
    heir.send(Request::post(mount)).await.expect(202);
}

/// CVE-2026-35172 (distribution): a repository whose blob was deleted reads it again as soon as a neighbour that kept it is read,
/// because a cache still counts the blob as its own.
#[tokio::test]
async fn a_deleted_blob_does_not_come_back_when_a_neighbour_is_read() {
    let mut harness = Harness::start().await;
    let (account, vendor) = {
        let (account, vendor) = vendor(&harness).await;
        (account.mint(&["--kind", "pull", "--repository", "acme/one"]).await, vendor)
    };
    let narrow = Caller::basic(harness.client(), &account.username, &account.password);
    let shared = Content::random(Algorithm::Sha256, "kept by both", 4096);
    for repository in ["acme/one", "acme/two"] {
        push::blob(&vendor, repository, &shared).await;
        push::blob(&vendor, repository, &Content::random(Algorithm::Sha256, repository, 10)).await;
    }
    let one = || Request::get(blob_path("acme/one", &shared.digest));
    let two = || Request::get(blob_path("acme/two", &shared.digest));
    // Every reader has both in whatever remembers them.
    for _ in 0..2 {
        vendor.send(one()).await.expect(200);
        narrow.send(one()).await.expect(200);
        vendor.send(two()).await.expect(200);
    }
    vendor.send(Request::delete(blob_path("acme/one", &shared.digest))).await.expect(202);
    for round in 0..3 {
        assert_eq!(vendor.send(two()).await.expect(200).body, shared.bytes);
        vendor.send(Request::head(blob_path("acme/two", &shared.digest))).await.expect(200);
        for reader in [&vendor, &narrow] {
            reader.send(one()).await.refused(404, "BLOB_UNKNOWN");
            reader.send(Request::head(blob_path("acme/one", &shared.digest))).await.expect(404);
            reader.send(one().header("Range", "bytes=0-9")).await.refused(404, "BLOB_UNKNOWN");
            let cached = one().header("If-None-Match", format!("\"{}\"", shared.digest));
            reader.send(cached).await.refused(404, "BLOB_UNKNOWN");
        }
        // Whoever may not pull from the neighbour cannot mount it from there either.
        let mount = format!("/v2/acme/one/blobs/uploads/?mount={}&from=acme/two", shared.digest);
        narrow.send(Request::post(mount)).await.refused(403, "DENIED");
        if round == 1 {
            harness.restart().await;
        }
    }
}

/// CVE-2026-31801 (zot): whoever may create tags but not move them moves `latest` all the same. And its neighbour: what a push to a
/// tag would not be allowed, a push by digest with `?tag=` is.
#[tokio::test]
async fn a_tag_that_stays_is_moved_by_no_spelling() {
    let harness = Harness::start().await;
    let (account, vendor) = vendor(&harness).await;
    let owner = account.actor(Actor::AccessKey).await;
    let (first, other) = (fixture::image("first", Format::Oci), fixture::image("other", Format::Oci));
    for tag in ["latest", "v1"] {
        push::bundle(&vendor, "acme/web", tag, &first).await;
    }
    push::bundle(&vendor, "acme/web", "edge", &other).await;
    let settings = Request::patch("/api/v1/accounts/acme/repositories?name=web")
        .header("If-Match", "*")
        .header("Content-Type", "application/json")
        .body(json!({"settings": {"immutable_tags": ["latest", "v*"]}}).to_string());
    owner.send(settings).await.expect(200);

    let digest = &other.root().digest;
    let put = |reference: &str| push::manifest_request("acme/web", reference, other.root());
    for reference in [
        "latest".to_owned(),
        "v1".to_owned(),
        "latest?tag=fresh".to_owned(),
        format!("{digest}?tag=latest"),
        format!("{digest}?tag=fresh&tag=v1"),
        format!("{digest}?tag=%6Catest"),
    ] {
        vendor.send(put(&reference)).await.refused(405, "UNSUPPORTED");
    }
    vendor.send(Request::delete("/v2/acme/web/manifests/latest")).await.refused(405, "UNSUPPORTED");
    vendor.send(Request::get("/v2/acme/web/manifests/fresh")).await.expect(404);
    for tag in ["latest", "v1"] {
        let kept = vendor.send(Request::get(format!("/v2/acme/web/manifests/{tag}"))).await.expect(200);
        assert_eq!(kept.body, first.root().bytes, "{tag}");
    }
    // Nor does the parameter carry a push where there is no right to push.
    let puller = account.caller(&account.pull().await);
    let push_scoped = vendor.with_token(&["repository:acme/other:pull,push"]).await;
    let pull_scoped = vendor.with_token(&["repository:acme/web:pull"]).await;
    let stranger = harness.account("stranger").await.actor(Actor::PushDelete).await;
    for tag in ["latest", "fresh"] {
        let put = || put(&format!("{digest}?tag={tag}"));
        puller.send(put()).await.refused(403, "DENIED");
        stranger.send(put()).await.refused(403, "DENIED");
        push_scoped.send(put()).await.refused(401, "UNAUTHORIZED");
        pull_scoped.send(put()).await.refused(401, "UNAUTHORIZED");
        harness.send(put()).await.refused(401, "UNAUTHORIZED");
    }
    vendor.send(Request::get("/v2/acme/web/manifests/fresh")).await.expect(404);
}

/// CVE-2026-41888 (distribution): where nothing may be deleted, tags are.
#[tokio::test]
async fn a_tag_is_deleted_by_the_same_right_as_everything_else() {
    let mut harness = Harness::start().await;
    let (account, vendor) = vendor(&harness).await;
    let image = fixture::image("undeletable", Format::Oci);
    push::bundle(&vendor, "acme/web", "v1", &image).await;
    let of = |reference: &str| format!("/v2/acme/web/manifests/{reference}");
    let everything = [of("v1"), of("nothing"), of(&image.root().digest), blob_path("acme/web", &image.blobs[0].digest)];
    let pusher = account.caller(&account.push().await);
    let token = pusher.with_token(&["repository:acme/web:pull,push,delete"]).await;
    let all = pusher.with_token(&["repository:acme/web:*"]).await;
    let puller = account.caller(&account.pull().await);
    for path in &everything {
        for caller in [&pusher, &token, &all, &puller] {
            caller.send(Request::delete(path.as_str())).await.refused(403, "DENIED");
        }
    }
    let tags = "/api/v1/accounts/acme/repository-tags?repository=web&tag=v1";
    for role in ["publisher", "installer", "viewer"] {
        let made = harness.hythe(&["key", "create", "acme", "--role", role, "--output", "json"]).await;
        let made: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
        let key = Caller::bearer(harness.client(), made["key"].as_str().unwrap());
        key.send(Request::delete(tags).header("If-Match", "*")).await.refused(403, "DENIED");
    }
    // A whole server that takes no writes takes none of tags either, whoever asks.
    let owner = account.actor(Actor::AccessKey).await;
    harness.kill();
    harness.serve_with(&["--read-only"]);
    harness.boot().await;
    for path in &everything {
        vendor.send(Request::delete(path.as_str())).await.refused(405, "UNSUPPORTED");
    }
    owner.send(Request::delete(tags).header("If-Match", "*")).await.refused(405, "UNSUPPORTED");
    assert_eq!(vendor.send(Request::get(of("v1"))).await.expect(200).body, image.root().bytes);
}
