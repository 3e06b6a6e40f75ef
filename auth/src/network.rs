use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Networks a client may come from; with none, from anywhere. As JSON a list of CIDR texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

/// Most networks of one list.
const MOST: usize = 64;

impl Networks {
    /// Reads CIDR texts or single addresses; the error is the index of the first that is neither, and what is right.
    pub fn parse(texts: &[String]) -> Result<Self, (usize, &'static str)> {
        if texts.len() > MOST {
            return Err((MOST, "at most 64 networks"));
        }
        let one = |(i, text): (usize, &String)| {
            let address = || text.parse::<IpAddr>().map(IpNet::from);
            text.parse::<IpNet>().or_else(|_| address()).map_err(|_| (i, "a network is an address or ADDRESS/BITS"))
        };
        texts.iter().enumerate().map(one).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a client at this address is let in.
    pub fn admits(&self, from: IpAddr) -> bool {
        let from = from.to_canonical();
        self.0.is_empty() || self.0.iter().any(|network| network.contains(&from))
    }

    /// Whether whoever is admitted here is admitted there.
    pub(crate) fn within(&self, outer: &Self) -> bool {
        outer.is_empty()
            || (!self.is_empty() && self.0.iter().all(|inner| outer.0.iter().any(|network| network.contains(inner))))
    }

    /// Whether nothing is restricted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Networks {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(IpNet::to_string))
    }
}

impl<'de> Deserialize<'de> for Networks {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        Self::parse(&texts).map_err(|(_, rule)| serde::de::Error::custom(rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_networks_are_admitted_and_none_means_all() {
        let networks = Networks::parse(&["10.0.0.0/8".into(), "2001:db8::1".into()]).unwrap();
        let admits = |text: &str| networks.admits(text.parse().unwrap());
        assert!(admits("10.1.2.3") && admits("::ffff:10.1.2.3") && admits("2001:db8::1"));
        assert!(!admits("11.0.0.1") && !admits("2001:db8::2"));
        assert!(Networks::default().admits("11.0.0.1".parse().unwrap()));
        assert_eq!(Networks::parse(&["10.0.0.0/8".into(), "x".into()]).unwrap_err().0, 1);
    }
}
