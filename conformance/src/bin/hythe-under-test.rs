//! `hythe` as the tests start it: the same program with a clock that a test can move and lives that it can shorten.

use std::{process::ExitCode, sync::Arc};

use conformance::clock::{TestClock, lives};

fn main() -> ExitCode {
    registry::main_with(Arc::new(TestClock::from_environment()), lives())
}
