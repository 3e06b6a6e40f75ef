//! From method and path to an operation: the only reading of a `/v2` path, pure, on the raw path, before anything else happens.

use http::Method;
use storage::{Digest, NameError, Reference, RepositoryName};

use crate::access::Access;

/// What a request asks for. Each `/v2` variant names its end-point in the distribution-spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// `GET /`: name, version, documentation.
    Root,
    /// `GET /healthz`.
    Health,
    /// `GET /readyz`.
    Ready,
    /// `GET /v2/` (end-1).
    Ping,
    /// `GET /v2/_catalog` (distribution's extension): the repositories of the asker's own account.
    Catalog,
    /// `GET /v2/<name>/blobs/<digest>` (end-2).
    BlobGet(RepositoryName, Digest),
    /// `HEAD /v2/<name>/blobs/<digest>` (end-2).
    BlobHead(RepositoryName, Digest),
    /// `DELETE /v2/<name>/blobs/<digest>` (end-10).
    BlobDelete(RepositoryName, Digest),
    /// `GET /v2/<name>/manifests/<reference>` (end-3).
    ManifestGet(RepositoryName, Reference),
    /// `HEAD /v2/<name>/manifests/<reference>` (end-3).
    ManifestHead(RepositoryName, Reference),
    /// `PUT /v2/<name>/manifests/<reference>` (end-7a, end-7b).
    ManifestPut(RepositoryName, Reference),
    /// `DELETE /v2/<name>/manifests/<reference>` (end-9).
    ManifestDelete(RepositoryName, Reference),
    /// `POST /v2/<name>/blobs/uploads/` (end-4a to end-4c, end-11).
    UploadOpen(RepositoryName),
    /// `GET` of an upload's location (end-13).
    UploadStatus(RepositoryName, String),
    /// `PATCH` of an upload's location (end-5).
    UploadAppend(RepositoryName, String),
    /// `PUT` of an upload's location (end-6).
    UploadCommit(RepositoryName, String),
    /// `DELETE` of an upload's location (end-14).
    UploadCancel(RepositoryName, String),
    /// `GET /v2/<name>/tags/list` (end-8a, end-8b).
    Tags(RepositoryName),
    /// `GET /v2/<name>/referrers/<digest>` (end-12a, end-12b).
    Referrers(RepositoryName, Digest),
    /// `GET /token` (the distribution token protocol).
    TokenGet,
    /// `POST /token` (the same as an OAuth 2 form).
    TokenPost,
    /// `POST /api/v1/exchange` (RFC 8693): beside the API, because no key is presented.
    Exchange,
    /// `GET /.well-known/jwks.json`.
    Jwks,
    /// Anything under `/api/v1`, which has operations of its own ([`crate::api::ApiOperation`]).
    Api,
}

/// The names of the operations, for metrics, spans and the isolation matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OperationKind {
    /// [`Operation::Root`]
    Root,
    /// [`Operation::Health`]
    Health,
    /// [`Operation::Ready`]
    Ready,
    /// [`Operation::Ping`]
    Ping,
    /// [`Operation::Catalog`]
    Catalog,
    /// [`Operation::BlobGet`]
    BlobGet,
    /// [`Operation::BlobHead`]
    BlobHead,
    /// [`Operation::BlobDelete`]
    BlobDelete,
    /// [`Operation::ManifestGet`]
    ManifestGet,
    /// [`Operation::ManifestHead`]
    ManifestHead,
    /// [`Operation::ManifestPut`]
    ManifestPut,
    /// [`Operation::ManifestDelete`]
    ManifestDelete,
    /// [`Operation::UploadOpen`]
    UploadOpen,
    /// [`Operation::UploadStatus`]
    UploadStatus,
    /// [`Operation::UploadAppend`]
    UploadAppend,
    /// [`Operation::UploadCommit`]
    UploadCommit,
    /// [`Operation::UploadCancel`]
    UploadCancel,
    /// [`Operation::Tags`]
    Tags,
    /// [`Operation::Referrers`]
    Referrers,
    /// [`Operation::TokenGet`]
    TokenGet,
    /// [`Operation::TokenPost`]
    TokenPost,
    /// [`Operation::Exchange`]
    Exchange,
    /// [`Operation::Jwks`]
    Jwks,
    /// [`Operation::Api`]
    Api,
}

