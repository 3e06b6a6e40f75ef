//! Writers: what `upload` of `hythe-storage` sends to the store, request by request.

use super::{Content, Mutant, Object, PARTS, Process, Session, Standing, State, Turn, Uploads};
use crate::check::Steps;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Read,
    Claim,
    /// Reads the outgrown object back into X, a part a step.
    Copy(u8),
    Send,
    /// Gives the outgrown object up.
    Leave,
    Park,
    Fence,
    Complete,
    Member,
    Cancel,
    Abort,
    GiveUp,
    GiveUpWas,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Writer {
    pub(crate) turn: u8,
    at: At,
    /// The document as this writer knows it.
    session: Option<Session>,
    /// The new object that it has begun.
    fresh: bool,
}

impl Writer {
    pub(crate) fn new(turn: u8) -> Self {
        Self { turn, at: At::Read, session: None, fresh: false }
    }

    pub(crate) fn in_the_middle(self) -> bool {
        self.at != At::Read
    }
}

pub(super) fn length(content: Content) -> usize {
    content.iter().take_while(|&&part| part != 0).count()
}

fn bit(index: usize, part: u8) -> u16 {
    1 << (index * 4 + usize::from(part))
}

impl State {
    fn put_part(&mut self, x: u8, index: usize, part: u8) {
        match &mut self.objects[usize::from(x)] {
            Object::Parts(parts, ever) => {
                parts[index] = part;
                *ever |= bit(index, part);
            }
            // A store whose objects can be completed again takes blocks for them.
            Object::Whole(_, ever) => *ever |= bit(index, part),
            Object::None => {}
        }
    }

    /// Whether X is whole now, as `content`.
    fn complete(&mut self, x: u8, content: Content, rewritable: bool, checked: bool) -> bool {
        let parts = length(content);
        let object = &mut self.objects[usize::from(x)];
        let all = |ever: u16| (0..parts).all(|index| ever & bit(index, content[index]) != 0);
        match *object {
            Object::None => false,
            Object::Whole(_, ever) if rewritable && parts > 0 && all(ever) => {
                *object = Object::Whole(content, ever);
                true
            }
            // An earlier attempt may have done it: the size is compared, and the ETag where it is made of the parts'.
            Object::Whole(found, _) => found == content || !checked && length(found) == parts,
            Object::Parts(found, ever) => {
                let agrees = if rewritable { all(ever) } else { found[..parts] == content[..parts] };
                let there = found.iter().take(parts).all(|&part| part != 0);
                let done = parts > 0 && (agrees || !checked && there);
                if done {
                    let mut whole = [0; PARTS];
                    whole[..parts].copy_from_slice(if agrees { &content[..parts] } else { &found[..parts] });
                    *object = Object::Whole(whole, ever);
                }
                done
            }
        }
    }
}

