//! What was read of the records, kept as long as the log of ended rights says nothing against it.

use std::{hash::Hash, sync::Arc, time::Duration};

use parking_lot::RwLock;
use quick_cache::Weighter;
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
    /// Whether a value may be used as it is.
    pub(crate) fn good<T: Ends>(&self, held: &Held<T>) -> bool {
        self.watch.still(held) && !self.is_old(held)
    }

    fn is_old<T>(&self, held: &Held<T>) -> bool {
        !self.cut_off && held.read.age(self.clock) >= READ_AGAIN
    }
}

/// What a cached value costs.
pub(crate) trait Weighs {
    /// Bytes of memory, roughly, with what it holds on to.
    fn weight(&self) -> usize;
}

/// A cache's own bookkeeping for one value, roughly.
const OVERHEAD: usize = 160;

#[derive(Debug, Clone)]
struct ByWeight;

impl<K, V: Weighs> Weighter<K, Arc<Held<V>>> for ByWeight {
    fn weight(&self, _: &K, held: &Arc<Held<V>>) -> u64 {
        (OVERHEAD + held.value.weight()) as u64
    }
}

/// Many values of one kind, bounded by their bytes, the least used dropped first; one read for all who ask for the same at once.
pub(crate) struct Cache<K, V: Weighs> {
    kept: quick_cache::sync::Cache<K, Arc<Held<V>>, ByWeight>,
}

impl<K, V: Weighs> std::fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

impl<K: Hash + Eq + Clone, V: Ends + Weighs> Cache<K, V> {
    /// A cache of `bytes` at most.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { kept: quick_cache::sync::Cache::with_weighter(bytes / 1024, bytes as u64, ByWeight) }
    }

    /// Whether anything is kept under `key`, good or not.
    pub(crate) fn remembers(&self, key: &K) -> bool {
        self.kept.peek(key).is_some()
    }

    /// What is kept under `key`, good or not.
    pub(crate) fn peek(&self, key: &K) -> Option<Arc<Held<V>>> {
        self.kept.get(key)
    }

    /// Keeps a value that its holder has read.
    pub(crate) fn put(&self, key: K, held: Arc<Held<V>>) {
        self.kept.insert(key, held);
    }

    /// Bytes that are held now.
    pub(crate) fn bytes(&self) -> u64 {
        self.kept.weight()
    }

    /// What is kept under `key`, or what `read` finds and keeps. What is absent is not kept. Whoever read it himself gets it as it
    /// was read: that nothing ended meanwhile is looked at where it is decided ([`Watch::place`]).
    pub(crate) async fn get<E, F>(
        &self,
        key: &K,
        knowing: Knowing<'_>,
        mut read: impl FnMut() -> F,
    ) -> Result<Option<Arc<Held<V>>>, E>
    where
        F: Future<Output = Result<Option<V>, E>>,
    {
        loop {
            let held = match self.kept.get(key) {
                Some(held) => held,
                None => match self.kept.get_value_or_guard_async(key).await {
                    Ok(held) => held,
                    Err(guard) => {
                        let (place, began) = (knowing.watch.place(), Moment::now(knowing.clock));
                        let Some(value) = read().await? else { return Ok(None) };
                        let held = Arc::new(Held::new(value, place, began));
                        // Only an eviction in between refuses it, and then it is not kept.
                        let _kept = guard.insert(Arc::clone(&held));
                        return Ok(Some(held));
                    }
                },
            };
            let same = |kept: &Arc<Held<V>>| Arc::ptr_eq(kept, &held);
            if !knowing.watch.still(&held) {
                self.kept.remove_if(key, same);
                continue;
            }
            if !knowing.is_old(&held) {
                return Ok(Some(held));
            }
            // One reads it again; the others go on with what nothing speaks against, and so does he if the store is away.
            let Some(_renewing) = held.renew() else { return Ok(Some(held)) };
            let (place, began) = (knowing.watch.place(), Moment::now(knowing.clock));
            return match read().await {
                Ok(Some(value)) => {
                    let fresh = Arc::new(Held::new(value, place, began));
                    self.kept.insert(key.clone(), Arc::clone(&fresh));
                    Ok(Some(fresh))
                }
                Ok(None) => {
                    self.kept.remove_if(key, same);
                    Ok(None)
                }
                Err(_) => Ok(Some(Arc::clone(&held))),
            };
        }
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

    /// The value, read anew unless that was done a moment ago; the old one stays until there is a new one.
    pub(crate) async fn renewed<E>(
        &self,
        knowing: Knowing<'_>,
        moment: Duration,
        read: impl Future<Output = Result<V, E>>,
    ) -> Result<Arc<Held<V>>, E> {
        let _reading = self.reading.lock().await;
        if let Some(held) = self.known(knowing).filter(|held| held.read.age(knowing.clock) < moment) {
            return Ok(held);
        }
        self.read(knowing, read).await
    }

    async fn read<E>(&self, knowing: Knowing<'_>, read: impl Future<Output = Result<V, E>>) -> Result<Arc<Held<V>>, E> {
        let (place, began) = (knowing.watch.place(), Moment::now(knowing.clock));
        let held = Arc::new(Held::new(read.await?, place, began));
        *self.kept.write() = Some(Arc::clone(&held));
        Ok(held)
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
        self.read(knowing, read).await
    }
}
