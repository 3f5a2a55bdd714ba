//! When a namespace may be written to: at once, unless it was written to just before.
//!
//! Every attempt counts, not only those that fail: where somebody undoes each write at once, repairs become rarer
//! instead of a storm. Where a write held for a moment longer than the next one had to wait, it starts afresh, so that a person
//! who deletes a policy again and again sees it come back each time. Nothing is ever given up.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

/// As long as this a namespace waits if the API server asks for it, and no longer.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// How fast attempts may follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The delay behind a first attempt.
    pub first: Duration,
    /// The longest delay.
    pub limit: Duration,
}

/// When one namespace may be written to.
#[derive(Debug, Default)]
pub struct Turn {
    backoff: Option<ExponentialBackoff>,
    next: Option<Instant>,
    failed: bool,
}

impl Turn {
    /// When it may be written to next, if that is still to come.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        self.next.filter(|next| *next > now)
    }

    /// Notes that an attempt begins.
    pub fn begins(&mut self, now: Instant, pace: Pace) {
        let rested = !self.failed && self.next.is_none_or(|next| now >= next + pace.first);
        if rested || self.backoff.is_none() {
            let backoff = ExponentialBuilder::new()
                .with_min_delay(pace.first)
                .with_max_delay(pace.limit)
                .without_max_times()
                .with_jitter();
            self.backoff = Some(backoff.build());
        }
    }

    /// Notes that an attempt ended: `None` if it succeeded, and if it failed, how long the API server asks to be left alone.
    pub fn ended(&mut self, now: Instant, pace: Pace, failed: Option<Duration>) {
        let delay = self
            .backoff
            .as_mut()
            .and_then(Iterator::next)
            .unwrap_or(pace.limit);
        let delay = delay.min(pace.limit); // jitter may add as much again
        let asked = failed.unwrap_or_default().min(RETRY_AFTER);
        self.next = Some(now + delay.max(asked));
        self.failed = failed.is_some();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        first: Duration::from_millis(50),
        limit: Duration::from_secs(10),
    };

    #[test]
    fn a_namespace_that_was_never_written_to_may_be() {
        assert_eq!(Turn::default().next(Instant::now()), None);
    }

    /// The delays behind attempts, each of which begins as long after its turn as is said.
    fn delays(attempts: usize, late: Duration, failed: bool) -> Vec<Duration> {
        let (mut turn, mut now) = (Turn::default(), Instant::now());
        let mut delays = Vec::new();
        for _ in 0..attempts {
            turn.begins(now, PACE);
            now += Duration::from_secs(15); // however long an attempt takes
            turn.ended(now, PACE, failed.then_some(Duration::ZERO));
            let next = turn.next(now).unwrap();
            delays.push(next - now);
            assert_eq!(turn.next(next), None);
            now = next + late;
        }
        delays
    }

    #[test]
    fn attempts_that_follow_each_other_at_once_become_rarer_but_never_end() {
        let delays = delays(100, Duration::ZERO, false);
        assert!(delays[0] <= 2 * PACE.first, "{delays:?}");
        assert!(
            delays[20..].iter().all(|delay| *delay == PACE.limit),
            "{delays:?}"
        );
    }

    #[test]
    fn the_api_server_is_left_alone_for_as_long_as_it_asks() {
        for (asked, waits) in [(1, 1), (7, 7), (600, 30)] {
            let (mut turn, now) = (Turn::default(), Instant::now());
            turn.begins(now, PACE);
            turn.ended(now, PACE, Some(Duration::from_secs(asked)));
            assert_eq!(turn.next(now), Some(now + Duration::from_secs(waits)));
        }
    }

    #[test]
    fn where_a_write_held_for_a_moment_the_next_is_as_quick_as_the_first() {
        let delays = delays(100, PACE.first, false);
        assert!(delays.iter().all(|delay| *delay <= 2 * PACE.first), "{delays:?}");
    }

    #[test]
    fn attempts_that_fail_become_rarer_however_late_they_are_made() {
        let delays = delays(100, 2 * PACE.limit, true);
        assert!(
            delays[20..].iter().all(|delay| *delay == PACE.limit),
            "{delays:?}"
        );
    }
}
