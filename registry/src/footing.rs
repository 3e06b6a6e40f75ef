//! What a long transfer stands on: a right that may end while it goes on.

use std::{
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use auth::{Auth, Principal, Pull, Push};
use bytes::Bytes;
use futures::{FutureExt, Stream, future::BoxFuture};
use storage::{RepositoryName, stream::ByteStream};

use crate::body::Interrupted;

/// Who was permitted what.
#[derive(Debug)]
pub(crate) struct Footing {
    pub(crate) auth: Arc<Auth>,
    pub(crate) who: Principal,
    pub(crate) about: RepositoryName,
    pub(crate) writes: bool,
    pub(crate) from: IpAddr,
    /// [`Auth::place`] before it was decided.
    pub(crate) place: u64,
}

impl Footing {
    /// The stream as long as the right lasts: between two parts it costs one load to see that nothing has ended. When the right
    /// has, the stream breaks off with [`Interrupted::Ended`].
    pub(crate) fn under(self, stream: ByteStream) -> ByteStream {
        let place = self.place;
        Box::pin(Guarded { stream, footing: Arc::new(self), place, next: None, judging: None, ended: false })
    }

    async fn holds(self: Arc<Self>) -> bool {
        if self.writes {
            self.auth.still::<Push>(&self.who, &self.about, self.from).await
        } else {
            self.auth.still::<Pull>(&self.who, &self.about, self.from).await
        }
    }
}

type Part = Option<Result<Bytes, storage::Error>>;

struct Guarded {
    stream: ByteStream,
    footing: Arc<Footing>,
    /// Where it was last found to hold.
    place: u64,
    /// What has come and is handed on once the right is known to hold.
    next: Option<Part>,
    judging: Option<BoxFuture<'static, bool>>,
    ended: bool,
}

impl Stream for Guarded {
    type Item = Result<Bytes, storage::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Part> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.next.is_none() {
            self.next = Some(ready!(self.stream.as_mut().poll_next(cx)));
        }
        loop {
            if let Some(judging) = &mut self.judging {
                let holds = ready!(judging.poll_unpin(cx));
                self.judging = None;
                if !holds {
                    self.ended = true;
                    tracing::info!(
                        credential = self.footing.who.label(),
                        "a transfer was cut: the right to it has ended"
                    );
                    return Poll::Ready(Some(Err(storage::Error::unavailable(Interrupted::Ended))));
                }
            }
            let place = self.footing.auth.place();
            if place == self.place {
                return Poll::Ready(self.next.take().flatten());
            }
            self.place = place;
            self.judging = Some(Arc::clone(&self.footing).holds().boxed());
        }
    }
}
