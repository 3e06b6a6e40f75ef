//! A bucket that ignores conditions: a proxy in front of MinIO that drops `If-Match` and `If-None-Match`, as some stores do.
//!
//! The dropped headers are part of the signature, so every request is signed again (AWS Signature Version 4).

#![expect(clippy::panic, reason = "a stand-in that cannot be set up ends the test with the reason")]

use std::{convert::Infallible, net::SocketAddr};

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use sha2::{Digest as _, Sha256};
use tokio::{net::TcpListener, task::JoinSet};

const CONDITIONS: [HeaderName; 2] = [header::IF_MATCH, header::IF_NONE_MATCH];

/// The proxy; gone when dropped.
#[derive(Debug)]
pub struct LaxBucket {
    address: SocketAddr,
    _serving: JoinSet<()>,
}

impl LaxBucket {
    /// Stands in front of the store at `upstream`, whose secret key signs what was changed.
    ///
    /// # Panics
    /// When loopback has no free port.
    pub async fn before(upstream: SocketAddr, secret: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|error| panic!("loopback: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("loopback: {error}"));
        let client = Client::builder(TokioExecutor::new()).set_host(false).build(HttpConnector::new());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let client = client.clone();
                connections.spawn(async move {
                    let service = service_fn(|request| pass(&client, upstream, secret, request));
                    // A client that goes away is no failure of the store.
                    let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, _serving: serving }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn pass(
    client: &Client<HttpConnector, Full<Bytes>>,
    upstream: SocketAddr,
    secret: &str,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(forward(client, upstream, secret, request).await.unwrap_or_else(|| {
        let mut failed = Response::new(Full::default());
        *failed.status_mut() = StatusCode::BAD_GATEWAY;
        failed
    }))
}

async fn forward(
    client: &Client<HttpConnector, Full<Bytes>>,
    upstream: SocketAddr,
    secret: &str,
    request: Request<Incoming>,
) -> Option<Response<Full<Bytes>>> {
    let (mut parts, body) = request.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    let asked = CONDITIONS.iter().filter(|name| parts.headers.remove(*name).is_some()).count();
    if asked > 0 {
        let signed = sign(&parts, secret)?;
        parts.headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&signed).ok()?);
    }
    let uri = format!("http://{upstream}{}", parts.uri.path_and_query()?);
    parts.uri = uri.parse().ok()?;
    let response = client.request(Request::from_parts(parts, Full::new(body))).await.ok()?;
    let (mut head, body) = response.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    head.headers.remove(header::TRANSFER_ENCODING);
    Some(Response::from_parts(head, Full::new(body)))
}

/// The `Authorization` of a request whose conditions are gone, made from the one it came with.
fn sign(parts: &http::request::Parts, secret: &str) -> Option<String> {
    let sent = text(&parts.headers, header::AUTHORIZATION.as_str())?;
    let field = |name: &str| Some(sent.split_once(&format!("{name}="))?.1.split([',', ' ']).next()?.to_owned());
    let (credential, names) = (field("Credential")?, field("SignedHeaders")?);
    let names: Vec<&str> = names.split(';').filter(|name| !CONDITIONS.iter().any(|gone| gone == name)).collect();
    let scope = credential.split_once('/')?.1;

    let mut query: Vec<(String, String)> =
        url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
            .map(|(name, value)| (escaped(&name), escaped(&value)))
            .collect();
    query.sort();
    let query: Vec<_> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut canonical = format!("{}\n{}\n{}\n", parts.method, parts.uri.path(), query.join("&"));
    for name in &names {
        canonical.extend([name, ":", text(&parts.headers, name)?.as_str(), "\n"]);
    }
    let (names, content) = (names.join(";"), text(&parts.headers, "x-amz-content-sha256")?);
    canonical.extend(["\n", &names, "\n", &content]);

    let canonical = hex::encode(Sha256::digest(canonical));
    let message = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{canonical}", text(&parts.headers, "x-amz-date")?);
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in scope.split('/').chain([message.as_str()]) {
        key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec();
    }
    Some(format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={}", hex::encode(key)))
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.trim().to_owned())
}

fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
