//! What one process has to write of one account: lines that wait, and the end of its chain of batches.

use std::collections::VecDeque;

use parking_lot::Mutex;
use storage::{
    Generation, Time,
    key::{self, AuditBatch, PlainKey},
};

use super::{
    BATCH,
    batch::{Link, Opening},
};
use crate::id::Id;

/// A chain of batches, and what waits to become the next.
#[derive(Debug)]
pub(super) struct Chain {
    generation: Generation,
    waiting: Mutex<Waiting>,
    pub(super) writer: tokio::sync::Mutex<Writer>,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines that were ever put here: the next one's ticket.
    tickets: u64,
    /// Events that found no room since the last batch was made.
    lost: u64,
    /// Lines of a batch that is made and may not be in the store.
    made: usize,
}

/// The end of a chain. Whoever holds it is the only one who writes.
#[derive(Debug)]
pub(super) struct Writer {
    id: Id,
    seq: u64,
    previous: Option<Link>,
    last: Option<Time>,
    /// How many lines are in the store.
    pub(super) durable: u64,
    /// A batch that may or may not be in the store. It is put again as it is, under its own key: a late arrival of an earlier
    /// attempt then changes nothing.
    made: Option<Made>,
}

#[derive(Debug)]
pub(super) struct Made {
    pub(super) key: PlainKey,
    pub(super) bytes: bytes::Bytes,
    batch: AuditBatch,
    lines: usize,
    waited: usize,
}

impl Chain {
    pub(super) fn new(generation: Generation, id: Id) -> Self {
        let writer = Writer { id, seq: 0, previous: None, last: None, durable: 0, made: None };
        Self { generation, waiting: Mutex::default(), writer: tokio::sync::Mutex::new(writer) }
    }

    /// Lets a line wait: its ticket, and the bytes that wait with it.
    pub(super) fn wait(&self, line: Vec<u8>) -> (u64, usize) {
        let mut waiting = self.waiting.lock();
        waiting.bytes += line.len();
        waiting.lines.push_back(line);
        waiting.tickets += 1;
        (waiting.tickets - 1, waiting.bytes)
    }

    /// Counts an event that found no room.
    pub(super) fn lose(&self) {
        self.waiting.lock().lost += 1;
    }

    /// The ticket that the next line will have.
    pub(super) fn tickets(&self) -> u64 {
        self.waiting.lock().tickets
    }

    /// Whether nothing waits.
    pub(super) fn rests(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.lines.is_empty() && waiting.made == 0
    }
}

impl Writer {
    /// The batch to put next: the one whose fate is not known, else one of what waits.
    pub(super) fn next(&mut self, chain: &Chain, now: Time) -> Option<&Made> {
        if self.made.is_none() {
            self.made = self.make(chain, now);
        }
        self.made.as_ref()
    }

    fn make(&mut self, chain: &Chain, now: Time) -> Option<Made> {
        let mut waiting = chain.waiting.lock();
        let (mut lines, mut count) = (Vec::new(), 0);
        while lines.len() < BATCH
            && let Some(line) = waiting.lines.pop_front()
        {
            lines.extend_from_slice(&line);
            count += 1;
        }
        if count == 0 {
            return None;
        }
        waiting.bytes -= lines.len();
        waiting.made = count;
        let lost = std::mem::take(&mut waiting.lost);
        drop(waiting);
        // Never before the batch before it, whatever the clock did: the names of a chain are in its order.
        let at = self.last.map_or(now, |last| last.max(now));
        let batch = AuditBatch::new(at, self.id.as_str(), self.seq);
        let opening = Opening::new(&chain.generation, &batch, lost, self.previous.clone());
        Some(Made {
            key: key::audit(&chain.generation, &batch),
            bytes: opening.before(&lines),
            batch,
            lines: count,
            waited: lines.len(),
        })
    }

    /// The batch that was put last is in the store: how many lines, and how many bytes of them had waited.
    pub(super) fn advance(&mut self, chain: &Chain) -> (u64, usize) {
        let Some(made) = self.made.take() else { return (0, 0) };
        chain.waiting.lock().made = 0;
        self.previous = Some(Link::to(&made.batch, &made.bytes));
        self.last = Some(made.batch.at());
        self.seq += 1;
        let lines = made.lines as u64;
        self.durable += lines;
        (lines, made.waited)
    }
}
