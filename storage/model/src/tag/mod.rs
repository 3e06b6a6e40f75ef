//! A tag is linearizable: one record under compare-and-swap, while the network loses answers and delivers requests late or twice.
//!
//! Clients put, delete and read one tag; what they were told is judged by stateright's linearizability tester. A request may be
//! answered, or applied with its answer lost, or not be applied until later, or be applied and come again later: once each
//! time, as often as a model's faults allow. A client whose answer was lost reads back as `backend::remote` of `hythe-storage` does, and
//! finds its nonce in the record's history, or not.

mod tests;

use stateright::{
    Model, Property,
    semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec},
};

use crate::{
    check::{Step, Steps, WORLD},
    store::Record,
};

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Put(u8),
    Delete,
    Get,
}

/// What it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Told {
    Done,
    NoTag,
    Points(u8),
}

/// A tag as clients are promised it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Tag(Option<u8>);

impl SequentialSpec for Tag {
    type Op = Op;
    type Ret = Told;

    fn invoke(&mut self, op: &Op) -> Told {
        match op {
            Op::Put(value) => self.0 = Some(*value),
            Op::Delete => self.0 = None,
            Op::Get => return self.0.map_or(Told::NoTag, Told::Points),
        }
        Told::Done
    }

    /// A DELETE that finds another one's work done may say either.
    fn is_valid_step(&mut self, op: &Op, told: &Told) -> bool {
        match (op, told) {
            (Op::Delete, Told::NoTag) => self.0.is_none(),
            _ => self.invoke(op) == *told,
        }
    }
}

/// The record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Live {
    value: u8,
    /// The nonce of this write, a bit.
    nonce: u32,
    /// The nonces of this and earlier writes since it was created.
    history: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Condition {
    /// Nothing at all is there (`If-None-Match: *`).
    Nothing,
    /// The version that was read (`If-Match`).
    Version,
    /// Every tombstone is the same to it.
    AnyTombstone,
    /// None: a blind write.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Request {
    condition: Condition,
    /// `None` removes.
    body: Option<Live>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Read,
    Send(Request),
    /// Reads back what became of it.
    Back(Request),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Client {
    /// Operations behind it.
    done: u8,
    at: At,
    attempt: u8,
    /// The nonce of the record that it read.
    upon: u32,
    /// A request of this write may have been applied.
    lost: bool,
    over_tombstone: bool,
}

const CLIENTS: usize = 3;
/// The late request holds versions like a process.
const LATE: usize = CLIENTS;
const ATTEMPTS: u8 = 3;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    record: Record<Live>,
    clients: [Option<Client>; CLIENTS],
    late: Option<Request>,
    faults: u8,
    told: LinearizabilityTester<usize, Tag>,
}

/// How records are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// Nothing is left of them.
    Delete,
    /// An empty object is left, unlike every other.
    Tombstone,
    /// An empty object is left, and its `ETag` is that of every empty object.
    SameTombstone,
}

/// A rule taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A tag is written without a condition.
    BlindPut,
    /// A record has no history: a lost answer is taken for a lost race.
    NoHistory,
    /// A removal that may have been applied is tried again on the record that was made since.
    RemovedAgain,
    /// A creation that may have been applied, and been removed since, is taken for a lost race.
    CreatedAgain,
    /// A creation that may have been applied takes a tombstone for one that was there before.
    TombstoneIsOld,
    /// An update that may have been applied, to a record that was removed and made again since, is taken for a lost race.
    UpdatedAgain,
}

#[derive(Debug, Clone)]
pub(crate) struct Tags {
    pub(crate) scripts: Vec<Vec<Op>>,
    pub(crate) initial: Option<u8>,
    pub(crate) removal: Removal,
    pub(crate) faults: u8,
    pub(crate) mutant: Option<Mutant>,
}

pub(crate) const LINEARIZABLE: &str = "what clients are told is linearizable";

impl State {
    fn apply(&mut self, who: usize, request: Request, removal: Removal) -> bool {
        let record = &mut self.record;
        let holds = match request.condition {
            Condition::Nothing => record.peek().is_none() && !record.tombstone,
            Condition::Version => record.current(who),
            Condition::AnyTombstone => record.tombstone,
            Condition::None => true,
        };
        if holds {
            record.overwrite(request.body);
            record.tombstone &= removal != Removal::Delete;
        }
        holds
    }

    fn lingers(&mut self, who: usize, request: Request) {
        self.late = Some(request);
        self.record.holds_too(who, LATE);
    }
}

impl Tags {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Every write has a nonce of its own.
    fn nonce(i: usize, client: Client) -> u32 {
        1 << (i as u32 * 9 + u32::from(client.done % 3) * 3 + u32::from(client.attempt))
    }

