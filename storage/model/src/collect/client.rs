//! Clients: what `member`, `upload` and `manifest` of `hythe-storage` send to the store, request by request.

use super::{Collect, Intent, Mark, Member, Mutant, Process, Role, State, share};
use crate::check::Steps;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum At {
    Head,
    HeadSwap,
    Upload,
    Commit,
    CommitRead,
    CommitSwap,
    GiveUp,
    ShareLook,
    SharePut,
    SourceRead,
    SourceSwap,
    TargetCreate,
    TargetRead,
    TargetSwap,
    Pending,
    Look,
    LookSwap,
    Manifest,
    Unpend,
    DeleteRead,
    DeleteSwap,
    DeleteIntent,
    DeleteRemove,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    at: At,
    /// The object that is being shared or deleted, and its origin.
    x: u8,
    origin: u8,
    repeated: bool,
}

impl Client {
    pub(crate) fn new(role: Role) -> Self {
        let at = match role {
            Role::Push { head: true, .. } => At::Head,
            Role::Mount { .. } => At::ShareLook,
            Role::Delete { .. } => At::DeleteRead,
            _ => At::Upload,
        };
        Self { at, x: 0, origin: 0, repeated: false }
    }

    pub(crate) fn in_the_middle(self) -> bool {
        !matches!(self.at, At::Head | At::DeleteRead)
    }

    /// A commit has begun and may still make a member of its own X.
    pub(crate) fn commits(self) -> bool {
        let again = self.at == At::Upload && self.repeated;
        again
            || matches!(
                self.at,
                At::Commit
                    | At::CommitRead
                    | At::CommitSwap
                    | At::GiveUp
                    | At::ShareLook
                    | At::SharePut
                    | At::SourceRead
                    | At::SourceSwap
                    | At::TargetCreate
                    | At::TargetRead
                    | At::TargetSwap
            )
    }

    pub(crate) fn relies_on(self, role: Role, x: u8, repository: usize) -> bool {
        let target = match role {
            Role::Push { repository, .. } => repository,
            Role::Mount { to } => to,
            _ => return false,
        };
        target == repository
            && self.x == x
            && matches!(self.at, At::SourceRead | At::SourceSwap | At::TargetCreate | At::TargetRead | At::TargetSwap)
    }
}

