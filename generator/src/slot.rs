//! What is remembered of one namespace between two looks. All of it can be lost: it only saves work.

use std::collections::BTreeSet;

use ringfence_netpol::baseline::plan::Problem;
use ringfence_netpol::baseline::status::Outcome;
use tokio::time::Instant;

use crate::error::Error;
use crate::metrics::Metrics;
use crate::schedule::Turn;

#[derive(Default)]
pub struct Slot {
    /// What the last plan was made from.
    pub seen: Option<u64>,
    pub state: State,
    pub turn: Turn,
    pub matched: BTreeSet<String>,
    pub problems: Vec<Problem>,
    pub failure: Option<Error>,
    /// Appeared while this process was looking, and did not have what it must yet.
    pub born: Option<Instant>,
    /// A job ended since the last look: what it did may have been seen meanwhile.
    pub due: bool,
    /// Since when something is to be done.
    pub waiting: Option<Instant>,
    /// The revision at which all was as it must be.
    pub held: Option<u64>,
    /// What the last job that succeeded was made from, and until when its effect may stay unseen.
    pub done: Option<(u64, Instant)>,
    /// Until when something is not removed whose baseline is gone.
    pub held_back: Option<Instant>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing is left to do.
    Settled,
    /// Something is, and it is not its turn, or there is no room; before the first plan too.
    #[default]
    Pending,
    Running,
}

impl Slot {
    /// When it may be written to, if that is still to come.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let unseen = self
            .done
            .filter(|(input, until)| self.seen == Some(*input) && *until > now);
        let held_back = self.held_back.filter(|until| *until > now);
        self.turn
            .next(now)
            .max(unseen.map(|(_, until)| until))
            .max(held_back)
    }

    pub fn settle(&mut self, revision: u64, now: Instant, metrics: &Metrics) {
        self.state = State::Settled;
        self.failure = None;
        self.waiting = None;
        if self.matched.is_empty() {
            self.born = None; // taken later, it was not onboarded late
        }
        if self.matched.is_empty() || !self.problems.is_empty() {
            return;
        }
        self.held = Some(revision);
        if let Some(born) = self.born.take() {
            metrics.onboarding.observe((now - born).as_secs_f64());
        }
    }

    pub fn outcome(&self, baseline: &str) -> Outcome {
        let problems: Vec<_> = self
            .problems
            .iter()
            .filter(|problem| problem.baseline == baseline)
            .cloned()
            .collect();
        Outcome {
            ready: self.state == State::Settled && problems.is_empty(),
            problems,
            failure: self.failure.as_ref().map(ToString::to_string),
        }
    }
}
