//! Layers at the speed of the wire, for tests of memory and for `conformance/bench`: a client that holds one block of
//! bytes, whatever the size of the layer, and costs so little that what is measured is the server.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use rand::{RngCore, SeedableRng, rngs::StdRng};
use sha2::{Digest as _, Sha256};

/// What is sent and received at once.
const BLOCK: usize = 1 << 20;
/// A server that neither takes nor gives a byte for so long has failed.
const PATIENCE: Duration = Duration::from_mins(1);
/// Most bytes of an answer's head.
const HEAD: usize = 64 << 10;

/// A layer: one random block, over and over.
#[derive(Debug, Clone)]
pub struct Layer {
    block: Vec<u8>,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub digest: String,
}

impl Layer {
    /// A layer of `size` bytes that differs from those of other seeds.
    pub fn new(seed: u64, size: u64) -> Self {
        let mut block = vec![0; BLOCK];
        StdRng::seed_from_u64(seed).fill_bytes(&mut block);
        let mut hash = Sha256::new();
        for part in parts(&block, size) {
            hash.update(part);
        }
        Self { block, size, digest: format!("sha256:{}", hex::encode(hash.finalize())) }
    }
}

fn parts(block: &[u8], size: u64) -> impl Iterator<Item = &[u8]> {
    let mut left = size;
    std::iter::from_fn(move || {
        let part = block.get(..usize::try_from(left).unwrap_or(BLOCK).min(BLOCK)).filter(|part| !part.is_empty())?;
        left -= part.len() as u64;
        Some(part)
    })
}

/// One connection to a server.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// Host and authorization, ready for a head.
    fields: String,
    /// Bytes read past the last head.
    ahead: Vec<u8>,
}

/// What an answer's head says.
#[derive(Debug)]
struct Head {
    status: u16,
    length: u64,
    location: String,
    text: String,
}

impl Connection {
    /// Connects; `authorization` is the header's value, if there is to be one.
    pub fn open(address: SocketAddr, authorization: Option<&str>) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let authorization = authorization.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
        Ok(Self { stream, fields: format!("Host: {address}\r\n{authorization}"), ahead: Vec::new() })
    }

    /// Pushes a layer as docker does: `POST`, `PATCH` with everything, `PUT`.
    pub fn push(&mut self, repository: &str, layer: &Layer) -> io::Result<()> {
        let opened = self.exchange("POST", &format!("/v2/{repository}/blobs/uploads/"), None, 202)?;
        let sent = self.exchange("PATCH", &opened.location, Some(layer), 202)?;
        let mark = if sent.location.contains('?') { '&' } else { '?' };
        self.exchange("PUT", &format!("{}{mark}digest={}", sent.location, layer.digest), None, 201)?;
        Ok(())
    }

    /// Pulls `path` and throws it away. The bytes that came.
    pub fn pull(&mut self, path: &str) -> io::Result<u64> {
        self.send("GET", path, None)?;
        let head = self.head()?;
        if head.status != 200 {
            return Err(unexpected("GET", path, &head));
        }
        self.skip(head.length)?;
        Ok(head.length)
    }

    fn exchange(&mut self, method: &str, path: &str, body: Option<&Layer>, expected: u16) -> io::Result<Head> {
        self.send(method, path, body)?;
        let head = self.head()?;
        self.skip(head.length)?;
        if head.status == expected { Ok(head) } else { Err(unexpected(method, path, &head)) }
    }

    fn send(&mut self, method: &str, path: &str, body: Option<&Layer>) -> io::Result<()> {
        let length = body.map_or(0, |layer| layer.size);
        let kind = body.map_or("", |_| "Content-Type: application/octet-stream\r\n");
        let head = format!("{method} {path} HTTP/1.1\r\n{}{kind}Content-Length: {length}\r\n\r\n", self.fields);
        self.stream.write_all(head.as_bytes())?;
        if let Some(layer) = body {
            for part in parts(&layer.block, layer.size) {
                self.stream.write_all(part)?;
            }
        }
        Ok(())
    }

    fn head(&mut self) -> io::Result<Head> {
        let mut read = std::mem::take(&mut self.ahead);
        let mut buffer = [0; 4096];
        let end = loop {
            if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            let more = self.stream.read(&mut buffer)?;
            if more == 0 || read.len() > HEAD {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            read.extend_from_slice(buffer.get(..more).unwrap_or_default());
        };
        self.ahead = read.split_off(end);
        let text = String::from_utf8_lossy(&read).into_owned();
        let field = |name: &str| {
            text.lines().find_map(|line| {
                let (field, value) = line.split_once(':')?;
                field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        let length = field("content-length").and_then(|length| length.parse().ok()).unwrap_or_default();
        let location = field("location").unwrap_or_default();
        Ok(Head { status, length, location, text })
    }

    fn skip(&mut self, length: u64) -> io::Result<()> {
        let mut left = length.saturating_sub(self.ahead.len() as u64);
        self.ahead.clear();
        let mut buffer = vec![0; BLOCK.min(usize::try_from(left).unwrap_or(BLOCK))];
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(BLOCK));
            match self.stream.read(buffer.get_mut(..most).unwrap_or_default())? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => left -= read as u64,
            }
        }
        Ok(())
    }
}

fn unexpected(method: &str, path: &str, head: &Head) -> io::Error {
    io::Error::other(format!("{method} {path}: {}", head.text.trim()))
}
