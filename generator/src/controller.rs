//! One look at all namespaces, and what follows from it. No I/O and no clock of its own: the time comes in, jobs go out.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use ringfence_netpol::baseline::plan::{Action, Basis, Plan, Why, plan, stored};
use ringfence_netpol::baseline::render::Place;
use ringfence_netpol::baseline::route::{Routes, routes};
use ringfence_netpol::baseline::status::Tally;
use ringfence_netpol::baseline::{Baseline, Baselines};
use ringfence_netpol::cluster::{Cluster, Key, Namespace};
use tokio::time::Instant;

use crate::error::Error;
use crate::metrics::Metrics;
use crate::notice::Notice;
use crate::repairs::Repairs;
use crate::schedule::Pace;
use crate::slot::{Slot, State};
use crate::touched::Seen;

/// How long what was written may stay unseen, as when the watch of policies lags behind that of namespaces, before it is written
/// again.
const UNSEEN: Duration = Duration::from_secs(1);

/// How long a baseline must be gone before what it made is removed: it may be about to be made again, as by `kubectl replace --force`.
const GONE: Duration = Duration::from_secs(2);

/// For how long it is remembered since when a baseline is gone.
const REMEMBERED: Duration = Duration::from_secs(600);

/// The steps for one namespace, in order; once one of them fails, nothing is removed any more.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub namespace: String,
    pub actions: Vec<Action>,
}

/// What follows from a look.
#[derive(Debug, Default, PartialEq)]
pub struct Look {
    pub jobs: Vec<Job>,
    pub notices: Vec<Notice>,
    /// How many namespaces were looked at.
    pub namespaces: usize,
}

/// How many notices follow from one look at most: they are a courtesy, and the status of the baselines says the same.
const NOTICES: usize = 32;

/// What is remembered of the namespaces between two looks. All of it can be lost: it only saves work.
pub struct Controller {
    pace: Pace,
    /// How many jobs may be under way or waiting at once.
    capacity: usize,
    metrics: Metrics,
    hasher: RandomState,
    baselines: Baselines,
    /// Since when baselines are gone that policies say they come from.
    gone: BTreeMap<String, Instant>,
    /// Grows when the baselines or their facts change.
    revision: u64,
    slots: BTreeMap<String, Slot>,
    /// The names of the slots that are not settled.
    pending: BTreeSet<String>,
    repairs: Repairs,
    seen: Seen,
    running: usize,
    looked: bool,
    /// What time of the Unix time it was at some instant; what is younger than this process is told its age by.
    clock: Option<(Instant, i64)>,
}

impl Controller {
    pub fn new(pace: Pace, capacity: usize, metrics: Metrics) -> Self {
        Self {
            pace,
            capacity,
            metrics,
            hasher: RandomState::new(),
            baselines: Baselines::default(),
            gone: BTreeMap::new(),
            revision: 0,
            slots: BTreeMap::new(),
            pending: BTreeSet::new(),
            repairs: Repairs::default(),
            seen: Seen::default(),
            running: 0,
            looked: false,
            clock: None,
        }
    }

    /// Tells the time, in seconds of the Unix time.
    pub fn set_clock(&mut self, now: Instant, unix: i64) {
        self.clock = Some((now, unix));
    }

    pub fn baselines(&self) -> &Baselines {
        &self.baselines
    }

    /// Looks at what was touched and at what is still to be done, and says what is to be done now. The cluster must be known as a
    /// whole: what is not in it is not there.
    pub fn look(&mut self, cluster: &Cluster, now: Instant) -> Look {
        let timer = self.metrics.passes.start_timer();
        self.repairs.forget(now);
        let touched = self.seen.follow(cluster);
        let mut everything = touched.everything || !self.looked;
        let by_namespaces = touched.any_namespace && self.baselines.depend_on_namespaces();
        if everything || touched.baselines || by_namespaces {
            let baselines = Baselines::read(cluster, &self.baselines.facts());
            if baselines != self.baselines || !self.looked {
                self.gone
                    .retain(|name, since| baselines.get(name).is_none() && now < *since + REMEMBERED);
                self.baselines = baselines;
                self.revision += 1;
                everything = true;
            }
        }
        let mut look = Look::default();
        if everything {
            let gone = |name: &String| cluster.namespaces.get(&Key::cluster(name.as_str())).is_none();
            let gone: Vec<String> = self.slots.keys().filter(|name| gone(name)).cloned().collect();
            for name in gone {
                self.forget(&name);
            }
            for (key, namespace) in cluster.namespaces.iter() {
                self.look_at(&key.name, namespace, cluster, now, &mut look);
            }
        } else {
            let due = self.pending.iter().filter(|name| self.is_due(name, now));
            let names: BTreeSet<String> = due.chain(&touched.namespaces).cloned().collect();
            for name in names {
                let waits = |slot: &Slot| slot.state == State::Pending && slot.seen.is_some() && !slot.due;
                if self.running >= self.capacity
                    && !touched.namespaces.contains(&name)
                    && self.slots.get(&name).is_some_and(waits)
                {
                    continue; // this look has given the last place away
                }
                match cluster.namespaces.get(&Key::cluster(name.as_str())) {
                    Some(namespace) => self.look_at(&name, namespace, cluster, now, &mut look),
                    None => self.forget(&name),
                }
            }
        }
        self.looked = true;
        timer.observe_duration();
        if look.jobs.is_empty() {
            self.metrics.idle_passes.inc();
        }
        look
    }

