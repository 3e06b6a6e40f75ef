//! The names this registry answers to, and what a trusted proxy says of its client.
//!
//! Accepted: the public URLs; under the account domain every name that an account can have, whether there is such an account or
//! not; while no public URL is set or the listener is a loopback one, every loopback name with any port; and the names that were
//! approved for an account, which `auth` is asked for. An account's host has scheme and port of a public URL. A name that is not
//! accepted gets 421 and is told the flag that adds it. `/healthz`, `/readyz` and the operations listener do not ask.

use std::net::{IpAddr, SocketAddr};

use auth::Whence;
use config::{HostName, PublicUrl, Scheme};
use http::{HeaderMap, Uri, header};
use ipnet::IpNet;
use storage::AccountName;

use crate::server::{Live, Peer};

/// What a request came for, and from whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The accepted host that the client used: the realm's and a login line's.
    pub host: HostName,
    /// How the client spoke to it.
    pub scheme: Scheme,
    /// The client's address, behind trusted proxies the one they report.
    pub client: IpAddr,
    /// Whose host it is, if it is an account's: nothing but that account's names is in anybody's reach there, and no cookie is
    /// read. `None`: a name of the registry's own.
    pub account: Option<AccountName>,
}

impl Accepted {
    /// What a decision about the request goes by.
    pub fn whence(&self) -> Whence<'_> {
        Whence { from: self.client, only: self.account.as_ref() }
    }
}

/// A host that is not accepted. The message is for the client: 421 `UNSUPPORTED`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unlisted {
    /// Which names are, and how to add this one.
    pub message: String,
    /// The client's address, for the log.
    pub client: IpAddr,
    /// The host and its scheme, where it can be a name that was approved for an account.
    pub own: Option<(HostName, Scheme)>,
}

/// The accepted names.
#[derive(Debug)]
pub struct Hosts {
    public: Vec<PublicUrl>,
    domain: Option<HostName>,
    proxies: Live<Vec<IpNet>>,
    loopback: bool,
    canonical: PublicUrl,
}

impl Hosts {
    /// `listen` is the address that was bound, `tls` whether it is under TLS.
    pub fn new(public: Vec<PublicUrl>, proxies: Vec<IpNet>, listen: SocketAddr, tls: bool) -> Self {
        let loopback = public.is_empty() || listen.ip().is_loopback();
        let canonical = public.first().cloned().unwrap_or_else(|| address_url(listen, tls));
        Self { public, domain: None, proxies: Live::new(proxies), loopback, canonical }
    }

    /// The same, with a name for every account under this domain.
    #[must_use]
    pub fn with_account_domain(self, domain: Option<HostName>) -> Self {
        Self { domain, ..self }
    }

    /// The domain under which every account has a name.
    pub fn account_domain(&self) -> Option<&HostName> {
        self.domain.as_ref()
    }

    /// Trusts these proxies, and no others, from now on.
    pub fn trust(&self, proxies: Vec<IpNet>) {
        self.proxies.set(proxies);
    }

    /// The name in whatever is rendered without a request: the first public URL, else the listener's address.
    pub fn canonical(&self) -> &PublicUrl {
        &self.canonical
    }

    /// Every public URL.
    pub fn public(&self) -> &[PublicUrl] {
        &self.public
    }

    /// Decides on a request's host.
    pub fn accept(&self, uri: &Uri, headers: &HeaderMap, peer: &Peer) -> Result<Accepted, Unlisted> {
        let proxied = self.trusts(peer.address.ip());
        let client = self.client(headers, peer);
        let told = |name| if proxied { last(headers, name) } else { None };
        let seen = match told("x-forwarded-proto").map(str::to_ascii_lowercase).as_deref() {
            Some("https") => Scheme::Https,
            Some("http") => Scheme::Http,
            _ if peer.tls => Scheme::Https,
            _ => Scheme::Http,
        };
        let host = told("x-forwarded-host").or_else(|| requested(uri, headers));
        let host = host.and_then(|text| text.parse::<HostName>().ok());
        if let Some((host, scheme)) = host.as_ref().and_then(|host| self.listed(host, seen)) {
            return Ok(Accepted { host, scheme, client, account: None });
        }
        let beside = host.as_ref().and_then(|host| self.beside(host, seen));
        match host.as_ref().and_then(|host| self.label(host)).zip(beside.clone()) {
            Some((Ok(account), (host, scheme))) => Ok(Accepted { host, scheme, client, account: Some(account) }),
            // Under the account domain nothing else is anybody's.
            Some((Err(_), _)) => Err(Unlisted { message: self.message(host, seen), client, own: None }),
            None => Err(Unlisted { message: self.message(host, seen), client, own: beside }),
        }
    }

