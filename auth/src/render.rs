//! What the holder of a credential pastes: login lines, `dockerconfigjson`, a Kubernetes Secret.
//!
//! No value has a quote, a backslash, a space or `${`, so that templates, shells and YAML carry it unchanged.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use storage::{AccountName, Time};

use crate::{
    access_key::Shown,
    credential::{Credential, Issuer, Minted},
    id::Id,
    scope::{Actions, Pattern},
    secret::Kind,
};

/// Where clients reach the registry, and with it each account: at the first of its own names, else at its name under the account
/// domain, else where they reach the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    name: String,
    plain: bool,
    account_domain: Option<String>,
}

impl Host {
    /// `name` is `HOST` or `HOST:PORT`, without scheme and path: docker ignores a path, and one host has one credential.
    /// `plain`: it speaks HTTP without TLS. `None` if it is no host.
    pub fn new(name: &str, plain: bool) -> Option<Self> {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
        (!name.is_empty() && name.bytes().all(good)).then(|| Self {
            name: name.to_owned(),
            plain,
            account_domain: None,
        })
    }

    /// The same, with a name for every account under this domain.
    #[must_use]
    pub fn with_account_domain(self, domain: Option<&str>) -> Self {
        Self { account_domain: domain.map(str::to_owned), ..self }
    }

    /// Where an account is reached: scheme and port are the registry's. `own` is the first of its own names.
    fn of(&self, account: &AccountName, own: Option<&str>) -> Cow<'_, str> {
        let below = || self.account_domain.as_ref().map(|domain| Cow::Owned(format!("{account}.{domain}")));
        let Some(name) = own.map(Cow::Borrowed).or_else(below) else { return Cow::Borrowed(&self.name) };
        let port = self.name.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.contains(']'));
        Cow::Owned(port.map_or_else(|| name.clone().into_owned(), |port| format!("{name}:{port}")))
    }

    /// `HOST` or `HOST:PORT`.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

/// What a Secret of Kubernetes is called and where it lies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretName {
    /// `hythe-ACCOUNT` where it says nothing.
    pub name: Option<String>,
    /// The cluster's default where it says nothing.
    pub namespace: Option<String>,
}

/// The renderings of one credential.
#[derive(Clone)]
pub struct Rendering {
    /// The line that logs docker in.
    pub docker_login: Shown,
    /// The line that logs helm in.
    pub helm_login: Shown,
    /// `config.json` of docker, compact, one line.
    pub config: Shown,
    /// Standard base64 of `config`, no line break: begins with `eyJh`.
    pub dockerconfigjson: Shown,
    /// A Secret of type `kubernetes.io/dockerconfigjson`, as YAML.
    pub kubernetes_secret: Shown,
}

impl std::fmt::Debug for Rendering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rendering(***)")
    }
}

/// Renders a credential that was just minted.
pub fn render(minted: &Minted, host: &Host, secret: &SecretName) -> Rendering {
    let (user, password) = (&minted.credential.username, minted.secret.reveal());
    let name = host.of(&minted.credential.account, minted.credential.own_host.as_deref());
    let pipe = format!("printf %s '{password}' |");
    let mut docker = format!("{pipe} docker login {name} -u {user} --password-stdin");
    let mut helm = format!("{pipe} helm registry login {name} -u {user} --password-stdin");
    if host.plain {
        helm.push_str(" --plain-http");
        docker.push_str(" # plain HTTP: podman and skopeo need --tls-verify=false");
    }
    let auth = STANDARD.encode(format!("{user}:{password}"));
    // Every value is of an alphabet that needs no escape in JSON.
    let config = format!(r#"{{"auths":{{"{name}":{{"username":"{user}","password":"{password}","auth":"{auth}"}}}}}}"#);
    let encoded = STANDARD.encode(&config);
    let yaml = secret_yaml(&minted.credential, &encoded, secret);
    Rendering {
        docker_login: Shown::new(&docker),
        helm_login: Shown::new(&helm),
        config: Shown::new(&config),
        dockerconfigjson: Shown::new(&encoded),
        kubernetes_secret: Shown::new(&yaml),
    }
}

fn rfc3339(at: Time) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

fn secret_yaml(credential: &Credential, encoded: &str, secret: &SecretName) -> String {
    let name = secret.name.clone().unwrap_or_else(|| format!("hythe-{}", credential.account));
    let namespace = secret.namespace.as_ref().map(|n| format!("  namespace: {n}\n")).unwrap_or_default();
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n{namespace}  annotations:\n    hythe.io/credential: {user}\n    \
         hythe.io/expires: \"{expires}\"\ntype: kubernetes.io/dockerconfigjson\ndata:\n  .dockerconfigjson: {encoded}\n",
        user = credential.username,
        expires = rfc3339(credential.expires_at),
    )
}

/// A credential as the API and the command line show it: whole where it is made, without what follows from its secret in lists.
#[derive(Debug, Clone, Serialize)]
pub struct CredentialDocument {
    /// Its id.
    pub id: Id,
    /// Its account.
    pub account: AccountName,
    /// The user name.
    pub username: String,
    /// The password: only where the credential is made, like all that follows from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Shown>,
    /// The registry's host.
    pub host: String,
    /// Pull or push, or a session.
    pub kind: Kind,
    /// What it may do.
    pub actions: Actions,
    /// Where.
    pub repositories: Vec<Pattern>,
    /// What people call it.
    pub label: String,
    /// When it was minted.
    #[serde(with = "crate::time::millis")]
    pub created_at: Time,
    /// When it ends.
    #[serde(with = "crate::time::millis")]
    pub expires_at: Time,
    /// When it was revoked, if it was: in lists.
    #[serde(with = "crate::time::millis::option", skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Time>,
    /// Who minted it: in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Issuer>,
    /// The day it was last used, if it was: in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_on: Option<chrono::NaiveDate>,
    /// The line that logs docker in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_login: Option<Shown>,
    /// The line that logs helm in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub helm_login: Option<Shown>,
    /// Base64 of docker's `config.json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dockerconfigjson: Option<Shown>,
    /// A Kubernetes Secret as YAML.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes_secret: Option<Shown>,
}

impl Credential {
    /// As lists show it.
    pub fn document(self, host: &Host) -> CredentialDocument {
        let at = host.of(&self.account, self.own_host.as_deref()).into_owned();
        CredentialDocument {
            id: self.id,
            account: self.account,
            username: self.username,
            password: None,
            host: at,
            kind: self.kind,
            actions: self.actions,
            repositories: self.repositories,
            label: self.label,
            created_at: self.created_at,
            expires_at: self.expires_at,
            revoked_at: self.revoked_at,
            issuer: Some(self.issuer),
            last_used_on: self.last_used_on,
            docker_login: None,
            helm_login: None,
            dockerconfigjson: None,
            kubernetes_secret: None,
        }
    }
}

impl Minted {
    /// As it is shown once, where it is made.
    pub fn document(self, host: &Host, secret: &SecretName) -> CredentialDocument {
        let rendering = render(&self, host, secret);
        let password = Shown::new(self.secret.reveal());
        CredentialDocument {
            password: Some(password),
            issuer: None,
            docker_login: Some(rendering.docker_login),
            helm_login: Some(rendering.helm_login),
            dockerconfigjson: Some(rendering.dockerconfigjson),
            kubernetes_secret: Some(rendering.kubernetes_secret),
            ..self.credential.document(host)
        }
    }
}
