//! Bytes on their way: from socket to store and back.

use std::pin::Pin;

use futures::Stream;

use crate::Error;

/// A blob's bytes in order, in buffers of bounded size.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<bytes::Bytes, Error>> + Send>>;

/// Size of one buffer of an upload on its way to the store.
pub const UPLOAD_BUFFER: usize = 1 << 20;
/// Size of one buffer of a download.
pub const DOWNLOAD_BUFFER: usize = 512 << 10;
