//! One manifest, one tag: pushes, deletions, publication and retention.
//!
//! The manifest has a subject, so that its entry in the list of referrers comes and goes with it. The tag may point at it or at
//! another manifest that is always there. A push has the order of `manifest` and `tag` of `hythe-storage`: the
//! manifest, its entry, a mark that the tag may point at it, the tag, and a last look at the manifest. That its blobs are
//! there is the subject of [`crate::collect`]; here a push may find them gone at any time and fail.

mod delete;
mod push;
mod tests;

use stateright::{Model, Property};

use crate::{
    check::{Step, Steps, WORLD},
    store::Record,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Pushes the manifest to the tag.
    Push,
    /// Moves the tag to another manifest.
    Move,
    /// Deletes the tag.
    Untag,
    /// Deletes the manifest by digest.
    Delete,
    /// Publishes a version that needs the manifest.
    Publish,
    /// Retention, which takes what no tag points at: passes.
    Retain { passes: u8 },
    /// Clears marks away that are a day old and whose tag points elsewhere.
    Clean,
}

/// Why a manifest is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mark {
    Deletion,
    Pass(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Manifest {
    dying: Option<Mark>,
}

/// Where the tag points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    Here,
    Elsewhere,
}

const PROCESSES: usize = 4;
/// The mark of the push that was there before anything happened.
const OLD: usize = PROCESSES;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Process {
    Push(push::Push),
    Publish(push::Publish),
    Delete(delete::Delete),
    Clean(delete::Clean),
    Done,
    /// Dead in the middle of something.
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    manifest: Record<Manifest>,
    tag: Record<Target>,
    /// Marks that the tag may point at the manifest: a bit for each push.
    marks: u8,
    /// Those of them that are a day old.
    aged: u8,
    /// The entry among the referrers of the manifest's subject.
    entry: bool,
    pins: u8,
    /// For the property: a version that needs the manifest is published.
    published: bool,
    /// For the properties: a push to the tag was acknowledged; since then nobody has taken manifest or tag away.
    acknowledged: bool,
    stands: bool,
    /// For the property: a pass took a tag that stood.
    robbed: bool,
    processes: [Process; PROCESSES],
}

impl State {
    fn release(&mut self, process: usize) {
        self.manifest.release(process);
        self.tag.release(process);
    }

    fn ends(&mut self, process: usize) {
        self.release(process);
        self.processes[process] = Process::Done;
    }
}

/// A rule taken away, or a repair of what was found by this model taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A push writes the tag before its mark.
    TagBeforeMark,
    /// A push takes no last look at the manifest.
    NoLastLook,
    /// A deletion lists marks before it removes the manifest.
    MarksBeforeRemoval,
    /// A deletion looks at pins before it marks the manifest.
    PinsBeforeMark,
    /// Publishing looks at the manifest before it pins it.
    LookBeforePin,
    /// Publishing leaves a dying manifest dying.
    PublishedDying,
    /// A deletion removes the manifest without a condition.
    UnconditionalRemove,
    /// Retention removes in the pass that marks.
    OnePass,
    /// Retention looks at tags before it reads the manifest that it will remove.
    TagsBeforeVersion,
    /// All pushes of a manifest to a tag share one mark, which is cleared away when it is a day old.
    OneMark,
    /// And a deletion clears it away at once.
    MarkCleared,
    /// Marks are cleared away whatever their age.
    YoungMarksCleared,
    /// A pass that removes a dangling tag does not look for young marks of it.
    YoungMarksIgnored,
    /// A push that fails leaves the tag that it has set.
    TagLeftBehind,
    /// A deletion clears the entry away before it removes the manifest.
    EntryBeforeRemoval,
    /// A deletion does not look again after it has cleared the entry away.
    EntryNotSettled,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Manifests {
    pub(crate) roles: Vec<Role>,
    /// The manifest was pushed to the tag before.
    pub(crate) pushed: bool,
    /// A push may find its blobs gone.
    pub(crate) losses: bool,
    /// Whoever writes may die.
    pub(crate) deaths: bool,
    pub(crate) mutant: Option<Mutant>,
}

