use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use futures::stream;
use parking_lot::Mutex;
use rustix::fs::{Advice, fadvise};
use tokio::sync::Semaphore;

use super::{
    append::{Claims, FileAppend, Held},
    blocking, failed,
    pool::Pool,
    space::Space,
};
use crate::{
    Error, Generation,
    backend::{Append, Bytes, Claim, Content, Saved},
    key::DataId,
    stream::ByteStream,
};

/// Below this an object is one read and one frame.
const SMALL_OBJECT: u64 = 64 << 10;
/// Bytes of all uploads of the process that wait to be written.
const UPLOAD_MEMORY: usize = 16 << 20;
/// Folders remembered as durable; more are forgotten, which costs a sync and no more.
const REMEMBERED: usize = 64 << 10;

/// Data objects as files: `<G>/<first two characters>/<X>`, written in place, the kernel's lock on each being the claim.
#[derive(Debug)]
pub struct LocalBytes(Arc<Root>);

#[derive(Debug)]
pub(super) struct Root {
    folder: PathBuf,
    pub(super) space: Space,
    pub(super) claims: Claims,
    /// Bytes that uploads may hold while they wait to be written.
    pub(super) memory: Arc<Semaphore>,
    pool: Pool,
    /// Folders whose own entry this process has synced, by generation.
    durable: Mutex<HashMap<Generation, BTreeSet<String>>>,
}

impl LocalBytes {
    pub(super) fn new(folder: PathBuf) -> Self {
        let space = Space::of(&folder);
        let (claims, pool, durable) = (Claims::default(), Pool::default(), Mutex::default());
        let memory = Arc::new(Semaphore::new(UPLOAD_MEMORY));
        Self(Arc::new(Root { folder, space, claims, memory, pool, durable }))
    }
}

/// Makes the entries of a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), Error> {
    OpenOptions::new().read(true).open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn shelf(id: &str) -> &str {
    id.get(..2).unwrap_or(id)
}

impl Root {
    fn generation(&self, generation: &Generation) -> PathBuf {
        self.folder.join(generation.as_str())
    }

    pub(super) fn path(&self, x: &DataId) -> PathBuf {
        self.generation(x.generation()).join(shelf(x.id())).join(x.id())
    }

    /// Makes the file's own entry durable, and those of the folders above it that may be new.
    pub(super) fn sync_entry(&self, x: &DataId) -> Result<(), Error> {
        let generation = self.generation(x.generation());
        sync_folder(&generation.join(shelf(x.id())))?;
        let known = |set: &HashMap<Generation, BTreeSet<String>>| {
            let shelves = set.get(x.generation());
            (shelves.is_some(), shelves.is_some_and(|shelves| shelves.contains(shelf(x.id()))))
        };
        let (generation_known, shelf_known) = known(&self.durable.lock());
        if !shelf_known {
            sync_folder(&generation)?;
            if !generation_known {
                sync_folder(&self.folder)?;
            }
            let mut durable = self.durable.lock();
            if durable.values().map(BTreeSet::len).sum::<usize>() >= REMEMBERED {
                durable.clear();
            }
            durable.entry(x.generation().clone()).or_default().insert(shelf(x.id()).to_owned());
        }
        Ok(())
    }

    /// Opens the file of an upload that holds `offset` bytes, making it if that is none.
    fn upload(&self, x: &DataId, offset: u64) -> Result<File, Error> {
        let path = self.path(x);
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600).create(offset == 0);
        let opened = match options.open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && offset == 0 => {
                fs::create_dir_all(path.parent().unwrap_or(&self.folder)).and_then(|()| options.open(&path))
            }
            opened => opened,
        };
        match opened {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Error::NoUpload),
            opened => opened.map_err(failed),
        }
    }

    fn open(&self, x: &DataId) -> Result<(File, u64), Error> {
        let opened = OpenOptions::new().read(true).open(self.path(x));
        let file = opened.map_err(|e| if e.kind() == io::ErrorKind::NotFound { Error::NoBlob } else { failed(e) })?;
        let size = file.metadata().map_err(failed)?.len();
        Ok((file, size))
    }

    fn page(&self, generation: &Generation, after: &str, limit: usize) -> Result<Vec<DataId>, Error> {
        let root = self.generation(generation);
        let mut found = Vec::new();
        for folder in names(&root)?.into_iter().filter(|folder| folder.as_str() >= shelf(after)) {
            let ids = names(&root.join(&folder))?;
            let ids = ids.into_iter().filter(|id| id.as_str() > after);
            found.extend(ids.filter_map(|id| DataId::parse(generation, &id)).take(limit - found.len()));
            if found.len() == limit {
                break;
            }
        }
        Ok(found)
    }
}

/// The names in a folder, sorted; none if there is no such folder.
fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

