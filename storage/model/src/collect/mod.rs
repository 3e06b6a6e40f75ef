//! Collection against everything that makes or promises a member, one digest, two repositories of an account.
//!
//! Processes: clients that push ([`client`]: HEAD, upload, adoption, commit, manifest), mount or delete a blob; one or more workers
//! that pass over a repository ([`pass`]); trash and the sweeper of sessions ([`trash`]). The world ages things: a lease, a share
//! and the pending of a push past its deadline, at any moment, as soon as that is possible at all. Each request is one step; a list is one step
//! for each key that it shows.
//!
//! Time enters in two places only. A client past its deadline of ten minutes is dead before its share or pending is a day
//! old, and before trash, which waits hours, looks at the session of an interrupted commit: a process that
//! has `died` moves no more, and only then do its leavings age. Everything else happens at any speed.

mod client;
mod hold;
mod pass;
mod rest;
mod tests;
mod trash;

use stateright::{Model, Property};

use crate::{
    check::{Step, Steps, WORLD},
    store::Record,
};

pub(crate) const REPOSITORIES: usize = 2;
/// Data objects.
pub(crate) const OBJECTS: usize = 3;
/// Processes at most.
const PROCESSES: usize = 5;
/// The manifest that was there before anything happened has the bit after those of the processes.
const OLD_MANIFEST: usize = PROCESSES;

/// What a process is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// HEAD first, then upload `x` if need be, then push a manifest of its own.
    Push { repository: usize, x: usize, head: bool },
    /// Mount from the other repository, then push a manifest of its own.
    Mount { to: usize },
    /// DELETE of the blob.
    Delete { repository: usize },
    /// Passes over a repository.
    Collect { repository: usize, passes: u8 },
    /// Trash: intents that it looks at.
    Trash { runs: u8 },
    /// The end of every session that is over.
    Sweep,
    /// A backup: it holds the trash, reads the members of both repositories, and then their bytes.
    Backup,
}

/// A member record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Member {
    x: u8,
    /// Where X was uploaded.
    origin: u8,
    /// Whether its lease has not expired.
    leased: bool,
    dying: Option<Mark>,
}

/// Who marked a member dying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mark {
    /// A DELETE.
    Deletion,
    /// A pass.
    Pass(u8),
}

/// Something to be looked at by trash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Intent {
    x: u8,
    repository: u8,
    origin: u8,
}

impl Intent {
    fn slot(self) -> usize {
        (usize::from(self.x) * REPOSITORIES + usize::from(self.repository)) * REPOSITORIES + usize::from(self.origin)
    }

    fn all() -> impl Iterator<Item = Self> {
        (0..OBJECTS * REPOSITORIES * REPOSITORIES).map(|slot| Self {
            x: (slot / REPOSITORIES / REPOSITORIES) as u8,
            repository: (slot / REPOSITORIES % REPOSITORIES) as u8,
            origin: (slot % REPOSITORIES) as u8,
        })
    }
}

/// What a process remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Process {
    Client(client::Client),
    Pass(pass::Pass),
    Trash(trash::Trash),
    Sweep(trash::Sweep),
    Backup(hold::Backup),
    /// Finished, or never was.
    Done,
    /// Dead in the middle of something.
    Dead,
}

/// Everything below one repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Repository {
    member: Record<Member>,
    /// Pending, a bit for each pusher.
    pending: u8,
    /// Manifests, a bit for each pusher and one for that of the beginning.
    manifests: u8,
    /// Passes that have ended.
    ended: u16,
    /// For the properties: a promise was given and its lease has not expired.
    promised: bool,
    /// For the properties: a DELETE named the blob.
    deleted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    repositories: [Repository; REPOSITORIES],
    /// Data objects that are there, whole.
    data: u8,
    /// Sessions whose document is there: bit X.
    sessions: u8,
    /// Shares, and those of them that are younger than a day: bit `X * REPOSITORIES + R`.
    shares: u8,
    young: u8,
    intents: [u8; OBJECTS * REPOSITORIES * REPOSITORIES],
    /// A backup holds the trash.
    held: bool,
    /// For the property: what the backup has read is to be copied.
    to_copy: u8,
    processes: [Process; PROCESSES],
}

pub(crate) fn share(x: u8, repository: usize) -> u8 {
    1 << (usize::from(x) * REPOSITORIES + repository)
}

impl State {
    fn give_up(&mut self, intent: Intent) {
        let count = &mut self.intents[intent.slot()];
        *count = 2.min(*count + 1);
    }

