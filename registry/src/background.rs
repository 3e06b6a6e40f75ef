//! The clockwork: what goes on beside the requests, and when.
//!
//! | what | when |
//! | --- | --- |
//! | the day of last use of keys and credentials is written | every minute, and at the stop |
//! | a step of the signing keys' rotation, if one is due | every minute |
//! | repositories whose deletion was ordered are deleted | at once, by the process that took the order; what a dead one left, at the start and within minutes |
//! | credentials and trust policies that ended more than a week ago are removed, and what is remembered of used tokens that are over | once a day, an hour after the start for the first time |
//! | what accounts came to use is added to this process's counters | every second, and at the stop |
//! | the day of last pulls is written | every second, and at the stop |
//! | tags and manifests go that their account's rules do not keep | at once where rules were changed, else once an hour, one repository after the other; after each it rests as long as that took |
//! | accounts are counted anew where the counters may have lost something | a slice a second of a round that begins an hour after the start and then once an hour; at once where a quota is compared for the first time |
//! | lines of the audit that wait are written | every second, as soon as an account has a whole batch, and at the stop |
//! | days of the audit whose time is over are removed | once a day, with the credentials |
//! | a repository whose mark is due is collected | looked for every four minutes, then one after the other |
//! | bytes in the trash that nobody uses are deleted | every four minutes |
//! | the next account's old uploads are given up, or what is left of it is swept if it was deleted | every four minutes one |
//! | the next repository is collected without a mark, once a day at most, and counted | every four minutes one |
//!
//! The last four take turns, a look a minute; after each slice of work its server rests 19 times as long.
//!
//! A read-only server writes its audit and does nothing else of it; every server looks at the log of ended rights once a second. Replicas need no agreement: each step may be done twice and harms nobody.

mod collection;

use std::{sync::Arc, time::Duration};

use auth::{Actor, Auth, Page};
use storage::{
    Clock, Store, repository,
    retention::{self, Retainer},
    usage::{self, Recounter, Turn},
};

use crate::{metrics::Metrics, server::shutdown::Tasks};

const LAST_USE: Duration = Duration::from_mins(1);
const AUDIT: Duration = Duration::from_secs(1);
/// How often it is asked whether rules were changed.
const RETENTION: Duration = Duration::from_secs(1);
const RETENTION_ROUND: Duration = Duration::from_hours(1);
const USAGE: Duration = Duration::from_secs(1);
/// Turns, a second each, between two rounds of recounting.
const RECOUNT: u64 = 3600;
const KEYS: Duration = Duration::from_mins(1);
const DELETIONS: Duration = Duration::from_mins(1);
const DELETIONS_AGAIN: Duration = Duration::from_secs(1);
const FIRST_SWEEP: Duration = Duration::from_hours(1);
const SWEEP: Duration = Duration::from_hours(24);

/// How often the log of ended rights is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Follows the log of ended rights until the last request has ended, on a read-only server too; it waits for nothing else that
/// goes on here.
pub(crate) fn follow(tasks: &Tasks, auth: &Arc<Auth>) {
    let auth = Arc::clone(auth);
    tasks.spawn_beside(async move {
        let mut away = false;
        loop {
            // A tenth more or less, so that replicas do not look all at once.
            let pause = LOOK.mul_f64(0.9 + 0.2 * rand::random::<f64>());
            let (looked, ()) = tokio::join!(auth.follow(), tokio::time::sleep(pause));
            let failed = looked.is_err();
            match looked {
                Ok(()) if away => {
                    tracing::warn!(stale_decisions = auth.stale_decisions(), "the log of ended rights is read again");
                }
                Err(error) if !away => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the log of ended rights cannot be read");
                }
                _ => {}
            }
            away = failed;
        }
    });
}

/// Starts the clockwork; it ends with the order to stop.
pub(crate) fn start(tasks: &Tasks, auth: &Arc<Auth>, store: &Store, clock: &Arc<dyn Clock>, metrics: &Metrics) {
    collection::start(tasks, store, clock, metrics);
    let (stop, work) = (tasks.stop().clone(), store.clone());
    tasks.spawn(async move {
        // What an earlier process of this server left is nobody else's.
        let mut all = true;
        loop {
            let pause = tokio::select! {
                pause = deletions(&work, all) => pause,
                () = stop.cancelled() => break,
            };
            all = false;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = work.woken() => {}
                () = stop.cancelled() => break,
            }
        }
    });
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
                    tracing::warn!(error = &error as &dyn std::error::Error, "what had ended was not all removed");
                },
                () = stop.cancelled() => break,
            }
        }
    });
}

