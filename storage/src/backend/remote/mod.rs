//! A bucket: records by conditional PUT, bytes by multipart upload.
//!
//! Records and bytes lie under one prefix, by the keys of [`crate::key`]. A store without conditional PUT keeps bytes alone
//! (split mode). No store is trusted to do what its documentation says: [`Bucket::records`] and [`Bucket::bytes`] try it.

mod append;
mod bytes;
mod parts;
mod probe;
mod records;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use object_store::{
    ClientConfigKey, ObjectStore, ObjectStoreExt, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    list::{PaginatedListOptions, PaginatedListStore},
    multipart::MultipartStore,
    path::Path,
};
use url::Url;

pub use self::{bytes::RemoteBytes, records::RemoteRecords};
use crate::Error;

/// What a bucket must be able to do.
trait Objects: ObjectStore + MultipartStore + PaginatedListStore {}

impl<T: ObjectStore + MultipartStore + PaginatedListStore> Objects for T {}

/// Keys under a prefix of a bucket, reached in one way.
#[derive(Clone)]
struct Place {
    objects: Arc<dyn Objects>,
    prefix: Arc<str>,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.objects, self.prefix)
    }
}

/// A key that a list named.
struct Listed {
    name: String,
    meta: object_store::ObjectMeta,
}

impl Place {
    fn path(&self, key: &str) -> Result<Path, Error> {
        Path::parse(format!("{}{key}", self.prefix)).map_err(Error::unavailable)
    }

    /// Up to `most` keys after `after`, in byte order, and whether there may be more.
    async fn list(&self, prefix: &str, after: &str, most: usize) -> Result<(Vec<Listed>, bool), object_store::Error> {
        /// More than this no store gives at once.
        const MOST: usize = 1000;
        let prefix = format!("{}{prefix}", self.prefix);
        // Some stores begin at the offset, not after it: one more is asked for, so that a page is never empty before the end.
        let (offset, asked) = match after {
            "" => (None, most),
            after => (Some(format!("{prefix}{after}")), most.saturating_add(1)),
        };
        let options = PaginatedListOptions { offset, max_keys: Some(asked.clamp(1, MOST)), ..Default::default() };
        let page = self.objects.list_paginated(Some(&prefix), options).await?;
        let listed = page.result.objects.into_iter().filter_map(|meta| {
            let name = meta.location.as_ref().strip_prefix(&prefix)?.to_owned();
            (name.as_str() > after).then_some(Listed { name, meta })
        });
        let mut listed: Vec<Listed> = listed.collect();
        let more = page.page_token.is_some() || listed.len() > most;
        listed.truncate(most);
        Ok((listed, more))
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        match self.objects.delete(&self.path(key)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(Error::unavailable(e)),
        }
    }
}

/// A bucket and a prefix in it, not yet tried.
pub struct Bucket {
    url: String,
    /// For conditional writes: one request for one call, so that the first answer is the answer.
    once: Place,
    /// For everything that may be repeated.
    steady: Place,
    /// For bytes: nothing that moves is cut off.
    patient: Place,
    /// Whether a condition needs the store's version beside the `ETag` (GCS).
    by_version: bool,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.url)
    }
}

/// How requests of one kind are sent.
#[derive(Clone, Copy)]
struct Manner {
    retries: Option<usize>,
    timeout: &'static str,
    read_timeout: &'static str,
}

const ONCE: Manner = Manner { retries: Some(0), timeout: "20s", read_timeout: "20s" };
const STEADY: Manner = Manner { retries: None, timeout: "20s", read_timeout: "20s" };
const PATIENT: Manner = Manner { retries: None, timeout: "1day", read_timeout: "2min" };

impl Manner {
    fn retry(self) -> RetryConfig {
        let default = RetryConfig::default();
        RetryConfig { max_retries: self.retries.unwrap_or(default.max_retries), ..default }
    }

