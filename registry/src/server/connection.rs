//! One connection: HTTP/1.1 or HTTP/2, by ALPN under TLS and by its first bytes in the clear (prior knowledge).
//!
//! hyper has the protocol; what it does not time is timed here. Its own head timer also runs while a connection rests between
//! requests, so it is off, and a watch beside the connection tells the two apart.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use config::Limits;
use http::{HeaderValue, header};
use http_body::{Frame, SizeHint};
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::{Handler, Peer, shutdown::Tasks};
use crate::body::Body;

/// What an HTTP/2 client without TLS sends first (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// hyper answers a head above its limit with a bare 431, whatever is wrong with it. It reads this many times the limit, so that the
/// pipeline can answer in words, and a token that is too long is refused as the bad token that it is.
const HEAD_ROOM: usize = 2;
/// Receive window of one HTTP/2 stream in bytes: an upload over 20 ms of latency runs at 50 MB/s.
const STREAM_WINDOW: u32 = 1 << 20;
/// Receive window of a whole HTTP/2 connection in bytes: its bound on memory.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// HTTP/2 streams at once.
const STREAMS: u32 = 128;
/// How often an HTTP/2 peer that says nothing is asked whether it lives, and how long it may take to answer.
const PING: Duration = Duration::from_secs(20);

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 and 1.0.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Serves a connection to its end. Without `protocol` its first bytes tell.
pub async fn serve<S, H>(
    mut stream: S,
    protocol: Option<Protocol>,
    handler: Arc<H>,
    peer: Peer,
    limits: &Limits,
    tasks: &Tasks,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let (protocol, first) = if let Some(protocol) = protocol {
        (protocol, Bytes::new())
    } else {
        let told = tokio::select! {
            told = tokio::time::timeout(limits.header_timeout, first_bytes(&mut stream)) => told,
            () = tasks.lingered() => return,
        };
        let Ok(Ok(told)) = told else { return };
        told
    };
    let activity = Arc::new(Activity::new(protocol));
    if !first.is_empty() {
        activity.received();
    }
    let patience = limits.body_timeout;
    let stream =
        TokioIo::new(Watched { inner: stream, first, activity: Arc::clone(&activity), patience, standing: None });
    let service = service_fn({
        let (activity, stop) = (Arc::clone(&activity), tasks.stop().clone());
        move |request| {
            let (busy, stop) = (Busy::new(&activity), stop.clone());
            // Boxed, so that a connection at rest does not hold room for the largest request there is.
            let answer = Box::pin(Arc::clone(&handler).handle(request, peer));
            async move {
                let mut response = answer.await.map(|body| Answer { body, _busy: busy });
                if protocol == Protocol::Http1 && stop.is_cancelled() {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, std::convert::Infallible>(response)
            }
        }
    });
    match protocol {
        Protocol::Http1 => {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(None)
                .max_header_size(HEAD_ROOM * limits.header_size)
                .serve_connection(stream, service);
            // HTTP/1.1 has no goodbye but that in an answer, so a connection at rest is kept for the request that may be coming.
            drive(connection, tasks.lingered(), &activity, limits, tasks, peer).await;
        }
        Protocol::Http2 => {
            let connection = http2::Builder::new(tasks.clone())
                .timer(TokioTimer::new())
                .max_header_list_size(u32::try_from(HEAD_ROOM * limits.header_size).unwrap_or(u32::MAX))
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_concurrent_streams(STREAMS)
                .keep_alive_interval(PING)
                .keep_alive_timeout(PING)
                .serve_connection(stream, service);
            drive(connection, tasks.stop().cancelled(), &activity, limits, tasks, peer).await;
        }
    }
}

/// Reads until the bytes are HTTP/2's preface or cannot become it.
async fn first_bytes<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<(Protocol, Bytes)> {
    let mut read = bytes::BytesMut::with_capacity(PREFACE.len());
    while PREFACE.starts_with(&read) {
        if read.len() == PREFACE.len() {
            return Ok((Protocol::Http2, read.freeze()));
        }
        let left = PREFACE.len() - read.len();
        if AsyncReadExt::take(&mut *stream, left as u64).read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok((Protocol::Http1, read.freeze()))
}

/// Why the watch spoke.
#[derive(Debug, Clone, Copy)]
enum Verdict {
    /// Nothing was asked for too long: say goodbye.
    Idle,
    /// A head that does not end, or a goodbye that is not answered: hang up.
    HangUp,
}

/// Drives a connection to its end; when `goodbye` comes, it takes no more requests.
async fn drive<C>(
    connection: C,
    goodbye: impl Future<Output = ()>,
    activity: &Activity,
    limits: &Limits,
    tasks: &Tasks,
    peer: Peer,
) where
    C: GracefulConnection,
    C::Error: std::fmt::Display,
{
    let mut connection = std::pin::pin!(connection);
    let mut watch = std::pin::pin!(watch(activity, limits));
    let mut leaving = std::pin::pin!(None::<Sleep>);
    let mut goodbye = std::pin::pin!(goodbye);
    let mut stopping = false;
    loop {
        let verdict = tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, client = %peer.address, "a connection ended early");
                }
                return;
            }
            () = tasks.cut().cancelled() => return,
            () = goodbye.as_mut(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
                continue;
            }
            verdict = watch.as_mut(), if leaving.is_none() => verdict,
            () = async { if let Some(sleep) = leaving.as_mut().as_pin_mut() { sleep.await } }, if leaving.is_some() => Verdict::HangUp,
        };
        match verdict {
            Verdict::HangUp => return,
            Verdict::Idle => {
                connection.as_mut().graceful_shutdown();
                leaving.set(Some(tokio::time::sleep(limits.header_timeout)));
            }
        }
    }
}

