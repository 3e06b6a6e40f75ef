//! What must happen, written from the rules and from nothing that implements them: one row for each kind of caller, one column
//! for each right.

use registry::{access::Access, oci::route::OperationKind};

/// Who asks: the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Principal {
    /// Nothing presented that means anything here, a cookie included.
    Nobody,
    /// Basic that is wrong in any way, or another scheme.
    WrongBasic,
    /// Basic of a credential that is dead.
    DeadBasic,
    /// Bearer of a credential that is dead, or a token whose time is over.
    DeadBearer,
    /// A Bearer that this registry did not sign, or not like this.
    ForgedBearer,
    /// A pull credential for the whole account.
    PullBasic,
    /// A token of it for this repository.
    PullToken,
    /// A token of it for another repository.
    PullTokenElsewhere,
    /// A token of it for nothing.
    PullTokenEmpty,
    /// A token of it for the catalog.
    CatalogToken,
    /// A token of a pull credential for a part of the account, this repository among it.
    PartToken,
    /// A push credential without delete.
    PushBasic,
    /// A token of it for all it may.
    PushToken,
    /// A token of it to pull.
    PushTokenToPull,
    /// A token of it for nothing.
    PushTokenEmpty,
    /// A push credential with delete.
    DeleteBasic,
    /// A token of it for all it may.
    DeleteToken,
    /// A token of it to push.
    DeleteTokenToPush,
    /// A token of it for nothing.
    DeleteTokenEmpty,
    /// A credential of this account that does not cover the repository.
    OutsideBasic,
    /// A token of it.
    OutsideToken,
    /// A living credential of another account.
    StrangerBasic,
    /// A token of it.
    StrangerToken,
    /// A token that anybody may have.
    AnonymousToken,
    /// A living credential from an address that is not allowed.
    AwayBasic,
    /// A token of it, from there.
    AwayBearer,
    /// A push credential with delete while the account, or the server, is read-only.
    FrozenBasic,
    /// A token of it.
    FrozenToken,
    /// An access key, an operator key or a session as a password.
    KeyBasic,
    /// The same as a Bearer.
    KeyBearer,
    /// A living session of the console, in its cookie.
    SessionCookie,
    /// An expired push token at the sessions that its own credential opened.
    ExpiredOwnSession,
}

impl Principal {
    pub(super) const ALL: [Self; 32] = [
        Self::Nobody,
        Self::WrongBasic,
        Self::DeadBasic,
        Self::DeadBearer,
        Self::ForgedBearer,
        Self::PullBasic,
        Self::PullToken,
        Self::PullTokenElsewhere,
        Self::PullTokenEmpty,
        Self::CatalogToken,
        Self::PartToken,
        Self::PushBasic,
        Self::PushToken,
        Self::PushTokenToPull,
        Self::PushTokenEmpty,
        Self::DeleteBasic,
        Self::DeleteToken,
        Self::DeleteTokenToPush,
        Self::DeleteTokenEmpty,
        Self::OutsideBasic,
        Self::OutsideToken,
        Self::StrangerBasic,
        Self::StrangerToken,
        Self::AnonymousToken,
        Self::AwayBasic,
        Self::AwayBearer,
        Self::FrozenBasic,
        Self::FrozenToken,
        Self::KeyBasic,
        Self::KeyBearer,
        Self::SessionCookie,
        Self::ExpiredOwnSession,
    ];

    /// As the page calls it.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::WrongBasic => "Basic that is wrong",
            Self::DeadBasic => "Basic of a dead credential",
            Self::DeadBearer => "Bearer that is dead",
            Self::ForgedBearer => "Bearer that is forged",
            Self::PullBasic => "pull credential",
            Self::PullToken => "pull token, this repository",
            Self::PullTokenElsewhere => "pull token, another repository of the credential's",
            Self::PullTokenEmpty => "token without scope of a pull credential",
            Self::CatalogToken => "catalog token of a pull credential",
            Self::PartToken => "pull token, credential for a part of the account",
            Self::PushBasic => "push credential",
            Self::PushToken => "push token",
            Self::PushTokenToPull => "pull token of a push credential",
            Self::PushTokenEmpty => "token without scope of a push credential",
            Self::DeleteBasic => "push credential with delete",
            Self::DeleteToken => "push and delete token",
            Self::DeleteTokenToPush => "push token, credential has delete",
            Self::DeleteTokenEmpty => "token without scope, credential has delete",
            Self::OutsideBasic => "credential that does not cover the repository",
            Self::OutsideToken => "token of such a credential",
            Self::StrangerBasic => "credential of another account",
            Self::StrangerToken => "token of another account",
            Self::AnonymousToken => "anonymous token",
            Self::AwayBasic => "credential, address not allowed",
            Self::AwayBearer => "token, address not allowed",
            Self::FrozenBasic => "credential, account or server read-only",
            Self::FrozenToken => "token, account or server read-only",
            Self::KeyBasic => "access key, operator key or session as a password",
            Self::KeyBearer => "access key, operator key or session as a Bearer",
            Self::SessionCookie => "session of the console, in its cookie",
            Self::ExpiredOwnSession => "expired push token, at an upload that it opened",
        }
    }
}

