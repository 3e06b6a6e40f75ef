use std::sync::Arc;

use async_trait::async_trait;
use bytes::BytesMut;
use object_store::{Error as StoreError, ObjectStoreExt, PutPayload, multipart::PartId, path::Path};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use super::{
    Place,
    bytes::UPLOAD_MEMORY,
    parts::{PART, Stand, Tail, differs},
};
use crate::{
    Error,
    backend::{Append, Checkpoint},
};

/// A writer of one object: while one part is on its way, the next fills.
pub(super) struct PartAppend {
    place: Place,
    memory: Arc<Semaphore>,
    path: Path,
    stand: Stand,
    /// Bytes in the object or in whole parts of it.
    durable: u64,
    /// Where the upload stood when it was opened.
    opened: u64,
    filling: Vec<bytes::Bytes>,
    filled: u64,
    /// The share of the process's memory for the part that fills: for all of it from its first byte, so that whoever has begun a
    /// part can end it and nobody waits for memory in a circle.
    credit: Option<OwnedSemaphorePermit>,
    /// Bytes of a tail that was not handed in: such an upload can only be finished.
    absent: u64,
    /// The part on its way, at most one.
    sending: JoinSet<Result<(PartId, u64), StoreError>>,
    broken: bool,
}

/// A store's answer to an upload that it does not know or whose parts are others.
fn lost(error: &StoreError) -> bool {
    const ANSWERS: [&str; 4] = ["NoSuchUpload", "InvalidPart", "InvalidBlockList", "InvalidPartOrder"];
    matches!(error, StoreError::NotFound { .. }) || {
        let text = error.to_string();
        ANSWERS.iter().any(|answer| text.contains(answer))
    }
}

fn failed(error: StoreError) -> Error {
    if lost(&error) { Error::NoUpload } else { Error::unavailable(error) }
}

impl PartAppend {
    pub(super) fn new(
        place: Place,
        memory: Arc<Semaphore>,
        path: Path,
        stand: Stand,
        offset: u64,
        tail: Option<bytes::Bytes>,
    ) -> Result<Self, Error> {
        let in_tail = match &stand {
            Stand::Multipart(multipart) => multipart.tail.as_ref().map_or(0, |tail| tail.size),
            Stand::Object => 0,
        };
        let filling: Vec<bytes::Bytes> = tail.into_iter().filter(|tail| !tail.is_empty()).collect();
        let filled: u64 = filling.iter().map(|tail| tail.len() as u64).sum();
        if filled > 0 && filled != in_tail {
            return Err(Error::corrupt(format!("a tail of {filled} bytes where the upload has one of {in_tail}")));
        }
        let durable = offset.checked_sub(in_tail).ok_or(Error::NoUpload)?;
        Ok(Self {
            place,
            memory,
            path,
            stand,
            durable,
            opened: offset,
            filling,
            filled,
            credit: None,
            absent: in_tail - filled,
            sending: JoinSet::new(),
            broken: false,
        })
    }

    fn offset(&self) -> u64 {
        self.durable + self.absent + self.filled
    }

    /// Size of the part that fills.
    fn part(&self) -> u64 {
        match &self.stand {
            Stand::Object => PART,
            Stand::Multipart(multipart) => multipart.size_of_part(multipart.parts.len() + self.sending.len()),
        }
    }

    fn whole(&self) -> Result<(), Error> {
        if self.broken { Err(Error::unavailable("an earlier part of this upload failed")) } else { Ok(()) }
    }

    /// Takes note of a part that has arrived.
    fn arrived(
        &mut self,
        outcome: Result<Result<(PartId, u64), StoreError>, tokio::task::JoinError>,
    ) -> Result<(), Error> {
        let outcome = outcome.map_err(Error::unavailable).and_then(|sent| sent.map_err(failed));
        self.broken |= outcome.is_err();
        let (id, size) = outcome?;
        if let Stand::Multipart(multipart) = &mut self.stand {
            multipart.parts.push(id.content_id);
            multipart.tail = None;
        }
        self.durable += size;
        Ok(())
    }

    /// Waits for the part on its way.
    async fn settle(&mut self) -> Result<(), Error> {
        while let Some(outcome) = self.sending.join_next().await {
            self.arrived(outcome)?;
        }
        self.whole()
    }

    /// Sends what fills as the next part, after the one before it.
    async fn send(&mut self) -> Result<(), Error> {
        self.settle().await?;
        let Stand::Multipart(multipart) = &self.stand else { return Ok(()) };
        let (place, path) = (self.place.clone(), self.path.clone());
        let (upload, index) = (multipart.upload.clone(), multipart.parts.len());
        let payload: PutPayload = std::mem::take(&mut self.filling).into_iter().collect();
        let (size, credit) = (std::mem::take(&mut self.filled), self.credit.take());
        self.sending.spawn(async move {
            let _credit = credit;
            let id = place.objects.put_part(&path, &upload, index, payload).await?;
            Ok((id, size))
        });
        Ok(())
    }

    async fn take_credit(&mut self) -> Result<(), Error> {
        if self.credit.is_none() {
            let share = u32::try_from(self.part().min(UPLOAD_MEMORY as u64)).unwrap_or(u32::MAX);
            let credit = Arc::clone(&self.memory).acquire_many_owned(share).await;
            self.credit = Some(credit.map_err(Error::unavailable)?);
        }
        Ok(())
    }

