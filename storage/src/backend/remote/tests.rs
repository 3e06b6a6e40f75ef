use std::collections::{HashMap, VecDeque};

use async_trait::async_trait;
use futures::{TryStreamExt, future::BoxFuture, stream::BoxStream};
use md5::{Digest, Md5};
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult, list::PaginatedListResult,
    memory::InMemory, multipart::PartId,
};
use parking_lot::Mutex;
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

/// What becomes of a PUT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    /// It is done and nobody hears of it.
    Lost,
    /// It does not arrive.
    Dropped,
    /// It is answered, and arrives once more at [`Liar::deliver`].
    Again,
}

/// A store in memory whose `ETag` is a hash of the content. It can be told to lie, and what becomes of its next PUTs.
struct Liar {
    inner: InMemory,
    fault: Fault,
    e_tags: tokio::sync::Mutex<HashMap<Path, String>>,
    fates: Mutex<VecDeque<Fate>>,
    /// What others do before the writer of the next PUT without an answer looks again.
    meanwhile: Mutex<Option<BoxFuture<'static, ()>>>,
    late: Mutex<Vec<(Path, PutPayload, PutOptions)>>,
}

impl std::fmt::Debug for Liar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Liar").field("fault", &self.fault).finish_non_exhaustive()
    }
}

impl Liar {
    fn next<const N: usize>(&self, fates: [Fate; N]) {
        self.fates.lock().extend(fates);
    }

    /// The next PUT goes wrong, and others are faster than its writer.
    fn next_and(&self, fate: Fate, meanwhile: impl Future<Output = ()> + Send + 'static) {
        self.next([fate]);
        *self.meanwhile.lock() = Some(Box::pin(meanwhile));
    }

    /// What was to arrive once more does; how often a condition held.
    async fn deliver(&self) -> usize {
        let late = std::mem::take(&mut *self.late.lock());
        let mut done = 0;
        for (path, payload, options) in late {
            done += usize::from(self.apply(&path, payload, options).await.is_ok());
        }
        done
    }

    async fn apply(&self, path: &Path, payload: PutPayload, mut options: PutOptions) -> StoreResult<PutResult> {
        let mut e_tags = self.e_tags.lock().await;
        let there = self.inner.head(path).await.is_ok();
        let holds = match (&options.mode, self.fault) {
            (PutMode::Create | PutMode::Update(_), Fault::HasNoConditions) => {
                return Err(StoreError::NotImplemented { operation: "PUT".into(), implementer: "memory".into() });
            }
            (PutMode::Create, fault) => !there || fault == Fault::OverwritesOnCreate,
            (PutMode::Update(version), fault) if there => {
                fault == Fault::IgnoresTheEtag || e_tags.get(path) == version.e_tag.as_ref()
            }
            (PutMode::Update(_), fault) => fault == Fault::MakesWhatIsMissing,
            (PutMode::Overwrite, _) => true,
        };
        if !holds {
            return Err(StoreError::Precondition { path: path.to_string(), source: "the condition fails".into() });
        }
        options.mode = PutMode::Overwrite;
        let e_tag = format!("\"{}\"", hex::encode(Md5::digest(::bytes::Bytes::from(payload.clone()))));
        let mut put = self.inner.put_opts(path, payload, options).await?;
        e_tags.insert(path.clone(), e_tag.clone());
        put.e_tag = Some(e_tag);
        Ok(put)
    }
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
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
        if self.fault == Fault::IsAway {
            return Err(lost());
        }
        let fate = self.fates.lock().pop_front().unwrap_or(Fate::Answered);
        if fate == Fate::Again {
            self.late.lock().push((path.clone(), payload.clone(), options.clone()));
        }
        let put = if fate == Fate::Dropped { Err(lost()) } else { self.apply(path, payload, options).await };
        if matches!(fate, Fate::Answered | Fate::Again) {
            return put;
        }
        let meanwhile = self.meanwhile.lock().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile.await;
        }
        Err(lost())
    }

    async fn put_multipart_opts(&self, path: &Path, o: PutMultipartOptions) -> StoreResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, o).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> StoreResult<GetResult> {
        let e_tags = self.e_tags.lock().await;
        let mut got = self.inner.get_opts(path, options).await?;
        got.meta.e_tag = e_tags.get(path).cloned().or(got.meta.e_tag);
        Ok(got)
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
        let e_tags = self.e_tags.lock().await;
        let mut objects: Vec<ObjectMeta> = self.inner.list(None).try_collect().await?;
        for object in &mut objects {
            object.e_tag = e_tags.get(&object.location).cloned().or(object.e_tag.take());
        }
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
    let liar = Arc::new(Liar {
        inner: InMemory::new(),
        fault,
        e_tags: tokio::sync::Mutex::default(),
        fates: Mutex::default(),
        meanwhile: Mutex::default(),
        late: Mutex::default(),
    });
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

    liar.next([Fate::Lost]);
    let mut document = record::create(records.as_ref(), &key, Empty {}).await.unwrap();
    liar.next([Fate::Lost]);
    record::update(records.as_ref(), &key, &mut document).await.unwrap();
    assert_eq!(record::read::<Empty>(records.as_ref(), &key).await.unwrap().unwrap().rev(), 2);
    liar.next([Fate::Lost]);
    records.remove(&key, document.version()).await.unwrap();
    assert!(records.get(&key).await.unwrap().is_none());

    // Over the tombstone that is there now.
    liar.next([Fate::Answered, Fate::Dropped, Fate::Lost]);
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
    assert_eq!(objects.iter().filter(|object| object.size == 16).count(), 2);
}

