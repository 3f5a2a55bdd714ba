//! From an event of the API server to the writes that bring it into force, on one node of a large cluster: 10,000 pods, 2,000
//! policies, 250 local pods; and the memory of that. No kernel: how long its writes take is for who measures there, how many they are
//! is said here. Times are of the processor, so that what else runs on the machine does not count. Prints a table, and writes one object a
//! figure to `target/bench/results.jsonl`. `RINGFENCE_BENCH_CHURN` says how many events the churn has (20,000).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // no part of the product: it may just stop

#[path = "../../netpol/benches/large/mod.rs"]
mod large;
mod node;
mod process;
mod stored;

use ringfence_bench::Report;
use ringfence_netpol::cluster::{Cluster, Key, Observed, PodObject};
use ringfence_runtime::memory;
use serde::Deserialize;
use serde_json::{Value, json};

use node::{Node, Took};
use process::{peak, resident};

/// The API's bound from an event to its being in force, in milliseconds.
const BOUND: f64 = 20.0;
/// Of memory, in MiB.
const MEMORY: f64 = 60.0;
/// What the compiler may take of it for all rules, and for one change.
const SCRATCH: f64 = 100.0;
const CHANGE: f64 = 1.0;
const ROUNDS: usize = 100;
/// Each is a class of its own, and there are 250 rulesets that open the world: many more would not fit the table of decisions.
const BLOCKS: usize = 500;
/// Objects a page of a list, as the watch asks for.
const PAGE: usize = 500;

/// What a cluster is taken to do, for what its watches cost: pods that start, and end, a second; what is told of each in its life (made,
/// bound, told of its sandbox, of its address and readiness, unready, ending twice); how many are on a node.
const STARTS: f64 = 50.0;
const EVENTS: f64 = 8.0;
const PODS_A_NODE: f64 = 30.0;
const MIB: f64 = 1_048_576.0;

