//! A certificate authority of the server's own, and the certificate it serves (`--tls-self-signed`).
//!
//! | file | what |
//! | --- | --- |
//! | `ca.key` | the authority's key, made once: of servers that share the folder and start at once, one makes it |
//! | `ca.crt` | the authority's certificate, good for ten years: what clients are told to trust |
//! | `server.pem` | the certificate that is served and its key, in one file, so that nobody ever reads a pair that is none |
//!
//! A certificate is good for 90 days and made anew 30 days before its end, or when the hosts are others.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::{Datelike, TimeDelta};
use config::{HostName, SelfSigned};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use rustls::pki_types::{CertificateDer, UnixTime, pem::PemObject};
use storage::{Clock, Time, random_text};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::tls::Error;

/// How long a certificate is good.
const LIFE: TimeDelta = TimeDelta::days(90);
/// How long before its end it is made anew.
const EARLY: TimeDelta = TimeDelta::days(30);
/// How long the authority is good.
const AUTHORITY: TimeDelta = TimeDelta::days(3650);
/// Clients whose clocks are behind are let in.
const LATE: TimeDelta = TimeDelta::days(1);

/// The authority and its one certificate.
#[derive(Debug, Clone)]
pub struct Authority {
    folder: PathBuf,
    names: Vec<String>,
    clock: Arc<dyn Clock>,
}

impl Authority {
    /// Over the files that `settings` name; nothing is read or made yet. The certificate is also for every name right under
    /// `account_domain`.
    pub fn new(settings: &SelfSigned, account_domain: Option<&HostName>, clock: Arc<dyn Clock>) -> Self {
        // Whoever is on this machine needs no name.
        let own = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let given =
            settings.hosts.iter().map(|host| host.ip().map_or_else(|| host.name().to_owned(), |ip| ip.to_string()));
        let accounts = account_domain.map(|domain| format!("*.{}", domain.name()));
        let mut names: Vec<_> = given.chain(own).chain(accounts).collect();
        names.sort();
        names.dedup();
        Self { folder: settings.folder.clone(), names, clock }
    }

    /// Makes what is not there, what ends soon and what is for other hosts. Blocks.
    pub fn keep(&self) -> Result<(), Error> {
        let authority = self.authority_certificate()?;
        if self.is_good(&authority) {
            return Ok(());
        }
        let now = self.clock.now();
        let mut params = CertificateParams::new(self.names.clone()).map_err(|error| self.failed(&error))?;
        params.distinguished_name = name("Hythe");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, now - LATE, now + LIFE);
        let key = KeyPair::generate().map_err(|error| self.failed(&error))?;
        let issuer_key = self.authority_key()?;
        let issuer = Issuer::new(authority_params(&issuer_key, now), issuer_key);
        let certificate = params.signed_by(&key, &issuer).map_err(|error| self.failed(&error))?;
        let text = format!("{}\n{}{}", self.heading(), certificate.pem(), key.serialize_pem());
        self.put("server.pem", &text, 0o600, true)?;
        tracing::info!(hosts = self.names.join(","), "a certificate was made");
        Ok(())
    }

    /// What stands above the certificate: whom it is for.
    fn heading(&self) -> String {
        format!("# for {}", self.names.join(", "))
    }

    /// Whether the certificate is there, is of this authority and for these names, and does not end soon.
    fn is_good(&self, authority: &CertificateDer<'_>) -> bool {
        let good = || -> Option<()> {
            let text = read(&self.folder.join("server.pem")).ok()?;
            text.lines().next().filter(|line| *line == self.heading())?;
            let certificate = CertificateDer::from_pem_slice(text.as_bytes()).ok()?;
            let certificate = EndEntityCert::try_from(&certificate).ok()?;
            let anchor = anchor_from_trusted_cert(authority).ok()?;
            let soon = u64::try_from((self.clock.now() + EARLY).timestamp()).ok()?;
            let soon = UnixTime::since_unix_epoch(Duration::from_secs(soon));
            let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all;
            let usage = KeyUsage::server_auth();
            certificate.verify_for_usage(algorithms, &[anchor], &[], soon, usage, None, None).ok().map(|_| ())
        };
        good().is_some()
    }

    /// The authority's key, made if there is none.
    fn authority_key(&self) -> Result<KeyPair, Error> {
        let path = self.folder.join("ca.key");
        if !path.exists() {
            let key = KeyPair::generate().map_err(|error| self.failed(&error))?;
            self.put("ca.key", &key.serialize_pem(), 0o600, false)?;
        }
        // What lies there counts: another server may have been first.
        let text = read(&path).map_err(|error| self.failed(&error))?;
        KeyPair::from_pem(&text).map_err(|error| self.failed(&error))
    }

    /// The authority's certificate, made if there is none.
    fn authority_certificate(&self) -> Result<CertificateDer<'static>, Error> {
        let mut folder = fs::DirBuilder::new();
        folder.recursive(true).mode(0o700).create(&self.folder).map_err(|error| self.failed(&error))?;
        let path = self.folder.join("ca.crt");
        if !path.exists() {
            let key = self.authority_key()?;
            let params = authority_params(&key, self.clock.now());
            let certificate = params.self_signed(&key).map_err(|error| self.failed(&error))?;
            self.put("ca.crt", &certificate.pem(), 0o644, false)?;
        }
        let text = read(&path).map_err(|error| self.failed(&error))?;
        CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| self.failed(&"ca.crt holds no certificate"))
    }

    /// Writes a file whole: in the place of one that is there, or only if there is none.
    fn put(&self, name: &str, text: &str, mode: u32, replace: bool) -> Result<(), Error> {
        let (path, fresh) = (self.folder.join(name), self.folder.join(format!("{name}.{}", random_text(8))));
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            if replace {
                return fs::rename(&fresh, &path);
            }
            let linked = fs::hard_link(&fresh, &path);
            fs::remove_file(&fresh)?;
            match linked {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => Ok(()),
            }
        };
        write().map_err(|error| self.failed(&error))
    }

    fn failed(&self, problem: &dyn std::fmt::Display) -> Error {
        Error::SelfSigned { folder: self.folder.display().to_string(), problem: problem.to_string() }
    }
}

