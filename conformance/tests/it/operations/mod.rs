//! What operators see and do: the log, metrics, traces, stops, upgrades.

mod log;
mod metrics;
mod page;
mod stop;
mod trace;
mod upgrade;