impl OperationKind {
    /// Every kind; the isolation matrix has a row for each.
    pub const ALL: [Self; 24] = [
        Self::Root,
        Self::Health,
        Self::Ready,
        Self::Ping,
        Self::Catalog,
        Self::BlobGet,
        Self::BlobHead,
        Self::BlobDelete,
        Self::ManifestGet,
        Self::ManifestHead,
        Self::ManifestPut,
        Self::ManifestDelete,
        Self::UploadOpen,
        Self::UploadStatus,
        Self::UploadAppend,
        Self::UploadCommit,
        Self::UploadCancel,
        Self::Tags,
        Self::Referrers,
        Self::TokenGet,
        Self::TokenPost,
        Self::Exchange,
        Self::Jwks,
        Self::Api,
    ];

    /// Its name in logs and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Health => "health",
            Self::Ready => "ready",
            Self::Ping => "ping",
            Self::Catalog => "catalog",
            Self::BlobGet => "blob_get",
            Self::BlobHead => "blob_head",
            Self::BlobDelete => "blob_delete",
            Self::ManifestGet => "manifest_get",
            Self::ManifestHead => "manifest_head",
            Self::ManifestPut => "manifest_put",
            Self::ManifestDelete => "manifest_delete",
            Self::UploadOpen => "upload_open",
            Self::UploadStatus => "upload_status",
            Self::UploadAppend => "upload_append",
            Self::UploadCommit => "upload_commit",
            Self::UploadCancel => "upload_cancel",
            Self::Tags => "tags",
            Self::Referrers => "referrers",
            Self::TokenGet => "token_get",
            Self::TokenPost => "token_post",
            Self::Exchange => "exchange",
            Self::Jwks => "jwks",
            Self::Api => "api",
        }
    }

    /// The right it needs.
    pub const fn access(self) -> Access {
        match self {
            Self::Root | Self::Health | Self::Ready | Self::Jwks => Access::Open,
            Self::Ping => Access::V2Ping,
            Self::Catalog => Access::Catalog,
            Self::BlobGet | Self::BlobHead | Self::ManifestGet | Self::ManifestHead | Self::Tags | Self::Referrers => {
                Access::RepoRead
            }
            Self::ManifestPut | Self::UploadOpen => Access::RepoWrite,
            Self::BlobDelete | Self::ManifestDelete => Access::RepoDelete,
            Self::UploadStatus | Self::UploadAppend | Self::UploadCommit | Self::UploadCancel => Access::Upload,
            Self::TokenGet | Self::TokenPost => Access::Token,
            Self::Exchange => Access::Exchange,
            Self::Api => Access::Api,
        }
    }
}

impl Operation {
    /// Its name.
    pub const fn kind(&self) -> OperationKind {
        match self {
            Self::Root => OperationKind::Root,
            Self::Health => OperationKind::Health,
            Self::Ready => OperationKind::Ready,
            Self::Ping => OperationKind::Ping,
            Self::Catalog => OperationKind::Catalog,
            Self::BlobGet(..) => OperationKind::BlobGet,
            Self::BlobHead(..) => OperationKind::BlobHead,
            Self::BlobDelete(..) => OperationKind::BlobDelete,
            Self::ManifestGet(..) => OperationKind::ManifestGet,
            Self::ManifestHead(..) => OperationKind::ManifestHead,
            Self::ManifestPut(..) => OperationKind::ManifestPut,
            Self::ManifestDelete(..) => OperationKind::ManifestDelete,
            Self::UploadOpen(_) => OperationKind::UploadOpen,
            Self::UploadStatus(..) => OperationKind::UploadStatus,
            Self::UploadAppend(..) => OperationKind::UploadAppend,
            Self::UploadCommit(..) => OperationKind::UploadCommit,
            Self::UploadCancel(..) => OperationKind::UploadCancel,
            Self::Tags(_) => OperationKind::Tags,
            Self::Referrers(..) => OperationKind::Referrers,
            Self::TokenGet => OperationKind::TokenGet,
            Self::TokenPost => OperationKind::TokenPost,
            Self::Exchange => OperationKind::Exchange,
            Self::Jwks => OperationKind::Jwks,
            Self::Api => OperationKind::Api,
        }
    }