/// What is asked for: whose repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// A private repository of the row's account.
    Own,
    /// A public one of it.
    Public,
    /// A private repository of an account that no row is of.
    Other,
}

impl Place {
    pub(super) const ALL: [Self; 3] = [Self::Own, Self::Public, Self::Other];
}

/// The name that it is asked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Door {
    /// One of the registry's own.
    Registry,
    /// One of the row's account.
    Own,
    /// One that another account was given, which no row is of.
    Foreign,
    /// One that an account would have that does not exist.
    Nobodys,
}

impl Door {
    pub(super) const ALL: [Self; 4] = [Self::Registry, Self::Own, Self::Foreign, Self::Nobodys];
}

/// What must come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// What was asked for, or that it is not there.
    Served,
    /// A token for these actions.
    Granted(&'static str),
    /// 401 and the challenge, without `error`.
    Login,
    /// 401 and the challenge with `error="invalid_token"`.
    Invalid,
    /// 401 and the challenge with `error="insufficient_scope"`.
    Scope,
    /// 401 of the token end-point, with a Basic challenge.
    Wrong,
    /// 403: the name is outside the credential's patterns.
    Reach,
    /// 403: a pull credential does not push.
    Kind,
    /// 403: a credential without delete does not delete.
    NoDelete,
    /// 403: not from this address.
    Address,
    /// 403: the catalog needs the whole account.
    Whole,
    /// 403: the host is another account's.
    Host,
    /// 405: read-only.
    Frozen,
}

impl Verdict {
    /// As the page shows it.
    pub(super) fn cell(self) -> &'static str {
        match self {
            Self::Served => "**yes**",
            Self::Granted("") => "200, empty grant",
            Self::Granted("pull") => "200: pull",
            Self::Granted("pull,push") => "200: pull, push",
            Self::Granted(_) => "200: pull, push, delete",
            Self::Login | Self::Wrong => "401",
            Self::Invalid => "401 `invalid_token`",
            Self::Scope => "401 `insufficient_scope`",
            Self::Reach | Self::Kind | Self::NoDelete | Self::Address | Self::Whole | Self::Host => "403",
            Self::Frozen => "405",
        }
    }

    /// Whether nothing of what was asked for was done, decided without looking.
    pub(super) const fn refuses(self) -> bool {
        !matches!(self, Self::Served | Self::Granted(_))
    }
}

/// The heads of the columns of [`row`].
pub(super) const COLUMNS: [&str; 9] = [
    "`/v2/`",
    "read",
    "write",
    "delete",
    "upload session",
    "read, public repository",
    "another account's",
    "`_catalog`",
    "`/token`",
];

