use base64::{Engine, prelude::BASE64_STANDARD};
use md5::{Digest, Md5};
use object_store::multipart::PartId;
use serde::{Deserialize, Serialize};

use crate::{Error, backend::Saved, stream::UPLOAD_BUFFER};

/// The smallest part, and the first: what is held back before an upload is known to be larger.
pub(super) const PART: u64 = 8 << 20;
/// Parts that an upload of known size is cut into at most; stores allow 10 000.
const PARTS: u64 = 9000;

/// Where an upload stands, as its session's document keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stand {
    /// One object, put at once.
    Object,
    /// Parts of an object to be.
    Multipart(Multipart),
}

/// A multipart upload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Multipart {
    /// The store's id of it.
    pub(super) upload: String,
    /// The parts that are whole, in order.
    pub(super) parts: Parts,
    /// A shorter one after them, replaced when more bytes come.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) tail: Option<Tail>,
    /// Least size of a part in bytes, where a size that was told asks for more than the usual.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) part: Option<u64>,
}

/// The last part of an upload that stands still.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Tail {
    pub(super) id: String,
    pub(super) size: u64,
}

/// The stores' names of parts. Nearly all are an MD5 in quotes; ten thousand of these are kept as 16 bytes each.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Parts {
    Md5(#[serde(with = "packed")] Vec<[u8; 16]>),
    Names(Vec<String>),
}

mod packed {
    use serde::{Deserializer, Serializer, de::Error};

    use super::{BASE64_STANDARD, Deserialize, Engine};

    pub(super) fn serialize<S: Serializer>(parts: &[[u8; 16]], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(parts.as_flattened()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<[u8; 16]>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64_STANDARD.decode(text).map_err(D::Error::custom)?;
        let (parts, rest) = bytes.as_chunks::<16>();
        if rest.is_empty() { Ok(parts.to_vec()) } else { Err(D::Error::custom("part of a part")) }
    }
}

fn md5(id: &str) -> Option<[u8; 16]> {
    let hex = id.strip_prefix('"')?.strip_suffix('"')?;
    let bytes: [u8; 16] = hex::decode(hex).ok()?.try_into().ok()?;
    // Written back as it was read, or not at all.
    (quoted(&bytes) == id).then_some(bytes)
}

fn quoted(md5: &[u8; 16]) -> String {
    format!("\"{}\"", hex::encode(md5))
}

impl Parts {
    pub(super) fn new() -> Self {
        Self::Md5(Vec::new())
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Md5(parts) => parts.len(),
            Self::Names(names) => names.len(),
        }
    }

    pub(super) fn push(&mut self, id: String) {
        match (&mut *self, md5(&id)) {
            (Self::Md5(parts), Some(md5)) => parts.push(md5),
            (Self::Md5(parts), None) => {
                let mut names: Vec<String> = parts.iter().map(quoted).collect();
                names.push(id);
                *self = Self::Names(names);
            }
            (Self::Names(names), _) => names.push(id),
        }
    }

    fn names(&self) -> Vec<String> {
        match self {
            Self::Md5(parts) => parts.iter().map(quoted).collect(),
            Self::Names(names) => names.clone(),
        }
    }
}

impl Multipart {
    /// Size of the part at `index` (from 0) in bytes: growing, so that 10 000 parts hold 867 GiB of an unknown size.
    pub(super) fn size_of_part(&self, index: usize) -> u64 {
        let usual = match index {
            0..1000 => PART,
            1000..2000 => PART << 1,
            2000..3000 => PART << 2,
            3000..4000 => PART << 3,
            _ => PART << 4,
        };
        // What the client told may have been the size of its first chunk only.
        usual.max(self.part.unwrap_or_default())
    }

    /// What the store is to make the object of.
    pub(super) fn ids(&self) -> Vec<PartId> {
        let tail = self.tail.iter().map(|tail| tail.id.clone());
        self.parts.names().into_iter().chain(tail).map(|content_id| PartId { content_id }).collect()
    }

