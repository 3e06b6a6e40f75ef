//! What the kernel says of this process, under the names that Prometheus' own clients use.

use std::fmt::Display;

use super::{
    Metrics,
    family::{ANONYMOUS, CPU, MAX_FILES, MEMORY, OPEN_FILES},
};

/// Adds the process's own numbers; each is read when it is asked for, and left out where the kernel does not tell.
pub(super) fn watch(metrics: &Metrics) {
    metrics.watch(CPU, || alone(processor_seconds()));
    metrics.watch(MEMORY, || alone(status_bytes("VmRSS:")));
    metrics.watch(ANONYMOUS, || alone(status_bytes("RssAnon:")));
    metrics.watch(OPEN_FILES, || alone(std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count)));
    metrics.watch(MAX_FILES, || alone(rustix::process::getrlimit(rustix::process::Resource::Nofile).current));
}

fn alone(value: Option<impl Display>) -> Vec<(String, String)> {
    value.map(|value| (String::new(), value.to_string())).into_iter().collect()
}

#[expect(clippy::disallowed_methods, reason = "the kernel's page about this process is no file of the store")]
fn page(name: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/self/{name}")).ok()
}

fn status_bytes(field: &str) -> Option<u64> {
    let page = page("status")?;
    let line = page.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

#[expect(clippy::cast_precision_loss, reason = "seconds with a fraction, for a graph")]
fn processor_seconds() -> Option<f64> {
    let page = page("stat")?;
    // The name of the program may hold anything; what follows its closing bracket is numbers (proc_pid_stat(5)).
    let mut numbers = page.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    Some((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
}