/// One row: [`COLUMNS`] for the row's own account. «Another account's» holds for every right there.
pub(super) const fn row(principal: Principal) -> [Verdict; 9] {
    use Principal as P;
    use Verdict::{Address, Frozen, Granted, Invalid, Kind, Login, NoDelete, Reach, Scope, Served, Whole, Wrong};
    match principal {
        // /v2/, read, write, delete, upload session, public read, another account's, catalog, /token
        P::Nobody | P::SessionCookie => [Login, Login, Login, Login, Login, Served, Login, Login, Wrong],
        P::WrongBasic | P::DeadBasic | P::KeyBasic => [Login, Login, Login, Login, Login, Login, Login, Login, Wrong],
        P::DeadBearer | P::ForgedBearer | P::KeyBearer => {
            [Invalid, Invalid, Invalid, Invalid, Invalid, Invalid, Invalid, Invalid, Wrong]
        }
        P::PullBasic => [Served, Served, Kind, NoDelete, Kind, Served, Reach, Served, Granted("pull")],
        P::PullToken => [Served, Served, Kind, NoDelete, Kind, Served, Reach, Scope, Wrong],
        P::PullTokenElsewhere | P::PullTokenEmpty => [Served, Scope, Kind, NoDelete, Kind, Served, Reach, Scope, Wrong],
        P::CatalogToken => [Served, Scope, Kind, NoDelete, Kind, Served, Reach, Served, Wrong],
        P::PartToken => [Served, Served, Kind, NoDelete, Kind, Served, Reach, Whole, Wrong],
        P::PushBasic => [Served, Served, Served, NoDelete, Served, Served, Reach, Served, Granted("pull,push")],
        P::PushToken => [Served, Served, Served, NoDelete, Served, Served, Reach, Scope, Wrong],
        P::PushTokenToPull => [Served, Served, Scope, NoDelete, Scope, Served, Reach, Scope, Wrong],
        P::PushTokenEmpty => [Served, Scope, Scope, NoDelete, Scope, Served, Reach, Scope, Wrong],
        P::DeleteBasic => [Served, Served, Served, Served, Served, Served, Reach, Served, Granted("pull,push,delete")],
        P::DeleteToken => [Served, Served, Served, Served, Served, Served, Reach, Scope, Wrong],
        P::DeleteTokenToPush => [Served, Served, Served, Scope, Served, Served, Reach, Scope, Wrong],
        P::DeleteTokenEmpty => [Served, Scope, Scope, Scope, Scope, Served, Reach, Scope, Wrong],
        P::OutsideBasic => [Served, Reach, Reach, Reach, Reach, Served, Reach, Whole, Granted("")],
        P::OutsideToken => [Served, Reach, Reach, Reach, Reach, Served, Reach, Whole, Wrong],
        P::StrangerBasic => [Served, Reach, Reach, Reach, Reach, Served, Reach, Served, Granted("")],
        P::StrangerToken => [Served, Reach, Reach, Reach, Reach, Served, Reach, Scope, Wrong],
        P::AnonymousToken => [Login, Invalid, Invalid, Invalid, Invalid, Served, Invalid, Invalid, Wrong],
        P::AwayBasic => [Address, Address, Address, Address, Address, Address, Address, Address, Address],
        P::AwayBearer => [Address, Address, Address, Address, Address, Address, Address, Address, Wrong],
        P::FrozenBasic => [Served, Served, Frozen, Frozen, Frozen, Served, Reach, Served, Granted("pull,push,delete")],
        P::FrozenToken => [Served, Served, Frozen, Frozen, Frozen, Served, Reach, Scope, Wrong],
        P::ExpiredOwnSession => [Invalid, Invalid, Invalid, Invalid, Served, Invalid, Invalid, Invalid, Wrong],
    }
}

/// The same at a host that is an account's. At its own the row is what it is, and a stranger's own account is nowhere. At any other host
/// nothing is anybody's: neither what is public, nor a catalog, nor a grant.
pub(super) const fn row_at(door: Door, principal: Principal) -> [Verdict; 9] {
    use Principal as P;
    use Verdict::{Granted, Host, Invalid, Login, Reach, Served, Wrong};
    match (door, principal) {
        (Door::Own, P::StrangerBasic) => [Served, Reach, Reach, Reach, Reach, Served, Host, Host, Granted("")],
        (Door::Own, P::StrangerToken) => [Served, Reach, Reach, Reach, Reach, Served, Host, Host, Wrong],
        (Door::Registry | Door::Own, _)
        | (
            Door::Foreign | Door::Nobodys,
            P::WrongBasic
            | P::DeadBasic
            | P::DeadBearer
            | P::ForgedBearer
            | P::AwayBasic
            | P::AwayBearer
            | P::KeyBasic
            | P::KeyBearer,
        ) => row(principal),
        (Door::Foreign | Door::Nobodys, P::Nobody | P::SessionCookie) => {
            [Login, Login, Login, Login, Login, Login, Login, Login, Wrong]
        }
        (Door::Foreign | Door::Nobodys, P::AnonymousToken) => {
            [Login, Invalid, Invalid, Invalid, Invalid, Invalid, Invalid, Invalid, Wrong]
        }
        (Door::Foreign | Door::Nobodys, P::ExpiredOwnSession) => {
            [Invalid, Invalid, Invalid, Invalid, Invalid, Invalid, Invalid, Invalid, Wrong]
        }
        (
            Door::Foreign | Door::Nobodys,
            P::PullBasic | P::PushBasic | P::DeleteBasic | P::OutsideBasic | P::StrangerBasic | P::FrozenBasic,
        ) => [Served, Host, Host, Host, Host, Host, Host, Host, Granted("")],
        (
            Door::Foreign | Door::Nobodys,
            P::PullToken
            | P::PullTokenElsewhere
            | P::PullTokenEmpty
            | P::CatalogToken
            | P::PartToken
            | P::PushToken
            | P::PushTokenToPull
            | P::PushTokenEmpty
            | P::DeleteToken
            | P::DeleteTokenToPush
            | P::DeleteTokenEmpty
            | P::OutsideToken
            | P::StrangerToken
            | P::FrozenToken,
        ) => [Served, Host, Host, Host, Host, Host, Host, Host, Wrong],
    }
}

