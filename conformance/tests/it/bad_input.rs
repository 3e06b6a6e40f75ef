//! What no well-meaning client sends: every answer has the specification's code, one clear line and a JSON document, none is a
//! failure of ours, and nothing that was stored is lost by it.

mod random;

use std::fmt::Write as _;

use bytes::Bytes;
use conformance::{
    Actor, Answer, Caller, Harness, Request, Store,
    fixture::{self, Algorithm, Bundle, Content, Format, hostile, media},
    push,
};
use serde_json::json;

const REPOSITORY: &str = "acme/kept";

/// A server, a caller that may do everything in `acme`, and an image that has to survive.
async fn registry(serve: &[&str]) -> (Harness, Caller, Bundle) {
    let harness = Harness::with(Store::Local, serve).await;
    let vendor = harness.account("acme").await.actor(Actor::PushDelete).await;
    let image = fixture::image("kept", Format::Oci);
    push::bundle(&vendor, REPOSITORY, "v1", &image).await;
    (harness, vendor, image)
}

/// The image comes back, byte for byte.
async fn still_there(vendor: &Caller, image: &Bundle) {
    let manifest = vendor.send(Request::get(format!("/v2/{REPOSITORY}/manifests/v1"))).await.expect(200);
    assert_eq!(manifest.body, image.root().bytes);
    for blob in &image.blobs {
        let back = vendor.send(Request::get(format!("/v2/{REPOSITORY}/blobs/{}", blob.digest))).await.expect(200);
        assert_eq!(back.body, blob.bytes);
    }
}

/// What every refusal looks like; `Err` says what is wrong with this one.
fn decent(answer: &Answer, head: bool) -> Result<(), String> {
    let status = answer.status.as_u16();
    if status >= 500 {
        return Err(format!("{status}: {}", answer.text()));
    }
    if status < 400 || head {
        return Ok(());
    }
    if answer.header("content-type") != "application/json" {
        return Err(format!("{status} is {:?}, not JSON", answer.header("content-type")));
    }
    let errors = answer.json()["errors"].as_array().cloned().unwrap_or_default();
    if errors.is_empty() {
        return Err(format!("{status} without an error: {}", answer.text()));
    }
    for error in &errors {
        let (code, message) =
            (error["code"].as_str().unwrap_or_default(), error["message"].as_str().unwrap_or_default());
        if !CODES.contains(&code) {
            return Err(format!("{status} has the code {code:?}"));
        }
        if message.is_empty() || message.chars().any(char::is_control) || message.len() > 1000 {
            return Err(format!("{status} {code} says {message:?}"));
        }
    }
    Ok(())
}

/// The distribution-spec's codes, distribution's, and the API's.
const CODES: [&str; 25] = [
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "PAGINATION_NUMBER_INVALID",
    "SIZE_INVALID",
    "TAG_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
    "NOT_FOUND",
    "VALIDATION",
    "INVALID_JSON",
    "INVALID_TOKEN",
    "UNKNOWN_FIELD",
    "TOO_LARGE",
    "NAME_TAKEN",
    "PRECONDITION_FAILED",
    "PRECONDITION_REQUIRED",
];

#[track_caller]
fn refused(answer: Answer, status: u16, code: &str) -> Answer {
    let answer = answer.refused(status, code);
    decent(&answer, false).unwrap();
    answer
}