    /// What stands before the account domain, as the name of an account.
    fn label(&self, host: &HostName) -> Option<Result<AccountName, storage::NameError>> {
        let label = host.name().strip_suffix(self.domain.as_ref()?.name())?.strip_suffix('.')?;
        Some(label.parse())
    }

    /// A name that has scheme and port of one of the public URLs, as an account's host must.
    fn beside(&self, host: &HostName, seen: Scheme) -> Option<(HostName, Scheme)> {
        if host.ip().is_some() || !host.name().contains('.') {
            return None;
        }
        let beside = |url: &PublicUrl| {
            let host = host.clone().without_default_port(url.scheme());
            (host.port() == url.host().port()).then_some((host, url.scheme()))
        };
        let urls = if self.public.is_empty() { std::slice::from_ref(&self.canonical) } else { &self.public };
        let mut found: Vec<_> = urls.iter().filter_map(beside).collect();
        // Where the two differ it is as with the public URLs: nothing is sent in the clear.
        let alike = found.iter().position(|(_, scheme)| *scheme == seen);
        match alike {
            Some(alike) => Some(found.swap_remove(alike)),
            None => found.pop().map(|(host, _)| (host, Scheme::Https)),
        }
    }

    /// The host as it is written here and the scheme it is reached by, if the name is accepted.
    fn listed(&self, host: &HostName, seen: Scheme) -> Option<(HostName, Scheme)> {
        let same = |url: &&PublicUrl| host.clone().without_default_port(url.scheme()) == *url.host();
        let public = || self.public.iter().filter(same);
        if let Some(url) = public().find(|url| url.scheme() == seen) {
            return Some((url.host().clone(), seen));
        }
        // The two differ: one saw https, the other did not. The operator's https may arrive in the clear from a proxy that is not
        // declared, and TLS may stand before a name that was given as http; a password is sent to neither in the clear.
        if let Some(url) = public().next() {
            return Some((url.host().clone(), Scheme::Https));
        }
        (self.loopback && host.is_loopback()).then(|| (host.clone().without_default_port(seen), seen))
    }

    fn message(&self, host: Option<HostName>, seen: Scheme) -> String {
        let mut names: Vec<String> = self.public.iter().map(|url| url.host().to_string()).collect();
        if self.public.is_empty() {
            names.push(self.canonical.host().to_string());
        }
        let names = names.join(", ");
        match host {
            Some(host) => format!(
                "this registry answers to {names}; to add this name start it with --public-url {}",
                PublicUrl::new(seen, host)
            ),
            None => format!("this registry answers to {names}; the request names no host"),
        }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.proxies.now().iter().any(|network| network.contains(&address))
    }

    /// The nearest address that is not a trusted proxy's, read from the peer backwards.
    pub fn client(&self, headers: &HeaderMap, peer: &Peer) -> IpAddr {
        let mut client = peer.address.ip();
        let hops = headers.get_all("x-forwarded-for").iter().rev();
        let hops = hops.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
        for hop in hops {
            if !self.trusts(client) {
                break;
            }
            let hop = hop.trim();
            let address = hop.parse().or_else(|_| hop.parse::<SocketAddr>().map(|a| a.ip()));
            let address = address.or_else(|_| hop.trim_matches(['[', ']']).parse::<IpAddr>());
            let Ok(address) = address else { break };
            client = address.to_canonical();
        }
        client
    }
}

/// The host that the request line or `:authority` names, else the one `Host` header; two of them name none.
fn requested<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    if let Some(authority) = uri.authority() {
        return Some(authority.as_str());
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next()?;
    if hosts.next().is_some() { None } else { host.to_str().ok() }
}

/// The last value of a header that proxies append to: what the nearest one wrote.
fn last<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    value.rsplit(',').next().map(str::trim).filter(|v| !v.is_empty())
}

