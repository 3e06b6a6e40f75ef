//! A plain HTTP client that sends exactly what it is told: no redirects, no retries, no header of its own but `Host`.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longer than any single request of a test takes; a server that hangs fails the test instead of blocking it.
const PATIENCE: Duration = Duration::from_mins(1);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A pool of connections to one server.
#[derive(Debug, Clone)]
pub struct Client {
    address: SocketAddr,
    pool: legacy::Client<HttpConnector, Body>,
}

/// One request, as it goes on the wire.
#[derive(Debug, Clone)]
pub struct Request {
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Sent,
}

#[derive(Debug, Clone)]
enum Sent {
    Whole(Bytes),
    /// With `Transfer-Encoding: chunked`, one chunk each.
    Chunks(Vec<Bytes>),
}

impl Request {
    /// A request of any method; `path` is sent byte for byte, query included.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), body: Sent::Whole(Bytes::new()) }
    }

    /// `GET path`.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// `HEAD path`.
    pub fn head(path: impl Into<String>) -> Self {
        Self::new(Method::HEAD, path)
    }

    /// `POST path`.
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    /// `PUT path`.
    pub fn put(path: impl Into<String>) -> Self {
        Self::new(Method::PUT, path)
    }

    /// `PATCH path`.
    pub fn patch(path: impl Into<String>) -> Self {
        Self::new(Method::PATCH, path)
    }

    /// `DELETE path`.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// Adds a header; the same name may be added more than once.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// A body of known length.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Sent::Whole(body.into());
        self
    }

    /// A body without `Content-Length`, in chunks.
    #[must_use]
    pub fn chunks(mut self, chunks: Vec<Bytes>) -> Self {
        self.body = Sent::Chunks(chunks);
        self
    }

    /// The path, query included.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// What came back, body and all.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    asked: String,
}

impl Answer {
    /// A header's first value, or the empty string.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// All values of a header, joined by commas.
    pub fn joined(&self, name: &str) -> String {
        let values: Vec<_> = self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        values.join(", ")
    }

    /// The body as text, lossily.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null when it is not.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The code of the first error in the distribution-spec's envelope, or the empty string.
    pub fn code(&self) -> String {
        self.error("code")
    }

    /// The message of the first error, or the empty string.
    pub fn message(&self) -> String {
        self.error("message")
    }

    fn error(&self, field: &str) -> String {
        self.json()
            .pointer("/errors/0")
            .and_then(|error| error.get(field))
            .and_then(|text| text.as_str())
            .unwrap_or_default()
            .to_owned()
    }

    /// Fails the test unless the status is `expected`, telling what was asked and what was said.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "often the status is all that is asked")]
    pub fn expect(self, expected: u16) -> Self {
        assert_eq!(self.status.as_u16(), expected, "{}: {:?} {}", self.asked, self.headers, self.text());
        self
    }

    /// Fails the test unless status and error code are as expected.
    ///
    /// # Panics
    /// When they are others.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "often the refusal is all that is asked")]
    pub fn refused(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.code(), code, "{}: {}", answer.asked, answer.text());
        answer
    }
}

impl Client {
    /// A client for the server at `address`.
    pub fn new(address: SocketAddr) -> Self {
        let pool = legacy::Client::builder(TokioExecutor::new()).set_host(false).build(HttpConnector::new());
        Self { address, pool }
    }

    /// The server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a request and reads the answer; an error is a connection that broke or never came.
    pub async fn try_send(&self, request: Request) -> Result<Answer, String> {
        let asked = format!("{} {}", request.method, request.path);
        let body = match request.body {
            Sent::Whole(bytes) => Full::new(bytes).boxed_unsync(),
            Sent::Chunks(chunks) => {
                let frames = chunks.into_iter().map(|chunk| Ok::<_, Infallible>(Frame::data(chunk)));
                StreamBody::new(stream::iter(frames)).boxed_unsync()
            }
        };
        let mut builder =
            http::Request::builder().method(request.method).uri(format!("http://{}{}", self.address, request.path));
        if !request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            builder = builder.header("Host", self.address.to_string());
        }
        for (name, value) in &request.headers {
            builder = builder.header(name.as_str(), value.as_str());
        }
        let request = builder.body(body).map_err(|error| format!("{asked}: {error}"))?;
        let exchange = async {
            let response = self.pool.request(request).await.map_err(|error| format!("{asked}: {error:?}"))?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| format!("{asked}: {error:?}"))?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body, asked: asked.clone() })
        };
        match tokio::time::timeout(PATIENCE, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("{asked}: no answer within {PATIENCE:?}")),
        }
    }

    /// Sends a request and reads the answer.
    ///
    /// # Panics
    /// When the connection breaks.
    #[expect(clippy::panic, reason = "a test whose connection breaks has failed")]
    pub async fn send(&self, request: Request) -> Answer {
        self.try_send(request).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Writes bytes to a fresh connection and reads what comes until the server closes it; for requests that no HTTP
    /// library would make. The request should say `Connection: close`.
    pub async fn raw(&self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut stream = tokio::net::TcpStream::connect(self.address).await?;
        stream.write_all(bytes).await?;
        let mut answer = Vec::new();
        match tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await {
            Ok(read) => read.map(|_| answer),
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        }
    }
}
