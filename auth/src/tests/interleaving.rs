//! Every order in which ends of rights, reads, looks at the log and decisions can fall, tried one by one.
//!
//! The log, the watch and the cache are the real ones; the store is a list of marks. Each actor is a sequence of steps, a step is
//! what happens between two answers of the store, and a round is one order of all steps. What must hold: once this replica has
//! heard of an end, no decision is made by what was read before it. The same rounds are tried with steps in a wrong order, each
//! of which must be found out.

use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use storage::{Generation, Time, clock::ManualClock};

use crate::{
    cache::{Cache, Knowing, Weighs},
    id::Id,
    revocation::{AuthLog, What},
    watch::{Ends, Held, Watch},
};

/// What is wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutant {
    None,
    /// The place is noted after the read.
    PlaceAfterRead,
    /// The log is written before the record is marked.
    LogBeforeMark,
    /// What was read is decided by without another look at the place.
    NoLookAtEnd,
    /// A look at the log is not compared with what is cached.
    NeverDropped,
}

/// The record of a credential, as it was read.
#[derive(Debug, Clone)]
struct Read {
    subject: usize,
    marked: bool,
}

thread_local! {
    static NEVER_DROPPED: RefCell<bool> = const { RefCell::new(false) };
}

fn id(subject: usize) -> Id {
    format!("000000000000000{subject}").parse().unwrap()
}

impl Ends for Read {
    fn ended_by(&self, _: &Generation, what: &What) -> bool {
        !NEVER_DROPPED.with(|never| *never.borrow())
            && matches!(what, What::Subject(ended) if *ended == id(self.subject))
    }
}

impl Weighs for Read {
    fn weight(&self) -> usize {
        1
    }
}

/// One store, one replica's memory of it, and what has happened.
struct World {
    marked: [bool; 2],
    log: AuthLog,
    /// Whose end this replica has heard of.
    heard: [bool; 2],
    violated: bool,
}

struct Replica {
    watch: Watch,
    cache: Cache<usize, Read>,
    clock: ManualClock,
    world: RefCell<World>,
    generation: Generation,
    mutant: Mutant,
}

/// Gives way once: what follows is another step.
struct Step(bool);

impl Future for Step {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        context.waker().wake_by_ref();
        if std::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}

fn step() -> Step {
    Step(false)
}

type Actor = Pin<Box<dyn Future<Output = ()>>>;

impl Replica {
    fn new(mutant: Mutant) -> Rc<Self> {
        NEVER_DROPPED.with(|never| *never.borrow_mut() = mutant == Mutant::NeverDropped);
        let world = World { marked: [false; 2], log: AuthLog::first(), heard: [false; 2], violated: false };
        let replica = Self {
            watch: Watch::default(),
            cache: Cache::new(16 << 10),
            clock: ManualClock::at(Time::UNIX_EPOCH),
            generation: Generation::installation(),
            world: RefCell::new(world),
            mutant,
        };
        let look = replica.watch.look(&replica.clock);
        replica.watch.hear(&replica.world.borrow().log, look);
        Rc::new(replica)
    }

    /// Another replica ends a right: the mark, then the log.
    fn end(self: &Rc<Self>, subject: usize) -> Actor {
        let this = Rc::clone(self);
        Box::pin(async move {
            let mark = || this.world.borrow_mut().marked[subject] = true;
            let append = || this.world.borrow_mut().log.append(&this.generation, &What::Subject(id(subject)));
            if this.mutant == Mutant::LogBeforeMark {
                append();
                step().await;
                mark();
            } else {
                mark();
                step().await;
                append();
            }
        })
    }

    /// This replica ends a right itself: what it appended it has heard.
    fn end_here(self: &Rc<Self>, subject: usize) -> Actor {
        let this = Rc::clone(self);
        Box::pin(async move {
            this.world.borrow_mut().marked[subject] = true;
            step().await;
            this.world.borrow_mut().log.append(&this.generation, &What::Subject(id(subject)));
            let appended = this.world.borrow().log.clone();
            step().await;
            this.watch.apply(&appended);
            this.note(&appended);
        })
    }

    /// One look at the log: it is asked for, it is answered, the answer is heard.
    fn look(self: &Rc<Self>, times: usize) -> Actor {
        let this = Rc::clone(self);
        Box::pin(async move {
            for time in 0..times {
                if time > 0 {
                    step().await;
                }
                let look = this.watch.look(&this.clock);
                let log = this.world.borrow().log.clone();
                step().await;
                this.watch.hear(&log, look);
                this.note(&log);
            }
        })
    }

    fn note(&self, log: &AuthLog) {
        let mut world = self.world.borrow_mut();
        for (_, _, what) in log.entries() {
            for subject in 0..2 {
                world.heard[subject] |= what == What::Subject(id(subject));
            }
        }
    }