/// What must happen when `principal` asks at `door` for something that needs `access` at `place`.
pub(super) const fn expected(access: Access, principal: Principal, place: Place, door: Door) -> Verdict {
    let [ping, read, write, delete, upload, public, other, catalog, token] = row_at(door, principal);
    match (access, place) {
        (Access::Open, _) => Verdict::Served,
        (Access::V2Ping, _) => ping,
        (Access::Catalog, _) => catalog,
        (Access::Token, _) => token,
        (Access::RepoRead | Access::RepoWrite | Access::RepoDelete | Access::Upload, Place::Other) => other,
        (Access::RepoRead, Place::Own) => read,
        (Access::RepoRead, Place::Public) => public,
        (Access::RepoWrite, Place::Own | Place::Public) => write,
        (Access::RepoDelete, Place::Own | Place::Public) => delete,
        (Access::Upload, Place::Own) => upload,
        // The sessions of the last row were opened in the private repository.
        (Access::Upload, Place::Public) => match principal {
            Principal::ExpiredOwnSession => Verdict::Invalid,
            _ => upload,
        },
        // Rights of `/api/v1`, where none of these rows but the keys is known; its own table says what they may. An exchange is
        // asked for with a token that none of these rows has.
        (
            Access::Api
            | Access::Exchange
            | Access::AccountRead
            | Access::AccountWrite
            | Access::KeyAdmin
            | Access::Mint
            | Access::Session
            | Access::Operator,
            _,
        ) => Verdict::Login,
    }
}

/// What is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Not even the account, at [`Place::Other`]; elsewhere no repository.
    NoAccount,
    /// No repository.
    NoRepository,
    /// The repository, with other content.
    NoContent,
    /// The content.
    There,
}

impl Stage {
    pub(super) const ALL: [Self; 4] = [Self::NoAccount, Self::NoRepository, Self::NoContent, Self::There];
}

/// Status and, where it is an error, code of what is served.
pub(super) const fn served(kind: OperationKind, stage: Stage) -> (u16, &'static str) {
    use OperationKind as K;
    use Stage::{NoAccount, NoContent, NoRepository, There};
    match (kind, stage) {
        (
            K::Root | K::Health | K::Ready | K::Ping | K::Catalog | K::TokenGet | K::TokenPost | K::Jwks | K::Referrers,
            _,
        )
        | (K::BlobGet | K::BlobHead | K::ManifestGet | K::ManifestHead, There)
        | (K::Tags, There | NoContent) => (200, ""),
        (K::ManifestPut, _) | (K::UploadCommit, There) => (201, ""),
        (K::UploadOpen, _) | (K::UploadAppend | K::BlobDelete | K::ManifestDelete, There) => (202, ""),
        (K::UploadStatus | K::UploadCancel, There) => (204, ""),
        (
            K::UploadStatus | K::UploadAppend | K::UploadCommit | K::UploadCancel,
            NoAccount | NoRepository | NoContent,
        ) => (404, "BLOB_UPLOAD_UNKNOWN"),
        (
            K::BlobGet | K::BlobHead | K::BlobDelete | K::ManifestGet | K::ManifestHead | K::ManifestDelete | K::Tags,
            NoAccount | NoRepository,
        ) => (404, "NAME_UNKNOWN"),
        (K::BlobGet | K::BlobHead | K::BlobDelete, NoContent) => (404, "BLOB_UNKNOWN"),
        (K::ManifestGet | K::ManifestHead | K::ManifestDelete, NoContent) => (404, "MANIFEST_UNKNOWN"),
        // Its operations have a table of their own; an exchange has tests of its own.
        (K::Api | K::Exchange, _) => (404, ""),
    }
}
