//! What stands in a Secret, for whom, and what the refresher reads from one that it wrote.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::SecondsFormat;
use serde_json::{Map, Value, json};
use storage::Time;

use super::{
    super::{login::Login, server::text},
    config::{Kind, Wanted},
};

/// The credential's user name, as `hythe credential create --output secret` writes it too.
const CREDENTIAL: &str = "hythe.io/credential";
/// When it ends.
const EXPIRES: &str = "hythe.io/expires";
/// From when on the refresher wants another.
const RENEW: &str = "hythe.io/renew-after";
/// What it was made from, so that other settings make another.
const SOURCE: &str = "hythe.io/source";

/// A Secret as it was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// For who changes it only as it was.
    pub(super) version: String,
    pub(super) uid: String,
    pub(super) of_type: String,
    credential: String,
    source: String,
    pub(super) renew: Option<Time>,
    pub(super) expires: Option<Time>,
}

impl Found {
    pub(super) fn read(object: &Value) -> Self {
        let metadata = object.get("metadata").cloned().unwrap_or_default();
        let annotations = metadata.get("annotations").cloned().unwrap_or_default();
        Self {
            version: text(&metadata, "resourceVersion").to_owned(),
            uid: text(&metadata, "uid").to_owned(),
            of_type: text(object, "type").to_owned(),
            credential: text(&annotations, CREDENTIAL).to_owned(),
            source: text(&annotations, SOURCE).to_owned(),
            renew: text(&annotations, RENEW).parse().ok(),
            expires: text(&annotations, EXPIRES).parse().ok(),
        }
    }

    /// Whether it holds what is wanted, for long enough.
    pub(super) fn is_fresh(&self, wanted: &Wanted, now: Time) -> bool {
        self.source == wanted.fingerprint && self.renew.is_some_and(|renew| now < renew)
    }

    /// The id of the credential in it, if this account's key may have minted that, and it lives.
    pub(super) fn replaceable(&self, wanted: &Wanted, now: Time) -> Option<&str> {
        let alive = self.expires.is_some_and(|expires| now < expires);
        let id = self.credential.strip_prefix(wanted.account.as_str())?.strip_prefix(".pull.")?;
        alive.then_some(id)
    }
}