impl Collect {
    pub(crate) fn client(&self, i: usize, role: Role, client: Client, out: &mut Steps<'_, State>) {
        let (target, own) = match role {
            Role::Push { repository, x, .. } => (repository, Some(x as u8)),
            Role::Mount { to } => (to, None),
            Role::Delete { repository } => (repository, None),
            _ => return,
        };
        let source = 1 - target;
        let goes = |s: &mut State, at| s.processes[i] = Process::Client(Client { at, ..client });
        let ends = |s: &mut State| {
            s.processes[i] = Process::Done;
            s.release(i);
        };
        // What follows a promise: a push whose answer is lost may ask again.
        let promised = |s: &mut State, at| {
            s.repositories[target].promised = true;
            s.release(i);
            goes(s, at);
        };
        match client.at {
            At::Head => {
                let found = out.from.repositories[target].member.peek();
                match found {
                    None => out.step(i, "HEAD: absent", |s| goes(s, At::Upload)),
                    Some(member) => {
                        if member.leased && member.dying.is_none() {
                            out.step(i, "HEAD: promised long enough", |s| promised(s, At::Pending));
                        }
                        out.step(i, "HEAD reads", |s| {
                            s.repositories[target].member.read(i);
                            s.repositories[target].promised |= self.is(Mutant::AnswerBeforeLease);
                            goes(s, At::HeadSwap);
                        });
                    }
                }
            }
            At::HeadSwap => keep(i, target, false, "HEAD writes the lease", out, |s, kept| {
                if kept { promised(s, At::Pending) } else { goes(s, At::Head) }
            }),

            At::Upload => {
                let own = own.unwrap_or_default();
                if client.repeated && !out.from.has_data(own) {
                    return out.step(i, "repeats, and X is gone", ends);
                }
                for at in [At::Commit, At::ShareLook] {
                    let what = if at == At::Commit { "uploads" } else { "uploads, and the hint names the other" };
                    out.step(i, what, |s| {
                        s.data |= 1 << own;
                        if !client.repeated {
                            s.sessions |= 1 << own;
                        }
                        goes(s, at);
                    });
                }
            }
            At::Commit => out.step(i, "creates the member", |s| {
                let member = Member { x: own.unwrap_or_default(), origin: target as u8, leased: true, dying: None };
                if s.repositories[target].member.create(member) {
                    s.repositories[target].promised = true;
                    self.acknowledged(s, i, client);
                } else {
                    goes(s, At::CommitRead);
                }
            }),
            At::CommitRead => out.step(i, "reads the member in its way", |s| {
                let found = s.repositories[target].member.read(i);
                goes(s, if found.is_some() { At::CommitSwap } else { At::Commit });
            }),
            At::CommitSwap => {
                let enough = self.is(Mutant::DyingIsEnough);
                keep(i, target, enough, "renews the member in its way", out, |s, kept| {
                    if !kept {
                        return goes(s, At::Commit);
                    }
                    s.repositories[target].promised = true;
                    let present = s.repositories[target].member.peek();
                    if present.is_some_and(|member| Some(member.x) == own) {
                        self.acknowledged(s, i, client);
                    } else {
                        goes(s, At::GiveUp);
                    }
                });
            }
            At::GiveUp => out.step(i, "gives its own X up", |s| {
                let (x, repository) = (own.unwrap_or_default(), target as u8);
                s.give_up(Intent { x, repository, origin: repository });
                self.acknowledged(s, i, client);
            }),

            At::ShareLook => {
                let found = out.from.repositories[source].member.peek();
                let first = if self.is(Mutant::ShareAfterSource) { At::SourceRead } else { At::SharePut };
                out.step(i, "looks for a source", |s| match found {
                    Some(member) => s.processes[i] = Process::Client(Client { at: first, x: member.x, ..client }),
                    None if own.is_some() => goes(s, At::Commit),
                    None => ends(s),
                });
            }
            At::SharePut => out.step(i, "puts the share", |s| {
                let bit = share(client.x, target);
                s.shares |= bit;
                s.young |= bit;
                super::trash::re_dated(s, client.x, target);
                goes(s, if self.is(Mutant::ShareAfterSource) { At::TargetCreate } else { At::SourceRead });
            }),
            At::SourceRead => out.step(i, "looks at the source", |s| {
                let found = s.repositories[source].member.read(i);
                match found {
                    Some(member) if member.x == client.x => {
                        let next = if self.is(Mutant::ShareAfterSource) { At::SharePut } else { At::TargetCreate };
                        if member.dying.is_none() {
                            s.repositories[source].member.release(i);
                        }
                        s.processes[i] = Process::Client(Client {
                            at: if member.dying.is_none() { next } else { At::SourceSwap },
                            origin: member.origin,
                            ..client
                        });
                    }
                    _ if own.is_some() => {
                        s.release(i);
                        goes(s, At::Commit);
                    }
                    _ => ends(s),
                }
            }),
            At::SourceSwap => keep(i, source, false, "flips the source back", out, |s, kept| {
                let next = if self.is(Mutant::ShareAfterSource) { At::SharePut } else { At::TargetCreate };
                s.release(i);
                goes(s, if kept { next } else { At::SourceRead });
            }),
            At::TargetCreate => out.step(i, "creates the mounted member", |s| {
                let member = Member { x: client.x, origin: client.origin, leased: true, dying: None };
                if s.repositories[target].member.create(member) {
                    s.repositories[target].promised = true;
                    Self::mounted(s, i, own, client);
                } else {
                    goes(s, At::TargetRead);
                }
            }),
            At::TargetRead => out.step(i, "reads the member in the mount's way", |s| {
                let found = s.repositories[target].member.read(i);
                goes(s, if found.is_some() { At::TargetSwap } else { At::TargetCreate });
            }),
            At::TargetSwap => keep(i, target, false, "renews the member in the mount's way", out, |s, kept| {
                if kept {
                    s.repositories[target].promised = true;
                    Self::mounted(s, i, own, client);
                } else {
                    goes(s, At::TargetRead);
                }
            }),

            At::Pending if self.is(Mutant::LookBeforePending) => {
                let live = out.from.repositories[target].member.peek().is_some_and(|member| member.dying.is_none());
                out.step(i, "looks at the member", |s| if live { goes(s, At::Look) } else { ends(s) });
            }
            At::Look if self.is(Mutant::LookBeforePending) => out.step(i, "puts the pending", |s| {
                s.repositories[target].pending |= 1 << i;
                goes(s, At::Manifest);
            }),
            At::Pending => out.step(i, "puts the pending", |s| {
                s.repositories[target].pending |= 1 << i;
                goes(s, At::Look);
            }),
            At::Look => out.step(i, "looks at the member", |s| {
                let tombstone = s.repositories[target].member.tombstone;
                let found = s.repositories[target].member.read(i);
                match found {
                    Some(member) if member.dying.is_some() && !self.is(Mutant::DyingIsEnough) => {
                        goes(s, At::LookSwap);
                    }
                    Some(_) => {
                        s.release(i);
                        goes(s, At::Manifest);
                    }
                    None => {
                        s.release(i);
                        let taken = tombstone && self.is(Mutant::TombstoneIsPresent);
                        goes(s, if taken { At::Manifest } else { At::Unpend });
                    }
                }
            }),
            At::LookSwap => keep(i, target, false, "flips the member back", out, |s, kept| {
                s.release(i);
                goes(s, if kept { At::Manifest } else { At::Look });
            }),
            At::Manifest => out.step(i, "writes the manifest", |s| {
                s.repositories[target].manifests |= 1 << i;
                goes(s, At::Unpend);
            }),
            At::Unpend => out.step(i, "deletes the pending", |s| {
                s.repositories[target].pending &= !(1 << i);
                ends(s);
            }),

            At::DeleteRead => out.step(i, "DELETE reads", |s| {
                s.repositories[target].deleted = true;
                let found = s.repositories[target].member.read(i);
                match found {
                    Some(Member { x, origin, .. }) => {
                        s.processes[i] = Process::Client(Client { at: At::DeleteSwap, x, origin, ..client });
                    }
                    None => ends(s),
                }
            }),
            At::DeleteSwap => out.step(i, "DELETE marks", |s| {
                let member = s.repositories[target].member;
                let swapped = member.peek().is_some_and(|found| {
                    let dying = Member { dying: Some(Mark::Deletion), ..found };
                    s.repositories[target].member.update(i, dying)
                });
                if swapped {
                    s.repositories[target].member.read(i);
                    let next = if self.is(Mutant::RemoveBeforeIntent) { At::DeleteRemove } else { At::DeleteIntent };
                    goes(s, next);
                } else {
                    goes(s, At::DeleteRead);
                }
            }),
            At::DeleteIntent => out.step(i, "DELETE writes the intent", |s| {
                let repository = target as u8;
                let origin = if self.is(Mutant::OriginForgotten) { repository } else { client.origin };
                s.give_up(Intent { x: client.x, repository, origin });
                if self.is(Mutant::RemoveBeforeIntent) { ends(s) } else { goes(s, At::DeleteRemove) }
            }),
            At::DeleteRemove => out.step(i, "DELETE removes", |s| {
                if !s.repositories[target].member.remove(i) {
                    goes(s, At::DeleteRead);
                } else if self.is(Mutant::RemoveBeforeIntent) {
                    goes(s, At::DeleteIntent);
                } else {
                    ends(s);
                }
            }),
        }
    }

