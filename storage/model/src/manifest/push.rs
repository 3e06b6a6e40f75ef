//! Pushes to a tag, and the publication of a version.

use super::{Manifest, Manifests, Mutant, Process, Role, State, Target};
use crate::check::Steps;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Load,
    Create,
    CreateRead,
    CreateSwap,
    Entry,
    Mark,
    TagRead,
    TagCreate,
    TagSwap,
    LastLook,
    LastSwap,
    /// It fails: the tag that it has set goes again, unless the manifest is there after all.
    UndoTag,
    UndoLook,
    UndoRemove,
    /// And its entry.
    UndoEntry,
    UndoEntryLook,
    /// DELETE of the tag.
    Untag,
    UntagRemove,
}

/// A push, or another write of the tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Push {
    at: At,
    to: Target,
    round: u8,
}

const ROUNDS: u8 = 2;

impl Push {
    pub(crate) fn new(role: Role) -> Self {
        match role {
            Role::Move => Self { at: At::TagRead, to: Target::Elsewhere, round: 0 },
            Role::Untag => Self { at: At::Untag, to: Target::Here, round: 0 },
            _ => Self { at: At::Load, to: Target::Here, round: 0 },
        }
    }
}

impl Manifests {
    pub(crate) fn push(&self, i: usize, push: Push, out: &mut Steps<'_, State>) {
        let goes = |s: &mut State, at| s.processes[i] = Process::Push(Push { at, ..push });
        let tag_first = self.is(Mutant::TagBeforeMark);
        let tagged = |s: &mut State| match push.to {
            Target::Elsewhere => s.ends(i),
            Target::Here if tag_first => goes(s, At::Mark),
            Target::Here => goes(s, At::LastLook),
        };
        let fails = |s: &mut State| {
            s.release(i);
            if push.round > 0 && !self.is(Mutant::TagLeftBehind) { goes(s, At::UndoTag) } else { s.ends(i) }
        };
        let acknowledged = |s: &mut State| {
            s.acknowledged = true;
            s.stands = s.tag.peek() == Some(Target::Here);
            s.ends(i);
        };
        match push.at {
            At::Load => {
                let live = out.from.manifest.peek().is_some_and(|manifest| manifest.dying.is_none());
                out.step(i, "looks for the manifest", |s| goes(s, if live { At::Entry } else { At::Create }));
            }
            At::Create => {
                if self.losses {
                    out.step(i, "finds a blob gone", fails);
                }
                out.step(i, "creates the manifest", |s| {
                    let created = s.manifest.create(Manifest { dying: None });
                    goes(s, if created { At::Entry } else { At::CreateRead });
                });
            }
            At::CreateRead => out.step(i, "reads the manifest in its way", |s| {
                let found = s.manifest.read(i);
                goes(s, if found.is_some() { At::CreateSwap } else { At::Create });
            }),
            At::CreateSwap => out.step(i, "writes over the manifest in its way", |s| {
                let swapped = s.manifest.update(i, Manifest { dying: None });
                goes(s, if swapped { At::Entry } else { At::Create });
            }),
            At::Entry => out.step(i, "puts the entry", |s| {
                s.entry = true;
                goes(s, if tag_first { At::TagRead } else { At::Mark });
            }),
            At::Mark => out.step(i, "puts the mark", |s| {
                s.marks |= self.mark(i);
                s.aged &= !self.mark(i);
                goes(s, if tag_first { At::LastLook } else { At::TagRead });
            }),
            At::TagRead => out.step(i, "reads the tag", |s| {
                let found = s.tag.read(i);
                if found.is_none() {
                    s.tag.release(i);
                }
                goes(s, if found.is_some() { At::TagSwap } else { At::TagCreate });
            }),
            At::TagCreate => {
                out.step(
                    i,
                    "creates the tag",
                    |s| if s.tag.create(push.to) { tagged(s) } else { goes(s, At::TagRead) },
                );
            }
            At::TagSwap => out
                .step(i, "moves the tag", |s| if s.tag.update(i, push.to) { tagged(s) } else { goes(s, At::TagRead) }),
            At::LastLook if self.is(Mutant::NoLastLook) => out.step(i, "is acknowledged", acknowledged),
            At::LastLook => out.step(i, "looks at the manifest again", |s| {
                let found = s.manifest.read(i);
                match found {
                    Some(Manifest { dying: None }) => acknowledged(s),
                    Some(_) => goes(s, At::LastSwap),
                    None => {
                        s.release(i);
                        let round = push.round + 1;
                        let at = if round < ROUNDS { At::Load } else { At::UndoTag };
                        s.processes[i] = Process::Push(Push { at, round, ..push });
                        if at == At::UndoTag && self.is(Mutant::TagLeftBehind) {
                            s.ends(i);
                        }
                    }
                }
            }),
            At::LastSwap => out.step(i, "flips the manifest back", |s| {
                if s.manifest.update(i, Manifest { dying: None }) { acknowledged(s) } else { goes(s, At::LastLook) }
            }),
            // The tag is read before the manifest: who has put the manifest there again sets the tag after it.
            At::UndoTag => out.step(i, "fails, and reads its tag", |s| {
                let here = s.tag.read(i) == Some(Target::Here);
                goes(s, if here { At::UndoLook } else { At::UndoEntry });
            }),
            At::UndoLook => {
                let there = out.from.manifest.peek().is_some();
                out.step(i, "fails, and looks at the manifest", |s| {
                    goes(s, if there { At::UndoEntry } else { At::UndoRemove });
                });
            }
            At::UndoRemove => out.step(i, "fails, and removes its tag", |s| {
                let removed = s.tag.remove(i);
                s.stands &= !removed;
                goes(s, if removed { At::UndoEntry } else { At::UndoTag });
            }),
            At::UndoEntry => {
                let there = out.from.manifest.peek().is_some();
                out.step(i, "fails, and looks whether its entry is right", |s| {
                    s.release(i);
                    if there == s.entry { s.ends(i) } else { goes(s, At::UndoEntryLook) }
                });
            }
            At::UndoEntryLook => out.step(i, "fails, and rights its entry", |s| {
                s.entry = !s.entry;
                goes(s, At::UndoEntry);
            }),
            At::Untag => out.step(i, "DELETE of the tag reads it", |s| match s.tag.read(i) {
                Some(_) => goes(s, At::UntagRemove),
                None => s.ends(i),
            }),
            At::UntagRemove => out.step(i, "DELETE of the tag removes it", |s| {
                if s.tag.remove(i) {
                    s.stands = false;
                    s.ends(i);
                } else {
                    goes(s, At::Untag);
                }
            }),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Publish {
    Pin { looked: bool },
    Look { pinned: bool },
    Swap { pinned: bool },
    Unpin,
}

impl Publish {
    pub(crate) fn new(look_first: bool) -> Self {
        if look_first { Self::Look { pinned: false } } else { Self::Pin { looked: false } }
    }
}

impl Manifests {
    pub(crate) fn publish(&self, i: usize, publish: Publish, out: &mut Steps<'_, State>) {
        let goes = |s: &mut State, at| s.processes[i] = Process::Publish(at);
        let published = |s: &mut State| {
            s.published = true;
            s.ends(i);
        };
        match publish {
            Publish::Pin { looked } => out.step(i, "publishing pins", |s| {
                s.pins |= 1 << i;
                if looked { published(s) } else { goes(s, Publish::Look { pinned: true }) }
            }),
            Publish::Look { pinned } => out.step(i, "publishing looks at the manifest", |s| match s.manifest.read(i) {
                Some(manifest) if manifest.dying.is_none() || self.is(Mutant::PublishedDying) => {
                    s.manifest.release(i);
                    if pinned { published(s) } else { goes(s, Publish::Pin { looked: true }) }
                }
                Some(_) => goes(s, Publish::Swap { pinned }),
                None => goes(s, Publish::Unpin),
            }),
            Publish::Swap { pinned } => out.step(i, "publishing flips the manifest back", |s| {
                if !s.manifest.update(i, Manifest { dying: None }) {
                    goes(s, Publish::Look { pinned });
                } else if pinned {
                    published(s);
                } else {
                    goes(s, Publish::Pin { looked: true });
                }
            }),
            Publish::Unpin => out.step(i, "publishing fails, and unpins", |s| {
                s.pins &= !(1 << i);
                s.ends(i);
            }),
        }
    }
}
