//! What is shipped: deployment packages, their versions and services, and what a customer sees of a repository.
//!
//! The first piece is the step between a permit and an operation, [`View`]: a permit says whether, a view says which. Packages,
//! versions and services stand on it.

mod view;

pub use view::View;