    /// The `ETag` that the object will have on stores whose parts are named by their MD5: the MD5 of those, and their count.
    pub(super) fn e_tag(&self) -> Option<String> {
        let parts = self.ids().iter().map(|id| md5(&id.content_id)).collect::<Option<Vec<_>>>()?;
        (!parts.is_empty()).then(|| {
            let whole = Md5::digest(parts.as_flattened());
            format!("\"{}-{}\"", hex::encode(whole), parts.len())
        })
    }
}

/// Whether an object's `ETag` speaks against the one that was computed. One of another shape says nothing.
pub(super) fn differs(computed: Option<&str>, stored: Option<&str>) -> bool {
    let shape = |e_tag: &str| {
        let inner = e_tag.trim_matches('"').split_once('-');
        inner.is_some_and(|(md5, count)| md5.len() == 32 && count.bytes().all(|b| b.is_ascii_digit()))
    };
    match (computed, stored) {
        (Some(computed), Some(stored)) if shape(stored) => {
            !computed.trim_matches('"').eq_ignore_ascii_case(stored.trim_matches('"'))
        }
        _ => false,
    }
}

/// The part size for a body of known size, where that is more than the usual: whole upload buffers, few enough parts.
pub(super) fn part_for(expected: Option<u64>) -> Option<u64> {
    let size = expected?.div_ceil(PARTS).next_multiple_of(UPLOAD_BUFFER as u64);
    (size > PART).then_some(size)
}

impl Stand {
    pub(super) fn of(saved: &Saved) -> Result<Self, Error> {
        serde_json::from_value(saved.0.clone()).map_err(|e| Error::corrupt(format!("a saved upload: {e}")))
    }

    pub(super) fn save(&self) -> Result<Saved, Error> {
        serde_json::to_value(self).map(Saved).map_err(|e| Error::corrupt(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload() -> Multipart {
        Multipart { upload: "id".into(), parts: Parts::new(), tail: None, part: None }
    }

    #[test]
    fn ten_thousand_parts_hold_the_largest_object() {
        let total: u64 = (0..10_000).map(|index| upload().size_of_part(index)).sum();
        assert!(total > 800 << 30, "{total}");
        for expected in [1, 100 << 30, 5 << 40] {
            let part = part_for(Some(expected)).unwrap_or(PART);
            assert!(
                expected.div_ceil(part) <= PARTS && part.is_multiple_of(UPLOAD_BUFFER as u64) && part >= PART,
                "{expected}"
            );
        }
    }

    #[test]
    fn part_names_come_back_as_they_were_given() {
        let digest = "\"0123456789abcdef0123456789abcdef\"";
        for names in [vec![digest, digest], vec![digest, "\"0123456789ABCDEF0123456789ABCDEF\""], vec!["block", digest]]
        {
            let mut upload = upload();
            for name in &names {
                upload.parts.push((*name).to_owned());
            }
            let saved = Stand::Multipart(upload).save().unwrap();
            let Stand::Multipart(read) = Stand::of(&saved).unwrap() else { panic!("{saved:?}") };
            assert_eq!(read.ids().iter().map(|id| id.content_id.as_str()).collect::<Vec<_>>(), names);
        }
    }

    #[test]
    fn an_object_s_e_tag_is_computed_from_its_parts() {
        let mut upload = upload();
        assert_eq!(upload.e_tag(), None);
        upload.parts.push(quoted(&Md5::digest(b"a").into()));
        upload.tail = Some(Tail { id: quoted(&Md5::digest(b"b").into()), size: 1 });
        let computed = upload.e_tag();
        assert_eq!(computed.as_deref(), Some("\"96e024ba2074fe77e8e965ba43a704be-2\""));
        assert!(differs(computed.as_deref(), Some("\"00000000000000000000000000000000-2\"")));
        assert!(!differs(computed.as_deref(), computed.as_deref()));
        assert!(!differs(computed.as_deref(), Some("0x8DAF")));
        upload.parts.push("block".into());
        assert_eq!(upload.e_tag(), None);
    }
}
