//! Trash, the one place that deletes bytes, and the sweeper of sessions that are over.

use super::{Collect, Intent, Mutant, OBJECTS, Process, REPOSITORIES, Role, State, share};
use crate::check::Steps;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Idle,
    /// Lists the shares of X, one repository a step.
    Shares(u8),
    /// Reads the members of those who may use X.
    Users,
    /// Lists the shares again.
    Again(u8),
    Hold,
    Data,
    /// Deletes the shares.
    Clear(u8),
    Forget,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Trash {
    at: At,
    left: u8,
    intent: Intent,
    /// Repositories whose members are still to be read.
    users: u8,
    /// Shares that were older than a day when this run began, and have not been written since.
    old: u8,
}

impl Trash {
    pub(crate) fn new(runs: u8) -> Self {
        let intent = Intent { x: 0, repository: 0, origin: 0 };
        Self { at: At::Idle, left: runs, intent, users: 0, old: 0 }
    }
}

/// A share was written (again): it is young for every run.
pub(crate) fn re_dated(s: &mut State, x: u8, repository: usize) {
    for process in &mut s.processes {
        if let Process::Trash(trash) = process {
            trash.old &= !share(x, repository);
        }
    }
}

impl Collect {
    /// Whether a commit may still make a member of X, seen in its session's document.
    fn committing(&self, s: &State, x: u8) -> bool {
        !self.is(Mutant::SessionIgnored) && self.session_at_work(s, x)
    }

    fn session_at_work(&self, s: &State, x: u8) -> bool {
        s.processes.iter().zip(&self.roles).any(|(process, role)| match (process, role) {
            (Process::Client(client), Role::Push { x: own, .. }) => *own == usize::from(x) && client.commits(),
            _ => false,
        })
    }

    /// Where there are backups, holds are looked at once more before bytes go.
    fn last_look(&self) -> At {
        let looks = self.roles.contains(&Role::Backup) && !self.is(Mutant::HoldLookedAtOnce);
        if looks { At::Hold } else { At::Data }
    }

    pub(crate) fn trash(&self, i: usize, trash: Trash, out: &mut Steps<'_, State>) {
        let goes = |s: &mut State, at| s.processes[i] = Process::Trash(Trash { at, ..trash });
        let idle = |s: &mut State| {
            s.release(i);
            let next = Trash::new(trash.left);
            s.processes[i] = if trash.left == 0 { Process::Done } else { Process::Trash(next) };
        };
        let x = trash.intent.x;
        match trash.at {
            At::Idle => {
                for intent in Intent::all().filter(|intent| out.from.intents[intent.slot()] > 0) {
                    if self.committing(out.from, intent.x) || out.from.held {
                        continue;
                    }
                    out.step(i, "trash takes an intent", |s| {
                        let users = 1 << intent.repository | 1 << intent.origin;
                        let old = s.shares & !s.young;
                        let at = if self.is(Mutant::SharesIgnored) { At::Users } else { At::Shares(0) };
                        s.processes[i] = Process::Trash(Trash { at, left: trash.left - 1, intent, users, old });
                    });
                }
            }
            At::Shares(r) => out.step(i, "trash lists shares", |s| {
                let shared = u8::from(s.shares & share(x, usize::from(r)) != 0) << r;
                let last = usize::from(r) == REPOSITORIES - 1;
                let at = if last { At::Users } else { At::Shares(r + 1) };
                s.processes[i] = Process::Trash(Trash { at, users: trash.users | shared, ..trash });
            }),
            At::Users => {
                let Some(user) = (0..REPOSITORIES).find(|r| trash.users & (1 << r) != 0) else {
                    let once = self.is(Mutant::OneShareList) || self.is(Mutant::SharesIgnored);
                    return out.step(i, "trash has seen no user", |s| {
                        goes(s, if once { self.last_look() } else { At::Again(0) });
                    });
                };
                out.step(i, "trash looks at a user", |s| {
                    let found = s.repositories[user].member.peek().filter(|member| member.x == x);
                    match found {
                        // Whoever removes it has written an intent that must outlast the removal: this one, perhaps.
                        Some(member) if member.dying.is_some() && !self.is(Mutant::DyingIsUsed) => idle(s),
                        Some(_) => goes(s, At::Forget),
                        None => {
                            if self.is(Mutant::ShareClearedEarly) {
                                s.shares &= !share(x, user);
                            }
                            s.processes[i] = Process::Trash(Trash { users: trash.users & !(1 << user), ..trash });
                        }
                    }
                });
            }
            At::Again(r) => out.step(i, "trash lists shares again", |s| {
                let bit = share(x, usize::from(r));
                let young = if self.is(Mutant::AgeAgainstNow) { s.young & bit } else { s.shares & bit & !trash.old };
                if young != 0 {
                    idle(s);
                } else {
                    let last = usize::from(r) == REPOSITORIES - 1;
                    goes(s, if last { self.last_look() } else { At::Again(r + 1) });
                }
            }),
            At::Hold => {
                let held = out.from.held;
                out.step(i, "trash looks at holds", |s| if held { idle(s) } else { goes(s, At::Data) });
            }
            At::Data => out.step(i, "trash deletes the bytes", |s| {
                s.data &= !(1 << x);
                goes(s, At::Clear(0));
            }),
            At::Clear(r) => out.step(i, "trash deletes a share", |s| {
                s.shares &= !share(x, usize::from(r));
                s.young &= s.shares;
                let last = usize::from(r) == REPOSITORIES - 1;
                goes(s, if last { At::Forget } else { At::Clear(r + 1) });
            }),
            At::Forget => out.step(i, "trash drops the intent", |s| {
                s.intents[trash.intent.slot()] -= 1;
                idle(s);
            }),
        }
    }
}

