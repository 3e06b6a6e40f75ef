//! `hythe audit tail|export|verify`: what was done, through a server with a key, or on the store itself.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use auth::{
    Actor, Event, Page,
    audit::{Head, Verified, csv},
};
use chrono::{SecondsFormat, TimeDelta};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;
use storage::{AccountName, Clock, Generation, Time};

use super::{
    Failure,
    account::On,
    credential::{Place, Where},
    output::json,
    server::encoded,
    store::{OnStore, all, time},
};

#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// Show what was done lately, and with --follow what is done from now on
    Tail(Tail),
    /// Print every line, or the heads of its chains
    Export(Export),
    /// Check on the store that nothing was changed or taken out
    Verify(Verify),
}

#[derive(Debug, Args)]
pub(super) struct Tail {
    /// The account; without one the installation's own audit, which needs an operator key or the store
    account: Option<AccountName>,
    /// Begin then (default: an hour ago)
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Time>,
    /// Go on until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Form of a line
    #[arg(long, value_enum, default_value_t)]
    output: Line,
    #[command(flatten)]
    place: Where,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    /// The account; without one the installation's own audit, with --heads every audit
    account: Option<AccountName>,
    /// Begin then (default: with the first line)
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Time>,
    /// Form of a line
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Print the ends of the chains, for verify --head; on the store
    #[arg(long, conflicts_with_all = ["since", "format"])]
    heads: bool,
    #[command(flatten)]
    place: Where,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The account (default: every audit of the store, deleted accounts' among them)
    account: Option<AccountName>,
    /// Heads that were kept elsewhere (export --heads)
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    #[command(flatten)]
    on: On,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Line {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    #[default]
    Jsonl,
    Csv,
}

/// How often a follower asks.
const EVERY: Duration = Duration::from_secs(1);
/// How far back a follower asks again: what another replica wrote meanwhile may be that much older than what was shown last.
const AGAIN: TimeDelta = TimeDelta::seconds(5);
/// Lines of a page on the store.
const LINES: usize = 1000;

pub(super) async fn run(command: Audit, clock: Arc<dyn Clock>) -> Result<(), Failure> {
    match command {
        Audit::Tail(command) => {
            let since = command.since.unwrap_or_else(|| clock.now() - TimeDelta::hours(1));
            let audit = Source { place: command.place.open(clock).await?, account: command.account };
            tail(&audit, since, command.follow, command.output).await
        }
        Audit::Export(command) if command.heads => {
            let Place::Store(store) = command.place.open(clock).await? else {
                return Err(Failure::Usage("heads are read on the store: name it with --data or --store".to_owned()));
            };
            heads(&store, command.account.as_ref()).await
        }
        Audit::Export(command) => {
            let audit = Source { place: command.place.open(clock).await?, account: command.account };
            export(&audit, command.since, command.format).await
        }
        Audit::Verify(command) => verify(command, clock).await,
    }
}

/// An audit that can be read.
struct Source {
    place: Place,
    account: Option<AccountName>,
}

impl Source {
    async fn page(&self, since: Option<Time>, after: Option<String>) -> Result<(Vec<Event>, Option<String>), Failure> {
        match &self.place {
            Place::Store(store) => {
                let page = Page { after, limit: LINES };
                let listing = match &self.account {
                    Some(account) => store.auth.audit(&Actor::Store, account, since, &page).await?,
                    None => store.auth.installation_audit(&Actor::Store, since, &page).await?,
                };
                Ok((listing.items, listing.next))
            }
            Place::Server(server) => {
                let mut path = match &self.account {
                    Some(account) => format!("/accounts/{account}/audit?limit=100"),
                    None => "/audit?limit=100".to_owned(),
                };
                for (name, value) in [("since", since.map(stamp)), ("next_token", after)] {
                    if let Some(value) = value {
                        path = format!("{path}&{name}={}", encoded(&value));
                    }
                }
                let mut page = server.get(&path).await?;
                let next = page.get("next_token").and_then(Value::as_str).map(str::to_owned);
                let items = page.get_mut("items").map(Value::take).unwrap_or_default();
                let items = serde_json::from_value(items)
                    .map_err(|error| Failure::Failed(format!("the server's audit cannot be read: {error}")))?;
                Ok((items, next))
            }
        }
    }
}

/// A time to the millisecond, as lines have it.
fn stamp(at: Time) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Prints a text; false once nobody reads any more.
fn print(text: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        done => done.map(|()| true),
    }
}

async fn tail(audit: &Source, mut since: Time, follow: bool, form: Line) -> Result<(), Failure> {
    // What was shown of the time that is asked for again.
    let mut shown: BTreeSet<(Time, String)> = BTreeSet::new();
    let mut looks = tokio::time::interval(EVERY);
    loop {
        looks.tick().await;
        let mut after = None;
        loop {
            let (events, next) = audit.page(Some(since), after).await?;
            for event in events {
                let line = json(&event)?;
                let text = match form {
                    Line::Text => told(&event),
                    Line::Json => line.clone(),
                };
                if shown.insert((event.ts, line)) && !print(&(text + "\n"))? {
                    return Ok(());
                }
            }
            after = next;
            if after.is_none() {
                break;
            }
        }
        if !follow {
            return Ok(());
        }
        let newest = shown.last().map(|(at, _)| *at - AGAIN);
        since = newest.map_or(since, |newest| newest.max(since));
        shown = shown.split_off(&(since, String::new()));
    }
}

/// A line for people.
fn told(event: &Event) -> String {
    let actor = &event.actor;
    let who = actor.label.as_deref().or(actor.id.as_deref()).map(|name| format!(" {name}")).unwrap_or_default();
    let part = |before: &str, text: Option<String>| text.map(|text| format!("{before}{text}")).unwrap_or_default();
    format!(
        "{} {}{} by {}{who}{}{}",
        stamp(event.ts),
        event.event,
        part(" ", event.target.clone()),
        actor.kind.as_str(),
        part(" from ", event.ip.map(|ip| ip.to_string())),
        part(": ", event.reason.clone()),
    )
}

async fn export(audit: &Source, since: Option<Time>, format: Format) -> Result<(), Failure> {
    let mut reads = match format {
        Format::Csv => print(&csv::heading())?,
        Format::Jsonl => true,
    };
    let mut after = None;
    while reads {
        let (events, next) = audit.page(since, after).await?;
        let mut text = String::new();
        for event in &events {
            match format {
                Format::Csv => text += &csv::event(event),
                Format::Jsonl => {
                    text += &json(event)?;
                    text.push('\n');
                }
            }
        }
        after = next;
        reads = print(&text)? && after.is_some();
    }
    Ok(())
}

/// An audit, and what people call it.
type Named = (Generation, String);

/// The audit of an account, or every one.
async fn audits(store: &OnStore, account: Option<&AccountName>) -> Result<Vec<Named>, Failure> {
    if let Some(name) = account {
        let found = store.auth.resolve(name).await?;
        let found = found.ok_or(auth::Error::NotFound { what: "account" })?;
        return Ok(vec![(found.generation().clone(), name.to_string())]);
    }
    let listed = all(async |page| store.auth.audited(page).await).await?;
    let own = (Generation::installation(), "the installation".to_owned());
    let accounts = listed.into_iter().map(|(generation, name)| {
        let told = format!("account {name} ({generation})");
        (generation, told)
    });
    Ok(std::iter::once(own).chain(accounts).collect())
}

/// What an audit that is not whole makes of a command.
fn not_whole(broken: &[String]) -> Result<(), Failure> {
    let Some(first) = broken.first() else { return Ok(()) };
    let more = if broken.len() > 1 { format!("; and {} more audits", broken.len() - 1) } else { String::new() };
    Err(Failure::Failed(format!("not what was written: {first}{more}")))
}

fn broken(name: &str, verified: &Verified) -> Option<String> {
    verified.broken.as_ref().map(|broken| format!("{name}, batch {}: {}", broken.batch, broken.what))
}

async fn heads(store: &OnStore, account: Option<&AccountName>) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    for (generation, name) in audits(store, account).await? {
        let verified = store.auth.verify_audit(&Actor::Store, &generation, &[]).await?;
        wrong.extend(broken(&name, &verified));
        let lines = verified.heads.iter().map(|head| Ok(json(head)? + "\n")).collect::<io::Result<String>>()?;
        if !print(&lines)? {
            return Ok(());
        }
    }
    not_whole(&wrong)
}

