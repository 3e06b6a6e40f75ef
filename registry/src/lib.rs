//! One stateless server over a store, and its command line.
//!
//! The walk of a request: [`server::listen`] → [`server::tls`] → [`server::connection`] → `pipeline` → [`hosts`] →
//! [`oci::route`] → `presented` → `auth` → `packages::View` → `oci` → `storage`, and back through [`body`] and `error`. What a step
//! needs hangs on [`App`], a struct of handles that [`start()`] builds once; what a function touches is in its signature.
//! Below this crate nobody speaks HTTP.

pub mod access;
pub mod api;
mod app;
mod audited;
mod background;
pub mod body;
mod cli;
mod ending;
mod error;
mod footing;
pub mod hosts;
mod issuers;
pub mod metrics;
mod observed;
pub mod oci;
pub mod open;
pub mod operations;
mod pipeline;
mod presented;
pub mod remote;
mod replica;
mod seal;
pub mod server;
mod start;
pub mod telemetry;
mod token;
pub mod traces;

use std::{process::ExitCode, sync::Arc};

pub use app::App;
pub use start::{Running, StartError, Starting, start, start_on};

/// The command line with a clock and lives of the caller's: the program passes the system's and production's, the program of the
/// tests what it can set.
pub fn main_with(clock: Arc<dyn storage::Clock>, lives: storage::Lives) -> ExitCode {
    cli::main(clock, lives)
}
