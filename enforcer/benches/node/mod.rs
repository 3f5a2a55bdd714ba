//! A node that follows a cluster, with maps that only count.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;

use ringfence_enforcer::agent::rules::Rules;
use ringfence_enforcer::datapath::ROOM;
use ringfence_enforcer::encode::plan::Endpoints;
use ringfence_enforcer::encode::state::{State, Write};
use ringfence_enforcer::encode::tables::Encoder;
use ringfence_enforcer::sync::{Store, Sync};
use ringfence_netpol::cluster::{Cluster, Key, Observed};
use ringfence_netpol::compile::Endpoint;
use ringfence_netpol::compile::delta::RulesetId;

use crate::process::now;

/// Longer than a packet is under way.
const LATER: std::time::Duration = std::time::Duration::from_millis(60);

#[derive(Default)]
struct Counted(Rc<Cell<usize>>);

impl Store for Counted {
    type Error = Infallible;

    fn dump(&self) -> Result<State, Infallible> {
        Ok(State::default())
    }

    fn write(&self, writes: &[Write]) -> Result<(), Infallible> {
        let rows: usize = writes.iter().map(Write::len).sum();
        self.0.set(self.0.get() + rows);
        Ok(())
    }
}

pub struct Node {
    pub cluster: Cluster,
    rules: Rules,
    sync: Sync<Counted>,
    written: Rc<Cell<usize>>,
    endpoints: BTreeMap<Key, Endpoint<RulesetId>>,
}

/// How long a change took, in milliseconds of the processor, and how many writes it was.
#[derive(Clone)]
pub struct Took {
    pub compiled: f64,
    pub planned: f64,
    pub writes: usize,
}

impl Node {
    pub fn new(name: &str, cluster: Cluster) -> Self {
        let maps = Counted::default();
        Self {
            cluster,
            rules: Rules::new(name),
            written: Rc::clone(&maps.0),
            sync: Sync::new(maps, ROOM),
            endpoints: BTreeMap::new(),
        }
    }

    pub fn apply<K: Observed>(&mut self, object: &K) -> Took {
        self.cluster.apply(object);
        self.follow()
    }

    /// Brings what changed into force. What changes before left to sweep is swept first, as the agent does it in turns of their own.
    pub fn follow(&mut self) -> Took {
        if self
            .sync
            .sweep_due()
            .is_some_and(|due| due <= std::time::Instant::now())
        {
            self.sync.sweep().unwrap();
        }
        self.written.set(0);
        let start = now();
        let delta = self.rules.follow(&self.cluster).delta;
        let compiled = now() - start;
        for (key, endpoint) in &delta.endpoints {
            match endpoint {
                Some(endpoint) => drop(self.endpoints.insert(key.clone(), endpoint.clone())),
                None => drop(self.endpoints.remove(key)),
            }
        }
        let start = now();
        self.sync.take(&delta);
        let endpoints = |encoder: &Encoder| -> Endpoints {
            let id = |name| encoder.ruleset(name).unwrap();
            let all = self.endpoints.values().zip(1..);
            all.map(|(endpoint, ifindex)| (ifindex, (id(endpoint.ingress), id(endpoint.egress))))
                .collect()
        };
        self.sync.apply(|| self.rules.everything(), endpoints).unwrap();
        Took {
            compiled,
            planned: now() - start,
            writes: self.written.get(),
        }
    }

    /// Sweeps all that is left.
    pub fn sweep(&mut self) {
        std::thread::sleep(LATER);
        self.sync.sweep().unwrap();
    }
}
