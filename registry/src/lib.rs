//! One stateless server over a store, and its command line.
//!
//! The walk of a request: [`server::listen`] → [`server::tls`] → [`server::connection`] → `pipeline` → [`hosts`] →
//! [`oci::route`] → `presented` → `auth` → [`view`] → `oci` → `storage`, and back through [`body`] and `error`.

pub mod access;
pub mod api;
mod app;
pub mod body;
mod error;
pub mod hosts;
pub mod oci;
pub mod operations;
mod pipeline;
mod presented;
pub mod server;
pub mod telemetry;
mod token;
pub mod view;

pub use app::App;
