//! Ten thousand requests that nobody thought of.

use conformance::{Caller, Harness, Request};
use futures::StreamExt;
use http::Method;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::{decent, registry, still_there};

/// How many requests.
const REQUESTS: u64 = 10_000;
/// How many at once.
const AT_ONCE: usize = 8;
/// Where a good credential may write: beside what has to survive.
const OWN: &str = "acme/fuzz/**";

const METHODS: [Method; 8] = [
    Method::GET,
    Method::HEAD,
    Method::PUT,
    Method::POST,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
    Method::TRACE,
];
const WORDS: [&str; 34] = [
    "v2",
    "token",
    "api",
    "v1",
    "acme",
    "fuzz",
    "kept",
    "stranger",
    "a",
    "..",
    ".",
    "",
    "%2f",
    "%2e%2e",
    "%00",
    "%ff",
    "A",
    "_catalog",
    "tags",
    "list",
    "manifests",
    "blobs",
    "uploads",
    "referrers",
    "latest",
    "v1.0",
    "sha256:",
    "sha512:00",
    "x-",
    "_",
    "__",
    "-",
    "~",
    "*",
];
const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const PARAMETERS: [&str; 12] = [
    "n",
    "last",
    "digest",
    "mount",
    "from",
    "tag",
    "scope",
    "service",
    "artifactType",
    "after",
    "account",
    "digest-algorithm",
];
const VALUES: [&str; 20] = [
    "",
    "0",
    "-1",
    "1",
    "10000",
    "99999999999999999999",
    "acme/fuzz/x",
    "acme/kept",
    "stranger/x",
    DIGEST,
    "sha256:",
    "%00",
    "%ff%fe",
    "..",
    "repository:acme/fuzz/x:pull,push",
    "repository:::",
    "text/plain",
    "*",
    "bytes=0-0",
    "0-9",
];
const HEADERS: [&str; 12] = [
    "Content-Type",
    "Content-Range",
    "Range",
    "If-None-Match",
    "If-Match",
    "Accept",
    "Expect",
    "Accept-Encoding",
    "Origin",
    "Cookie",
    "X-Forwarded-Host",
    "OCI-Subject",
];
const HEADER_VALUES: [&str; 18] = [
    "",
    "*/*",
    "application/json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/x-www-form-urlencoded",
    "bytes=0-",
    "bytes=9-1",
    "0-9",
    "10-5",
    "bytes 0-9/10",
    "\"x\"",
    "W/\"x\"",
    "*",
    "gzip",
    "-1",
    "99999999999999999999",
    "\u{e9}\u{1f4a9}",
];
const BODIES: [&str; 10] = [
    "",
    "{}",
    "[]",
    "null",
    "{\"schemaVersion\":2}",
    "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[]}",
    "grant_type=password&username=x&password=y",
    "grant_type=refresh_token&refresh_token=x",
    "0123456789",
    "\u{0}\u{1}\u{2}",
];

fn one<'a>(random: &mut StdRng, of: &[&'a str]) -> &'a str {
    of.choose(random).copied().unwrap_or_default()
}

/// Half of the paths are an end-point with one thing wrong or nothing; the others are words.
fn path(random: &mut StdRng) -> String {
    let mut path = if random.random_bool(0.5) {
        let name =
            one(random, &["acme/fuzz/x", "acme/fuzz/y/z", "acme/kept", "stranger/x", "acme", "acme/Fuzz", "acme//x"]);
        let which = one(random, &[DIGEST, "latest", "sha256:00", "%2e%2e", ".x", "sha256%3A00"]);
        let tail = match random.random_range(0..6) {
            0 => format!("manifests/{which}"),
            1 => format!("blobs/{which}"),
            2 => "blobs/uploads/".to_owned(),
            3 => format!("blobs/uploads/{}", one(random, &["x", "..", DIGEST, "%00"])),
            4 => "tags/list".to_owned(),
            _ => format!("referrers/{which}"),
        };
        format!("/v2/{name}/{tail}")
    } else {
        let count = random.random_range(0..8);
        (0..count).fold(String::new(), |path, _| path + "/" + one(random, &WORDS))
    };
    if path.is_empty() {
        path.push('/');
    }
    for number in 0..random.random_range(0..4) {
        path.push(if number == 0 { '?' } else { '&' });
        path = path + one(random, &PARAMETERS) + "=" + one(random, &VALUES);
    }
    path
}

