//! A small mutation fuzzer: seeds from a folder that is kept, mutations that know what credentials are made of, and a judge that the
//! test brings. It runs for `HYTHE_FUZZ_SECONDS` a target (10 unless told); `HYTHE_FUZZ_SEED` repeats a run's choices.
//!
//! An input that brings an outcome not seen before joins the seeds of its run. One that is judged wrong, or that makes the program
//! panic, is printed so that it can be put into the folder.

use std::{collections::BTreeMap, env, fs, time::Duration};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use storage::{Clock as _, clock::SystemClock};

use crate::tools;

/// How long a target is tried, unless `HYTHE_FUZZ_SECONDS` says otherwise.
const SECONDS: u64 = 10;
/// No input is longer: twice what the largest limit admits.
const LONGEST: usize = 32 << 10;
/// Most inputs that a run mutates.
const POOL: usize = 512;
/// Characters that mean something somewhere.
const SHARP: &[u8] = b"\0\t\n\r \"'%&*+,-./0:;<=>?@A[\\]^_`a{|}~\x7f\x80\xff";

/// The kept seeds of a target: the files of `conformance/fuzz/TARGET`, in the order of their names.
///
/// # Panics
/// When there are none.
#[expect(clippy::panic, reason = "a target without its seeds would show nothing")]
pub fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = tools::file("fuzz").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    #[expect(clippy::disallowed_methods, reason = "the kept seeds are files of the repository")]
    files.iter().filter_map(|file| fs::read(file).ok()).collect()
}

/// One target's run.
#[derive(Debug)]
pub struct Fuzz {
    target: &'static str,
    seed: u64,
    random: StdRng,
    words: &'static [&'static str],
    pool: Vec<Vec<u8>>,
    clock: SystemClock,
    until: Duration,
    runs: usize,
    current: Vec<u8>,
    outcomes: BTreeMap<String, u64>,
}

