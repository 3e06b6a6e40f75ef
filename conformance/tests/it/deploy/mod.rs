//! `deploy/`: what people run Hythe with.

mod chart;
pub(crate) mod image;
mod proxy;
mod refresher;
mod unit;

use std::path::PathBuf;

use conformance::tools;

/// A file of `deploy/` in the checkout.
pub(crate) fn file(relative: &str) -> PathBuf {
    tools::file("../deploy").join(relative)
}
