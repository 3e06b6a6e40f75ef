//! A client of the Kubernetes API, as small as the refresher needs it: read, create, patch, list, watch.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use config::Secret;
use futures::{Stream, StreamExt as _};
use http::{Method, StatusCode, header};
use reqwest::{Certificate, Client, Identity};
use serde_json::Value;

use super::super::{
    login::certificates,
    private_file,
    server::{encoded, text, variable},
};
use crate::{remote, telemetry::chain};

/// Where a pod finds its service account's token and the API server's authority.
const IN_CLUSTER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long the API server keeps a watch open.
const WATCH: u64 = 300;

/// Why the API server did not do what was asked. One line.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the Kubernetes API cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("{0}")]
    Token(String),
    #[error("the Kubernetes API refused with {status}: {message}")]
    Refused { status: StatusCode, message: String },
}

impl Error {
    /// Whether the object is not there.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::NOT_FOUND, .. })
    }

    /// Whether somebody else changed, made or removed it meanwhile.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::CONFLICT, .. })
    }
}

/// What is presented to the API server.
enum Token {
    None,
    Fixed(Secret),
    /// Read with every request: Kubernetes replaces it long before it ends.
    File(PathBuf),
}

/// An API server.
pub(super) struct Kubernetes {
    client: Client,
    server: String,
    token: Token,
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubernetes").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Kubernetes {
    /// The API server of the cluster in which this runs as a pod.
    pub(super) fn in_cluster() -> Result<Self, String> {
        let (Some(host), Some(port)) = (variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT"))
        else {
            return Err("KUBERNETES_SERVICE_HOST is not set, so this is no pod: name a --kubeconfig".to_owned());
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let folder = Path::new(IN_CLUSTER);
        let token = Token::File(folder.join("token"));
        Self::new(format!("https://{host}:{port}"), token, certificates(&folder.join("ca.crt"))?, None)
    }

    /// The API server of a kubeconfig's current context.
    pub(super) fn from_kubeconfig(path: &Path) -> Result<Self, String> {
        let told = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
        let file = private_file::text(path).map_err(|error| told(&error))?;
        let file: Value = serde_yaml_ng::from_str(&file).map_err(|error| told(&error))?;
        let named = |list: &str, name: &str, what: &str| {
            let items = file.get(list).and_then(Value::as_array).into_iter().flatten();
            let found = items.filter(|item| text(item, "name") == name).find_map(|item| item.get(what)).cloned();
            found.ok_or_else(|| told(&format!("no {what} {name:?}")))
        };
        let context = named("contexts", text(&file, "current-context"), "context")?;
        let cluster = named("clusters", text(&context, "cluster"), "cluster")?;
        let user = named("users", text(&context, "user"), "user")?;
        // What is not within the file is in another one, beside it or elsewhere.
        let bytes = |from: &Value, field: &str| -> Result<Option<Vec<u8>>, String> {
            let within = text(from, &format!("{field}-data")).to_owned();
            if !within.is_empty() {
                return STANDARD.decode(within).map(Some).map_err(|error| told(&format!("{field}-data: {error}")));
            }
            match text(from, field) {
                "" => Ok(None),
                name => {
                    let other = path.parent().unwrap_or(Path::new("")).join(name);
                    let read = private_file::text(&other);
                    read.map(|text| Some(text.into_bytes())).map_err(|error| format!("{}: {error}", other.display()))
                }
            }
        };
        let authorities = bytes(&cluster, "certificate-authority")?.unwrap_or_default();
        let authorities = Certificate::from_pem_bundle(&authorities).map_err(|error| told(&error))?;
        let identity = match (bytes(&user, "client-certificate")?, bytes(&user, "client-key")?) {
            (Some(mut certificate), Some(key)) => {
                certificate.push(b'\n');
                certificate.extend(key);
                Some(Identity::from_pem(&certificate).map_err(|error| told(&error))?)
            }
            _ => None,
        };
        let token = match (text(&user, "token"), text(&user, "tokenFile")) {
            ("", "") => Token::None,
            ("", file) => Token::File(path.parent().unwrap_or(Path::new("")).join(file)),
            (token, _) => Token::Fixed(Secret::new(token)),
        };
        Self::new(text(&cluster, "server").trim_end_matches('/').to_owned(), token, authorities, identity)
    }

    /// A proxy is for the way to the registry: the API server is in this cluster, and its authority alone is trusted.
    fn new(
        server: String,
        token: Token,
        authorities: Vec<Certificate>,
        identity: Option<Identity>,
    ) -> Result<Self, String> {
        let builder = remote::client(Vec::new()).no_proxy();
        let builder = if authorities.is_empty() { builder } else { builder.tls_certs_only(authorities) };
        let builder = identity.into_iter().fold(builder, reqwest::ClientBuilder::identity);
        let client = builder.build().map_err(|error| chain(&error))?;
        Ok(Self { client, server, token })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, Error> {
        self.call(Method::GET, path, None).await
    }

    pub(super) async fn create(&self, path: &str, object: &Value) -> Result<Value, Error> {
        self.call(Method::POST, path, Some(("application/json", object))).await
    }

    /// Sets the fields of `patch` (RFC 7386); with `metadata.resourceVersion` in it, only of the object as it was.
    pub(super) async fn patch(&self, path: &str, patch: &Value) -> Result<Value, Error> {
        self.call(Method::PATCH, path, Some(("application/merge-patch+json", patch))).await
    }

    /// The objects of a list, every page of it, and the version that a watch may go on from.
    pub(super) async fn list(&self, path: &str, selector: &str) -> Result<(Vec<Value>, String), Error> {
        let (mut items, mut next) = (Vec::new(), String::new());
        loop {
            let query = format!("?limit=500&labelSelector={}&continue={}", encoded(selector), encoded(&next));
            let mut page = self.get(&format!("{path}{query}")).await?;
            if let Some(Value::Array(found)) = page.get_mut("items").map(Value::take) {
                items.extend(found);
            }
            let metadata = page.get("metadata").cloned().unwrap_or_default();
            text(&metadata, "continue").clone_into(&mut next);
            if next.is_empty() {
                return Ok((items, text(&metadata, "resourceVersion").to_owned()));
            }
        }
    }

    /// Something for each change of what `list` listed, until the API server ends it.
    pub(super) async fn watch(
        &self,
        path: &str,
        selector: &str,
        version: &str,
    ) -> Result<impl Stream<Item = ()> + use<>, Error> {
        let selector = encoded(selector);
        let query = format!("?watch=1&timeoutSeconds={WATCH}&labelSelector={selector}&resourceVersion={version}");
        let request = self.request(Method::GET, &format!("{path}{query}"))?;
        let answer = request.timeout(Duration::from_secs(WATCH + 30)).send().await.map_err(Error::Unreachable)?;
        let status = answer.status();
        if !status.is_success() {
            return Err(Error::Refused { status, message: "the watch ended".to_owned() });
        }
        Ok(answer.bytes_stream().take_while(|chunk| std::future::ready(chunk.is_ok())).map(|_| ()))
    }

    fn request(&self, method: Method, path: &str) -> Result<reqwest::RequestBuilder, Error> {
        let request = self.client.request(method, format!("{}{path}", self.server));
        Ok(match &self.token {
            Token::None => request,
            Token::Fixed(token) => request.bearer_auth(token.reveal()),
            Token::File(path) => {
                let token = private_file::text(path);
                let token = token.map_err(|error| Error::Token(format!("{}: {error}", path.display())))?;
                request.bearer_auth(token.trim())
            }
        })
    }

    async fn call(&self, method: Method, path: &str, body: Option<(&str, &Value)>) -> Result<Value, Error> {
        let mut request = self.request(method, path)?;
        if let Some((form, object)) = body {
            request = request.header(header::CONTENT_TYPE, form).body(object.to_string());
        }
        let answer = request.send().await.map_err(Error::Unreachable)?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(Error::Unreachable)?;
        let object: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if status.is_success() {
            return Ok(object);
        }
        Err(Error::Refused { status, message: text(&object, "message").to_owned() })
    }
}
