//! What a manifest says: the walk over its descriptors.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Digest, Error};

/// Largest manifest taken, in bytes (distribution-spec recommends 4 MiB at least).
pub const SIZE_LIMIT: usize = 8 << 20;
/// Most references of one manifest.
pub const REFERENCE_LIMIT: usize = 10_000;

/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI artifact manifest, withdrawn before image-spec 1.1 but pushed by clients of its time.
pub const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
/// Docker image manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// What a descriptor points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A blob that the repository has to contain.
    Blob,
    /// A layer of a foreign or nondistributable type, which it may contain.
    OptionalBlob,
    /// Another manifest, which it may contain (a sparse index names absent ones).
    Manifest,
}

/// One thing that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestReference {
    /// Its digest.
    pub digest: Digest,
    /// What it is.
    pub kind: Kind,
}

/// What storage needs to know of a manifest's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The media type, from the document or the request.
    pub media_type: String,
    /// Everything it names, each digest once.
    pub references: Vec<ManifestReference>,
    /// What it refers to (image-spec, `subject`).
    pub subject: Option<Digest>,
    /// The artifact type shown in referrers lists: its own, or its config's media type.
    pub artifact_type: Option<String>,
    /// Its annotations, for referrers lists.
    pub annotations: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Descriptor {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    digest: Digest,
    #[serde(default)]
    size: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct Fields {
    #[serde(rename = "schemaVersion")]
    schema_version: Option<u64>,
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    #[serde(rename = "artifactType")]
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    blobs: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<Value>,
}

fn invalid<T>(text: impl Into<String>) -> Result<T, Error> {
    Err(Error::Invalid(text.into()))
}

fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, OCI_MANIFEST | OCI_INDEX | OCI_ARTIFACT | DOCKER_MANIFEST | DOCKER_LIST)
}

/// Layers that a registry need not hold (image-spec, nondistributable; Docker, foreign).
fn is_optional_layer(media_type: &str) -> bool {
    media_type.contains(".nondistributable.") || media_type.contains(".foreign.")
}