#[tokio::test]
async fn an_empty_object_that_an_earlier_release_left_is_a_tombstone() {
    let (liar, bucket) = bucket(Fault::None);
    let records = bucket.records().await.unwrap();
    let prefix = key::tags(&testing::repository());
    let key = prefix.record("v1");
    liar.put(&Path::from(format!("registry/{key}")), PutPayload::new()).await.unwrap();
    assert!(records.get(&key).await.unwrap().is_none());
    assert_eq!(records.page(&prefix, None, 10).await.unwrap(), []);
    let document = record::create(records.as_ref(), &key, Empty {}).await.unwrap();
    assert_eq!(&records.get(&key).await.unwrap().unwrap().version, document.version());
}

#[tokio::test]
async fn a_creation_that_arrives_again_does_not_bring_a_removed_record_back() {
    let (liar, bucket) = bucket(Fault::None);
    let records = bucket.records().await.unwrap();
    let key = key::tag(&testing::repository(), &"v1".parse().unwrap());
    // Where nothing was, then over the first tombstone.
    for fates in [vec![Fate::Again], vec![Fate::Answered, Fate::Again]] {
        liar.fates.lock().extend(fates);
        let document = record::create(records.as_ref(), &key, Empty {}).await.unwrap();
        records.remove(&key, document.version()).await.unwrap();
        let late = liar.late.lock().len();
        assert_eq!((late, liar.deliver().await), (1, 0));
        assert!(records.get(&key).await.unwrap().is_none());
    }
}

/// Removes the record if it is there; `anew`: and makes it again.
async fn removes(records: Arc<RemoteRecords>, key: key::RecordKey, anew: bool) {
    if let Some(found) = records.get(&key).await.unwrap() {
        records.remove(&key, &found.version).await.unwrap();
    }
    if anew {
        record::create(records.as_ref(), &key, Empty {}).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_record_made_anew_says_nothing_of_is_not_called_a_lost_race() {
    for fate in [Fate::Lost, Fate::Dropped] {
        for anew in [true, false] {
            let (liar, bucket) = bucket(Fault::None);
            let records = bucket.records().await.unwrap();
            let repository = testing::repository();
            let key = |tag: &str| key::tag(&repository, &tag.parse().unwrap());
            let prepare = |key: &key::RecordKey| {
                liar.next_and(fate, removes(Arc::clone(&records), key.clone(), anew));
            };

            let removed = record::create(records.as_ref(), &key("removed"), Empty {}).await.unwrap();
            prepare(&key("removed"));
            match records.remove(&key("removed"), removed.version()).await {
                Err(Error::Unknown(_)) if anew => {}
                Ok(()) if !anew => {}
                other => panic!("{fate:?} {anew}: {other:?}"),
            }

            let mut updated = record::create(records.as_ref(), &key("updated"), Empty {}).await.unwrap();
            prepare(&key("updated"));
            let answer = record::update(records.as_ref(), &key("updated"), &mut updated).await;
            assert!(matches!(answer, Err(Error::Unknown(_))), "{fate:?} {anew}: {answer:?}");

            prepare(&key("created"));
            match record::create(records.as_ref(), &key("created"), Empty {}).await {
                Err(Error::Unknown(_)) => {}
                // Nothing was ever there: it was done once, by its second request.
                Ok(_) if fate == Fate::Dropped && !anew => removes(Arc::clone(&records), key("created"), false).await,
                other => panic!("{fate:?} {anew}: {other:?}"),
            }

            for tag in ["removed", "updated", "created"] {
                let there = records.get(&key(tag)).await.unwrap().is_some();
                assert_eq!(there, anew, "{fate:?} {tag}: what others did last stands");
            }
        }
    }
}

#[tokio::test]
async fn a_lost_answer_beside_a_record_that_went_on_is_told_for_what_it_is() {
    for fate in [Fate::Lost, Fate::Dropped] {
        let (liar, bucket) = bucket(Fault::None);
        let records = bucket.records().await.unwrap();
        let key = key::tag(&testing::repository(), &"v1".parse().unwrap());
        let mut mine = record::create(records.as_ref(), &key, Empty {}).await.unwrap();
        let (others, at) = (Arc::clone(&records), key.clone());
        liar.next_and(fate, async move {
            record::modify(others.as_ref(), &at, |_: &mut Empty| Ok::<_, Error>(true)).await.unwrap();
        });
        match (fate, record::update(records.as_ref(), &key, &mut mine).await) {
            (Fate::Lost, Ok(())) | (Fate::Dropped, Err(Error::Conflict)) => {}
            other => panic!("{other:?}"),
        }
        let rev = record::read::<Empty>(records.as_ref(), &key).await.unwrap().unwrap().rev();
        assert_eq!(rev, if fate == Fate::Lost { 3 } else { 2 });
    }
}
