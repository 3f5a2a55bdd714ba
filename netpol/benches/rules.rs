//! The rules of one node of a large cluster: made from scratch, and kept up to date. Prints what criterion prints, then a table, and
//! writes one object a figure to `target/bench/results.jsonl`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)] // no part of the product: it may just stop

mod large;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use criterion::Criterion;
use ringfence_bench::{Figure, Report};
use ringfence_netpol::cluster::{Cluster, Key, Observed};
use ringfence_netpol::compile::{Compiler, compile};
use ringfence_netpol::evaluate::Endpoint;
use ringfence_netpol::explain::explain;
use ringfence_netpol::lint::{Known, Severities, Survey, judge};
use ringfence_netpol::policy::Policy;
use ringfence_netpol::port::{Protocol, Transport};
use ringfence_netpol::simulation::{Bounds, Change, Outline, simulate};
use serde_json::{Value, json};

/// Where what is changed is, in which namespace the node has a pod.
const HERE: usize = 3;
/// One millisecond, in nanoseconds.
const MS: f64 = 1e6;

/// What is measured, by its name for criterion; in words; its bound in milliseconds.
const FIGURES: [(&str, &str, Option<f64>); 15] = [
    ("scratch", "rules of a node from scratch, plain form", Some(100.0)),
    (
        "cold",
        "rules of a node from scratch, to be kept up to date",
        Some(100.0),
    ),
    ("pod", "a pod's label changed", Some(1.0)),
    (
        "local_pod",
        "a label of one of the node's own pods changed",
        Some(1.0),
    ),
    ("pod_born", "a pod came, and went", Some(1.0)),
    ("address", "a pod's address moved", Some(1.0)),
    ("policy", "a policy's port changed", Some(1.0)),
    (
        "policy_deny",
        "a namespace's default deny came, and went",
        Some(1.0),
    ),
    (
        "policy_peer",
        "a peer that nobody named before, and that 50 pods match, came, and went",
        Some(1.0),
    ),
    (
        "namespace",
        "a namespace's label changed that peers ask for",
        None,
    ),
    (
        "wide_policy",
        "a peer that nobody named before, and that all pods match, came, and went",
        None,
    ),
    ("nothing", "an object that means the same again", Some(1.0)),
    ("check", "one check after reading", Some(50.0)),
    ("lint", "a changed policy judged by every rule", None),
    ("simulate", "what a changed policy opens and cuts", None),
];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let cluster = large::cluster();
    let node = large::node(0);
    criterion.bench_function("scratch", |b| b.iter(|| compile(&cluster, &node)));
    criterion.bench_function("cold", |b| {
        b.iter(|| {
            let mut compiler = Compiler::new(&*node);
            compiler.update(&cluster);
            compiler
        });
    });
    check(&mut criterion, &cluster);
    admission(&mut criterion, &cluster);

    let mut bench = Following::of(criterion, cluster, &node);
    let (here, there) = local_and_remote(&bench.cluster, &node);
    bench.between("pod", &large::pod(HERE, there, 1), &large::pod(HERE, there, 2));
    bench.between(
        "local_pod",
        &large::pod(HERE, here, 1),
        &large::pod(HERE, here, 2),
    );
    bench.comes_and_goes("pod_born", &large::pod_at(HERE, 77, 1, "10.39.9.9"));
    let moved = |address: &str| large::pod_at(HERE, there, 1, address);
    bench.between("address", &moved("10.39.9.7"), &moved("10.39.9.8"));
    let selecting = (2..large::POLICIES)
        .find(|p| (HERE + p - 2) % 5 == here % 5)
        .unwrap();
    bench.between(
        "policy",
        &large::policy(HERE, selecting, 443),
        &large::policy(HERE, selecting, 444),
    );
    let deny = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    bench.comes_and_goes("policy_deny", &large::named(HERE, "more", deny));
    let from =
        |peer: Value| json!({"podSelector": {}, "ingress": [{"from": [peer], "ports": [{"port": 9000}]}]});
    let narrow = json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}, {"key": "none", "operator": "DoesNotExist"}]}});
    bench.comes_and_goes("policy_peer", &large::named(HERE, "more", from(narrow)));
    bench.between(
        "namespace",
        &large::namespace(HERE, 3),
        &large::namespace(HERE, 4),
    );
    let wide = json!({"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}});
    bench.comes_and_goes("wide_policy", &large::named(HERE, "more", from(wide)));
    let same = large::pod(HERE, there, 1);
    bench.between("nothing", &same, &same);
    assert_eq!(bench.compiler.rules(), compile(&bench.cluster, &node));
    bench.criterion.final_summary();
    report();
}

/// A workload whose pod is on the node, and one whose pod is not.
fn local_and_remote(cluster: &Cluster, node: &str) -> (usize, usize) {
    let is_local = |w: &usize| {
        let pod = cluster.pods.get(&large::pod(HERE, *w, 0).key());
        pod.unwrap().node.as_deref() == Some(node)
    };
    let here = (0..large::WORKLOADS).find(is_local).unwrap();
    (here, (0..large::WORKLOADS).find(|w| !is_local(w)).unwrap())
}

fn check(criterion: &mut Criterion, cluster: &Cluster) {
    let (from, to) = (Key::new("team-001", name(1, 1)), Key::new("team-000", name(0, 0)));
    let from = Endpoint::of(cluster, &from).unwrap();
    let to = Endpoint::of(cluster, &to).unwrap();
    let transport = Transport::Port(Protocol::Tcp, 80);
    let outside = Endpoint::Address(IpAddr::from([192, 0, 2, 1]));
    criterion.bench_function("check", |b| {
        b.iter(|| {
            (
                explain(cluster, from, to, transport),
                explain(cluster, from, outside, transport),
            )
        });
    });
}

/// Changes of policies all over the cluster, one after the other, as at admission.
fn admission(criterion: &mut Criterion, cluster: &Cluster) {
    let of = |i: usize, port| large::policy(i * 7 % large::NAMESPACES, 2 + i % (large::POLICIES - 2), port);
    let changes: Vec<_> = (0..64).map(|i| (of(i, 443), of(i, 444))).collect();
    let mut next = changes.iter().cycle();
    let (known, severities) = (Arc::new(Known::of(cluster)), Severities::default());
    criterion.bench_function("lint", |b| {
        b.iter(|| {
            let survey = Survey::knowing(cluster, Arc::clone(&known));
            judge(&next.next().unwrap().1, None, Some(&survey), &severities)
        });
    });
    let outline = Outline::of(cluster);
    criterion.bench_function("simulate", |b| {
        b.iter(|| {
            let (before, after) = next.next().unwrap();
            let (before, after) = (Policy::parse(before), Policy::parse(after));
            let change = Change {
                key: &after.key,
                before: Some(&before),
                after: Some(&after),
            };
            simulate(cluster, &outline, change, Bounds::default())
        });
    });
}

fn name(n: usize, w: usize) -> String {
    large::pod(n, w, 0).metadata.name.unwrap()
}

/// A node whose rules follow a cluster.
struct Following {
    criterion: Criterion,
    cluster: Cluster,
    compiler: Compiler,
}

impl Following {
    fn of(criterion: Criterion, cluster: Cluster, node: &str) -> Self {
        let mut compiler = Compiler::new(node);
        compiler.update(&cluster);
        Self {
            criterion,
            cluster,
            compiler,
        }
    }

    /// An object is now this, now that, and in the end the one.
    fn between<K: Observed>(&mut self, name: &str, one: &K, other: &K) {
        let Self {
            criterion,
            cluster,
            compiler,
        } = self;
        let mut turn = false;
        criterion.bench_function(name, |b| {
            b.iter(|| {
                turn = !turn;
                cluster.apply(if turn { other } else { one });
                compiler.update(cluster)
            });
        });
        cluster.apply(one);
        compiler.update(cluster);
    }

    /// An object is there, or not.
    fn comes_and_goes<K: Observed>(&mut self, name: &str, object: &K) {
        let Self {
            criterion,
            cluster,
            compiler,
        } = self;
        let mut turn = false;
        criterion.bench_function(name, |b| {
            b.iter(|| {
                turn = !turn;
                if turn {
                    cluster.apply(object);
                } else {
                    cluster.delete(object);
                }
                compiler.update(cluster)
            });
        });
        cluster.delete(object);
        compiler.update(cluster);
    }
}

fn report() {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    let mut report = Report::new("netpol").unwrap();
    for (name, figure, bound) in FIGURES {
        // Where it was not asked for, nothing was measured.
        let Ok(estimates) = std::fs::read(target.join("criterion").join(name).join("new/estimates.json"))
        else {
            continue;
        };
        let estimates: Value = serde_json::from_slice(&estimates).unwrap();
        let value = estimates["median"]["point_estimate"].as_f64().unwrap() / MS;
        report
            .say(Figure::new(figure, value, "ms").at_most(bound))
            .unwrap();
    }
}
