//! end-3 and end-7: reading and pushing manifests of every kind.

use bytes::Bytes;
use conformance::{
    Actor, Caller, Harness, Request, Store,
    fixture::{self, Algorithm, Bundle, Content, Format, Image, hostile, media},
    push,
};
use serde_json::{Map, Value, json};

use super::{REPOSITORY, blob_path, manifest_path, registry};

/// Pushes a bundle, then reads every part of it back: by tag and by digest, with `GET` and `HEAD`.
async fn round_trip(caller: &Caller, tag: &str, bundle: &Bundle) {
    let answer = push::bundle(caller, REPOSITORY, tag, bundle).await;
    let there = caller.send(Request::get(push::location(&answer))).await.expect(200);
    assert_eq!(there.body, bundle.root().bytes);
    is_there(caller, tag, bundle.root()).await;
    for manifest in &bundle.manifests {
        is_there(caller, &manifest.digest, manifest).await;
    }
    for blob in &bundle.blobs {
        let answer = caller.send(Request::get(blob_path(&blob.digest))).await.expect(200);
        assert_eq!(answer.body, blob.bytes);
    }
}

async fn is_there(caller: &Caller, reference: &str, manifest: &Content) {
    for method in [Request::get, Request::head] {
        let request = method(manifest_path(reference))
            .header("Accept", media::OCI_INDEX)
            .header("Accept", media::OCI_MANIFEST)
            .header("Accept", media::DOCKER_MANIFEST)
            .header("Accept", media::DOCKER_LIST);
        let answer = caller.send(request).await.expect(200);
        assert_eq!(answer.header("content-type"), manifest.media_type, "{reference}");
        assert_eq!(answer.header("content-length"), manifest.size().to_string(), "{reference}");
        // A manifest pushed by a sha512 digest is read by it; a tag names it by the same.
        assert_eq!(answer.header("docker-content-digest"), manifest.digest, "{reference}");
        assert!(answer.body.is_empty() || answer.body == manifest.bytes, "{reference}: other bytes");
    }
    let answer = caller.send(Request::get(manifest_path(reference))).await.expect(200);
    assert_eq!(answer.body, manifest.bytes, "{reference}: served whatever is accepted");
}

/// end-3 and 7a: OCI and Docker schema 2.
#[tokio::test]
async fn an_image_comes_back_by_tag_and_by_digest() {
    let (_harness, vendor) = registry().await;
    round_trip(&vendor, "oci", &fixture::image("oci", Format::Oci)).await;
    round_trip(&vendor, "docker", &fixture::image("docker", Format::Docker)).await;
}

/// end-7a: four megabytes are a manifest still.
#[tokio::test]
async fn a_manifest_of_3_9_megabytes_comes_back() {
    let (_harness, vendor) = registry().await;
    let annotations: Map<String, Value> =
        (0..390).map(|number| (format!("large-annotation-{number}"), "A".repeat(10_000).into())).collect();
    let large = Image { seed: "large", annotations, ..Image::default() }.build();
    assert!(large.root().size() > 3_900_000);
    round_trip(&vendor, "large", &large).await;
}

/// end-7a: the limit is 8 MiB, and is named.
#[tokio::test]
async fn a_manifest_above_the_limit_is_refused() {
    let (_harness, vendor) = registry().await;
    let annotations: Map<String, Value> = [("large".to_owned(), "A".repeat(9 << 20).into())].into_iter().collect();
    let bundle = Image { seed: "too large", annotations, ..Image::default() }.build();
    for blob in &bundle.blobs {
        push::blob(&vendor, REPOSITORY, blob).await;
    }
    let put = push::manifest_request(REPOSITORY, "large", bundle.root());
    let refused = vendor.send(put).await.refused(413, "MANIFEST_INVALID");
    assert!(refused.message().contains("8388608"), "the limit is named: {}", refused.message());
    vendor.send(Request::get(manifest_path("large"))).await.expect(404);
}

