//! The accept loop.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use config::Limits;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;

use super::{Handler, Live, Peer, connection, shutdown::Tasks};
use crate::metrics::Metrics;

/// How long the loop rests when the system is out of descriptors: long enough to let connections end, short enough to go unseen.
const REST: Duration = Duration::from_millis(50);

/// An address that cannot be listened at. One line with the way out.
#[derive(Debug, thiserror::Error)]
#[error("{setting} {address}: {source}; {remedy}")]
pub struct BindError {
    setting: &'static str,
    address: SocketAddr,
    remedy: String,
    #[source]
    source: io::Error,
}

impl BindError {
    /// Whether somebody else has the address.
    pub fn is_taken(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }
}

/// A socket that listens, not yet served: binding comes first at start, so that a taken port is known before anything is written.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Listens at `address`, which `setting` gave; port 0 takes a free one.
    pub async fn bind(setting: &'static str, address: SocketAddr) -> Result<Self, BindError> {
        let error = |source: io::Error| {
            let flag = setting.replace('_', "-");
            let remedy = match source.kind() {
                io::ErrorKind::AddrInUse => format!("stop what listens there or choose another with --{flag}"),
                io::ErrorKind::PermissionDenied => format!("choose a port above 1023 with --{flag}"),
                _ => format!("choose an address of this machine with --{flag}"),
            };
            BindError { setting, address, remedy, source }
        };
        let socket = TcpListener::bind(address).await.map_err(error)?;
        let address = socket.local_addr().map_err(error)?;
        Ok(Self { socket, address })
    }

    /// The address it has, its port known.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves connections until the order to stop. At `limits.connections` the rest wait in the system's queue.
    pub fn serve<H: Handler>(
        self,
        handler: Arc<H>,
        tls: Option<TlsAcceptor>,
        limits: Arc<Live<Limits>>,
        tasks: &Tasks,
        metrics: Arc<Metrics>,
    ) {
        let room = Arc::new(Semaphore::new(limits.now().connections.min(Semaphore::MAX_PERMITS)));
        let spawner = tasks.clone();
        let connected = {
            let spawner = spawner.clone();
            move |(permit, socket, address): Admitted| {
                let peer = Peer { address, tls: tls.is_some() };
                let (handler, tls, limits) = (Arc::clone(&handler), tls.clone(), limits.now());
                let (tasks, open) = (spawner.clone(), metrics.connection());
                spawner.spawn(async move {
                    Box::pin(connect(socket, tls, handler, peer, &limits, &tasks)).await;
                    drop((permit, open));
                });
            }
        };
        tasks.spawn(async move {
            let stop = spawner.stop().clone();
            loop {
                let accepted = tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    accepted = self.accept(&room) => accepted,
                };
                if let Some(admitted) = accepted {
                    connected(admitted);
                }
            }
            self.queued(&room).into_iter().for_each(connected);
        });
    }

    /// Closes the listener. Who stands in the system's queue has been let in by it, and may have sent a request: they are taken.
    fn queued(self, room: &Arc<Semaphore>) -> Vec<Admitted> {
        let Ok(socket) = self.socket.into_std() else { return Vec::new() };
        let mut queued = Vec::new();
        while let Ok(permit) = Arc::clone(room).try_acquire_owned()
            && let Ok((stream, address)) = socket.accept()
        {
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                queued.extend(admitted(permit, stream, address));
            }
        }
        queued
    }

    async fn accept(&self, room: &Arc<Semaphore>) -> Option<Admitted> {
        let permit = Arc::clone(room).acquire_owned().await.ok()?;
        match self.socket.accept().await {
            Ok((socket, address)) => admitted(permit, socket, address),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(REST).await;
                None
            }
        }
    }
}

/// A connection with its place in the room, and its other end.
type Admitted = (tokio::sync::OwnedSemaphorePermit, TcpStream, SocketAddr);

fn admitted(permit: tokio::sync::OwnedSemaphorePermit, socket: TcpStream, address: SocketAddr) -> Option<Admitted> {
    // A registry answers in small writes at the end of large ones; waiting to fill a packet only adds latency.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "the connection ended before it began");
        return None;
    }
    Some((permit, socket, SocketAddr::new(address.ip().to_canonical(), address.port())))
}

async fn connect<H: Handler>(
    socket: TcpStream,
    tls: Option<TlsAcceptor>,
    handler: Arc<H>,
    peer: Peer,
    limits: &Limits,
    tasks: &Tasks,
) {
    let Some(tls) = tls else {
        return connection::serve(socket, None, handler, peer, limits, tasks).await;
    };
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(limits.header_timeout, tls.accept(socket)) => shaken,
        () = tasks.lingered() => return,
    };
    match shaken {
        Ok(Ok(stream)) => {
            let protocol = match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => connection::Protocol::Http2,
                _ => connection::Protocol::Http1,
            };
            connection::serve(stream, Some(protocol), handler, peer, limits, tasks).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, client = %peer.address, "no TLS handshake"),
        Err(_) => tracing::debug!(client = %peer.address, "no TLS handshake in time"),
    }
}