#[expect(clippy::disallowed_methods, reason = "the files are the TLS loader's own")]
fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path)
}

fn name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

/// The same for the same key, but for its dates: so the authority needs nothing but its key to sign.
fn authority_params(key: &KeyPair, now: Time) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mark = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.der_bytes());
    let mark = hex::encode(mark.as_ref().get(..4).unwrap_or_default());
    params.distinguished_name = name(&format!("Hythe authority {mark}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, now - LATE, now + AUTHORITY);
    params
}

fn valid(params: &mut CertificateParams, from: Time, to: Time) {
    let day = |at: Time| {
        let at = at.date_naive();
        rcgen::date_time_ymd(at.year(), u8::try_from(at.month()).unwrap_or(1), u8::try_from(at.day()).unwrap_or(1))
    };
    (params.not_before, params.not_after) = (day(from), day(to));
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use chrono::DateTime;
    use storage::clock::ManualClock;

    use super::*;

    fn authority(folder: &Path, hosts: &[&str], clock: &Arc<ManualClock>) -> Authority {
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        Authority::new(&SelfSigned { hosts, folder: folder.join("tls") }, None, Arc::clone(clock) as _)
    }

    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::at(DateTime::from_timestamp(1_800_000_000, 0).unwrap()))
    }

    fn files(folder: &Path) -> [String; 3] {
        ["ca.key", "ca.crt", "server.pem"].map(|name| read(&folder.join("tls").join(name)).unwrap())
    }

    #[test]
    fn a_certificate_is_kept_until_it_ends_soon_or_its_hosts_are_others() {
        let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
        let one = authority(folder.path(), &["registry.example", "10.0.0.5:5443", "[2001:db8::1]"], &clock);
        one.keep().unwrap();
        let first = files(folder.path());
        clock.advance(Duration::from_hours(59 * 24));
        one.keep().unwrap();
        assert_eq!(files(folder.path()), first);
        clock.advance(Duration::from_hours(2 * 24));
        one.keep().unwrap();
        let second = files(folder.path());
        assert_eq!(second[..2], first[..2], "who trusts the authority goes on");
        assert_ne!(second[2], first[2]);
        let other = authority(folder.path(), &["registry.example"], &clock);
        other.keep().unwrap();
        let third = files(folder.path());
        assert!(third[2] != second[2] && third[..2] == first[..2]);
        for (name, mode) in [("ca.key", 0o600), ("server.pem", 0o600), ("ca.crt", 0o644), ("", 0o700)] {
            let path = folder.path().join("tls").join(name);
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode, "{name}");
        }
        assert_eq!(fs::read_dir(folder.path().join("tls")).unwrap().count(), 3);
    }

    #[test]
    fn with_an_account_domain_the_certificate_is_for_every_account_s_name() {
        let folder = tempfile::tempdir().unwrap();
        let own = SelfSigned { hosts: vec!["registry.example".parse().unwrap()], folder: folder.path().join("tls") };
        let authority = Authority::new(&own, Some(&"registry.example".parse().unwrap()), clock() as _);
        authority.keep().unwrap();
        let certificate = CertificateDer::from_pem_slice(files(folder.path())[2].as_bytes()).unwrap();
        let certificate = EndEntityCert::try_from(&certificate).unwrap();
        let names: Vec<_> = certificate.valid_dns_names().collect();
        assert_eq!(names, ["*.registry.example", "localhost", "registry.example"]);
    }

    #[test]
    fn servers_that_share_the_folder_have_one_authority() {
        let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| authority(folder.path(), &["registry.example"], &clock).keep().unwrap());
            }
        });
        let before = files(folder.path());
        authority(folder.path(), &["registry.example"], &clock).keep().unwrap();
        assert_eq!(files(folder.path()), before);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_one_line_with_the_way_out() {
        let error = authority(Path::new("/proc/hythe"), &[], &clock()).keep().unwrap_err();
        assert!(error.to_string().contains("/proc/hythe/tls: "), "{error}");
    }
}
