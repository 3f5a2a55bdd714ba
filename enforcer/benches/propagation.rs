//! From an event of the API server to the writes that bring it into force, on one node of a large cluster: 10,000 pods, 2,000
//! policies, 250 local pods. No kernel: how long its writes take is for who measures there, how many they are is said here. Prints a
//! table, and writes one object a figure to `target/bench/results.jsonl`.

#![allow(clippy::unwrap_used, clippy::expect_used)] // no part of the product: it may just stop

#[path = "../../netpol/benches/large/mod.rs"]
mod large;

use std::cell::Cell;
use std::convert::Infallible;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ringfence_enforcer::agent::rules::Rules;
use ringfence_enforcer::datapath::ROOM;
use ringfence_enforcer::encode::plan::Endpoints;
use ringfence_enforcer::encode::state::{State, Write};
use ringfence_enforcer::encode::tables::Encoder;
use ringfence_enforcer::sync::{Store, Sync};
use ringfence_netpol::cluster::{Cluster, Key, Observed};
use ringfence_netpol::compile::Endpoint;
use ringfence_netpol::compile::delta::RulesetId;
use serde_json::json;

/// The API's bound from an event to its being in force, in milliseconds.
const BOUND: f64 = 20.0;
/// Of memory, in MiB.
const MEMORY: f64 = 60.0;
const ROUNDS: usize = 100;

/// Maps that only count.
#[derive(Default)]
struct Counted(Cell<usize>);

impl Store for &Counted {
    type Error = Infallible;

    fn dump(&self) -> Result<State, Infallible> {
        Ok(State::default())
    }

    fn write(&self, writes: &[Write]) -> Result<(), Infallible> {
        self.0.set(self.0.get() + writes.len());
        Ok(())
    }
}

struct Node<'a> {
    cluster: Cluster,
    rules: Rules,
    sync: Sync<&'a Counted>,
    maps: &'a Counted,
    endpoints: Vec<Endpoint<RulesetId>>,
}

impl Node<'_> {
    /// Brings what changed into force; how long that took, and how many writes it was.
    fn follow(&mut self) -> (Duration, usize) {
        self.maps.0.set(0);
        let start = Instant::now();
        let delta = self.rules.follow(&self.cluster).delta;
        if !delta.endpoints.is_empty() {
            let all = self.rules.everything().endpoints;
            self.endpoints = all.into_values().flatten().collect();
        }
        self.sync.take(&delta);
        let endpoints = |encoder: &Encoder| -> Endpoints {
            let id = |name| encoder.ruleset(name).unwrap();
            let all = self.endpoints.iter().zip(1..);
            all.map(|(endpoint, ifindex)| (ifindex, (id(endpoint.ingress), id(endpoint.egress))))
                .collect()
        };
        self.sync.apply(|| self.rules.everything(), endpoints).unwrap();
        (start.elapsed(), self.maps.0.get())
    }

    fn apply<K: Observed>(&mut self, object: &K) -> (Duration, usize) {
        self.cluster.apply(object);
        self.follow()
    }
}

