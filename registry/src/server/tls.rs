//! TLS of the public listener: certificates from PEM files, chosen by the name that a client asks for (SNI), read again when they
//! change; HTTP/2 or HTTP/1.1 by ALPN.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use config::{Tls, TlsFiles};
use parking_lot::RwLock;
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_rustls::TlsAcceptor;
use webpki::EndEntityCert;

use super::{Authority, Live, shutdown::Tasks};

/// How often files are looked at: a certificate is renewed days before it ends.
const LOOK: Duration = Duration::from_mins(1);

/// Certificate files that cannot be used. One line with the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or is not what it should be.
    #[error("{path}: {problem}; check --tls-cert, --tls-key and --tls-dir")]
    File {
        /// The file or folder.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Certificate and key are no pair, or of a kind that cannot be used.
    #[error("{certificate} and {key}: {source}; name a certificate and its own key")]
    Pair {
        /// The certificate's file.
        certificate: String,
        /// The key's file.
        key: String,
        /// What rustls says.
        source: rustls::Error,
    },
    /// The server's own authority and certificate cannot be made or read.
    #[error("{folder}: {problem}; name a folder that can be written with --tls-dir")]
    SelfSigned {
        /// Their folder.
        folder: String,
        /// What is wrong with it.
        problem: String,
    },
    /// This build cannot speak TLS as it is configured.
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
}

/// The certificates that are served now.
#[derive(Debug, Clone)]
pub struct Certificates {
    tls: Arc<Live<Tls>>,
    own: Option<Authority>,
    provider: Arc<CryptoProvider>,
    table: Arc<Table>,
}

#[derive(Default)]
struct Table(RwLock<Chosen>);

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Table").field(&self.0.read().by_name.keys().collect::<Vec<_>>()).finish()
    }
}

/// Certificates that were read and are not served yet.
pub struct Prepared {
    tls: Tls,
    chosen: Chosen,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("tls", &self.tls).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Chosen {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    fallback: Option<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Table {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().of(hello.server_name()).cloned()
    }
}

impl Chosen {
    /// A name's own certificate, else the wildcard that stands for its first label, else the one for whoever asks for neither.
    fn of(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        let by_name = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            let wildcard = || name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
            self.by_name.get(&name).or_else(|| self.by_name.get(&wildcard()?))
        });
        by_name.or(self.fallback.as_ref())
    }
}

impl Certificates {
    /// Reads every file.
    pub fn load(tls: Tls) -> Result<Self, Error> {
        Self::with(tls, None)
    }

    /// Makes what the server's own authority has to make, then reads it. Blocks.
    pub fn own(tls: Tls, authority: Authority) -> Result<Self, Error> {
        authority.keep()?;
        Self::with(tls, Some(authority))
    }

    fn with(tls: Tls, own: Option<Authority>) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chosen = choose(&tls, &provider)?;
        Ok(Self { tls: Arc::new(Live::new(tls)), own, provider, table: Arc::new(Table(RwLock::new(chosen))) })
    }

    /// What shakes hands with them.
    pub fn acceptor(&self) -> Result<TlsAcceptor, Error> {
        let table: Arc<dyn ResolvesServerCert> = Arc::clone(&self.table) as _;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(table);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Reads the files again; what cannot be used leaves the certificates as they are. Blocks.
    pub fn refresh(&self) -> Result<(), Error> {
        let tls = self.tls.now();
        self.take(self.prepare(&tls)?);
        Ok(())
    }

    /// The names that are served, each with the end of its certificate in Unix time. A certificate for no name is `*`.
    pub fn ends(&self) -> Vec<(String, i64)> {
        let chosen = self.table.0.read();
        let end = |key: &CertifiedKey| key.end_entity_cert().ok().and_then(|der| not_after(der));
        let mut ends: BTreeMap<_, _> =
            chosen.by_name.iter().filter_map(|(name, key)| Some((name.clone(), end(key)?))).collect();
        if let Some((key, end)) = chosen.fallback.as_deref().and_then(|key| Some((key, end(key)?))) {
            let mut names = names(key);
            if names.is_empty() {
                names.push("*".to_owned());
            }
            for name in names {
                ends.entry(name).or_insert(end);
            }
        }
        ends.into_iter().collect()
    }

    /// Reads other files; they are served once they are taken. Blocks.
    pub fn prepare(&self, tls: &Tls) -> Result<Prepared, Error> {
        if let Some(own) = &self.own {
            own.keep()?;
        }
        Ok(Prepared { chosen: choose(tls, &self.provider)?, tls: tls.clone() })
    }

    /// Serves these certificates from now on.
    pub fn take(&self, prepared: Prepared) {
        self.tls.set(prepared.tls);
        *self.table.0.write() = prepared.chosen;
    }

    /// Reads the files again every minute until the order to stop.
    pub fn keep_fresh(self, tasks: &Tasks) {
        let stop = tasks.stop().clone();
        tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    () = stop.cancelled() => break,
                }
                let certificates = self.clone();
                if let Ok(Err(error)) = tokio::task::spawn_blocking(move || certificates.refresh()).await {
                    tracing::warn!("certificates stay as they are: {}", crate::telemetry::chain(&error));
                }
            }
        });
    }
}