pub(crate) const TAG: &str = "when all is done, the tag's manifest is there, or somebody died and left a mark";
pub(crate) const PINNED: &str = "a published manifest is there";
pub(crate) const LISTED: &str = "when all is done, the manifest is listed, and only then";
pub(crate) const STANDS: &str = "a pass takes no tag whose push was acknowledged since the last deletion";
pub(crate) const RETAINED: &str = "without a deletion a pushed tag's manifest is there";

impl Manifests {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn mark(&self, i: usize) -> u8 {
        if self.is(Mutant::OneMark) || self.is(Mutant::MarkCleared) { 1 } else { 1 << i }
    }

    fn all_rest(state: &State) -> bool {
        let rests =
            |process: &Process| matches!(process, Process::Done | Process::Dead | Process::Clean(delete::Clean::Idle));
        state.processes.iter().all(rests)
    }

    fn all_done(state: &State) -> bool {
        Self::all_rest(state) && !state.processes.contains(&Process::Dead)
    }
}

impl Model for Manifests {
    type State = State;
    type Action = Step<State>;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            manifest: Record::absent(),
            tag: Record::absent(),
            marks: 0,
            aged: 0,
            entry: false,
            pins: 0,
            published: false,
            acknowledged: false,
            stands: false,
            robbed: false,
            processes: [Process::Done; PROCESSES],
        };
        if self.pushed {
            state.manifest = Record::present(Manifest { dying: None });
            state.tag = Record::present(Target::Here);
            state.marks = self.mark(OLD);
            state.aged = state.marks;
            state.entry = true;
        }
        for (process, role) in state.processes.iter_mut().zip(&self.roles) {
            *process = match *role {
                Role::Push | Role::Move | Role::Untag => Process::Push(push::Push::new(*role)),
                Role::Publish => Process::Publish(push::Publish::new(self.is(Mutant::LookBeforePin))),
                Role::Delete | Role::Retain { .. } => Process::Delete(delete::Delete::new(*role)),
                Role::Clean => Process::Clean(delete::Clean::Idle),
            };
        }
        vec![state]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step<State>>) {
        let mut out = Steps { from: state, steps };
        for i in 0..self.roles.len() {
            match state.processes[i] {
                Process::Push(push) => self.push(i, push, &mut out),
                Process::Publish(publish) => self.publish(i, publish, &mut out),
                Process::Delete(delete) => self.delete(i, self.roles[i], delete, &mut out),
                Process::Clean(clean) => self.clean(i, clean, &mut out),
                Process::Done | Process::Dead => {}
            }
            if self.deaths && matches!(state.processes[i], Process::Push(_) | Process::Delete(_)) {
                out.step(WORLD, "somebody dies", |s| {
                    s.release(i);
                    s.processes[i] = Process::Dead;
                });
            }
        }
        for i in 0..=OLD {
            let bit = self.mark(i);
            let at_work = i < OLD && matches!(state.processes[i], Process::Push(_));
            if state.marks & !state.aged & bit != 0 && !at_work {
                out.step(WORLD, "a mark ages", |s| s.aged |= bit);
            }
        }
    }

    fn next_state(&self, _: &State, step: Step<State>) -> Option<State> {
        Some(step.next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(TAG, |_, s: &State| {
                let dangles = s.tag.peek() == Some(Target::Here) && s.manifest.peek().is_none();
                !Self::all_rest(s) || !dangles || s.marks != 0 && !Self::all_done(s)
            }),
            Property::always(STANDS, |_, s: &State| !s.robbed),
            Property::always(PINNED, |_, s: &State| !s.published || s.manifest.peek().is_some()),
            Property::always(LISTED, |_, s: &State| !Self::all_done(s) || s.entry == s.manifest.peek().is_some()),
            Property::always(RETAINED, |model: &Self, s: &State| {
                model.roles.contains(&Role::Delete)
                    || !s.acknowledged
                    || s.tag.peek() != Some(Target::Here)
                    || s.manifest.peek().is_some()
            }),
        ]
    }
}