fn main() {
    let node = large::node(0);
    let maps = Counted::default();
    let mut node = Node {
        cluster: large::cluster(),
        rules: Rules::new(&node),
        sync: Sync::new(&maps, ROOM),
        maps: &maps,
        endpoints: Vec::new(),
    };
    let (first, writes) = node.follow();
    let mut figures = vec![
        (
            "from nothing to all rules planned".to_owned(),
            milliseconds(first),
            "ms",
            None,
        ),
        ("writes of that".to_owned(), writes as f64, "", None),
    ];

    let mut kinds: Vec<(&str, Vec<(Duration, usize)>)> = Vec::new();
    let pods = |n: usize| (n * 7 % large::NAMESPACES, n * 13 % large::WORKLOADS);
    kinds.push((
        "a pod's labels change",
        (0..ROUNDS)
            .map(|n| {
                let (namespace, workload) = pods(n);
                node.apply(&large::pod(namespace, workload, n % 5))
            })
            .collect(),
    ));
    kinds.push((
        "a pod moves to another address",
        (0..ROUNDS)
            .map(|n| {
                let (namespace, workload) = pods(n);
                node.apply(&large::pod_at(
                    namespace,
                    workload,
                    workload % 5,
                    &format!("10.200.0.{}", n + 1),
                ))
            })
            .collect(),
    ));
    kinds.push((
        "a policy's ports change",
        (0..ROUNDS)
            .map(|n| {
                node.apply(&large::policy(
                    n * 7 % large::NAMESPACES,
                    2 + n % 8,
                    1000 + n as u16,
                ))
            })
            .collect(),
    ));
    kinds.push((
        "a namespace's labels change",
        (0..ROUNDS)
            .map(|n| node.apply(&large::namespace(n % large::NAMESPACES, n * 3 % 20)))
            .collect(),
    ));
    kinds.push(("a policy with a peer of its own comes", (0..ROUNDS).map(|n| {
        let peer = json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["app-01", format!("app-{:02}", n % 50)]}]}});
        let spec = json!({"podSelector": {}, "ingress": [{"from": [peer], "ports": [{"port": 9000 + n}]}]});
        node.apply(&large::named(n, "own", spec))
    }).collect()));
    kinds.push((
        "a policy goes",
        (0..ROUNDS)
            .map(|n| {
                node.cluster
                    .policies
                    .delete(&Key::new(format!("team-{n:03}"), "own"));
                node.follow()
            })
            .collect(),
    ));
    let mut all: Vec<(Duration, usize)> = kinds.iter().flat_map(|(_, times)| times.clone()).collect();
    for (kind, times) in &mut kinds {
        let (time, writes) = at(times, 99);
        figures.push((format!("{kind}: planned, p99"), time, "ms", Some(BOUND)));
        figures.push((format!("{kind}: writes, p99"), writes, "", None));
    }
    let (time, writes) = at(&mut all, 99);
    figures.push((
        "one change of any kind: planned, p99".to_owned(),
        time,
        "ms",
        Some(BOUND),
    ));
    figures.push(("one change of any kind: writes, p99".to_owned(), writes, "", None));

    let mut wide: Vec<(Duration, usize)> = (0..10).map(|n| {
        let peer = json!({"namespaceSelector": {"matchExpressions": [{"key": format!("none-{n}"), "operator": "DoesNotExist"}]}});
        let spec = json!({"podSelector": {}, "ingress": [{"from": [peer], "ports": [{"port": 9000}]}]});
        node.apply(&large::named(3, "wide", spec))
    }).collect();
    let (time, writes) = at(&mut wide, 50);
    figures.push((
        "a peer that nobody named before and all pods match: planned, median".to_owned(),
        time,
        "ms",
        None,
    ));
    figures.push((
        "a peer that nobody named before and all pods match: writes".to_owned(),
        writes,
        "",
        None,
    ));
    figures.push((
        "resident memory with all of it".to_owned(),
        resident(),
        "MiB",
        Some(MEMORY),
    ));
    report(&figures);
}

/// The percentile of the times, and that of the writes.
fn at(times: &mut [(Duration, usize)], percent: usize) -> (f64, f64) {
    let index = (times.len() * percent / 100).min(times.len() - 1);
    times.sort_by_key(|(_, writes)| *writes);
    let writes = times[index].1 as f64;
    times.sort_by_key(|(time, _)| *time);
    (milliseconds(times[index].0), writes)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

fn report(figures: &[(String, f64, &str, Option<f64>)]) {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    let results = target.join("bench/results.jsonl");
    std::fs::create_dir_all(results.parent().unwrap()).unwrap();
    let mut results = std::fs::File::options()
        .create(true)
        .append(true)
        .open(results)
        .unwrap();
    for (figure, value, unit, bound) in figures {
        let within = bound.map(|bound| *value <= bound);
        let line = json!({"component": "enforcer", "figure": figure, "value": value, "unit": unit, "bound": bound, "within": within, "beside": {}});
        writeln!(results, "{line}").unwrap();
        let verdict = match (bound, within) {
            (Some(bound), Some(true)) => format!("within {bound} {unit}"),
            (Some(bound), _) => format!("MISSED {bound} {unit}"),
            _ => String::new(),
        };
        println!("{figure:70} {value:10.3} {unit:4} {verdict}");
    }
}