    /// Puts the object at once, unless an earlier visit has.
    async fn put_object(&mut self) -> Result<(), Error> {
        if self.opened > 0 || self.durable > 0 {
            return Ok(());
        }
        let payload: PutPayload = std::mem::take(&mut self.filling).into_iter().collect();
        let put = self.place.objects.put(&self.path, payload).await;
        self.broken |= put.is_err();
        put.map_err(Error::unavailable)?;
        self.durable = std::mem::take(&mut self.filled);
        self.credit = None;
        Ok(())
    }

    /// Puts the last bytes as a part too, so that the commit needs nothing but its own call; gives them back for the next visit.
    async fn put_tail(&mut self) -> Result<Option<bytes::Bytes>, Error> {
        if self.filled == 0 {
            return Ok(None);
        }
        let changed = self.offset() > self.opened;
        let Stand::Multipart(multipart) = &mut self.stand else { return Ok(None) };
        if changed || multipart.tail.is_none() {
            let payload: PutPayload = self.filling.iter().cloned().collect();
            let index = multipart.parts.len();
            let put = self.place.objects.put_part(&self.path, &multipart.upload, index, payload).await;
            self.broken |= put.is_err();
            multipart.tail = Some(Tail { id: put.map_err(failed)?.content_id, size: self.filled });
        }
        if self.filling.len() > 1 {
            let mut joined = BytesMut::with_capacity(usize::try_from(self.filled).unwrap_or_default());
            for frame in self.filling.drain(..) {
                joined.extend_from_slice(&frame);
            }
            self.filling.push(joined.freeze());
        }
        Ok(self.filling.first().cloned())
    }

    /// The answer of the object itself, after the upload was found gone: an earlier attempt may have finished it.
    async fn finished_before(&self, size: u64, e_tag: Option<&str>) -> Result<(), Error> {
        match self.place.objects.head(&self.path).await {
            Ok(meta) if meta.size == size && !differs(e_tag, meta.e_tag.as_deref()) => Ok(()),
            Ok(_) | Err(StoreError::NotFound { .. }) => Err(Error::NoUpload),
            Err(e) => Err(Error::unavailable(e)),
        }
    }
}

#[async_trait]
impl Append for PartAppend {
    async fn append(&mut self, mut data: bytes::Bytes) -> Result<(), Error> {
        self.whole()?;
        let grows = self.absent == 0 && (matches!(self.stand, Stand::Multipart(_)) || self.opened + self.durable == 0);
        if !grows {
            return Err(Error::Invalid("an object that is whole, or an upload without its tail, does not grow".into()));
        }
        while !data.is_empty() {
            self.take_credit().await?;
            let room = usize::try_from(self.part().saturating_sub(self.filled)).unwrap_or(usize::MAX);
            let taken = data.split_to(data.len().min(room));
            self.filled += taken.len() as u64;
            self.filling.push(taken);
            if self.filled >= self.part() {
                if matches!(self.stand, Stand::Object) {
                    return if data.is_empty() {
                        Ok(())
                    } else {
                        Err(Error::Invalid("more bytes than a whole object may have".into()))
                    };
                }
                self.send().await?;
            }
        }
        Ok(())
    }

    async fn checkpoint(&mut self, end: bool) -> Result<Checkpoint, Error> {
        let mut tail = None;
        if end {
            self.settle().await?;
            if matches!(self.stand, Stand::Object) {
                self.put_object().await?;
            } else {
                tail = self.put_tail().await?;
            }
        } else {
            while let Some(outcome) = self.sending.try_join_next() {
                self.arrived(outcome)?;
            }
            self.whole()?;
        }
        if end {
            return Ok(Checkpoint { saved: self.stand.save()?, offset: self.offset(), tail });
        }
        let mut whole = self.stand.clone();
        if let Stand::Multipart(multipart) = &mut whole {
            multipart.tail = None;
        }
        Ok(Checkpoint { saved: whole.save()?, offset: self.durable, tail: None })
    }

    async fn finish(&mut self, size: u64) -> Result<(), Error> {
        self.checkpoint(true).await?;
        let Stand::Multipart(multipart) = &self.stand else {
            // Put by this very writer: the store has said so.
            let known = self.opened == 0 && self.durable == size;
            return if known { Ok(()) } else { self.finished_before(size, None).await };
        };
        if self.offset() != size {
            return Err(Error::NoUpload);
        }
        let e_tag = multipart.e_tag();
        match self.place.objects.complete_multipart(&self.path, &multipart.upload, multipart.ids()).await {
            Ok(put) => {
                let told = put.e_tag.as_deref();
                let sure = e_tag.is_some() && told.is_some_and(|told| told.trim_matches('"').contains('-'));
                match (sure, differs(e_tag.as_deref(), told)) {
                    (_, true) => Err(Error::NoUpload),
                    (true, false) => Ok(()),
                    (false, false) => self.finished_before(size, e_tag.as_deref()).await,
                }
            }
            Err(e) if lost(&e) => self.finished_before(size, e_tag.as_deref()).await,
            Err(e) => Err(Error::unknown(e)),
        }
    }
}
