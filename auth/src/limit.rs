//! Rates. Only failures and floods are slowed: there is no counter of a user, so nobody can lock anybody out.

use std::{collections::HashMap, hash::Hash, net::IpAddr, time::Duration};

use parking_lot::Mutex;

/// A token bucket's size and flow.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// How many at once.
    pub burst: f64,
    /// How many per second after that.
    pub per_second: f64,
}

/// Token buckets in a bounded table. When a half is full it becomes the old half and the old one is dropped: whoever is dropped
/// has been idle for as long as it takes to fill a half, and starts again with a full bucket.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    rate: Rate,
    half: usize,
    table: Mutex<Table<K>>,
}

#[derive(Debug)]
struct Table<K> {
    young: HashMap<K, Bucket>,
    old: HashMap<K, Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Duration,
}

impl<K: Hash + Eq> Buckets<K> {
    pub(crate) fn new(rate: Rate, capacity: usize) -> Self {
        let table = Mutex::new(Table { young: HashMap::new(), old: HashMap::new() });
        Self { rate, half: (capacity / 2).max(1), table }
    }

    /// What a bucket holds at `now`.
    fn filled(&self, known: Option<Bucket>, now: Duration) -> Bucket {
        let bucket = known.unwrap_or(Bucket { tokens: self.rate.burst, at: now });
        let passed = now.saturating_sub(bucket.at).as_secs_f64();
        Bucket { tokens: (bucket.tokens + passed * self.rate.per_second).min(self.rate.burst), at: now }
    }

    /// Whether a bucket has a token, or how long until it has one.
    fn has_one(&self, bucket: Bucket) -> Result<(), Duration> {
        if bucket.tokens >= 1.0 {
            return Ok(());
        }
        let wait = (1.0 - bucket.tokens) / self.rate.per_second.max(f64::MIN_POSITIVE);
        Err(Duration::try_from_secs_f64(wait.ceil().max(1.0)).unwrap_or(Duration::from_secs(1)))
    }

    /// Whether there is a token at `now` (monotonic), which stays there; else how long until there is one.
    pub(crate) fn left(&self, key: &K, now: Duration) -> Result<(), Duration> {
        let table = self.table.lock();
        let known = table.young.get(key).or_else(|| table.old.get(key)).copied();
        self.has_one(self.filled(known, now))
    }

    /// Takes one token at `now` (monotonic), or says how long until there is one.
    pub(crate) fn take(&self, key: K, now: Duration) -> Result<(), Duration> {
        let mut table = self.table.lock();
        let known = table.young.get(&key).copied().or_else(|| table.old.remove(&key));
        let mut bucket = self.filled(known, now);
        let outcome = self.has_one(bucket);
        if outcome.is_ok() {
            bucket.tokens -= 1.0;
        }
        if table.young.len() >= self.half && !table.young.contains_key(&key) {
            table.old = std::mem::take(&mut table.young);
        }
        table.young.insert(key, bucket);
        outcome
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let table = self.table.lock();
        table.young.len() + table.old.len()
    }
}

/// The network that failures are counted for: a whole IPv4 address, an IPv6 /64, which is what one site has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Neighbourhood {
    V4(u32),
    V6(u64),
}

impl From<IpAddr> for Neighbourhood {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => Self::V6(u64::try_from(v6.to_bits() >> 64).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 3.0, per_second: 1.0 };

    #[test]
    fn a_burst_is_allowed_and_then_one_per_second() {
        let buckets = Buckets::new(RATE, 10);
        for _ in 0..3 {
            assert!(buckets.take("a", Duration::ZERO).is_ok());
        }
        assert_eq!(buckets.take("a", Duration::ZERO), Err(Duration::from_secs(1)));
        assert!(buckets.take("b", Duration::ZERO).is_ok());
        assert!(buckets.take("a", Duration::from_secs(1)).is_ok());
        assert!(buckets.take("a", Duration::from_secs(1)).is_err());
    }

    #[test]
    fn the_table_stays_bounded_and_the_busy_one_stays_in_it() {
        let buckets = Buckets::new(RATE, 100);
        for i in 0..3 {
            assert!(buckets.take(u32::MAX, Duration::ZERO).is_ok(), "{i}");
        }
        for i in 0..10_000 {
            let _ = buckets.take(i, Duration::ZERO);
            assert!(buckets.take(u32::MAX, Duration::ZERO).is_err());
        }
        assert!(buckets.len() <= 101, "{}", buckets.len());
    }

    #[test]
    fn a_site_is_one_neighbour() {
        let of = |text: &str| Neighbourhood::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