    fn client(self) -> [(ClientConfigKey, &'static str); 3] {
        [
            (ClientConfigKey::Timeout, self.timeout),
            (ClientConfigKey::ReadTimeout, self.read_timeout),
            (ClientConfigKey::ConnectTimeout, "5s"),
        ]
    }
}

impl Bucket {
    /// Reads `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`, with credentials, endpoint and the like from
    /// the variables that each provider's own tools read (`AWS_*`, `GOOGLE_*`, `AZURE_*`). Sends nothing.
    ///
    /// [`Error::Refused`] says in one line what is wrong.
    pub fn parse(url: &str, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, Error> {
        // The text is repeated only once it is known to hold no password.
        let bare = url.split_once('@').map_or(url, |_| "with a password in its URL");
        let refused = |what: &str| Error::Refused(format!("the store {bare} cannot be used: {what}"));
        let wanted = "a store is s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX";
        let parsed = Url::parse(url).map_err(|_| refused(wanted))?;
        let bucket = parsed.host_str().filter(|host| !host.is_empty()).ok_or_else(|| refused(wanted))?;
        if parsed.query().is_some() || !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(refused("its credentials and options come from the environment, not from the URL"));
        }
        let segments: Vec<&str> = parsed.path().split('/').filter(|segment| !segment.is_empty()).collect();
        let prefix: String = segments.iter().flat_map(|segment| [*segment, "/"]).collect();
        let environment: Vec<(String, String)> = environment.into_iter().collect();
        if bucket.ends_with("--x-s3") || environment.iter().any(|(k, v)| k == "AWS_S3_EXPRESS" && v == "true") {
            return Err(refused("S3 Express lists without order; use a general purpose bucket"));
        }
        let open = |manner: Manner| -> Result<Place, Error> {
            let objects: Result<Arc<dyn Objects>, object_store::Error> = match parsed.scheme() {
                "s3" | "s3a" => s3(bucket, &environment, manner),
                "gs" => gcs(bucket, &environment, manner),
                "az" | "azure" => azure(bucket, &environment, manner),
                _ => return Err(refused(wanted)),
            };
            let objects = objects.map_err(|e| refused(&line(&e)))?;
            Ok(Place { objects, prefix: prefix.as_str().into() })
        };
        Ok(Self {
            url: url.to_owned(),
            once: open(ONCE)?,
            steady: open(STEADY)?,
            patient: open(PATIENT)?,
            by_version: parsed.scheme() == "gs",
        })
    }

    /// Its records, after the store has shown that it keeps them.
    ///
    /// [`Error::Refused`] names what the store does not do and the mode in which it can be used all the same.
    pub async fn records(&self) -> Result<Arc<RemoteRecords>, Error> {
        probe::records(self).await?;
        Ok(Arc::new(RemoteRecords::new(self.once.clone(), self.steady.clone(), self.by_version)))
    }

    /// Its bytes, after the store has shown that it keeps them.
    pub async fn bytes(&self) -> Result<Arc<RemoteBytes>, Error> {
        probe::bytes(self).await?;
        Ok(Arc::new(RemoteBytes::new(self.patient.clone())))
    }
}

/// An error of the store in one line.
fn line(error: &object_store::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The variables with a prefix, each as the configuration key that it names.
fn variables<K: std::str::FromStr>(environment: &[(String, String)], prefix: &str) -> Vec<(K, String)> {
    let ours = environment.iter().filter(|(name, _)| name.starts_with(prefix));
    ours.filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value.clone()))).collect()
}

fn s3(bucket: &str, environment: &[(String, String)], manner: Manner) -> Result<Arc<dyn Objects>, object_store::Error> {
    let mut builder = AmazonS3Builder::new().with_retry(manner.retry()).with_disable_bulk_delete(true);
    for (key, value) in manner.client() {
        builder = builder.with_config(AmazonS3ConfigKey::Client(key), value);
    }
    // Over TLS a signature of the payload protects nothing more, and costs a second hash of every part.
    builder = builder.with_unsigned_payload(!environment.iter().any(|(k, v)| k == "AWS_ALLOW_HTTP" && v == "true"));
    for (key, value) in variables(environment, "AWS_") {
        builder = builder.with_config(key, value);
    }
    Ok(Arc::new(builder.with_bucket_name(bucket).build()?))
}

fn gcs(
    bucket: &str,
    environment: &[(String, String)],
    manner: Manner,
) -> Result<Arc<dyn Objects>, object_store::Error> {
    let mut builder = GoogleCloudStorageBuilder::new().with_retry(manner.retry());
    for (key, value) in manner.client() {
        builder = builder.with_config(GoogleConfigKey::Client(key), value);
    }
    for (key, value) in variables(environment, "GOOGLE_") {
        builder = builder.with_config(key, value);
    }
    Ok(Arc::new(builder.with_bucket_name(bucket).build()?))
}

fn azure(
    container: &str,
    environment: &[(String, String)],
    manner: Manner,
) -> Result<Arc<dyn Objects>, object_store::Error> {
    let mut builder = MicrosoftAzureBuilder::new().with_retry(manner.retry());
    for (key, value) in manner.client() {
        builder = builder.with_config(AzureConfigKey::Client(key), value);
    }
    for (key, value) in variables(environment, "AZURE_") {
        builder = builder.with_config(key, value);
    }
    Ok(Arc::new(builder.with_container_name(container).build()?))
}