    /// Whether something can be done for a namespace that is not settled, though nothing of it changed. Among many that wait, a look must
    /// not cost what they are.
    fn is_due(&self, name: &str, now: Instant) -> bool {
        self.slots.get(name).is_none_or(|slot| {
            slot.due
                || (slot.state == State::Pending && self.running < self.capacity && slot.next(now).is_none())
        })
    }

    /// Forgets a namespace that is gone, unless it is being written to.
    fn forget(&mut self, name: &str) {
        if self
            .slots
            .get(name)
            .is_some_and(|slot| slot.state != State::Running)
        {
            self.slots.remove(name);
            self.pending.remove(name);
        }
    }

    fn look_at(
        &mut self,
        name: &str,
        namespace: &Namespace,
        cluster: &Cluster,
        now: Instant,
        look: &mut Look,
    ) {
        look.namespaces += 1;
        let records = stored(&cluster.policy_records, name);
        let routes = match self.baselines.are_routed() {
            true => routes(cluster, name),
            false => Routes::new(),
        };
        let place = Place {
            name,
            namespace,
            routes: &routes,
            stored: &records,
        };
        let job = self.judge(place, now, &mut look.notices);
        look.jobs.extend(job);
        match self.slots.get(name).map(|slot| slot.state) {
            Some(State::Settled) | None => {
                self.pending.remove(name);
            }
            Some(_) if !self.pending.contains(name) => {
                self.pending.insert(name.to_owned());
            }
            Some(_) => {}
        }
    }

    fn judge(&mut self, place: Place<'_>, now: Instant, notices: &mut Vec<Notice>) -> Option<Job> {
        let name = place.name;
        let input = self
            .hasher
            .hash_one((self.revision, place.namespace, place.stored, place.routes));
        let looked = self.looked;
        let fresh = !self.slots.contains_key(name);
        if fresh {
            let born = looked.then_some(now);
            self.slots.insert(
                name.to_owned(),
                Slot {
                    born,
                    ..Slot::default()
                },
            );
        }
        let slot = self.slots.get_mut(name)?;
        slot.due = false;
        let same = slot.seen == Some(input);
        slot.done = slot.done.filter(|(done, _)| *done == input); // else its effect was seen
        if slot.state == State::Running
            || (same && (slot.state == State::Settled || slot.next(now).is_some()))
        {
            return None;
        }
        let Plan {
            mut actions,
            matched,
            problems,
        } = plan(place, &self.baselines);
        if problems != slot.problems {
            let new = problems.iter().filter(|problem| !slot.problems.contains(problem));
            let room = NOTICES.saturating_sub(notices.len());
            notices.extend(new.take(room).map(|problem| Notice::of(name, problem)));
        }
        (slot.seen, slot.matched, slot.problems) = (Some(input), matched, problems);
        slot.held_back = hold_back(&mut actions, &mut self.gone, now);
        if actions.is_empty() && slot.held_back.is_some() {
            slot.state = State::Pending;
            slot.waiting.get_or_insert(now);
            return None;
        }
        if actions.is_empty() {
            slot.settle(self.revision, now, &self.metrics);
            return None;
        }
        slot.waiting.get_or_insert(now);
        if fresh && !looked {
            slot.born = born_unseen(place.namespace, &slot.matched, &self.baselines, self.clock, now);
        }
        slot.state = State::Pending;
        if slot.next(now).is_some() || self.running >= self.capacity {
            return None;
        }
        if slot.held == Some(self.revision) {
            let mut repaired = None;
            for action in &actions {
                if let Some(change) = drift(action) {
                    self.metrics.repairs.with_label_values(&[change]).inc();
                    repaired = Some(action);
                }
            }
            if let Some(action) = repaired {
                self.repairs.note(name, action, now);
            }
        }
        slot.held = None;
        slot.state = State::Running;
        slot.turn.begins(now, self.pace);
        self.running += 1;
        Some(Job {
            namespace: name.to_owned(),
            actions,
        })
    }

    /// Takes the end of a job. Whether it did what it should is for the next look to say.
    pub fn finished(&mut self, namespace: &str, result: Result<(), Error>, now: Instant) {
        self.running = self.running.saturating_sub(1);
        let Some(slot) = self.slots.get_mut(namespace) else {
            return;
        };
        slot.state = State::Pending;
        slot.due = true;
        self.pending.insert(namespace.to_owned());
        let rest = result.as_ref().err().map(Error::rest);
        slot.turn.ended(now, self.pace, rest);
        match result {
            Ok(()) => {
                slot.failure = None;
                slot.done = slot.seen.map(|seen| (seen, now + UNSEEN));
            }
            Err(error) => {
                slot.done = None;
                self.metrics.errors.with_label_values(&[error.kind()]).inc();
                slot.failure = Some(error);
            }
        }
    }

