//! The rights that operations need: the columns of the isolation matrix.

/// What an operation needs. Closed: a new operation does not compile until it says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Nothing.
    Open,
    /// A credential that logs in, to be given a token.
    Token,
    /// A token of an issuer that an account trusts, to be given a credential.
    Exchange,
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
    /// A living key of any kind; the API's own operations say what more ([`crate::api::ApiOperation`]).
    Api,
    /// To read in an account: a key of it. Which roles, and whether an operator key: [`auth::Right`].
    AccountRead,
    /// To change an account, what is public in it, or its repositories: its owner. Who else: [`auth::Right`].
    AccountWrite,
    /// To make and end access keys and trust policies: an owner's key.
    KeyAdmin,
    /// To mint and end credentials: what the key's role and patterns allow.
    Mint,
    /// To open a session: an access key; to have one: the session.
    Session,
    /// An operator key.
    Operator,
}
