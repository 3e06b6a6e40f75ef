//! The refresher's file: which Secrets, in which namespaces, from which access keys.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use config::{HumanDuration, PublicUrl};
use serde::Deserialize;
use storage::AccountName;

use super::super::{
    Failure,
    credential::kubernetes_name,
    login::{Kind as LoginKind, Order},
};

/// How often what is due is looked for, unless said.
const LOOK: Duration = Duration::from_secs(10);

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    url: String,
    ca_file: Option<PathBuf>,
    look: Option<String>,
    #[serde(default)]
    secret: Vec<RawSecret>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSecret {
    name: String,
    #[serde(default)]
    kind: Kind,
    account: AccountName,
    key_file: PathBuf,
    #[serde(default)]
    namespaces: Vec<String>,
    namespace_selector: Option<String>,
    #[serde(default)]
    repositories: Vec<String>,
    ttl: Option<String>,
    #[serde(default)]
    service_accounts: Vec<String>,
    #[serde(default)]
    annotated_service_accounts: bool,
    #[serde(default)]
    fields: BTreeMap<String, String>,
}

/// Who reads a Secret.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// Kubelets, and whatever else reads `kubernetes.io/dockerconfigjson`.
    #[default]
    Dockerconfigjson,
    /// Argo CD: a repository of charts.
    ArgocdRepository,
    /// Flux: an `OCIRepository`, a `HelmRepository` or an `ImageRepository`.
    Flux,
}

/// The file, checked.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) url: PublicUrl,
    pub(super) ca_file: Option<PathBuf>,
    /// How often what is due is looked for.
    pub(super) look: Duration,
    pub(super) secrets: Vec<Wanted>,
}

/// A Secret that is kept fresh in one namespace or many.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) account: AccountName,
    pub(super) key_file: PathBuf,
    pub(super) namespaces: Namespaces,
    pub(super) order: Order,
    /// Service accounts whose pods get it.
    pub(super) service_accounts: Vec<String>,
    /// Whether service accounts that ask for it by their annotation get it too.
    pub(super) annotated: bool,
    /// Further fields of the Secret: what Argo CD reads beside the login.
    pub(super) fields: BTreeMap<String, String>,
    /// Differs when what stands in the Secret would.
    pub(super) fingerprint: String,
}

/// Where a Secret is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Namespaces {
    Named(Vec<String>),
    /// By labels, in the syntax of Kubernetes.
    Selected(String),
}

impl Config {
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let raw: Raw =
            toml::from_str(text).map_err(|error| Failure::Usage(error.to_string().trim().replace('\n', " ")))?;
        let url = raw.url.parse::<PublicUrl>();
        let url = url.map_err(|rule| Failure::Usage(format!("url: expected {rule}")))?;
        let look = raw.look.as_deref().map(duration).transpose()?.unwrap_or(LOOK);
        if raw.secret.is_empty() {
            return Err(Failure::Usage("there is no [[secret]] to keep fresh".to_owned()));
        }
        let secrets = raw.secret.into_iter().map(|raw| Wanted::check(raw, &url)).collect::<Result<_, _>>()?;
        Ok(Self { url, ca_file: raw.ca_file, look, secrets })
    }
}

fn duration(text: &str) -> Result<Duration, Failure> {
    let parsed = text.parse::<HumanDuration>().map(HumanDuration::duration);
    let parsed = parsed.map_err(|rule| Failure::Usage(format!("{text}: expected {rule}")))?;
    if parsed.is_zero() { Err(Failure::Usage(format!("{text}: expected more than nothing"))) } else { Ok(parsed) }
}

