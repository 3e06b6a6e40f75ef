//! The one table of settings.

/// What a setting holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One value.
    Value,
    /// Any number of values: an array, a repeated flag, a comma-separated variable.
    List,
    /// True or false; the flag alone means true.
    Switch,
    /// A value that is never shown, and that a file may hold (`…_file`).
    Secret,
}

/// A setting: its key, and what the command line says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The key in the file, e.g. `limits.body_timeout`.
    pub key: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// What stands for the value in a usage line, e.g. `ADDR`.
    pub placeholder: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// Whether a running server takes another value over; if not, it takes effect with a restart.
    pub reload: bool,
}

impl Setting {
    /// The flag without its dashes: `limits-body-timeout`.
    pub fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }

    /// The variable: `HYTHE_LIMITS_BODY_TIMEOUT`.
    pub fn variable(&self) -> String {
        format!("HYTHE_{}", self.key.replace('.', "_").to_uppercase())
    }

    /// What a value is, for people: `a time`, `a list of URL`.
    pub fn holds(&self) -> String {
        let one = match self.placeholder {
            "BOOL" => "true or false".to_owned(),
            "TIME" => "time".to_owned(),
            "SIZE" => "size".to_owned(),
            "COUNT" => "number".to_owned(),
            other => other.split('|').collect::<Vec<_>>().join(" or "),
        };
        match self.kind {
            Kind::List => format!("list of {one}"),
            Kind::Secret => "secret".to_owned(),
            Kind::Value | Kind::Switch => one,
        }
    }

    /// The setting with this key.
    pub fn of(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|s| s.key == key)
    }
}

const fn setting(key: &'static str, kind: Kind, placeholder: &'static str, help: &'static str) -> Setting {
    Setting { key, kind, placeholder, help, reload: false }
}

/// A setting that a running server takes over.
const fn live(key: &'static str, kind: Kind, placeholder: &'static str, help: &'static str) -> Setting {
    Setting { key, kind, placeholder, help, reload: true }
}

/// Every setting there is, in the order in which they are shown.
pub const SETTINGS: &[Setting] = &[
    setting("listen", Kind::Value, "ADDR", "Address and port of the registry; port 0 takes a free one"),
    setting("operations", Kind::Value, "ADDR|off", "Address of /metrics and /readyz with detail, or off"),
    setting("public_url", Kind::List, "URL", "Name clients use, e.g. https://registry.example; the first is canonical"),
    setting(
        "account_domain",
        Kind::Value,
        "NAME",
        "Domain under which every account has a name of its own: registry.example makes acme.registry.example account acme's",
    ),
    setting("data", Kind::Value, "DIR", "Keep everything in this folder"),
    setting("store", Kind::Value, "URL", "Keep everything in this object store, e.g. s3://bucket/prefix"),
    setting("records", Kind::Value, "sqlite:PATH", "With --store: keep the records in this SQLite file"),
    setting("account", Kind::Value, "NAME", "Make this account if it does not exist"),
    live("tls_cert", Kind::Value, "FILE", "Certificate chain (PEM) of the registry"),
    live("tls_key", Kind::Value, "FILE", "Private key (PEM) of the certificate"),
    live(
        "tls_dir",
        Kind::Value,
        "DIR",
        "Folder of NAME.crt and NAME.key pairs (PEM), chosen by the name a client asks for",
    ),
    setting(
        "tls_self_signed",
        Kind::List,
        "HOST",
        "Serve a certificate for this name, of an authority that is made and kept in DATA/tls, or in --tls-dir",
    ),
    live("trusted_proxy", Kind::List, "CIDR", "Proxy whose X-Forwarded-For, -Proto and -Host count"),
    setting(
        "trusted_issuer",
        Kind::List,
        "URL",
        "Issuer of OpenID Connect tokens whose keys are asked for, as its tokens name it; trust policies may take its tokens",
    ),
    setting(
        "trusted_issuer_network",
        Kind::List,
        "CIDR",
        "Network that issuers may be in beside the public ones, which are all that are asked otherwise",
    ),
    setting("read_only", Kind::Switch, "BOOL", "Refuse pushes and deletes"),
    setting(
        "sparse_manifests",
        Kind::Switch,
        "BOOL",
        "Take image manifests whose blobs the repository does not contain; otherwise 404 MANIFEST_BLOB_UNKNOWN",
    ),
    setting(
        "default_quota",
        Kind::Value,
        "SIZE|none",
        "What an account may keep that has no quota of its own (hythe account set NAME --quota SIZE)",
    ),
    setting(
        "open_uploads",
        Kind::Value,
        "COUNT",
        "Uploads of one account that may be unfinished at once on this server; one that nobody goes on with counts for an hour",
    ),
    setting(
        "revocation_bound",
        Kind::Value,
        "TIME",
        "How long an ended right may still be honoured, 2s to 60s; without the store, requests are refused after this long",
    ),
    setting("seal_key", Kind::Secret, "SECRET", "Key that seals private keys in the store"),
    setting(
        "seal_key_command",
        Kind::Value,
        "COMMAND",
        "In the place of seal_key: the program, with its arguments, that prints it; no shell, so nothing is quoted",
    ),
    setting("limits.connections", Kind::Value, "COUNT", "Connections open at once"),
    live("limits.header_size", Kind::Value, "SIZE", "Bytes of a request's head"),
    live("limits.header_timeout", Kind::Value, "TIME", "How long a request's head may take"),
    live("limits.idle_timeout", Kind::Value, "TIME", "How long a connection may stay without a request"),
    live("limits.body_timeout", Kind::Value, "TIME", "How long a transfer may stand still"),
    live("limits.drain_timeout", Kind::Value, "TIME", "How long requests may go on after the order to stop"),
    live("log.filter", Kind::Value, "FILTER", "Events to log: a level, or target=level,…"),
    setting("log.format", Kind::Value, "text|json", "Form of the log on stderr"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_flag_and_variable_are_spelled_alike() {
        let setting = Setting::of("limits.body_timeout").unwrap();
        assert_eq!(setting.flag(), "limits-body-timeout");
        assert_eq!(setting.variable(), "HYTHE_LIMITS_BODY_TIMEOUT");
    }

    #[test]
    fn every_setting_stands_in_the_default_file() {
        let (mut table, mut keys) = (String::new(), Vec::new());
        for line in crate::DEFAULT_FILE.lines() {
            let line = line.strip_prefix("# ").unwrap_or(line);
            if let Some(name) = line.strip_prefix('[') {
                table = name.trim_end_matches(']').to_owned() + ".";
            } else if let Some((key, _)) = line.split_once(" = ") {
                keys.push(format!("{table}{key}"));
            }
        }
        for setting in SETTINGS {
            assert!(keys.iter().any(|k| k == setting.key), "{} is not in default.toml", setting.key);
        }
        assert_eq!(keys.len(), SETTINGS.len());
    }
}