    /// The repository that it names.
    pub const fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::BlobGet(name, _)
            | Self::BlobHead(name, _)
            | Self::BlobDelete(name, _)
            | Self::ManifestGet(name, _)
            | Self::ManifestHead(name, _)
            | Self::ManifestPut(name, _)
            | Self::ManifestDelete(name, _)
            | Self::UploadOpen(name)
            | Self::UploadStatus(name, _)
            | Self::UploadAppend(name, _)
            | Self::UploadCommit(name, _)
            | Self::UploadCancel(name, _)
            | Self::Tags(name)
            | Self::Referrers(name, _) => Some(name),
            Self::Root
            | Self::Health
            | Self::Ready
            | Self::Ping
            | Self::Catalog
            | Self::TokenGet
            | Self::TokenPost
            | Self::Exchange
            | Self::Jwks
            | Self::Api => None,
        }
    }
}

/// Why a method and path are no operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteError {
    /// No end-point has this path. `v2`: it lies under `/v2/`, where strangers are told to authenticate first.
    NotFound {
        /// Whether the path is under `/v2/`.
        v2: bool,
    },
    /// The end-point has other methods.
    Method {
        /// They, for the `Allow` header.
        allow: &'static str,
        /// Whether the path is under `/v2/`.
        v2: bool,
    },
    /// The repository name is not one; with credentials and without.
    Name(NameError),
    /// The name has one segment: the most frequent mistake of all, answered with the way out.
    OneSegment(String),
    /// The tag or digest is not one.
    Reference(NameError),
    /// The digest is not one.
    Digest(NameError),
}

/// Reads a request's method and raw path.
pub fn parse(method: &Method, path: &str) -> Result<Operation, RouteError> {
    let only_get = |operation| match *method {
        Method::GET | Method::HEAD => Ok(operation),
        _ => Err(RouteError::Method { allow: "GET, HEAD", v2: false }),
    };
    match path {
        "/" => return only_get(Operation::Root),
        "/healthz" => return only_get(Operation::Health),
        "/readyz" => return only_get(Operation::Ready),
        "/.well-known/jwks.json" => return only_get(Operation::Jwks),
        "/token" => {
            return match *method {
                Method::GET => Ok(Operation::TokenGet),
                Method::POST => Ok(Operation::TokenPost),
                _ => Err(RouteError::Method { allow: "GET, POST", v2: false }),
            };
        }
        "/api/v1/exchange" => {
            return match *method {
                Method::POST => Ok(Operation::Exchange),
                _ => Err(RouteError::Method { allow: "POST", v2: false }),
            };
        }
        "/v2" | "/v2/" => {
            return match *method {
                Method::GET | Method::HEAD => Ok(Operation::Ping),
                _ => Err(RouteError::Method { allow: "GET, HEAD", v2: true }),
            };
        }
        _ => {}
    }
    if path == "/api/v1" || path.starts_with("/api/v1/") {
        return Ok(Operation::Api);
    }
    match path.strip_prefix("/v2/") {
        Some(rest) => repository_path(method, rest),
        None => Err(RouteError::NotFound { v2: false }),
    }
}