fn choose(tls: &Tls, provider: &CryptoProvider) -> Result<Chosen, Error> {
    let mut chosen = Chosen::default();
    if let Some(folder) = &tls.folder {
        for files in pairs(folder)? {
            let key = Arc::new(pair(&files, provider)?);
            for name in names(&key) {
                chosen.by_name.insert(name, Arc::clone(&key));
            }
            chosen.fallback.get_or_insert(key);
        }
    }
    if let Some(files) = &tls.pair {
        let key = Arc::new(pair(files, provider)?);
        // A name that it has and no other certificate is its own even where the folder has a wildcard for it.
        for name in names(&key) {
            chosen.by_name.entry(name).or_insert_with(|| Arc::clone(&key));
        }
        chosen.fallback = Some(key);
    }
    Ok(chosen)
}

/// The pairs of a folder in the order of their names: `NAME.crt` or `NAME.pem` with `NAME.key`.
fn pairs(folder: &Path) -> Result<Vec<TlsFiles>, Error> {
    let problem = |problem: String| Error::File { path: folder.display().to_string(), problem };
    let read = || -> io::Result<Vec<PathBuf>> { std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect() };
    let mut paths = read().map_err(|error| problem(error.to_string()))?;
    paths.sort();
    let certificates = paths.into_iter().filter(|path| path.extension().is_some_and(|e| e == "crt" || e == "pem"));
    let pairs: Vec<_> =
        certificates.map(|certificate| TlsFiles { key: certificate.with_extension("key"), certificate }).collect();
    if pairs.is_empty() { Err(problem("it holds no NAME.crt".to_owned())) } else { Ok(pairs) }
}

fn pair(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let file = |path: &Path, problem| Error::File { path: path.display().to_string(), problem };
    let certificate = |problem| file(&files.certificate, problem);
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| certificate(describe(&e, "certificate")))?;
    if chain.is_empty() {
        return Err(certificate("it holds no certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| file(&files.key, describe(&e, "private key")))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|source| Error::Pair {
        certificate: files.certificate.display().to_string(),
        key: files.key.display().to_string(),
        source,
    })
}

/// The names that a certificate is for, as clients ask for them.
fn names(key: &CertifiedKey) -> Vec<String> {
    let parsed = key.end_entity_cert().ok().and_then(|der| EndEntityCert::try_from(der).ok());
    parsed.map(|cert| cert.valid_dns_names().map(str::to_ascii_lowercase).collect()).unwrap_or_default()
}

/// When a certificate ends, in Unix time: the second time of its `validity` (RFC 5280 §4.1). No more of it is looked at, so
/// the few lines stand in for a parser.
fn not_after(certificate: &[u8]) -> Option<i64> {
    const SEQUENCE: u8 = 0x30;
    let (_, certificate, _) = element(certificate)?;
    let (_, mut fields, _) = element(certificate)?;
    // The version is optional; serial number, signature and issuer stand before the validity.
    if let Some((0xa0, _, rest)) = element(fields) {
        fields = rest;
    }
    for _ in 0..3 {
        fields = element(fields)?.2;
    }
    let (SEQUENCE, validity, _) = element(fields)? else { return None };
    let (_, _, validity) = element(validity)?;
    let (kind, text, _) = element(validity)?;
    let text = std::str::from_utf8(text).ok()?;
    // UTCTime has two digits of the year: those below 50 are of this century (§4.1.2.5.1).
    let text = match (kind, text.get(..2)?) {
        (0x17, year) if year < "50" => format!("20{text}"),
        (0x17, _) => format!("19{text}"),
        _ => text.to_owned(),
    };
    Some(chrono::NaiveDateTime::parse_from_str(&text, "%Y%m%d%H%M%SZ").ok()?.and_utc().timestamp())
}

/// The first element of DER: its tag, its content, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        (bytes.iter().take(4).fold(0, |length, &byte| length << 8 | usize::from(byte)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn describe(error: &pem::Error, what: &str) -> String {
    match error {
        pem::Error::Io(e) => e.to_string(),
        pem::Error::NoItemsFound => format!("it holds no {what}"),
        other => format!("not PEM: {other:?}"),
    }
}

#[cfg(test)]
mod tests;
