//! From texts to a [`Config`]: every rule between settings, and every rule of one.

use std::{
    cmp::Ordering,
    fmt::Display,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use ipnet::IpNet;

use crate::{
    ByteSize, Config, DeclaredAccount, Effective, Error, HostName, HumanDuration, Issuers, Limits, Log, LogFormat,
    Operations, Origin, Secret, SelfSigned, Server, Store, Tls, TlsFiles,
    load::{Given, Layer},
};

const ADDRESS: &str = "expected an address and port, like 127.0.0.1:5080 or [::]:5080";

pub(crate) fn check(
    settled: &Layer,
    effective: Vec<Effective>,
    accounts: Vec<DeclaredAccount>,
) -> Result<Config, Error> {
    let read = Read(settled);
    Ok(Config {
        server: server(&read)?,
        store: store(&read)?,
        account: read.optional("account").map(|(_, text)| text.to_owned()),
        seal_key: read.optional("seal_key").map(|(_, text)| Secret::new(text)),
        seal_key_command: seal_key_command(&read)?,
        issuers: issuers(&read)?,
        limits: limits(&read)?,
        log: Log {
            filter: read.one("log.filter", |text| Ok::<_, &str>(text.to_owned()))?,
            format: read.one("log.format", |text| match text {
                "text" => Ok(LogFormat::Text),
                "json" => Ok(LogFormat::Json),
                _ => Err("expected text or json"),
            })?,
        },
        accounts,
        effective,
    })
}

fn seal_key_command(read: &Read<'_>) -> Result<Option<Vec<String>>, Error> {
    let Some((given, text)) = read.optional("seal_key_command") else { return Ok(None) };
    if let Some((key, _)) = read.optional("seal_key") {
        return Err(Error::Conflict {
            first: "seal_key".to_owned(),
            first_origin: key.origin.clone(),
            second: "seal_key_command".to_owned(),
            second_origin: given.origin.clone(),
        });
    }
    let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
    Ok((!words.is_empty()).then_some(words))
}

fn server(read: &Read<'_>) -> Result<Server, Error> {
    let pair = read.pair("tls_cert", "tls_key")?;
    let pair = pair.map(|(certificate, key)| TlsFiles { certificate: certificate.into(), key: key.into() });
    let folder = read.optional("tls_dir").map(|(_, path)| PathBuf::from(path));
    let self_signed = self_signed(read, folder.as_deref())?;
    let tls = match &self_signed {
        Some(own) => {
            // One file, so that certificate and key are replaced as one.
            let file = own.folder.join("server.pem");
            Some(Tls { pair: Some(TlsFiles { certificate: file.clone(), key: file }), folder: None })
        }
        None => (pair.is_some() || folder.is_some()).then_some(Tls { pair, folder }),
    };
    let by_default = read.0.get("operations").is_some_and(|given| given.origin == Origin::Default);
    Ok(Server {
        listen: read.one("listen", |text| text.parse::<SocketAddr>().map_err(|_| ADDRESS))?,
        operations: read.one("operations", |text| match text {
            "off" => Ok(Operations::Off),
            text => match text.parse() {
                Ok(address) if by_default => Ok(Operations::Default(address)),
                Ok(address) => Ok(Operations::At(address)),
                Err(_) => Err(format!("{ADDRESS}, or off")),
            },
        })?,
        public_urls: read.list("public_url")?,
        account_domain: account_domain(read)?,
        trusted_proxies: read.each("trusted_proxy", network)?,
        tls,
        self_signed,
        read_only: read.one("read_only", switch)?,
        sparse_manifests: read.one("sparse_manifests", switch)?,
        default_quota: read.one("default_quota", |text| match text {
            "none" => Ok(None),
            size => size
                .parse::<ByteSize>()
                .map(|size| Some(size.bytes()))
                .map_err(|rule| format!("expected {rule}, or none")),
        })?,
        open_uploads: read.one("open_uploads", count)?,
        revocation_bound: read.one("revocation_bound", |text| {
            let bound = text.parse::<HumanDuration>().ok().map(HumanDuration::duration);
            let range = Duration::from_secs(2)..=Duration::from_mins(1);
            bound.filter(|bound| range.contains(bound)).ok_or("expected 2s to 60s")
        })?,
    })
}

/// A name below which labels can stand; the port of an account's host is that of the public URLs.
fn account_domain(read: &Read<'_>) -> Result<Option<HostName>, Error> {
    let name = |text: &str| {
        let host = text.parse::<HostName>().ok().filter(|host| host.ip().is_none() && host.port().is_none());
        host.ok_or("expected a domain without a port, like registry.example")
    };
    read.optional("account_domain").map(|_| read.one("account_domain", name)).transpose()
}

fn network(text: &str) -> Result<IpNet, &'static str> {
    let alone = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>().or_else(|_| alone()).map_err(|_| "expected a network, like 10.0.0.0/8, or an address")
}