#[async_trait]
impl Bytes for LocalBytes {
    fn claim(&self) -> Claim {
        Claim::Lock
    }

    fn first_part(&self) -> Option<usize> {
        None
    }

    async fn begin(&self, _x: &DataId, _whole: bool, _expected: Option<u64>) -> Result<Saved, Error> {
        Ok(FileAppend::saved())
    }

    fn can_grow(&self, _saved: &Saved) -> bool {
        true
    }

    async fn open(
        &self,
        x: &DataId,
        _saved: &Saved,
        offset: u64,
        _tail: Option<bytes::Bytes>,
    ) -> Result<Box<dyn Append>, Error> {
        loop {
            let mut released = Box::pin(self.0.claims.released());
            released.as_mut().enable();
            let closing = self.0.claims.closing(x);
            let (root, upload) = (Arc::clone(&self.0), x.clone());
            let file = blocking(move || {
                let file = root.upload(&upload, offset)?;
                Held::claim(&root.claims, &upload, file)
            })
            .await;
            match file {
                Ok(held) => {
                    let size = held.file().metadata().map_err(failed)?;
                    return match (size.nlink(), size.len()) {
                        // Deleted between the opening and the lock.
                        (0, _) if offset == 0 => continue,
                        (0, _) => Err(Error::NoUpload),
                        (_, size) if size < offset => Err(Error::NoUpload),
                        _ => Ok(Box::new(FileAppend::new(Arc::clone(&self.0), x.clone(), held, offset))),
                    };
                }
                // A writer of this process that was dropped still ends its last write.
                Err(Error::Conflict) if closing || self.0.claims.closing(x) => released.await,
                Err(other) => return Err(other),
            }
        }
    }

    /// The file stays until it is deleted: whether it was finished is known to the records alone.
    async fn abort(&self, _x: &DataId, _saved: &Saved) -> Result<(), Error> {
        Ok(())
    }

    async fn read(&self, x: &DataId, range: Option<Range<u64>>) -> Result<Content, Error> {
        let (root, x) = (Arc::clone(&self.0), x.clone());
        blocking(move || {
            let (file, size) = root.open(&x)?;
            let range = range.unwrap_or(0..size);
            let (start, end) = (range.start.min(size), range.end.min(size));
            let length = end.saturating_sub(start);
            let stream: ByteStream = if length == 0 {
                Box::pin(stream::empty())
            } else if length < SMALL_OBJECT {
                let mut buffer = vec![0; usize::try_from(length).unwrap_or_default()];
                file.read_exact_at(&mut buffer, start).map_err(failed)?;
                Box::pin(stream::iter([Ok(buffer.into())]))
            } else {
                // Advice only: a file system that has none reads on as before.
                let _unsupported = fadvise(&file, 0, None, Advice::Sequential);
                download(Arc::new(file), start..end, root.pool.clone())
            };
            Ok(Content { size, stream })
        })
        .await
    }

    async fn delete(&self, x: &DataId) -> Result<(), Error> {
        let path = self.0.path(x);
        blocking(move || match fs::remove_file(&path) {
            Ok(()) => path.parent().map_or(Ok(()), sync_folder),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(failed(e)),
        })
        .await
    }

    async fn page(&self, generation: &Generation, after: Option<&str>, limit: usize) -> Result<Vec<DataId>, Error> {
        let (root, generation, after) = (Arc::clone(&self.0), generation.clone(), after.unwrap_or_default().to_owned());
        blocking(move || root.page(&generation, &after, limit)).await
    }

    async fn admit(&self) -> Result<(), Error> {
        let root = Arc::clone(&self.0);
        blocking(move || root.space.admit()).await
    }
}

/// Reads a range in order, one buffer ahead of whoever takes the frames.
fn download(file: Arc<File>, range: Range<u64>, pool: Pool) -> ByteStream {
    let read = move |range: Range<u64>| {
        let (file, mut buffer) = (Arc::clone(&file), pool.take());
        tokio::task::spawn_blocking(move || {
            let left = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            let filled = file.read_at(buffer.room(left), range.start)?;
            io::Result::Ok(buffer.frame(filled))
        })
    };
    let first = (!range.is_empty()).then(|| read(range.clone()));
    Box::pin(stream::try_unfold((first, range), move |(running, range)| {
        let read = read.clone();
        async move {
            let Some(running) = running else { return Ok(None) };
            let frame = running.await.map_err(Error::unavailable)?.map_err(failed)?;
            if frame.is_empty() {
                return Err(Error::corrupt("a data file is shorter than it was when it was opened"));
            }
            let rest = range.start + frame.len() as u64..range.end;
            let next = (!rest.is_empty()).then(|| read(rest.clone()));
            Ok(Some((frame, (next, rest))))
        }
    }))
}
