//! Who undoes again and again what the generator writes: it is restored each time, and told.
//!
//! A person who deletes a policy now and then is no fight, and a program that undoes each write at once is slowed down (`schedule`). One that
//! takes its time would go on unseen, since each repair by itself is as it should be.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ringfence_netpol::baseline::plan::{Action, Cause, Problem};
use tokio::time::Instant;

/// So many repairs of one namespace are a fight,
const MANY: usize = 10;

/// if there is no more than this from the first of them until now.
const WINDOW: Duration = Duration::from_secs(60);

/// The latest repairs, by namespace.
#[derive(Debug, Default)]
pub struct Repairs(BTreeMap<String, Latest>);

#[derive(Debug)]
struct Latest {
    times: VecDeque<Instant>,
    baseline: String,
    policy: String,
}

impl Repairs {
    /// Notes that a namespace is repaired by a step.
    pub fn note(&mut self, namespace: &str, action: &Action, now: Instant) {
        let (baseline, policy) = (action.baseline().to_owned(), action.policy().to_owned());
        let mut times = self
            .0
            .remove(namespace)
            .map(|latest| latest.times)
            .unwrap_or_default();
        if times.len() == MANY {
            times.pop_front();
        }
        times.push_back(now);
        let latest = Latest {
            times,
            baseline,
            policy,
        };
        self.0.insert(namespace.to_owned(), latest);
    }

    /// Forgets what is long ago.
    pub fn forget(&mut self, now: Instant) {
        self.0
            .retain(|_, latest| latest.times.back().is_some_and(|last| now < *last + WINDOW));
    }

    /// What is to be said of a namespace.
    pub fn problem(&self, namespace: &str, now: Instant) -> Option<Problem> {
        let latest = self.0.get(namespace)?;
        (latest.ends()? > now).then(|| Problem {
            baseline: latest.baseline.clone(),
            policy: latest.policy.clone(),
            cause: Cause::Undone { times: MANY },
        })
    }

    /// When the next one of these problems is over, if nothing happens until then.
    pub fn wake(&self, now: Instant) -> Option<Instant> {
        let ends = self.0.values().filter_map(Latest::ends);
        ends.filter(|end| *end > now).min()
    }
}

impl Latest {
    /// When this is no fight any more; `None` if it is none.
    fn ends(&self) -> Option<Instant> {
        let first = (self.times.len() == MANY).then(|| self.times.front()).flatten();
        first.map(|first| *first + WINDOW)
    }
}
