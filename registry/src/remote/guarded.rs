//! Fetches of public documents from addresses that strangers may have a say in: nothing but https, no redirect, and no address that
//! the operator has not let be asked.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use ipnet::IpNet;
use reqwest::{
    Client,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};
use url::{Host, Url};

/// How long one document may take, from the look-up of its host to its last byte.
const PATIENCE: Duration = Duration::from_secs(3);
/// Largest document in bytes.
const LARGEST: usize = 256 << 10;

/// Why a document was not fetched: for the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum FetchError {
    /// The address is none of https.
    #[error("{0} is no https address")]
    Address(String),
    /// Where it leads is not asked.
    #[error("{0} is not a public address; the operator may let it be asked with --trusted-issuer-network")]
    NotPublic(IpAddr),
    /// It did not come.
    #[error("it cannot be fetched")]
    Failed(#[source] reqwest::Error),
    /// Something else than the document came.
    #[error("it was answered with {0}")]
    Status(u16),
    /// More came than a document has.
    #[error("it has more than {LARGEST} bytes")]
    TooLarge,
}

/// Fetches documents.
#[derive(Debug)]
pub(crate) struct Guarded {
    networks: Arc<[IpNet]>,
    client: OnceLock<Client>,
}

/// Looks a host up and gives what of it may be asked: the connection goes to these addresses and looks up nothing again.
#[derive(Debug)]
struct Resolver(Arc<[IpNet]>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let networks = Arc::clone(&self.0);
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let refused = found.first().map(SocketAddr::ip);
            let admitted: Vec<_> = found.into_iter().filter(|address| admits(&networks, address.ip())).collect();
            match (admitted.is_empty(), refused) {
                (true, Some(address)) => Err(FetchError::NotPublic(address).into()),
                _ => Ok(Box::new(admitted.into_iter()) as Addrs),
            }
        })
    }
}

impl Guarded {
    /// `networks` may be asked beside public addresses.
    pub(crate) fn new(networks: Vec<IpNet>) -> Self {
        Self { networks: networks.into(), client: OnceLock::new() }
    }

    /// Made when it is needed first: a server that asks nobody needs no roots of trust.
    fn client(&self) -> Result<&Client, FetchError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::builder()
            .redirect(Policy::none())
            .https_only(true)
            // A proxy would look the host up itself, and connect to what it finds.
            .no_proxy()
            .timeout(PATIENCE)
            .dns_resolver(Arc::new(Resolver(Arc::clone(&self.networks))))
            .user_agent(concat!("hythe/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(FetchError::Failed)?;
        Ok(self.client.get_or_init(|| client))
    }

    /// Fetches a document whole.
    pub(crate) async fn get(&self, address: &str) -> Result<Vec<u8>, FetchError> {
        let url = Url::parse(address).ok().filter(|url| url.scheme() == "https");
        let url = url.ok_or_else(|| FetchError::Address(address.to_owned()))?;
        // An address that is a number is never looked up.
        let literal = match url.host() {
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            Some(Host::Domain(_)) => None,
            None => return Err(FetchError::Address(address.to_owned())),
        };
        if let Some(ip) = literal.filter(|ip| !admits(&self.networks, *ip)) {
            return Err(FetchError::NotPublic(ip));
        }
        let mut answer = self.client()?.get(url).send().await.map_err(failed)?;
        if answer.status() != http::StatusCode::OK {
            return Err(FetchError::Status(answer.status().as_u16()));
        }
        let mut document = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(failed)? {
            if document.len() + part.len() > LARGEST {
                return Err(FetchError::TooLarge);
            }
            document.extend_from_slice(&part);
        }
        Ok(document)
    }
}

fn failed(error: reqwest::Error) -> FetchError {
    FetchError::Failed(error.without_url())
}

fn admits(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    is_public(address) || networks.iter().any(|network| network.contains(&address))
}

/// Whether an address is one of the whole internet's (the special-purpose registries of RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b));
    !(special
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation())
}

/// Global unicast, without what carries an IPv4 address inside.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let special = (a == 0x2001 && (b < 0x200 || b == 0xdb8)) || a == 0x2002 || (a & 0xfff0) == 0x3ff0;
    (a & 0xe000) == 0x2000 && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_whole_internet_are_public() {
        for (text, public) in [
            ("140.82.112.3", true),
            ("2606:50c0:8000::153", true),
            ("127.0.0.1", false),
            ("10.0.0.1", false),
            ("172.16.0.1", false),
            ("172.32.0.1", true),
            ("192.168.1.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("100.128.0.1", true),
            ("0.0.0.0", false),
            ("192.0.0.192", false),
            ("192.0.2.1", false),
            ("198.18.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::1", false),
            ("::", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:140.82.112.3", true),
            ("::127.0.0.1", false),
            ("64:ff9b::7f00:1", false),
            ("2002:7f00:1::", false),
            ("2001::1", false),
            ("2001:db8::1", false),
            ("fc00::1", false),
            ("fd00:ec2::254", false),
            ("fe80::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(admits(&[], text.parse().unwrap()), public, "{text}");
        }
        let listed: [IpNet; 1] = ["10.0.0.0/8".parse().unwrap()];
        assert!(admits(&listed, "10.9.9.9".parse().unwrap()) && !admits(&listed, "127.0.0.1".parse().unwrap()));
    }

    #[tokio::test]
    async fn an_address_that_is_a_number_or_no_https_is_not_asked() {
        let guarded = Guarded::new(Vec::new());
        for address in ["https://127.0.0.1:9/x", "https://[::1]/x", "https://2130706433/", "https://0x7f.1/"] {
            assert!(matches!(guarded.get(address).await, Err(FetchError::NotPublic(_))), "{address}");
        }
        for address in ["http://issuer.example/", "file:///etc/passwd", "issuer.example", ""] {
            assert!(matches!(guarded.get(address).await, Err(FetchError::Address(_))), "{address}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_this_machine_is_not_asked() {
        let told = Guarded::new(Vec::new()).get("https://localhost:9/x").await.unwrap_err();
        assert!(crate::telemetry::chain(&told).contains("is not a public address"), "{told:?}");
    }
}
