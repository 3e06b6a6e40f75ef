//! TLS of the public listener: one certificate from PEM files, HTTP/2 or HTTP/1.1 by ALPN.

use std::{path::Path, sync::Arc};

use config::TlsFiles;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
};
use tokio_rustls::TlsAcceptor;

/// Certificate files that cannot be used. One line with the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or is no PEM.
    #[error("{setting} {path}: {problem}; name a PEM file with --{flag}")]
    File {
        /// The setting.
        setting: &'static str,
        /// Its flag.
        flag: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Certificate and key are no pair, or of a kind that cannot be used.
    #[error("tls_cert {certificate} and tls_key {key}: {source}; name a certificate and its own key")]
    Pair {
        /// The certificate's file.
        certificate: String,
        /// The key's file.
        key: String,
        /// What rustls says.
        source: rustls::Error,
    },
}

/// Reads the files and makes ready to shake hands.
pub fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, Error> {
    let file =
        |setting, flag, path: &Path, problem| Error::File { setting, flag, path: path.display().to_string(), problem };
    let certificate = |problem| file("tls_cert", "tls-cert", &files.certificate, problem);
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| certificate(describe(&e, "certificate")))?;
    if chain.is_empty() {
        return Err(certificate("it holds no certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|e| file("tls_key", "tls-key", &files.key, describe(&e, "private key")))?;
    let pair = |source| Error::Pair {
        certificate: files.certificate.display().to_string(),
        key: files.key.display().to_string(),
        source,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
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