/// How to reach a listener from its own machine: a wildcard address has no name but `localhost`.
pub fn address_url(listen: SocketAddr, tls: bool) -> PublicUrl {
    let scheme = if tls { Scheme::Https } else { Scheme::Http };
    PublicUrl::new(scheme, HostName::of_address(listen))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(public: &[&str], proxies: &[&str], listen: &str) -> Hosts {
        let public = public.iter().map(|u| u.parse().unwrap()).collect();
        let proxies = proxies.iter().map(|p| p.parse().unwrap()).collect();
        Hosts::new(public, proxies, listen.parse().unwrap(), false)
    }

    fn ask(hosts: &Hosts, from: &str, headers: &[(&'static str, &'static str)]) -> Result<Accepted, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let peer = Peer { address: SocketAddr::new(from.parse().unwrap(), 1), tls: false };
        hosts.accept(&"/v2/".parse().unwrap(), &map, &peer).map_err(|e| e.message)
    }

    fn accepted(answer: Result<Accepted, String>) -> String {
        answer.map_or_else(|e| e, |a| format!("{}://{} {}", a.scheme, a.host, a.client))
    }

    #[test]
    fn without_a_public_url_only_loopback_names_are_accepted_with_any_port() {
        for listen in ["127.0.0.1:5080", "0.0.0.0:5080"] {
            let hosts = hosts(&[], &[], listen);
            for host in ["localhost", "localhost:9", "127.0.0.1:5080", "127.9.9.9", "[::1]:1"] {
                assert!(ask(&hosts, "10.0.0.1", &[("host", host)]).is_ok(), "{host} at {listen}");
            }
            assert!(ask(&hosts, "10.0.0.1", &[("host", "192.168.1.5:5080")]).is_err());
        }
    }

    #[test]
    fn with_a_public_url_loopback_names_are_for_loopback_listeners() {
        let asked = &[("host", "localhost:5080")];
        assert!(ask(&hosts(&["https://registry.example"], &[], "0.0.0.0:5080"), "10.0.0.1", asked).is_err());
        assert!(ask(&hosts(&["https://registry.example"], &[], "127.0.0.1:5080"), "127.0.0.1", asked).is_ok());
    }

    #[test]
    fn a_refusal_names_the_flag() {
        let message = ask(
            &hosts(&["https://registry.example", "http://b.example:81"], &[], "0.0.0.0:5080"),
            "10.0.0.1",
            &[("host", "192.168.1.5:5080")],
        );
        assert_eq!(
            message.unwrap_err(),
            "this registry answers to registry.example, b.example:81; to add this name start it with --public-url \
             http://192.168.1.5:5080"
        );
        let message = ask(&hosts(&[], &[], "0.0.0.0:5080"), "10.0.0.1", &[("host", "a.example")]).unwrap_err();
        assert!(message.starts_with("this registry answers to localhost:5080; to add"), "{message}");
    }

    #[test]
    fn a_request_with_no_host_two_hosts_or_a_bad_one_is_refused_without_an_echo() {
        let hosts = hosts(&["https://registry.example"], &[], "0.0.0.0:5080");
        let none = "this registry answers to registry.example; the request names no host";
        assert_eq!(ask(&hosts, "10.0.0.1", &[]).unwrap_err(), none);
        assert_eq!(ask(&hosts, "10.0.0.1", &[("host", "a<script>")]).unwrap_err(), none);
        let two = [("host", "registry.example"), ("host", "registry.example")];
        assert_eq!(ask(&hosts, "10.0.0.1", &two).unwrap_err(), none);
    }

    #[test]
    fn a_public_name_keeps_its_scheme_and_loses_its_default_port() {
        let hosts = hosts(&["https://registry.example"], &[], "0.0.0.0:5080");
        for host in ["registry.example", "Registry.Example:443"] {
            assert_eq!(accepted(ask(&hosts, "10.0.0.1", &[("host", host)])), "https://registry.example 10.0.0.1");
        }
        assert!(ask(&hosts, "10.0.0.1", &[("host", "registry.example:5080")]).is_err());
    }

    #[test]
    fn only_trusted_proxies_speak_for_their_clients() {
        let hosts = hosts(&["http://r.example", "https://r.example"], &["10.0.0.0/8"], "0.0.0.0:5080");
        let forwarded = [
            ("host", "internal:5080"),
            ("x-forwarded-host", "r.example"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-for", "1.1.1.1, 2.2.2.2:99, 10.1.1.1"),
        ];
        assert_eq!(accepted(ask(&hosts, "10.0.0.1", &forwarded)), "https://r.example 2.2.2.2");
        assert!(ask(&hosts, "11.0.0.1", &forwarded).is_err());
        let direct = [("host", "r.example"), ("x-forwarded-proto", "https"), ("x-forwarded-for", "1.1.1.1")];
        assert_eq!(accepted(ask(&hosts, "11.0.0.1", &direct)), "http://r.example 11.0.0.1");
    }

    #[test]
    fn https_is_never_weakened_by_the_hop_or_by_the_public_url() {
        let proto = |proto| [("host", "r.example"), ("x-forwarded-proto", proto)];
        let plain = hosts(&["http://r.example"], &["10.0.0.0/8"], "0.0.0.0:5080");
        assert_eq!(accepted(ask(&plain, "10.0.0.1", &proto("https"))), "https://r.example 10.0.0.1");
        assert_eq!(accepted(ask(&plain, "10.0.0.1", &proto("http"))), "http://r.example 10.0.0.1");
        assert_eq!(accepted(ask(&plain, "11.0.0.1", &proto("https"))), "http://r.example 11.0.0.1");
        let secure = hosts(&["https://r.example"], &["10.0.0.0/8"], "0.0.0.0:5080");
        assert_eq!(accepted(ask(&secure, "10.0.0.1", &proto("http"))), "https://r.example 10.0.0.1");
        assert_eq!(accepted(ask(&secure, "11.0.0.1", &[("host", "r.example")])), "https://r.example 11.0.0.1");
    }

    fn account(answer: Result<Accepted, String>) -> String {
        answer.map_or_else(
            |e| e,
            |a| format!("{}://{} {}", a.scheme, a.host, a.account.map_or("-".into(), |a| a.to_string())),
        )
    }

    #[test]
    fn under_the_account_domain_every_name_that_an_account_can_have_is_its_host() {
        let hosts = hosts(&["https://registry.example", "https://api.registry.example"], &[], "0.0.0.0:5080");
        let hosts = hosts.with_account_domain(Some("registry.example".parse().unwrap()));
        let asked = |host: &'static str| account(ask(&hosts, "10.0.0.1", &[("host", host)]));
        assert_eq!(asked("acme.registry.example"), "https://acme.registry.example acme");
        assert_eq!(asked("Nobody-0.Registry.Example:443"), "https://nobody-0.registry.example nobody-0");
        // The registry's own names are first; what no account can be called is nobody's, and the port is the public URL's.
        assert_eq!(asked("registry.example"), "https://registry.example -");
        assert_eq!(asked("api.registry.example"), "https://api.registry.example -");
        for nobody in
            ["token.registry.example", "a--b.registry.example", "a.b.registry.example", "acme.registry.example:5080"]
        {
            assert!(asked(nobody).starts_with("this registry answers to"), "{nobody}");
        }
        assert!(asked("acme.xregistry.example").starts_with("this registry answers to"));
    }

    #[test]
    fn what_can_be_an_approved_name_has_scheme_and_port_of_a_public_url_and_is_no_address() {
        let own = |hosts: &Hosts, host: &'static str| {
            let mut map = HeaderMap::new();
            map.append("host", host.parse().unwrap());
            let peer = Peer { address: "10.0.0.1:1".parse().unwrap(), tls: false };
            let unlisted = hosts.accept(&"/v2/".parse().unwrap(), &map, &peer).unwrap_err();
            unlisted.own.map(|(host, scheme)| format!("{scheme}://{host}"))
        };
        let public = hosts(&["https://registry.example", "http://internal.example:5080"], &[], "0.0.0.0:5080");
        let public = public.with_account_domain(Some("registry.example".parse().unwrap()));
        assert_eq!(own(&public, "registry.acme.com").as_deref(), Some("https://registry.acme.com"));
        assert_eq!(own(&public, "registry.acme.com:5080").as_deref(), Some("http://registry.acme.com:5080"));
        for none in
            ["registry.acme.com:99", "10.0.0.9", "[::2]", "localhost", "a.b.registry.example", "token.registry.example"]
        {
            assert_eq!(own(&public, none), None, "{none}");
        }
        let bare = hosts(&[], &[], "127.0.0.1:5080");
        assert_eq!(own(&bare, "registry.acme.com:5080").as_deref(), Some("http://registry.acme.com:5080"));
        assert_eq!(own(&bare, "registry.acme.com"), None);
    }

    #[test]
    fn a_hop_that_is_no_address_ends_the_way_back() {
        let hosts = hosts(&[], &["10.0.0.0/8"], "127.0.0.1:5080");
        let hops = [("host", "localhost"), ("x-forwarded-for", "1.1.1.1, unknown, 10.2.2.2")];
        assert_eq!(ask(&hosts, "10.0.0.1", &hops).unwrap().client.to_string(), "10.2.2.2");
    }

    #[test]
    fn the_canonical_name_is_the_first_public_url_else_the_address() {
        let name = |hosts: &Hosts| hosts.canonical().to_string();
        assert_eq!(name(&hosts(&["https://a", "https://b"], &[], "0.0.0.0:1")), "https://a");
        assert_eq!(name(&hosts(&[], &[], "0.0.0.0:5080")), "http://localhost:5080");
        assert_eq!(name(&hosts(&[], &[], "[::1]:5080")), "http://[::1]:5080");
    }
}