/// `<name>/<what>/<which>`: the end decides what it is, so a repository may be called `blobs` or `tags`.
fn repository_path(method: &Method, rest: &str) -> Result<Operation, RouteError> {
    let wrong_method = |allow| Err(RouteError::Method { allow, v2: true });
    if rest == "_catalog" {
        return match *method {
            Method::GET => Ok(Operation::Catalog),
            _ => wrong_method("GET"),
        };
    }
    if let Some(raw) = rest.strip_suffix("/tags/list") {
        let name = name(raw)?;
        return match *method {
            Method::GET => Ok(Operation::Tags(name)),
            _ => wrong_method("GET"),
        };
    }
    if let Some(raw) = rest.strip_suffix("/blobs/uploads/").or_else(|| rest.strip_suffix("/blobs/uploads")) {
        let name = name(raw)?;
        return match *method {
            Method::POST => Ok(Operation::UploadOpen(name)),
            _ => wrong_method("POST"),
        };
    }
    let Some((head, last)) = rest.rsplit_once('/') else { return Err(RouteError::NotFound { v2: true }) };
    if let Some(raw) = head.strip_suffix("/blobs/uploads") {
        let (name, id) = (name(raw)?, last.to_owned());
        return match *method {
            Method::GET => Ok(Operation::UploadStatus(name, id)),
            Method::PATCH => Ok(Operation::UploadAppend(name, id)),
            Method::PUT => Ok(Operation::UploadCommit(name, id)),
            Method::DELETE => Ok(Operation::UploadCancel(name, id)),
            _ => wrong_method("GET, PATCH, PUT, DELETE"),
        };
    }
    // Some clients encode the colon of a digest; nothing else in a path is ever decoded.
    let last = last.replace("%3A", ":").replace("%3a", ":");
    if let Some(raw) = head.strip_suffix("/manifests") {
        let name = name(raw)?;
        let reference = last.parse().map_err(|error| {
            if last.contains(':') { RouteError::Digest(error) } else { RouteError::Reference(error) }
        })?;
        return match *method {
            Method::GET => Ok(Operation::ManifestGet(name, reference)),
            Method::HEAD => Ok(Operation::ManifestHead(name, reference)),
            Method::PUT => Ok(Operation::ManifestPut(name, reference)),
            Method::DELETE => Ok(Operation::ManifestDelete(name, reference)),
            _ => wrong_method("GET, HEAD, PUT, DELETE"),
        };
    }
    if let Some(raw) = head.strip_suffix("/blobs") {
        let (name, digest) = (name(raw)?, last.parse().map_err(RouteError::Digest)?);
        return match *method {
            Method::GET => Ok(Operation::BlobGet(name, digest)),
            Method::HEAD => Ok(Operation::BlobHead(name, digest)),
            Method::DELETE => Ok(Operation::BlobDelete(name, digest)),
            _ => wrong_method("GET, HEAD, DELETE"),
        };
    }
    if let Some(raw) = head.strip_suffix("/referrers") {
        let (name, digest) = (name(raw)?, last.parse().map_err(RouteError::Digest)?);
        return match *method {
            Method::GET => Ok(Operation::Referrers(name, digest)),
            _ => wrong_method("GET"),
        };
    }
    Err(RouteError::NotFound { v2: true })
}

fn name(raw: &str) -> Result<RepositoryName, RouteError> {
    raw.parse().map_err(|error| match raw.parse::<storage::AccountName>() {
        Ok(segment) => RouteError::OneSegment(segment.to_string()),
        Err(_) => RouteError::Name(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Result<Operation, RouteError> {
        parse(&Method::GET, path)
    }

    #[test]
    fn a_repository_may_be_called_like_a_part_of_the_path() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for name in
            ["acme/blobs", "acme/manifests", "acme/tags", "acme/tags/list", "acme/blobs/uploads", "acme/referrers"]
        {
            let parsed: RepositoryName = name.parse().unwrap();
            assert_eq!(get(&format!("/v2/{name}/tags/list")), Ok(Operation::Tags(parsed.clone())));
            let by_digest = get(&format!("/v2/{name}/blobs/{digest}"));
            assert_eq!(by_digest, Ok(Operation::BlobGet(parsed.clone(), digest.parse().unwrap())));
            let by_tag = get(&format!("/v2/{name}/manifests/list"));
            assert_eq!(by_tag, Ok(Operation::ManifestGet(parsed, "list".parse().unwrap())));
        }
    }

    #[test]
    fn path_tricks_are_no_names() {
        for bad in ["acme/../beta", "acme/%2e%2e/beta", "acme%2fweb", "acme//web", "Acme/web", "acme/web/", "/acme/web"]
        {
            let answer = get(&format!("/v2/{bad}/tags/list"));
            assert!(matches!(answer, Err(RouteError::Name(_))), "{bad}: {answer:?}");
        }
        let long = format!("acme/{}", "a".repeat(300));
        assert!(matches!(get(&format!("/v2/{long}/tags/list")), Err(RouteError::Name(_))));
        assert_eq!(get("/v2/hello/tags/list"), Err(RouteError::OneSegment("hello".into())));
    }

    #[test]
    fn an_encoded_colon_is_a_colon() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let encoded = digest.replace(':', "%3A");
        assert_eq!(get(&format!("/v2/acme/web/blobs/{encoded}")), get(&format!("/v2/acme/web/blobs/{digest}")));
    }

    #[test]
    fn what_no_end_point_has_is_told_apart() {
        assert_eq!(get("/v2/acme/web/nothing/here"), Err(RouteError::NotFound { v2: true }));
        assert_eq!(get("/nothing"), Err(RouteError::NotFound { v2: false }));
        let wrong = parse(&Method::POST, "/v2/acme/web/tags/list");
        assert_eq!(wrong, Err(RouteError::Method { allow: "GET", v2: true }));
    }
}
