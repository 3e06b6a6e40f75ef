//! Bodies: a request's as a [`ByteStream`] that ends in an error when its client stalls or leaves; a response's with a known size.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use storage::{Source, stream::ByteStream};

use crate::footing::Footing;

/// A request's body that did not arrive whole: the source of the [`storage::Error::Unavailable`] that its stream ends in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Interrupted {
    /// No byte came for this long.
    #[error("the client sent nothing for {} s", .0.as_secs())]
    Stalled(Duration),
    /// It kept coming, but was not there in this time.
    #[error("the body did not arrive within {} s", .0.as_secs())]
    Slow(Duration),
    /// Whose transfer it was may not any more.
    #[error("the right to this transfer has ended")]
    Ended,
    /// The client went away, or broke the protocol.
    #[error("the client stopped in the middle of the body")]
    Gone(#[source] Source),
}

impl Interrupted {
    /// The interruption that an error is about, if it is about one.
    pub fn of(error: &storage::Error) -> Option<&Self> {
        match error {
            storage::Error::Unavailable(source) => source.downcast_ref(),
            _ => None,
        }
    }
}

/// A request's body as a stream. It may stand still for `patience`, and last as long as it likes.
pub fn incoming<B>(body: B, patience: Duration) -> ByteStream
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Source>,
{
    let body = Some(Box::pin(body));
    Box::pin(futures::stream::unfold(body, move |body| async move {
        let mut body = body?;
        loop {
            let interrupted = match tokio::time::timeout(patience, body.frame()).await {
                Ok(None) => return None,
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Some((Ok(data), Some(body))),
                    // Trailers mean nothing here.
                    _ => continue,
                },
                Ok(Some(Err(error))) => Interrupted::Gone(error.into()),
                Err(_) => Interrupted::Stalled(patience),
            };
            return Some((Err(storage::Error::unavailable(interrupted)), None));
        }
    }))
}

/// A request's body that is lent to an operation: what the operation left unread can be read to its end afterwards, so that a
/// refused client reads its answer instead of a connection that broke while it was sending.
#[derive(Clone)]
pub(crate) struct Lent(Arc<Mutex<Lending>>);

struct Lending {
    stream: ByteStream,
    received: u64,
    asked: bool,
    ended: bool,
}

impl Lent {
    pub(crate) fn new(stream: ByteStream) -> Self {
        Self(Arc::new(Mutex::new(Lending { stream, received: 0, asked: false, ended: false })))
    }

    /// The body, for the operation.
    pub(crate) fn stream(&self) -> ByteStream {
        Box::pin(self.clone())
    }

    /// Bytes that have come out of it.
    pub(crate) fn received(&self) -> u64 {
        self.0.lock().received
    }

    /// Reads on to the end, `most` bytes and `patience` at most. `waiting`: the client sends only when the body is asked for
    /// (`Expect: 100-continue`), so a body that nobody asked for is not asked for now.
    pub(crate) async fn drain(mut self, most: u64, patience: Duration, waiting: bool) {
        let (asked, ended) = {
            let lending = self.0.lock();
            (lending.asked, lending.ended)
        };
        if ended || (waiting && !asked) {
            return;
        }
        let reading = async {
            let mut read = 0;
            while let Some(Ok(part)) = self.next().await {
                read += part.len() as u64;
                if read > most {
                    break;
                }
            }
        };
        // Past the time the connection is simply closed.
        let _ = tokio::time::timeout(patience, reading).await;
    }
}

impl Stream for Lent {
    type Item = Result<Bytes, storage::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut lending = self.0.lock();
        lending.asked = true;
        if lending.ended {
            return Poll::Ready(None);
        }
        let polled = lending.stream.as_mut().poll_next(cx);
        match &polled {
            Poll::Ready(Some(Ok(part))) => lending.received += part.len() as u64,
            Poll::Ready(Some(Err(_)) | None) => lending.ended = true,
            Poll::Pending => {}
        }
        polled
    }
}

/// A whole body of at most `limit` bytes; above it [`storage::Error::TooLarge`], which names `what` and the limit.
pub async fn collect(mut stream: ByteStream, limit: usize, what: &str) -> Result<Bytes, storage::Error> {
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(part) = stream.next().await {
        let part = part?;
        if first.len().max(whole.len()) + part.len() > limit {
            return Err(storage::Error::TooLarge(format!("{what} may have {limit} bytes at most")));
        }
        if first.is_empty() && whole.is_empty() {
            first = part;
            continue;
        }
        if whole.is_empty() {
            whole.extend_from_slice(&std::mem::take(&mut first));
        }
        whole.extend_from_slice(&part);
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// [`collect`] for a body that has to be there within `patience`, however steadily it trickles.
pub async fn collect_within(
    patience: Duration,
    stream: ByteStream,
    limit: usize,
    what: &str,
) -> Result<Bytes, storage::Error> {
    let slow = |_| Err(storage::Error::unavailable(Interrupted::Slow(patience)));
    tokio::time::timeout(patience, collect(stream, limit, what)).await.unwrap_or_else(slow)
}

/// How a response's body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Bytes that were handed to the connection.
    pub bytes: u64,
    /// Whether they were all.
    pub complete: bool,
}

/// A response's body. Its size is always known.
#[derive(Default)]
pub struct Body {
    content: Content,
    sent: u64,
    at_end: Option<Box<dyn FnOnce(Sent) + Send>>,
}

#[derive(Default)]
enum Content {
    #[default]
    Empty,
    Full(Bytes),
    Stream {
        stream: ByteStream,
        left: u64,
    },
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("left", &self.left()).field("sent", &self.sent).finish_non_exhaustive()
    }
}