impl Uploads {
    pub(crate) fn writer(&self, i: usize, turn: Turn, writer: Writer, out: &mut Steps<'_, State>) {
        let part = i as u8 + 1;
        let goes = |s: &mut State, at, session: Session| {
            s.processes[i] = Process::Writer(Writer { at, session: Some(session), ..writer });
        };
        let ends = |s: &mut State| {
            s.release(i);
            let next = writer.turn + 1;
            let more = matches!(self.roles[i], super::Role::Client(turns) if usize::from(next) < turns.len());
            s.processes[i] = if more { Process::Writer(Writer::new(next)) } else { Process::Done };
        };
        let commits = turn == Turn::Commit;
        let session = writer.session;
        match (writer.at, session) {
            (At::Read, _) => out.step(i, "reads the document", |s| {
                let found = s.document.read(i);
                match found {
                    Some(session) if turn == Turn::Cancel => match session.standing {
                        Standing::Committing | Standing::Cancelled => ends(s),
                        Standing::Open | Standing::Busy { .. } => goes(s, At::Cancel, session),
                    },
                    // The last request again, by whoever has it now.
                    Some(session) if session.standing == Standing::Committing && commits => {
                        goes(s, At::Complete, session);
                    }
                    Some(Session { standing: Standing::Cancelled, .. }) if !self.is(Mutant::CancelledClaimed) => {
                        ends(s);
                    }
                    Some(Session { standing: Standing::Committing | Standing::Busy { ended: false, .. }, .. }) => {
                        ends(s);
                    }
                    Some(session) if commits && length(session.content) == 0 => ends(s),
                    Some(session) if !commits && length(session.content) == PARTS => ends(s),
                    None if matches!(turn, Turn::Commit | Turn::Cancel) => ends(s),
                    found => {
                        let grows = found.is_some_and(|session| !session.whole && session.was.is_none());
                        let early = self.is(Mutant::SendBeforeClaim) && grows && !commits;
                        let at = if early { At::Send } else { At::Claim };
                        s.processes[i] = Process::Writer(Writer { at, session: found, ..writer });
                    }
                }
            }),
            (At::Claim, None) => out.step(i, "creates the document, claimed", |s| {
                let x = s.new_object();
                let whole = turn == Turn::Small;
                let standing = Standing::Busy { by: i as u8, ended: false };
                let session = Session { standing, x, whole, content: [0; PARTS], was: None };
                if !whole {
                    s.objects[usize::from(x)] = Object::Parts([0; PARTS], 0);
                }
                if s.document.create(session) {
                    s.document.read(i);
                    goes(s, At::Send, session);
                } else {
                    ends(s);
                }
            }),
            (At::Claim, Some(before)) => out.step(i, "claims", |s| {
                let mut session = Session { standing: Standing::Busy { by: i as u8, ended: false }, ..before };
                let halfway = before.was.is_some();
                let outgrown =
                    if commits { halfway && !self.is(Mutant::EmptyObjectCommitted) } else { halfway || before.whole };
                if outgrown && (!halfway || self.is(Mutant::ObjectForgotten)) {
                    session.x = s.new_object();
                    session.whole = false;
                    session.was = before.was.or(Some(before.x));
                    s.objects[usize::from(session.x)] = Object::Parts([0; PARTS], 0);
                }
                if !s.document.update(i, session) {
                    return ends(s);
                }
                s.document.read(i);
                let fills = if commits { At::Leave } else { At::Send };
                let sent = self.is(Mutant::SendBeforeClaim) && !outgrown && !commits;
                if sent {
                    session.content[length(before.content)] = part;
                }
                let at = match (outgrown, length(before.content)) {
                    (true, length) if length > 0 => At::Copy(0),
                    _ if sent => At::Leave,
                    _ => fills,
                };
                goes(s, at, session);
            }),
            (At::Copy(index), Some(session)) => out.step(i, "reads a part over", |s| {
                let was = session.was.map_or(Object::None, |was| s.objects[usize::from(was)]);
                let at = usize::from(index);
                match was {
                    Object::Whole(content, _) if content[at] != 0 => {
                        s.put_part(session.x, at, content[at]);
                        let fills = if commits { At::Leave } else { At::Send };
                        let last = at + 1 == length(session.content);
                        goes(s, if last { fills } else { At::Copy(index + 1) }, session);
                    }
                    _ => {
                        s.failed = true;
                        ends(s);
                    }
                }
            }),
            (At::Send, Some(mut session)) => out.step(i, "sends its part", |s| {
                let index = length(session.content);
                if session.whole {
                    let mut content = [0; PARTS];
                    content[0] = part;
                    s.objects[usize::from(session.x)] = Object::Whole(content, bit(0, part));
                } else {
                    s.put_part(session.x, index, part);
                }
                if self.is(Mutant::SendBeforeClaim)
                    && session.standing != (Standing::Busy { by: i as u8, ended: false })
                {
                    return goes(s, At::Claim, session);
                }
                session.content[index] = part;
                goes(s, At::Leave, session);
            }),
            (At::Leave, Some(session)) => {
                let next = if commits { At::Fence } else { At::Park };
                out.step(i, "gives up what was outgrown", |s| {
                    if let Some(was) = session.was
                        && !self.is(Mutant::PredecessorForgotten)
                    {
                        s.intents |= 1 << was;
                    }
                    goes(s, next, session);
                });
            }
            (At::Park, Some(session)) => out.step(i, "parks", |s| {
                let parked = Session { standing: Standing::Open, was: None, ..session };
                s.document.update(i, parked);
                ends(s);
            }),
            (At::Fence, Some(session)) if self.is(Mutant::NoFence) => out.step(i, "does not fence", |s| {
                s.document.update(i, Session { standing: Standing::Open, was: None, ..session });
                goes(s, At::Complete, session);
            }),
            (At::Fence, Some(session)) => out.step(i, "fences", |s| {
                let fenced = Session { standing: Standing::Committing, was: None, ..session };
                if s.document.update(i, fenced) { goes(s, At::Complete, fenced) } else { ends(s) }
            }),
            (At::Complete, Some(session)) => out.step(i, "completes", |s| {
                let checked = !self.is(Mutant::PartsUnchecked);
                let whole = match s.objects[usize::from(session.x)] {
                    Object::Whole(content, _) if session.whole => content == session.content,
                    _ => s.complete(session.x, session.content, self.rewritable, checked),
                };
                s.release(i);
                if whole {
                    goes(s, At::Member, session);
                } else {
                    s.failed = true;
                    ends(s);
                }
            }),
            (At::Member, Some(session)) => out.step(i, "writes the member", |s| {
                let present = s.members.iter().flatten().any(|&(digest, _)| digest == session.content);
                if !present && let Some(free) = s.members.iter_mut().find(|member| member.is_none()) {
                    *free = Some((session.content, session.x));
                }
                ends(s);
            }),
            (At::Cancel, Some(session)) => out.step(i, "cancels", |s| {
                let cancelled = Session { standing: Standing::Cancelled, ..session };
                if s.document.update(i, cancelled) {
                    goes(s, At::Abort, session);
                } else {
                    s.processes[i] = Process::Writer(Writer::new(writer.turn));
                }
            }),
            (At::Abort, Some(session)) => out.step(i, "aborts", |s| {
                s.abort(session.x);
                goes(s, At::GiveUp, session);
            }),
            (At::GiveUp, Some(session)) => out.step(i, "gives X up", |s| {
                s.intents |= 1 << session.x;
                goes(s, At::GiveUpWas, session);
            }),
            (At::GiveUpWas, Some(session)) => out.step(i, "gives up what was outgrown", |s| {
                if let Some(was) = session.was {
                    s.intents |= 1 << was;
                }
                ends(s);
            }),
            (_, None) => {}
        }
    }
}