    /// A mount or an adoption has its member: an adoption gives its own X up.
    fn mounted(s: &mut State, i: usize, own: Option<u8>, client: Client) {
        s.release(i);
        let at = if own.is_some() { At::GiveUp } else { At::Pending };
        s.processes[i] = Process::Client(Client { at, x: 0, origin: 0, ..client });
    }

    /// A commit is over. Its answer may be lost, and then the client asks once more within the hour.
    fn acknowledged(&self, s: &mut State, i: usize, client: Client) {
        s.release(i);
        let at = if self.repeats && !client.repeated { At::Upload } else { At::Pending };
        s.processes[i] = Process::Client(Client { at, x: 0, origin: 0, repeated: true });
    }
}

/// The compare-and-swap that makes a member live and leases it; `as_it_is` leaves a dying one dying.
fn keep(
    i: usize,
    repository: usize,
    as_it_is: bool,
    what: &'static str,
    out: &mut Steps<'_, State>,
    then: impl FnOnce(&mut State, bool),
) {
    out.step(i, what, |s| {
        let record = &mut s.repositories[repository].member;
        let kept = record.peek().is_some_and(|member| {
            let dying = if as_it_is { member.dying } else { None };
            record.update(i, Member { leased: true, dying, ..member })
        });
        then(s, kept);
    });
}