impl Body {
    /// Nothing.
    pub fn empty() -> Self {
        Self::of(Content::Empty)
    }

    /// What is at hand.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::of(Content::Full(bytes.into()))
    }

    /// What the store sends: exactly `size` bytes. Fewer or more break the connection, so that no client takes them for all.
    pub fn stream(stream: ByteStream, size: u64) -> Self {
        Self::of(Content::Stream { stream, left: size })
    }

    /// The same with a right to look at between the parts of what the store sends; what is at hand already is sent.
    #[must_use]
    pub(crate) fn under(mut self, footing: impl FnOnce() -> Option<Footing>) -> Self {
        self.content = match std::mem::take(&mut self.content) {
            Content::Stream { stream, left } => match footing() {
                Some(footing) => Content::Stream { stream: footing.under(stream), left },
                None => Content::Stream { stream, left },
            },
            content => content,
        };
        self
    }

    /// Calls `f` when the last byte has been handed on or the client has gone: where a request is measured and logged.
    #[must_use]
    pub fn at_end(mut self, f: impl FnOnce(Sent) + Send + 'static) -> Self {
        self.at_end = Some(Box::new(f));
        self
    }

    fn of(content: Content) -> Self {
        Self { content, sent: 0, at_end: None }
    }

    fn left(&self) -> u64 {
        match &self.content {
            Content::Empty => 0,
            Content::Full(bytes) => bytes.len() as u64,
            Content::Stream { left, .. } => *left,
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(f) = self.at_end.take() {
            f(Sent { bytes: self.sent, complete: self.left() == 0 });
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = storage::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, storage::Error>>> {
        let wrong = |what: &str| Poll::Ready(Some(Err(storage::Error::corrupt(what))));
        let part = match &mut self.content {
            Content::Empty => return Poll::Ready(None),
            Content::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.content = Content::Empty;
                if bytes.is_empty() {
                    return Poll::Ready(None);
                }
                bytes
            }
            Content::Stream { stream, left } => match futures::ready!(Pin::new(stream).poll_next(cx)) {
                None if *left == 0 => return Poll::Ready(None),
                None => return wrong("an object ended before its size"),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(part)) => match left.checked_sub(part.len() as u64) {
                    None => return wrong("an object goes on after its size"),
                    Some(rest) => {
                        *left = rest;
                        part
                    }
                },
            },
        };
        self.sent += part.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn parts(parts: &[&'static str]) -> ByteStream {
        let parts: Vec<_> = parts.iter().map(|p| Ok(Bytes::from_static(p.as_bytes()))).collect();
        Box::pin(futures::stream::iter(parts))
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_by_name() {
        assert_eq!(collect(parts(&["ab", "cd", "e"]), 5, "a form").await.unwrap(), "abcde");
        assert_eq!(collect(parts(&[]), 0, "a form").await.unwrap(), "");
        let error = collect(parts(&["ab", "cd", "ef"]), 5, "a form").await.unwrap_err();
        assert_eq!(error.to_string(), "a form may have 5 bytes at most");
    }

    #[tokio::test]
    async fn a_body_that_trickles_past_its_time_is_given_up() {
        let drops = || futures::stream::repeat_with(|| Ok(Bytes::from_static(b"x")));
        let trickle = drops().then(|drop| async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            drop
        });
        let error = collect_within(Duration::from_millis(50), Box::pin(trickle), 1 << 20, "a form").await.unwrap_err();
        assert!(matches!(Interrupted::of(&error), Some(Interrupted::Slow(_))), "{error}");
        let whole = collect_within(Duration::from_secs(9), parts(&["ab", "cd"]), 5, "a form").await.unwrap();
        assert_eq!(whole, "abcd");
    }

    #[tokio::test]
    async fn a_client_that_stands_still_ends_the_stream_in_an_error() {
        let silent =
            http_body_util::StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, std::io::Error>>());
        let mut stream = incoming(silent, Duration::from_millis(1));
        let error = stream.next().await.unwrap().unwrap_err();
        assert!(matches!(Interrupted::of(&error), Some(Interrupted::Stalled(_))));
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn a_client_that_goes_away_ends_the_stream_in_an_error() {
        let frames = [Ok(Frame::data(Bytes::from("ab"))), Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe))];
        let mut stream =
            incoming(http_body_util::StreamBody::new(futures::stream::iter(frames)), Duration::from_secs(9));
        assert_eq!(stream.next().await.unwrap().unwrap(), "ab");
        let error = stream.next().await.unwrap().unwrap_err();
        assert!(matches!(Interrupted::of(&error), Some(Interrupted::Gone(_))));
    }

    #[tokio::test]
    async fn an_object_of_another_size_breaks_off() {
        assert_eq!(Body::stream(parts(&["ab", "c"]), 3).collect().await.unwrap().to_bytes(), "abc");
        assert!(Body::stream(parts(&["ab"]), 3).collect().await.is_err());
        assert!(Body::stream(parts(&["ab", "cd"]), 3).collect().await.is_err());
    }

    #[tokio::test]
    async fn the_end_is_told_with_what_was_sent() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = |told: &Arc<Mutex<Vec<Sent>>>| {
            let told = Arc::clone(told);
            move |sent| told.lock().unwrap().push(sent)
        };
        Body::full("abc").at_end(tell(&told)).collect().await.unwrap();
        let mut cut = Body::stream(parts(&["ab", "cd"]), 4).at_end(tell(&told));
        cut.frame().await.unwrap().unwrap();
        drop(cut);
        let expected = [Sent { bytes: 3, complete: true }, Sent { bytes: 2, complete: false }];
        assert_eq!(*told.lock().unwrap(), expected);
    }
}
