//! One upload session on a bucket: claims in its document, takeover, commit, cancellation, the sweeper and trash.
//!
//! A session holds parts, two at most, each as one number: who sent it. So a digest is the sequence of them that was hashed, and
//! a data object lies when what it was completed from is another. Writers claim the session by compare-and-swap; a claim may
//! end at any moment, while its holder goes on writing, not knowing (it does look at its clock, but may be stalled after the look).
//! The first body may be stored as a whole object, which cannot grow: the next writer reads it back into a new one.
//!
//! Hours pass once: then who was at it is dead (every write of several steps has a deadline of ten minutes), commits are
//! not repeated any more, and the sweeper and trash look at the session.

mod background;
mod tests;
mod writer;

use stateright::{Model, Property};

use crate::{
    check::{Step, Steps, WORLD},
    store::Record,
};

pub(crate) const PARTS: usize = 2;
pub(crate) const OBJECTS: usize = 8;
const PROCESSES: usize = 5;

/// Parts by who sent them; 0 is none.
pub(crate) type Content = [u8; 2];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// A body of one part, stored as an object of its own if it is the first.
    Small,
    /// A body of one part, stored as a part.
    Part,
    /// A commit without a body.
    Commit,
    Cancel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Requests of one client, one after the other.
    Client(&'static [Turn]),
    Sweep,
    Trash,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Standing {
    Open,
    Busy { by: u8, ended: bool },
    Committing,
    Cancelled,
}

/// The session's document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Session {
    standing: Standing,
    x: u8,
    /// X is put at once.
    whole: bool,
    /// What is durable, as it was hashed.
    content: Content,
    /// The whole object that the session outgrew.
    was: Option<u8>,
}

/// A data object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Object {
    None,
    /// A multipart upload with the parts that lie there now, and every part ever put (a bit each).
    Parts(Content, u16),
    Whole(Content, u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Process {
    Writer(writer::Writer),
    Sweep(background::Sweep),
    Trash(background::Trash),
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    document: Record<Session>,
    objects: [Object; OBJECTS],
    /// Ids of objects that were given out.
    named: u8,
    /// The member of each digest, at most three of them.
    members: [Option<(Content, u8)>; 3],
    /// Trash intents: a bit X.
    intents: u8,
    hours: bool,
    /// For the properties: a claim ended while its holder lived.
    overtaken: bool,
    /// For the properties: a commit of what was acknowledged failed.
    failed: bool,
    processes: [Process; PROCESSES],
}

/// A rule taken away, or a repair of what was found by this model taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A writer sends before its claim is durable.
    SendBeforeClaim,
    /// A commit does not fence its session.
    NoFence,
    /// The store completes an upload whatever its parts are now.
    PartsUnchecked,
    /// Who takes over a session that is being read over starts with another object, and the one before is forgotten.
    ObjectForgotten,
    /// A commit without a body takes an object that the session has not been read over to.
    EmptyObjectCommitted,
    /// The object that a session outgrew is not given up.
    PredecessorForgotten,
    /// Trash does not look at the session.
    SessionIgnored,
    /// A commit may be repeated for ever.
    RepeatedForEver,
    /// The sweeper removes the document first.
    DocumentFirst,
    /// A cancelled session may be claimed.
    CancelledClaimed,
}

#[derive(Debug, Clone)]
pub(crate) struct Uploads {
    pub(crate) roles: Vec<Role>,
    /// A completed object may be completed again from other parts (block lists); otherwise that ends the upload.
    pub(crate) rewritable: bool,
    /// Writers may die.
    pub(crate) deaths: bool,
    pub(crate) mutant: Option<Mutant>,
}

pub(crate) const DIGEST: &str = "a member's bytes are those of its digest";
pub(crate) const NAMED: &str = "bytes are named by a member, the session or an intent";
pub(crate) const COMMITTED: &str = "unless a writer was overtaken, what was acknowledged can be committed";
pub(crate) const CLEAN: &str = "when all is done, only members have bytes";