    /// When to look again although nothing changed.
    pub fn wake(&self, now: Instant) -> Option<Instant> {
        let pending = self.pending.iter().filter_map(|name| self.slots.get(name));
        let pending = pending.filter(|slot| slot.state == State::Pending);
        let next = |slot: &Slot| match slot.next(now) {
            Some(next) => Some(next),
            // It waits for room, and a job that ends makes some.
            None if self.running > 0 => None,
            None => Some(now),
        };
        pending.filter_map(next).chain(self.repairs.wake(now)).min()
    }

    /// What became of each baseline.
    pub fn tallies(&self, now: Instant) -> BTreeMap<String, Tally> {
        let mut tallies: BTreeMap<String, Tally> = self
            .baselines
            .iter()
            .map(|(name, _)| (name.to_owned(), Tally::default()))
            .collect();
        for (namespace, slot) in &self.slots {
            let undone = self.repairs.problem(namespace, now);
            for baseline in &slot.matched {
                if let Some(tally) = tallies.get_mut(baseline) {
                    let mut outcome = slot.outcome(baseline);
                    // It has what it must; that does not last.
                    outcome
                        .problems
                        .extend(undone.clone().filter(|problem| problem.baseline == *baseline));
                    tally.add(namespace, &outcome);
                }
            }
        }
        tallies
    }

    /// Brings the gauges up to date.
    pub fn gauge(&self, now: Instant) {
        let waiting = self
            .pending
            .iter()
            .filter_map(|name| self.slots.get(name)?.waiting);
        let oldest = waiting.clone().min();
        let age = oldest.map_or(Duration::ZERO, |oldest| now.saturating_duration_since(oldest));
        self.metrics.queue_age.set(age.as_secs_f64());
        self.metrics
            .queue
            .set(i64::try_from(waiting.count()).unwrap_or(i64::MAX));
        let mut counts =
            BTreeMap::from(["open", "ready", "pending", "conflicting", "failing"].map(|state| (state, 0)));
        for slot in self.slots.values() {
            let state = match slot {
                Slot { failure: Some(_), .. } => "failing",
                Slot { problems, .. } if !problems.is_empty() => "conflicting",
                Slot {
                    state: State::Pending | State::Running,
                    ..
                } => "pending",
                Slot { matched, .. } if matched.is_empty() => "open",
                _ => "ready",
            };
            *counts.entry(state).or_default() += 1;
        }
        for (state, count) in counts {
            self.metrics.namespaces.with_label_values(&[state]).set(count);
        }
        let invalid = self
            .baselines
            .iter()
            .filter(|(_, baseline)| matches!(baseline, Baseline::Invalid { .. }))
            .count();
        self.metrics
            .invalid
            .set(i64::try_from(invalid).unwrap_or(i64::MAX));
    }
}

/// Takes out of the steps the removals for which it is too early, and says until when.
fn hold_back(
    actions: &mut Vec<Action>,
    gone: &mut BTreeMap<String, Instant>,
    now: Instant,
) -> Option<Instant> {
    let mut until = None;
    actions.retain(|action| {
        let Action::Delete {
            basis: Some(Basis {
                baseline,
                generation: None,
            }),
            ..
        } = action
        else {
            return true;
        };
        let ripe = *gone.entry(baseline.clone()).or_insert(now) + GONE;
        if ripe > now {
            until = until.max(Some(ripe));
        }
        ripe <= now
    });
    until
}

/// When a namespace came to need what it has not, that did so before anybody looked: when it was created, or the youngest of its baselines.
fn born_unseen(
    namespace: &Namespace,
    matched: &BTreeSet<String>,
    baselines: &Baselines,
    clock: Option<(Instant, i64)>,
    now: Instant,
) -> Option<Instant> {
    let (then, unix) = clock?;
    let taken = matched.iter().filter_map(|name| match baselines.get(name)? {
        Baseline::Valid { template, .. } => template.created,
        Baseline::Invalid { .. } => None,
    });
    let since = taken.chain([namespace.created?]).max()?;
    let age = Duration::from_secs(u64::try_from(unix.saturating_sub(since)).ok()?);
    now.checked_sub(age + now.saturating_duration_since(then))
}

/// What happened to a policy that was as it must be, if this step mends it.
fn drift(action: &Action) -> Option<&'static str> {
    match action {
        Action::Apply {
            why: Why::Missing, ..
        } => Some("deleted"),
        Action::Apply {
            why: Why::Differs, ..
        } => Some("edited"),
        Action::Apply {
            why: Why::Adopted, ..
        }
        | Action::Delete { .. } => None,
    }
}
