//! What is kept of the cluster from one judgement to the next, for as long as it holds.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use ringfence_netpol::api::LabelStandard;
use ringfence_netpol::cluster::{Cluster, Store};
use ringfence_netpol::finding::Finding;
use ringfence_netpol::lint::{Known, Survey};
use ringfence_netpol::simulation::{Change, Effect, Outline, simulate};
use ringfence_netpol::standard::{Patterns, Subject, judge_by};

use crate::settings::Review;

/// It is of one cluster, however that changes.
#[derive(Debug, Default)]
pub struct Memory {
    known: Lasting<Known>,
    outline: RwLock<Outline>,
    patterns: Lasting<Patterns>,
}

/// What was found out, until it no longer holds.
#[derive(Debug, Default)]
struct Lasting<T>(ArcSwap<T>);

impl<T> Lasting<T> {
    fn get(&self, holds: impl FnOnce(&T) -> bool, find: impl FnOnce() -> T) -> Arc<T> {
        let found = self.0.load_full();
        if holds(&found) {
            return found;
        }
        let fresh = Arc::new(find());
        self.0.store(Arc::clone(&fresh));
        fresh
    }
}

impl Memory {
    /// What lints found out: by the judgements before, unless something changed since.
    fn known(&self, cluster: &Cluster) -> Arc<Known> {
        self.known
            .get(|known| known.holds(cluster), || Known::of(cluster))
    }

    /// What label standards ask values to match.
    fn patterns(&self, standards: &Store<LabelStandard>) -> Arc<Patterns> {
        self.patterns
            .get(|patterns| patterns.holds(standards), || Patterns::of(standards))
    }

    /// What each namespace as a whole lets through.
    fn outline(&self, cluster: &Cluster) -> RwLockReadGuard<'_, Outline> {
        let outline = self.outline.read();
        if outline.holds(cluster) {
            return outline;
        }
        drop(outline);
        let mut outline = self.outline.write();
        outline.follow(cluster); // nothing to do if another request was faster
        RwLockWriteGuard::downgrade(outline)
    }
}

/// The cluster as it is in view, with what is remembered of it.
#[derive(Debug)]
pub struct Seen<'a> {
    pub(super) cluster: &'a Cluster,
    memory: Kept<'a>,
}

#[derive(Debug)]
enum Kept<'a> {
    Own(Memory),
    Shared(&'a Memory),
}

impl<'a> Seen<'a> {
    /// A cluster of which nothing is known yet.
    pub fn of(cluster: &'a Cluster) -> Self {
        Self {
            cluster,
            memory: Kept::Own(Memory::default()),
        }
    }

    /// A cluster of which this is remembered.
    pub fn remembering(cluster: &'a Cluster, memory: &'a Memory) -> Self {
        Self {
            cluster,
            memory: Kept::Shared(memory),
        }
    }

    fn memory(&self) -> &Memory {
        match &self.memory {
            Kept::Own(memory) => memory,
            Kept::Shared(memory) => memory,
        }
    }

    /// For lints.
    pub(super) fn survey(&self) -> Survey<'a> {
        Survey::knowing(self.cluster, self.memory().known(self.cluster))
    }

    /// What the label standards say of an object.
    pub(super) fn standards(&self, subject: &Subject<'_>) -> Vec<Finding> {
        let standards = &self.cluster.standards;
        judge_by(subject, standards, &self.memory().patterns(standards))
    }

    /// What a change does.
    pub(super) fn simulate(&self, change: Change<'_>, settings: &Review) -> Effect {
        let outline = self.memory().outline(self.cluster);
        simulate(self.cluster, &outline, change, settings.simulation.bounds())
    }
}
