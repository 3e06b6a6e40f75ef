//! A backup, or a move: its hold comes before the first record it reads, and goes after the last byte it copied.

use super::{Collect, Mutant, Process, REPOSITORIES, State};
use crate::check::Steps;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Backup {
    Hold,
    Read(u8),
    Copy,
}

impl Collect {
    pub(crate) fn backup(&self, i: usize, backup: Backup, out: &mut Steps<'_, State>) {
        let goes = |s: &mut State, backup| s.processes[i] = Process::Backup(backup);
        let late = self.is(Mutant::ReadBeforeHold);
        match backup {
            Backup::Hold if late && out.from.to_copy == 0 => {
                out.step(i, "a backup begins", |s| goes(s, Backup::Read(0)));
            }
            Backup::Hold => out.step(i, "a backup holds", |s| {
                s.held = true;
                goes(s, if late { Backup::Copy } else { Backup::Read(0) });
            }),
            Backup::Read(r) => out.step(i, "a backup reads a member", |s| {
                if let Some(member) = s.repositories[usize::from(r)].member.peek() {
                    s.to_copy |= 1 << member.x;
                }
                let last = usize::from(r) == REPOSITORIES - 1;
                let next = if late && s.to_copy != 0 { Backup::Hold } else { Backup::Copy };
                goes(s, if last { next } else { Backup::Read(r + 1) });
            }),
            Backup::Copy => out.step(i, "a backup has copied", |s| {
                s.held = false;
                s.to_copy = 0;
                s.processes[i] = Process::Done;
            }),
        }
    }
}
