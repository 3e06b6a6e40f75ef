use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{ServerName, pem::PemObject},
};
use tempfile::TempDir;
use tokio_rustls::TlsConnector;

use super::*;

// Made for these tests, for localhost and *.other.test, and good for nothing else.
const CERTIFICATE: &[u8] = include_bytes!("cert.pem");
const KEY: &[u8] = include_bytes!("key.pem");
const OTHER_CERTIFICATE: &[u8] = include_bytes!("other-cert.pem");
const OTHER_KEY: &[u8] = include_bytes!("other-key.pem");

#[expect(clippy::disallowed_methods, reason = "a test of the TLS loader needs files")]
fn put(folder: &TempDir, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn one(folder: &TempDir, certificate: &[u8], key: &[u8]) -> Tls {
    let pair = TlsFiles { certificate: put(folder, "cert.pem", certificate), key: put(folder, "key.pem", key) };
    Tls { pair: Some(pair), folder: None }
}

/// Shakes hands, asking for `name` and offering protocols: the certificate that was shown, and the protocol that was chosen.
async fn shake(certificates: &Certificates, name: &str, offers: &[&[u8]]) -> (Vec<u8>, Option<Vec<u8>>) {
    let mut roots = RootCertStore::empty();
    for certificate in [CERTIFICATE, OTHER_CERTIFICATE] {
        roots.add(CertificateDer::from_pem_slice(certificate).unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut client = builder.with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = offers.iter().map(|offer| offer.to_vec()).collect();
    let (near, far) = tokio::io::duplex(64 << 10);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    let acceptor = certificates.acceptor().unwrap();
    let (client, server) = tokio::join!(connector.connect(name, near), acceptor.accept(far));
    let shown = client.unwrap().get_ref().1.peer_certificates().unwrap()[0].to_vec();
    (shown, server.unwrap().get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
}

fn der(pem: &[u8]) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem).unwrap().to_vec()
}

#[tokio::test]
async fn http_2_is_chosen_by_who_offers_it_and_http_1_by_others() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::load(one(&folder, CERTIFICATE, KEY)).unwrap();
    let spoken = async |offers| shake(&certificates, "localhost", offers).await.1;
    assert_eq!(spoken(&[b"http/1.1", b"h2"]).await.as_deref(), Some(&b"h2"[..]));
    assert_eq!(spoken(&[b"http/1.1"]).await.as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(spoken(&[]).await, None);
}

#[tokio::test]
async fn the_certificate_is_chosen_by_the_name_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [("a.crt", CERTIFICATE), ("a.key", KEY), ("b.crt", OTHER_CERTIFICATE), ("b.key", OTHER_KEY)]
    {
        put(&folder, name, content);
    }
    let tls = Tls { pair: None, folder: Some(folder.path().to_owned()) };
    let certificates = Certificates::load(tls).unwrap();
    assert_eq!(shake(&certificates, "localhost", &[]).await.0, der(CERTIFICATE));
    assert_eq!(shake(&certificates, "Acme.other.test", &[]).await.0, der(OTHER_CERTIFICATE));
}

/// A certificate for these names, signed by itself, and its key.
fn made_for(names: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    (certificate.pem().into_bytes(), key.serialize_pem().into_bytes())
}

/// What is shown to who asks for a name; whether the name is in it is the client's affair.
fn shown(certificates: &Certificates, name: &str) -> Vec<u8> {
    let chosen = certificates.table.0.read();
    chosen.of(Some(name)).unwrap().end_entity_cert().unwrap().to_vec()
}

#[test]
fn a_name_s_own_certificate_comes_before_a_wildcard_and_a_wildcard_is_for_one_label() {
    let folder = tempfile::tempdir().unwrap();
    let (wildcard, of_wildcard) = made_for(&["*.registry.example"]);
    let (acme, of_acme) = made_for(&["acme.registry.example", "registry.acme.com"]);
    let (pair, of_pair) = made_for(&["registry.example", "api.registry.example"]);
    for (name, content) in [("a.crt", &acme), ("a.key", &of_acme), ("z.crt", &wildcard), ("z.key", &of_wildcard)] {
        put(&folder, name, content);
    }
    let other = tempfile::tempdir().unwrap();
    let files = TlsFiles { certificate: put(&other, "own.pem", &pair), key: put(&other, "own.key", &of_pair) };
    let tls = Tls { pair: Some(files), folder: Some(folder.path().to_owned()) };
    let certificates = Certificates::load(tls).unwrap();
    for (name, pem) in [
        ("beta.registry.example", &wildcard),
        ("nobody.Registry.example", &wildcard),
        ("acme.registry.example", &acme),
        ("registry.acme.com", &acme),
        ("registry.example", &pair),
        // The pair has it by name, though the folder's wildcard would do.
        ("api.registry.example", &pair),
        // No certificate has these; who asks is shown the pair and finds that out.
        ("a.b.registry.example", &pair),
        ("other.example", &pair),
    ] {
        assert_eq!(shown(&certificates, name), der(pem), "{name}");
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_served_and_a_broken_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::load(one(&folder, OTHER_CERTIFICATE, OTHER_KEY)).unwrap();
    one(&folder, CERTIFICATE, KEY);
    certificates.refresh().unwrap();
    assert_eq!(shake(&certificates, "localhost", &[]).await.0, der(CERTIFICATE));
    one(&folder, b"", KEY);
    assert!(certificates.refresh().is_err());
    assert_eq!(shake(&certificates, "localhost", &[]).await.0, der(CERTIFICATE));
}

fn refused(tls: Tls) -> String {
    let text = Certificates::load(tls).unwrap_err().to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn files_that_cannot_be_used_are_one_line_with_the_way_out() {
    let absent = TlsFiles { certificate: "/nonexistent/cert.pem".into(), key: "/nonexistent/key.pem".into() };
    let text = refused(Tls { pair: Some(absent), folder: None });
    assert!(text.starts_with("/nonexistent/cert.pem: No such file"), "{text}");
    assert!(text.ends_with("; check --tls-cert, --tls-key and --tls-dir"), "{text}");

    let folder = tempfile::tempdir().unwrap();
    let text = refused(Tls { pair: None, folder: Some(folder.path().to_owned()) });
    assert!(text.contains(": it holds no NAME.crt; "), "{text}");
    let text = refused(one(&folder, KEY, KEY));
    assert!(text.contains("cert.pem: it holds no certificate; "), "{text}");
    let text = refused(one(&folder, CERTIFICATE, CERTIFICATE));
    assert!(text.contains("key.pem: it holds no private key; "), "{text}");
    let text = refused(one(&folder, b"-----BEGIN CERTIFICATE-----\nnonsense", KEY));
    assert!(text.contains("cert.pem: not PEM: "), "{text}");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = refused(one(&folder, CERTIFICATE, OTHER_KEY));
    assert!(text.ends_with("; name a certificate and its own key"), "{text}");
}

#[test]
fn the_end_of_a_certificate_is_known_by_its_names() {
    let folder = TempDir::new().unwrap();
    let certificates = Certificates::load(one(&folder, CERTIFICATE, KEY)).unwrap();
    assert_eq!(certificates.ends(), [("localhost".to_owned(), 4_948_864_404)]);
}

#[test]
fn a_time_with_two_digits_of_the_year_is_of_this_century_below_50() {
    let certificate = |year: &str| {
        let element = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
        let time = |text: &str| element(0x17, text.as_bytes());
        let validity = element(0x30, &[time("200101000000Z"), time(&format!("{year}0101000000Z"))].concat());
        let number = element(0x02, &[1]);
        let fields = [element(0xa0, &number), number, element(0x30, &[]), element(0x30, &[]), validity].concat();
        element(0x30, &element(0x30, &fields))
    };
    assert_eq!(not_after(&certificate("30")), Some(1_893_456_000));
    assert_eq!(not_after(&certificate("99")), Some(915_148_800));
    assert_eq!(not_after(&certificate("30")[..20]), None);
}
