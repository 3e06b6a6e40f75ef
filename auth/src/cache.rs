//! What was read of the records, kept as long as the log of ended rights says nothing against it.

use std::{hash::Hash, sync::Arc, time::Duration};

use parking_lot::RwLock;
use quick_cache::Equivalent;
use storage::Clock;

use crate::watch::{Ends, Held, Moment, Watch};

/// A value in use is read again when it is this old: an end whose record was marked and whose entry a crash prevented.
const READ_AGAIN: Duration = Duration::from_mins(5);

/// What a use of a cached value goes by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Knowing<'a> {
    pub(crate) watch: &'a Watch,
    pub(crate) clock: &'a dyn Clock,
    /// The store cannot be asked, and the value's account wants what is known to count meanwhile.
    pub(crate) cut_off: bool,
}

impl Knowing<'_> {
    fn good<T: Ends>(&self, held: &Held<T>) -> bool {
        self.watch.still(held) && (self.cut_off || held.read.age(self.clock) < READ_AGAIN)
    }
}

/// Many values of one kind, the least used dropped first; one read for all who ask for the same at once.
pub(crate) struct Cache<K, V> {
    kept: quick_cache::sync::Cache<K, Arc<Held<V>>>,
}

impl<K, V> std::fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

impl<K: Hash + Eq + Clone, V: Ends> Cache<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { kept: quick_cache::sync::Cache::new(capacity) }
    }

    /// What is kept under `key`, if it is good.
    pub(crate) fn known<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        key: &Q,
        knowing: Knowing<'_>,
    ) -> Option<Arc<Held<V>>> {
        self.kept.get(key).filter(|held| knowing.good(held))
    }

    /// Keeps a value that was made of what was read elsewhere.
    pub(crate) fn keep(&self, key: K, held: Arc<Held<V>>) {
        self.kept.insert(key, held);
    }

    /// What is kept under `key`, or what `read` finds and keeps. What is absent is not kept.
    pub(crate) async fn get<E, F>(
        &self,
        key: &K,
        knowing: Knowing<'_>,
        mut read: impl FnMut() -> F,
    ) -> Result<Option<Arc<Held<V>>>, E>
    where
        F: Future<Output = Result<Option<V>, E>>,
    {
        // Something may end while it is read. What was read within this call is never older than the bound allows, so that a
        // storm of ends is not answered with a storm of reads.
        let mut last = None;
        for _ in 0..4 {
            if let Some(held) = self.kept.get(key) {
                if knowing.good(&held) {
                    return Ok(Some(held));
                }
                // Whoever has replaced it meanwhile is asked to read once more: that is all.
                self.kept.remove(key);
            }
            match self.kept.get_value_or_guard_async(key).await {
                Ok(held) => last = Some(held),
                Err(guard) => {
                    let (place, began) = (knowing.watch.place(), Moment::now(knowing.clock));
                    let Some(value) = read().await? else { return Ok(None) };
                    let held = Arc::new(Held::new(value, place, began));
                    // Only an eviction in between refuses it, and then it is not kept.
                    let _kept = guard.insert(Arc::clone(&held));
                    last = Some(held);
                }
            }
            if last.as_ref().is_some_and(|held| knowing.good(held)) {
                break;
            }
        }
        Ok(last)
    }
}

/// One value, of which there is one: as [`Cache`].
pub(crate) struct Single<V> {
    kept: RwLock<Option<Arc<Held<V>>>>,
    reading: tokio::sync::Mutex<()>,
}

impl<V> std::fmt::Debug for Single<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Single").finish_non_exhaustive()
    }
}

impl<V: Ends> Single<V> {
    pub(crate) fn new() -> Self {
        Self { kept: RwLock::new(None), reading: tokio::sync::Mutex::new(()) }
    }

    fn known(&self, knowing: Knowing<'_>) -> Option<Arc<Held<V>>> {
        self.kept.read().as_ref().filter(|held| knowing.good(held)).cloned()
    }

    /// Forgets the value: this process has just changed it.
    pub(crate) fn forget(&self) {
        *self.kept.write() = None;
    }

    pub(crate) async fn get<E>(
        &self,
        knowing: Knowing<'_>,
        read: impl Future<Output = Result<V, E>>,
    ) -> Result<Arc<Held<V>>, E> {
        if let Some(held) = self.known(knowing) {
            return Ok(held);
        }
        let _reading = self.reading.lock().await;
        if let Some(held) = self.known(knowing) {
            return Ok(held);
        }
        let (place, began) = (knowing.watch.place(), Moment::now(knowing.clock));
        let held = Arc::new(Held::new(read.await?, place, began));
        *self.kept.write() = Some(Arc::clone(&held));
        Ok(held)
    }
}
