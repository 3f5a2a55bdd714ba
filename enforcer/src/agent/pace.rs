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

/// At which veths to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Look {
    No,
    /// Those that are known, and of which it is not known whose they are: a new pod waits for that.
    AtUnknown,
    /// All that there are.
    AtAll,
}

#[derive(Debug)]
pub struct Pace {
    look: Instant,
    survey: Instant,
    check: Instant,
    retry: Duration,
    wait: Duration,
}

impl Pace {
    /// To look at once.
    pub fn new(now: Instant) -> Self {
        Self {
            look: now,
            survey: now,
            check: now + CHECK,
            retry: RETRY,
            wait: LOOK,
        }
    }

    pub fn look_due(&self) -> Instant {
        self.look.min(self.survey)
    }

    /// Whether to look now though nobody told.
    pub fn look(&self, now: Instant) -> Look {
        match (now >= self.look, now >= self.survey) {
            (_, true) => Look::AtAll,
            (true, false) => Look::AtUnknown,
            (false, false) => Look::No,
        }
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

    /// What was looked at is in force; `waiting`: but a veth is closed for not being known, or a pod has none.
    pub fn succeeded(&mut self, now: Instant, looked: Look, waiting: bool) {
        self.retry = RETRY;
        if looked == Look::AtAll {
            self.survey = now + COUNT;
        }
        self.look = now + if waiting { self.wait } else { COUNT };
        self.wait = (self.wait * 2).min(LOOK_AT_MOST);
    }

    /// Something could not be done: look soon, and then ever later.
    pub fn failed(&mut self, now: Instant) {
        self.look = now + self.retry;
        self.survey = self.look;
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
        pace.succeeded(now, Look::AtAll, false);
        assert_eq!(pace.look_due(), now + COUNT);
        pace.failed(now);
        assert_eq!(pace.look_due(), now + RETRY);
    }

    #[test]
    fn who_waits_for_a_pod_looks_more_often_and_most_often_after_news() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        for pause in [10, 20, 40, 80, 160, 250, 250].map(Duration::from_millis) {
            pace.succeeded(now, Look::AtAll, true);
            assert_eq!(pace.look_due(), now + pause);
        }
        pace.heard();
        pace.succeeded(now, Look::AtAll, true);
        assert_eq!(pace.look_due(), now + LOOK);
    }

    #[test]
    fn all_veths_are_looked_at_first_after_a_failure_and_at_intervals() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!(pace.look(now), Look::AtAll);
        pace.succeeded(now, Look::AtAll, true);
        assert_eq!(pace.look(now), Look::No);
        assert_eq!(pace.look(now + LOOK), Look::AtUnknown);
        pace.succeeded(now + LOOK, Look::AtUnknown, false);
        assert_eq!(pace.look(now + COUNT), Look::AtAll);
        pace.succeeded(now + COUNT, Look::AtAll, false);
        pace.failed(now + COUNT);
        assert_eq!(pace.look(now + COUNT), Look::No);
        assert_eq!(pace.look(now + COUNT + RETRY), Look::AtAll);
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
