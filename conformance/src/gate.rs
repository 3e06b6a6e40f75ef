//! A gate between clients and a server: it stops what clients send at a request of one kind, so that a test can do something
//! exactly there.

#![expect(clippy::panic, reason = "a gate that cannot be built ends the test with the reason")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::{Notify, watch},
    task::JoinSet,
};

/// Forwards connections until it is dropped.
#[derive(Debug)]
pub struct Gate {
    shared: Arc<Shared>,
    // Ends with the gate.
    _accepting: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    wanted: Mutex<Option<Wanted>>,
    reached: Notify,
    open: watch::Sender<bool>,
}

/// A request line of HTTP/1.1, by its method and a part of its path.
#[derive(Debug)]
struct Wanted {
    method: &'static str,
    part: &'static str,
}

impl Wanted {
    fn is_in(&self, sent: &[u8]) -> bool {
        let sent = String::from_utf8_lossy(sent);
        // Before a request line stands the body of the request before, without a line's end.
        let begin = format!("{} /v2/", self.method);
        let is = |line: &str| {
            line.find(&begin).is_some_and(|at| line.get(at..).is_some_and(|line| line.contains(self.part)))
        };
        sent.split("\r\n").any(|line| line.ends_with(" HTTP/1.1") && is(line))
    }
}

impl Gate {
    /// Listens at `at` and forwards to `to`.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start(at: SocketAddr, to: SocketAddr) -> Self {
        let listener = TcpListener::bind(at).await.unwrap_or_else(|error| panic!("{at}: {error}"));
        let shared =
            Arc::new(Shared { wanted: Mutex::default(), reached: Notify::new(), open: watch::Sender::new(true) });
        let all = Arc::clone(&shared);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&all);
                connections.spawn(async move {
                    // A server that does not listen yet is a connection that ends.
                    let Ok(server) = TcpStream::connect(to).await else { return };
                    let ((from_client, mut to_client), (mut from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    let back = async { drop(tokio::io::copy(&mut from_server, &mut to_client).await) };
                    tokio::join!(shared.forward(from_client, to_server), back);
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { shared, _accepting: accepting }
    }

    /// Stops everything that clients send from the next request on whose method is this and whose path contains `part`, does
    /// `meanwhile`, and lets it go on.
    ///
    /// # Panics
    /// When no such request comes within a minute.
    pub async fn at(&self, method: &'static str, part: &'static str, meanwhile: impl Future<Output = ()>) {
        *self.shared.wanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(Wanted { method, part });
        let reached = tokio::time::timeout(Duration::from_mins(1), self.shared.reached.notified()).await;
        assert!(reached.is_ok(), "nobody asks {method} …{part}…");
        meanwhile.await;
        self.shared.open.send_replace(true);
    }
}

impl Shared {
    async fn forward(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        const LINE: usize = 512;
        let mut open = self.open.subscribe();
        let mut buffer = vec![0; 64 << 10];
        // The end of what was sent before: a request line may come in two pieces.
        let mut seen = Vec::new();
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let piece = buffer.get(..read).unwrap_or_default();
            seen.extend_from_slice(piece);
            {
                let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
                if wanted.as_ref().is_some_and(|wanted| wanted.is_in(&seen)) {
                    *wanted = None;
                    self.open.send_replace(false);
                    self.reached.notify_one();
                }
            }
            seen.drain(..seen.len().saturating_sub(LINE));
            if open.wait_for(|open| *open).await.is_err() || to.write_all(piece).await.is_err() {
                return;
            }
        }
        let _closed = to.shutdown().await;
    }
}
