//! `sys/format`: which layout a store has, who may open it, and whether it is being moved.
//!
//! Whichever process opens an empty store first writes it. A layout number grows only when a release writes what its predecessor
//! cannot read; before that, new fields are read one release before they are written.

use serde::{Deserialize, Serialize};

use crate::{
    Error,
    backend::Records,
    key,
    record::{self, Document},
};

/// The layout that this release reads and writes.
pub const LAYOUT: u64 = 1;
/// This release.
const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// Where records and bytes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Both in one folder.
    Local,
    /// Both in one bucket.
    Remote,
    /// Records in an SQLite file, bytes in a bucket.
    Split,
}

/// Whether a store may be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It may.
    Open,
    /// A copy of it is being finished: it is served read-only.
    Moving,
    /// It is the target of a move or a restore that has not ended.
    Filling,
    /// It was moved away.
    Moved,
}

/// The content of `sys/format`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// The layout of keys and records.
    pub layout: u64,
    /// The lowest release that may open it, as `major.minor.patch`.
    pub lowest_release: String,
    /// Where records and bytes lie.
    pub mode: Mode,
    /// Whether it may be served.
    pub state: State,
}

/// What a store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To serve it, or to write single records beside its server.
    Use,
    /// To copy it or to fill it: any state will do.
    Copy,
}

impl Format {
    /// Whether everything but reads is refused.
    pub fn read_only(&self) -> bool {
        self.state == State::Moving
    }

    fn check(&self, mode: Mode, purpose: Purpose) -> Result<(), Error> {
        let refuse = |line: String| Err(Error::Refused(line));
        if self.layout > LAYOUT {
            return refuse(format!(
                "this store has layout {}; this release knows {LAYOUT}; run a newer release",
                self.layout
            ));
        }
        if numbers(RELEASE) < numbers(&self.lowest_release) {
            return refuse(format!(
                "this store needs release {} or newer; this is {RELEASE}; run a newer release",
                self.lowest_release
            ));
        }
        if self.mode != mode {
            return refuse(
                match self.mode {
                    Mode::Local => "these records belong to bytes in their own folder; open them with --data alone",
                    Mode::Remote => "these records belong to bytes in their own bucket; open them with --store alone",
                    Mode::Split => "these records belong to bytes in a bucket; open them with --store and --records",
                }
                .into(),
            );
        }
        match self.state {
            State::Filling if purpose == Purpose::Use => refuse(
                "this store is the target of a move or a restore that has not ended; run that command again".into(),
            ),
            State::Moved if purpose == Purpose::Use => {
                refuse("this store was moved away; open the one that it was moved to".into())
            }
            _ => Ok(()),
        }
    }
}

fn numbers(release: &str) -> Vec<u64> {
    release.split(['.', '-', '+']).map_while(|number| number.parse().ok()).collect()
}

async fn read(records: &dyn Records) -> Result<Option<Document<Format>>, Error> {
    record::read(records, &key::format()).await
}

/// Whether the store is being moved, or was: then nothing in the background may write.
pub async fn at_rest(records: &dyn Records) -> Result<bool, Error> {
    Ok(read(records).await?.is_some_and(|found| found.value.state != State::Open))
}

/// Reads what kind of store this is, writing it if the store is empty.
///
/// [`Error::Refused`] says in one line why this release, this mode or this purpose must leave it alone.
pub async fn open(records: &dyn Records, mode: Mode, purpose: Purpose) -> Result<Format, Error> {
    if let Some(document) = read(records).await? {
        return document.value.check(mode, purpose).map(|()| document.value);
    }
    let format = Format { layout: LAYOUT, lowest_release: RELEASE.into(), mode, state: State::Open };
    match record::create(records, &key::format(), format.clone()).await {
        Ok(_) => Ok(format),
        Err(Error::Conflict) => {
            // Another process opened the empty store at the same time.
            let document = read(records).await?.ok_or(Error::Conflict)?;
            document.value.check(mode, purpose).map(|()| document.value)
        }
        Err(other) => Err(other),
    }
}

