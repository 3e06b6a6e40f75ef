//! How long things live that nobody needs for ever, and the pace of what takes them away.

use std::time::Duration;

use chrono::TimeDelta;

/// Lives and pace. The default is what production runs with; tests shorten all of it together ([`Lives::short`]), because the
/// lengths hold each other up: nothing may be taken away while a write that began before may still need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lives {
    /// How long a promise (a commit, a mount, a HEAD under a push token) keeps an unreferenced blob. 24 h.
    pub promise: TimeDelta,
    /// How long an upload session may be used after it was opened. 5 days, below the 7 after which Azure drops blocks.
    pub session: TimeDelta,
    /// How long after that its document and its bytes stay. 24 h.
    pub session_grace: TimeDelta,
    /// Monotonic time that a write of several steps may take. 10 min.
    pub deadline: Duration,
    /// How long after it began a commit may be repeated. 1 h.
    pub repeat: TimeDelta,
    /// How long after it began a commit may still make a member of its bytes: longer than `repeat` and `deadline` together. 2 h.
    pub commit: TimeDelta,
    /// Younger than this, in the store's own time, a manifest's pending and a mount's share belong to a push that is under way:
    /// longer than `deadline` by far. 24 h.
    pub in_flight: TimeDelta,
    /// How long after its hour began a mark of work is looked at, the life of a promise apart: 1 h, so that its hour is over.
    pub mark: TimeDelta,
    /// How long bytes that nobody uses stay: longer than reads in flight, presigned addresses and `deadline`. 2 h.
    pub trash: TimeDelta,
    /// How long a backup's or a move's hold counts after it was last written. 1 h.
    pub hold: TimeDelta,
    /// How long a deleted account's generation is remembered and swept again. 30 days.
    pub generation: TimeDelta,
    /// How long after its last pass the slow round leaves a repository alone. 24 h.
    pub round: TimeDelta,
    /// How often an idle server looks for work. 1 min.
    pub look: Duration,
    /// After a slice of work that took so long, rest so many times as long: 19, a twentieth of one task's time.
    pub rest: u32,
}

impl Default for Lives {
    fn default() -> Self {
        Self {
            promise: TimeDelta::hours(24),
            session: TimeDelta::days(5),
            session_grace: TimeDelta::hours(24),
            deadline: Duration::from_mins(10),
            repeat: TimeDelta::hours(1),
            commit: TimeDelta::hours(2),
            in_flight: TimeDelta::hours(24),
            mark: TimeDelta::hours(1),
            trash: TimeDelta::hours(2),
            hold: TimeDelta::hours(1),
            generation: TimeDelta::days(30),
            round: TimeDelta::hours(24),
            look: Duration::from_mins(1),
            rest: 19,
        }
    }
}

impl Lives {
    /// Lives for a test that cannot wait a day: promises of `promise`, writes of at most `deadline`, and the rest as short as
    /// these two allow; collection works half of the time. All zero is for a store on which nothing is under way.
    pub fn short(promise: Duration, deadline: Duration) -> Self {
        let delta = |length: Duration| TimeDelta::from_std(length).unwrap_or(TimeDelta::MAX);
        let deadline_delta = delta(deadline);
        Self {
            promise: delta(promise),
            session: if deadline.is_zero() { TimeDelta::zero() } else { TimeDelta::days(5) },
            session_grace: deadline_delta,
            deadline,
            repeat: deadline_delta,
            commit: deadline_delta * 3,
            in_flight: deadline_delta * 3,
            mark: TimeDelta::zero(),
            trash: deadline_delta,
            hold: TimeDelta::hours(1),
            generation: deadline_delta,
            round: deadline_delta,
            look: Duration::from_millis(10),
            rest: 1,
        }
    }

    /// Whether nothing is taken away while a write that began before may still need it.
    pub fn hold_together(&self) -> bool {
        let deadline = TimeDelta::from_std(self.deadline).unwrap_or(TimeDelta::MAX);
        self.commit >= self.repeat + deadline && self.in_flight >= deadline && self.trash >= deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_away_under_a_write() {
        assert!(Lives::default().hold_together());
        for seconds in [0, 1, 60] {
            assert!(Lives::short(Duration::ZERO, Duration::from_secs(seconds)).hold_together());
        }
        assert!(!Lives { in_flight: TimeDelta::minutes(9), ..Lives::default() }.hold_together());
    }
}
