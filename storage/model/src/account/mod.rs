//! An account is deleted, made again, and its old generation is swept, while uploads that began before go on.
//!
//! Each upload writes its document, the bytes, and the member. Hours after the deletion nobody sends bytes any more: streams of
//! ended rights are cut, and every write of several steps has its deadline; but the one request that was under way may arrive until the
//! generation is forgotten, a month later. The sweep goes round until then.

mod tests;

use stateright::{Model, Property};

use crate::check::{Step, Steps, WORLD};

const UPLOADS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Generation {
    Live,
    Deleted,
    /// Its record is gone: nobody looks below it any more.
    Forgotten,
}

/// How long ago the account was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Since {
    Now,
    Hours,
    Month,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Begin,
    Document,
    Bytes,
    Member,
    Done,
}

/// An upload under a generation that its credential named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Upload {
    at: At,
    generation: u8,
    /// Its process is dead; one request is still under way.
    late: bool,
}

/// A key that may name the bytes of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Document(u8),
    Member(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Sweep {
    Idle,
    /// Pages: this key is next.
    At(u8),
    First(u8, Key),
    Second(u8, Key),
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// Of the two generations that the account's name may mean.
    generations: [Generation; 2],
    /// What the name means now.
    account: Option<u8>,
    since: Since,
    uploads: [Upload; UPLOADS],
    documents: [bool; UPLOADS],
    bytes: [bool; UPLOADS],
    members: [bool; UPLOADS],
    sweep: Sweep,
    /// The round began when a month was over.
    late_round: bool,
}

/// A rule taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// The sweep does not wait until nobody sends bytes any more.
    SweptAtOnce,
    /// The sweep deletes a key before the bytes that it names.
    KeyBeforeBytes,
    /// Bytes are sent before the document that names them is durable.
    BytesBeforeDocument,
    /// The generation is forgotten when the first round is over.
    ForgottenAtOnce,
    /// Whether a month is over is asked at the end of the round.
    MonthAtTheEnd,
    /// Keys do not carry the generation.
    KeysWithoutGeneration,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Accounts {
    pub(crate) mutant: Option<Mutant>,
}

pub(crate) const NAMED: &str = "bytes are named by a session or a member";
pub(crate) const FOUND: &str = "what is written below a generation can be found";
pub(crate) const APART: &str = "an account reads only what was written under it";
pub(crate) const CLEAN: &str = "nothing is left of a forgotten generation";

const KEYS: u8 = UPLOADS as u8 * 2;

fn key(n: u8) -> Key {
    if n < UPLOADS as u8 { Key::Document(n) } else { Key::Member(n - UPLOADS as u8) }
}

impl Sweep {
    fn after(n: u8) -> Self {
        if n + 1 == KEYS { Self::End } else { Self::At(n + 1) }
    }
}

impl State {
    fn has(&self, key: Key) -> bool {
        match key {
            Key::Document(i) => self.documents[usize::from(i)],
            Key::Member(i) => self.members[usize::from(i)],
        }
    }

    fn delete(&mut self, key: Key) {
        match key {
            Key::Document(i) => self.documents[usize::from(i)] = false,
            Key::Member(i) => self.members[usize::from(i)] = false,
        }
    }

    fn delete_bytes(&mut self, key: Key) {
        let (Key::Document(i) | Key::Member(i)) = key;
        self.bytes[usize::from(i)] = false;
    }

    fn generation_of(&self, key: Key) -> u8 {
        let (Key::Document(i) | Key::Member(i)) = key;
        self.uploads[usize::from(i)].generation
    }
}

impl Accounts {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn upload(&self, i: usize, out: &mut Steps<'_, State>) {
        let upload = out.from.uploads[i];
        let early = self.is(Mutant::BytesBeforeDocument);
        let goes = |s: &mut State, at| s.uploads[i].at = if upload.late { At::Done } else { at };
        match upload.at {
            At::Begin => {
                if let Some(generation) = out.from.account {
                    out.step(i, "is let in", |s| {
                        let at = if early { At::Bytes } else { At::Document };
                        s.uploads[i] = Upload { at, generation, ..upload };
                    });
                }
            }
            At::Document => out.step(i, "writes its document", |s| {
                s.documents[i] = true;
                goes(s, if early { At::Member } else { At::Bytes });
            }),
            At::Bytes => out.step(i, "sends its bytes", |s| {
                s.bytes[i] = true;
                goes(s, if early { At::Document } else { At::Member });
            }),
            At::Member => out.step(i, "writes the member", |s| {
                s.members[i] = true;
                goes(s, At::Done);
            }),
            At::Done => {}
        }
    }

    fn sweep(&self, out: &mut Steps<'_, State>) {
        const WHO: usize = UPLOADS;
        let from = out.from;
        match from.sweep {
            Sweep::Idle => {
                let due = from.since >= Since::Hours || self.is(Mutant::SweptAtOnce);
                if from.generations[0] == Generation::Deleted && due {
                    out.step(WHO, "a round begins", |s| {
                        s.sweep = Sweep::At(0);
                        s.late_round = s.since == Since::Month;
                    });
                }
            }
            Sweep::At(n) => {
                let there = from.has(key(n)) && from.generation_of(key(n)) == 0;
                out.step(WHO, "pages", |s| s.sweep = if there { Sweep::First(n, key(n)) } else { Sweep::after(n) });
            }
            Sweep::First(n, key) => out.step(WHO, "deletes the bytes", |s| {
                if self.is(Mutant::KeyBeforeBytes) {
                    s.delete(key);
                } else {
                    s.delete_bytes(key);
                }
                s.sweep = Sweep::Second(n, key);
            }),
            Sweep::Second(n, key) => out.step(WHO, "deletes the key", |s| {
                if self.is(Mutant::KeyBeforeBytes) {
                    s.delete_bytes(key);
                } else {
                    s.delete(key);
                }
                s.sweep = Sweep::after(n);
            }),
            Sweep::End => out.step(WHO, "the round is over", |s| {
                s.sweep = Sweep::Idle;
                let late = if self.is(Mutant::MonthAtTheEnd) { s.since == Since::Month } else { s.late_round };
                s.late_round = false;
                if late || self.is(Mutant::ForgottenAtOnce) {
                    s.generations[0] = Generation::Forgotten;
                }
            }),
        }
    }
}

impl Model for Accounts {
    type State = State;
    type Action = Step<State>;

    fn init_states(&self) -> Vec<State> {
        let upload = Upload { at: At::Begin, generation: 0, late: false };
        vec![State {
            generations: [Generation::Live, Generation::Forgotten],
            account: Some(0),
            since: Since::Now,
            uploads: [upload; UPLOADS],
            documents: [false; UPLOADS],
            bytes: [false; UPLOADS],
            members: [false; UPLOADS],
            sweep: Sweep::Idle,
            late_round: false,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step<State>>) {
        let mut out = Steps { from: state, steps };
        for i in 0..UPLOADS {
            self.upload(i, &mut out);
        }
        self.sweep(&mut out);
        match (state.account, state.generations) {
            (Some(0), [Generation::Live, _]) => out.step(WORLD, "the account is deleted", |s| {
                s.account = None;
                s.generations[0] = Generation::Deleted;
            }),
            (None, [_, Generation::Forgotten]) => out.step(WORLD, "a generation is made", |s| {
                s.generations[1] = Generation::Live;
            }),
            (None, [_, Generation::Live]) => out.step(WORLD, "the name means it", |s| s.account = Some(1)),
            _ => {}
        }
        if state.generations[0] == Generation::Deleted {
            match state.since {
                Since::Now => out.step(WORLD, "hours pass", |s| {
                    s.since = Since::Hours;
                    for upload in s.uploads.iter_mut().filter(|upload| upload.generation == 0) {
                        match upload.at {
                            At::Document | At::Member => upload.late = true,
                            At::Bytes => upload.at = At::Done,
                            At::Begin | At::Done => {}
                        }
                    }
                }),
                Since::Hours => out.step(WORLD, "a month passes", |s| {
                    s.since = Since::Month;
                    for upload in s.uploads.iter_mut().filter(|upload| upload.late) {
                        upload.at = At::Done;
                    }
                }),
                Since::Month => {}
            }
        }
    }

    fn next_state(&self, _: &State, step: Step<State>) -> Option<State> {
        Some(step.next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NAMED, |_, s: &State| (0..UPLOADS).all(|i| !s.bytes[i] || s.documents[i] || s.members[i])),
            Property::always(FOUND, |_, s: &State| {
                (0..KEYS)
                    .map(key)
                    .filter(|&key| s.has(key))
                    .all(|key| s.generations[usize::from(s.generation_of(key))] != Generation::Forgotten)
            }),
            Property::always(APART, |model: &Self, s: &State| {
                let Some(account) = s.account else { return true };
                // What the account's reads can meet: keys below its own generation, or all of them.
                (0..UPLOADS as u8)
                    .map(Key::Member)
                    .filter(|&key| s.has(key))
                    .all(|key| s.generation_of(key) == account || !model.is(Mutant::KeysWithoutGeneration))
            }),
            Property::always(CLEAN, |_, s: &State| {
                s.generations[0] != Generation::Forgotten
                    || (0..KEYS).map(key).all(|key| s.generation_of(key) != 0 || !s.has(key))
            }),
        ]
    }
}
