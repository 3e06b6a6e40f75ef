//! Whether the audit is what was written: each batch is read, and each chain followed from batch to batch.
//!
//! A chain binds what lies before its end. What was cut off behind it, or a whole chain that was taken out, shows only by a head
//! that somebody kept elsewhere.

use std::collections::{BTreeMap, HashMap};

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use storage::{
    Generation,
    key::{self, AuditBatch, Prefix},
};

use super::{
    batch::{Link, Opening, hash, lines},
    event::{Event, Happened, PartyKind},
};
use crate::{
    error::Error,
    installation::Auth,
    principal::Actor,
    refusal::{Reason, Refusal},
};

/// The end of a chain, to be kept where whoever can write the store cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Whose audit.
    #[serde(rename = "gen")]
    pub generation: Generation,
    /// The batch, by its name.
    pub batch: String,
    /// SHA-256 of its bytes, hex.
    pub sha256: String,
}

/// Where the audit is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Break {
    /// The batch at which it shows.
    pub batch: String,
    /// What is wrong there.
    pub what: String,
}

/// What was found in one audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Whose audit.
    #[serde(rename = "gen")]
    pub generation: Generation,
    /// Chains: one for each process that wrote.
    pub chains: usize,
    /// Batches.
    pub batches: u64,
    /// Events.
    pub events: u64,
    /// Events that were lost before they were written, because too many waited.
    pub lost: u64,
    /// Everything before this day was removed because its time was over; `null`: nothing was.
    pub kept_from: Option<NaiveDate>,
    /// The first place, by name and so by time, where something is wrong.
    #[serde(rename = "break")]
    pub broken: Option<Break>,
    /// The ends of the chains.
    #[serde(skip)]
    pub heads: Vec<Head>,
}

/// Batches that are looked up at once.
const PAGE: usize = 100;
/// Batches that are read at once.
const AT_ONCE: usize = 8;

/// What has been seen of an audit.
struct Seen<'a> {
    verified: Verified,
    /// The end of each chain so far: its number and itself.
    ends: HashMap<String, (u64, Link)>,
    /// The given heads that were not met yet.
    heads: BTreeMap<&'a str, &'a str>,
    /// Batches that another one names and that are not there.
    missing: Vec<(AuditBatch, String)>,
    broken: Vec<Break>,
}

impl Seen<'_> {
    fn broken(&mut self, batch: &str, what: impl Into<String>) {
        self.broken.push(Break { batch: batch.to_owned(), what: what.into() });
    }
}

impl Auth {
    /// Reads an audit whole and says whether it is what was written, also by the `heads` that were kept of it; on the store only.
    pub async fn verify_audit(
        &self,
        actor: &Actor,
        generation: &Generation,
        heads: &[Head],
    ) -> Result<Verified, Error> {
        if !matches!(actor, Actor::Store) {
            return Err(Refusal::Denied(Reason::Operator).into());
        }
        let mut seen = Seen {
            verified: Verified {
                generation: generation.clone(),
                chains: 0,
                batches: 0,
                events: 0,
                lost: 0,
                kept_from: None,
                broken: None,
                heads: Vec::new(),
            },
            ends: HashMap::new(),
            heads: heads
                .iter()
                .filter(|head| head.generation == *generation)
                .map(|head| (head.batch.as_str(), head.sha256.as_str()))
                .collect(),
            missing: Vec::new(),
            broken: Vec::new(),
        };
        let prefix = key::audits(generation);
        let mut after: Option<String> = None;
        loop {
            let entries = self.records.page(&prefix, after.as_deref(), PAGE).await?;
            for entries in entries.chunks(AT_ONCE) {
                let keys: Vec<_> = entries.iter().map(|entry| prefix.plain(&entry.name)).collect();
                let reads = futures::future::try_join_all(keys.iter().map(|key| self.records.get_plain(key))).await?;
                for (entry, found) in entries.iter().zip(reads) {
                    // One that is gone since the page was read was swept.
                    if let Some(found) = found {
                        self.follow_chain(&prefix, &entry.name, &found.body, &mut seen).await?;
                    }
                }
            }
            if entries.len() < PAGE {
                break;
            }
            after = entries.last().map(|entry| entry.name.clone());
        }
        Ok(seen.verdict())
    }

