//! The clock of the binary under test: the machine's, moved by what a file says.

use std::{env, path::PathBuf, time::Duration};

use chrono::TimeDelta;
use storage::{
    Clock, Lives,
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

/// The variable that shortens what is promised and left: seconds of a promise and of a write of several steps, `3,10`. All zero is for
/// a store on which nothing is under way.
pub const LIVES: &str = "HYTHE_TEST_LIVES";

/// How long things live in the binary under test: production's lives, or what [`LIVES`] says.
pub fn lives() -> Lives {
    let text = env::var(LIVES).unwrap_or_default();
    let seconds = |text: &str| text.parse().map(Duration::from_secs_f64).ok();
    match text.split_once(',').and_then(|(promise, deadline)| Some((seconds(promise)?, seconds(deadline)?))) {
        Some((promise, deadline)) => Lives::short(promise, deadline),
        None => Lives::default(),
    }
}