    fn client(&self, i: usize, client: Client, op: Op, out: &mut Steps<'_, State>) {
        let goes = |s: &mut State, client: Client| s.clients[i] = Some(client);
        let told = |s: &mut State, told: Told| {
            s.record.release(i);
            // A tester that refuses makes the history invalid, which the property shows.
            let _ = s.told.on_return(i, told);
            let next = client.done + 1;
            s.clients[i] = (usize::from(next) < self.scripts[i].len()).then(|| Client::new(next));
        };
        // "Nobody can tell": the operation stays open for ever.
        let unknown = |s: &mut State| {
            s.record.release(i);
            s.clients[i] = None;
        };
        let again = |s: &mut State| {
            s.record.release(i);
            if client.attempt + 1 == ATTEMPTS {
                s.clients[i] = None;
            } else {
                s.clients[i] = Some(Client { attempt: client.attempt + 1, ..Client::new(client.done) });
            }
        };
        match client.at {
            At::Read => out.step(i, "reads", |s| {
                if client.attempt == 0 {
                    let _ = s.told.on_invoke(i, op);
                }
                let found = s.record.read(i);
                let condition = match (found, self.is(Mutant::BlindPut)) {
                    (_, true) => Condition::None,
                    (None, false) => Condition::Nothing,
                    (Some(_), false) => Condition::Version,
                };
                let body = match op {
                    Op::Get => return told(s, found.map_or(Told::NoTag, |live| Told::Points(live.value))),
                    Op::Delete if found.is_none() => return told(s, Told::NoTag),
                    Op::Delete => None,
                    Op::Put(value) => Some(Live {
                        value,
                        nonce: Self::nonce(i, client),
                        history: found.map_or(0, |live| live.history) | Self::nonce(i, client),
                    }),
                };
                if found.is_none() {
                    s.record.release(i);
                }
                let upon = found.map_or(0, |live| live.nonce);
                goes(s, Client { at: At::Send(Request { condition, body }), upon, ..client });
            }),
            At::Send(request) => {
                out.step(i, "sends", |s| {
                    if s.apply(i, request, self.removal) {
                        told(s, Told::Done);
                    } else {
                        goes(s, Client { at: At::Back(request), ..client });
                    }
                });
                if out.from.faults > 0 && out.from.late.is_none() {
                    let lost = Client { at: At::Back(request), lost: true, ..client };
                    out.step(i, "sends, and the answer is lost", |s| {
                        s.faults -= 1;
                        s.apply(i, request, self.removal);
                        goes(s, lost);
                    });
                    out.step(i, "sends, and it is late", |s| {
                        s.faults -= 1;
                        s.lingers(i, request);
                        goes(s, lost);
                    });
                    out.step(i, "sends, and it will come twice", |s| {
                        s.faults -= 1;
                        s.lingers(i, request);
                        if s.apply(i, request, self.removal) {
                            told(s, Told::Done);
                        } else {
                            goes(s, Client { at: At::Back(request), ..client });
                        }
                    });
                }
            }
            At::Back(request) => out.step(i, "reads back", |s| {
                let send = |s: &mut State, client: Client, condition| {
                    goes(s, Client { at: At::Send(Request { condition, ..request }), ..client });
                };
                if self.is(Mutant::BlindPut) && client.lost {
                    return unknown(s);
                }
                let mine = request.body.map(|_| Self::nonce(i, client));
                let creates = request.condition != Condition::Version || client.over_tombstone;
                let current = s.record.current(i) && !creates;
                match (s.record.peek(), mine) {
                    (Some(_), _) if current => send(s, client, Condition::Version),
                    (Some(live), Some(mine)) if live.history & mine != 0 && !self.is(Mutant::NoHistory) => {
                        told(s, Told::Done);
                    }
                    // Not among them: it lost, if this is still the record that it was to go upon. What was made anew since
                    // says nothing of the time before.
                    (Some(live), Some(_)) => {
                        let same = live.history & client.upon != 0
                            || self.is(if creates { Mutant::CreatedAgain } else { Mutant::UpdatedAgain })
                            || self.is(Mutant::NoHistory);
                        if client.lost && !same { unknown(s) } else { again(s) }
                    }
                    (Some(_), None) if client.lost && !self.is(Mutant::RemovedAgain) => unknown(s),
                    (None, None) => told(s, Told::Done),
                    // The very tombstone that it went over: nothing was done, and the condition guards a repetition.
                    (None, Some(_))
                        if client.over_tombstone && s.record.current(i) && self.removal == Removal::Tombstone =>
                    {
                        send(s, client, Condition::Version);
                    }
                    (None, Some(_)) if creates && s.record.tombstone => {
                        if client.lost && (client.over_tombstone || !self.is(Mutant::TombstoneIsOld)) {
                            return unknown(s);
                        }
                        let condition = if self.removal == Removal::SameTombstone {
                            Condition::AnyTombstone
                        } else {
                            s.record.read(i);
                            Condition::Version
                        };
                        send(s, Client { over_tombstone: true, ..client }, condition);
                    }
                    (None, Some(_)) if creates => send(s, client, Condition::Nothing),
                    (None, Some(_)) if client.lost => unknown(s),
                    (_, _) => again(s),
                }
            }),
        }
    }
}

impl Client {
    fn new(done: u8) -> Self {
        Self { done, at: At::Read, attempt: 0, upon: 0, lost: false, over_tombstone: false }
    }
}

impl Model for Tags {
    type State = State;
    type Action = Step<State>;

    fn init_states(&self) -> Vec<State> {
        let live = self.initial.map(|value| Live { value, nonce: 1 << 30, history: 1 << 30 });
        let mut clients = [None; CLIENTS];
        for (client, script) in clients.iter_mut().zip(&self.scripts) {
            *client = (!script.is_empty()).then(|| Client::new(0));
        }
        let record = live.map_or_else(Record::absent, Record::present);
        let told = LinearizabilityTester::new(Tag(self.initial));
        vec![State { record, clients, late: None, faults: self.faults, told }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step<State>>) {
        let mut out = Steps { from: state, steps };
        for (i, client) in state.clients.iter().enumerate() {
            if let Some(client) = client {
                self.client(i, *client, self.scripts[i][usize::from(client.done)], &mut out);
            }
        }
        if let Some(request) = state.late {
            out.step(WORLD, "the late request arrives", |s| {
                s.apply(LATE, request, self.removal);
                s.late = None;
                s.record.release(LATE);
            });
        }
    }

    fn next_state(&self, _: &State, step: Step<State>) -> Option<State> {
        Some(step.next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always(LINEARIZABLE, |_, s: &State| s.told.is_consistent())]
    }
}
