//! `hythe-credential-provider`: what a kubelet asks before it pulls (KEP-2133), for the whole node or, with the tokens of
//! service accounts (KEP-4412), for each pod's own identity.

use std::{
    collections::HashMap,
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::Parser;
use config::PublicUrl;
use serde::Deserialize;
use serde_json::{Value, json};
use storage::{AccountName, Clock};

use super::{
    login::{self, Kind, Login, Order},
    login_cache::LoginCache,
    output,
    private_file::{self, Readers},
    store::seconds,
};
use crate::{remote, telemetry::chain};

/// The version of the protocol that is spoken: the stable one.
const API: &str = "credentialprovider.kubelet.k8s.io/v1";
/// How much of a request is read; tokens have a few KiB.
const INPUT: u64 = 256 * 1024;

/// Gives a kubelet the logins with which it pulls from a Hythe registry.
///
/// A kubelet runs it: the flags --image-credential-provider-config and --image-credential-provider-bin-dir name its
/// configuration and its folder. The request comes on standard input, the answer goes to standard output.
#[derive(Debug, Parser)]
#[command(name = NAME, version)]
pub(super) struct Provider {
    /// Registries, accounts and where their keys are (TOML)
    #[arg(long, value_name = "FILE", default_value = "/etc/hythe/credential-provider.toml")]
    config: PathBuf,
}

/// The name that it is called by, or begins with: a kubelet wants another name for each of its entries.
pub(super) const NAME: &str = "hythe-credential-provider";

/// The file: what a node pulls from.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// A folder in which logins are kept until half of their life is over, so that a hundred images cost one mint.
    cache: Option<PathBuf>,
    #[serde(default)]
    registry: Vec<Entry>,
}

/// An account of a registry.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    url: String,
    account: AccountName,
    /// The name is the account's own, so a login serves every image of the host.
    #[serde(default)]
    account_host: bool,
    /// A trust policy of the account: tokens of service accounts that name no other are exchanged under it.
    trust: Option<String>,
    /// A file of root's with an access key of the role `installer`, for pods that no trust policy is named for.
    key_file: Option<PathBuf>,
    #[serde(default)]
    repositories: Vec<String>,
    ttl: Option<String>,
    ca_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    api_version: String,
    kind: String,
    image: String,
    /// The pod's service account, told by the cluster, where the kubelet's configuration asks for that.
    service_account_token: Option<String>,
    #[serde(default)]
    service_account_annotations: HashMap<String, String>,
}

/// The annotations of a service account that name an account and one of its trust policies.
const ACCOUNT: &str = "hythe.io/account";
const TRUST: &str = "hythe.io/trust";

/// Answers one request.
pub(super) fn main(clock: &Arc<dyn Clock>) -> ExitCode {
    let provider = Provider::parse();
    let mut text = String::new();
    let read = std::io::stdin().take(INPUT).read_to_string(&mut text);
    let outcome = match read {
        Ok(_) => super::briefly(answer(&provider.config, &text, &**clock)),
        Err(error) => Err(format!("standard input: {error}")),
    };
    match outcome {
        Ok(document) if output::print(&document.to_string()).is_ok() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(line) => {
            output::say(&format!("{NAME}: {line}"));
            ExitCode::FAILURE
        }
    }
}

async fn answer(config: &Path, request: &str, clock: &dyn Clock) -> Result<Value, String> {
    let request: Request = serde_json::from_str(request).map_err(|error| format!("standard input: {error}"))?;
    if request.api_version != API || request.kind != "CredentialProviderRequest" {
        return Err(format!("asked for {} {}, but this speaks {API} alone", request.api_version, request.kind));
    }
    let text = private_file::text(config).map_err(|error| format!("{}: {error}", config.display()))?;
    let file: File = toml::from_str(&text).map_err(|error| format!("{}: {}", config.display(), error.message()))?;
    let Some(image) = Image::of(&request.image) else { return Ok(nothing()) };
    // A service account that is another account's gets nothing for this one's images.
    let meant = request.service_account_annotations.get(ACCOUNT).is_none_or(|account| account == image.account);
    let entry = file.registry.iter().find(|entry| meant && image.is_of(entry));
    let Some(entry) = entry else { return Ok(nothing()) };
    let login = match entry.trusted(&request) {
        Some((token, trust)) => Some(entry.exchange(token, trust, clock).await?),
        None => entry.mint(&image, file.cache.as_deref(), clock).await?,
    };
    Ok(login.map_or_else(nothing, |login| entry.response(&image, &login, clock)))
}

