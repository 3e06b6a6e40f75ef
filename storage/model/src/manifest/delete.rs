//! What takes manifests, marks and entries away.

use super::{Manifest, Manifests, Mark, Mutant, OLD, Process, Role, State, Target};
use crate::check::Steps;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Load,
    /// Retention: whether a tag points here.
    Tags,
    Swap,
    Pins,
    Unmark,
    Remove,
    Entry,
    EntryLook,
    Marks,
    TagRead,
    TagRemove,
    ClearMark,
}

/// A deletion of the manifest, explicit or by retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Delete {
    at: At,
    /// Passes of retention that are left.
    left: u8,
    /// Retention: the manifest was marked in an earlier pass.
    marked: bool,
    /// Marks that were listed: for the mutant that lists them too early.
    listed: bool,
    /// Looks at pins are over: for the mutant that takes them too early.
    looked: bool,
}

impl Delete {
    pub(crate) fn new(role: Role) -> Self {
        let left = if let Role::Retain { passes } = role { passes } else { 0 };
        Self { at: At::Load, left, marked: false, listed: false, looked: false }
    }
}

impl Manifests {
    pub(crate) fn delete(&self, i: usize, role: Role, delete: Delete, out: &mut Steps<'_, State>) {
        let retention = matches!(role, Role::Retain { .. });
        let goes = |s: &mut State, at| s.processes[i] = Process::Delete(Delete { at, ..delete });
        let ends = |s: &mut State| {
            s.release(i);
            if delete.left > 1 {
                s.processes[i] = Process::Delete(Delete::new(Role::Retain { passes: delete.left - 1 }));
            } else {
                s.ends(i);
            }
        };
        let id = Mark::Pass(delete.left);
        match delete.at {
            At::Load => out.step(i, "a deletion reads the manifest", |s| {
                let found = s.manifest.read(i);
                let listed = s.marks != 0;
                let marked = matches!(found, Some(Manifest { dying: Some(Mark::Pass(by)) }) if by != delete.left);
                let at = match found {
                    None if retention => return ends(s),
                    None => At::Marks,
                    Some(_) if retention => At::Tags,
                    Some(_) if self.is(Mutant::PinsBeforeMark) && !delete.looked => At::Pins,
                    Some(_) => At::Swap,
                };
                s.processes[i] = Process::Delete(Delete { at, marked, listed, ..delete });
            }),
            // One mark a step would say no more: marks only hint at the tag.
            At::Tags => {
                let here = out.from.marks != 0 && out.from.tag.peek() == Some(Target::Here);
                out.step(i, "retention looks at marks and tags", |s| {
                    if self.is(Mutant::TagsBeforeVersion) {
                        s.manifest.read(i);
                    }
                    match (here, delete.marked) {
                        (true, true) => goes(s, At::Unmark),
                        (true, false) => ends(s),
                        (false, true) => goes(s, At::Pins),
                        (false, false) => goes(s, At::Swap),
                    }
                });
            }
            At::Swap => out.step(i, "a deletion marks the manifest", |s| {
                let mark = if retention { id } else { Mark::Deletion };
                if !s.manifest.update(i, Manifest { dying: Some(mark) }) {
                    return if retention { ends(s) } else { goes(s, At::Load) };
                }
                s.manifest.read(i);
                let early = self.is(Mutant::EntryBeforeRemoval);
                match (retention, self.is(Mutant::PinsBeforeMark)) {
                    (true, _) if self.is(Mutant::OnePass) => goes(s, At::Pins),
                    (true, _) => ends(s),
                    (false, true) => goes(s, if early { At::Entry } else { At::Remove }),
                    (false, false) => goes(s, At::Pins),
                }
            }),
            At::Pins => {
                let pinned = out.from.pins != 0;
                out.step(i, "a deletion looks at pins", |s| {
                    let at = if self.is(Mutant::PinsBeforeMark) && !retention && !delete.looked {
                        if pinned {
                            return ends(s);
                        }
                        At::Swap
                    } else if pinned {
                        At::Unmark
                    } else if self.is(Mutant::EntryBeforeRemoval) {
                        At::Entry
                    } else {
                        At::Remove
                    };
                    s.processes[i] = Process::Delete(Delete { at, looked: true, ..delete });
                });
            }
            At::Unmark => out.step(i, "a deletion takes its mark back", |s| {
                s.manifest.update(i, Manifest { dying: None });
                ends(s);
            }),
            At::Remove => out.step(i, "a deletion removes the manifest", |s| {
                if self.is(Mutant::UnconditionalRemove) {
                    s.manifest.overwrite(None);
                } else if !s.manifest.remove(i) {
                    s.release(i);
                    let again = Delete { at: At::Load, looked: false, ..delete };
                    return if retention { ends(s) } else { s.processes[i] = Process::Delete(again) };
                }
                s.stands = false;
                goes(s, if self.is(Mutant::EntryBeforeRemoval) { At::Marks } else { At::Entry });
            }),
            At::Entry => out.step(i, "a deletion clears the entry away", |s| {
                s.entry = false;
                goes(s, if self.is(Mutant::EntryBeforeRemoval) { At::Remove } else { At::EntryLook });
            }),
            // Whoever has pushed it again put its entry before this one was cleared away, or will put it.
            At::EntryLook => {
                let there = out.from.manifest.peek().is_some();
                out.step(i, "a deletion looks whether the entry is right", |s| {
                    if there == s.entry || self.is(Mutant::EntryNotSettled) {
                        goes(s, At::Marks);
                    } else {
                        s.entry = there;
                    }
                });
            }
            At::Marks => {
                let early = self.is(Mutant::MarksBeforeRemoval);
                let any = if early { delete.listed } else { out.from.marks != 0 };
                out.step(i, "a deletion lists marks", |s| if any { goes(s, At::TagRead) } else { ends(s) });
            }
            At::TagRead => out.step(i, "a deletion reads the tag", |s| {
                let here = s.tag.read(i) == Some(Target::Here);
                goes(s, if here { At::TagRemove } else { At::ClearMark });
            }),
            At::TagRemove => out.step(i, "a deletion removes the tag", |s| {
                let removed = s.tag.remove(i);
                s.stands &= !removed;
                goes(s, if removed { At::ClearMark } else { At::TagRead });
            }),
            At::ClearMark => out.step(i, "a deletion is done with the marks", |s| {
                if self.is(Mutant::MarkCleared) {
                    s.marks = 0;
                    s.aged = 0;
                }
                ends(s);
            }),
        }
    }
}