    fn release(&mut self, process: usize) {
        for repository in &mut self.repositories {
            repository.member.release(process);
        }
    }

    fn has_data(&self, x: u8) -> bool {
        self.data & (1 << x) != 0
    }
}

/// One rule taken away, or a repair of what was found by this model taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A push looks at members before it writes its pending.
    LookBeforePending,
    /// A pass lists manifests before it lists pendings.
    ManifestsBeforePendings,
    /// A pass removes what it has marked itself.
    OnePass,
    /// A pass removes what an unfinished pass has marked.
    UnfinishedPass,
    /// A pass removes without a condition.
    UnconditionalRemove,
    /// A mount looks at its source before it writes the share.
    ShareAfterSource,
    /// Trash lists shares once.
    OneShareList,
    /// Trash takes the age of a share from now instead of from the start of its run.
    AgeAgainstNow,
    /// Trash clears shares without a member away while X lives.
    ShareClearedEarly,
    /// HEAD answers before its lease is durable.
    AnswerBeforeLease,
    /// A removed member's tombstone counts as a member.
    TombstoneIsPresent,
    /// A pass leaves an expired lease out of account: it marks what is still promised.
    LeaseIgnored,
    /// A pass ends at a read error of one manifest as if it had not been there.
    UnreadManifestIgnored,
    /// Members are removed before their intent is written.
    RemoveBeforeIntent,
    /// Trash does not look at the session of X.
    SessionIgnored,
    /// Trash looks at holds when it begins and not again.
    HoldLookedAtOnce,
    /// A backup reads before its hold is durable.
    ReadBeforeHold,
    /// Trash drops the intent of an X whose user is dying.
    DyingIsUsed,
    /// A DELETE names its own repository as the origin of X.
    OriginForgotten,
    /// Trash looks at the repository of the intent only.
    SharesIgnored,
    /// The sweeper deletes X itself when its repository has no member with it.
    SweeperDeletes,
    /// The sweeper removes a session's document before it has written the intent.
    DocumentBeforeIntent,
    /// A pass leaves a member alone that a DELETE marked and did not remove.
    DeletionMarkSkipped,
    /// A pass leaves a member alone that a pass marked which never ended.
    UnfinishedMarkSkipped,
    /// A commit that meets a dying member leaves it dying.
    DyingIsEnough,
}

/// A model: who is there, and what was there before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Collect {
    pub(crate) roles: Vec<Role>,
    /// The first repository, which contains the blob from the beginning, has a manifest that names it.
    pub(crate) named: bool,
    /// Manifests are deleted at any moment.
    pub(crate) forget: bool,
    /// Clients may die, and what they leave ages.
    pub(crate) deaths: bool,
    /// An acknowledged commit may be asked for once more (its answer was lost).
    pub(crate) repeats: bool,
    /// Everything may come to rest in every state, not only between two pieces of the collector's work.
    pub(crate) thorough: bool,
    pub(crate) mutant: Option<Mutant>,
}

pub(crate) const NAMED_BLOB: &str = "a manifest's blob is there";
pub(crate) const PROMISE: &str = "a promised blob is there";
pub(crate) const MEMBER_DATA: &str = "a member has its bytes";
pub(crate) const DATA_NAMED: &str = "bytes are named by a member, a session or an intent";
pub(crate) const COPIED: &str = "what a backup has read can be copied";
pub(crate) const NO_LEAK: &str = "when everything rests, nothing unreferenced is left";

impl Collect {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn start(&self) -> State {
        let empty = Repository {
            member: Record::absent(),
            pending: 0,
            manifests: 0,
            ended: 0,
            promised: false,
            deleted: false,
        };
        let mut state = State {
            repositories: [empty; REPOSITORIES],
            data: 0,
            sessions: 0,
            shares: 0,
            young: 0,
            intents: [0; OBJECTS * REPOSITORIES * REPOSITORIES],
            held: false,
            to_copy: 0,
            processes: [Process::Done; PROCESSES],
        };
        state.data = 1;
        let member = Member { x: 0, origin: 0, leased: false, dying: None };
        state.repositories[0].member = Record::present(member);
        state.repositories[0].manifests = u8::from(self.named) << OLD_MANIFEST;
        for (i, (process, role)) in state.processes.iter_mut().zip(&self.roles).enumerate() {
            *process = match *role {
                Role::Push { .. } | Role::Mount { .. } | Role::Delete { .. } => {
                    Process::Client(client::Client::new(*role))
                }
                // Two workers of one repository stand side by side.
                Role::Collect { passes, .. } => Process::Pass(pass::Pass::new(passes, 3 * (i as u8 % 2))),
                Role::Trash { runs } => Process::Trash(trash::Trash::new(runs)),
                Role::Sweep => Process::Sweep(trash::Sweep::new()),
                Role::Backup => Process::Backup(hold::Backup::Hold),
            };
        }
        state
    }

