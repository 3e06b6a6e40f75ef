use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use futures::{TryStreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult, list::PaginatedListResult,
    memory::InMemory, multipart::PartId,
};
use serde::{Deserialize, Serialize};

use super::*;
use crate::{
    backend::{Records, testing},
    key, record,
};

/// What a store of tests does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    OverwritesOnCreate,
    IgnoresTheEtag,
    MakesWhatIsMissing,
    HasNoConditions,
    ListsOutOfOrder,
    IgnoresTheOffset,
    IsAway,
}

/// A store in memory that can be told to lie, and to lose the answers to its next PUTs.
#[derive(Debug)]
struct Liar {
    inner: InMemory,
    fault: Fault,
    lose: AtomicU32,
}

impl std::fmt::Display for Liar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("memory")
    }
}

fn lost() -> StoreError {
    StoreError::Generic { store: "memory", source: "the answer is lost".into() }
}

#[async_trait]
impl ObjectStore for Liar {
    async fn put_opts(&self, path: &Path, payload: PutPayload, mut options: PutOptions) -> StoreResult<PutResult> {
        let there = self.inner.head(path).await.is_ok();
        let blind = match (&options.mode, self.fault) {
            (_, Fault::IsAway) => return Err(lost()),
            (PutMode::Create | PutMode::Update(_), Fault::HasNoConditions) => {
                return Err(StoreError::NotImplemented { operation: "PUT".into(), implementer: "memory".into() });
            }
            (PutMode::Create, fault) => fault == Fault::OverwritesOnCreate,
            (PutMode::Update(_), fault) if there => fault == Fault::IgnoresTheEtag,
            (PutMode::Update(_), fault) => fault == Fault::MakesWhatIsMissing,
            (PutMode::Overwrite, _) => false,
        };
        if blind {
            options.mode = PutMode::Overwrite;
        }
        let put = self.inner.put_opts(path, payload, options).await;
        let losing = self.lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if losing { Err(lost()) } else { put }
    }

    async fn put_multipart_opts(&self, path: &Path, o: PutMultipartOptions) -> StoreResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, o).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[async_trait]
impl MultipartStore for Liar {
    async fn create_multipart(&self, path: &Path) -> StoreResult<MultipartId> {
        self.inner.create_multipart(path).await
    }

    async fn put_part(&self, path: &Path, id: &MultipartId, index: usize, data: PutPayload) -> StoreResult<PartId> {
        self.inner.put_part(path, id, index, data).await
    }

