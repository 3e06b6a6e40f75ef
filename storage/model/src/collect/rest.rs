//! What is left when everything rests: no client ever moves again, all that can age has aged, and the collector goes on alone.

use super::{
    Collect, Intent, Process, REPOSITORIES, Role, State,
    pass::Pass,
    trash::{Sweep, Trash},
};
use crate::check::Steps;

impl Collect {
    /// Asked of every state in which workers and trash have ended, wherever clients were interrupted; of every state at all where
    /// the model is thorough.
    pub(crate) fn rests_clean(&self, state: &State) -> bool {
        let ended = state.processes.iter().all(|process| !matches!(process, Process::Pass(_) | Process::Trash(_)));
        !(ended || self.thorough) || self.rested(*state).is_clean()
    }

    fn rested(&self, mut state: State) -> State {
        state.processes = [Process::Done; super::PROCESSES];
        state.young = 0;
        state.held = false;
        state.to_copy = 0;
        for repository in &mut state.repositories {
            repository.pending = 0;
            repository.member.passes(|member| member.leased = false);
        }
        let sound = Self { mutant: self.mutant, forget: false, deaths: false, ..self.clone() };
        state = sound.alone(state, Role::Sweep, Process::Sweep(Sweep::new()));
        for round in 0..2 {
            for repository in 0..REPOSITORIES {
                let role = Role::Collect { repository, passes: 3 };
                state = sound.alone(state, role, Process::Pass(Pass::new(3, 8 + 3 * round)));
            }
            let runs = state.intents.iter().sum::<u8>();
            if runs > 0 {
                state = sound.alone(state, Role::Trash { runs }, Process::Trash(Trash::new(runs)));
            }
        }
        state
    }

    /// Lets one process go on until it has nothing left to do.
    fn alone(&self, mut state: State, role: Role, process: Process) -> State {
        const SLOT: usize = super::PROCESSES - 1;
        let mut roles = self.roles.clone();
        roles.resize(SLOT + 1, Role::Sweep);
        roles[SLOT] = role;
        let model = Self { roles, ..self.clone() };
        state.processes[SLOT] = process;
        let mut steps = Vec::new();
        loop {
            model.steps_of(SLOT, &mut Steps { from: &state, steps: &mut steps });
            let Some(step) = steps.drain(..).next() else { break };
            state = step.next;
        }
        state.processes[SLOT] = Process::Done;
        state
    }
}

impl State {
    /// No intent, no share of nothing, and no member or object that no manifest needs.
    fn is_clean(&self) -> bool {
        let used = |x: u8| self.repositories.iter().any(|r| r.member.peek().is_some_and(|member| member.x == x));
        (0..super::OBJECTS as u8).all(|x| !self.has_data(x) || used(x))
            && self.repositories.iter().all(|r| r.member.peek().is_none() || r.manifests != 0)
            && Intent::all().all(|intent| self.intents[intent.slot()] == 0)
    }
}
