//! One suite per trait, for every backend.
