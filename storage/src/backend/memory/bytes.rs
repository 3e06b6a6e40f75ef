use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use async_trait::async_trait;
use bytes::{BufMut, BytesMut};
use futures::stream;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::Faults;
use crate::{
    Error, Generation,
    backend::{Append, Bytes, Checkpoint, Claim, Content, Saved},
    key::DataId,
    stream::DOWNLOAD_BUFFER,
};

/// Data objects in a map: growing like files, or put in parts like a bucket's.
#[derive(Debug)]
pub struct MemoryBytes {
    shared: Arc<Shared>,
    part: Option<usize>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    faults: Faults,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, bytes::Bytes>,
    files: BTreeMap<String, BytesMut>,
    locked: BTreeSet<String>,
    uploads: BTreeMap<u64, BTreeMap<usize, Part>>,
    counter: u64,
    full: bool,
}

#[derive(Debug, Clone)]
struct Part {
    tag: u64,
    data: bytes::Bytes,
}

/// What a session's document keeps of an upload.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stand {
    File,
    Object,
    Multipart { upload: u64, parts: Vec<u64>, tail: Option<Tail> },
}

/// The last part of an upload that stands still, shorter than a part.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Tail {
    tag: u64,
    size: u64,
}

impl Stand {
    fn of(saved: &Saved) -> Result<Self, Error> {
        serde_json::from_value(saved.0.clone()).map_err(|e| Error::corrupt(format!("a saved upload: {e}")))
    }

    fn save(&self) -> Result<Saved, Error> {
        serde_json::to_value(self).map(Saved).map_err(|e| Error::corrupt(e.to_string()))
    }
}

impl State {
    fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// The answer to "finish" for an upload that is not there any more.
    fn finished_before(&self, key: &str, size: u64) -> Result<(), Error> {
        let same = self.objects.get(key).is_some_and(|object| object.len() as u64 == size);
        if same { Ok(()) } else { Err(Error::NoUpload) }
    }
}

impl MemoryBytes {
    /// Objects that grow as files do: claimed by a lock, no parts, no tails.
    pub fn growing() -> Self {
        Self { shared: Arc::default(), part: None }
    }

    /// Objects that are put in parts of `size` bytes as a bucket's are: claimed by the session's document, with tails.
    pub fn in_parts(size: usize) -> Self {
        Self { shared: Arc::default(), part: Some(size.max(1)) }
    }

    /// What goes wrong, and the count of calls.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Uploads in parts that were neither finished nor given up. No call and never at fault.
    pub fn unfinished(&self) -> usize {
        self.shared.state.lock().uploads.len()
    }

    /// Whether [`Bytes::admit`] refuses.
    pub fn set_full(&self, full: bool) {
        self.shared.state.lock().full = full;
    }
}

#[async_trait]
impl Bytes for MemoryBytes {
    fn claim(&self) -> Claim {
        if self.part.is_some() { Claim::Document } else { Claim::Lock }
    }

    fn first_part(&self) -> Option<usize> {
        self.part
    }

    async fn begin(&self, _x: &DataId, whole: bool, _expected: Option<u64>) -> Result<Saved, Error> {
        if self.part.is_none() {
            return Stand::File.save();
        }
        if whole {
            return Stand::Object.save();
        }
        let shared = Arc::clone(&self.shared);
        let upload = self.shared.faults.write(move || {
            let mut state = shared.state.lock();
            let upload = state.next();
            state.uploads.insert(upload, BTreeMap::new());
            Ok(upload)
        })?;
        Stand::Multipart { upload, parts: Vec::new(), tail: None }.save()
    }

    fn can_grow(&self, saved: &Saved) -> bool {
        !matches!(Stand::of(saved), Ok(Stand::Object))
    }

