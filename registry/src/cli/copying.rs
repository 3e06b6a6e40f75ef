//! What `backup`, `restore` and `move` share: their two stores, and what they say.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::TimeDelta;
use clap::Args;
use config::Store;
use parking_lot::Mutex;
use serde::Serialize;
use storage::{
    Clock, Error,
    copy::{Aim, Copier, Half, Options, Report, Told},
    format::{self, State},
};

use super::{Failure, output, settings::Settings, store::log};
use crate::open::{self, Opened};

/// How often a person at the terminal is told how far it is.
const TOLD: Duration = Duration::from_secs(10);
/// What is listed; a store that is this badly damaged is not repaired line by line.
const LISTED: usize = 10_000;
/// The variables that name buckets and their credentials.
const PROVIDERS: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// Another store than the one that the settings name.
#[derive(Debug, Clone, Args)]
pub(super) struct Other {
    /// Where the records of that bucket are, if it has no conditional writes
    #[arg(long, value_name = "sqlite:FILE")]
    other_records: Option<String>,
}

/// A store as it is named on the command line.
pub(super) fn named(text: &str, other: &Other) -> Result<Store, Failure> {
    let records = match &other.other_records {
        None => None,
        Some(text) => match text.strip_prefix("sqlite:").filter(|path| !path.is_empty()) {
            Some(path) => Some(PathBuf::from(path)),
            None => return Err(Failure::Usage("--other-records: expected a SQLite file, like sqlite:FILE".into())),
        },
    };
    if !text.contains("://") {
        return match records {
            None => Ok(Store::Folder(text.into())),
            Some(_) => {
                Err(Failure::Usage("--other-records belongs to a bucket; a folder has records of its own".into()))
            }
        };
    }
    let url = url::Url::parse(text).ok().filter(url::Url::has_host);
    let url = url.filter(|url| url.password().is_none() && url.username().is_empty());
    let url = url.ok_or_else(|| {
        Failure::Usage(
            "expected a folder, or the address of a bucket without credentials, like s3://bucket/prefix".into(),
        )
    })?;
    Ok(Store::Remote { url, records })
}

/// The variables for the other store: those that begin with `prefix`, if there is any that names a provider; else the usual ones.
fn environment(prefix: &str) -> Vec<(String, String)> {
    let all = open::environment();
    let provider = |name: &str| PROVIDERS.iter().any(|provider| name.starts_with(provider));
    let own: Vec<_> = all
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(prefix)?.to_owned(), value.clone())))
        .filter(|(name, _)| provider(name))
        .collect();
    if own.is_empty() { all } else { own }
}

/// Which of the two stores the settings name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    Source,
    Target,
}

/// Two open stores.
pub(super) struct Ends {
    pub(super) source: Half,
    pub(super) target: Half,
    modes: (format::Mode, format::Mode),
    place: String,
    /// Held for the target's lock, which keeps servers away.
    _opened: (Opened, Opened),
}

impl Ends {
    /// Opens both. The source may be served; the target must not be.
    pub(super) async fn open(
        settings: &Settings<false>,
        settled: Settled,
        other: Store,
        prefix: &str,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, Failure> {
        let config = settings.load()?;
        log(&config)?;
        let own = (config.store, open::environment());
        let other = (other, environment(prefix));
        let (source, target) = if settled == Settled::Source { (own, other) } else { (other, own) };
        let (place, target_place) = (place(&source.0, &source.1), place(&target.0, &target.1));
        if place == target_place {
            return Err(Failure::Usage("source and target are the same store".into()));
        }
        there(&source.0)?;
        let from = open::halves(&source.0, false, source.1, Arc::clone(clock)).await?;
        let modes = (open::mode(&source.0), open::mode(&target.0));
        format::existing(&*from.records, modes.0).await?;
        let to = open::halves(&target.0, true, target.1, Arc::clone(clock)).await?;
        let half = |opened: &Opened| Half { records: Arc::clone(&opened.records), bytes: Arc::clone(&opened.bytes) };
        Ok(Self { source: half(&from), target: half(&to), modes, place, _opened: (from, to) })
    }

    /// The state of the source.
    pub(super) async fn state(&self) -> Result<State, Error> {
        format::state(&*self.source.records).await
    }

    /// Begins a copy, or goes on with one.
    pub(super) async fn copier<'a>(
        &'a self,
        aim: Aim,
        heard: &'a Heard,
        clock: &'a dyn Clock,
    ) -> Result<Copier<'a>, Error> {
        let options = Options {
            aim,
            source_mode: self.modes.0,
            target_mode: self.modes.1,
            place: &self.place,
            promise_life: promise_life(),
            told: &heard.tell,
        };
        Copier::begin(&self.source, &self.target, clock, options).await
    }
}

