//! Collection against everything that can go on beside it: a push, a mount, a HEAD, a deletion, another worker, stopped at each
//! of their store calls in turn while the others run to their end; every call dying, arriving late or twice.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a suite of tests")]

mod accounts;
mod counted;
mod crashes;
mod manifests;
mod queues;
mod races;
mod repositories;
mod world;