    async fn open(
        &self,
        x: &DataId,
        saved: &Saved,
        offset: u64,
        tail: Option<bytes::Bytes>,
    ) -> Result<Box<dyn Append>, Error> {
        let stand = Stand::of(saved)?;
        let key = x.object_key();
        let held = matches!(stand, Stand::File);
        if held {
            let mut state = self.shared.state.lock();
            if state.locked.contains(&key) {
                return Err(Error::Conflict);
            }
            if (state.files.get(&key).map_or(0, BytesMut::len) as u64) < offset {
                return Err(Error::NoUpload);
            }
            state.locked.insert(key.clone());
        }
        let in_tail = match &stand {
            Stand::Multipart { tail: Some(tail), .. } => tail.size,
            _ => 0,
        };
        let pending = BytesMut::from(&*tail.unwrap_or_default());
        let absent = in_tail.saturating_sub(pending.len() as u64);
        let durable = offset.checked_sub(in_tail).ok_or(Error::NoUpload)?;
        let part = self.part.unwrap_or(usize::MAX);
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(Writer { shared, key, stand, part, durable, opened: offset, pending, absent, held }))
    }

    async fn abort(&self, _x: &DataId, saved: &Saved) -> Result<(), Error> {
        let stand = Stand::of(saved)?;
        let shared = Arc::clone(&self.shared);
        self.shared.faults.write(move || {
            if let Stand::Multipart { upload, .. } = stand {
                shared.state.lock().uploads.remove(&upload);
            }
            Ok(())
        })
    }

    async fn read(&self, x: &DataId, range: Option<Range<u64>>) -> Result<Content, Error> {
        self.shared.faults.look()?;
        let object = self.shared.state.lock().objects.get(&x.object_key()).cloned().ok_or(Error::NoBlob)?;
        let size = object.len() as u64;
        let range = range.unwrap_or(0..size);
        let clip = |at: u64| usize::try_from(at.min(size)).unwrap_or(object.len());
        let (start, end) = (clip(range.start), clip(range.end.max(range.start)));
        let frames = (start..end).step_by(DOWNLOAD_BUFFER).map(|at| object.slice(at..end.min(at + DOWNLOAD_BUFFER)));
        Ok(Content { size, stream: Box::pin(stream::iter(frames.map(Ok).collect::<Vec<_>>())) })
    }

    async fn delete(&self, x: &DataId) -> Result<(), Error> {
        let (shared, key) = (Arc::clone(&self.shared), x.object_key());
        self.shared.faults.write(move || {
            let mut state = shared.state.lock();
            state.objects.remove(&key);
            state.files.remove(&key);
            Ok(())
        })
    }

    async fn page(&self, generation: &Generation, after: Option<&str>, limit: usize) -> Result<Vec<DataId>, Error> {
        self.shared.faults.look()?;
        let prefix = format!("t/{generation}/d/");
        let state = self.shared.state.lock();
        let names = state.objects.keys().filter_map(|key| key.strip_prefix(&prefix));
        let names = names.filter(|name| after.is_none_or(|after| *name > after));
        Ok(names.take(limit).filter_map(|name| DataId::parse(generation, name)).collect())
    }

    async fn admit(&self) -> Result<(), Error> {
        self.shared.faults.look()?;
        if self.shared.state.lock().full { Err(Error::Full) } else { Ok(()) }
    }
}

struct Writer {
    shared: Arc<Shared>,
    key: String,
    stand: Stand,
    part: usize,
    /// Bytes in the file or in whole parts.
    durable: u64,
    /// Where the upload stood when it was opened.
    opened: u64,
    pending: BytesMut,
    /// Bytes of the tail that were not handed in: such an upload can only be finished.
    absent: u64,
    held: bool,
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.held {
            self.shared.state.lock().locked.remove(&self.key);
        }
    }
}

impl Writer {
    fn offset(&self) -> u64 {
        self.durable + self.absent + self.pending.len() as u64
    }

    fn put_part(&self, upload: u64, index: usize, data: bytes::Bytes) -> Result<u64, Error> {
        let shared = Arc::clone(&self.shared);
        self.shared.faults.write(move || {
            let mut state = shared.state.lock();
            let tag = state.next();
            let parts = state.uploads.get_mut(&upload).ok_or(Error::NoUpload)?;
            parts.insert(index, Part { tag, data: data.clone() });
            Ok(tag)
        })
    }

