use std::{path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio_rustls::TlsConnector;

use super::*;

// Made for these tests, for localhost, and good for nothing else.
const CERTIFICATE: &[u8] = include_bytes!("cert.pem");
const KEY: &[u8] = include_bytes!("key.pem");

struct Files(tempfile::TempDir);

impl Files {
    #[expect(clippy::disallowed_methods, reason = "a test of the TLS loader needs files")]
    fn new(certificate: &[u8], key: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cert.pem"), certificate).unwrap();
        std::fs::write(folder.path().join("key.pem"), key).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn files(&self) -> TlsFiles {
        TlsFiles { certificate: self.path("cert.pem"), key: self.path("key.pem") }
    }
}

async fn spoken(offers: &[&[u8]]) -> Option<Vec<u8>> {
    let files = Files::new(CERTIFICATE, KEY);
    let acceptor = acceptor(&files.files()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CERTIFICATE).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut client = builder.with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = offers.iter().map(|offer| offer.to_vec()).collect();
    let (near, far) = tokio::io::duplex(64 << 10);
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    let (client, server) = tokio::join!(connector.connect(name, near), acceptor.accept(far));
    client.unwrap();
    server.unwrap().get_ref().1.alpn_protocol().map(<[u8]>::to_vec)
}

#[tokio::test]
async fn http_2_is_chosen_by_who_offers_it_and_http_1_by_others() {
    assert_eq!(spoken(&[b"http/1.1", b"h2"]).await.as_deref(), Some(&b"h2"[..]));
    assert_eq!(spoken(&[b"http/1.1"]).await.as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(spoken(&[]).await, None);
}

fn refused(files: &TlsFiles) -> String {
    let Err(error) = acceptor(files) else { panic!("the files were taken") };
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn files_that_cannot_be_used_are_one_line_with_the_flag() {
    let absent = TlsFiles { certificate: "/nonexistent/cert.pem".into(), key: "/nonexistent/key.pem".into() };
    let text = refused(&absent);
    assert!(text.starts_with("tls_cert /nonexistent/cert.pem: No such file"), "{text}");
    assert!(text.ends_with("; name a PEM file with --tls-cert"), "{text}");

    let text = refused(&Files::new(KEY, KEY).files());
    assert!(text.contains("cert.pem: it holds no certificate; "), "{text}");
    let text = refused(&Files::new(CERTIFICATE, CERTIFICATE).files());
    assert!(text.contains("key.pem: it holds no private key; ") && text.ends_with("--tls-key"), "{text}");
    let text = refused(&Files::new(b"-----BEGIN CERTIFICATE-----\nnonsense", KEY).files());
    assert!(text.contains("cert.pem: not PEM: "), "{text}");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let other = include_bytes!("other.pem");
    let text = refused(&Files::new(CERTIFICATE, other).files());
    assert!(text.ends_with("; name a certificate and its own key"), "{text}");
}