/// Speaks once the connection has been without a request for too long, or a head has taken too long.
async fn watch(activity: &Activity, limits: &Limits) -> Verdict {
    // Looking now and then costs less than a timer set anew by every request; an end may be late by this much.
    let pause = (limits.idle_timeout.min(limits.header_timeout) / 4).min(Duration::from_secs(5));
    loop {
        tokio::time::sleep(pause).await;
        if activity.busy.load(Ordering::Acquire) > 0 {
            continue;
        }
        if activity.head().is_some_and(|age| age > limits.header_timeout) {
            return Verdict::HangUp;
        }
        if activity.rest() > limits.idle_timeout {
            return Verdict::Idle;
        }
    }
}

/// What a connection is at. Times are milliseconds since it began, plus one; 0 is never.
#[derive(Debug)]
struct Activity {
    born: Instant,
    /// Whether bytes between requests are the head of the next; in HTTP/2 they may be anything.
    heads: bool,
    busy: AtomicUsize,
    rests_since: AtomicU64,
    head_since: AtomicU64,
}

impl Activity {
    fn new(protocol: Protocol) -> Self {
        Self {
            born: Instant::now(),
            heads: protocol == Protocol::Http1,
            busy: AtomicUsize::new(0),
            rests_since: AtomicU64::new(1),
            head_since: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    fn age(&self, since: u64) -> Duration {
        Duration::from_millis(self.now().saturating_sub(since))
    }

    fn received(&self) {
        if self.heads && self.busy.load(Ordering::Acquire) == 0 && self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    fn head(&self) -> Option<Duration> {
        let since = self.head_since.load(Ordering::Relaxed);
        (since > 0).then(|| self.age(since))
    }

    fn rest(&self) -> Duration {
        self.age(self.rests_since.load(Ordering::Relaxed))
    }
}

/// A request being answered, from its head to the last of its response.
struct Busy(Arc<Activity>);

impl Busy {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.busy.fetch_add(1, Ordering::AcqRel);
        activity.head_since.store(0, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.rests_since.store(self.0.now(), Ordering::Relaxed);
        self.0.busy.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A response's body that keeps its connection busy.
struct Answer {
    body: Body,
    _busy: Busy,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = storage::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A socket that gives back the bytes read ahead, notes what comes in and does not wait forever to send.
struct Watched<S> {
    inner: S,
    first: Bytes,
    activity: Arc<Activity>,
    patience: Duration,
    standing: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    /// Passes a write on, unless the peer has taken nothing for as long as a transfer may stand still.
    fn patiently<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.standing = None;
            return written;
        }
        let patience = self.patience;
        let standing = self.standing.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        standing.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let part = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first.split_to(part));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.received();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.patiently(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.patiently(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.patiently(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.patiently(cx, shut)
    }
}

#[cfg(test)]
mod tests;