fn issuers(read: &Read<'_>) -> Result<Issuers, Error> {
    // Kept as it is written: tokens name their issuer with exactly these bytes.
    let issuer = |text: &str| {
        let url = url::Url::parse(text).ok().filter(|url| url.scheme() == "https" && url.has_host());
        let plain = url.filter(|url| url.query().is_none() && url.fragment().is_none() && url.username().is_empty());
        plain.map(|_| text.to_owned()).ok_or("expected an address, like https://token.actions.githubusercontent.com")
    };
    Ok(Issuers {
        trusted: read.each("trusted_issuer", issuer)?,
        networks: read.each("trusted_issuer_network", network)?,
    })
}

fn self_signed(read: &Read<'_>, folder: Option<&Path>) -> Result<Option<SelfSigned>, Error> {
    let hosts = read.list("tls_self_signed")?;
    let Some((given, _)) = read.optional("tls_self_signed") else { return Ok(None) };
    if let Some((pair, _)) = read.optional("tls_cert") {
        return Err(Error::Conflict {
            first: "tls_cert".to_owned(),
            first_origin: pair.origin.clone(),
            second: "tls_self_signed".to_owned(),
            second_origin: given.origin.clone(),
        });
    }
    let folder = match (folder, store(read)?) {
        (Some(folder), _) => folder.to_owned(),
        (None, Store::Folder(data)) => data.join("tls"),
        // A key does not belong into the bucket, and a folder of this machine's own choice would be another after the next start.
        (None, Store::Remote { .. }) => {
            let origin = given.origin.clone();
            let rule = "with a bucket, name with tls_dir the folder that keeps the authority and its key".to_owned();
            return Err(Error::Invalid { key: "tls_self_signed", origin, rule });
        }
    };
    Ok(Some(SelfSigned { hosts, folder }))
}

fn count(text: &str) -> Result<usize, &'static str> {
    text.parse().ok().filter(|&n| n > 0).ok_or("expected a number above 0")
}

fn switch(text: &str) -> Result<bool, &'static str> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("expected true or false"),
    }
}

/// `data` and `store` are one choice: where both are given, the later layer's counts, as it would for one key.
fn store(read: &Read<'_>) -> Result<Store, Error> {
    let (url, data, records) = (read.optional("store"), read.optional("data"), read.optional("records"));
    let (url, data) = match (url, data) {
        (Some((store, _)), Some((data, _))) => match store.origin.layer().cmp(&data.origin.layer()) {
            Ordering::Less => (None, read.optional("data")),
            Ordering::Greater => (url, None),
            Ordering::Equal => {
                return Err(Error::Conflict {
                    first: "data".to_owned(),
                    first_origin: data.origin.clone(),
                    second: "store".to_owned(),
                    second_origin: store.origin.clone(),
                });
            }
        },
        given => given,
    };
    if url.is_none() {
        // Records of a bucket that a later layer chose against go with it.
        let chosen = data.map_or(0, |(data, _)| data.origin.layer());
        return match records {
            Some((given, _)) if given.origin.layer() >= chosen || read.optional("store").is_none() => {
                Err(Error::Alone { key: "records", origin: given.origin.clone(), needed: "store" })
            }
            _ => Ok(Store::Folder(data.map_or("./data", |(_, path)| path).into())),
        };
    }
    Ok(Store::Remote {
        url: read.one("store", |text| {
            let url = url::Url::parse(text).ok().filter(url::Url::has_host);
            let url = url.filter(|url| url.password().is_none() && url.username().is_empty());
            url.ok_or("expected the address of a bucket without credentials, like s3://bucket/prefix")
        })?,
        records: match records {
            None => None,
            Some(_) => Some(read.one("records", |text| {
                let path = text.strip_prefix("sqlite:").filter(|path| !path.is_empty());
                path.map(PathBuf::from).ok_or("expected a SQLite file, like sqlite:/var/lib/hythe/records.sqlite")
            })?),
        },
    })
}

