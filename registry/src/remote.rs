//! The one outgoing HTTP client: commands that speak to a server's `/api/v1` or, by [`client`], to a cluster; and fetches from
//! addresses that others choose.

mod guarded;

use std::time::Duration;

use config::{PublicUrl, Secret};
use http::{Method, StatusCode, header};
use reqwest::{Certificate, Client, ClientBuilder, RequestBuilder, redirect::Policy};
use serde_json::Value;

pub(crate) use self::guarded::{FetchError, Guarded};

/// How long an answer may take: no operation of the API works longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a server did not do what a command asked. One line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody answers there.
    #[error("{url} cannot be reached; start the server, or name it with --url or HYTHE_URL")]
    Unreachable {
        /// The server.
        url: PublicUrl,
        /// Why.
        source: reqwest::Error,
    },
    /// It refused; in its own words.
    #[error("{message}")]
    Refused {
        /// The status of its answer.
        status: StatusCode,
        /// Every message of its answer.
        message: String,
    },
    /// What answers is not this registry.
    #[error("{url} answered {status}, but not as a Hythe registry; check --url or HYTHE_URL")]
    Strange {
        /// The server.
        url: PublicUrl,
        /// The status of its answer.
        status: StatusCode,
    },
}

/// A client that trusts the system's authorities and these, and follows no redirect: that would carry what is presented to
/// wherever it points. `HTTPS_PROXY` and its kin are honoured.
pub(crate) fn client(authorities: Vec<Certificate>) -> ClientBuilder {
    Client::builder()
        .redirect(Policy::none())
        .timeout(PATIENCE)
        .tls_certs_merge(authorities)
        .user_agent(concat!("hythe/", env!("CARGO_PKG_VERSION")))
}

/// A server's API, and the key that is presented to it.
#[derive(Debug)]
pub struct Remote {
    client: Client,
    url: PublicUrl,
    key: Secret,
}

impl Remote {
    /// A client of the server at `url` for the holder of `key`.
    pub fn new(url: PublicUrl, key: Secret) -> Result<Self, Error> {
        Self::trusting(url, key, Vec::new())
    }

    /// The same, of a server whose certificate one of these authorities may have signed.
    pub fn trusting(url: PublicUrl, key: Secret, authorities: Vec<Certificate>) -> Result<Self, Error> {
        match client(authorities).build() {
            Ok(client) => Ok(Self { client, url, key }),
            Err(source) => Err(Error::Unreachable { url, source }),
        }
    }

    /// Reads `/api/v1` + `path`.
    pub async fn get(&self, path: &str) -> Result<Value, Error> {
        Ok(self.read(path).await?.0)
    }

    /// The same, and the version that `If-Match` names to change it.
    pub async fn read(&self, path: &str) -> Result<(Value, Option<String>), Error> {
        self.call(Method::GET, path, None, None).await
    }

    /// Posts a document to `/api/v1` + `path`.
    pub async fn post(&self, path: &str, document: &Value) -> Result<Value, Error> {
        Ok(self.call(Method::POST, path, None, Some(document)).await?.0)
    }

    /// Changes or deletes what is at `/api/v1` + `path`, as it was in `version`; null where the answer says nothing.
    pub async fn change(
        &self,
        method: Method,
        path: &str,
        version: &str,
        document: Option<&Value>,
    ) -> Result<Value, Error> {
        Ok(self.call(method, path, Some(version), document).await?.0)
    }

    /// What answers is not this registry, though it said it did what was asked.
    pub(crate) fn strange(&self) -> Error {
        Error::Strange { url: self.url.clone(), status: StatusCode::OK }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        version: Option<&str>,
        document: Option<&Value>,
    ) -> Result<(Value, Option<String>), Error> {
        let mut request =
            self.client.request(method, format!("{}/api/v1{path}", self.url)).bearer_auth(self.key.reveal());
        if let Some(version) = version {
            request = request.header(header::IF_MATCH, version);
        }
        if let Some(document) = document {
            request = request.json(document);
        }
        answer(&self.url, request).await
    }
}

/// Posts a form to `/api/v1` + `path` of the server at `url`, without a key: what is presented stands in the form.
pub(crate) async fn post_form(
    url: &PublicUrl,
    authorities: Vec<Certificate>,
    path: &str,
    form: &[(&str, &str)],
) -> Result<Value, Error> {
    let client = client(authorities).build();
    let client = client.map_err(|source| Error::Unreachable { url: url.clone(), source })?;
    Ok(answer(url, client.post(format!("{url}/api/v1{path}")).form(form)).await?.0)
}

async fn answer(url: &PublicUrl, request: RequestBuilder) -> Result<(Value, Option<String>), Error> {
    let unreachable = |source: reqwest::Error| Error::Unreachable { url: url.clone(), source: source.without_url() };
    let answer = request.send().await.map_err(unreachable)?;
    let status = answer.status();
    let version = answer.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
    let bytes = answer.bytes().await.map_err(unreachable)?;
    if status == StatusCode::NO_CONTENT {
        return Ok((Value::Null, version));
    }
    let strange = || Error::Strange { url: url.clone(), status };
    let document = serde_json::from_slice::<Value>(&bytes).map_err(|_| strange())?;
    if status.is_success() {
        return Ok((document, version));
    }
    let message = messages(&document).ok_or_else(strange)?;
    Err(Error::Refused { status, message })
}

/// The messages of the registry's error envelope, on one line.
fn messages(document: &Value) -> Option<String> {
    let errors = document.get("errors")?.as_array()?;
    let texts = errors.iter().map(|error| {
        let message = error.get("message")?.as_str()?;
        Some(match error.pointer("/detail/field").and_then(Value::as_str) {
            Some(field) => format!("{field}: {message}"),
            None => message.to_owned(),
        })
    });
    let texts: Vec<String> = texts.collect::<Option<_>>()?;
    (!texts.is_empty()).then(|| texts.join("; "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_message_of_a_refusal_is_told() {
        let refusal = json!({"errors": [
            {"code": "VALIDATION", "message": "60 to 86400 seconds", "detail": {"field": "/ttl_seconds"}},
            {"code": "VALIDATION", "message": "pull or push"},
        ]});
        assert_eq!(messages(&refusal).unwrap(), "/ttl_seconds: 60 to 86400 seconds; pull or push");
        assert!(messages(&json!({"errors": []})).is_none());
        assert!(messages(&json!({"ok": true})).is_none());
    }
}
