//! The clock of the binary under test: the machine's, moved by what a file says.

use std::{env, path::PathBuf, time::Duration};

use chrono::TimeDelta;
use storage::{
    Clock,
    clock::{SystemClock, Time},
};

use crate::harness::read_text;

/// The variable that names the file. The file holds seconds, negative for the past; without it the clock is the machine's.
pub const VARIABLE: &str = "HYTHE_TEST_CLOCK";

/// A clock that a test can move while the process runs.
#[derive(Debug)]
pub struct TestClock {
    machine: SystemClock,
    file: Option<PathBuf>,
}

impl TestClock {
    /// A clock that follows the file named by [`VARIABLE`].
    pub fn from_environment() -> Self {
        Self { machine: SystemClock::new(), file: env::var_os(VARIABLE).map(PathBuf::from) }
    }

    fn offset(&self) -> i64 {
        self.file.as_deref().and_then(|file| read_text(file).trim().parse().ok()).unwrap_or_default()
    }
}

impl Clock for TestClock {
    fn now(&self) -> Time {
        self.machine.now() + TimeDelta::seconds(self.offset())
    }

    /// Moves with the wall clock, forward only: a process has no time before its start.
    fn elapsed(&self) -> Duration {
        self.machine.elapsed() + Duration::from_secs(self.offset().try_into().unwrap_or_default())
    }
}
