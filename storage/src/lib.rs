//! What is kept: blobs, manifests, tags, referrers and the records of the layers above, on one object store or one folder.
//!
//! Storage knows no HTTP and no credential. What it promises:
//!
//! - the store is the only state; any process may die at any instant and any other may go on;
//! - what was acknowledged survives a power cut;
//! - nothing is readable under a digest that its bytes do not hash to;
//! - every call of an account takes a typed [`Account`] or a capability over a [`Repository`], and every key lies under the
//!   account's generation: there is no function that reads across accounts;
//! - a blob is never in memory whole, and a commit never copies it;
//! - what goes by itself ([`gc`], [`trash`], [`sweep`]) is never what a manifest names, a promise keeps or somebody uses.
//!
//! Start at [`backend`] for the two seams, [`key`] for the layout, [`upload`] for how bytes come in.

pub mod backend;
pub mod blob;
pub mod clock;
pub mod copy;
mod error;
pub mod format;
pub mod gate;
pub mod gc;
pub mod generation;
mod hash;
pub mod key;
mod lives;
pub mod manifest;
mod member;
mod name;
pub mod record;
pub mod referrer;
pub mod repository;
pub mod retention;
mod store;
pub mod stream;
pub mod sweep;
pub mod tag;
pub mod trash;
pub mod upload;
pub mod usage;
pub mod verify;
pub mod work;

pub use clock::{Clock, Time};
pub use error::{Error, Source};
pub use lives::Lives;
pub use member::{hint, mount};
pub use name::{
    Account, AccountName, Algorithm, Digest, Generation, NameError, Opener, Reference, Repository, RepositoryName, Tag,
    UploadId, UploadKeys, random_text,
};

pub use store::{Settings, Store};

/// The right to read a repository. `auth`'s permits yield it; nothing else may make one (`clippy.toml`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readable(Repository);

/// The right to read and write a repository, promises included, within its account's quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writable {
    repository: Repository,
    quota: Option<u64>,
}

/// The right to delete from a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletable(Repository);

macro_rules! capability {
    ($($name:ident),*) => {$(
        impl $name {
            /// Wraps a repository that the caller was permitted to use so.
            pub fn new(repository: Repository) -> Self {
                Self(repository)
            }

            /// The repository.
            pub fn repository(&self) -> &Repository {
                &self.0
            }
        }
    )*};
}
capability!(Readable, Deletable);

impl Writable {
    /// Wraps a repository that the caller was permitted to use so; its account has no quota.
    pub fn new(repository: Repository) -> Self {
        Self { repository, quota: None }
    }

    /// The same with what the account may use, in bytes; `None`: there is no quota.
    #[must_use]
    pub fn within(self, quota: Option<u64>) -> Self {
        Self { quota, ..self }
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// What the account may use, in bytes.
    pub fn quota(&self) -> Option<u64> {
        self.quota
    }

    /// Whoever may write may read.
    pub fn readable(&self) -> Readable {
        Readable(self.repository.clone())
    }
}
