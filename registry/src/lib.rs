//! The server and the command line.

pub mod body;
pub mod hosts;
pub mod operations;
pub mod server;
pub mod telemetry;
