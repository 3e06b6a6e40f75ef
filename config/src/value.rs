//! Values with one checked reading each.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A whole number of bytes: `512`, `16KiB`. Units are `B kB MB GB TB KiB MiB GiB TiB`.
///
/// ```
/// use config::ByteSize;
/// assert_eq!("16KiB".parse::<ByteSize>().unwrap().bytes(), 16384);
/// assert_eq!("2 MB".parse::<ByteSize>().unwrap().bytes(), 2_000_000);
/// assert!("16 potatoes".parse::<ByteSize>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    /// The number.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rule = || "a whole number of bytes with an optional unit, like 16KiB or 4GiB".to_owned();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| rule())?;
        let factor: u64 = match unit.trim() {
            "" | "B" => 1,
            "kB" | "KB" => 1000,
            "MB" => 1000 * 1000,
            "GB" => 1000 * 1000 * 1000,
            "TB" => 1000 * 1000 * 1000 * 1000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return Err(rule()),
        };
        number.checked_mul(factor).map(Self).ok_or_else(rule)
    }
}

/// A length of time: `90s`, `12h`, `1h 30m`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(Duration);

impl HumanDuration {
    /// The length.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for HumanDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map(Self).map_err(|_| "a length of time, like 90s, 12h or 7d".to_owned())
    }
}

/// How a client speaks to a public name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that is left out.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A host as a `Host` header or an image reference has it: a name or an address, with an optional port.
///
/// - lower case; a DNS name of labels of `[a-z0-9-]`, an IPv4 address, or an IPv6 address in brackets;
/// - no trailing dot, no user, no path.
///
/// ```
/// use config::HostName;
/// assert_eq!("Registry.Example:5443".parse::<HostName>().unwrap().to_string(), "registry.example:5443");
/// assert_eq!("[::1]:5080".parse::<HostName>().unwrap().port(), Some(5080));
/// for bad in ["", "a b", "a/b", "user@host", "host:", "host:99999", "::1", "-a", "a..b"] {
///     assert!(bad.parse::<HostName>().is_err(), "{bad}");
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostName {
    name: String,
    port: Option<u16>,
}

impl HostName {
    /// An address and its port; a wildcard address, which nobody can be sent to, is `localhost`.
    pub fn of_address(address: SocketAddr) -> Self {
        let name = match address.ip() {
            ip if ip.is_unspecified() => "localhost".to_owned(),
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        Self { name, port: Some(address.port()) }
    }

    /// The name without the port; an IPv6 address in its brackets.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port, if it is written.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The same host, with this port where none is written.
    #[must_use]
    pub fn or_port(mut self, port: u16) -> Self {
        self.port = self.port.or(Some(port));
        self
    }

    /// The same host, its port left out where it is the scheme's own.
    #[must_use]
    pub fn without_default_port(mut self, scheme: Scheme) -> Self {
        self.port = self.port.filter(|&p| p != scheme.default_port());
        self
    }

    /// The address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.name.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }

    /// Whether it always means this very machine: `localhost`, `127.0.0.0/8`, `[::1]`.
    pub fn is_loopback(&self) -> bool {
        self.name == "localhost" || self.ip().is_some_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rule = || "a host name or address with an optional port, like registry.example:5443".to_owned();
        let text = text.to_ascii_lowercase();
        let (name, port) = match text.rfind(']') {
            Some(end) => text.split_at(end + 1),
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(digits.parse::<u16>().map_err(|_| rule())?)
            }
            None if port.is_empty() => None,
            _ => return Err(rule()),
        };
        let name = match name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
            Some(address) => format!("[{}]", address.parse::<std::net::Ipv6Addr>().map_err(|_| rule())?),
            None if name.len() <= 253 && name.split('.').all(label) => name.to_owned(),
            None => return Err(rule()),
        };
        Ok(Self { name, port })
    }
}

/// A label of a DNS name; an underscore is taken because container networks use it.
fn label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// A public name of the registry: scheme and host, nothing after it.
///
/// ```
/// use config::PublicUrl;
/// let url: PublicUrl = "https://Registry.Example:443/".parse().unwrap();
/// assert_eq!(url.to_string(), "https://registry.example");
/// assert!("https://registry.example/path".parse::<PublicUrl>().is_err());
/// assert!("registry.example".parse::<PublicUrl>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PublicUrl {
    scheme: Scheme,
    host: HostName,
}

impl PublicUrl {
    /// Puts a URL together.
    pub fn new(scheme: Scheme, host: HostName) -> Self {
        Self { scheme, host: host.without_default_port(scheme) }
    }

    /// How clients speak to it.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host as clients write it, its default port left out.
    pub fn host(&self) -> &HostName {
        &self.host
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)
    }
}

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rule = || "scheme and host alone, like https://registry.example or http://192.168.1.5:5080".to_owned();
        let (scheme, host) = text.split_once("://").ok_or_else(rule)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(rule()),
        };
        let host = host.strip_suffix('/').unwrap_or(host).parse().map_err(|_| rule())?;
        Ok(Self::new(scheme, host))
    }
}

/// A secret: wiped when dropped, never shown, compared in constant time.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the secret over.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The secret itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether both are the same, in time that depends on their lengths alone.
    pub fn matches(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "***");
        assert!(secret.matches("hunter2") && !secret.matches("hunter3") && !secret.matches(""));
    }

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        let loopback = |text: &str| text.parse::<HostName>().unwrap().is_loopback();
        assert!(["localhost", "LOCALHOST:1", "127.0.0.1", "127.8.9.1:80", "[::1]:5"].into_iter().all(loopback));
        assert!(!["localhost.example", "128.0.0.1", "[::2]", "10.0.0.1:5080"].into_iter().any(loopback));
    }

    #[test]
    fn a_size_that_overflows_is_refused() {
        assert!("99999999999TiB".parse::<ByteSize>().is_err());
        assert!("1.5GiB".parse::<ByteSize>().is_err());
    }
}