fn limits(read: &Read<'_>) -> Result<Limits, Error> {
    // hyper takes no smaller buffer than 8 KiB, and a token alone may be 16 KiB long.
    let header_size = |text: &str| {
        let bytes = text.parse::<ByteSize>()?.bytes();
        let fits = usize::try_from(bytes).ok().filter(|b| (8 << 10..=1 << 20).contains(b));
        fits.ok_or_else(|| "8KiB to 1MiB".to_owned())
    };
    Ok(Limits {
        connections: read.one("limits.connections", count)?,
        header_size: read.one("limits.header_size", |text| header_size(text).map_err(|e| format!("expected {e}")))?,
        header_timeout: read.time("limits.header_timeout")?,
        idle_timeout: read.time("limits.idle_timeout")?,
        body_timeout: read.time("limits.body_timeout")?,
        drain_timeout: read.time("limits.drain_timeout")?,
    })
}

struct Read<'a>(&'a Layer);

impl Read<'_> {
    /// A setting that may be absent, with the first of its values.
    fn optional(&self, key: &'static str) -> Option<(&Given, &str)> {
        let given = self.0.get(key)?;
        given.values.first().map(|value| (given, value.as_str()))
    }

    fn invalid(key: &'static str, origin: &Origin, rule: impl Display) -> Error {
        Error::Invalid { key, origin: origin.clone(), rule: rule.to_string() }
    }

    fn one<T, E: Display>(&self, key: &'static str, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<T, Error> {
        match self.0.get(key).map(|given| (given, given.values.as_slice())) {
            Some((given, [value])) => parse(value).map_err(|rule| Self::invalid(key, &given.origin, rule)),
            Some((given, _)) => Err(Self::invalid(key, &given.origin, "expected one value")),
            None => Err(Self::invalid(key, &Origin::Default, "it has no default; set it")),
        }
    }

    fn each<T, E: Display>(&self, key: &'static str, parse: impl Fn(&str) -> Result<T, E>) -> Result<Vec<T>, Error> {
        let Some(given) = self.0.get(key) else { return Ok(Vec::new()) };
        let parse = |value: &String| {
            parse(value).map_err(|rule| Self::invalid(key, &given.origin, format!("{rule}; found {value:?}")))
        };
        given.values.iter().map(parse).collect()
    }

    fn list<T: FromStr<Err = String>>(&self, key: &'static str) -> Result<Vec<T>, Error> {
        self.each(key, |text| text.parse::<T>().map_err(|rule| format!("expected {rule}")))
    }

    fn time(&self, key: &'static str) -> Result<Duration, Error> {
        self.one(key, |text| match text.parse::<HumanDuration>() {
            Ok(time) if time.duration() > Duration::ZERO => Ok(time.duration()),
            Ok(_) => Err("expected more than nothing".to_owned()),
            Err(rule) => Err(format!("expected {rule}")),
        })
    }

    /// Two settings that are there together or not at all.
    fn pair(&self, first: &'static str, second: &'static str) -> Result<Option<(&str, &str)>, Error> {
        let alone = |key, given: &Given, needed| Error::Alone { key, origin: given.origin.clone(), needed };
        match (self.optional(first), self.optional(second)) {
            (Some((_, one)), Some((_, other))) => Ok(Some((one, other))),
            (Some((given, _)), None) => Err(alone(first, given, second)),
            (None, Some((given, _))) => Err(alone(second, given, first)),
            (None, None) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_read_is_what_the_table_names() {
        // A key misspelled in this file would be a setting that nobody can set.
        let text = include_str!("check.rs");
        for setting in crate::SETTINGS {
            assert!(text.contains(&format!("\"{}\"", setting.key)), "{} is never read", setting.key);
        }
    }
}
