//! A pass over a repository: mark what pendings and manifests name, then take away what they do not.

use super::{Collect, Intent, Mark, Member, Mutant, OLD_MANIFEST, Process, Role, State};
use crate::check::Steps;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Begin,
    /// Lists, one key a step.
    Pendings(u8),
    Manifests(u8),
    Sweep,
    Mark,
    Unmark,
    Intent,
    Remove,
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Pass {
    at: At,
    left: u8,
    /// Its passes are those after this one, the last first.
    base: u8,
    /// Passes that had ended when this one began.
    ended: u16,
    x: u8,
    origin: u8,
}

impl Pass {
    pub(crate) fn new(passes: u8, base: u8) -> Self {
        Self { at: At::Begin, left: passes, base, ended: 0, x: 0, origin: 0 }
    }
}

impl Collect {
    pub(crate) fn pass(&self, i: usize, role: Role, pass: Pass, out: &mut Steps<'_, State>) {
        let Role::Collect { repository, .. } = role else { return };
        let id = pass.base + pass.left;
        let goes = |s: &mut State, at| s.processes[i] = Process::Pass(Pass { at, ..pass });
        let before = &out.from.repositories[repository];
        let manifests_first = self.is(Mutant::ManifestsBeforePendings);
        match pass.at {
            At::Begin => out.step(i, "a pass begins", |s| {
                let at = if manifests_first { At::Manifests(0) } else { At::Pendings(0) };
                s.processes[i] = Process::Pass(Pass { at, ended: before.ended, ..pass });
            }),
            At::Pendings(key) => {
                let named = before.pending & (1 << key) != 0;
                let next = match self.key_after(repository, key) {
                    Some(key) => At::Pendings(key),
                    None if manifests_first => At::Sweep,
                    None => At::Manifests(0),
                };
                listed(i, "lists pendings", repository, pass, named, next, out);
            }
            At::Manifests(key) => {
                let named = before.manifests & (1 << key) != 0;
                let next = match self.key_after(repository, key) {
                    Some(key) => At::Manifests(key),
                    None if manifests_first => At::Pendings(0),
                    None => At::Sweep,
                };
                if named && self.is(Mutant::UnreadManifestIgnored) {
                    out.step(i, "cannot read a manifest", |s| goes(s, next));
                }
                listed(i, "lists manifests", repository, pass, named, next, out);
            }
            At::Sweep => out.step(i, "looks at the member", |s| {
                let leases = !self.is(Mutant::LeaseIgnored);
                let earlier = |mark| match mark {
                    Mark::Deletion => false,
                    Mark::Pass(by) => pass.ended & (1 << by) != 0 || self.is(Mutant::UnfinishedPass) && by != id,
                };
                let found = s.repositories[repository].member.read(i);
                let at = match found {
                    None => At::End,
                    Some(Member { dying: None, leased: true, .. }) if leases => At::End,
                    Some(Member { dying: Some(mark), .. }) if earlier(mark) => self.first_of_removal(),
                    Some(Member { dying: Some(mark), .. }) if self.leaves(mark) => At::End,
                    Some(_) => At::Mark,
                };
                let (x, origin) = found.map_or((0, 0), |member| (member.x, member.origin));
                s.processes[i] = Process::Pass(Pass { at, x, origin, ..pass });
            }),
            At::Mark => out.step(i, "marks", |s| {
                let record = &mut s.repositories[repository].member;
                let marked = record
                    .peek()
                    .is_some_and(|member| record.update(i, Member { dying: Some(Mark::Pass(id)), ..member }));
                if marked && self.is(Mutant::OnePass) {
                    s.repositories[repository].member.read(i);
                    goes(s, self.first_of_removal());
                } else {
                    goes(s, At::End);
                }
            }),
            At::Unmark => out.step(i, "unmarks", |s| {
                let record = &mut s.repositories[repository].member;
                if let Some(member) = record.peek() {
                    record.update(i, Member { dying: None, ..member });
                }
                goes(s, At::End);
            }),
            At::Intent => out.step(i, "writes the intent", |s| {
                s.give_up(Intent { x: pass.x, repository: repository as u8, origin: pass.origin });
                goes(s, if self.is(Mutant::RemoveBeforeIntent) { At::End } else { At::Remove });
            }),
            At::Remove => out.step(i, "removes the member", |s| {
                let record = &mut s.repositories[repository].member;
                if self.is(Mutant::UnconditionalRemove) {
                    record.remove_whatever();
                } else if !record.remove(i) {
                    return goes(s, At::End);
                }
                goes(s, if self.is(Mutant::RemoveBeforeIntent) { At::Intent } else { At::End });
            }),
            At::End => out.step(i, "the pass ends", |s| {
                s.repositories[repository].ended |= 1 << id;
                s.release(i);
                let left = pass.left - 1;
                s.processes[i] = if left == 0 { Process::Done } else { Process::Pass(Pass::new(left, pass.base)) };
            }),
        }
    }

    fn leaves(&self, mark: Mark) -> bool {
        self.is(match mark {
            Mark::Deletion => Mutant::DeletionMarkSkipped,
            Mark::Pass(_) => Mutant::UnfinishedMarkSkipped,
        })
    }

    fn first_of_removal(&self) -> At {
        if self.is(Mutant::RemoveBeforeIntent) { At::Remove } else { At::Intent }
    }

    /// The next key that can ever be there: a list passes over the others in the same request.
    fn key_after(&self, repository: usize, key: u8) -> Option<u8> {
        (key + 1..=OLD_MANIFEST as u8).find(|&key| match self.roles.get(usize::from(key)) {
            Some(Role::Push { repository: other, .. } | Role::Mount { to: other }) => *other == repository,
            _ => usize::from(key) == OLD_MANIFEST && self.named && repository == 0,
        })
    }
}

/// One key of a list. What names the blob ends the marking: nothing can be learned after it.
fn listed(
    i: usize,
    what: &'static str,
    repository: usize,
    pass: Pass,
    named: bool,
    next: At,
    out: &mut Steps<'_, State>,
) {
    out.step(i, what, |s| {
        let at = if named {
            // Read together with what it decides: a live member needs nothing.
            let record = &mut s.repositories[repository].member;
            if record.peek().is_some_and(|member| member.dying.is_some()) {
                record.read(i);
                At::Unmark
            } else {
                At::End
            }
        } else {
            next
        };
        s.processes[i] = Process::Pass(Pass { at, ..pass });
    });
}