/// The head and the body of what came back on a raw connection.
fn raw_answer(bytes: &[u8]) -> (u16, String) {
    let text = String::from_utf8_lossy(bytes);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    (status, text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

#[tokio::test]
async fn an_account_alone_is_told_how_a_repository_is_called() {
    let (harness, vendor, _) = registry(&[]).await;
    for path in ["/v2/hello/manifests/latest", "/v2/hello/tags/list", "/v2/hello/blobs/uploads/"] {
        for caller in [&vendor, &Caller::anonymous(harness.client())] {
            for request in [Request::get, Request::put, Request::post, Request::delete] {
                let told = refused(caller.send(request(path)).await, 400, "NAME_INVALID");
                assert_eq!(
                    told.message(),
                    "a repository is ACCOUNT/NAME: add a repository name, hello/NAME, or your account, ACCOUNT/hello"
                );
            }
        }
    }
}

/// Paths that an HTTP library would mend are sent as they are.
#[tokio::test]
async fn a_path_is_read_as_it_was_written() {
    let (harness, vendor, image) = registry(&[]).await;
    let stranger = harness.account("stranger").await;
    let login = stranger.push_delete().await;
    let digest = &image.blobs[0].digest;
    let tricks = [
        "/v2/stranger/../acme/kept/manifests/v1".to_owned(),
        "/v2/stranger/x/../../acme/kept/manifests/v1".to_owned(),
        "/v2/stranger/%2e%2e/acme/kept/manifests/v1".to_owned(),
        "/v2/stranger/%2E%2E%2Facme/kept/manifests/v1".to_owned(),
        "/v2/stranger%2f..%2facme/kept/manifests/v1".to_owned(),
        "/v2/stranger/..%252facme/kept/manifests/v1".to_owned(),
        "/v2/stranger/..;/acme/kept/manifests/v1".to_owned(),
        "/v2/stranger/.\\..\\acme/kept/manifests/v1".to_owned(),
        "/v2//acme/kept/manifests/v1".to_owned(),
        "/v2/acme//kept/manifests/v1".to_owned(),
        "/v2/./acme/kept/manifests/v1".to_owned(),
        "/v2/ACME/kept/manifests/v1".to_owned(),
        "/v2/acme%00/kept/manifests/v1".to_owned(),
        "/v2/acme%2fkept/manifests/v1".to_owned(),
        format!("/v2/stranger/../acme/kept/blobs/{digest}"),
        format!("/v2/stranger/x/blobs/../../../acme/kept/blobs/{digest}"),
        "/v2/stranger/../_catalog/manifests/v1".to_owned(),
    ];
    let authorization = Caller::basic(harness.client(), &login.username, &login.password);
    for path in &tricks {
        let mut bodies = Vec::new();
        for known in [false, true] {
            let mut head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", harness.host());
            if known {
                let _ = write!(head, "Authorization: {}\r\n", authorization.authorization().unwrap());
            }
            let answer = harness.client().raw(format!("{head}\r\n").as_bytes()).await.unwrap();
            let (status, body) = raw_answer(&answer);
            assert_eq!(status, 400, "{path}: {body}");
            assert!(body.is_empty() || body.contains("\"NAME_INVALID\""), "{path}: {body}");
            bodies.push(body);
        }
        assert_eq!(bodies[0], bodies[1], "{path}");
    }
    for path in ["//v2/", "/v2/../v2/", "/V2/", "/v2%2f", "/.well-known/../v2/", "/token/", "/healthz/", "/v1/"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", harness.host());
        let (status, body) = raw_answer(&harness.client().raw(request.as_bytes()).await.unwrap());
        assert!([400, 401, 404].contains(&status), "{path}: {status} {body}");
    }
    still_there(&vendor, &image).await;
}

#[tokio::test]
async fn what_is_no_digest_is_called_so_wherever_it_stands() {
    let (_harness, vendor, image) = registry(&[]).await;
    let more = ["sha256", "sha256:", ":", "sha256::", "sha384:00", "latest", "sha256:%00", "sha256+b64:aa", "../x"];
    for digest in hostile::DIGESTS.iter().copied().chain(more) {
        let plain = digest.replace('/', "%2F");
        for tail in ["blobs", "referrers"] {
            let answer = vendor.send(Request::get(format!("/v2/{REPOSITORY}/{tail}/{plain}"))).await;
            refused(answer, 400, "DIGEST_INVALID");
        }
        refused(vendor.send(Request::delete(format!("/v2/{REPOSITORY}/blobs/{plain}"))).await, 400, "DIGEST_INVALID");
        let uploads = format!("/v2/{REPOSITORY}/blobs/uploads/");
        for query in [format!("mount={plain}&from=acme/x"), format!("digest={plain}")] {
            refused(vendor.send(Request::post(format!("{uploads}?{query}"))).await, 400, "DIGEST_INVALID");
        }
        let session = push::open(&vendor, REPOSITORY).await;
        let closing = push::with_digest(&session, &plain);
        refused(vendor.send(Request::put(closing).body("x")).await, 400, "DIGEST_INVALID");
    }
    let session = push::open(&vendor, REPOSITORY).await;
    refused(vendor.send(Request::put(session).body("x")).await, 400, "DIGEST_INVALID");
    for algorithm in ["md5", "", "SHA256", "sha256,sha512"] {
        let path = format!("/v2/{REPOSITORY}/blobs/uploads/?digest-algorithm={algorithm}");
        refused(vendor.send(Request::post(path)).await, 400, "DIGEST_INVALID");
    }
    still_there(&vendor, &image).await;
}

#[tokio::test]
async fn a_range_that_is_none_changes_nothing() {
    let (_harness, vendor, image) = registry(&[]).await;
    let blob = &image.blobs[0];
    for range in ["bytes", "bytes=", "bytes=a-b", "bytes=0-1,5-6", "lines=1-2", "bytes=--1", "bytes=1-2-3", "-", "0-1"]
    {
        let path = format!("/v2/{REPOSITORY}/blobs/{}", blob.digest);
        let whole = vendor.send(Request::get(path).header("Range", range)).await;
        assert!([200, 416].contains(&whole.status.as_u16()), "{range}: {}", whole.status);
        decent(&whole, false).unwrap();
        if whole.status == 200 {
            assert_eq!(whole.body, blob.bytes, "{range}");
        }
    }
    for range in hostile::CONTENT_RANGES.iter().copied().chain(["", " ", "bytes */10", "0-9/5", "0--9"]) {
        let session = push::open(&vendor, REPOSITORY).await;
        let chunk = Request::patch(session.clone()).header("Content-Range", range).body("0123456789");
        let answer = vendor.send(chunk).await;
        decent(&answer, false).unwrap();
        assert!(answer.status.is_client_error() || range == "0-9/5", "{range:?}: {}", answer.status);
        if answer.status.is_client_error() {
            assert_eq!(answer.code(), "BLOB_UPLOAD_INVALID", "{range:?}");
            let stands = vendor.send(Request::get(session)).await.expect(204);
            assert_eq!(stands.header("range"), "0-0", "{range:?}");
        }
    }
    still_there(&vendor, &image).await;
}

#[tokio::test]
async fn a_token_request_never_fails_for_its_scopes() {
    let (harness, vendor, image) = registry(&[]).await;
    let long = format!("repository:acme/{}:pull", "x/".repeat(400));
    for scope in [
        "",
        "%20",
        ":",
        "::",
        ":::::",
        "repository",
        "repository:",
        "repository:acme",
        "repository:acme/x",
        "repository:acme/x:",
        "repository:acme/x:fly",
        "repository:acme/../stranger/x:pull",
        "repository:acme%2F%2Fx:pull",
        "repository:ACME/x:pull",
        "repository:acme/x%00:pull",
        "repository:acme/x%0a:pull",
        "repository:stranger/x:pull",
        "repository:*:pull",
        "repository:acme/*:pull",
        "registry:catalog:pull",
        "registry:*:*",
        "plugin:acme/x:pull",
        "%ff%fe:%80:pull",
        long.as_str(),
    ] {
        let granted = vendor.ask_token(&[scope]).await.expect(200);
        assert_eq!(granted.json()["scope"], json!(""), "{scope}");
        refused(Caller::anonymous(harness.client()).ask_token(&[scope]).await, 401, "UNAUTHORIZED");
    }
    still_there(&vendor, &image).await;
}

#[tokio::test]
async fn a_token_form_that_is_none_says_what_it_should_be() {
    let (harness, _, _) = registry(&[]).await;
    let form = "application/x-www-form-urlencoded";
    for (kind, body, error) in [
        ("application/json", "{}", "invalid_request"),
        ("", "grant_type=password", "invalid_request"),
        (form, "", "unsupported_grant_type"),
        (form, "grant_type=authorization_code", "unsupported_grant_type"),
        (form, "grant_type=", "unsupported_grant_type"),
        (form, "grant_type=password", "invalid_request"),
        (form, "grant_type=password&username=x", "invalid_request"),
        (form, "grant_type=refresh_token", "invalid_request"),
        (form, "%%%=&&&==&", "unsupported_grant_type"),
    ] {
        let answer = harness.send(Request::post("/token").header("Content-Type", kind).body(body)).await.expect(400);
        decent(&answer, false).unwrap();
        assert_eq!(answer.json()["error"], json!(error), "{kind} {body}");
    }
    let bytes =
        Request::post("/token").header("Content-Type", form).body(Bytes::from_static(b"\xff\xfe=\x00&grant_type"));
    decent(&harness.send(bytes).await.expect(400), false).unwrap();
    let large = Request::post("/token").header("Content-Type", form).body(vec![b'a'; (64 << 10) + 1]);
    decent(&harness.send(large).await.expect(413), false).unwrap();
    for query in ["password=x", "refresh_token=x", "service=other"] {
        refused(harness.send(Request::get(format!("/token?{query}"))).await, 400, "UNSUPPORTED");
    }
    refused(harness.send(Request::put("/token")).await, 405, "UNSUPPORTED");
}

#[tokio::test]
async fn a_document_that_is_no_manifest_says_why() {
    let (_harness, vendor, image) = registry(&[]).await;
    let descriptor = image.blobs[0].descriptor();
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep = format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[],"annotations":{nested}}}"#);
    let with = |field: &str, value: serde_json::Value| {
        let mut document = json!({"schemaVersion": 2, "config": descriptor, "layers": []});
        document[field] = value;
        document.to_string()
    };
    let negative = json!([{"mediaType": "x", "digest": descriptor["digest"], "size": -1}]);
    let documents = [
        deep,
        nested,
        with("schemaVersion", json!(1)),
        with("schemaVersion", json!("2")),
        with("schemaVersion", json!(2.5)),
        with("config", json!(null)),
        with("config", json!("text")),
        with("config", json!({"digest": 7})),
        with("config", json!({"digest": "sha256:short"})),
        with("layers", json!({})),
        with("layers", json!([null])),
        with("layers", negative),
        with("annotations", json!([])),
        with("annotations", json!("line\nbreak\u{1b}[31m")),
        with("subject", json!("sha256:x")),
        with("manifests", json!([])),
        "\u{feff}{}".to_owned(),
        "{\"schemaVersion\":2,".to_owned(),
        "{\"schemaVersion\":2}}".to_owned(),
        "\"\\ud800\"".to_owned(),
        "1e999999".to_owned(),
        "\n\n\n".to_owned(),
    ];
    for document in documents {
        let put = Request::put(format!("/v2/{REPOSITORY}/manifests/bad")).header("Content-Type", media::OCI_MANIFEST);
        let shown = document.chars().take(80).collect::<String>();
        let answer = vendor.send(put.body(document)).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "MANIFEST_INVALID"), "{shown}");
        decent(&answer, false).unwrap();
    }
    for kind in ["text/html", "application/json", "application/vnd.oci.image.manifest.v2+json", "*/*", "\u{e9}", "x"] {
        let put = Request::put(format!("/v2/{REPOSITORY}/manifests/bad")).header("Content-Type", kind);
        let document = json!({"schemaVersion": 2, "config": descriptor, "layers": []}).to_string();
        refused(vendor.send(put.body(document)).await, 400, "MANIFEST_INVALID");
    }
    vendor.send(Request::get(format!("/v2/{REPOSITORY}/manifests/bad"))).await.expect(404);
    still_there(&vendor, &image).await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_by_name_and_stores_nothing() {
    let (harness, vendor, image) = registry(&[]).await;
    let put = || Request::put(format!("/v2/{REPOSITORY}/manifests/large")).header("Content-Type", media::OCI_INDEX);
    let large = refused(vendor.send(put().body(vec![b' '; (8 << 20) + 1])).await, 413, "MANIFEST_INVALID");
    assert!(large.message().contains("8388608 bytes"), "{}", large.message());
    let child = |n: usize| json!({"mediaType": media::OCI_MANIFEST, "size": 1, "digest": format!("sha256:{n:064x}")});
    let many = json!({"schemaVersion": 2, "manifests": (0..10_001).map(child).collect::<Vec<_>>()});
    let many = refused(vendor.send(put().body(many.to_string())).await, 413, "MANIFEST_INVALID");
    assert!(many.message().contains("10000"), "{}", many.message());
    vendor.send(Request::get(format!("/v2/{REPOSITORY}/manifests/large"))).await.expect(404);
    let head = |size| Request::get("/v2/").header("X-Filler", "x".repeat(size));
    let large = refused(vendor.send(head(17 << 10)).await, 431, "SIZE_INVALID");
    assert!(large.message().contains("takes 16384 (limits.header_size"), "{}", large.message());
    // A head far above its limit is not read to its end, so there is nobody to answer in JSON.
    match harness.client().try_send(head(40 << 10)).await {
        Ok(answer) => assert_eq!(answer.status, 431),
        Err(broken) => assert!(!broken.contains("no answer"), "{broken}"),
    }
    still_there(&vendor, &image).await;
}