impl Wanted {
    fn check(raw: RawSecret, url: &PublicUrl) -> Result<Self, Failure> {
        let usage = |line: String| Failure::Usage(format!("secret {}: {line}", raw.name));
        for name in [&raw.name].into_iter().chain(&raw.namespaces).chain(&raw.service_accounts) {
            kubernetes_name(name).map_err(|rule| usage(format!("{name}: expected {rule}")))?;
        }
        let namespaces = match raw.namespace_selector {
            Some(selector) if raw.namespaces.is_empty() => Namespaces::Selected(selector),
            None if !raw.namespaces.is_empty() => Namespaces::Named(raw.namespaces),
            _ => return Err(usage("name either namespaces or a namespace_selector".to_owned())),
        };
        let mut fields = raw.fields;
        if raw.kind == Kind::ArgocdRepository {
            let usual = [
                ("type", "helm".to_owned()),
                ("enableOCI", "true".to_owned()),
                ("name", raw.name.clone()),
                ("url", format!("{}/{}", url.host(), raw.account)),
            ];
            for (field, value) in usual {
                fields.entry(field.to_owned()).or_insert(value);
            }
        }
        for field in ["username", "password", ".dockerconfigjson"] {
            if fields.contains_key(field) {
                return Err(usage(format!("fields.{field} is what the refresher writes")));
            }
        }
        let ttl = raw.ttl.as_deref().map(duration).transpose()?.map(|ttl| ttl.as_secs());
        let label = format!("secret-refresher {}", raw.name);
        let order = Order { kind: LoginKind::Pull, repositories: raw.repositories, ttl, label };
        let source =
            format!("{url} {} {:?} {:?} {:?} {fields:?}", raw.account, raw.kind, order.repositories, order.ttl);
        let fingerprint = hex::encode(digest(&SHA256, source.as_bytes())).chars().take(16).collect();
        Ok(Self {
            name: raw.name,
            kind: raw.kind,
            account: raw.account,
            key_file: raw.key_file,
            namespaces,
            order,
            service_accounts: raw.service_accounts,
            annotated: raw.annotated_service_accounts,
            fields,
            fingerprint,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str =
        "url = 'https://registry.example'\n[[secret]]\nname = 'pull'\naccount = 'acme'\nkey_file = '/key'\n";

    fn refused(text: &str) -> String {
        match Config::parse(text) {
            Err(Failure::Usage(line)) => line,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_that_cannot_be_meant_is_refused_with_its_place() {
        assert!(refused(ONE).contains("either namespaces or"));
        assert!(refused("url = 'https://registry.example'").contains("[[secret]]"));
        assert!(refused(&format!("{ONE}namespaces = ['a']\nnamespace_selector = 'a=b'\n")).contains("either"));
        assert!(refused(&format!("{ONE}namespace = 'a'\n")).contains("namespace"));
        assert!(refused(&format!("{ONE}namespaces = ['A/b']\n")).contains("A/b"));
        assert!(refused(&format!("{ONE}namespaces = ['a']\nttl = '0s'\n")).contains("0s"));
        assert!(
            refused(&format!("{ONE}namespaces = ['a']\nfields = {{password = 'x'}}\n")).contains("fields.password")
        );
    }

    #[test]
    fn another_reach_is_another_secret_and_another_place_is_not() {
        let print = |more: &str| Config::parse(&format!("{ONE}{more}")).unwrap().secrets.remove(0).fingerprint;
        let plain = print("namespaces = ['a']\n");
        assert_eq!(plain, print("namespace_selector = 'x'\n"));
        assert_ne!(plain, print("namespaces = ['a']\nrepositories = ['acme/web/*']\n"));
        assert_ne!(plain, print("namespaces = ['a']\nkind = 'flux'\n"));
    }

    #[test]
    fn a_repository_of_argo_cd_is_the_account_unless_said() {
        let config = Config::parse(&format!("{ONE}kind = 'argocd-repository'\nnamespaces = ['a']\n")).unwrap();
        let fields = &config.secrets[0].fields;
        assert_eq!((fields["url"].as_str(), fields["enableOCI"].as_str()), ("registry.example/acme", "true"));
        let own =
            format!("{ONE}kind = 'argocd-repository'\nnamespaces = ['a']\nfields = {{url = 'x', type = 'oci'}}\n");
        let config = Config::parse(&own).unwrap();
        assert_eq!((config.secrets[0].fields["url"].as_str(), config.secrets[0].fields["type"].as_str()), ("x", "oci"));
    }
}
