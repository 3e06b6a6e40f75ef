use storage::{AccountName, NameError};

use crate::refusal::Refusal;

/// One field of a request that cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// JSON pointer to the field.
    pub field: String,
    /// What is wrong with it and what would be right.
    pub message: String,
}

impl Invalid {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// The outcomes of keeping accounts, keys and credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The actor may not, or not now.
    #[error("refused: {}", .0.text("this registry"))]
    Refused(Refusal),
    /// There is no such account, key or credential within the actor's reach.
    #[error("{what} not known")]
    NotFound {
        /// `account`, `access key`, `operator key` or `credential`.
        what: &'static str,
    },
    /// An account of this name lives.
    #[error("account {name} exists")]
    Taken {
        /// The name.
        name: AccountName,
    },
    /// A name that one account cannot have, because another has it. Told to operators.
    #[error("account {account} cannot have the host {host}: it is account {owner}'s")]
    HostTaken {
        /// The name.
        host: String,
        /// Who cannot have it.
        account: AccountName,
        /// Who has it.
        owner: AccountName,
    },
    /// Fields that cannot be accepted, all of them at once.
    #[error("{}", .0.first().map_or("not valid", |i| i.message.as_str()))]
    Invalid(Vec<Invalid>),
    /// The record is no longer what `If-Match` named.
    #[error("changed by somebody else meanwhile: read it again")]
    Changed {
        /// The record's `rev` now.
        rev: u64,
    },
    /// More than a limit allows; the text names the limit.
    #[error("{0}")]
    Limit(String),
    /// What the records say cannot be used by this process; one line for the operator, with the way out.
    #[error("{0}")]
    CannotOpen(String),
    /// It was done, and could not be written down: its caller is not told that it was done, and asks again.
    #[error("the audit could not be written, so this call is not confirmed; repeat it")]
    NotAudited(#[source] storage::Error),
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] storage::Error),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unavailable(error) => Self::Store(error),
            other => Self::Refused(other),
        }
    }
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        Self::Invalid(vec![Invalid::new("/name", error.to_string())])
    }
}