/// A stranger's form may not stand open as long as a layer may.
#[tokio::test]
async fn a_form_for_a_token_that_does_not_come_is_given_up_after_ten_seconds() {
    let harness = Harness::start().await;
    let head = format!(
        "POST /token HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: 500\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\ngrant_type=password",
        harness.host()
    );
    let clock = storage::clock::SystemClock::new();
    let answer = String::from_utf8(harness.client().raw(head.as_bytes()).await.unwrap()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("did not arrive within 10 s"), "{answer}");
    let took = storage::Clock::elapsed(&clock).as_secs();
    assert!((10..30).contains(&took), "{took} s");
}

#[tokio::test]
async fn a_host_that_is_not_ours_is_told_how_to_become_so() {
    let (harness, vendor, _) = registry(&[]).await;
    for host in ["registry.attacker.example", "192.168.1.5:5080", "acme.localhost.evil.example"] {
        let answer = vendor.send(Request::get("/v2/").header("Host", host)).await;
        let told = refused(answer, 421, "UNSUPPORTED");
        assert!(told.message().ends_with(&format!("start it with --public-url http://{host}")), "{}", told.message());
        assert_eq!(told.header("www-authenticate"), "", "no realm for a stranger's host");
        refused(harness.send(Request::get("/token").header("Host", host)).await, 421, "UNSUPPORTED");
    }
    for host in ["a b", "x/y", "user@host", "[::1", ":80"] {
        let answer = vendor.try_send(Request::get("/v2/").header("Host", host)).await;
        if let Ok(answer) = answer {
            assert!([400, 421].contains(&answer.status.as_u16()), "{host}: {}", answer.status);
        }
    }
    let two = format!("GET /v2/ HTTP/1.1\r\nHost: {0}\r\nHost: {0}\r\nConnection: close\r\n\r\n", harness.host());
    let (status, body) = raw_answer(&harness.client().raw(two.as_bytes()).await.unwrap());
    assert!([400, 421].contains(&status), "{status} {body}");
}