impl Uploads {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}

impl State {
    fn release(&mut self, process: usize) {
        self.document.release(process);
    }

    fn new_object(&mut self) -> u8 {
        let x = self.named;
        self.named += 1;
        x
    }

    fn is_named(&self, x: u8) -> bool {
        self.members.iter().flatten().any(|&(_, of)| of == x)
            || self.document.peek().is_some_and(|session| session.x == x || session.was == Some(x))
            || self.intents & (1 << x) != 0
    }

    /// Hours have passed and the collector is through.
    fn is_swept(&self) -> bool {
        self.hours && self.document.peek().is_none() && self.intents == 0
    }
}

impl Model for Uploads {
    type State = State;
    type Action = Step<State>;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            document: Record::absent(),
            objects: [Object::None; OBJECTS],
            named: 0,
            members: [None; 3],
            intents: 0,
            hours: false,
            overtaken: false,
            failed: false,
            processes: [Process::Done; PROCESSES],
        };
        for (process, role) in state.processes.iter_mut().zip(&self.roles) {
            *process = match role {
                Role::Client(_) => Process::Writer(writer::Writer::new(0)),
                Role::Sweep => Process::Sweep(background::Sweep::Idle),
                Role::Trash => Process::Trash(background::Trash::Idle),
            };
        }
        vec![state]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step<State>>) {
        let mut out = Steps { from: state, steps };
        for (i, role) in self.roles.iter().enumerate() {
            match (state.processes[i], role) {
                (Process::Writer(writer), Role::Client(turns)) => {
                    self.writer(i, turns[usize::from(writer.turn)], writer, &mut out);
                    if self.deaths && writer.in_the_middle() {
                        out.step(WORLD, "a writer dies", |s| {
                            s.processes[i] = Process::Done;
                            s.release(i);
                        });
                    }
                }
                (Process::Sweep(sweep), _) => self.sweep(i, sweep, &mut out),
                (Process::Trash(trash), _) => self.trash(i, trash, &mut out),
                _ => {}
            }
        }
        if let Some(Session { standing: Standing::Busy { by, ended: false }, .. }) = state.document.peek() {
            out.step(WORLD, "the claim ends", |s| {
                let lives = matches!(s.processes[usize::from(by)], Process::Writer(writer) if writer.in_the_middle());
                s.overtaken |= lives;
                s.document.passes(|session| session.standing = Standing::Busy { by, ended: true });
            });
        }
        if !state.hours {
            out.step(WORLD, "hours pass", |s| {
                s.hours = true;
                for i in 0..PROCESSES {
                    let late = self.is(Mutant::RepeatedForEver);
                    if matches!(s.processes[i], Process::Writer(writer) if !late || writer.in_the_middle()) {
                        s.processes[i] = Process::Done;
                        s.release(i);
                    }
                }
            });
        }
    }

    fn next_state(&self, _: &State, step: Step<State>) -> Option<State> {
        Some(step.next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(DIGEST, |_, s: &State| {
                s.members.iter().flatten().all(
                    |&(digest, x)| matches!(s.objects[usize::from(x)], Object::Whole(content, _) if content == digest),
                )
            }),
            Property::always(NAMED, |_, s: &State| {
                (0..OBJECTS as u8).all(|x| match s.objects[usize::from(x)] {
                    Object::None | Object::Parts(_, 0) => true,
                    Object::Parts(..) | Object::Whole(..) => s.is_named(x),
                })
            }),
            Property::always(COMMITTED, |_, s: &State| s.overtaken || !s.failed),
            Property::always(CLEAN, |_, s: &State| {
                !s.is_swept()
                    || s.processes.iter().any(|process| matches!(process, Process::Writer(_)))
                    || (0..OBJECTS as u8).all(|x| {
                        matches!(s.objects[usize::from(x)], Object::None | Object::Parts(_, 0))
                            || s.members.iter().flatten().any(|&(_, of)| of == x)
                    })
            }),
        ]
    }
}