#[expect(clippy::disallowed_methods, reason = "the command line reads the file that it was given")]
fn kept(path: &Path) -> Result<Vec<Head>, Failure> {
    let wrong = |what: String| Failure::Usage(format!("--head: {}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let heads = text.lines().filter(|line| !line.trim().is_empty()).map(serde_json::from_str);
    let heads: Vec<Head> = heads.collect::<Result<_, _>>().map_err(|error| wrong(error.to_string()))?;
    // An empty file proves nothing, and must not look as if it did.
    if heads.is_empty() { Err(wrong("no head stands in it".to_owned())) } else { Ok(heads) }
}

async fn verify(command: Verify, clock: Arc<dyn Clock>) -> Result<(), Failure> {
    let heads = command.head.as_deref().map(kept).transpose()?.unwrap_or_default();
    let store = OnStore::open(&command.on.settings, clock).await?;
    let mut audits = audits(&store, command.account.as_ref()).await?;
    if command.account.is_none() {
        // An audit whose account left no trace is still one that a head tells of.
        for head in &heads {
            if !audits.iter().any(|(generation, _)| *generation == head.generation) {
                audits.push((head.generation.clone(), head.generation.to_string()));
            }
        }
    }
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    for (generation, name) in audits {
        let verified = store.auth.verify_audit(&Actor::Store, &generation, &heads).await?;
        wrong.extend(broken(&name, &verified));
        rows.push((name, verified));
    }
    let documents: Vec<&Verified> = rows.iter().map(|(_, verified)| verified).collect();
    command.on.output.print(&documents, |_| {
        let line = |(name, verified): &(String, Verified)| {
            let Verified { chains, batches, events, lost, kept_from, .. } = verified;
            let kept = kept_from.map(|day| format!(", kept from {day} on")).unwrap_or_default();
            let lost = if *lost > 0 { format!(", {lost} lost before they were written") } else { String::new() };
            let end = if verified.broken.is_some() { "NOT what was written" } else { "as it was written" };
            format!("{name}: {events} events, {batches} batches, {chains} chains{kept}{lost}: {end}")
        };
        rows.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    not_whole(&wrong)
}
