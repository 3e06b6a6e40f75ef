//! A wire between a server and its store that a test can cut.

#![expect(clippy::panic, reason = "a wire that cannot be laid ends the test with the reason")]

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
    task::JoinSet,
};

/// What of the bytes goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passes {
    /// All.
    Everything,
    /// All, but no request whose head has this text: it waits for an answer that does not come.
    AllBut(&'static str),
    /// None; connections stay open, as on a wire that was pulled.
    Nothing,
}

/// The wire. It ends with this value.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    passes: Arc<watch::Sender<Passes>>,
    _carrying: JoinSet<()>,
}

impl Wire {
    /// Lays a wire to `target`.
    ///
    /// # Panics
    /// When loopback has no free port.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|error| panic!("loopback: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("loopback: {error}"));
        let passes = Arc::new(watch::Sender::new(Passes::Everything));
        let told = Arc::clone(&passes);
        let mut carrying = JoinSet::new();
        carrying.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(target).await else { continue };
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                connections.spawn(carry(near_in, far_out, told.subscribe()));
                connections.spawn(carry(far_in, near_out, told.subscribe()));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, passes, _carrying: carrying }
    }

    /// This end of it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on this goes through.
    pub fn set(&self, passes: Passes) {
        self.passes.send_replace(passes);
    }
}

/// Carries bytes one way until an end closes. What does not pass is lost, and with it its connection: no byte of it goes on.
async fn carry(mut from: tcp::OwnedReadHalf, mut to: tcp::OwnedWriteHalf, mut told: watch::Receiver<Passes>) {
    let mut part = vec![0; 64 << 10];
    loop {
        let Ok(read @ 1..) = from.read(&mut part).await else { return };
        let bytes = part.get(..read).unwrap_or_default();
        let passes = *told.borrow_and_update();
        let lost = match passes {
            Passes::Everything => false,
            Passes::AllBut(text) => bytes.windows(text.len()).any(|window| window == text.as_bytes()),
            Passes::Nothing => true,
        };
        if lost {
            // Whoever waits for it does so until the wire is gone.
            return std::future::pending().await;
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}