/// The source alone.
pub(super) async fn source(settings: &Settings<false>, clock: Arc<dyn Clock>) -> Result<Opened, Failure> {
    let config = settings.load()?;
    log(&config)?;
    there(&config.store)?;
    Ok(open::halves(&config.store, false, open::environment(), clock).await?)
}

fn promise_life() -> TimeDelta {
    storage::Lives::default().promise
}

/// A source is not made by opening it.
fn there(store: &Store) -> Result<(), Failure> {
    let file = match store {
        Store::Folder(path) => path.join("records.db"),
        Store::Remote { records: Some(path), .. } => path.clone(),
        Store::Remote { records: None, .. } => return Ok(()),
    };
    if file.try_exists().unwrap_or(false) {
        return Ok(());
    }
    Err(Failure::Failed(format!("there is no registry here: {} does not exist", file.display())))
}

/// Where a store is, so that the same one is known again.
fn place(store: &Store, environment: &[(String, String)]) -> String {
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned()).display().to_string();
    match store {
        Store::Folder(path) => whole(path),
        Store::Remote { url, records } => {
            let endpoint = environment.iter().find(|(name, _)| name.ends_with("_ENDPOINT")).map(|(_, value)| value);
            let records = records.as_deref().map(whole).unwrap_or_default();
            format!("{url} {} {records}", endpoint.map(String::as_str).unwrap_or_default())
        }
    }
}

/// What was said of damage and the like.
pub(super) struct Heard {
    lines: Arc<Mutex<Vec<Told>>>,
    tell: Box<dyn Fn(Told) + Send + Sync>,
}

impl Heard {
    pub(super) fn new() -> Self {
        let lines: Arc<Mutex<Vec<Told>>> = Arc::default();
        let into = Arc::clone(&lines);
        let tell = Box::new(move |told: Told| {
            let mut lines = into.lock();
            if lines.len() < LISTED {
                lines.push(told);
            }
        });
        Self { lines, tell }
    }
}

/// What a command has done.
#[derive(Debug, Serialize)]
pub(super) struct Copied {
    #[serde(flatten)]
    pub(super) report: Report,
    told: Vec<Told>,
}

impl Copied {
    pub(super) fn new(copier: &Copier<'_>, heard: &Heard) -> Self {
        Self { report: copier.report(), told: heard.lines.lock().clone() }
    }

    pub(super) fn text(&self) -> String {
        let Report { repositories, records, removed, blobs, bytes, left_out, problems } = self.report;
        let mut lines: Vec<String> = self.told.iter().map(|told| format!("{}: {}", told.place, told.what)).collect();
        lines.push(format!(
            "{blobs} blobs ({bytes} bytes) and {records} records copied, {removed} removed, {repositories} repositories \
             looked at: {left_out} left out, {problems} problems"
        ));
        lines.join("\n")
    }

    /// The end of a command: 1 if anything is damaged.
    pub(super) fn end(&self) -> Result<(), Failure> {
        match self.report.problems {
            0 => Ok(()),
            n => Err(Failure::Failed(format!(
                "{n} problems found in the source; the rest was copied. Push the named content again, or delete it"
            ))),
        }
    }
}

/// Works, and says meanwhile how far it is.
pub(super) async fn watched<T>(copier: &Copier<'_>, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let tell = async {
        loop {
            tokio::time::sleep(TOLD).await;
            if output::terminal() {
                let Report { blobs, bytes, records, repositories, .. } = copier.report();
                output::say(&format!("{blobs} blobs ({bytes} bytes), {records} records, {repositories} repositories"));
            }
        }
    };
    tokio::select! {
        done = work => done,
        () = tell => Err(Error::Conflict),
    }
}