impl Fuzz {
    /// A run that begins with `seeds`, each as it is, and goes on with what mutations and `words` make of them.
    pub fn new(target: &'static str, seeds: Vec<Vec<u8>>, words: &'static [&'static str]) -> Self {
        let number = |name: &str| env::var(name).ok()?.parse::<u64>().ok();
        let seed = number("HYTHE_FUZZ_SEED").unwrap_or_else(rand::random);
        let clock = SystemClock::new();
        let until = clock.elapsed() + Duration::from_secs(number("HYTHE_FUZZ_SECONDS").unwrap_or(SECONDS));
        let random = StdRng::seed_from_u64(seed);
        Self {
            target,
            seed,
            random,
            words,
            pool: seeds,
            clock,
            until,
            runs: 0,
            current: Vec::new(),
            outcomes: BTreeMap::new(),
        }
    }

    /// The next input; `None` when the time is over, never before every seed had its turn.
    #[expect(clippy::should_implement_trait, reason = "an iterator could not be told what came of its items")]
    pub fn next(&mut self) -> Option<Vec<u8>> {
        let turn = self.runs;
        self.runs += 1;
        self.current = match self.pool.get(turn) {
            // What joins on the way stands behind the seeds and is known already; to run it again costs nothing.
            Some(seed) => seed.clone(),
            None if self.clock.elapsed() >= self.until => {
                self.runs = turn;
                return None;
            }
            None => self.mutated(),
        };
        Some(self.current.clone())
    }

    /// What came of the last input, in few words: a class, not the input itself.
    pub fn saw(&mut self, outcome: &str) {
        if let Some(count) = self.outcomes.get_mut(outcome) {
            *count += 1;
            return;
        }
        self.outcomes.insert(outcome.to_owned(), 1);
        if self.pool.len() < POOL {
            self.pool.push(self.current.clone());
        }
    }

    /// A random choice of the run, so that a judge's own choices are repeated with it.
    pub fn random(&mut self) -> &mut StdRng {
        &mut self.random
    }

    /// Prints the run's figures and fails the test unless each of `classes` was seen: a run that reaches nothing shows nothing.
    ///
    /// # Panics
    /// When one was not.
    #[expect(clippy::print_stdout, reason = "the figures are what a run by hand is for")]
    pub fn finish(self, classes: &[&str]) {
        println!("fuzz {}: {} inputs, seed {}, {:?}", self.target, self.runs, self.seed, self.outcomes);
        for class in classes {
            assert!(self.outcomes.contains_key(*class), "{} never came: {:?}", class, self.outcomes);
        }
    }

    fn mutated(&mut self) -> Vec<u8> {
        let mut input = self.pool.choose(&mut self.random).cloned().unwrap_or_default();
        for _ in 0..self.random.random_range(1..=4) {
            if self.random.random_bool(0.3) {
                self.inside(&mut input);
            } else {
                self.mutate(&mut input);
            }
        }
        input.truncate(LONGEST);
        input
    }

    /// Changes what a base64 word of the input says, and writes it as base64 again.
    fn inside(&mut self, input: &mut Vec<u8>) {
        let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte);
        let at = self.random.random_range(0..=input.len());
        let (before, after) = input.split_at(at);
        let start = before.iter().rposition(|&byte| !is_base64(byte)).map_or(0, |found| found + 1);
        let end = after.iter().position(|&byte| !is_base64(byte)).map_or(input.len(), |found| at + found);
        let Some(word) = input.get(start..end) else { return };
        let plain = URL_SAFE_NO_PAD.decode(word).map(|bytes| (bytes, true));
        let Ok((mut plain, url)) = plain.or_else(|_| STANDARD.decode(word).map(|bytes| (bytes, false))) else { return };
        self.mutate(&mut plain);
        let word = if url { URL_SAFE_NO_PAD.encode(&plain) } else { STANDARD.encode(&plain) };
        input.splice(start..end, word.into_bytes());
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let random = &mut self.random;
        let at = random.random_range(0..=input.len());
        let end = random.random_range(at..=input.len().min(at + 32));
        let byte = if random.random_bool(0.5) { random.random() } else { *SHARP.choose(random).unwrap_or(&0) };
        match random.random_range(0..12) {
            0 => {
                let bit = 1 << random.random_range(0..8);
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= bit;
                }
            }
            1 => {
                if let Some(place) = input.get_mut(at) {
                    *place = byte;
                }
            }
            2 => input.insert(at, byte),
            3 => drop(input.drain(at..end)),
            4 => {
                let copy: Vec<u8> = input.get(at..end).unwrap_or_default().to_vec();
                let to = random.random_range(0..=input.len());
                input.splice(to..to, copy);
            }
            5 => {
                if let Some(range) = input.get_mut(at..end) {
                    range.reverse();
                }
            }
            6 => {
                let word = self.words.choose(random).copied().unwrap_or_default();
                input.splice(at..at, word.bytes());
            }
            7 => {
                let word = self.words.choose(random).copied().unwrap_or_default();
                input.splice(at..end, word.bytes());
            }
            8 => {
                let other = self.pool.choose(random).cloned().unwrap_or_default();
                let from = random.random_range(0..=other.len());
                input.truncate(at);
                input.extend(other.get(from..).unwrap_or_default());
            }
            9 => input.truncate(at),
            10 => {
                let many = random.random_range(1..=4096);
                input.splice(at..at, std::iter::repeat_n(byte, many));
            }
            _ => {
                for byte in input.get_mut(at..end).unwrap_or_default() {
                    *byte ^= if byte.is_ascii_alphabetic() { 0x20 } else { 0 };
                }
            }
        }
    }
}

impl Drop for Fuzz {
    #[expect(clippy::print_stderr, reason = "the input belongs to the report of a failed test")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { target, seed, runs, current, .. } = self;
            eprintln!("fuzz {target}: seed {seed}, input {runs}: b\"{}\"", current.escape_ascii());
        }
    }
}
