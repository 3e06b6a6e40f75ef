//! How a model is run.

use std::{fmt::Debug, hash::Hash, time::Instant};

use stateright::{Checker, HasDiscoveries, Model};

/// One step of a model, with where it leads: a model computes successors once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step<S> {
    pub(crate) who: usize,
    pub(crate) what: &'static str,
    pub(crate) next: S,
}

/// Collects the steps out of one state.
pub(crate) struct Steps<'a, S> {
    pub(crate) from: &'a S,
    pub(crate) steps: &'a mut Vec<Step<S>>,
}

impl<S: Clone> Steps<'_, S> {
    /// A step of process `who`: `change` makes the successor.
    pub(crate) fn step(&mut self, who: usize, what: &'static str, change: impl FnOnce(&mut S)) {
        let mut next = self.from.clone();
        change(&mut next);
        self.steps.push(Step { who, what, next });
    }
}

/// The process that time and chance are.
pub(crate) const WORLD: usize = 99;

/// Whether the wide bounds were asked for.
pub(crate) fn long() -> bool {
    std::env::var_os("HYTHE_LONG").is_some()
}

/// Explores everything and fails if a property does.
pub(crate) fn holds<M, S>(name: &str, model: M)
where
    M: Model<State = S, Action = Step<S>> + Send + Sync + 'static,
    S: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
{
    #[expect(clippy::disallowed_methods, reason = "how long the checker took")]
    let start = Instant::now();
    let threads = if long() { 2 } else { 1 };
    let checker = model.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    let states = checker.unique_state_count();
    println!(
        "{name}: {states} states, {} transitions, depth {}, {:.1} s",
        checker.state_count(),
        checker.max_depth(),
        start.elapsed().as_secs_f64()
    );
    assert!(states > 1000, "{name} explores next to nothing");
    let failures: Vec<_> = checker.discoveries().into_iter().map(|(property, path)| (property, told(path))).collect();
    assert!(failures.is_empty(), "{name}: {failures:#?}");
}

/// Explores until `property` fails, by a shortest way, and fails if it never does.
pub(crate) fn breaks<M, S>(name: &str, model: M, property: &'static str)
where
    M: Model<State = S, Action = Step<S>> + Send + Sync + 'static,
    S: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
{
    let wanted = HasDiscoveries::AnyOf([property].into());
    let checker = model.checker().finish_when(wanted).spawn_bfs().join();
    let path = checker.discoveries().remove(property);
    let states = checker.unique_state_count();
    let Some(path) = path else { panic!("{name}: no counterexample to \"{property}\" in {states} states") };
    let steps = told(path);
    println!("{name}: \"{property}\" fails after {} steps ({states} states):\n  {}", steps.len(), steps.join("\n  "));
}

fn told<S>(path: stateright::Path<S, Step<S>>) -> Vec<String> {
    path.into_actions().into_iter().map(|step| format!("{}: {}", step.who, step.what)).collect()
}
