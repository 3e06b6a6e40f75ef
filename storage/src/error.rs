//! The outcomes of storage: what a caller can act on. Causes stay in `source`, for the log.

use crate::{AccountName, Digest, NameError, Tag, usage::size};

/// A boxed cause.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// The answer of an operation that did not do what it was asked.
///
/// `registry` has the one match from these to status and code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The repository does not exist.
    #[error("repository not known")]
    NoRepository,
    /// The repository has no such manifest or tag.
    #[error("manifest not known")]
    NoManifest,
    /// The repository does not contain the blob.
    #[error("blob not known")]
    NoBlob,
    /// The upload id is not one of this repository, or its session has ended.
    #[error("upload session not known: it ended, expired or belongs to another repository")]
    NoUpload,
    /// A manifest names a blob that the repository does not contain.
    #[error("the manifest names {digest}, which this repository does not contain; push it first")]
    NoReference {
        /// The absent blob.
        digest: Digest,
    },
    /// The bytes do not hash to the digest they were sent under.
    #[error("the content hashes to {actual}, not to {expected}")]
    DigestMismatch {
        /// The digest that the client gave.
        expected: Digest,
        /// The digest of what arrived.
        actual: Digest,
    },
    /// A manifest, media type or digest that is not well formed; the text says what and where.
    #[error("{0}")]
    Invalid(String),
    /// A chunk that does not start where the session stands, or another writer holds the session.
    #[error("the session holds {have} bytes; ask for its status and go on from there")]
    Gap {
        /// Bytes that the session holds.
        have: u64,
    },
    /// More than a limit allows; the text names the limit.
    #[error("{0}")]
    TooLarge(String),
    /// A chunk outside the size limits; the text names the limit.
    #[error("{0}")]
    ChunkSize(String),
    /// A published version pins it.
    #[error("pinned by the published version {by}; delete that version first")]
    Pinned {
        /// `package@version`.
        by: String,
    },
    /// The whole store is read-only.
    #[error("this registry is read-only")]
    ReadOnly,
    /// The repository's settings do not let this tag move or go.
    #[error("tag {tag} is immutable in this repository; change that setting first")]
    Immutable {
        /// The tag.
        tag: Tag,
    },
    /// The account's quota does not allow the bytes that were to come.
    #[error(
        "account {account} uses {} of its quota of {} and cannot take this: delete what is not needed, or have the operator raise \
         the quota (hythe account set {account} --quota SIZE)",
        size(*used), size(*limit)
    )]
    QuotaExceeded {
        /// The account.
        account: AccountName,
        /// Bytes that it uses.
        used: u64,
        /// Bytes that it may use.
        limit: u64,
    },
    /// The account has too many uploads that were begun and not finished.
    #[error(
        "account {account} has {limit} unfinished uploads here, the most it may have: finish or cancel them; one that nobody goes \
         on with counts for an hour"
    )]
    TooManyUploads {
        /// The account.
        account: AccountName,
        /// The most.
        limit: usize,
    },
    /// The repository is being deleted.
    #[error("this repository is being deleted; push again when that is done")]
    Deleting,
    /// The disk reserve is reached.
    #[error("the registry's disk is full; free space and push again")]
    Full,
    /// Compare-and-swap lost: somebody else changed the record, or it exists already.
    #[error("changed by somebody else meanwhile")]
    Conflict,
    /// The record is no longer what the caller saw.
    #[error("changed by somebody else meanwhile: read it again")]
    Stale {
        /// How often it has been written: what the caller has to have seen.
        rev: u64,
    },
    /// The store cannot be used now: away, of a newer layout, or too contended.
    #[error("the store is not available")]
    Unavailable(#[source] Source),
    /// Nobody can say whether a write was applied.
    #[error("the outcome of a write is unknown")]
    Unknown(#[source] Source),
    /// What is stored is not what was written.
    #[error("stored data is damaged: {what}")]
    Corrupt {
        /// What was found wrong, for the log.
        what: String,
    },
    /// The store refuses to open; one line for the operator, with the way out.
    #[error("{0}")]
    Refused(String),
}

impl Error {
    /// Wraps a cause as [`Error::Unavailable`].
    pub fn unavailable(cause: impl Into<Source>) -> Self {
        Self::Unavailable(cause.into())
    }

    /// Wraps a cause as [`Error::Unknown`].
    pub fn unknown(cause: impl Into<Source>) -> Self {
        Self::Unknown(cause.into())
    }

    /// Damage, described for the log.
    pub fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into() }
    }
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        Self::Invalid(error.to_string())
    }
}
