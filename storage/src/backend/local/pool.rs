use std::sync::Arc;

use parking_lot::Mutex;

use crate::stream::DOWNLOAD_BUFFER;

/// Memory of all streams of the process, in buffers of [`DOWNLOAD_BUFFER`] bytes.
const BUFFERS: usize = (16 << 20) / DOWNLOAD_BUFFER;
/// What a stream gets when the pool is empty.
///
/// It is not waited for: clients that read slowly hold their buffers as long as they like, and must not stop the others.
const SMALL: usize = 64 << 10;

/// Buffers that downloads read files into, returned when the last frame made of them is gone.
#[derive(Debug, Clone, Default)]
pub(super) struct Pool(Arc<Mutex<Shelf>>);

#[derive(Debug, Default)]
struct Shelf {
    idle: Vec<Vec<u8>>,
    lent: usize,
}

/// A buffer on loan.
#[derive(Debug)]
pub(super) struct Buffer {
    data: Vec<u8>,
    filled: usize,
    pool: Option<Pool>,
}

impl Pool {
    /// A whole buffer, or a small one while all are lent.
    pub(super) fn take(&self) -> Buffer {
        let mut shelf = self.0.lock();
        if shelf.lent >= BUFFERS {
            return Buffer { data: vec![0; SMALL], filled: 0, pool: None };
        }
        shelf.lent += 1;
        let data = shelf.idle.pop().unwrap_or_else(|| vec![0; DOWNLOAD_BUFFER]);
        Buffer { data, filled: 0, pool: Some(self.clone()) }
    }
}

impl Buffer {
    /// Room for at most `most` bytes.
    pub(super) fn room(&mut self, most: usize) -> &mut [u8] {
        let end = most.min(self.data.len());
        self.data.get_mut(..end).unwrap_or_default()
    }

    /// The first `filled` bytes as a frame.
    pub(super) fn frame(mut self, filled: usize) -> bytes::Bytes {
        self.filled = filled;
        bytes::Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.data.get(..self.filled).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            let mut shelf = pool.0.lock();
            shelf.lent -= 1;
            shelf.idle.push(std::mem::take(&mut self.data));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_pool_lends_small_buffers_and_takes_back_only_its_own() {
        let pool = Pool::default();
        let lent: Vec<Buffer> = (0..BUFFERS).map(|_| pool.take()).collect();
        let mut small = pool.take();
        assert_eq!(small.room(usize::MAX).len(), SMALL);
        drop(lent);
        drop(small.frame(10));
        let shelf = pool.0.lock();
        assert_eq!((shelf.lent, shelf.idle.len()), (0, BUFFERS));
        drop(shelf);
        assert_eq!(pool.take().room(usize::MAX).len(), DOWNLOAD_BUFFER);
    }
}
