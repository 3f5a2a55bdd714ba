//! When to look again without being told. Pure.

use std::time::{Duration, Instant};

/// When to look for what no news tells, while a veth is closed for not being known: soon after the last news, then ever later.
const LOOK: Duration = Duration::from_millis(10);
const LOOK_AT_MOST: Duration = Duration::from_millis(250);
/// How often otherwise; so often the kernel's counters are taken over, too.
const COUNT: Duration = Duration::from_secs(5);
/// How often it is checked that the filters are where they were put.
const CHECK: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(100);
const RETRY_AT_MOST: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Pace {
    look: Instant,
    check: Instant,
    retry: Duration,
    wait: Duration,
}

impl Pace {
    /// To look at once.
    pub fn new(now: Instant) -> Self {
        Self {
            look: now,
            check: now + CHECK,
            retry: RETRY,
            wait: LOOK,
        }
    }

    pub fn look_due(&self) -> Instant {
        self.look
    }

    /// Whether to check the filters, which then counts as done.
    pub fn check(&mut self, now: Instant) -> bool {
        let due = now >= self.check;
        if due {
            self.check = now + CHECK;
        }
        due
    }

    /// There is news of veths.
    pub fn heard(&mut self) {
        self.wait = LOOK;
    }

    /// All is in force; `waiting`: but a veth is closed for not being known, or a pod has none.
    pub fn succeeded(&mut self, now: Instant, waiting: bool) {
        self.retry = RETRY;
        self.look = now + if waiting { self.wait } else { COUNT };
        self.wait = (self.wait * 2).min(LOOK_AT_MOST);
    }

    /// Something could not be done: look soon, and then ever later.
    pub fn failed(&mut self, now: Instant) {
        self.look = now + self.retry;
        self.retry = (self.retry * 2).min(RETRY_AT_MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_tried_again_ever_later_until_one_succeeds() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!(pace.look_due(), now);
        let pauses = [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000];
        for pause in pauses.map(Duration::from_millis) {
            pace.failed(now);
            assert_eq!(pace.look_due(), now + pause);
        }
        pace.succeeded(now, false);
        assert_eq!(pace.look_due(), now + COUNT);
        pace.failed(now);
        assert_eq!(pace.look_due(), now + RETRY);
    }

    #[test]
    fn who_waits_for_a_pod_looks_more_often_and_most_often_after_news() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        for pause in [10, 20, 40, 80, 160, 250, 250].map(Duration::from_millis) {
            pace.succeeded(now, true);
            assert_eq!(pace.look_due(), now + pause);
        }
        pace.heard();
        pace.succeeded(now, true);
        assert_eq!(pace.look_due(), now + LOOK);
    }

    #[test]
    fn filters_are_checked_at_intervals() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        assert!(!pace.check(now));
        assert!(pace.check(now + CHECK));
        assert!(!pace.check(now + CHECK + LOOK));
    }
}