    async fn complete_multipart(&self, path: &Path, id: &MultipartId, parts: Vec<PartId>) -> StoreResult<PutResult> {
        self.inner.complete_multipart(path, id, parts).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> StoreResult<()> {
        self.inner.abort_multipart(path, id).await
    }
}

#[async_trait]
impl PaginatedListStore for Liar {
    async fn list_paginated(
        &self,
        prefix: Option<&str>,
        options: PaginatedListOptions,
    ) -> StoreResult<PaginatedListResult> {
        let prefix = prefix.unwrap_or_default();
        let offset = options.offset.filter(|_| self.fault != Fault::IgnoresTheOffset).unwrap_or_default();
        let mut objects: Vec<ObjectMeta> = self.inner.list(None).try_collect().await?;
        objects.retain(|o| o.location.as_ref().starts_with(prefix) && o.location.as_ref() > offset.as_str());
        objects.sort_by(|a, b| a.location.cmp(&b.location));
        if self.fault == Fault::ListsOutOfOrder {
            objects.reverse();
        }
        let most = options.max_keys.unwrap_or(1000);
        let page_token = (objects.len() > most).then(|| "more".to_owned());
        objects.truncate(most);
        let result = ListResult { objects, common_prefixes: Vec::new(), extensions: http::Extensions::default() };
        Ok(PaginatedListResult { result, page_token })
    }
}

fn bucket(fault: Fault) -> (Arc<Liar>, Bucket) {
    let liar = Arc::new(Liar { inner: InMemory::new(), fault, lose: AtomicU32::new(0) });
    let objects: Arc<dyn Objects> = liar.clone();
    let place = Place { objects, prefix: "registry/".into() };
    let url = "s3://bucket/registry".to_owned();
    (liar, Bucket { url, once: place.clone(), steady: place.clone(), patient: place, by_version: false })
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Empty {}

fn parse(url: &str) -> Result<Bucket, Error> {
    let environment = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret")];
    Bucket::parse(url, environment.map(|(k, v)| (k.to_owned(), v.to_owned())))
}

#[test]
fn a_store_s_url_names_a_bucket_and_a_prefix() {
    for (url, prefix) in [("s3://bucket", ""), ("s3://bucket/", ""), ("s3://bucket/a/b", "a/b/")] {
        assert_eq!(&*parse(url).unwrap().steady.prefix, prefix, "{url}");
    }
}

#[test]
fn a_store_that_is_none_is_refused_in_one_line() {
    for (url, why) in [
        ("bucket", "s3://BUCKET"),
        ("ftp://bucket", "s3://BUCKET"),
        ("s3:///prefix", "s3://BUCKET"),
        ("s3://id:secret@bucket", "from the environment"),
        ("s3://bucket--use1-az4--x-s3", "S3 Express"),
    ] {
        match parse(url) {
            Err(Error::Refused(line)) => {
                assert!(line.contains(why) && !line.contains('\n') && !line.contains("secret@"), "{line}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_does_as_it_says_keeps_records() {
    let (liar, bucket) = bucket(Fault::None);
    testing::records(bucket.records().await.unwrap()).await;
    let left: Vec<ObjectMeta> = liar.inner.list(Some(&Path::from("registry/sys"))).try_collect().await.unwrap();
    assert_eq!(left, [], "a probe cleans up");
    bucket.bytes().await.unwrap();
}

#[tokio::test]
async fn a_store_that_lies_keeps_no_records_and_the_refusal_names_split_mode() {
    for fault in [
        Fault::OverwritesOnCreate,
        Fault::IgnoresTheEtag,
        Fault::MakesWhatIsMissing,
        Fault::HasNoConditions,
        Fault::ListsOutOfOrder,
        Fault::IgnoresTheOffset,
    ] {
        match bucket(fault).1.records().await {
            Err(Error::Refused(line)) => {
                assert!(line.contains("--records sqlite:PATH") && !line.contains('\n'), "{fault:?}: {line}");
            }
            other => panic!("{fault:?}: {other:?}"),
        }
        bucket(fault).1.bytes().await.unwrap();
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_not_said_to_lack_anything() {
    let (_, bucket) = bucket(Fault::IsAway);
    for refusal in [bucket.records().await.err(), bucket.bytes().await.err()] {
        match refusal {
            Some(Error::Refused(line)) => assert!(line.contains("endpoint and credentials"), "{line}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_happened_once() {
    let (liar, bucket) = bucket(Fault::None);
    let records = bucket.records().await.unwrap();
    let key = key::tag(&testing::repository(), &"v1".parse().unwrap());

    liar.lose.store(1, Ordering::SeqCst);
    let mut document = record::create(records.as_ref(), &key, Empty {}).await.unwrap();
    liar.lose.store(1, Ordering::SeqCst);
    record::update(records.as_ref(), &key, &mut document).await.unwrap();
    assert_eq!(record::read::<Empty>(records.as_ref(), &key).await.unwrap().unwrap().rev(), 2);
    liar.lose.store(1, Ordering::SeqCst);
    records.remove(&key, document.version()).await.unwrap();
    assert!(records.get(&key).await.unwrap().is_none());

    // Over the tombstone that is there now.
    liar.lose.store(2, Ordering::SeqCst);
    let again = record::create(records.as_ref(), &key, Empty {}).await.unwrap();
    assert_eq!(&records.get(&key).await.unwrap().unwrap().version, again.version());
    assert!(matches!(record::create(records.as_ref(), &key, Empty {}).await, Err(Error::Conflict)));
}

#[tokio::test]
async fn what_is_removed_leaves_a_tombstone_that_no_page_shows() {
    let (liar, bucket) = bucket(Fault::None);
    let records = bucket.records().await.unwrap();
    let prefix = key::tags(&testing::repository());
    for tag in ["a", "b", "c"] {
        let document = record::create(records.as_ref(), &prefix.record(tag), Empty {}).await.unwrap();
        if tag != "c" {
            records.remove(&prefix.record(tag), document.version()).await.unwrap();
        }
    }
    let page = records.page(&prefix, None, 1).await.unwrap();
    assert_eq!(page.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["c"]);
    let objects: Vec<ObjectMeta> = liar.inner.list(None).try_collect().await.unwrap();
    assert_eq!(objects.iter().filter(|object| object.size == 0).count(), 2);
}