/// end-7a: indexes of two platforms, of indexes, of nothing.
#[tokio::test]
async fn indexes_of_every_depth_come_back() {
    let (_harness, vendor) = registry().await;
    round_trip(&vendor, "index", &fixture::index("index", Algorithm::Sha256, false)).await;
    round_trip(&vendor, "list", &fixture::docker_list("list")).await;
    round_trip(&vendor, "nested", &fixture::nested_index("nested")).await;
    let empty = fixture::index_of(Algorithm::Sha256, &[], &Map::new());
    round_trip(&vendor, "empty", &Bundle { blobs: Vec::new(), manifests: vec![empty] }).await;
}

/// end-7a: artifacts with and without content, as manifests and as indexes.
#[tokio::test]
async fn artifacts_come_back() {
    const KIND: &str = "application/vnd.example.thing.v1";
    let (_harness, vendor) = registry().await;
    let artifact = |seed| Image { seed, artifact_type: Some(KIND), layers: 1, ..Image::default() }.build();
    round_trip(&vendor, "artifact", &artifact("artifact")).await;
    let mut index = artifact("left");
    index.extend(artifact("right"));
    let extra = [("artifactType".to_owned(), KIND.into())].into_iter().collect();
    let root = fixture::index_of(Algorithm::Sha256, &index.manifests.iter().collect::<Vec<_>>(), &extra);
    index.manifests.push(root);
    round_trip(&vendor, "artifact-index", &index).await;

    // Without content an artifact names the empty object, as configuration and as its one layer.
    let empty = Content::new(Algorithm::Sha256, media::OCI_EMPTY, "{}");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "artifactType": KIND,
        "config": empty.descriptor(),
        "layers": [empty.descriptor()],
    });
    let manifest = Content::new(Algorithm::Sha256, media::OCI_MANIFEST, manifest.to_string());
    round_trip(&vendor, "artifact-empty", &Bundle { blobs: vec![empty], manifests: vec![manifest] }).await;
}

/// end-7a: a chart with provenance, a `+` in its version.
#[tokio::test]
async fn a_helm_chart_with_provenance_comes_back() {
    let (_harness, vendor) = registry().await;
    let chart = fixture::chart("web", "1.2.3+build.7");
    round_trip(&vendor, &chart.tag(), &chart.bundle()).await;
}

/// end-7a: descriptors that carry their content, fields that nobody knows, and no layers at all.
#[tokio::test]
async fn manifests_keep_the_bytes_they_came_with() {
    let (_harness, vendor) = registry().await;
    round_trip(&vendor, "data", &Image { seed: "data", inline_data: true, ..Image::default() }.build()).await;
    round_trip(&vendor, "custom", &fixture::index("custom", Algorithm::Sha256, true)).await;
    round_trip(&vendor, "bare", &Image { seed: "bare", layers: 0, ..Image::default() }.build()).await;
    let mut spaced = Image { seed: "spaced", ..Image::default() }.build();
    let document: Value = serde_json::from_slice(&spaced.root().bytes).unwrap();
    let pretty = serde_json::to_string_pretty(&document).unwrap() + "\n\n";
    spaced.manifests = vec![Content::new(Algorithm::Sha256, media::OCI_MANIFEST, pretty)];
    round_trip(&vendor, "spaced", &spaced).await;
}

/// end-7a: layers that may lie elsewhere need not be here.
#[tokio::test]
async fn a_layer_that_may_lie_elsewhere_need_not_be_pushed() {
    let (_harness, vendor) = registry().await;
    let mut layer = Content::random(Algorithm::Sha256, "elsewhere", 100).descriptor();
    layer["mediaType"] = media::OCI_NONDISTRIBUTABLE.into();
    layer["urls"] = json!(["https://store.example.com/blobs/1"]);
    let image = Image { seed: "foreign", absent_layers: vec![layer], ..Image::default() }.build();
    round_trip(&vendor, "foreign", &image).await;
}