    /// Looks at one batch, in the order of their names.
    async fn follow_chain(&self, prefix: &Prefix, name: &str, body: &[u8], seen: &mut Seen<'_>) -> Result<(), Error> {
        seen.verified.batches += 1;
        let own = hash(body);
        if let Some(kept) = seen.heads.remove(name)
            && kept != own
        {
            seen.broken(name, "it is not what the head names");
        }
        let Some(batch) = AuditBatch::parse(name) else {
            seen.broken(name, "this is no batch of an audit");
            return Ok(());
        };
        let Some((opening, rest)) = Opening::read(body) else {
            seen.broken(name, "its first line cannot be read");
            return Ok(());
        };
        if opening.generation != seen.verified.generation || opening.batch != name {
            seen.broken(name, format!("it is batch {} of {}", opening.batch, opening.generation));
            return Ok(());
        }
        seen.verified.lost += opening.lost;
        for (i, line) in lines(rest).enumerate() {
            match serde_json::from_slice::<Event>(line) {
                Ok(event) => {
                    seen.verified.events += 1;
                    seen.note_sweep(&event);
                }
                Err(_) => seen.broken(name, format!("line {} cannot be read", i + 2)),
            }
        }
        let end = seen.ends.get(batch.chain());
        if end.is_some_and(|(seq, _)| *seq >= batch.seq()) {
            seen.broken(name, format!("its chain has a batch {} already", batch.seq()));
            return Ok(());
        }
        match &opening.previous {
            None if batch.seq() == 0 => {}
            None => seen.broken(name, "it begins a chain in its middle"),
            Some(previous) if end.is_some_and(|(_, link)| link == previous) => {}
            Some(previous) => {
                let named = AuditBatch::parse(&previous.batch)
                    .filter(|named| named.chain() == batch.chain() && named.seq() + 1 == batch.seq());
                let found = self.records.get_plain(&prefix.plain(&previous.batch)).await?;
                match (named, found) {
                    (None, _) => seen.broken(name, "the batch that it names before it is none of its chain"),
                    // It came while the page before was read.
                    (Some(_), Some(found)) if hash(&found.body) == previous.sha256 => {}
                    (Some(_), Some(_)) => {
                        seen.broken(&previous.batch, format!("it was changed: {name} names another content"));
                    }
                    (Some(named), None) => seen.missing.push((named, name.to_owned())),
                }
            }
        }
        let link = Link { batch: name.to_owned(), sha256: own };
        seen.ends.insert(batch.chain().to_owned(), (batch.seq(), link));
        Ok(())
    }
}

impl Seen<'_> {
    fn note_sweep(&mut self, event: &Event) {
        if event.event == Happened::AuditSweep.as_str() && event.actor.kind == PartyKind::Registry {
            let day = event.target.as_deref().and_then(|day| day.parse::<NaiveDate>().ok());
            self.verified.kept_from = self.verified.kept_from.max(day);
        }
    }

    fn verdict(mut self) -> Verified {
        let kept = self.verified.kept_from;
        let gone = |batch: &AuditBatch| kept.is_none_or(|kept| batch.day() >= kept);
        for (batch, by) in std::mem::take(&mut self.missing) {
            if gone(&batch) {
                self.broken(&batch.to_string(), format!("it is missing: {by} names it"));
            }
        }
        for (name, _) in std::mem::take(&mut self.heads) {
            if AuditBatch::parse(name).is_none_or(|batch| gone(&batch)) {
                self.broken(name, "it is missing: the head names it");
            }
        }
        self.verified.chains = self.ends.len();
        self.verified.broken = self.broken.into_iter().min_by(|a, b| a.batch.cmp(&b.batch));
        let generation = &self.verified.generation;
        let head =
            |(_, link): (u64, Link)| Head { generation: generation.clone(), batch: link.batch, sha256: link.sha256 };
        let mut heads: Vec<_> = self.ends.into_values().map(head).collect();
        heads.sort_by(|a, b| a.batch.cmp(&b.batch));
        self.verified.heads = heads;
        self.verified
    }
}