/// Bytes that are no request, and requests that could be two.
#[tokio::test]
async fn what_is_no_http_ends_the_connection_and_nothing_else() {
    let (harness, vendor, image) = registry(&[]).await;
    let host = harness.host();
    let long = "A".repeat(100_000);
    for request in [
        "\0\0\0\0\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "GET /v2/ HTTP/9.9\r\n\r\n".to_owned(),
        format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\nX\u{0}: y\r\n\r\n"),
        format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\nbroken header\r\n\r\n"),
        format!("GET /{long} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("{long} / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("POST /token HTTP/1.1\r\nHost: {host}\r\nContent-Length: -1\r\n\r\n"),
        format!("POST /token HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
        format!("POST /token HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99999999999999999999\r\n\r\n"),
        format!("POST /token HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: gzip\r\n\r\n"),
        format!(
            "POST /token HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nZZ\r\n"
        ),
    ] {
        let shown = request.chars().take(60).collect::<String>();
        // A server may hang up in the middle of what is too long.
        if let Ok(answer) = harness.client().raw(request.as_bytes()).await {
            let (status, body) = raw_answer(&answer);
            assert!(status == 0 || (400..500).contains(&status), "{shown:?}: {status} {body}");
        }
    }
    // The second request of a smuggled pair is never answered as one.
    let smuggled = format!(
        "POST /token HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
         0\r\n\r\nGET /v2/ HTTP/1.1\r\nHost: {host}\r\n\r\n"
    );
    let answer = harness.client().raw(smuggled.as_bytes()).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer).matches("HTTP/1.1 ").count(), 1);
    still_there(&vendor, &image).await;
}