    pub(crate) fn steps_of(&self, i: usize, out: &mut Steps<'_, State>) {
        let Some(&role) = self.roles.get(i) else { return };
        match out.from.processes[i] {
            Process::Client(client) => self.client(i, role, client, out),
            Process::Pass(pass) => self.pass(i, role, pass, out),
            Process::Trash(trash) => self.trash(i, trash, out),
            Process::Sweep(sweep) => self.sweep(i, sweep, out),
            Process::Backup(backup) => self.backup(i, backup, out),
            Process::Done | Process::Dead => {}
        }
    }

    fn world(&self, out: &mut Steps<'_, State>) {
        let from = out.from;
        for r in 0..REPOSITORIES {
            let repository = &from.repositories[r];
            if repository.member.peek().is_some_and(|member| member.leased) {
                out.step(WORLD, "a lease expires", |s| {
                    s.repositories[r].member.passes(|member| member.leased = false);
                    s.repositories[r].promised = false;
                });
            }
            for pusher in 0..=OLD_MANIFEST {
                let bit = 1 << pusher;
                if self.forget && repository.manifests & bit != 0 {
                    out.step(WORLD, "a manifest is deleted", |s| s.repositories[r].manifests &= !bit);
                }
                if repository.pending & bit != 0 && from.processes[pusher] == Process::Dead {
                    out.step(WORLD, "a dead push's pending ages", |s| s.repositories[r].pending &= !bit);
                }
            }
            for x in 0..OBJECTS as u8 {
                let bit = share(x, r);
                if from.young & bit != 0 && !self.relied_on(from, x, r) {
                    out.step(WORLD, "a share ages", |s| s.young &= !bit);
                }
            }
        }
        if self.deaths {
            for (i, process) in from.processes.iter().enumerate() {
                if matches!(process, Process::Client(client) if client.in_the_middle()) {
                    out.step(WORLD, "a client dies", |s| {
                        s.processes[i] = Process::Dead;
                        s.release(i);
                    });
                }
            }
        }
    }

    /// Whether a client that lives has written this share and not yet the member for which it did.
    fn relied_on(&self, state: &State, x: u8, repository: usize) -> bool {
        state
            .processes
            .iter()
            .zip(&self.roles)
            .any(|(process, role)| matches!(process, Process::Client(client) if client.relies_on(*role, x, repository)))
    }
}

impl Model for Collect {
    type State = State;
    type Action = Step<State>;

    fn init_states(&self) -> Vec<State> {
        vec![self.start()]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step<State>>) {
        let mut out = Steps { from: state, steps };
        for i in 0..self.roles.len() {
            self.steps_of(i, &mut out);
        }
        self.world(&mut out);
    }

    fn next_state(&self, _: &State, step: Step<State>) -> Option<State> {
        Some(step.next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NAMED_BLOB, |_, s: &State| {
                s.repositories.iter().all(|r| {
                    r.manifests == 0 || r.deleted || r.member.peek().is_some_and(|member| s.has_data(member.x))
                })
            }),
            Property::always(PROMISE, |_, s: &State| {
                s.repositories.iter().all(|r| !r.promised || r.deleted || r.member.peek().is_some())
            }),
            Property::always(MEMBER_DATA, |_, s: &State| {
                s.repositories.iter().all(|r| r.member.peek().is_none_or(|member| s.has_data(member.x)))
            }),
            Property::always(DATA_NAMED, |_, s: &State| {
                (0..OBJECTS as u8).all(|x| {
                    !s.has_data(x)
                        || s.sessions & (1 << x) != 0
                        || s.repositories.iter().any(|r| r.member.peek().is_some_and(|member| member.x == x))
                        || Intent::all().any(|intent| intent.x == x && s.intents[intent.slot()] > 0)
                })
            }),
            Property::always(COPIED, |_, s: &State| s.to_copy & !s.data == 0),
            Property::always(NO_LEAK, Self::rests_clean),
        ]
    }
}
