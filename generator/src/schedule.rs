//! When a namespace may be written to: at once, unless it was written to just before.
//!
//! Every attempt counts, not only those that fail: where somebody undoes each write at once, repairs become rarer
//! instead of a storm. A namespace that was left in peace as long as it last had to wait starts afresh. Nothing is ever given up.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

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
    delay: Duration,
    next: Option<Instant>,
}

impl Turn {
    /// Whether it may be written to now.
    pub fn may(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| now >= next)
    }

    /// When it may be written to next, if that is still to come.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        self.next.filter(|next| *next > now)
    }

    /// Notes that an attempt begins. Was there peace for as long as it had to wait, it starts afresh.
    pub fn begins(&mut self, now: Instant, pace: Pace) {
        let rested = self.next.is_none_or(|next| now >= next + self.delay);
        if rested || self.backoff.is_none() {
            let backoff = ExponentialBuilder::new()
                .with_min_delay(pace.first)
                .with_max_delay(pace.limit)
                .without_max_times()
                .with_jitter();
            self.backoff = Some(backoff.build());
        }
    }

    /// Notes that an attempt ended.
    pub fn ended(&mut self, now: Instant, pace: Pace) {
        let delay = self
            .backoff
            .as_mut()
            .and_then(Iterator::next)
            .unwrap_or(pace.limit);
        self.delay = delay.min(pace.limit); // jitter may add as much again
        self.next = Some(now + self.delay);
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
        assert!(Turn::default().may(Instant::now()));
    }

    #[test]
    fn attempts_that_follow_each_other_become_rarer_but_never_end() {
        let (mut turn, mut now) = (Turn::default(), Instant::now());
        let mut delays = Vec::new();
        for _ in 0..100 {
            turn.begins(now, PACE);
            now += Duration::from_secs(15); // however long an attempt takes
            turn.ended(now, PACE);
            assert!(!turn.may(now));
            let next = turn.next(now).unwrap();
            delays.push(next - now);
            now = next;
            assert!(turn.may(now));
        }
        assert!(delays[0] <= 2 * PACE.first, "{delays:?}");
        assert!(
            delays[20..].iter().all(|delay| *delay == PACE.limit),
            "{delays:?}"
        );
    }

    #[test]
    fn after_a_rest_it_starts_afresh() {
        let (mut turn, mut now) = (Turn::default(), Instant::now());
        for _ in 0..20 {
            turn.begins(now, PACE);
            turn.ended(now, PACE);
            now = turn.next(now).unwrap();
        }
        now += PACE.limit;
        turn.begins(now, PACE);
        turn.ended(now, PACE);
        assert!(turn.next(now).unwrap() - now <= 2 * PACE.first);
    }
}
