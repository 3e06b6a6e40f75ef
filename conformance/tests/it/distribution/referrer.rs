//! end-12a and 12b: referrers, and the subjects of end-7.

use conformance::{
    Answer, Request,
    fixture::{Algorithm, Content, Format, artifact_of, hostile, image, index, index_of, media},
    push,
};
use serde_json::{Map, Value, json};

use super::{REPOSITORY, manifest_path, registry};

const SBOM: &str = "application/vnd.example.sbom.v1";
const SIGNATURE: &str = "application/vnd.example.signature.v1";

fn referrers(digest: &str, query: &str) -> Request {
    Request::get(format!("/v2/{REPOSITORY}/referrers/{digest}{query}"))
}

/// The descriptors of a referrers answer, whose form is checked.
fn entries(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.header("content-type"), media::OCI_INDEX);
    let index = answer.json();
    assert_eq!(index["mediaType"], media::OCI_INDEX);
    assert_eq!(index["schemaVersion"], 2);
    index["manifests"].as_array().unwrap().clone()
}

/// end-12a: never 404, neither for a subject nor for a repository.
#[tokio::test]
async fn a_subject_without_referrers_has_an_empty_index() {
    let (_harness, vendor) = registry().await;
    let absent = Content::random(Algorithm::Sha256, "no subject", 10);
    assert!(entries(&vendor.send(referrers(&absent.digest, "")).await.expect(200)).is_empty());
    push::bundle(&vendor, REPOSITORY, "v1", &image("no referrers", Format::Oci)).await;
    assert!(entries(&vendor.send(referrers(&absent.digest, "")).await.expect(200)).is_empty());
}

/// end-7a and 12a: the answer to a push names the subject, and the list has descriptor, type and annotations.
#[tokio::test]
async fn what_refers_to_a_subject_is_listed() {
    let (_harness, vendor) = registry().await;
    let subject = image("referred", Format::Oci);
    push::bundle(&vendor, REPOSITORY, "v1", &subject).await;
    let subject = subject.root();
    let mut wanted = Vec::new();
    for (seed, kind) in [("one", SBOM), ("two", SIGNATURE), ("three", SIGNATURE)] {
        let artifact = artifact_of(seed, kind, subject);
        let answer = push::bundle(&vendor, REPOSITORY, seed, &artifact).await;
        assert_eq!(answer.header("oci-subject"), subject.digest);
        let mut entry = artifact.root().descriptor();
        entry["artifactType"] = kind.into();
        entry["annotations"] = json!({"org.example.seed": seed});
        wanted.push(entry);
    }
    let all = entries(&vendor.send(referrers(&subject.digest, "")).await.expect(200));
    assert_eq!(all.len(), wanted.len());
    for entry in &wanted {
        assert!(all.contains(entry), "{entry} in {all:?}");
    }
    for kind in [SBOM, SIGNATURE] {
        let answer = vendor.send(referrers(&subject.digest, &format!("?artifactType={kind}"))).await.expect(200);
        assert_eq!(answer.header("oci-filters-applied"), "artifactType");
        let filtered = entries(&answer);
        let expected: Vec<_> = wanted.iter().filter(|entry| entry["artifactType"] == kind).collect();
        assert_eq!(filtered.len(), expected.len());
        assert!(expected.iter().all(|entry| filtered.contains(entry)), "{filtered:?}");
    }
    let none = vendor.send(referrers(&subject.digest, "?artifactType=application/none")).await.expect(200);
    assert_eq!(none.header("oci-filters-applied"), "artifactType");
    assert!(entries(&none).is_empty());
}

/// end-12a: an image without a type of its own is listed under its configuration's media type.
#[tokio::test]
async fn an_image_that_refers_is_listed_by_its_configuration_s_type() {
    let (_harness, vendor) = registry().await;
    let subject = image("plain subject", Format::Oci);
    push::bundle(&vendor, REPOSITORY, "v1", &subject).await;
    let referring = conformance::fixture::Image {
        seed: "plain referrer",
        subject: Some(subject.root().descriptor()),
        ..Default::default()
    }
    .build();
    push::bundle(&vendor, REPOSITORY, "v2", &referring).await;
    let all = entries(&vendor.send(referrers(&subject.root().digest, "")).await.expect(200));
    assert_eq!(all.len(), 1);
    assert_eq!(all[0]["artifactType"], media::OCI_CONFIG);
}

/// end-7a and 12a: a subject may come later, or never.
#[tokio::test]
async fn a_subject_that_is_absent_is_accepted_and_has_referrers() {
    let (_harness, vendor) = registry().await;
    let absent = Content::new(Algorithm::Sha256, media::OCI_MANIFEST, "missing content");
    let artifact = artifact_of("orphan", SBOM, &absent);
    let answer = push::bundle(&vendor, REPOSITORY, "orphan", &artifact).await;
    assert_eq!(answer.header("oci-subject"), absent.digest);
    let all = entries(&vendor.send(referrers(&absent.digest, "")).await.expect(200));
    assert_eq!(all.len(), 1);
    assert_eq!(all[0]["digest"], artifact.root().digest.as_str());
}

/// end-7a and 12a: indexes refer as images do.
#[tokio::test]
async fn an_index_may_refer_to_an_index() {
    let (_harness, vendor) = registry().await;
    let subject = index("index subject", Algorithm::Sha256, false);
    push::bundle(&vendor, REPOSITORY, "v1", &subject).await;
    let mut referring = index("index referrer", Algorithm::Sha256, false);
    let extra: Map<String, Value> = [
        ("artifactType".to_owned(), SBOM.into()),
        ("subject".to_owned(), subject.root().descriptor()),
        ("annotations".to_owned(), json!({"org.example.seed": "index"})),
    ]
    .into_iter()
    .collect();
    let children: Vec<_> = referring.manifests.iter().take(2).collect();
    let root = index_of(Algorithm::Sha256, &children, &extra);
    referring.manifests.pop();
    referring.manifests.push(root);
    let answer = push::bundle(&vendor, REPOSITORY, "v2", &referring).await;
    assert_eq!(answer.header("oci-subject"), subject.root().digest);
    let all = entries(&vendor.send(referrers(&subject.root().digest, "")).await.expect(200));
    assert_eq!(all.len(), 1);
    assert_eq!(all[0]["mediaType"], media::OCI_INDEX);
    assert_eq!(all[0]["artifactType"], SBOM);
    assert_eq!(all[0]["annotations"]["org.example.seed"], "index");
}

/// end-9 and 12a.
#[tokio::test]
async fn a_deleted_referrer_leaves_the_list() {
    let (_harness, vendor) = registry().await;
    let subject = image("left alone", Format::Oci);
    push::bundle(&vendor, REPOSITORY, "v1", &subject).await;
    let artifact = artifact_of("short-lived", SBOM, subject.root());
    push::bundle(&vendor, REPOSITORY, "sbom", &artifact).await;
    vendor.send(Request::delete(manifest_path(&artifact.root().digest))).await.expect(202);
    assert!(entries(&vendor.send(referrers(&subject.root().digest, "")).await.expect(200)).is_empty());
}

/// end-12a.
#[tokio::test]
async fn what_is_no_digest_has_no_referrers() {
    let (_harness, vendor) = registry().await;
    for digest in hostile::DIGESTS {
        vendor.send(referrers(digest, "")).await.refused(400, "DIGEST_INVALID");
    }
}
