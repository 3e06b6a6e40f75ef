use std::{sync::Arc, time::Duration};

use parking_lot::RwLock;
use storage::{Clock, Time};

/// How old a shared record may be before it is read again.
const FRESH: Duration = Duration::from_secs(1);

/// One record that every request needs, read again when it is older than a second: single-flight, and never used beyond the
/// bound, so that what it says is at most that old.
pub(crate) struct Fresh<T> {
    slot: RwLock<Option<Slot<T>>>,
    fetching: tokio::sync::Mutex<()>,
}

struct Slot<T> {
    value: Arc<T>,
    elapsed: Duration,
    at: Time,
}

impl<T> std::fmt::Debug for Fresh<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fresh").finish_non_exhaustive()
    }
}

impl<T> Fresh<T> {
    pub(crate) fn new() -> Self {
        Self { slot: RwLock::new(None), fetching: tokio::sync::Mutex::new(()) }
    }

    /// Forgets the value: this process has just changed it.
    pub(crate) fn forget(&self) {
        *self.slot.write() = None;
    }

    fn held(&self, clock: &dyn Clock, within: Duration) -> Option<Arc<T>> {
        let slot = self.slot.read();
        let slot = slot.as_ref()?;
        // The larger of the two: monotonic time may stand still in a suspended machine.
        let wall = (clock.now() - slot.at).to_std().unwrap_or(Duration::MAX);
        let age = clock.elapsed().saturating_sub(slot.elapsed).max(wall);
        (age <= within).then(|| slot.value.clone())
    }

    /// The value, at most a second old; at most `bound` old when `read` fails.
    pub(crate) async fn get<E>(
        &self,
        clock: &dyn Clock,
        bound: Duration,
        read: impl Future<Output = Result<T, E>>,
    ) -> Result<Arc<T>, E> {
        if let Some(value) = self.held(clock, FRESH) {
            return Ok(value);
        }
        let _fetching = self.fetching.lock().await;
        if let Some(value) = self.held(clock, FRESH) {
            return Ok(value);
        }
        // Its age counts from before the read began: the record may change while the answer travels.
        let (elapsed, at) = (clock.elapsed(), clock.now());
        match read.await {
            Ok(value) => {
                let value = Arc::new(value);
                *self.slot.write() = Some(Slot { value: value.clone(), elapsed, at });
                Ok(value)
            }
            Err(error) => self.held(clock, bound).ok_or(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use storage::clock::ManualClock;

    use super::*;

    #[tokio::test]
    async fn a_value_is_read_once_a_second_and_outlives_failures_up_to_the_bound() {
        let clock = ManualClock::at(DateTime::UNIX_EPOCH);
        let fresh = Fresh::new();
        let bound = Duration::from_secs(5);
        assert_eq!(*fresh.get(&clock, bound, async { Ok::<_, ()>(1) }).await.unwrap(), 1);
        assert_eq!(*fresh.get(&clock, bound, async { Ok::<_, ()>(2) }).await.unwrap(), 1);
        clock.advance(Duration::from_millis(1001));
        assert_eq!(*fresh.get(&clock, bound, async { Ok::<_, ()>(3) }).await.unwrap(), 3);
        clock.advance(bound);
        assert_eq!(*fresh.get(&clock, bound, async { Err(()) }).await.unwrap(), 3);
        clock.advance(Duration::from_millis(1));
        assert!(fresh.get(&clock, bound, async { Err::<i32, _>(()) }).await.is_err());
    }

    #[tokio::test]
    async fn what_was_forgotten_is_read_again() {
        let clock = ManualClock::at(DateTime::UNIX_EPOCH);
        let fresh = Fresh::new();
        let bound = Duration::from_secs(5);
        fresh.get(&clock, bound, async { Ok::<_, ()>(1) }).await.unwrap();
        fresh.forget();
        assert_eq!(*fresh.get(&clock, bound, async { Ok::<_, ()>(2) }).await.unwrap(), 2);
    }
}
