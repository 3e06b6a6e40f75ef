//! The storage protocol under a model checker.
//!
//! Nothing but tests: each module is a small model of one part of the protocol of `hythe-storage`, over one shared model of a
//! store (`store`). A model is explored exhaustively within the bounds that its test states: every interleaving of the
//! single requests that its processes send, and since a process that never moves again is a crash, every crash between any two of
//! them. The protocol as it stands must have no counterexample; each *mutant*, the protocol with one rule taken away, must have one.
//!
//! | module | what it is about |
//! | --- | --- |
//! | `account` | the sweep of a deleted account's generation against late writes, and the account made again |
//! | `collect` | collection against push, HEAD, mount and deletion of blobs; trash |
//! | `manifest` | a manifest with its tag and its entry among referrers: push, deletion, publication, retention |
//! | `repository` | the deletion of a repository against pushes and publication |
//! | `tag` | a tag's linearizability under lost answers, late and doubled requests, and tombstones |
//! | `upload` | an upload session on a bucket: claims, takeover, commit, cancellation, sweeper |
//!
//! `cargo test -p hythe-model` explores small bounds; `HYTHE_LONG=1` wider ones. `docs/model.md` has the figures.

#![cfg_attr(
    test,
    expect(
        clippy::cast_possible_truncation,
        clippy::struct_excessive_bools,
        clippy::too_many_lines,
        reason = "numbers are below ten; the program of a process is read as one list"
    )
)]

#[cfg(test)]
mod account;
#[cfg(test)]
mod check;
#[cfg(test)]
mod collect;
#[cfg(test)]
mod manifest;
#[cfg(test)]
mod repository;
#[cfg(test)]
mod store;
#[cfg(test)]
mod tag;
#[cfg(test)]
mod upload;
