//! What looks at sessions hours later.

use super::{Mutant, Object, Process, Session, State, Uploads};
use crate::check::Steps;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Sweep {
    Idle,
    Abort(Session),
    Look(Session),
    Intent(Session),
    Was(Session),
    Document(Session),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Trash {
    Idle,
    Users(u8),
    Delete(u8),
    Forget(u8),
}

impl State {
    /// Ends a multipart upload; a finished object is not touched.
    pub(super) fn abort(&mut self, x: u8) {
        let object = &mut self.objects[usize::from(x)];
        if matches!(object, Object::Parts(..)) {
            *object = Object::None;
        }
    }
}

impl Uploads {
    pub(crate) fn sweep(&self, i: usize, sweep: Sweep, out: &mut Steps<'_, State>) {
        let goes = |s: &mut State, sweep| s.processes[i] = Process::Sweep(sweep);
        match sweep {
            Sweep::Idle => {
                if out.from.hours && out.from.document.peek().is_some() {
                    out.step(i, "the sweeper takes the session", |s| {
                        if let Some(session) = s.document.read(i) {
                            let first = self.is(Mutant::DocumentFirst);
                            goes(s, if first { Sweep::Document(session) } else { Sweep::Abort(session) });
                        }
                    });
                }
            }
            Sweep::Abort(session) => out.step(i, "the sweeper aborts", |s| {
                s.abort(session.x);
                goes(s, Sweep::Look(session));
            }),
            Sweep::Look(session) => out.step(i, "the sweeper looks for a member", |s| {
                let used = s.members.contains(&Some((session.content, session.x)));
                goes(s, if used { Sweep::Was(session) } else { Sweep::Intent(session) });
            }),
            Sweep::Intent(session) => out.step(i, "the sweeper writes an intent", |s| {
                s.intents |= 1 << session.x;
                goes(s, Sweep::Was(session));
            }),
            Sweep::Was(session) => out.step(i, "the sweeper gives up what was outgrown", |s| {
                if let Some(was) = session.was {
                    s.intents |= 1 << was;
                }
                goes(s, if self.is(Mutant::DocumentFirst) { Sweep::Idle } else { Sweep::Document(session) });
            }),
            Sweep::Document(session) => out.step(i, "the sweeper removes the document", |s| {
                let removed = s.document.remove(i);
                s.release(i);
                let first = removed && self.is(Mutant::DocumentFirst);
                goes(s, if first { Sweep::Abort(session) } else { Sweep::Idle });
            }),
        }
    }

    pub(crate) fn trash(&self, i: usize, trash: Trash, out: &mut Steps<'_, State>) {
        let goes = |s: &mut State, trash| s.processes[i] = Process::Trash(trash);
        match trash {
            Trash::Idle => {
                // What a session names that may go on is left alone; and hours are what it takes to know that its writers are dead.
                let due = out.from.hours || self.is(Mutant::SessionIgnored);
                for x in (0..super::OBJECTS as u8).filter(|x| due && out.from.intents & (1 << x) != 0) {
                    out.step(i, "trash takes an intent", |s| goes(s, Trash::Users(x)));
                }
            }
            Trash::Users(x) => out.step(i, "trash looks for a member", |s| {
                let used = s.members.iter().flatten().any(|&(_, of)| of == x);
                goes(s, if used { Trash::Forget(x) } else { Trash::Delete(x) });
            }),
            Trash::Delete(x) => out.step(i, "trash deletes the bytes", |s| {
                s.objects[usize::from(x)] = Object::None;
                goes(s, Trash::Forget(x));
            }),
            Trash::Forget(x) => out.step(i, "trash drops the intent", |s| {
                s.intents &= !(1 << x);
                goes(s, Trash::Idle);
            }),
        }
    }
}