/// A body that stands still is given up, and what arrived of it is kept.
#[tokio::test]
async fn a_body_that_stands_still_is_given_up_and_what_came_is_kept() {
    let (harness, vendor, image) = registry(&["--limits-body-timeout", "1s", "--limits-header-timeout", "1s"]).await;
    let session = push::open(&vendor, REPOSITORY).await;
    let head = |method: &str, path: &str, kind: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\nContent-Type: {kind}\r\nContent-Length: 100\r\n\
             Connection: close\r\n\r\n0123456789",
            harness.host(),
            vendor.authorization().unwrap()
        )
    };
    let octets = "application/octet-stream";
    let form = "application/x-www-form-urlencoded";
    for request in [
        head("PATCH", &session, octets),
        head("PUT", &format!("/v2/{REPOSITORY}/manifests/slow"), media::OCI_MANIFEST),
        head("POST", "/token", form),
    ] {
        let (status, body) = raw_answer(&harness.client().raw(request.as_bytes()).await.unwrap());
        assert_eq!(status, 408, "{request}: {body}");
        assert!(body.contains("\"SIZE_INVALID\"") && body.contains("the client sent nothing for 1 s"), "{body}");
    }
    let stands = vendor.send(Request::get(session)).await.expect(204);
    assert_eq!(stands.header("range"), "0-9");
    // A head that does not end is not waited for.
    let hung = harness.client().raw(b"GET /v2/ HTTP/1.1\r\nHost: x").await.unwrap();
    assert!(hung.is_empty() || raw_answer(&hung).0 == 408, "{}", String::from_utf8_lossy(&hung));
    still_there(&vendor, &image).await;
}

/// Content that belongs to no digest that it was announced under.
#[tokio::test]
async fn content_that_is_not_what_it_says_is_not_kept() {
    let (_harness, vendor, image) = registry(&[]).await;
    let blob = Content::random(Algorithm::Sha256, "announced", 1000);
    let path = format!("/v2/{REPOSITORY}/blobs/uploads/?digest={}", blob.digest);
    refused(vendor.send(Request::post(path).body("something else")).await, 400, "DIGEST_INVALID");
    let session = push::open(&vendor, REPOSITORY).await;
    let closing = Request::put(push::with_digest(&session, &blob.digest)).body("something else");
    refused(vendor.send(closing).await, 400, "DIGEST_INVALID");
    vendor.send(Request::head(format!("/v2/{REPOSITORY}/blobs/{}", blob.digest))).await.expect(404);
    still_there(&vendor, &image).await;
}