impl Wanted {
    /// The Secret's type, which cannot be changed once it exists.
    pub(super) fn of_type(&self) -> &'static str {
        match self.kind {
            Kind::Dockerconfigjson | Kind::Flux => "kubernetes.io/dockerconfigjson",
            Kind::ArgocdRepository => "Opaque",
        }
    }

    /// A new Secret with this login in it, or what is changed of the one that was found, as long as nobody else changes it.
    pub(super) fn object(&self, host: &str, login: &Login, found: Option<&Found>) -> Value {
        let second = |time: Time| time.to_rfc3339_opts(SecondsFormat::Secs, true);
        let annotations = json!({
            CREDENTIAL: login.username,
            EXPIRES: second(login.expires()),
            RENEW: second(login.half()),
            SOURCE: self.fingerprint,
        });
        let labels = match self.kind {
            Kind::ArgocdRepository => json!({"argocd.argoproj.io/secret-type": "repository"}),
            Kind::Dockerconfigjson | Kind::Flux => json!({}),
        };
        let data = self.data(host, login);
        match found {
            Some(found) => json!({
                "metadata": {"resourceVersion": found.version, "annotations": annotations, "labels": labels},
                "data": data,
            }),
            None => json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": self.name, "annotations": annotations, "labels": labels},
                "type": self.of_type(),
                "data": data,
            }),
        }
    }

    fn data(&self, host: &str, login: &Login) -> Map<String, Value> {
        let (user, password) = (login.username.as_str(), login.password.reveal());
        let auth = STANDARD.encode(format!("{user}:{password}"));
        let config = json!({"auths": {host: {"username": user, "password": password, "auth": auth}}}).to_string();
        let plain = [("username", user), ("password", password)];
        let docker = [(".dockerconfigjson", config.as_str())];
        let own: Vec<(&str, &str)> = match self.kind {
            Kind::Dockerconfigjson => docker.to_vec(),
            Kind::ArgocdRepository => plain.to_vec(),
            // A HelmRepository reads one form, an ImageRepository the other.
            Kind::Flux => docker.into_iter().chain(plain).collect(),
        };
        let further = self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        own.into_iter().chain(further).map(|(name, value)| (name.to_owned(), STANDARD.encode(value).into())).collect()
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use config::Secret;

    use super::{super::config::Config, *};

    fn wanted(kind: &str) -> Wanted {
        let text = format!(
            "url = 'https://registry.example'\n[[secret]]\nname = 'pull'\nkind = '{kind}'\naccount = 'acme'\n\
             key_file = '/key'\nnamespaces = ['a']\n"
        );
        Config::parse(&text).unwrap().secrets.remove(0)
    }

    fn login() -> Login {
        Login {
            username: "acme.pull.0123456789abcdef".to_owned(),
            password: Secret::new("hypl_x"),
            minted: "2026-11-21T10:00:00Z".parse().unwrap(),
            life: TimeDelta::hours(2),
        }
    }

    #[test]
    fn each_kind_is_what_its_reader_wants() {
        let object = |kind| wanted(kind).object("registry.example", &login(), None);
        let fields = |kind| {
            let data = object(kind)["data"].as_object().unwrap().clone();
            let plain = |v: &Value| String::from_utf8(STANDARD.decode(v.as_str().unwrap()).unwrap()).unwrap();
            data.iter().map(|(name, value)| (name.clone(), plain(value))).collect::<std::collections::BTreeMap<_, _>>()
        };
        let docker: Value = serde_json::from_str(&fields("dockerconfigjson")[".dockerconfigjson"]).unwrap();
        assert_eq!(docker["auths"]["registry.example"]["username"], "acme.pull.0123456789abcdef");
        let auth = STANDARD.decode(docker["auths"]["registry.example"]["auth"].as_str().unwrap()).unwrap();
        assert_eq!(auth, b"acme.pull.0123456789abcdef:hypl_x");
        let argo = fields("argocd-repository");
        assert_eq!((argo["username"].as_str(), argo["password"].as_str()), ("acme.pull.0123456789abcdef", "hypl_x"));
        assert_eq!((argo["type"].as_str(), argo["url"].as_str()), ("helm", "registry.example/acme"));
        assert_eq!(object("argocd-repository")["metadata"]["labels"]["argocd.argoproj.io/secret-type"], "repository");
        let flux = fields("flux");
        assert_eq!(flux.keys().collect::<Vec<_>>(), [".dockerconfigjson", "password", "username"]);
    }

    #[test]
    fn a_secret_is_fresh_for_half_its_life_and_only_for_the_settings_it_was_made_from() {
        let wanted = wanted("dockerconfigjson");
        let found = Found::read(&wanted.object("registry.example", &login(), None));
        let at = |time: &str| time.parse::<Time>().unwrap();
        assert!(found.is_fresh(&wanted, at("2026-11-21T10:59:59Z")));
        assert!(!found.is_fresh(&wanted, at("2026-11-21T11:00:00Z")));
        assert_eq!(found.replaceable(&wanted, at("2026-11-21T11:00:00Z")), Some("0123456789abcdef"));
        assert_eq!(found.replaceable(&wanted, at("2026-11-21T12:00:00Z")), None);
        assert!(!found.is_fresh(&self::wanted("flux"), at("2026-11-21T10:00:00Z")));
        let by_hand = Found::read(&json!({"metadata": {"resourceVersion": "1"}, "type": "Opaque"}));
        assert!(!by_hand.is_fresh(&wanted, at("2026-11-21T10:00:00Z")));
        assert_eq!(by_hand.replaceable(&wanted, at("2026-11-21T10:00:00Z")), None);
    }
}
