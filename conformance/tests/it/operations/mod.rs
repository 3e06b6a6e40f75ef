//! What operators see and do: the log, metrics, traces, stops, upgrades.

mod log;
mod metrics;
mod page;
mod reload;
mod stop;
mod trace;
mod upgrade;
