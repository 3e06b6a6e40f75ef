//! Holes that other registries had, each tried here under its number.

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
