use object_store::{
    Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion, list::PaginatedListOptions,
    path::Path,
};

use super::{Bucket, Place, line};
use crate::{Error, key, random_text};

/// A store that answers is not yet one that does as it says: old MinIO made conditions up, others ignore them.
type Outcome = Result<(), Lack>;

enum Lack {
    /// It cannot be reached or used at all.
    Access(StoreError),
    /// It does something else than what is needed.
    Missing(&'static str),
}

impl From<StoreError> for Lack {
    fn from(error: StoreError) -> Self {
        Self::Access(error)
    }
}

fn refused(url: &str, lack: Lack, missing: impl Fn(&str) -> String) -> Error {
    Error::Refused(match lack {
        Lack::Access(error) => format!(
            "the store {url} cannot be used: {}; look at its name, region, endpoint and credentials",
            line(&error)
        ),
        Lack::Missing(what) => missing(what),
    })
}

/// Keys of one probe, nobody else's.
struct Probe<'a> {
    place: &'a Place,
    id: String,
}

impl Probe<'_> {
    fn key(&self, name: &str) -> String {
        key::probe_plain(&format!("{}.{name}", self.id)).to_string()
    }

    fn path(&self, name: &str) -> Result<Path, StoreError> {
        Ok(Path::parse(format!("{}{}", self.place.prefix, self.key(name)))?)
    }

    async fn put(&self, name: &str, body: &'static str, mode: PutMode) -> Result<UpdateVersion, StoreError> {
        let put = self.place.objects.put_opts(&self.path(name)?, body.into(), PutOptions::from(mode)).await?;
        Ok(put.into())
    }

    async fn clean(&self, names: &[&str]) {
        for name in names {
            // Whatever stays is a few bytes under a name of its own.
            let _left = self.place.delete(&self.key(name)).await;
        }
    }
}

/// Tries on keys of its own everything that records rely on.
pub(super) async fn records(bucket: &Bucket) -> Result<(), Error> {
    let probe = Probe { place: &bucket.once, id: random_text(12) };
    let outcome = try_records(&probe, bucket.by_version).await;
    probe.clean(&["a", "b", "c"]).await;
    outcome.map_err(|lack| {
        refused(&bucket.url, lack, |what| {
            format!(
                "the store {} cannot keep records: {what}; use split mode (--store {} --records sqlite:PATH), which needs it \
                 for bytes alone",
                bucket.url, bucket.url
            )
        })
    })
}

async fn try_records(probe: &Probe<'_>, by_version: bool) -> Outcome {
    use Lack::Missing;

    // A plain PUT first: a store that is away or locked is not one that lacks something.
    probe.put("a", "0", PutMode::Overwrite).await?;
    probe.clean(&["a"]).await;
    let Ok(one) = probe.put("a", "1", PutMode::Create).await else {
        return Err(Missing("it refuses a PUT with If-None-Match"));
    };
    if one.e_tag.is_none() {
        return Err(Missing("it gives no ETag"));
    }
    match probe.put("a", "2", PutMode::Create).await {
        Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {}
        Ok(_) => return Err(Missing("a PUT with If-None-Match overwrites what is there")),
        Err(e) => return Err(e.into()),
    }
    let wrong = UpdateVersion {
        e_tag: Some("\"00000000000000000000000000000000\"".into()),
        version: by_version.then(|| "1".into()),
    };
    if probe.put("a", "3", PutMode::Update(wrong)).await.is_ok() {
        return Err(Missing("a PUT with If-Match ignores a wrong ETag"));
    }
    if probe.put("b", "4", PutMode::Update(one.clone())).await.is_ok() {
        return Err(Missing("a PUT with If-Match makes an object that is not there"));
    }
    let Ok(two) = probe.put("a", "5", PutMode::Update(one.clone())).await else {
        return Err(Missing("it refuses a PUT with If-Match although the ETag is right"));
    };
    if probe.put("a", "6", PutMode::Update(one)).await.is_ok() || two.e_tag.is_none() {
        return Err(Missing("a PUT with If-Match ignores an ETag that was right before"));
    }
    let before = probe.place.objects.get(&probe.path("a")?).await?;
    let modified = before.meta.last_modified;
    if &*before.bytes().await? != b"5" {
        return Err(Missing("it does not read what was just written"));
    }
    let last = match probe.put("c", "7", PutMode::Create).await {
        Ok(_) => probe.place.objects.head(&probe.path("c")?).await?,
        Err(_) => return Err(Missing("it refuses a PUT with If-None-Match")),
    };
    if last.last_modified < modified {
        return Err(Missing("its clock goes back"));
    }
    let prefix = probe.key("");
    let names = async |after: &str, most: usize| -> Result<Vec<String>, StoreError> {
        Ok(probe.place.list(&prefix, after, most).await?.0.into_iter().map(|listed| listed.name).collect())
    };
    if names("", 10).await? != ["a", "c"] {
        return Err(Missing("a list lacks what was just written, or is out of order"));
    }
    // Unfiltered: from a key that is not there every store begins with the same one.
    let offset =
        PaginatedListOptions { offset: Some(probe.path("b")?.to_string()), max_keys: Some(1), ..Default::default() };
    let prefixed = format!("{}{prefix}", probe.place.prefix);
    let raw = probe.place.objects.list_paginated(Some(&prefixed), offset).await?.result.objects;
    let after_b = raw.iter().map(|object| object.location.as_ref()).eq([format!("{prefixed}c").as_str()]);
    if !after_b || names("a", 10).await? != ["c"] || names("", 1).await? != ["a"] {
        return Err(Missing("a list does not begin after the key it is told"));
    }
    Ok(())
}

/// Tries on keys of its own everything that bytes rely on.
pub(super) async fn bytes(bucket: &Bucket) -> Result<(), Error> {
    let probe = Probe { place: &bucket.patient, id: random_text(12) };
    let outcome = try_bytes(&probe).await;
    probe.clean(&["d", "e"]).await;
    outcome.map_err(|lack| {
        refused(&bucket.url, lack, |what| format!("the store {} cannot keep bytes: {what}; use another", bucket.url))
    })
}

async fn try_bytes(probe: &Probe<'_>) -> Outcome {
    use Lack::Missing;

    let objects = &probe.place.objects;
    probe.put("d", "0123456789", PutMode::Overwrite).await?;
    let path = probe.path("d")?;
    if &*objects.get_range(&path, 3..6).await? != b"345" {
        return Err(Missing("a GET with a range gives other bytes"));
    }
    let parts = probe.path("e")?;
    let upload = objects.create_multipart(&parts).await?;
    let part = objects.put_part(&parts, &upload, 0, "in parts".into()).await?;
    objects.complete_multipart(&parts, &upload, vec![part]).await?;
    if &*objects.get(&parts).await?.bytes().await? != b"in parts" {
        return Err(Missing("a multipart upload gives other bytes"));
    }
    objects.delete(&path).await?;
    match objects.head(&path).await {
        Err(StoreError::NotFound { .. }) => Ok(()),
        Ok(_) => Err(Missing("it shows what was just deleted")),
        Err(e) => Err(e.into()),
    }
}