/// end-7a: an image whose layers are not there cannot be pulled, so it is refused; unless the operator takes such images.
#[tokio::test]
async fn an_image_without_its_layers_is_refused_unless_the_operator_takes_it() {
    let sparse = Image {
        seed: "layers to come",
        absent_layers: vec![Content::random(Algorithm::Sha256, "absent layer", 10).descriptor()],
        ..Image::default()
    }
    .build();
    let (_harness, vendor) = registry().await;
    for blob in &sparse.blobs {
        push::blob(&vendor, REPOSITORY, blob).await;
    }
    let put = push::manifest_request(REPOSITORY, "sparse", sparse.root());
    vendor.send(put).await.refused(404, "MANIFEST_BLOB_UNKNOWN");
    vendor.send(Request::get(manifest_path("sparse"))).await.refused(404, "MANIFEST_UNKNOWN");

    let willing = Harness::with(Store::Local, &["--sparse-manifests"]).await;
    let vendor = willing.account("acme").await.actor(Actor::PushDelete).await;
    round_trip(&vendor, "sparse", &sparse).await;
}

/// end-7a: an index may name platforms that were not pushed.
#[tokio::test]
async fn a_sparse_index_is_accepted() {
    let (_harness, vendor) = registry().await;
    let mut bundle = fixture::image("here", Format::Oci);
    let absent =
        Content { media_type: media::OCI_MANIFEST.to_owned(), ..Content::random(Algorithm::Sha256, "not here", 1024) };
    let root = fixture::index_of(Algorithm::Sha256, &[bundle.root(), &absent], &Map::new());
    bundle.manifests.push(root);
    round_trip(&vendor, "sparse", &bundle).await;
}

/// end-7a and 7b with sha512 in every descriptor.
#[tokio::test]
async fn sha512_digests_name_manifests_and_blobs() {
    let (_harness, vendor) = registry().await;
    let bundle = fixture::index("sha512", Algorithm::Sha512, false);
    for blob in &bundle.blobs {
        push::blob(&vendor, REPOSITORY, blob).await;
    }
    for manifest in &bundle.manifests {
        let answer = vendor.send(push::manifest_request(REPOSITORY, &manifest.digest, manifest)).await.expect(201);
        assert_eq!(answer.header("docker-content-digest"), manifest.digest);
        let there = vendor.send(Request::get(push::location(&answer))).await.expect(200);
        assert_eq!(there.body, manifest.bytes);
        is_there(&vendor, &manifest.digest, manifest).await;
    }
}

/// end-7b: tags that come with a push by digest are all written, and named in the answer.
#[tokio::test]
async fn a_push_by_digest_writes_the_tags_it_names() {
    let (_harness, vendor) = registry().await;
    for algorithm in Algorithm::ALL {
        let bundle = fixture::index(&format!("tags {algorithm:?}"), algorithm, false);
        for blob in &bundle.blobs {
            push::blob(&vendor, REPOSITORY, blob).await;
        }
        for (number, manifest) in bundle.manifests.iter().enumerate() {
            let tags: Vec<_> = (0..10).map(|tag| format!("{}-{number}-{tag}", algorithm.name())).collect();
            let query: Vec<_> = tags.iter().map(|tag| format!("tag={tag}")).collect();
            let reference = format!("{}?{}", manifest.digest, query.join("&"));
            let answer = vendor.send(push::manifest_request(REPOSITORY, &reference, manifest)).await.expect(201);
            let named: Vec<_> = answer.joined("oci-tag").split(',').map(|tag| tag.trim().to_owned()).collect();
            assert_eq!(named, tags);
            for tag in &tags {
                is_there(&vendor, tag, manifest).await;
            }
        }
    }
}

/// end-7b: more than a hundred tags are too many, and none of them is written.
#[tokio::test]
async fn too_many_tags_are_refused() {
    let (_harness, vendor) = registry().await;
    let bundle = fixture::image("many tags", Format::Oci);
    push::bundle(&vendor, REPOSITORY, "v1", &bundle).await;
    let query: Vec<_> = (0..101).map(|tag| format!("tag=t{tag}")).collect();
    let reference = format!("{}?{}", bundle.root().digest, query.join("&"));
    vendor.send(push::manifest_request(REPOSITORY, &reference, bundle.root())).await.expect(414);
    vendor.send(Request::get(manifest_path("t0"))).await.expect(404);
}