/// The registry and the account that an image names.
#[derive(Debug, PartialEq, Eq)]
struct Image<'a> {
    host: &'a str,
    account: &'a str,
}

impl<'a> Image<'a> {
    /// `None` for an image of the default registry, or without a repository below an account.
    fn of(image: &'a str) -> Option<Self> {
        let mut parts = image.splitn(3, '/');
        let (host, account) = (parts.next()?, parts.next()?);
        parts.next()?;
        let named = host.contains(['.', ':']) || host == "localhost";
        named.then_some(Self { host, account })
    }

    fn is_of(&self, entry: &Entry) -> bool {
        let host = entry.url.parse::<PublicUrl>().map(|url| url.host().to_string());
        host.is_ok_and(|host| host == self.host) && entry.account.as_str() == self.account
    }
}

impl Entry {
    /// The token of the pod's service account, and the policy under which it is exchanged.
    fn trusted<'a>(&'a self, request: &'a Request) -> Option<(&'a str, &'a str)> {
        let token = request.service_account_token.as_deref().filter(|token| !token.is_empty())?;
        let own = request.service_account_annotations.get(TRUST);
        Some((token, own.or(self.trust.as_ref())?))
    }

    async fn exchange(&self, token: &str, trust: &str, clock: &dyn Clock) -> Result<Login, String> {
        let url = self.url()?;
        let authorities = self.ca_file.as_deref().map(login::certificates).transpose()?.unwrap_or_default();
        let host = url.host().to_string();
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", token),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
            ("audience", host.as_str()),
            ("account", self.account.as_str()),
            ("trust", trust),
        ];
        let asked = clock.now();
        let document = remote::post_form(&url, authorities, "/exchange", &form).await.map_err(|error| chain(&error))?;
        Login::read(&document, asked).ok_or_else(|| format!("{url} answered, but not as a Hythe registry"))
    }

    fn url(&self) -> Result<PublicUrl, String> {
        self.url.parse().map_err(|rule| format!("url {}: expected {rule}", self.url))
    }

    async fn mint(&self, image: &Image<'_>, cache: Option<&Path>, clock: &dyn Clock) -> Result<Option<Login>, String> {
        let Some(key_file) = &self.key_file else { return Ok(None) };
        let mint = async || {
            let url = self.url()?;
            let key = private_file::read(key_file, Readers::Owner)?;
            let server = login::server(&url, key, self.ca_file.as_deref())?;
            let ttl = self.ttl.as_deref().map(seconds).transpose().map_err(|rule| format!("ttl: {rule}"))?;
            let repositories = self.repositories.clone();
            let order = Order { kind: Kind::Pull, repositories, ttl, label: NAME.to_owned() };
            let minted = login::mint(&server, &self.account, &order, None, clock).await;
            minted.map_err(|error| chain(&error))
        };
        let login = match cache {
            None => mint().await,
            Some(folder) => {
                let name = format!("{}_{}", image.host, image.account);
                LoginCache::open(folder)?.get(&name, clock, |error| error, mint).await
            }
        };
        login.map(Some)
    }

    /// Kept by the kubelet for half of what is left of the login; by its image, because on a host of several accounts one
    /// account's login must not serve another's images.
    fn response(&self, image: &Image<'_>, login: &Login, clock: &dyn Clock) -> Value {
        let left = (login.expires() - clock.now()).num_seconds().max(0);
        let (by, reach) = if self.account_host {
            ("Registry", image.host.to_owned())
        } else {
            ("Image", format!("{}/{}", image.host, image.account))
        };
        let mut auth = serde_json::Map::new();
        auth.insert(reach, json!({"username": login.username, "password": login.password.reveal()}));
        response(by, left / 2, Value::Object(auth))
    }
}

fn nothing() -> Value {
    response("Image", 0, Value::Null)
}

fn response(by: &str, seconds: i64, auth: impl Into<Value>) -> Value {
    json!({
        "apiVersion": API,
        "kind": "CredentialProviderResponse",
        "cacheKeyType": by,
        "cacheDuration": format!("{seconds}s"),
        "auth": auth.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_names_its_registry_and_its_account() {
        let image = |image| Image::of(image).map(|i| (i.host, i.account));
        assert_eq!(image("registry.example/acme/web/api:1"), Some(("registry.example", "acme")));
        assert_eq!(image("127.0.0.1:5080/acme/web@sha256:0"), Some(("127.0.0.1:5080", "acme")));
        assert_eq!(image("localhost/acme/web"), Some(("localhost", "acme")));
        for other in ["nginx", "library/nginx", "library/nginx/x", "registry.example/acme:1", ""] {
            assert_eq!(image(other), None, "{other}");
        }
    }
}
