//! Collection runs all the time, and no client can tell.

mod command;
mod soak;
mod stored;
