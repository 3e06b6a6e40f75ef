//! `sys/replicas/<id>`: each running server says that it is there, so that a command on the store knows under which name clients
//! reach it.
//!
//! A hint and no lease: nothing is decided by it that could hurt, and a server that was killed leaves its entry behind for a day.
//!
//! Each server also looks every other second whether the store is being moved. If it is, the server refuses every write, and when
//! none is under way any more it says so here; the move waits for that. When the store was moved away, the server ends.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use chrono::TimeDelta;
use config::{HostName, PublicUrl};
use serde::{Deserialize, Serialize};
use storage::{
    Clock, Error, Time,
    backend::Records,
    format::{self, State},
    gate::Gate,
    key,
    record::{self, Document},
};
use tokio_util::sync::CancellationToken;

use crate::{hosts::Hosts, server::shutdown::Tasks};

/// How often a server says that it is there.
const EVERY: Duration = Duration::from_mins(1);
/// How often it looks whether the store is being moved.
const LOOK: Duration = Duration::from_secs(2);
/// A server that was not heard of for so long is not waited for.
const SILENT: TimeDelta = TimeDelta::minutes(3);
/// After how long without a word an entry may be removed by anybody.
const FORGOTTEN: TimeDelta = TimeDelta::days(1);
/// Most entries that are looked at: an installation has tens of servers, and each looks after the dead ones.
const LOOKED_AT: usize = 100;

/// One running server.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Replica {
    release: String,
    address: SocketAddr,
    canonical: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account_domain: Option<String>,
    read_only: bool,
    /// It has seen that the store is being moved, and writes nothing any more.
    #[serde(default)]
    frozen: bool,
    last_seen: Time,
}

/// What is in front of the records, and whether that is known to everybody.
#[derive(Debug)]
struct Frozen {
    gate: Gate,
    /// What this server has said last.
    said: bool,
    /// The gate was closed when the store was opened; it stays so.
    from_the_start: bool,
}

impl Frozen {
    /// Looks at the store's word and obeys it. `Err(Moved)` when the store is not here any more.
    async fn look(&self, records: &dyn Records) -> Result<(), Moved> {
        match format::state(records).await {
            Ok(State::Moving) if !self.gate.is_closed() => {
                self.gate.close().await;
                tracing::warn!("this store is being moved: everything but reads is refused until that has ended");
            }
            Ok(State::Open) if self.gate.is_closed() && !self.from_the_start => {
                self.gate.open();
                tracing::warn!("this store is not being moved any more: writes are taken again");
            }
            Ok(State::Moved) => {
                self.gate.close().await;
                return Err(Moved);
            }
            Ok(_) | Err(_) => {}
        }
        Ok(())
    }
}

/// The store was moved away.
#[derive(Debug)]
struct Moved;

/// Says that this server is there, now and until the order to stop, then takes it back.
pub(crate) async fn announce(
    tasks: &Tasks,
    records: Arc<dyn Records>,
    clock: Arc<dyn Clock>,
    gate: &Gate,
    address: SocketAddr,
    hosts: &Hosts,
    read_only: bool,
) -> CancellationToken {
    let closed = gate.is_closed();
    let mut frozen = Frozen { gate: gate.clone(), said: closed, from_the_start: closed };
    let own = Replica {
        release: env!("CARGO_PKG_VERSION").to_owned(),
        address,
        canonical: hosts.canonical().to_string(),
        account_domain: hosts.account_domain().map(ToString::to_string),
        read_only,
        frozen: closed,
        last_seen: clock.now(),
    };
    let id = storage::random_text(16);
    let mut written: Option<Document<Replica>> = None;
    try_to_say(&*records, &id, &own, &mut written, clock.now()).await;
    let stop = tasks.stop().clone();
    let moved = CancellationToken::new();
    let tell = moved.clone();
    tasks.spawn(async move {
        let mut said = clock.elapsed();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => break,
            }
            if let Err(Moved) = frozen.look(&*records).await {
                tell.cancel();
            }
            let now = frozen.gate.is_closed();
            if now == frozen.said && clock.elapsed().saturating_sub(said) < EVERY {
                continue;
            }
            let own = Replica { frozen: now, ..own.clone() };
            if try_to_say(&*records, &id, &own, &mut written, clock.now()).await {
                frozen.said = now;
            }
            said = clock.elapsed();
        }
        if let Some(document) = written
            && let Err(error) = records.remove(&key::replica(&id), document.version()).await
        {
            tracing::debug!(error = &error as &dyn std::error::Error, "the entry of this server stays for a day");
        }
    });
    moved
}

/// A server without its entry serves as well; the next minute brings another try.
async fn try_to_say(
    records: &dyn Records,
    id: &str,
    own: &Replica,
    written: &mut Option<Document<Replica>>,
    now: Time,
) -> bool {
    let said = say(records, id, own, written, now).await;
    if let Err(error) = &said {
        tracing::debug!(error = error as &dyn std::error::Error, "this server could not say that it is there");
    }
    said.is_ok()
}

/// Writes the entry, and removes those of servers that were killed long ago.
async fn say(
    records: &dyn Records,
    id: &str,
    own: &Replica,
    written: &mut Option<Document<Replica>>,
    now: Time,
) -> Result<(), Error> {
    let entry = Replica { last_seen: now, ..own.clone() };
    match written {
        Some(document) => {
            document.value = entry;
            record::update(records, &key::replica(id), document).await?;
        }
        None => *written = Some(record::create(records, &key::replica(id), entry).await?),
    }
    for (name, document) in entries(records).await? {
        if now - document.value.last_seen > FORGOTTEN {
            match records.remove(&key::replica(&name), document.version()).await {
                Ok(()) | Err(Error::Conflict) => {}
                Err(other) => return Err(other),
            }
        }
    }
    Ok(())
}

async fn entries(records: &dyn Records) -> Result<Vec<(String, Document<Replica>)>, Error> {
    let mut found = Vec::new();
    for row in records.page(&key::replicas(), None, LOOKED_AT).await? {
        if let Some(document) = record::read::<Replica>(records, &key::replica(&row.name)).await? {
            found.push((row.name, document));
        }
    }
    Ok(found)
}

/// The addresses of the servers that were heard of within the last minutes: those that have said that they write nothing any more,
/// and the others.
pub(crate) async fn standing(records: &dyn Records, now: Time) -> Result<(Vec<SocketAddr>, Vec<SocketAddr>), Error> {
    let all = entries(records).await?.into_iter().map(|(_, document)| document.value);
    let (frozen, others): (Vec<_>, Vec<_>) =
        all.filter(|replica| now - replica.last_seen <= SILENT).partition(|replica| replica.frozen);
    let addresses = |some: Vec<Replica>| some.into_iter().map(|replica| replica.address).collect();
    Ok((addresses(frozen), addresses(others)))
}

/// The canonical name and the account domain of the server that was heard of last, if any was within a day.
pub(crate) async fn last_names(
    records: &dyn Records,
    now: Time,
) -> Result<Option<(PublicUrl, Option<HostName>)>, Error> {
    let recent = entries(records).await?.into_iter().map(|(_, document)| document.value);
    let recent = recent.filter(|replica| now - replica.last_seen <= FORGOTTEN);
    let last = recent.max_by_key(|replica| replica.last_seen);
    Ok(last.and_then(|last| {
        Some((last.canonical.parse().ok()?, last.account_domain.and_then(|domain| domain.parse().ok())))
    }))
}
