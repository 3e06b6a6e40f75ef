//! A repository is deleted while manifests are pushed to it and versions published from it.
//!
//! The order sets a flag in the repository's record and looks at pins; the work goes round until nothing is left, and removes the record
//! last. A push writes its pending, then looks at the record; the work looks at pendings, then removes. Whoever orders
//! may die between any two writes: the work is found by its mark in a queue.

mod tests;

use stateright::{Model, Property};

use crate::{
    check::{Step, Steps, WORLD},
    store::Record,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Push,
    Publish,
    Order,
    Work,
}

const PROCESSES: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Push {
    /// The record, or the memory of having seen it.
    Ensure,
    Known,
    Pending,
    Look,
    Manifest,
    Tag,
    LastLook,
    /// It fails: its tag goes again unless the manifest is there.
    Undo,
    UndoLook,
    UndoRemove,
    Unpend {
        failed: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Publish {
    Pin,
    Order,
    Manifest,
    Flip,
    Unpin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Order {
    Read,
    Flag,
    Pins,
    TakeBack,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Work {
    Idle,
    Pins,
    TakeBack,
    Pendings,
    Tag { waits: bool },
    TagRemove { waits: bool },
    Manifest { waits: bool, removed: bool },
    ManifestMark,
    ManifestPins,
    ManifestUnmark,
    ManifestRemove,
    Finish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Process {
    Push { at: Push, round: u8, tagged: bool },
    Publish(Publish),
    Order(Order),
    Work(Work),
    Done,
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// The repository's record: whether it is being deleted.
    record: Record<bool>,
    pendings: u8,
    /// Whether it is dying.
    manifest: Record<bool>,
    tag: Record<()>,
    pins: u8,
    published: bool,
    processes: [Process; PROCESSES],
}

/// A rule taken away, or a repair of what was found by this model taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A push looks at the record before it writes its pending.
    LookBeforePending,
    /// A push's pending goes when its manifest is written, before the tag is.
    PendingGoesEarly,
    /// A push that fails leaves its tag.
    TagLeftBehind,
    /// The work looks at pendings after it has removed manifests.
    PendingsLast,
    /// Publishing does not look at the flag, nor the removal of a manifest at pins.
    OrderIgnored,
    /// The work does not look at pins before it begins.
    WorkIgnoresPins,
    /// The record goes whatever was written to it meanwhile.
    UnconditionalFinish,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Repositories {
    pub(crate) roles: Vec<Role>,
    /// The manifest is there already, tagged.
    pub(crate) pushed: bool,
    pub(crate) deaths: bool,
    pub(crate) mutant: Option<Mutant>,
}

pub(crate) const EMPTY: &str = "when all is done, a repository that is gone has no tag and no manifest";
pub(crate) const PINNED: &str = "a published manifest is there";
pub(crate) const TAKEN_BACK: &str = "when all is done, nothing published lies in a repository that is being deleted";

impl Repositories {
    /// Nobody moves any more, and the work has found that there is none.
    fn all_rest(&self, state: &State) -> bool {
        let rests = |process: &Process| match process {
            Process::Done | Process::Dead => true,
            Process::Work(Work::Idle) => state.record.peek() != Some(true) || self.is(Mutant::WorkIgnoresPins),
            _ => false,
        };
        state.processes.iter().all(rests)
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn push(&self, i: usize, (at, round, tagged): (Push, u8, bool), out: &mut Steps<'_, State>) {
        let goes = |s: &mut State, at| s.processes[i] = Process::Push { at, round, tagged };
        let fails = |s: &mut State| {
            let undoes = tagged && !self.is(Mutant::TagLeftBehind);
            goes(s, if undoes { Push::Undo } else { Push::Unpend { failed: true } });
        };
        let early = self.is(Mutant::LookBeforePending);
        let from = out.from;
        let look = |s: &mut State, next| match s.record.peek() {
            Some(true) => fails(s),
            Some(false) => goes(s, next),
            // Another first push may be faster; that is as good.
            None => {
                s.record.create(false);
                goes(s, next);
            }
        };
        match at {
            Push::Ensure => {
                if round == 0 {
                    out.step(i, "has seen the repository a moment ago", |s| goes(s, Push::Known));
                }
                out.step(i, "looks at the repository", |s| look(s, Push::Known));
            }
            Push::Known => {
                let known = from.manifest.peek().is_some();
                let first = if early { Push::Look } else { Push::Pending };
                out.step(i, "looks for the manifest", |s| goes(s, if known { Push::Tag } else { first }));
            }
            Push::Pending => out.step(i, "puts the pending", |s| {
                s.pendings |= 1 << i;
                goes(s, if early { Push::Manifest } else { Push::Look });
            }),
            Push::Look => out.step(i, "looks at the repository, pending", |s| {
                look(s, if early { Push::Pending } else { Push::Manifest });
            }),
            Push::Manifest => out.step(i, "writes the manifest", |s| {
                s.manifest.overwrite(Some(false));
                if self.is(Mutant::PendingGoesEarly) {
                    s.pendings &= !(1 << i);
                }
                goes(s, Push::Tag);
            }),
            Push::Tag => out.step(i, "sets the tag", |s| {
                s.tag.overwrite(Some(()));
                s.processes[i] = Process::Push { at: Push::LastLook, round, tagged: true };
            }),
            Push::LastLook => {
                let there = from.manifest.peek().is_some();
                out.step(i, "looks at the manifest again", |s| match (there, round) {
                    (true, _) => goes(s, Push::Unpend { failed: false }),
                    (false, 0) => s.processes[i] = Process::Push { at: Push::Known, round: 1, tagged },
                    (false, _) => fails(s),
                });
            }
            Push::Undo => out.step(i, "fails, and reads its tag", |s| {
                let there = s.tag.read(i).is_some();
                goes(s, if there { Push::UndoLook } else { Push::Unpend { failed: true } });
            }),
            Push::UndoLook => {
                let there = from.manifest.peek().is_some();
                out.step(i, "fails, and looks at the manifest", |s| {
                    goes(s, if there { Push::Unpend { failed: true } } else { Push::UndoRemove });
                });
            }
            Push::UndoRemove => out.step(i, "fails, and removes its tag", |s| {
                let removed = s.tag.remove(i);
                goes(s, if removed { Push::Unpend { failed: true } } else { Push::Undo });
            }),
            Push::Unpend { .. } => out.step(i, "deletes the pending", |s| {
                s.pendings &= !(1 << i);
                s.ends(i);
            }),
        }
    }

    fn publish(&self, i: usize, publish: Publish, out: &mut Steps<'_, State>) {
        let goes = |s: &mut State, at| s.processes[i] = Process::Publish(at);
        match publish {
            Publish::Pin => out.step(i, "publishing pins", |s| {
                s.pins |= 1 << i;
                goes(s, if self.is(Mutant::OrderIgnored) { Publish::Manifest } else { Publish::Order });
            }),
            Publish::Order => {
                let open = out.from.record.peek() == Some(false);
                out.step(i, "publishing looks at the repository", |s| {
                    goes(s, if open { Publish::Manifest } else { Publish::Unpin });
                });
            }
            Publish::Manifest => out.step(i, "publishing looks at the manifest", |s| match s.manifest.read(i) {
                Some(true) => goes(s, Publish::Flip),
                Some(false) => {
                    s.published = true;
                    s.ends(i);
                }
                None => goes(s, Publish::Unpin),
            }),
            Publish::Flip => out.step(i, "publishing flips the manifest back", |s| {
                if s.manifest.update(i, false) {
                    s.published = true;
                    s.ends(i);
                } else {
                    goes(s, Publish::Manifest);
                }
            }),
            Publish::Unpin => out.step(i, "publishing fails, and unpins", |s| {
                s.pins &= !(1 << i);
                s.ends(i);
            }),
        }
    }

    fn order(i: usize, order: Order, out: &mut Steps<'_, State>) {
        let goes = |s: &mut State, at| s.processes[i] = Process::Order(at);
        let pinned = out.from.pins != 0;
        match order {
            Order::Read => out.step(i, "an order reads the record", |s| match s.record.read(i) {
                Some(false) => goes(s, Order::Flag),
                _ => s.ends(i),
            }),
            Order::Flag => out.step(i, "an order sets the flag", |s| {
                if !s.record.update(i, true) {
                    return goes(s, Order::Read);
                }
                s.record.read(i);
                goes(s, Order::Pins);
            }),
            Order::Pins => {
                out.step(i, "an order looks at pins", |s| if pinned { goes(s, Order::TakeBack) } else { s.ends(i) });
            }
            Order::TakeBack => out.step(i, "an order takes its flag back", |s| {
                s.record.update(i, false);
                s.ends(i);
            }),
        }
    }

    fn work(&self, i: usize, work: Work, out: &mut Steps<'_, State>) {
        let goes = |s: &mut State, at| s.processes[i] = Process::Work(at);
        let idle = |s: &mut State| {
            s.release(i);
            goes(s, Work::Idle);
        };
        let from = out.from;
        let pinned = from.pins != 0;
        let last = self.is(Mutant::PendingsLast);
        let after_look = if last { Work::Tag { waits: false } } else { Work::Pendings };
        match work {
            Work::Idle => {
                if from.record.peek() == Some(true) {
                    out.step(i, "the work begins", |s| {
                        s.record.read(i);
                        goes(s, if self.is(Mutant::WorkIgnoresPins) { after_look } else { Work::Pins });
                    });
                }
            }
            Work::Pins => {
                out.step(i, "the work looks at pins", |s| goes(s, if pinned { Work::TakeBack } else { after_look }));
            }
            Work::TakeBack => out.step(i, "the work takes the order back", |s| {
                s.record.update(i, false);
                idle(s);
            }),
            Work::Pendings if last => {
                out.step(i, "the work looks at pendings", |s| {
                    if s.pendings == 0 { goes(s, Work::Finish) } else { idle(s) }
                });
            }
            Work::Pendings => out.step(i, "the work looks at pendings", |s| {
                goes(s, Work::Tag { waits: s.pendings != 0 });
            }),
            Work::Tag { waits } => out.step(i, "the work reads tags", |s| match s.tag.read(i) {
                Some(()) => goes(s, Work::TagRemove { waits }),
                None => goes(s, Work::Manifest { waits, removed: false }),
            }),
            Work::TagRemove { waits } => out.step(i, "the work removes a tag", |s| {
                s.tag.remove(i);
                goes(s, Work::Manifest { waits, removed: true });
            }),
            Work::Manifest { waits, removed } => {
                out.step(i, "the work reads manifests", |s| match (s.manifest.read(i), waits || removed) {
                    (Some(_), _) => goes(s, Work::ManifestMark),
                    (None, true) => idle(s),
                    (None, false) => goes(s, if last { Work::Pendings } else { Work::Finish }),
                });
            }
            Work::ManifestMark => out.step(i, "the work marks a manifest", |s| {
                if s.manifest.update(i, true) {
                    s.manifest.read(i);
                    goes(s, if self.is(Mutant::OrderIgnored) { Work::ManifestRemove } else { Work::ManifestPins });
                } else {
                    idle(s);
                }
            }),
            Work::ManifestPins => out.step(i, "the work looks at a manifest's pins", |s| {
                goes(s, if pinned { Work::ManifestUnmark } else { Work::ManifestRemove });
            }),
            Work::ManifestUnmark => out.step(i, "the work takes its mark back", |s| {
                s.manifest.update(i, false);
                idle(s);
            }),
            Work::ManifestRemove => out.step(i, "the work removes a manifest", |s| {
                s.manifest.remove(i);
                // Something was removed: another round.
                idle(s);
            }),
            Work::Finish => out.step(i, "the work removes the record", |s| {
                if self.is(Mutant::UnconditionalFinish) {
                    s.record.overwrite(None);
                } else {
                    s.record.remove(i);
                }
                idle(s);
            }),
        }
    }
}

impl State {
    fn release(&mut self, process: usize) {
        self.record.release(process);
        self.manifest.release(process);
        self.tag.release(process);
    }

    fn ends(&mut self, process: usize) {
        self.release(process);
        self.processes[process] = Process::Done;
    }
}

impl Model for Repositories {
    type State = State;
    type Action = Step<State>;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            record: Record::present(false),
            pendings: 0,
            manifest: Record::absent(),
            tag: Record::absent(),
            pins: 0,
            published: false,
            processes: [Process::Done; PROCESSES],
        };
        if self.pushed {
            state.manifest = Record::present(false);
            state.tag = Record::present(());
        }
        for (process, role) in state.processes.iter_mut().zip(&self.roles) {
            *process = match role {
                Role::Push => Process::Push { at: Push::Ensure, round: 0, tagged: false },
                Role::Publish => Process::Publish(Publish::Pin),
                Role::Order => Process::Order(Order::Read),
                Role::Work => Process::Work(Work::Idle),
            };
        }
        vec![state]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step<State>>) {
        let mut out = Steps { from: state, steps };
        for (i, process) in state.processes.iter().enumerate() {
            match *process {
                Process::Push { at, round, tagged } => self.push(i, (at, round, tagged), &mut out),
                Process::Publish(publish) => self.publish(i, publish, &mut out),
                Process::Order(order) => Self::order(i, order, &mut out),
                Process::Work(work) => self.work(i, work, &mut out),
                Process::Done | Process::Dead => {}
            }
            if self.deaths && matches!(process, Process::Push { .. } | Process::Order(_)) {
                out.step(WORLD, "somebody dies", |s| {
                    s.release(i);
                    s.processes[i] = Process::Dead;
                });
            }
            if *process == Process::Dead && state.pendings & (1 << i) != 0 {
                out.step(WORLD, "a dead push's pending ages", |s| s.pendings &= !(1 << i));
            }
        }
    }

    fn next_state(&self, _: &State, step: Step<State>) -> Option<State> {
        Some(step.next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(EMPTY, |model: &Self, s: &State| {
                !model.all_rest(s) || s.record.peek().is_some() || s.tag.peek().is_none() && s.manifest.peek().is_none()
            }),
            Property::always(PINNED, |_, s: &State| !s.published || s.manifest.peek().is_some()),
            Property::always(TAKEN_BACK, |model: &Self, s: &State| {
                !model.all_rest(s) || !s.published || s.record.peek() != Some(true)
            }),
        ]
    }
}
