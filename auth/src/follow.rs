//! Following the log of ended rights: looking at it every second, and what is decided by when it could not be looked at.

use std::time::Duration;

use storage::{key, record};

use crate::{
    account::OnStale, cache::Knowing, error::Error, installation::Auth, refusal::Refusal, revocation::AuthLog,
    secret::Kind,
};

/// How long one look may take.
const LOOK: Duration = Duration::from_millis(1500);
/// How long pulls go on, where their account wants it, after the log was last confirmed.
const SERVED: Duration = Duration::from_hours(1);

/// How the log stands at a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It was looked at within the bound.
    Confirmed,
    /// The store does not answer; the log was confirmed this long ago.
    CutOff(Duration),
}

impl Standing {
    /// Whether a credential of this kind, of an account that wants this, is decided about.
    pub(crate) fn allows(self, on_stale: OnStale, kind: Kind) -> bool {
        match self {
            Self::Confirmed => true,
            Self::CutOff(age) => on_stale == OnStale::Serve && kind == Kind::Pull && age <= SERVED,
        }
    }

    /// For what is never decided without the log.
    pub(crate) fn or_refuse(self) -> Result<Self, Refusal> {
        match self {
            Self::Confirmed => Ok(self),
            Self::CutOff(_) => Err(Refusal::Stale),
        }
    }

    /// How old what is known of ended rights is, if it is older than the bound.
    pub(crate) fn age(self) -> Option<Duration> {
        match self {
            Self::Confirmed => None,
            Self::CutOff(age) => Some(age),
        }
    }
}

impl Auth {
    /// Looks at the log once. Call it every second; requests look for themselves when nobody has done so within the bound.
    pub async fn follow(&self) -> Result<(), Error> {
        let look = self.watch.look(&*self.clock);
        let found = record::read::<AuthLog>(&*self.records, &key::authlog()).await?;
        let found = found.ok_or_else(|| storage::Error::corrupt("sys/authlog is gone"))?;
        self.watch.hear(&found.value, look);
        Ok(())
    }

    /// How long ago the log was confirmed; `None`: not yet.
    pub fn log_age(&self) -> Option<Duration> {
        self.watch.age(&*self.clock)
    }

    fn stands(&self) -> bool {
        self.log_age().is_some_and(|age| age <= self.settings.bound)
    }

    /// How the log stands now; when it was not confirmed within the bound, one look for all who wait.
    pub(crate) async fn standing(&self) -> Standing {
        if self.stands() {
            return Standing::Confirmed;
        }
        let asked = self.looks.load(std::sync::atomic::Ordering::Acquire);
        let _looking = self.looking.lock().await;
        // Somebody's look that began after this request came and failed speaks for this one too.
        let failed_since = self.looks.load(std::sync::atomic::Ordering::Acquire) != asked;
        if !self.stands() && !failed_since {
            match tokio::time::timeout(LOOK, self.follow()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(error = &error as &dyn std::error::Error, "the log cannot be read"),
                Err(_) => tracing::debug!("the log cannot be read in time"),
            }
            self.looks.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
        }
        if self.stands() { Standing::Confirmed } else { Standing::CutOff(self.log_age().unwrap_or(Duration::MAX)) }
    }

    /// What the use of a cached value goes by.
    pub(crate) fn knowing(&self, standing: Standing) -> Knowing<'_> {
        Knowing { watch: &self.watch, clock: &*self.clock, cut_off: standing != Standing::Confirmed }
    }
}
