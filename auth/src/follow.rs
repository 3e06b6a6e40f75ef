//! Following the log of ended rights: looking at it every second, and what is decided by when it could not be looked at.

use std::{sync::atomic::Ordering, time::Duration};

use storage::{key, record};

use crate::{
    account::OnStale, cache::Knowing, error::Error, installation::Auth, refusal::Refusal, revocation::AuthLog,
    secret::Kind, watch::Moment,
};

/// How long one look may take.
const LOOK: Duration = Duration::from_millis(1500);
/// How long a look that failed speaks for those who ask after it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
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

/// Tries of a decision while rights end around it; the second finds all it needs in memory.
const TRIES: usize = 4;

/// What a decision goes by, noted before it reads anything.
#[derive(Debug, Clone, Copy)]
struct Begun {
    standing: Standing,
    place: u64,
}

impl Auth {
    /// Makes a decision by what `read` finds, and again as long as something is heard to have ended meanwhile; with it, how the log
    /// stood.
    pub(crate) async fn decide<T, E, F>(&self, mut read: impl FnMut(Standing) -> F) -> Result<(T, Standing), E>
    where
        F: Future<Output = Result<T, E>>,
        E: From<Refusal>,
    {
        for _ in 0..TRIES {
            let begun = self.begin().await;
            let found = read(begun.standing).await?;
            if self.holds(begun) {
                if begun.standing != Standing::Confirmed {
                    self.stale_decisions.fetch_add(1, Ordering::Relaxed);
                }
                return Ok((found, begun.standing));
            }
        }
        Err(Refusal::Stale.into())
    }

    async fn begin(&self) -> Begun {
        let standing = self.standing().await;
        Begun { standing, place: self.watch.place() }
    }

    /// Whether what was found since may be decided by now: the log is known as well as it must be, and nothing was heard to have
    /// ended. However long the reading took.
    fn holds(&self, begun: Begun) -> bool {
        // In this order: a look makes its entries known before it counts as a confirmation.
        let confirmed = begun.standing != Standing::Confirmed || self.stands();
        confirmed && self.watch.place() == begun.place
    }

    /// Looks at the log once. Call it every second; requests look for themselves when nobody has done so within the bound.
    pub async fn follow(&self) -> Result<(), Error> {
        let looking = tokio::time::timeout(LOOK, self.look_at_log()).await;
        let looked =
            looking.unwrap_or_else(|_| Err(storage::Error::unavailable("sys/authlog was not read in time").into()));
        *self.look_failed.write() = looked.is_err().then(|| Moment::now(&*self.clock));
        looked
    }

    /// Whether a look failed so lately that another would say the same.
    fn just_failed(&self) -> bool {
        self.look_failed.read().is_some_and(|at| at.age(&*self.clock) < LOOK_AGAIN)
    }

    async fn look_at_log(&self) -> Result<(), Error> {
        let look = self.watch.look(&*self.clock);
        let found = record::read::<AuthLog>(&*self.records, &key::authlog()).await?;
        let found = found.ok_or_else(|| storage::Error::corrupt("sys/authlog is gone"))?;
        self.watch.hear(&found.value, look);
        Ok(())
    }

    /// How far the log is known here. While it stays the same, nothing is known to have ended: one load in the middle of a
    /// transfer, before [`Auth::still`].
    pub fn place(&self) -> u64 {
        self.watch.place()
    }

    /// How long ago the log was confirmed; `None`: not yet.
    pub fn log_age(&self) -> Option<Duration> {
        self.watch.age(&*self.clock)
    }

    /// Decisions that were made although the log was not confirmed within the bound, since the start.
    pub fn stale_decisions(&self) -> u64 {
        self.stale_decisions.load(Ordering::Relaxed)
    }

    /// Whether the log was confirmed within the bound.
    pub(crate) fn stands(&self) -> bool {
        self.log_age().is_some_and(|age| age < self.settings.bound)
    }

    /// How the log stands now; when it was not confirmed within the bound, one look for all who wait.
    pub(crate) async fn standing(&self) -> Standing {
        if self.stands() {
            return Standing::Confirmed;
        }
        if !self.just_failed() {
            let _looking = self.looking.lock().await;
            if !self.stands()
                && !self.just_failed()
                && let Err(error) = self.follow().await
            {
                tracing::debug!(error = &error as &dyn std::error::Error, "the log of ended rights was not read");
            }
        }
        if self.stands() { Standing::Confirmed } else { Standing::CutOff(self.log_age().unwrap_or(Duration::MAX)) }
    }

    /// What the use of a cached value goes by.
    pub(crate) fn knowing(&self, standing: Standing) -> Knowing<'_> {
        Knowing { watch: &self.watch, clock: &*self.clock, cut_off: standing != Standing::Confirmed }
    }
}