    /// A request: the place, the cache or the store, the decision if the place is still the newest, else all again.
    fn decide(self: &Rc<Self>, subject: usize) -> Actor {
        let this = Rc::clone(self);
        Box::pin(async move {
            loop {
                let begun = this.watch.place();
                let held = this.found(subject).await;
                if this.watch.place() == begun || this.mutant == Mutant::NoLookAtEnd {
                    let heard = this.world.borrow().heard[subject];
                    this.world.borrow_mut().violated |= heard && !held.value.marked;
                    return;
                }
            }
        })
    }

    async fn found(&self, subject: usize) -> Arc<Held<Read>> {
        let knowing = Knowing { watch: &self.watch, clock: &self.clock, cut_off: false };
        let read = async || {
            step().await;
            let found = Read { subject, marked: self.world.borrow().marked[subject] };
            step().await;
            Ok::<_, ()>(Some(found))
        };
        if self.mutant == Mutant::PlaceAfterRead {
            let absent = async || Ok::<_, ()>(None);
            if let Some(held) = self.cache.get(&subject, knowing, absent).await.unwrap() {
                return held;
            }
            let found = read().await.unwrap();
            return self.cache.get(&subject, knowing, async || Ok::<_, ()>(found.clone())).await.unwrap().unwrap();
        }
        self.cache.get(&subject, knowing, read).await.unwrap().unwrap()
    }
}

/// Whether an actor can go on, or waits for another.
struct Ready(AtomicBool);

impl Default for Ready {
    fn default() -> Self {
        Self(AtomicBool::new(true))
    }
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn poll((actor, ready): &mut (Actor, Arc<Ready>)) -> Poll<()> {
    ready.0.store(false, Ordering::Relaxed);
    actor.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(ready))))
}

/// Tries every order of the steps of the actors that `cast` gives, and after each round asks for every subject once more. The
/// number of rounds, and of those in which what had ended was honoured.
fn every_order(mutant: Mutant, cast: impl Fn(&Rc<Replica>) -> Vec<Actor>) -> (u64, u64) {
    let (mut rounds, mut violations) = (0, 0);
    // The choices of the round before: at each step, which of how many actors that were not done.
    let mut choices: Vec<(usize, usize)> = Vec::new();
    loop {
        let replica = Replica::new(mutant);
        let mut actors: Vec<_> = cast(&replica).into_iter().map(|actor| (actor, Arc::new(Ready::default()))).collect();
        let mut at = 0;
        while !actors.is_empty() {
            let ready: Vec<_> = (0..actors.len()).filter(|&i| actors[i].1.0.load(Ordering::Relaxed)).collect();
            if at == choices.len() {
                choices.push((0, ready.len()));
            }
            let chosen = ready[choices[at].0];
            if poll(&mut actors[chosen]).is_ready() {
                drop(actors.remove(chosen));
            }
            at += 1;
        }
        for subject in 0..2 {
            let mut last = (replica.decide(subject), Arc::new(Ready::default()));
            while poll(&mut last).is_pending() {}
        }
        rounds += 1;
        violations += u64::from(replica.world.borrow().violated);
        while choices.last().is_some_and(|(chosen, of)| chosen + 1 == *of) {
            choices.pop();
        }
        match choices.last_mut() {
            Some((chosen, _)) => *chosen += 1,
            None => return (rounds, violations),
        }
    }
}

/// Two rights end elsewhere while each is asked for and the log is looked at.
fn two_of_two(replica: &Rc<Replica>) -> Vec<Actor> {
    vec![replica.end(0), replica.end(1), replica.decide(0), replica.decide(1), replica.look(1)]
}

/// One right ends while two ask for it and the log is looked at twice.
fn one_of_one(replica: &Rc<Replica>) -> Vec<Actor> {
    vec![replica.end(0), replica.decide(0), replica.decide(0), replica.look(2)]
}

/// One right ends here while two ask for it and the log is looked at.
fn one_here(replica: &Rc<Replica>) -> Vec<Actor> {
    vec![replica.end_here(0), replica.decide(0), replica.decide(0), replica.look(1)]
}

#[test]
fn no_order_of_events_lets_a_right_outlive_what_was_heard_of_its_end() {
    for cast in [two_of_two, one_of_one, one_here] {
        let (rounds, violations) = every_order(Mutant::None, cast);
        println!("{rounds} orders");
        assert!(rounds > 10_000, "{rounds}");
        assert_eq!(violations, 0, "of {rounds}");
    }
}

#[test]
fn every_wrong_order_of_steps_is_found_out() {
    for mutant in [Mutant::PlaceAfterRead, Mutant::LogBeforeMark, Mutant::NoLookAtEnd, Mutant::NeverDropped] {
        let (rounds, violations) = every_order(mutant, one_of_one);
        println!("{mutant:?}: {violations} of {rounds} orders");
        assert!(violations > 0, "{mutant:?}: none of {rounds}");
    }
}