/// Keeps the counters of what accounts use; after the order to stop they are written when the last request has ended.
pub(crate) fn count(tasks: &Tasks, store: &Store) {
    let (stop, work) = (tasks.stop().clone(), store.clone());
    tasks.spawn(async move {
        let mut away = false;
        loop {
            tokio::select! {
                () = tokio::time::sleep(USAGE) => {}
                () = stop.cancelled() => break,
            }
            let (written, noted) = tokio::join!(usage::flush(&work), retention::flush_pulls(&work));
            let written = written.and(noted);
            if let (Err(error), false) = (&written, away) {
                tracing::warn!(error = error as &dyn std::error::Error, "usage and last pulls wait for the store");
            }
            away = written.is_err();
        }
    });
    let (stop, work) = (tasks.stop().clone(), store.clone());
    tasks.spawn(async move {
        let (mut recounter, mut turns) = (Recounter::default(), 0_u64);
        loop {
            tokio::select! {
                () = tokio::time::sleep(USAGE) => {}
                () = stop.cancelled() => break,
            }
            turns += 1;
            if turns.is_multiple_of(RECOUNT) {
                recounter.begin_round();
            }
            match recounter.turn(&work).await {
                Ok(Turn::Made) => tracing::debug!("an account was counted anew"),
                // A store that is being moved is counted where it comes to.
                Ok(Turn::Counted | Turn::Settling | Turn::Moved | Turn::Idle) | Err(storage::Error::ReadOnly) => {}
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "an account was not counted anew");
                }
            }
        }
    });
}

/// Runs the rules of retention.
pub(crate) fn retain(tasks: &Tasks, store: &Store, clock: &Arc<dyn Clock>) {
    let (stop, work, clock) = (tasks.stop().clone(), store.clone(), Arc::clone(clock));
    tasks.spawn(async move {
        let (mut retainer, mut waited, mut rest) = (Retainer::default(), Duration::ZERO, RETENTION);
        loop {
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = stop.cancelled() => break,
            }
            waited += rest;
            if waited >= RETENTION_ROUND {
                waited = Duration::ZERO;
                retainer.begin_round();
            }
            let began = clock.elapsed();
            let turn = tokio::select! {
                turn = retainer.turn(&work) => turn,
                () = stop.cancelled() => break,
            };
            rest = match turn {
                Ok(retention::Turn::Passed(name, pass)) => {
                    if pass != retention::Pass::default() {
                        let retention::Pass { tags_removed, manifests_marked, manifests_removed } = pass;
                        tracing::info!(repository = %name, tags_removed, manifests_marked, manifests_removed, "rules were applied");
                    }
                    clock.elapsed().saturating_sub(began)
                }
                Ok(retention::Turn::Looked) => clock.elapsed().saturating_sub(began),
                Ok(retention::Turn::Idle) => RETENTION,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "rules were not applied");
                    RETENTION
                }
            };
        }
    });
}

/// Writes what is audited; after the order to stop it is written when the last request has ended.
pub(crate) fn audit(tasks: &Tasks, auth: &Arc<Auth>) {
    let (stop, auth) = (tasks.stop().clone(), Arc::clone(auth));
    tasks.spawn(async move {
        let mut away = false;
        loop {
            // While the store is away, a whole batch is no reason to ask it again at once.
            tokio::select! {
                () = tokio::time::sleep(AUDIT) => {}
                () = auth.audit_full(), if !away => {}
                () = stop.cancelled() => break,
            }
            let written = auth.flush_audit().await;
            if let (Err(error), false) = (&written, away) {
                tracing::warn!(error = error as &dyn std::error::Error, "the audit waits for the store");
            }
            away = written.is_err();
        }
    });
}

/// One round over the deletions; gives when the next one is due.
async fn deletions(store: &Store, all: bool) -> Duration {
    match repository::finish_deletions(store, all).await {
        Ok(pass) if pass.left > 0 => DELETIONS_AGAIN,
        Ok(_) => DELETIONS,
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "deletions of repositories were not looked at");
            DELETIONS
        }
    }
}

/// One round over every account.
async fn sweep(auth: &Auth) -> Result<(), auth::Error> {
    let mut after = None;
    loop {
        after = auth.sweep_audit(after.as_deref()).await?;
        if after.is_none() {
            break;
        }
    }
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
            loop {
                after = auth.sweep_trusts(&account, after.as_deref()).await?;
                if after.is_none() {
                    break;
                }
            }
            loop {
                after = auth.sweep_used_tokens(&account, after.as_deref()).await?;
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
