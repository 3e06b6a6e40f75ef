//! The step between permit and operation: what a permitted reader sees.

use auth::Permit;

/// What reads of tags, manifests, blobs, lists and referrers are answered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// The live repository.
    Live,
}

/// The view that a permit's credential has. An unknown kind of view never gets here: its token is refused.
pub fn resolve<A>(permit: &Permit<A>) -> View {
    match permit.view() {
        auth::View::Live => View::Live,
    }
}
