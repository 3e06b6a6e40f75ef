use auth::Permit;

/// What reads of tags, manifests, blobs, lists and referrers are answered from. Closed: a handler says what it does for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// The live repository.
    Live,
}

impl View {
    /// The view that a permit's credential has. An unknown kind never gets here: its token is refused.
    pub fn of<A>(permit: &Permit<A>) -> Self {
        match permit.view() {
            auth::View::Live => Self::Live,
        }
    }
}
