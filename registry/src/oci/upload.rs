//! Uploads (end-4, end-5, end-6, end-11, end-13, end-14).

use auth::{Permit, Principal, Pull, Push};
use http::{HeaderMap, HeaderName, Response, StatusCode, header};
use storage::{
    Algorithm, Digest, RepositoryName, Store,
    stream::ByteStream,
    upload::{self, CHUNK_MIN, Incoming},
};

use super::{Answered, CONTENT_DIGEST, Query, empty, range, set, text};
use crate::{
    body::Body,
    error::{Code, Failure},
};

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
const CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

fn session(status: StatusCode, name: &RepositoryName, id: &str, have: u64) -> Response<Body> {
    let mut response = empty(status);
    set(&mut response, header::LOCATION, format!("/v2/{name}/blobs/uploads/{id}"));
    set(&mut response, header::RANGE, range::held(have));
    set(&mut response, UPLOAD_ID, id);
    response
}

fn created(name: &RepositoryName, digest: &Digest) -> Response<Body> {
    let mut response = empty(StatusCode::CREATED);
    set(&mut response, header::LOCATION, format!("/v2/{name}/blobs/{digest}"));
    set(&mut response, CONTENT_DIGEST, digest.as_str());
    response
}

fn length(headers: &HeaderMap) -> Option<u64> {
    text(headers, header::CONTENT_LENGTH)?.parse().ok()
}

fn incoming(headers: &HeaderMap, body: ByteStream) -> Result<Incoming, Failure> {
    let length = length(headers);
    let start = match text(headers, header::CONTENT_RANGE) {
        None => None,
        Some(value) => {
            let bad = |text: &str| Failure::Bad(Code::BlobUploadInvalid, text.to_owned());
            let range = range::chunk(value).ok_or_else(|| bad("Content-Range must be START-END, both included"))?;
            if length.is_some_and(|length| length != range.end - range.start) {
                return Err(bad("Content-Range and Content-Length disagree"));
            }
            Some(range.start)
        }
    };
    Ok(Incoming { body, length, start })
}

/// `POST` (end-4a to end-4c, end-11): a mount if one is asked for and possible, a whole blob if its digest is given, else a
/// session.
pub(crate) async fn open(
    store: &Store,
    who: &Principal,
    permit: &Permit<Push>,
    query: &Query<'_>,
    headers: &HeaderMap,
    body: ByteStream,
) -> Answered {
    let target = permit.repository();
    let name = permit.name();
    if let Some(digest) = query.parsed::<Digest>("mount", Code::DigestInvalid)?
        && let Some(source) = mount_source(store, who, permit, query, &digest).await?
        && storage::mount(store, &target, &source.repository(), &digest).await?.is_some()
    {
        return Ok(created(name, &digest));
    }
    if let Some(digest) = query.parsed::<Digest>("digest", Code::DigestInvalid)? {
        upload::push(store, &target, &digest, permit.opener(), incoming(headers, body)?).await?;
        return Ok(created(name, &digest));
    }
    let algorithm = query.parsed::<Algorithm>("digest-algorithm", Code::DigestInvalid)?;
    let id = upload::open(store, &target, algorithm, permit.opener()).await?;
    let mut response = session(StatusCode::ACCEPTED, name, &id, 0);
    set(&mut response, CHUNK_MIN_LENGTH, CHUNK_MIN.to_string());
    Ok(response)
}

/// The repository to mount from, if this principal may read it. Without that right, and for another account, a mount is not
/// refused: the client gets an ordinary session, and learns nothing.
async fn mount_source(
    store: &Store,
    who: &Principal,
    permit: &Permit<Push>,
    query: &Query<'_>,
    digest: &Digest,
) -> Result<Option<Permit<Pull>>, Failure> {
    let name = match query.first("from").filter(|from| !from.is_empty()) {
        Some(from) => from.parse::<RepositoryName>().ok(),
        None => storage::hint(store, &permit.repository(), digest).await?,
    };
    let name = name.filter(|name| name.account() == permit.name().account());
    Ok(name.and_then(|name| auth::authorize::<Pull>(who, &name).ok()))
}

/// `PATCH` (end-5).
pub(crate) async fn append(
    store: &Store,
    permit: &Permit<Push>,
    id: &str,
    headers: &HeaderMap,
    body: ByteStream,
) -> Answered {
    let target = permit.repository();
    let upload = upload::parse(store, &target, id)?;
    let have = upload::append(store, &target, &upload, incoming(headers, body)?).await?;
    Ok(session(StatusCode::ACCEPTED, permit.name(), id, have))
}

/// `PUT` (end-6).
pub(crate) async fn commit(
    store: &Store,
    permit: &Permit<Push>,
    id: &str,
    query: &Query<'_>,
    headers: &HeaderMap,
    body: ByteStream,
) -> Answered {
    let target = permit.repository();
    let upload = upload::parse(store, &target, id)?;
    let digest = query.parsed::<Digest>("digest", Code::DigestInvalid)?.ok_or_else(|| {
        Failure::Bad(Code::DigestInvalid, "the closing PUT needs the blob's digest: ?digest=sha256:…".into())
    })?;
    upload::commit(store, &target, &upload, &digest, incoming(headers, body)?).await?;
    Ok(created(permit.name(), &digest))
}

/// `GET` (end-13).
pub(crate) async fn status(store: &Store, permit: &Permit<Push>, id: &str) -> Answered {
    let target = permit.repository();
    let upload = upload::parse(store, &target, id)?;
    let have = upload::status(store, &target, &upload).await?;
    Ok(session(StatusCode::NO_CONTENT, permit.name(), id, have))
}

/// `DELETE` (end-14).
pub(crate) async fn cancel(store: &Store, permit: &Permit<Push>, id: &str) -> Answered {
    let target = permit.repository();
    let upload = upload::parse(store, &target, id)?;
    upload::cancel(store, &target, &upload).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