/// The sweeper, at one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Sweep {
    Idle,
    Look(u8),
    Intent(u8),
    Document(u8),
}

impl Sweep {
    pub(crate) fn new() -> Self {
        Self::Idle
    }
}

impl Collect {
    /// The repository whose push stores X.
    fn origin(&self, x: u8) -> usize {
        let origin = self.roles.iter().find_map(|role| match role {
            Role::Push { repository, x: own, .. } if *own == usize::from(x) => Some(*repository),
            _ => None,
        });
        origin.unwrap_or_default()
    }

    pub(crate) fn sweep(&self, i: usize, sweep: Sweep, out: &mut Steps<'_, State>) {
        let goes = |s: &mut State, sweep| s.processes[i] = Process::Sweep(sweep);
        match sweep {
            Sweep::Idle => {
                for x in 0..OBJECTS as u8 {
                    if out.from.sessions & (1 << x) != 0 && !self.session_at_work(out.from, x) {
                        out.step(i, "the sweeper takes a session", |s| goes(s, Sweep::Look(x)));
                    }
                }
            }
            Sweep::Look(x) => out.step(i, "the sweeper looks at the member", |s| {
                let member = s.repositories[self.origin(x)].member.peek();
                let used = member.is_some_and(|member| member.x == x);
                goes(
                    s,
                    if used || self.is(Mutant::DocumentBeforeIntent) { Sweep::Document(x) } else { Sweep::Intent(x) },
                );
            }),
            Sweep::Intent(x) if self.is(Mutant::SweeperDeletes) => out.step(i, "the sweeper deletes the bytes", |s| {
                s.data &= !(1 << x);
                goes(s, Sweep::Document(x));
            }),
            Sweep::Intent(x) => out.step(i, "the sweeper writes an intent", |s| {
                let origin = self.origin(x) as u8;
                s.give_up(Intent { x, repository: origin, origin });
                goes(s, if self.is(Mutant::DocumentBeforeIntent) { Sweep::Idle } else { Sweep::Document(x) });
            }),
            Sweep::Document(x) => out.step(i, "the sweeper removes the document", |s| {
                s.sessions &= !(1 << x);
                goes(s, if self.is(Mutant::DocumentBeforeIntent) { Sweep::Intent(x) } else { Sweep::Idle });
            }),
        }
    }
}
