//! From a socket to a request and back: [`listen`] accepts, [`tls`] shakes hands, [`connection`] speaks HTTP, [`shutdown`] drains.
//!
//! What a peer may hold on to is bounded at every step: connections by a count, a head by its size and time, a body by the time
//! it stands still (never by its whole length: a slow transfer of 100 GiB lives), an idle connection by its age.

pub mod connection;
pub mod listen;
mod live;
mod self_signed;
pub mod shutdown;
pub mod tls;

use std::{net::SocketAddr, sync::Arc};

use http::{Request, Response};
use hyper::body::Incoming;

pub use live::Live;
pub use self_signed::Authority;

use crate::body::Body;

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its address; an IPv4 address that came in over IPv6 is written as IPv4.
    pub address: SocketAddr,
    /// Whether the connection is under TLS.
    pub tls: bool,
}

/// What answers requests: the pipeline on the public listener, [`crate::operations`] on the operator's.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Dropped when its client goes away, so what must finish is spawned on [`shutdown::Tasks`].
    fn handle(self: Arc<Self>, request: Request<Incoming>, peer: Peer) -> impl Future<Output = Response<Body>> + Send;
}