/// Reads a manifest that was sent with `content_type` (without parameters; empty if there was none).
pub fn parse(content_type: &str, bytes: &[u8]) -> Result<Parsed, Error> {
    if bytes.len() > SIZE_LIMIT {
        return Err(Error::TooLarge(format!("a manifest may have {SIZE_LIMIT} bytes at most")));
    }
    let fields: Fields = serde_json::from_slice(bytes)
        .or_else(|e| invalid(format!("the manifest is not valid JSON of its type: {e}")))?;
    let media_type = match (&fields.media_type, content_type) {
        // One document must not be read as two types (CVE-2021-41190).
        (Some(inside), outside) if !outside.is_empty() && inside != outside => {
            return invalid(format!(
                "the manifest's mediaType is {inside:?}, its Content-Type is {outside:?}; they must agree"
            ));
        }
        (Some(inside), _) => inside.clone(),
        (None, "") => return invalid("the manifest has neither a mediaType nor a Content-Type"),
        (None, outside) => outside.to_owned(),
    };
    let both = |what: &str| invalid(format!("a manifest of type {media_type} must not have {what:?}"));
    let lists = fields.manifests.is_some();
    let image = fields.layers.is_some() || fields.config.is_some();
    match media_type.as_str() {
        OCI_MANIFEST | DOCKER_MANIFEST => {
            if lists {
                return both("manifests");
            }
            if fields.config.is_none() {
                return invalid("an image manifest needs a config descriptor");
            }
        }
        OCI_INDEX | DOCKER_LIST => {
            if image {
                return both("layers or config");
            }
            if !lists {
                return invalid("an index needs a list of manifests");
            }
        }
        OCI_ARTIFACT => {
            if lists || image {
                return both("manifests, layers or config");
            }
        }
        other => {
            return invalid(format!(
                "{other:?} is not a manifest type this registry takes; push an OCI or Docker schema 2 manifest or index"
            ));
        }
    }
    if media_type != OCI_ARTIFACT && fields.schema_version != Some(2) {
        return invalid("schemaVersion must be 2; push the image again in schema 2 or OCI format");
    }
    if fields.annotations.as_ref().is_some_and(|a| !a.is_object() && !a.is_null()) {
        return invalid("annotations must be an object");
    }

    let mut references: Vec<ManifestReference> = Vec::new();
    let config = fields.config.iter();
    let layers = fields.layers.iter().flatten().chain(fields.blobs.iter().flatten());
    let children = fields.manifests.iter().flatten();
    let named = (config.map(|d| (d, Kind::Blob)))
        .chain(layers.map(|d| (d, if is_optional_layer(&d.media_type) { Kind::OptionalBlob } else { Kind::Blob })))
        // A build cache lists its layers in an index: those are blobs.
        .chain(children.map(|d| (d, if is_manifest(&d.media_type) { Kind::Manifest } else { Kind::Blob })));
    let mut seen = std::collections::HashSet::new();
    for (descriptor, kind) in named {
        if descriptor.size.is_some_and(|size| size < 0) {
            return invalid(format!("the size of {} is negative", descriptor.digest));
        }
        if seen.insert((&descriptor.digest, kind == Kind::Manifest)) {
            references.push(ManifestReference { digest: descriptor.digest.clone(), kind });
        }
    }
    if references.len() > REFERENCE_LIMIT {
        return Err(Error::TooLarge(format!("a manifest may name {REFERENCE_LIMIT} blobs and manifests at most")));
    }
    // image-spec, "Guidelines for Artifact Usage": without a type of its own an artifact is of its config's type.
    let artifact_type = fields
        .artifact_type
        .filter(|t| !t.is_empty())
        .or_else(|| fields.config.as_ref().map(|c| c.media_type.clone()).filter(|_| media_type == OCI_MANIFEST));
    Ok(Parsed {
        references,
        subject: fields.subject.map(|d| d.digest),
        artifact_type,
        annotations: fields.annotations.filter(Value::is_object),
        media_type,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> String {
        format!("sha256:{}", hex::encode([n; 32]))
    }

    #[test]
    fn a_document_that_could_be_two_types_is_refused() {
        let both = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{0}","size":1,"mediaType":"x"}},"layers":[],"manifests":[{{"digest":"{0}","size":1,"mediaType":"x"}}]}}"#,
            digest(1)
        );
        assert!(matches!(parse(OCI_MANIFEST, both.as_bytes()), Err(Error::Invalid(_))));
        assert!(matches!(parse(OCI_INDEX, both.as_bytes()), Err(Error::Invalid(_))));
        let other = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[]}}"#);
        assert!(matches!(parse(OCI_MANIFEST, other.as_bytes()), Err(Error::Invalid(_))));
        assert!(parse(OCI_INDEX, other.as_bytes()).is_ok());
        assert!(parse("", other.as_bytes()).is_ok());
    }

    #[test]
    fn foreign_layers_are_optional_and_cache_layers_are_blobs() {
        let image = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{}","size":1,"mediaType":"c"}},"layers":[
                {{"digest":"{}","size":1,"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar"}},
                {{"digest":"{}","size":1,"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}}]}}"#,
            digest(1),
            digest(2),
            digest(3)
        );
        let parsed = parse(OCI_MANIFEST, image.as_bytes()).unwrap();
        let kinds: Vec<_> = parsed.references.iter().map(|r| r.kind).collect();
        assert_eq!(kinds, [Kind::Blob, Kind::OptionalBlob, Kind::OptionalBlob]);
        assert_eq!(parsed.artifact_type.as_deref(), Some("c"));
        let cache = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"digest":"{}","size":1,"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip"}},
                {{"digest":"{}","size":1,"mediaType":"{OCI_MANIFEST}"}}]}}"#,
            digest(1),
            digest(2)
        );
        let kinds: Vec<_> = parse(OCI_INDEX, cache.as_bytes()).unwrap().references.iter().map(|r| r.kind).collect();
        assert_eq!(kinds, [Kind::Blob, Kind::Manifest]);
    }

    #[test]
    fn ten_thousand_references_are_taken_and_one_more_is_not() {
        let index = |n: usize| {
            let children: Vec<_> = (0..n)
                .map(|i| {
                    let digest = Digest::of(crate::Algorithm::Sha256, &i.to_le_bytes());
                    serde_json::json!({"mediaType": OCI_MANIFEST, "size": 1, "digest": digest})
                })
                .collect();
            serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "manifests": children})).unwrap()
        };
        assert_eq!(parse(OCI_INDEX, &index(REFERENCE_LIMIT)).unwrap().references.len(), REFERENCE_LIMIT);
        assert!(matches!(parse(OCI_INDEX, &index(REFERENCE_LIMIT + 1)), Err(Error::TooLarge(_))));
    }
}
