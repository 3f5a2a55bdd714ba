//! How fast may be written altogether: so many writes a second, and none for a while when the API server cannot take them.
//!
//! API priority and fairness shares out what the API server can do; a client that does not know its share takes it from others of its
//! level. And where several writes in a row found no server, or one that has too much to do, the next namespaces would find the same:
//! all wait together, instead of each finding out by itself.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::error::Error;

/// How many seconds' worth of writes may be made at once after a rest, as when a few hundred namespaces appear together.
const BURST: u32 = 2;

/// How many writes in a row must fail before all wait.
const FAILURES: u32 = 3;

/// How long all wait at first, doubled with each further failure, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Who writes asks it for leave, and tells it what became of it.
#[derive(Debug)]
pub struct Throttle {
    /// Between two writes, once what could be made at once is used up.
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the last write that was given leave would have been made, had each waited for its interval.
    last: Instant,
    /// Until when nobody writes.
    paused: Option<Instant>,
    failures: u32,
}

impl Throttle {
    pub fn new(per_second: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        let now = Instant::now();
        Self {
            interval,
            state: Mutex::new(State {
                last: now,
                paused: None,
                failures: 0,
            }),
        }
    }

    /// Waits until one may write.
    pub async fn leave(&self) {
        loop {
            let pause = self.state.lock().paused;
            match pause.filter(|until| *until > Instant::now()) {
                Some(until) => sleep_until(until).await,
                None => break,
            }
        }
        let turn = self.turn(Instant::now());
        sleep_until(turn).await;
    }

    /// When one that asks now may write.
    fn turn(&self, now: Instant) -> Instant {
        let mut state = self.state.lock();
        let burst = Duration::from_secs(u64::from(BURST));
        let rested = now.checked_sub(burst).unwrap_or(now);
        state.last = state.last.max(rested) + self.interval;
        state.last.max(now)
    }

    /// Takes what became of a write.
    pub fn ended(&self, failure: Option<&Error>) {
        let mut state = self.state.lock();
        match failure {
            // Only who reached the object tells that the API server is there.
            None => (state.failures, state.paused) = (0, None),
            Some(error) if error.is_of_one_object() || *error == Error::Deposed => {}
            Some(_) => {
                state.failures = state.failures.saturating_add(1);
                if let Some(further) = state.failures.checked_sub(FAILURES) {
                    let pause = PAUSE.0 * 2_u32.saturating_pow(further.min(16));
                    state.paused = Some(Instant::now() + pause.min(PAUSE.1));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late() -> Error {
        Error::Late {
            object: "x".to_owned(),
            seconds: 1,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_at_once_is_let_pass_and_what_goes_on_comes_at_its_rate() {
        let throttle = Throttle::new(10);
        tokio::time::advance(Duration::from_secs(60)).await;
        let start = Instant::now();
        for _ in 0..20 {
            throttle.leave().await;
        }
        assert!(
            start.elapsed() < Duration::from_millis(10),
            "{:?}",
            start.elapsed()
        );
        for _ in 0..30 {
            throttle.leave().await;
        }
        let took = start.elapsed();
        assert!((2900..3200).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn several_failures_in_a_row_have_all_wait_and_one_success_ends_it() {
        let throttle = Throttle::new(1000);
        let waited = || async {
            let start = Instant::now();
            throttle.leave().await;
            start.elapsed()
        };
        for _ in 0..2 {
            throttle.ended(Some(&late()));
        }
        assert!(waited().await < PAUSE.0);
        for _ in 0..10 {
            throttle.ended(Some(&late()));
        }
        assert!(waited().await >= PAUSE.1);
        throttle.ended(Some(&late()));
        throttle.ended(None);
        assert!(waited().await < PAUSE.0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_is_refused_has_nobody_else_wait() {
        let throttle = Throttle::new(1000);
        let refused = Error::NotHeld {
            object: "x".to_owned(),
        };
        for _ in 0..10 {
            throttle.ended(Some(&refused));
        }
        let start = Instant::now();
        throttle.leave().await;
        assert!(start.elapsed() < PAUSE.0);
    }
}