/// Reads what kind of store this is; [`Error::Refused`] if it is none yet.
pub async fn existing(records: &dyn Records, mode: Mode) -> Result<Format, Error> {
    match read(records).await? {
        Some(document) => document.value.check(mode, Purpose::Copy).map(|()| document.value),
        None => Err(Error::Refused("there is no registry here; name the store of one".into())),
    }
}

/// Reads what kind of store this is, making an empty one the target of a copy.
pub async fn fill(records: &dyn Records, mode: Mode) -> Result<Format, Error> {
    if let Some(document) = read(records).await? {
        return document.value.check(mode, Purpose::Copy).map(|()| document.value);
    }
    let format = Format { layout: LAYOUT, lowest_release: RELEASE.into(), mode, state: State::Filling };
    record::create(records, &key::format(), format).await.map(|document| document.value)
}

/// Whether a store may be served, now. [`Error::Refused`] if nobody ever used it.
pub async fn state(records: &dyn Records) -> Result<State, Error> {
    match read(records).await? {
        Some(document) => Ok(document.value.state),
        None => Err(Error::Refused("the store is gone: it has no sys/format".into())),
    }
}

/// Changes whether a store may be served. [`Error::Conflict`] if it was never opened or somebody else changes it now.
pub async fn set_state(records: &dyn Records, state: State) -> Result<(), Error> {
    let mut document = read(records).await?.ok_or(Error::Conflict)?;
    document.value.state = state;
    record::update(records, &key::format(), &mut document).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{backend::memory::MemoryRecords, clock::SystemClock};

    fn store() -> MemoryRecords {
        MemoryRecords::new(Arc::new(SystemClock::new()))
    }

    async fn change(records: &MemoryRecords, change: impl FnOnce(&mut Format)) {
        let mut document = read(records).await.unwrap().unwrap();
        change(&mut document.value);
        record::update(records, &key::format(), &mut document).await.unwrap();
    }

    async fn refusal(records: &MemoryRecords, mode: Mode) -> String {
        match open(records, mode, Purpose::Use).await {
            Err(Error::Refused(line)) => line,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn whoever_opens_an_empty_store_first_says_what_it_is() {
        let records = store();
        let first = open(&records, Mode::Local, Purpose::Use).await.unwrap();
        assert_eq!((first.layout, first.state), (LAYOUT, State::Open));
        assert_eq!(open(&records, Mode::Local, Purpose::Use).await.unwrap(), first);
        assert!(refusal(&records, Mode::Split).await.contains("--data"));
    }

    #[tokio::test]
    async fn a_store_of_a_newer_release_is_left_alone() {
        let records = store();
        open(&records, Mode::Remote, Purpose::Use).await.unwrap();
        change(&records, |format| format.layout = 2).await;
        let line = refusal(&records, Mode::Remote).await;
        assert_eq!(line, "this store has layout 2; this release knows 1; run a newer release");
        change(&records, |format| (format.layout, format.lowest_release) = (1, "100.0.0".into())).await;
        assert!(refusal(&records, Mode::Remote).await.contains("needs release 100.0.0 or newer"));
        change(&records, |format| format.lowest_release = RELEASE.into()).await;
        open(&records, Mode::Remote, Purpose::Use).await.unwrap();
    }

    #[tokio::test]
    async fn a_store_on_the_move_is_read_only_and_its_ends_are_not_served() {
        let records = store();
        open(&records, Mode::Local, Purpose::Use).await.unwrap();
        set_state(&records, State::Moving).await.unwrap();
        assert!(open(&records, Mode::Local, Purpose::Use).await.unwrap().read_only());
        for (state, line) in [(State::Filling, "run that command again"), (State::Moved, "was moved away")] {
            set_state(&records, state).await.unwrap();
            assert!(refusal(&records, Mode::Local).await.contains(line));
            assert_eq!(open(&records, Mode::Local, Purpose::Copy).await.unwrap().state, state);
        }
    }
}
