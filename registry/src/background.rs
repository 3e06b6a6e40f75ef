//! The clockwork: what goes on beside the requests, and when.
//!
//! | what | when |
//! | --- | --- |
//! | the day of last use of keys and credentials is written | every minute, and at the stop |
//! | a step of the signing keys' rotation, if one is due | every minute |
//! | credentials that ended more than a week ago are removed | once a day, an hour after the start for the first time |
//!
//! A read-only server does none of it. Replicas need no agreement: each step may be done twice and harms nobody.

use std::{sync::Arc, time::Duration};

use auth::{Actor, Auth, Page};

use crate::server::shutdown::Tasks;

const LAST_USE: Duration = Duration::from_mins(1);
const KEYS: Duration = Duration::from_mins(1);
const FIRST_SWEEP: Duration = Duration::from_hours(1);
const SWEEP: Duration = Duration::from_hours(24);

/// Starts the clockwork; it ends with the order to stop.
pub(crate) fn start(tasks: &Tasks, auth: &Arc<Auth>) {
    let (stop, uses) = (tasks.stop().clone(), Arc::clone(auth));
    tasks.spawn(async move {
        let mut running = true;
        while running {
            tokio::select! {
                () = tokio::time::sleep(LAST_USE) => {}
                () = stop.cancelled() => running = false,
            }
            if let Err(error) = uses.write_last_use().await {
                tracing::warn!(error = &error as &dyn std::error::Error, "the day of last use was not written");
            }
        }
    });
    let (stop, keys) = (tasks.stop().clone(), Arc::clone(auth));
    tasks.spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(KEYS) => {}
                () = stop.cancelled() => break,
            }
            if let Err(error) = keys.turn_signing_keys().await {
                tracing::warn!(error = &error as &dyn std::error::Error, "the signing keys were not turned");
            }
        }
    });
    let (stop, auth) = (tasks.stop().clone(), Arc::clone(auth));
    tasks.spawn(async move {
        let mut pause = FIRST_SWEEP;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => break,
            }
            pause = SWEEP;
            tokio::select! {
                swept = sweep(&auth) => if let Err(error) = swept {
                    tracing::warn!(error = &error as &dyn std::error::Error, "ended credentials were not all removed");
                },
                () = stop.cancelled() => break,
            }
        }
    });
}

/// One round over every account.
async fn sweep(auth: &Auth) -> Result<(), auth::Error> {
    let mut page = Page { after: None, limit: 100 };
    loop {
        let accounts = auth.list_accounts(&Actor::Store, &page).await?;
        for account in accounts.items {
            let Some(account) = auth.resolve(&account.name).await? else { continue };
            let mut after = None;
            loop {
                after = auth.sweep_credentials(&account, after.as_deref()).await?;
                if after.is_none() {
                    break;
                }
            }
        }
        page.after = accounts.next;
        if page.after.is_none() {
            return Ok(());
        }
    }
}
