//! What this replica knows of the log of ended rights, and how sure it is.
//!
//! Nothing that was read is believed for its own sake: every cached value carries its *place*, how far the log was known before
//! the value began to be read. On a use, a value whose place is the newest is good; else the entries between decide. A decision
//! is made only while the log was confirmed within the bound, so a right whose end was acknowledged longer ago than that is
//! never honoured:
//!
//! - an end acknowledged at *c* is seen by every look at the log that begins after *c*, and a decision at *t* stands on a look
//!   that began at *t* − bound or later;
//! - a value read before its record was marked has a place before the entry, which therefore evicts it, whenever it is learnt.
//!
//! No clock of another machine is compared; time is the larger of monotonic and wall-clock time, because monotonic time may
//! stand still in a suspended machine.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::RwLock;
use storage::{Clock, Generation, Time};

use crate::revocation::{AuthLog, What};

/// Entries that are remembered between a cached value's last use and its next.
const REMEMBERED: usize = 4096;

/// An instant on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    elapsed: Duration,
    at: Time,
}

impl Moment {
    pub(crate) fn now(clock: &dyn Clock) -> Self {
        Self { elapsed: clock.elapsed(), at: clock.now() }
    }

    /// How long ago, by whichever clock says more; a wall clock that was set back says for ever.
    pub(crate) fn age(self, clock: &dyn Clock) -> Duration {
        let wall = (clock.now() - self.at).to_std().unwrap_or(Duration::MAX);
        clock.elapsed().saturating_sub(self.elapsed).max(wall)
    }
}

/// What can be ended: it says whether an entry of the log ends it.
pub(crate) trait Ends {
    /// Whether `what`, ended in `generation`, ends this.
    fn ended_by(&self, generation: &Generation, what: &What) -> bool;
}

/// The log as far as it was heard, in places of this replica's own: they only grow, also when the log was rolled back.
#[derive(Debug, Default)]
struct Heard {
    seq: u64,
    epoch: String,
    place: u64,
    /// Values from before this place are dropped: entries were missed, or are remembered no longer.
    floor: u64,
    entries: VecDeque<(u64, Generation, What)>,
}

impl Heard {
    fn hear(&mut self, log: &AuthLog) {
        // What left the ring is older than all that is in it; what is missing within was folded into a newer entry that says more.
        let complete = log.epoch() == self.epoch && log.oldest() <= self.seq + 1;
        if complete {
            for (_, generation, what) in log.entries().filter(|(seq, ..)| *seq > self.seq) {
                self.place += 1;
                if what == What::All {
                    self.floor = self.place;
                    self.entries.clear();
                    continue;
                }
                self.entries.push_back((self.place, generation.clone(), what));
            }
            while self.entries.len() > REMEMBERED {
                self.floor = self.entries.pop_front().map_or(self.floor, |(place, ..)| place);
            }
        } else {
            self.place += 1;
            self.floor = self.place;
            self.entries.clear();
        }
        (self.seq, self.epoch) = (log.seq(), log.epoch().to_owned());
    }

    fn ended_since(&self, place: u64, value: &impl Ends) -> bool {
        place < self.floor
            || self
                .entries
                .iter()
                .rev()
                .take_while(|(at, ..)| *at > place)
                .any(|(_, generation, what)| value.ended_by(generation, what))
    }
}

/// A look at the log that has begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    began: Moment,
    seq: u64,
}

/// How the log is known on this replica.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// [`Heard::place`], for the one look that a use costs when nothing has ended since.
    place: AtomicU64,
    heard: RwLock<Heard>,
    confirmed: RwLock<Option<Moment>>,
}

impl Watch {
    /// The place from which a value that is read from now on is known.
    pub(crate) fn place(&self) -> u64 {
        self.place.load(Ordering::Acquire)
    }

    /// Begins a look at the log.
    pub(crate) fn look(&self, clock: &dyn Clock) -> Look {
        Look { began: Moment::now(clock), seq: self.heard.read().seq }
    }

    /// Takes note of the log as a look found it.
    pub(crate) fn hear(&self, log: &AuthLog, look: Look) {
        let mut heard = self.heard.write();
        // What was known before the look began cannot be missing from what it found, unless the log was rolled back.
        if log.epoch() == heard.epoch && log.seq() < look.seq {
            tracing::error!(
                known = look.seq,
                found = log.seq(),
                "sys/authlog was rolled back; everything is read again"
            );
            heard.epoch.clear();
        }
        self.note(&mut heard, log);
        *self.confirmed.write() = Some(look.began);
    }

    /// Takes note of what this process has itself appended, before anybody is answered; it confirms nothing.
    pub(crate) fn apply(&self, log: &AuthLog) {
        self.note(&mut self.heard.write(), log);
    }

    fn note(&self, heard: &mut Heard, log: &AuthLog) {
        // An older state of the same log, read before another thread heard a newer one, says nothing new.
        if log.epoch() == heard.epoch && log.seq() <= heard.seq {
            return;
        }
        heard.hear(log);
        self.place.store(heard.place, Ordering::Release);
    }

    /// How long ago the log was confirmed; `None`: never.
    pub(crate) fn age(&self, clock: &dyn Clock) -> Option<Duration> {
        self.confirmed.read().map(|moment| moment.age(clock))
    }

    /// Whether a value is as good as it was; if so it need not be looked for again until something else ends.
    pub(crate) fn still<T: Ends>(&self, held: &Held<T>) -> bool {
        let place = held.place.load(Ordering::Acquire);
        if place == self.place() {
            return true;
        }
        let heard = self.heard.read();
        if heard.ended_since(place, &held.value) {
            return false;
        }
        held.place.fetch_max(heard.place, Ordering::AcqRel);
        true
    }
}

/// A value with the place it is good from.
#[derive(Debug)]
pub(crate) struct Held<T> {
    pub(crate) value: T,
    place: AtomicU64,
    pub(crate) read: Moment,
    renewing: AtomicBool,
}

/// The one that reads an old value again.
pub(crate) struct Renewing<'a>(&'a AtomicBool);

impl Drop for Renewing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl<T> Held<T> {
    /// A value that was read after `place` and `read` were noted.
    pub(crate) fn new(value: T, place: u64, read: Moment) -> Self {
        Self { value, place: AtomicU64::new(place), read, renewing: AtomicBool::new(false) }
    }

    /// Asks to be the one that reads it again; `None` if somebody is.
    pub(crate) fn renew(&self) -> Option<Renewing<'_>> {
        (!self.renewing.swap(true, Ordering::AcqRel)).then_some(Renewing(&self.renewing))
    }
}
