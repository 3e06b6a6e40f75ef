use std::{ops::Range, sync::Arc};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use object_store::{Error as StoreError, GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt, path::Path};
use tokio::sync::Semaphore;

use super::{
    Place,
    append::PartAppend,
    parts::{Multipart, PART, Parts, Stand, part_for},
};
use crate::{
    Error, Generation,
    backend::{Append, Bytes, Claim, Content, Saved},
    key::DataId,
};

/// Bytes of all uploads of the process that wait for the store or are on their way to it.
pub(super) const UPLOAD_MEMORY: usize = 256 << 20;

/// Data objects of a bucket: small ones put at once, others as multipart uploads.
#[derive(Debug)]
pub struct RemoteBytes {
    place: Place,
    memory: Arc<Semaphore>,
}

/// What a read says of an object that is not there.
fn failed(error: StoreError) -> Error {
    match error {
        StoreError::NotFound { .. } => Error::NoBlob,
        other => Error::unavailable(other),
    }
}

impl RemoteBytes {
    pub(super) fn new(place: Place) -> Self {
        Self { place, memory: Arc::new(Semaphore::new(UPLOAD_MEMORY)) }
    }

    /// The object's size, without its bytes.
    async fn bare(&self, path: &Path) -> Result<Content, Error> {
        let size = self.place.objects.head(path).await.map_err(failed)?.size;
        Ok(Content { size, stream: Box::pin(stream::empty()) })
    }
}

fn content(got: GetResult) -> Content {
    let size = got.meta.size;
    Content { size, stream: Box::pin(got.into_stream().map(|frame| frame.map_err(Error::unavailable))) }
}

#[async_trait]
impl Bytes for RemoteBytes {
    fn claim(&self) -> Claim {
        Claim::Document
    }

    fn first_part(&self) -> Option<usize> {
        usize::try_from(PART).ok()
    }

    async fn begin(&self, x: &DataId, whole: bool, expected: Option<u64>) -> Result<Saved, Error> {
        if whole {
            return Stand::Object.save();
        }
        let path = self.place.path(&x.object_key())?;
        let upload = self.place.objects.create_multipart(&path).await.map_err(Error::unavailable)?;
        Stand::Multipart(Multipart { upload, parts: Parts::new(), tail: None, part: part_for(expected) }).save()
    }

    fn can_grow(&self, saved: &Saved) -> bool {
        matches!(Stand::of(saved), Ok(Stand::Multipart(_)))
    }

    async fn open(
        &self,
        x: &DataId,
        saved: &Saved,
        offset: u64,
        tail: Option<bytes::Bytes>,
    ) -> Result<Box<dyn Append>, Error> {
        let path = self.place.path(&x.object_key())?;
        let append =
            PartAppend::new(self.place.clone(), Arc::clone(&self.memory), path, Stand::of(saved)?, offset, tail)?;
        Ok(Box::new(append))
    }

    async fn abort(&self, x: &DataId, saved: &Saved) -> Result<(), Error> {
        let Stand::Multipart(multipart) = Stand::of(saved)? else { return Ok(()) };
        let path = self.place.path(&x.object_key())?;
        match self.place.objects.abort_multipart(&path, &multipart.upload).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(e) => Err(Error::unavailable(e)),
        }
    }

    async fn read(&self, x: &DataId, range: Option<Range<u64>>) -> Result<Content, Error> {
        let path = self.place.path(&x.object_key())?;
        let wanted = match range {
            None => None,
            Some(range) if range.is_empty() => return self.bare(&path).await,
            // Not every store takes an end beyond what a file can have.
            Some(range) if range.end > u64::MAX / 4 => Some(GetRange::Offset(range.start)),
            Some(range) => Some(GetRange::Bounded(range)),
        };
        let start = match &wanted {
            Some(GetRange::Offset(start)) => *start,
            Some(GetRange::Bounded(range)) => range.start,
            Some(GetRange::Suffix(_)) | None => 0,
        };
        match self.place.objects.get_opts(&path, GetOptions { range: wanted.clone(), ..GetOptions::default() }).await {
            Ok(got) => Ok(content(got)),
            Err(StoreError::NotFound { .. }) => Err(Error::NoBlob),
            Err(e) if wanted.is_none() => Err(Error::unavailable(e)),
            // A range that begins at or beyond the end is refused by stores; here it is empty.
            Err(e) => {
                let bare = self.bare(&path).await?;
                if start >= bare.size { Ok(bare) } else { Err(Error::unavailable(e)) }
            }
        }
    }

    async fn delete(&self, x: &DataId) -> Result<(), Error> {
        self.place.delete(&x.object_key()).await
    }

    async fn page(&self, generation: &Generation, after: Option<&str>, limit: usize) -> Result<Vec<DataId>, Error> {
        let prefix = format!("t/{generation}/d/");
        let mut after = after.unwrap_or_default().to_owned();
        let mut found = Vec::new();
        while found.len() < limit {
            let wanted = limit - found.len();
            let (listed, more) = self.place.list(&prefix, &after, wanted).await.map_err(Error::unavailable)?;
            match listed.last() {
                Some(last) => after.clone_from(&last.name),
                None => break,
            }
            found.extend(listed.iter().filter_map(|listed| DataId::parse(generation, &listed.name)));
            if !more {
                break;
            }
        }
        Ok(found)
    }

    /// A bucket has no end that it tells.
    async fn admit(&self) -> Result<(), Error> {
        Ok(())
    }
}
