//! `sys/replicas/<id>`: each running server says that it is there, so that a command on the store knows under which name clients
//! reach it.
//!
//! A hint and no lease: nothing is decided by it that could hurt, and a server that was killed leaves its entry behind for a day.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use chrono::TimeDelta;
use config::{HostName, PublicUrl};
use serde::{Deserialize, Serialize};
use storage::{
    Clock, Error, Time,
    backend::Records,
    key,
    record::{self, Document},
};

use crate::{hosts::Hosts, server::shutdown::Tasks};

/// How often a server says that it is there.
const EVERY: Duration = Duration::from_mins(1);
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
    last_seen: Time,
}

/// Says that this server is there, now and until the order to stop, then takes it back.
pub(crate) async fn announce(
    tasks: &Tasks,
    records: Arc<dyn Records>,
    clock: Arc<dyn Clock>,
    address: SocketAddr,
    hosts: &Hosts,
    read_only: bool,
) {
    let own = Replica {
        release: env!("CARGO_PKG_VERSION").to_owned(),
        address,
        canonical: hosts.canonical().to_string(),
        account_domain: hosts.account_domain().map(ToString::to_string),
        read_only,
        last_seen: clock.now(),
    };
    let id = storage::random_text(16);
    let mut written: Option<Document<Replica>> = None;
    try_to_say(&*records, &id, &own, &mut written, clock.now()).await;
    let stop = tasks.stop().clone();
    tasks.spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = stop.cancelled() => break,
            }
            try_to_say(&*records, &id, &own, &mut written, clock.now()).await;
        }
        if let Some(document) = written
            && let Err(error) = records.remove(&key::replica(&id), document.version()).await
        {
            tracing::debug!(error = &error as &dyn std::error::Error, "the entry of this server stays for a day");
        }
    });
}

/// A server without its entry serves as well; the next minute brings another try.
async fn try_to_say(
    records: &dyn Records,
    id: &str,
    own: &Replica,
    written: &mut Option<Document<Replica>>,
    now: Time,
) {
    if let Err(error) = say(records, id, own, written, now).await {
        tracing::debug!(error = &error as &dyn std::error::Error, "this server could not say that it is there");
    }
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
