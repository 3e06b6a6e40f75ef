//! Bytes on their way: from socket to store and back.

use std::{pin::Pin, sync::Arc};

use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Error;

/// A blob's bytes in order, in buffers of bounded size.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<bytes::Bytes, Error>> + Send>>;

/// Size of one buffer of an upload on its way to the store. Divides every part size, so a part ends where a buffer ends.
pub const UPLOAD_BUFFER: usize = 512 << 10;
/// Size of one buffer of a download.
pub const DOWNLOAD_BUFFER: usize = 512 << 10;

/// A fixed number of buffers for all uploads together. Waiting for one is the backpressure on the socket.
#[derive(Debug, Clone)]
pub struct Pool(Arc<PoolInner>);

#[derive(Debug)]
struct PoolInner {
    free: Mutex<Vec<Vec<u8>>>,
    permits: Arc<Semaphore>,
}

impl Pool {
    /// A pool of `buffers` buffers of [`UPLOAD_BUFFER`] bytes, allocated when first used and kept.
    pub fn new(buffers: usize) -> Self {
        Self(Arc::new(PoolInner { free: Mutex::default(), permits: Arc::new(Semaphore::new(buffers)) }))
    }

    /// An empty buffer, as soon as one is free.
    pub async fn take(&self) -> Buffer {
        // The semaphore is never closed; without a permit the buffer is simply one more than the pool holds.
        let permit = self.0.permits.clone().acquire_owned().await.ok();
        let data = self.0.free.lock().pop().unwrap_or_else(|| Vec::with_capacity(UPLOAD_BUFFER));
        Buffer { data, home: Some((self.0.clone(), permit)) }
    }
}

/// A buffer that is being filled; it goes back to its pool when the last view of it is dropped.
#[derive(Debug)]
pub struct Buffer {
    data: Vec<u8>,
    home: Option<(Arc<PoolInner>, Option<OwnedSemaphorePermit>)>,
}

impl Buffer {
    /// A place for a buffer, without one.
    pub(crate) fn empty() -> Self {
        Self { data: Vec::new(), home: None }
    }

    /// A buffer outside any pool.
    pub fn detached() -> Self {
        Self { data: Vec::with_capacity(UPLOAD_BUFFER), home: None }
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Appends `data`; the caller keeps to [`UPLOAD_BUFFER`].
    pub fn extend(&mut self, data: &[u8]) {
        self.data.extend_from_slice(data);
    }

    /// The bytes, shared without a copy.
    pub fn freeze(self) -> bytes::Bytes {
        bytes::Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some((pool, _permit)) = self.home.take() {
            let mut data = std::mem::take(&mut self.data);
            data.clear();
            pool.free.lock().push(data);
        }
    }
}
