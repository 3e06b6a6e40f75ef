//! Proof, through HTTP: a real server process, a client that sends exactly what it is told, and callers of every kind.
//!
//! - [`Harness`] spawns the binary under test on a free port of loopback with its own store, waits until it is ready and
//!   kills it (SIGKILL) when dropped; it also runs the command line on the same store.
//! - [`Actor`] names who may come: each becomes a [`Caller`] that can try any request.
//! - [`Client`] is HTTP without opinions: raw paths, raw headers, raw bytes.
//! - [`fixture`] makes images, charts, indexes, artifacts and hostile inputs from a seed, so that no two tests share bytes.
//! - [`fuzz`] mutates kept seeds for as long as it is told.
//! - [`page`] runs the commands of a page of the documentation.
//! - [`faults`] is a wire between a server and its store on which everything may go wrong.
//! - [`gate`] stops clients at a request of one kind while a test does something.
//! - [`turns`] gives each request to the next of several servers, [`linear`] judges what their clients saw.
//! - [`kubernetes`] starts an API server, etcd, containerd and a kubelet, whose pods pull from a harness.
//! - [`tools`] finds the real clients that `conformance/run` installs.
//!
//! The harness is test code outside `#[test]`: what cannot be set up ends the test with the reason.

pub mod actor;
pub mod bucket;
pub mod client;
pub mod clock;
pub mod faults;
pub mod fixture;
pub mod fuzz;
pub mod gate;
pub mod harness;
pub mod kubernetes;
pub mod lax;
pub mod linear;
pub mod load;
pub mod page;
pub mod push;
pub mod tools;
pub mod turns;
pub mod wire;

pub use actor::{AccountUnderTest, Actor, Caller, Credential};
pub use client::{Answer, Client, Request};
pub use harness::{Harness, Store};