/// A request as a client would send it.
fn right(random: &mut StdRng) -> (Method, Request) {
    let index = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let (method, tail) = match random.random_range(0..8) {
        0 => (Method::GET, "manifests/latest".to_owned()),
        1 => (Method::PUT, "manifests/latest".to_owned()),
        2 => (Method::DELETE, "manifests/latest".to_owned()),
        3 => (Method::GET, format!("blobs/{DIGEST}")),
        4 => (Method::HEAD, format!("blobs/{DIGEST}")),
        5 => (Method::POST, format!("blobs/uploads/?digest={DIGEST}")),
        6 => (Method::POST, "blobs/uploads/".to_owned()),
        _ => (Method::GET, "tags/list".to_owned()),
    };
    let mut request = Request::new(method.clone(), format!("/v2/acme/fuzz/x/{tail}"));
    if method == Method::PUT {
        request = request.header("Content-Type", "application/vnd.oci.image.index.v1+json").body(index);
    }
    (method, request)
}

fn request(random: &mut StdRng, callers: &[Option<String>]) -> (Request, bool) {
    if random.random_bool(0.2) {
        let (method, mut request) = right(random);
        if random.random_bool(0.5) {
            request = request.header(one(random, &HEADERS), one(random, &HEADER_VALUES));
        }
        return (dressed(random, request, callers), method == Method::HEAD);
    }
    let method = METHODS.choose(random).cloned().unwrap_or_default();
    let head = method == Method::HEAD;
    let mut request = Request::new(method, path(random));
    for _ in 0..random.random_range(0..4) {
        request = request.header(one(random, &HEADERS), one(random, &HEADER_VALUES));
    }
    let request = dressed(random, request, callers);
    if random.random_bool(0.3) {
        let size = random.random_range(0..5000);
        let mut body = vec![0; size];
        random.fill(body.as_mut_slice());
        (request.body(body), head)
    } else {
        (request.body(one(random, &BODIES)), head)
    }
}

/// From somewhere, by somebody.
fn dressed(random: &mut StdRng, request: Request, callers: &[Option<String>]) -> Request {
    let from = random.random::<u32>();
    let request = request.header("X-Forwarded-For", std::net::Ipv4Addr::from_bits(from).to_string());
    match callers.choose(random) {
        Some(Some(authorization)) => request.header("Authorization", authorization),
        _ => request,
    }
}

/// Who sends them: nobody, a good credential and its token, and some that are none.
async fn authorizations(harness: &Harness) -> Vec<Option<String>> {
    let account = harness.account("acme").await;
    let login = account.mint(&["--kind", "push", "--delete", "--repository", OWN]).await;
    let good = account.caller(&login);
    let token = good.with_token(&["repository:acme/fuzz/x:pull,push,delete"]).await;
    let of = |caller: &Caller| caller.authorization().map(str::to_owned);
    vec![
        None,
        of(&good),
        of(&good),
        of(&good),
        of(&token),
        of(&account.caller(&login.with_wrong_password())),
        Some("Bearer x.y.z".to_owned()),
        Some("Basic".to_owned()),
    ]
}

#[tokio::test]
async fn ten_thousand_strange_requests_break_nothing() {
    // Each comes from an address of its own, so that they are judged and not slowed.
    let (harness, vendor, image) = registry(&["--trusted-proxy", "127.0.0.0/8"]).await;
    let callers = authorizations(&harness).await;
    let mut sent = futures::stream::iter(0..REQUESTS)
        .map(|seed| {
            let (request, head) = request(&mut StdRng::seed_from_u64(seed), &callers);
            let client = harness.client().clone();
            async move { (seed, head, request.path().to_owned(), client.try_send(request).await) }
        })
        .buffer_unordered(AT_ONCE);
    let (mut wrong, mut statuses) = (Vec::new(), std::collections::BTreeMap::<u16, u64>::new());
    while let Some((seed, head, path, outcome)) = sent.next().await {
        match outcome {
            Ok(answer) => {
                *statuses.entry(answer.status.as_u16()).or_default() += 1;
                if let Err(why) = decent(&answer, head) {
                    wrong.push(format!("seed {seed}, {path}: {why}"));
                }
            }
            Err(broken) => wrong.push(format!("seed {seed}, {path}: {broken}")),
        }
    }
    let (count, first) = (wrong.len(), wrong.iter().take(20).cloned().collect::<Vec<_>>());
    assert!(wrong.is_empty(), "{count} answers are wrong:\n{}", first.join("\n"));
    // The requests reach every kind of answer, or they prove nothing.
    for status in [200, 201, 202, 400, 401, 403, 404, 405] {
        assert!(statuses.get(&status).is_some_and(|&count| count >= 10), "{status} is rare: {statuses:?}");
    }
    still_there(&vendor, &image).await;
}
