//! Policies, labels and pods come and go for long: what is kept afterwards is what an agent would keep that never saw them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test's way to fail

#[allow(dead_code)] // the benchmarks need more of it
#[path = "../../netpol/benches/large/mod.rs"]
mod large;

use std::cell::RefCell;
use std::convert::Infallible;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use ringfence_enforcer::agent::rules::Rules;
use ringfence_enforcer::datapath::ROOM;
use ringfence_enforcer::encode::plan::Endpoints;
use ringfence_enforcer::encode::state::{State, Write};
use ringfence_enforcer::encode::tables::Encoder;
use ringfence_enforcer::sync::{Store, Sync};
use ringfence_netpol::cluster::{Cluster, Key};

const NAMESPACES: usize = 6;
const WORKLOADS: usize = 10;
const POLICIES: usize = 6;
/// (n + w) % 40 is the pods' node.
const NODE: usize = 5;
/// Longer than a packet is under way.
const LATER: Duration = Duration::from_millis(60);

#[derive(Default)]
struct Maps(RefCell<State>);

impl Store for Maps {
    type Error = Infallible;

    fn dump(&self) -> Result<State, Infallible> {
        Ok(self.0.borrow().clone())
    }

    fn write(&self, writes: &[Write]) -> Result<(), Infallible> {
        writes
            .iter()
            .for_each(|write| self.0.borrow_mut().take(write.clone()));
        Ok(())
    }
}

struct Agent {
    rules: Rules,
    sync: Sync<Maps>,
}

impl Agent {
    fn new() -> Self {
        Self {
            rules: Rules::new(&large::node(NODE)),
            sync: Sync::new(Maps::default(), ROOM),
        }
    }

    fn follow(&mut self, cluster: &Cluster) {
        let delta = self.rules.follow(cluster).delta;
        self.sync.take(&delta);
        let everything = self.rules.everything();
        let endpoints = |encoder: &Encoder| -> Endpoints {
            let id = |name| encoder.ruleset(name).unwrap();
            let all = everything.endpoints.values().flatten().zip(1..);
            all.map(|(endpoint, ifindex)| (ifindex, (id(endpoint.ingress), id(endpoint.egress))))
                .collect()
        };
        self.sync.apply(|| self.rules.everything(), endpoints).unwrap();
    }

    fn sweep(&mut self) {
        while self.sync.sweep_due().is_some() {
            std::thread::sleep(LATER);
            self.sync.sweep().unwrap();
        }
    }

    /// How much of each the agent takes to be in the maps.
    fn sizes(&self) -> [usize; 6] {
        let state = self.sync.state().unwrap();
        let (addresses, prefixes) = (state.addresses.len(), state.prefixes.len());
        let (decisions, services) = (state.decisions.len(), state.services.len());
        [
            addresses,
            prefixes,
            decisions,
            services,
            state.port_sets.len(),
            state.words.len(),
        ]
    }
}

fn whole(cluster: &mut Cluster) {
    for n in 0..NAMESPACES {
        cluster.apply(&large::namespace(n, n % 3));
        for w in 0..WORKLOADS {
            cluster.apply(&large::pod(n, w, w % 5));
        }
        for p in 0..POLICIES {
            cluster.apply(&large::policy(n, p, 443));
        }
    }
}

#[derive(Debug, Clone)]
enum Event {
    Pod { n: usize, w: usize, role: Option<usize> },
    Policy { n: usize, p: usize, port: Option<u16> },
    Namespace { n: usize, team: usize },
}

fn event() -> impl Strategy<Value = Event> {
    let (n, w, p) = (0..NAMESPACES, 0..WORKLOADS, 0..POLICIES);
    prop_oneof![
        (n.clone(), w, prop::option::weighted(0.8, 0..5_usize)).prop_map(|(n, w, role)| Event::Pod {
            n,
            w,
            role
        }),
        (n.clone(), p, prop::option::weighted(0.8, 1..2000_u16)).prop_map(|(n, p, port)| Event::Policy {
            n,
            p,
            port
        }),
        (n, 0..3_usize).prop_map(|(n, team)| Event::Namespace { n, team }),
    ]
}

fn happen(cluster: &mut Cluster, event: &Event) {
    let key = |meta: ObjectMeta| Key::new(meta.namespace.unwrap(), meta.name.unwrap());
    match *event {
        Event::Pod {
            n,
            w,
            role: Some(role),
        } => {
            cluster.apply(&large::pod(n, w, role));
        }
        Event::Pod { n, w, role: None } => {
            cluster.pods.delete(&key(large::pod(n, w, 0).metadata));
        }
        Event::Policy {
            n,
            p,
            port: Some(port),
        } => {
            cluster.apply(&large::policy(n, p, port));
        }
        Event::Policy { n, p, port: None } => {
            cluster.policies.delete(&key(large::policy(n, p, 1).metadata));
        }
        Event::Namespace { n, team } => {
            cluster.apply(&large::namespace(n, team));
        }
    }
}

#[test]
fn what_is_kept_does_not_grow_with_what_came_and_went() {
    let config = Config {
        cases: 4,
        max_shrink_iters: 0,
        ..Config::default()
    };
    let runner = TestRunner::new(config).run(&prop::collection::vec(event(), 300), |events| {
        let (mut cluster, mut agent) = (Cluster::default(), Agent::new());
        whole(&mut cluster);
        agent.follow(&cluster);
        for (count, event) in events.iter().enumerate() {
            happen(&mut cluster, event);
            agent.follow(&cluster);
            if count % 100 == 0 {
                agent.sweep();
            }
        }
        whole(&mut cluster);
        agent.follow(&cluster);
        agent.sweep();
        let mut fresh = Agent::new();
        fresh.follow(&cluster);
        fresh.sweep();
        prop_assert_eq!(agent.sizes(), fresh.sizes());
        Ok(())
    });
    runner.unwrap();
}
