//! The end of the audit's days: whole days go when their time is over, and a line says so, from which `verify` knows that what is
//! missing before was not taken out by somebody.

use chrono::{Days, NaiveDate};
use storage::{
    Generation,
    generation::{GenerationRecord, GenerationState},
    key::{self, AuditBatch},
    record,
};

use super::event::{Entry, Happened};
use crate::{account::claimed, error::Error, installation::Auth};

/// Days that are kept where an account's policy says nothing.
const DAYS: u32 = 400;
/// Generations of one step.
const STEP: usize = 100;
/// Batches that are removed at once.
const BATCHES: usize = 100;

impl Auth {
    /// One step over the audits, the installation's own before the first: removes the days whose time is over. Returns where the
    /// next step begins; `None` at the end.
    pub async fn sweep_audit(&self, after: Option<&str>) -> Result<Option<String>, Error> {
        if after.is_none() {
            let installation = Entry::new(Happened::AuditSweep, Self::REGISTRY);
            self.sweep_days(&Generation::installation(), self.first_day(DAYS), Some(installation)).await?;
        }
        let prefix = key::generations();
        let rows = self.records.page(&prefix, after, STEP).await?;
        for row in &rows {
            let found = record::read::<GenerationRecord>(&*self.records, &prefix.record(&row.name)).await?;
            let (Ok(generation), Some(found)) = (row.name.parse::<Generation>(), found) else { continue };
            let found = found.value;
            let account = self.account_record(&found.name).await?.map(|document| document.value);
            let policy = account.filter(|record| record.generation == generation).map(|record| record.policy);
            let first = self.first_day(policy.and_then(|policy| policy.audit_days).unwrap_or(DAYS));
            if found.state == GenerationState::Live {
                let entry = Entry::new(Happened::AuditSweep, Self::REGISTRY);
                let account = claimed(found.name, generation.clone());
                self.sweep_days(&generation, first, Some(entry.of(&account))).await?;
            } else if found.deleted_at.is_some_and(|at| at.date_naive() < first) {
                // All of it at once, so that no line is left to say that lines have gone.
                self.sweep_days(&generation, self.clock.now().date_naive() + Days::new(1), None).await?;
            }
        }
        Ok(rows.last().filter(|_| rows.len() == STEP).map(|row| row.name.clone()))
    }

    fn first_day(&self, days: u32) -> NaiveDate {
        let today = self.clock.now().date_naive();
        today.checked_sub_days(Days::new(days.into())).unwrap_or(today)
    }

    /// Removes what lies before `first`, after `entry` has said so.
    async fn sweep_days(
        &self,
        generation: &Generation,
        first: NaiveDate,
        mut entry: Option<Entry>,
    ) -> Result<(), Error> {
        let prefix = key::audits(generation);
        loop {
            let rows = self.records.page(&prefix, None, BATCHES).await?;
            let over = |name: &str| AuditBatch::parse(name).is_some_and(|batch| batch.day() < first);
            let gone: Vec<_> = rows.iter().take_while(|row| over(&row.name)).collect();
            if gone.is_empty() {
                return Ok(());
            }
            if let Some(entry) = entry.take() {
                self.record(entry.target(first.to_string())).await?;
            }
            for row in &gone {
                self.records.delete(&prefix.plain(&row.name)).await?;
            }
        }
    }
}
