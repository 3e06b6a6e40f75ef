//! One or more requests for every kind of operation: a kind without one does not compile.

use bytes::Bytes;
use conformance::Request;
use registry::oci::route::OperationKind;

use super::{
    visitor::Visitor,
    world::{GAMMA, TAG, World},
};

/// What is asked for, by whom.
pub(super) struct Target<'a> {
    pub(super) world: &'a World,
    pub(super) visitor: &'a Visitor,
    pub(super) repository: &'a str,
    pub(super) session: &'a str,
}

/// A request and what its answer is held against.
pub(super) struct Asked {
    /// Tells it from the other requests.
    pub(super) title: &'static str,
    pub(super) request: Request,
    /// The scope that a challenge must ask for.
    pub(super) scope: String,
    pub(super) under_v2: bool,
    /// A form that presents nothing.
    pub(super) grantless: bool,
    /// What is read, if it is there.
    pub(super) bytes: Option<Bytes>,
}

/// How many requests there are for a kind.
pub(super) const fn count(kind: OperationKind) -> usize {
    use OperationKind as K;
    match kind {
        K::Root
        | K::Health
        | K::Ready
        | K::Ping
        | K::Catalog
        | K::BlobGet
        | K::BlobHead
        | K::BlobDelete
        | K::ManifestHead
        | K::UploadStatus
        | K::UploadAppend
        | K::UploadCommit
        | K::UploadCancel
        | K::Tags
        | K::Referrers
        | K::TokenGet
        | K::TokenPost
        | K::Jwks => 1,
        // By tag and by digest.
        K::ManifestGet | K::ManifestPut | K::ManifestDelete => 2,
        // A session, one with its algorithm told, a mount out of the other account.
        K::UploadOpen => 3,
        // Its operations are asked for in a test of their own, and so is an exchange, where nothing of this is presented.
        K::Api | K::Exchange => 0,
    }
}

/// Makes the request of this number.
pub(super) fn make(kind: OperationKind, number: usize, target: &Target<'_>) -> Asked {
    use OperationKind as K;
    let Target { world, repository, session, .. } = target;
    let (root, blob, pushed) = (world.bundle.root(), &world.bundle.blobs[0], &world.pushed);
    let of = |tail: &str| format!("/v2/{repository}/{tail}");
    let blob_path = of(&format!("blobs/{}", blob.digest));
    let by_digest = of(&format!("manifests/{}", root.digest));
    let by_tag = of(&format!("manifests/{TAG}"));
    let upload = of(&format!("blobs/uploads/{session}"));
    let pull = format!("repository:{repository}:pull");
    let push = format!("repository:{repository}:pull,push");
    let delete = format!("repository:{repository}:delete");
    let manifest = |reference: &str| {
        let put = Request::put(of(&format!("manifests/{reference}")));
        put.header("Content-Type", &pushed.media_type).body(pushed.bytes.clone())
    };
    match (kind, number) {
        (K::Root, _) => open("GET /", Request::get("/")),
        (K::Health, _) => open("GET /healthz", Request::get("/healthz")),
        (K::Ready, _) => open("GET /readyz", Request::get("/readyz")),
        (K::Jwks, _) => open("GET /.well-known/jwks.json", Request::get("/.well-known/jwks.json")),
        (K::Ping, _) => v2("GET /v2/", Request::get("/v2/"), ""),
        (K::Catalog, _) => v2("GET _catalog", Request::get("/v2/_catalog"), "registry:catalog:*"),
        (K::BlobGet, _) => reads(v2("GET blob", Request::get(blob_path), &pull), &blob.bytes),
        (K::BlobHead, _) => v2("HEAD blob", Request::head(blob_path), &pull),
        (K::BlobDelete, _) => v2("DELETE blob", Request::delete(blob_path), &delete),
        (K::ManifestGet, 0) => reads(v2("GET manifest by tag", Request::get(by_tag), &pull), &root.bytes),
        (K::ManifestGet, _) => reads(v2("GET manifest by digest", Request::get(by_digest), &pull), &root.bytes),
        (K::ManifestHead, _) => v2("HEAD manifest", Request::head(by_tag), &pull),
        (K::ManifestPut, 0) => v2("PUT manifest by tag", manifest("pushed"), &push),
        (K::ManifestPut, _) => v2("PUT manifest by digest", manifest(&pushed.digest), &push),
        (K::ManifestDelete, 0) => v2("DELETE manifest by tag", Request::delete(by_tag), &delete),
        (K::ManifestDelete, _) => v2("DELETE manifest by digest", Request::delete(by_digest), &delete),
        (K::UploadOpen, 0) => v2("POST upload", Request::post(of("blobs/uploads/")), &push),
        (K::UploadOpen, 1) => {
            v2("POST upload with an algorithm", Request::post(of("blobs/uploads/?digest-algorithm=sha512")), &push)
        }
        (K::UploadOpen, _) => {
            let from = format!("{GAMMA}/web/api");
            let path = of(&format!("blobs/uploads/?mount={}&from={from}", blob.digest));
            let scope = format!("{push} repository:{from}:pull");
            v2("POST mount from another account", Request::post(path), &scope)
        }
        (K::UploadStatus, _) => v2("GET upload", Request::get(upload), &push),
        (K::UploadAppend, _) => v2("PATCH upload", Request::patch(upload).body("more"), &push),
        (K::UploadCommit, _) => {
            let path = format!("{upload}?digest={}", blob.digest);
            v2("PUT upload", Request::put(path).body(blob.bytes.clone()), &push)
        }
        (K::UploadCancel, _) => v2("DELETE upload", Request::delete(upload), &push),
        (K::Tags, _) => v2("GET tags", Request::get(of("tags/list")), &pull),
        (K::Referrers, _) => v2("GET referrers", Request::get(of(&format!("referrers/{}", root.digest))), &pull),
        (K::TokenGet, _) => {
            open("GET /token", Request::get(format!("/token?scope=repository:{repository}:pull,push,delete")))
        }
        (K::TokenPost, _) => form(target),
        (K::Exchange, _) => open("POST /api/v1/exchange", Request::post("/api/v1/exchange")),
        (K::Api, _) => open("/api/v1", Request::get("/api/v1")),
    }
}

/// What is presented goes into the form where that has a place for it.
fn form(target: &Target<'_>) -> Asked {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("scope", &format!("repository:{}:pull,push,delete", target.repository));
    let visitor = target.visitor;
    if let Some((user, secret)) = &visitor.form {
        form.append_pair("grant_type", "password").append_pair("username", user).append_pair("password", secret);
    } else if let Some(token) = &visitor.bearer {
        form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", token);
    }
    let request = Request::post("/token").header("Content-Type", "application/x-www-form-urlencoded");
    // Basic, and whatever is taken for a broken one, stands for a form's user name and password; a Bearer does not.
    let basic = |(name, value): &(&str, String)| *name == "Authorization" && !value.starts_with("Bearer");
    let nothing = visitor.bearer.is_none() && !visitor.headers.iter().any(basic);
    Asked { grantless: nothing, ..open("POST /token", request.body(form.finish())) }
}

fn open(title: &'static str, request: Request) -> Asked {
    Asked { title, request, scope: String::new(), under_v2: false, grantless: false, bytes: None }
}

fn v2(title: &'static str, request: Request, scope: &str) -> Asked {
    Asked { scope: scope.to_owned(), under_v2: true, ..open(title, request) }
}

fn reads(asked: Asked, bytes: &Bytes) -> Asked {
    Asked { bytes: Some(bytes.clone()), ..asked }
}
