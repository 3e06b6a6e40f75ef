//! Time, passed in: nothing in the workspace asks the operating system except [`SystemClock`].

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

/// A point in wall-clock time, UTC.
pub type Time = DateTime<Utc>;

/// The one source of time.
pub trait Clock: std::fmt::Debug + Send + Sync + 'static {
    /// Wall-clock time: for what is written into records and shown to people.
    fn now(&self) -> Time;

    /// Monotonic time since an arbitrary start: for deadlines and ages inside one process.
    fn elapsed(&self) -> Duration;
}

/// The operating system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Starts the monotonic side now.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system for time")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system for time")]
    fn now(&self) -> Time {
        Utc::now()
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that stands still until it is moved: for tests of expiry.
#[derive(Debug)]
pub struct ManualClock {
    start: Time,
    moved: parking_lot::Mutex<Duration>,
}

impl ManualClock {
    /// A clock that shows `start`.
    pub fn at(start: Time) -> Self {
        Self { start, moved: parking_lot::Mutex::new(Duration::ZERO) }
    }

    /// Moves both its sides forward.
    pub fn advance(&self, by: Duration) {
        *self.moved.lock() += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        self.start + *self.moved.lock()
    }

    fn elapsed(&self) -> Duration {
        *self.moved.lock()
    }
}