struct Figure(String, f64, &'static str, Option<f64>);

fn main() {
    let mut figures = Vec::new();
    let empty = resident();
    let cluster = load(&mut figures);
    memory::give_back();
    figures.push(Figure(
        "resident before anything is read".to_owned(),
        empty,
        "MiB",
        None,
    ));
    figures.push(Figure(
        "resident with the cluster in view".to_owned(),
        resident(),
        "MiB",
        None,
    ));
    figures.push(Figure(
        "resident at most meanwhile".to_owned(),
        peak(),
        "MiB",
        None,
    ));

    let mut node = Node::new(&large::node(0), cluster);
    let first = node.follow();
    let seconds = |name: &str, value, bound| Figure(format!("all rules: {name}"), value, "ms", bound);
    figures.push(seconds("compiled", first.compiled, Some(SCRATCH)));
    figures.push(seconds("planned", first.planned, None));
    figures.push(Figure(
        "all rules: writes".to_owned(),
        first.writes as f64,
        "",
        None,
    ));
    node.sweep();
    memory::give_back();
    figures.push(Figure(
        "resident with all rules in force".to_owned(),
        resident(),
        "MiB",
        Some(MEMORY),
    ));
    figures.push(Figure("resident at most so far".to_owned(), peak(), "MiB", None));

    let mut all = Vec::new();
    for (kind, times) in kinds(&mut node) {
        describe(&kind, &times, &mut figures);
        all.extend(times);
    }
    describe("one change of any kind", &all, &mut figures);
    wide(&mut node, &mut figures);
    churn(&mut node, &mut figures);
    report(figures);
}

#[derive(Deserialize)]
struct List {
    items: Vec<PodObject>,
}

/// A cluster as it comes from the API server: pods page by page, as text.
fn load(figures: &mut Vec<Figure>) -> Cluster {
    let mut cluster = Cluster::default();
    let (mut bytes, mut spent) = (0, 0.0);
    let mut entries = Vec::new();
    let all: Vec<(usize, usize)> = (0..large::NAMESPACES)
        .flat_map(|n| (0..large::WORKLOADS).map(move |w| (n, w)))
        .collect();
    for page in all.chunks(PAGE) {
        let items = page
            .iter()
            .map(|(n, w)| stored::stored(&large::pod(*n, *w, w % 5), n * w));
        let text = serde_json::to_vec(&json!({"items": items.collect::<Vec<_>>()})).unwrap();
        bytes += text.len();
        let start = process::now();
        let list: List = serde_json::from_slice(&text).unwrap();
        let shared = &mut cluster.shared;
        entries.extend(list.items.into_iter().map(|pod| {
            let entry = PodObject::share(pod.observe(), shared);
            (Observed::key(&pod), entry)
        }));
        spent += process::now() - start;
    }
    cluster.reset::<PodObject>(entries);
    for n in 0..large::NAMESPACES {
        cluster.apply(&large::namespace(n, n % 20));
        for p in 0..large::POLICIES {
            cluster.apply(&large::policy(n, p, 443));
        }
        cluster.apply(&large::service(n));
    }
    let pods = all.len() as f64;
    let mut figure = |name: &str, value, unit| figures.push(Figure(name.to_owned(), value, unit, None));
    let sent = bytes as f64 / pods;
    figure("a pod as the API server sends it", sent, "B");
    figure(
        "of which matters",
        serde_json::to_vec(&large::pod(1, 1, 1)).unwrap().len() as f64,
        "B",
    );
    figure("to read a pod", spent / pods * 1e3, "µs");
    for nodes in [500.0, 5000.0] {
        let events = STARTS * EVENTS;
        figure(
            &format!("{nodes} nodes at {STARTS} pods a second: sent to all"),
            nodes * events * sent / MIB,
            "MiB/s",
        );
        figure(
            &format!("{nodes} nodes: a first list by all"),
            nodes * nodes * PODS_A_NODE * sent / MIB / 1024.0,
            "GiB",
        );
    }
    figure(
        "one node's share of that: received",
        STARTS * EVENTS * sent / MIB,
        "MiB/s",
    );
    figure(
        "one node's share of that: reading it",
        STARTS * EVENTS * spent / pods / 10.0,
        "% CPU",
    );
    cluster
}

/// Changes of each kind.
fn kinds(node: &mut Node) -> Vec<(String, Vec<Took>)> {
    let pods = |n: usize| (n * 7 % large::NAMESPACES, n * 13 % large::WORKLOADS);
    let mut kinds = Vec::new();
    let mut kind = |name: &str, change: &mut dyn FnMut(usize) -> Took| {
        kinds.push((name.to_owned(), (0..ROUNDS).map(change).collect()));
    };
    kind("a pod's labels change", &mut |n| {
        let (namespace, workload) = pods(n);
        node.apply(&large::pod(namespace, workload, n % 5))
    });
    kind("a label of one of the node's pods changes", &mut |n| {
        let (namespace, workload) = large::local(n * 3);
        node.apply(&large::pod(namespace, workload, n % 5))
    });
    kind("a pod moves to another address", &mut |n| {
        let (namespace, workload) = pods(n);
        let address = format!("10.200.0.{}", n + 1);
        node.apply(&large::pod_at(namespace, workload, workload % 5, &address))
    });
    kind("a policy's ports change", &mut |n| {
        let policy = large::policy(n * 7 % large::NAMESPACES, 2 + n % 8, 1000 + n as u16);
        node.apply(&policy)
    });
    kind("a namespace's labels change", &mut |n| {
        node.apply(&large::namespace(n % large::NAMESPACES, n * 3 % 20))
    });
    kind("a policy with a peer of its own comes", &mut |n| {
        let values = ["app-01".to_owned(), format!("app-{:02}", n % 50)];
        let peer = json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": values}]}});
        let spec = json!({"podSelector": {}, "ingress": [{"from": [peer], "ports": [{"port": 9000 + n}]}]});
        node.apply(&large::named(n, "own", spec))
    });
    kind("a policy goes", &mut |n| {
        let key = Key::new(format!("team-{n:03}"), "own");
        node.cluster.policies.delete(&key);
        node.follow()
    });
    kinds
}

/// What concerns all pods, or has many blocks.
fn wide(node: &mut Node, figures: &mut Vec<Figure>) {
    let times: Vec<Took> = (0..10)
        .map(|n| {
            let key = format!("none-{n}");
            let peer = json!({"namespaceSelector": {"matchExpressions": [{"key": key, "operator": "DoesNotExist"}]}});
            let spec = json!({"podSelector": {}, "ingress": [{"from": [peer], "ports": [{"port": 9000}]}]});
            node.apply(&large::named(3, "wide", spec))
        })
        .collect();
    describe(
        "a peer that nobody named before and all pods match",
        &times,
        figures,
    );
    let times: Vec<Took> = (0..4)
        .map(|n| {
            let block =
                |b: usize| json!({"ipBlock": {"cidr": format!("198.{}.{}.{}/32", 16 + n, b / 256, b % 256)}});
            let blocks: Vec<Value> = (0..BLOCKS).map(block).collect();
            node.apply(&large::named(
                3,
                "blocks",
                json!({"podSelector": {}, "egress": [{"to": blocks}]}),
            ))
        })
        .collect();
    let blocks = format!("{BLOCKS} blocks in a policy become others");
    describe(&blocks, &times, figures);
    node.cluster.policies.delete(&Key::new("team-003", "blocks"));
    node.follow();
}

/// Pods come, go, move and change, and policies with them, all day long.
fn churn(node: &mut Node, figures: &mut Vec<Figure>) {
    let events = std::env::var("RINGFENCE_BENCH_CHURN").map_or(20_000, |events| events.parse().unwrap());
    let (start, mut worst) = (process::now(), 0.0_f64);
    for n in 0..events {
        let (namespace, workload) = (n * 31 % large::NAMESPACES, n * 17 % large::WORKLOADS);
        let address = format!("10.{}.{}.{}", 100 + n % 50, n / 250 % 250, n % 250);
        let took = match n % 10 {
            0 => {
                let (namespace, workload) = large::local(n);
                node.apply(&large::pod(namespace, workload, n % 5))
            }
            1 => node.apply(&large::policy(namespace, 2 + n % 8, 1000 + (n % 500) as u16)),
            2..6 => {
                node.cluster.delete(&large::pod(namespace, workload, 0));
                node.follow()
            }
            _ => node.apply(&large::pod_at(namespace, workload, n % 5, &address)),
        };
        worst = worst.max(took.compiled + took.planned);
    }
    let spent = (process::now() - start) / events as f64;
    node.sweep();
    memory::give_back();
    figures.push(Figure(
        format!("{events} events: each, sweeping included"),
        spent,
        "ms",
        None,
    ));
    figures.push(Figure(
        format!("{events} events: the slowest"),
        worst,
        "ms",
        Some(BOUND),
    ));
    figures.push(Figure(
        format!("resident after {events} events"),
        resident(),
        "MiB",
        Some(MEMORY),
    ));
    figures.push(Figure("resident at most, ever".to_owned(), peak(), "MiB", None));
}

/// The 50th and the 99th of a hundred.
fn describe(kind: &str, times: &[Took], figures: &mut Vec<Figure>) {
    let mut add = |what: &str, bound: Option<f64>, unit: &'static str, value: fn(&Took) -> f64| {
        let mut sorted: Vec<f64> = times.iter().map(value).collect();
        sorted.sort_by(f64::total_cmp);
        for (percent, bound) in [(50, None), (99, bound)] {
            let value = sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)];
            figures.push(Figure(format!("{kind}: {what}, p{percent}"), value, unit, bound));
        }
    };
    let is_wide = times.len() < ROUNDS;
    add("compiled", (!is_wide).then_some(CHANGE), "ms", |took| {
        took.compiled
    });
    add("compiled and planned", Some(BOUND), "ms", |took| {
        took.compiled + took.planned
    });
    add("writes", None, "", |took| took.writes as f64);
}

fn report(figures: Vec<Figure>) {
    let mut report = Report::new("enforcer").unwrap();
    report.title("One node's rules on a large cluster, without kernel and API server");
    for Figure(name, value, unit, bound) in figures {
        report
            .say(ringfence_bench::Figure::new(name, value, unit).at_most(bound))
            .unwrap();
    }
}
