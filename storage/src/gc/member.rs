//! Phase B, one member: is it marked, removed, or left?

use super::Sweep;
use crate::{
    Digest, Error, Time, key,
    member::{self, State},
    record,
};

/// What became of one member.
pub(super) enum Verdict {
    /// It is needed, or gone.
    Stays,
    /// It was marked and is needed again.
    Revived,
    /// Nothing names it; its promise holds until then, or somebody had it in hand.
    Waits {
        /// When to look again.
        until: Time,
        /// Its size.
        bytes: u64,
    },
    /// Nothing names it and no promise keeps it: it is dying from now on.
    Marked {
        /// Its size.
        bytes: u64,
    },
    /// It was dying before this pass looked at what is needed, and still nothing names it.
    Removed {
        /// Its size.
        bytes: u64,
    },
}

impl Sweep<'_> {
    pub(super) async fn judge(&self, digest: &Digest, may_mark: bool) -> Result<Verdict, Error> {
        let (store, repository) = (self.store, self.repository);
        let key = key::member(repository, digest);
        let Some(mut found) = member::get(store, repository, digest).await? else { return Ok(Verdict::Stays) };
        let now = store.now();
        let (bytes, lease) = (found.value.size, found.value.lease);
        let waits = |until: Time| Verdict::Waits { until, bytes };
        let needed = self.needed.contains(digest);
        let dying = found.value.state == State::Dying;
        // Marked by a pass that had ended before this one began, so before this one looked at what is needed.
        let condemned = dying && found.value.marked_by_pass.as_ref().is_some_and(|pass| self.ended.contains(pass));
        let verdict = if needed && !dying {
            return Ok(Verdict::Stays);
        } else if needed {
            found.value.state = State::Live;
            found.value.marked_by_pass = None;
            Verdict::Revived
        } else if condemned {
            // The intent first: a crash leaves an intent, not bytes that nobody names.
            member::leave_behind(store, repository, digest, &found.value).await?;
            return match store.records().remove(&key, found.version()).await {
                Ok(()) => {
                    store.usage().removed(repository.account(), bytes);
                    member::forget_hint(store, repository, digest, &found.value).await?;
                    Ok(Verdict::Removed { bytes })
                }
                // A push flipped it back; the trash will find it in use.
                Err(Error::Conflict) => Ok(waits(now)),
                Err(other) => Err(other),
            };
        } else if lease > now {
            return Ok(waits(lease));
        } else if !may_mark {
            return Ok(waits(now));
        } else {
            found.value.state = State::Dying;
            found.value.marked_by_pass = Some(self.id.to_owned());
            Verdict::Marked { bytes }
        };
        match record::update(store.records(), &key, &mut found).await {
            Ok(()) => Ok(verdict),
            Err(Error::Conflict) => Ok(waits(now)),
            Err(other) => Err(other),
        }
    }
}