/// end-7a: bytes that do not hash to the digest in the path.
#[tokio::test]
async fn a_manifest_under_a_digest_that_lies_is_refused() {
    let (_harness, vendor) = registry().await;
    for algorithm in Algorithm::ALL {
        let bundle = Image { seed: "liar", algorithm, ..Image::default() }.build();
        for blob in &bundle.blobs {
            push::blob(&vendor, REPOSITORY, blob).await;
        }
        let honest = bundle.root();
        let mut bytes = honest.bytes.to_vec();
        bytes.extend_from_slice(b"  ");
        let liar = Content { bytes: bytes.into(), ..honest.clone() };
        let put = push::manifest_request(REPOSITORY, &liar.digest, &liar);
        vendor.send(put).await.refused(400, "DIGEST_INVALID");
        vendor.send(Request::get(manifest_path(&liar.digest))).await.refused(404, "MANIFEST_UNKNOWN");
    }
}

/// end-3 and 7a: a digest that is none.
#[tokio::test]
async fn what_is_no_digest_names_no_manifest() {
    let (_harness, vendor) = registry().await;
    let bundle = fixture::image("no digest", Format::Oci);
    push::bundle(&vendor, REPOSITORY, "v1", &bundle).await;
    for digest in hostile::DIGESTS {
        let put = push::manifest_request(REPOSITORY, digest, bundle.root());
        vendor.send(put).await.refused(400, "DIGEST_INVALID");
        vendor.send(Request::get(manifest_path(digest))).await.refused(400, "DIGEST_INVALID");
    }
}

/// end-3.
#[tokio::test]
async fn a_manifest_that_was_not_pushed_is_unknown() {
    let (_harness, vendor) = registry().await;
    let absent = Content::random(Algorithm::Sha256, "never", 1024);
    for reference in [absent.digest.as_str(), "missing-tag"] {
        vendor.send(Request::get(manifest_path(reference))).await.refused(404, "NAME_UNKNOWN");
    }
    push::bundle(&vendor, REPOSITORY, "v1", &fixture::image("other", Format::Oci)).await;
    for reference in [absent.digest.as_str(), "missing-tag"] {
        vendor.send(Request::get(manifest_path(reference))).await.refused(404, "MANIFEST_UNKNOWN");
        let head = vendor.send(Request::head(manifest_path(reference))).await.expect(404);
        assert!(head.body.is_empty());
    }
}

/// end-7a: a document that is no manifest, and one whose media type is not what it says.
#[tokio::test]
async fn what_is_no_manifest_is_refused() {
    let (_harness, vendor) = registry().await;
    for text in hostile::MANIFESTS {
        let content = Content::new(Algorithm::Sha256, media::OCI_MANIFEST, Bytes::from_static(text.as_bytes()));
        let put = push::manifest_request(REPOSITORY, "bad", &content);
        vendor.send(put).await.refused(400, "MANIFEST_INVALID");
    }
    let bundle = fixture::image("mislabelled", Format::Oci);
    push::bundle(&vendor, REPOSITORY, "good", &bundle).await;
    for kind in [media::OCI_INDEX, media::DOCKER_MANIFEST] {
        let mislabelled = Content { media_type: kind.to_owned(), ..bundle.root().clone() };
        let put = push::manifest_request(REPOSITORY, "bad", &mislabelled);
        vendor.send(put).await.refused(400, "MANIFEST_INVALID");
    }
    vendor.send(Request::get(manifest_path("bad"))).await.expect(404);
}

/// end-7a: parameters of the media type are not part of it.
#[tokio::test]
async fn parameters_of_the_media_type_are_ignored() {
    let (_harness, vendor) = registry().await;
    let bundle = fixture::image("parameters", Format::Oci);
    push::bundle(&vendor, REPOSITORY, "v1", &bundle).await;
    let put = Request::put(manifest_path("v2"))
        .header("Content-Type", format!("{}; charset=utf-8", media::OCI_MANIFEST))
        .body(bundle.root().bytes.clone());
    vendor.send(put).await.expect(201);
    is_there(&vendor, "v2", bundle.root()).await;
}
