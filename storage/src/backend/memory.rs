//! Maps in memory, with faults on command: the store of tests.
//!
//! They behave as the real stores do in everything a caller can see, and fail as those do when told to ([`Faults`]).

mod bytes;
mod records;

use std::{
    collections::BTreeMap,
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;

pub use self::{bytes::MemoryBytes, records::MemoryRecords};
use crate::Error;

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request does not arrive: nothing is applied, [`Error::Unavailable`].
    Fail,
    /// It is applied and its answer is lost: [`Error::Unknown`].
    LoseAnswer,
    /// It arrives twice, as when a client library tries again after a lost answer; the caller sees the second answer.
    Duplicate,
    /// It is answered with [`Error::Unknown`] now and arrives at [`Faults::deliver`].
    Delay,
}

/// A request that is still under way, and what it does when it arrives.
type Late = Box<dyn FnOnce() + Send>;

/// The faults that a store of tests is told to have, and the count of its calls.
#[derive(Default)]
pub struct Faults {
    calls: AtomicU64,
    plan: Mutex<Plan>,
    late: Mutex<Vec<Late>>,
}

#[derive(Debug, Default)]
struct Plan {
    single: BTreeMap<u64, Fault>,
    dead_from: Option<u64>,
}

impl Faults {
    /// The next call goes wrong so.
    pub fn next(&self, fault: Fault) {
        self.after(0, fault);
    }

    /// The call after the next `skip` calls goes wrong so.
    pub fn after(&self, skip: u64, fault: Fault) {
        self.plan.lock().single.insert(self.calls() + skip, fault);
    }

    /// Every call after the next `skip` calls fails, until [`Faults::heal`]: a process or a store that dies at that step.
    pub fn die_after(&self, skip: u64) {
        self.plan.lock().dead_from = Some(self.calls() + skip);
    }

    /// Nothing goes wrong any more; what is under way stays so.
    pub fn heal(&self) {
        *self.plan.lock() = Plan::default();
    }

    /// Delayed requests arrive now, in the order they were sent.
    pub fn deliver(&self) {
        let late = std::mem::take(&mut *self.late.lock());
        for request in late {
            request();
        }
    }

    /// Calls so far, failed ones included.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Counts a call and says what goes wrong with it.
    fn strike(&self) -> Option<Fault> {
        let mut plan = self.plan.lock();
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let single = plan.single.remove(&call);
        if plan.dead_from.is_some_and(|from| call >= from) { Some(Fault::Fail) } else { single }
    }

    /// A call that only looks: whatever goes wrong, nobody learns anything.
    fn look(&self) -> Result<(), Error> {
        self.strike().map_or(Ok(()), |_| Err(failed()))
    }

    /// A call that writes, by `apply`.
    fn write<T>(&self, apply: impl Fn() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
        self.write_repeated(apply).0
    }

    /// [`Faults::write`], and whether the request arrived more than once.
    fn write_repeated<T>(&self, apply: impl Fn() -> Result<T, Error> + Send + 'static) -> (Result<T, Error>, bool) {
        let fault = self.strike();
        let answer = match fault {
            None => apply(),
            Some(Fault::Fail) => Err(failed()),
            Some(Fault::LoseAnswer) => {
                let _lost = apply();
                Err(unknown())
            }
            Some(Fault::Duplicate) => {
                let _lost = apply();
                apply()
            }
            Some(Fault::Delay) => {
                self.late.lock().push(Box::new(move || {
                    let _lost = apply();
                }));
                Err(unknown())
            }
        };
        (answer, fault == Some(Fault::Duplicate))
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("calls", &self.calls).field("plan", &self.plan).finish_non_exhaustive()
    }
}

fn failed() -> Error {
    Error::unavailable("the test store was told to fail")
}

fn unknown() -> Error {
    Error::unknown("the test store was told to lose this answer")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        backend::{Records, testing},
        clock::SystemClock,
        key, record,
    };

    fn records() -> MemoryRecords {
        MemoryRecords::new(Arc::new(SystemClock::new()))
    }

    #[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
    struct Empty {}

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_map_is_a_store_of_records() {
        testing::records(Arc::new(records())).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_map_that_leaves_tombstones_is_a_store_of_records() {
        testing::records(Arc::new(records().with_tombstones())).await;
    }

    #[tokio::test]
    async fn a_map_is_a_store_of_bytes() {
        testing::bytes(Arc::new(MemoryBytes::growing())).await;
        testing::bytes(Arc::new(MemoryBytes::in_parts(1 << 20))).await;
    }

    #[tokio::test]
    async fn faults_happen_when_they_are_told_to() {
        let store = records();
        let repository = testing::repository();
        let key = |tag: &str| key::tag(&repository, &tag.parse().unwrap());
        let create = async |tag: &str| record::create(&store, &key(tag), Empty {}).await.map(|_| ());
        let exists = async |tag: &str| store.get(&key(tag)).await.unwrap().is_some();

        store.faults().next(Fault::Fail);
        assert!(matches!(create("fail").await, Err(Error::Unavailable(_))));
        assert!(!exists("fail").await);

        store.faults().next(Fault::LoseAnswer);
        assert!(matches!(create("lost").await, Err(Error::Unknown(_))));
        assert!(exists("lost").await);

        store.faults().next(Fault::Duplicate);
        create("twice").await.unwrap();

        store.faults().next(Fault::Delay);
        assert!(matches!(create("late").await, Err(Error::Unknown(_))));
        assert!(!exists("late").await);
        store.faults().deliver();
        assert!(exists("late").await);

        store.faults().die_after(1);
        create("last").await.unwrap();
        assert!(create("dead").await.is_err() && store.health().await.is_err());
        store.faults().heal();
        assert!(exists("last").await && !exists("dead").await);
    }

    #[tokio::test]
    async fn a_write_that_arrives_late_changes_nothing_that_moved_on() {
        let store = records();
        let key = key::tag(&testing::repository(), &"v1".parse().unwrap());
        let mut stale = record::create(&store, &key, Empty {}).await.unwrap();
        let mut current = stale.clone();
        store.faults().next(Fault::Delay);
        assert!(matches!(record::update(&store, &key, &mut stale).await, Err(Error::Unknown(_))));
        record::update(&store, &key, &mut current).await.unwrap();
        store.faults().deliver();
        assert_eq!(&store.get(&key).await.unwrap().unwrap().version, current.version());
    }
}
