use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;

/// Upper bounds of the buckets in seconds: from a cached manifest to a layer of many GiB.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 600.0, 3600.0];

/// Times, counted by length and by labels of type `K`, which shows itself as `a="b",c="d"`.
#[derive(Debug)]
pub(super) struct Histogram<K>(RwLock<BTreeMap<K, Arc<Series>>>);

#[derive(Debug, Default)]
struct Series {
    buckets: [AtomicU64; BUCKETS.len()],
    count: AtomicU64,
    micros: AtomicU64,
}

impl<K> Default for Histogram<K> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<K: Ord + Copy + fmt::Display> Histogram<K> {
    pub(super) fn observe(&self, key: K, took: Duration) {
        let series = self.0.read().get(&key).cloned();
        let series = series.unwrap_or_else(|| Arc::clone(self.0.write().entry(key).or_default()));
        let seconds = took.as_secs_f64();
        if let Some(bucket) = BUCKETS.iter().zip(&series.buckets).find(|(bound, _)| seconds <= **bound) {
            bucket.1.fetch_add(1, Ordering::Relaxed);
        }
        series.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        series.count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn write(&self, name: &str, to: &mut String) -> fmt::Result {
        for (labels, series) in self.0.read().iter() {
            // Read first, so that the infinite bucket is never below a finite one.
            let finite: Vec<u64> = series.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect();
            let mut below = 0;
            for (bound, count) in BUCKETS.iter().zip(&finite) {
                below += count;
                writeln!(to, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}")?;
            }
            let count = series.count.load(Ordering::Relaxed).max(below);
            let seconds = Duration::from_micros(series.micros.load(Ordering::Relaxed)).as_secs_f64();
            writeln!(to, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}")?;
            writeln!(to, "{name}_sum{{{labels}}} {seconds}")?;
            writeln!(to, "{name}_count{{{labels}}} {count}")?;
        }
        Ok(())
    }
}
