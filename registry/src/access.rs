//! The rights that operations need: the columns of the isolation matrix.

/// What an operation needs. Closed: a new operation does not compile until it says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Nothing.
    Open,
    /// A credential that logs in, to be given a token.
    Token,
    /// Any living credential or token.
    V2Ping,
    /// `pull` on the repository.
    RepoRead,
    /// `push` on the repository.
    RepoWrite,
    /// `delete` on the repository.
    RepoDelete,
    /// `push` on the repository of an upload session, or to have opened it.
    Upload,
    /// The whole account.
    Catalog,
    /// What the operation of the API says ([`crate::api::ApiOperation`]).
    Api,
    /// To read an account: any of its keys, or an operator key.
    AccountRead,
    /// To change an account: its owner, or an operator key.
    AccountWrite,
    /// To make and end access keys: an owner's key.
    KeyAdmin,
    /// To mint and end credentials: what the key's role and patterns allow.
    Mint,
    /// An operator key.
    Operator,
}