/// What clears marks away, and the tags that an interrupted push or deletion left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Clean {
    Idle,
    Tag(u8),
    Clear(u8),
    /// The tag points here.
    Young,
    Look,
    Untag,
}

impl Manifests {
    pub(crate) fn clean(&self, i: usize, clean: Clean, out: &mut Steps<'_, State>) {
        let goes = |s: &mut State, clean| s.processes[i] = Process::Clean(clean);
        let idle = |s: &mut State| {
            s.release(i);
            goes(s, Clean::Idle);
        };
        match clean {
            Clean::Idle => {
                for of in 0..=OLD {
                    let due = if self.is(Mutant::YoungMarksCleared) { out.from.marks } else { out.from.aged };
                    if due & (1 << of) != 0 {
                        out.step(i, "a pass finds a mark", |s| goes(s, Clean::Tag(1 << of)));
                    }
                }
            }
            Clean::Tag(bit) => out.step(i, "a pass reads the mark's tag", |s| {
                let here = s.tag.read(i) == Some(Target::Here);
                let next = if self.is(Mutant::YoungMarksIgnored) { Clean::Look } else { Clean::Young };
                goes(s, if here { next } else { Clean::Clear(bit) });
            }),
            Clean::Clear(bit) => out.step(i, "a pass clears the mark away", |s| {
                s.marks &= !bit;
                s.aged &= !bit;
                idle(s);
            }),
            // Who has just set the tag looks at the manifest itself.
            Clean::Young => {
                let young = out.from.marks & !out.from.aged != 0;
                out.step(i, "a pass lists the tag's marks", |s| if young { idle(s) } else { goes(s, Clean::Look) });
            }
            Clean::Look => {
                let there = out.from.manifest.peek().is_some();
                out.step(i, "a pass looks at the manifest", |s| if there { idle(s) } else { goes(s, Clean::Untag) });
            }
            Clean::Untag => out.step(i, "a pass removes a tag that dangles", |s| {
                s.robbed |= s.tag.remove(i) && s.stands;
                idle(s);
            }),
        }
    }
}
