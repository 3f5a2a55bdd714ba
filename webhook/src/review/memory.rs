//! What is kept of the cluster from one judgement to the next, for as long as it holds.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use ringfence_netpol::cluster::Cluster;
use ringfence_netpol::lint::Known;
use ringfence_netpol::simulation::Outline;

/// It is of one cluster, however that changes.
#[derive(Debug, Default)]
pub struct Memory {
    known: ArcSwap<Known>,
    outline: RwLock<Outline>,
}

impl Memory {
    /// What lints found out: by the judgements before, unless something changed since.
    pub(super) fn known(&self, cluster: &Cluster) -> Arc<Known> {
        let known = self.known.load_full();
        if known.holds(cluster) {
            return known;
        }
        let fresh = Arc::new(Known::of(cluster));
        self.known.store(Arc::clone(&fresh));
        fresh
    }

    /// What each namespace as a whole lets through.
    pub(super) fn outline(&self, cluster: &Cluster) -> RwLockReadGuard<'_, Outline> {
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