    /// Puts what is pending as whole parts.
    fn put_whole_parts(&mut self) -> Result<(), Error> {
        while self.pending.len() >= self.part {
            let Stand::Multipart { upload, parts, .. } = &self.stand else { return Ok(()) };
            let (upload, index) = (*upload, parts.len());
            let data = bytes::Bytes::copy_from_slice(self.pending.get(..self.part).unwrap_or_default());
            let tag = self.put_part(upload, index, data)?;
            bytes::Buf::advance(&mut self.pending, self.part);
            self.durable += self.part as u64;
            if let Stand::Multipart { parts, tail, .. } = &mut self.stand {
                parts.push(tag);
                *tail = None;
            }
        }
        Ok(())
    }

    fn write_file(&mut self) -> Result<(), Error> {
        let (shared, key) = (Arc::clone(&self.shared), self.key.clone());
        let (at, data) = (usize::try_from(self.durable).unwrap_or(usize::MAX), self.pending.clone().freeze());
        self.shared.faults.write(move || {
            let mut state = shared.state.lock();
            let file = state.files.entry(key.clone()).or_default();
            file.truncate(at);
            file.put_slice(&data);
            Ok(())
        })?;
        self.durable += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    fn put_object(&self) -> Result<(), Error> {
        let (shared, key, data) = (Arc::clone(&self.shared), self.key.clone(), self.pending.clone().freeze());
        self.shared.faults.write(move || {
            shared.state.lock().objects.insert(key.clone(), data.clone());
            Ok(())
        })
    }
}

#[async_trait]
impl Append for Writer {
    async fn append(&mut self, data: bytes::Bytes) -> Result<(), Error> {
        if self.absent > 0 || (matches!(self.stand, Stand::Object) && self.opened > 0) {
            return Err(Error::Invalid("a whole object, or one without its tail, does not grow".into()));
        }
        self.pending.put(data);
        self.put_whole_parts()
    }

    async fn checkpoint(&mut self, end: bool) -> Result<Checkpoint, Error> {
        let mut kept = None;
        match self.stand.clone() {
            Stand::File => self.write_file()?,
            Stand::Object if end && self.opened == 0 => self.put_object()?,
            Stand::Object => {}
            Stand::Multipart { .. } if !end || self.pending.is_empty() => {}
            Stand::Multipart { upload, parts, tail: at } => {
                let data = self.pending.clone().freeze();
                if at.is_none() || self.offset() > self.opened {
                    let tag = self.put_part(upload, parts.len(), data.clone())?;
                    self.stand = Stand::Multipart { upload, parts, tail: Some(Tail { tag, size: data.len() as u64 }) };
                }
                kept = Some(data);
            }
        }
        if end {
            return Ok(Checkpoint { saved: self.stand.save()?, offset: self.offset(), tail: kept });
        }
        let mut whole = self.stand.clone();
        if let Stand::Multipart { tail, .. } = &mut whole {
            *tail = None;
        }
        Ok(Checkpoint { saved: whole.save()?, offset: self.durable, tail: None })
    }

    async fn finish(&mut self, size: u64) -> Result<(), Error> {
        let (shared, key, stand) = (Arc::clone(&self.shared), self.key.clone(), self.stand.clone());
        self.shared.faults.write(move || {
            let mut state = shared.state.lock();
            let whole = match &stand {
                Stand::Object => return state.finished_before(&key, size),
                Stand::File => state.files.get(&key).cloned().unwrap_or_default().freeze(),
                Stand::Multipart { upload, parts, tail } => {
                    let Some(stored) = state.uploads.get(upload) else { return state.finished_before(&key, size) };
                    let wanted = parts.iter().copied().chain(tail.map(|tail| tail.tag)).enumerate();
                    let mut whole = BytesMut::new();
                    for (index, tag) in wanted {
                        let part = stored.get(&index).filter(|part| part.tag == tag).ok_or(Error::NoUpload)?;
                        whole.put_slice(&part.data);
                    }
                    whole.freeze()
                }
            };
            let end = usize::try_from(size).map_err(|_| Error::NoUpload)?;
            if whole.len() < end || (whole.len() > end && !matches!(stand, Stand::File)) {
                return Err(Error::NoUpload);
            }
            state.objects.insert(key.clone(), whole.slice(..end));
            if let Stand::Multipart { upload, .. } = stand {
                state.uploads.remove(&upload);
            }
            Ok(())
        })
    }
}
