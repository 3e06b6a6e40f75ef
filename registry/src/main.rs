//! `hythe`: the server and its command line.

use std::{process::ExitCode, sync::Arc};

use storage::{Lives, clock::SystemClock};

fn main() -> ExitCode {
    registry::main_with(Arc::new(SystemClock::new()), Lives::default())
}
