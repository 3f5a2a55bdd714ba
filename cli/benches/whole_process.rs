//! The command line as a whole process on a large cluster: 10,000 pods in 200 namespaces with 2,000 policies. Prints a table, and writes one object a figure to
//! `target/bench/results.jsonl`.

#![allow(clippy::unwrap_used, clippy::expect_used)] // no part of the product: it may just stop

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use ringfence_bench::{Figure, Report};

const NAMESPACES: usize = 200;
const WORKLOADS: usize = 50;
const POLICIES: usize = 10;
const RUNS: usize = 5;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    for namespace in 0..NAMESPACES {
        std::fs::write(
            folder.path().join(format!("{namespace:03}.yaml")),
            manifests(namespace),
        )
        .unwrap();
    }
    let path = folder.path().to_str().unwrap();
    let small = folder.path().join("000.yaml");
    let small = small.to_str().unwrap();
    let ask = [
        "--from",
        "team-000/app-01",
        "--to",
        "team-000/app-00",
        "--port",
        "53",
        "--protocol",
        "UDP",
    ];
    let connlist = median(&["connlist", path, "-o", "json"]);
    let largest = peak();
    let lint = median(&["lint", path]);
    let whole_check = median(&[&["check", path][..], &ask].concat());
    let reading = median(&["connlist", path, "--focus", "team-000/app-00"]).min(connlist);
    let small_check = median(&[&["check", small][..], &ask].concat());
    let figures = [
        (
            "connlist of 10,000 pods and 2,000 policies",
            connlist,
            "s",
            Some(2.0),
        ),
        (
            "connlist of 10,000 pods, peak of memory",
            largest,
            "MiB",
            Some(400.0),
        ),
        ("connlist of 10,000 pods, one in focus", reading, "s", None),
        (
            "check among 10,000 pods, reading included",
            whole_check,
            "s",
            None,
        ),
        (
            "check among 50 pods, reading included",
            small_check,
            "s",
            Some(0.05),
        ),
        ("lint of 2,000 policies", lint, "s", None),
    ];
    let mut report = Report::new("cli").unwrap();
    for (name, value, unit, bound) in figures {
        report.say(Figure::new(name, value, unit).at_most(bound)).unwrap();
    }
}

/// Seconds of the median run.
fn median(arguments: &[&str]) -> f64 {
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            let status = Command::new(env!("CARGO_BIN_EXE_ringfence"))
                .args(arguments)
                .stdout(Stdio::null())
                .status();
            assert_ne!(status.unwrap().code(), Some(2), "{arguments:?}");
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[RUNS / 2]
}

/// The most that any process so far has had, in MiB.
fn peak() -> f64 {
    let kibibytes = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    f64::from(u32::try_from(kibibytes).unwrap()) / 1024.0
}

/// A namespace that is closed but for DNS, with rules within it, to other teams and to addresses.
fn manifests(n: usize) -> String {
    let mut text = String::new();
    let namespace = format!("team-{n:03}");
    let _ = writeln!(
        text,
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}, labels: {{team: t{}}}}}",
        n % 20
    );
    for w in 0..WORKLOADS {
        let _ = writeln!(
            text,
            "---\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: app-{w:02}\n  namespace: {namespace}\nspec:\n  selector:\n    matchLabels: {{app: app-{w:02}}}\n  template:\n    metadata:\n      labels:\n        app: app-{w:02}\n        role: r{}\n    spec:\n      containers:\n      - name: main\n        image: example.org/app:1\n        ports:\n        - name: http\n          containerPort: {}",
            w % 5,
            8000 + w
        );
    }
    let header = |name: &str| {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n"
        )
    };
    text += &header("default-deny");
    text += "  podSelector: {}\n  policyTypes: [Ingress, Egress]\n";
    text += &header("dns");
    text += "  podSelector: {}\n  policyTypes: [Egress]\n  egress:\n  - to:\n    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: team-000}}\n      podSelector: {matchLabels: {app: app-00}}\n    ports:\n    - {protocol: UDP, port: 53}\n    - {protocol: TCP, port: 53}\n";
    for p in 0..POLICIES - 2 {
        let (role, app) = ((n + p) % 5, (n * 7 + p * 13) % WORKLOADS);
        text += &header(&format!("p{p}"));
        let _ = writeln!(
            text,
            "  podSelector: {{matchLabels: {{role: r{role}}}}}\n  policyTypes: [Ingress, Egress]\n  ingress:\n  - from:\n    - podSelector: {{matchLabels: {{role: r{}}}}}\n    - namespaceSelector: {{matchLabels: {{team: t{}}}}}\n      podSelector: {{matchLabels: {{app: app-{app:02}}}}}\n    - ipBlock: {{cidr: 172.{}.0.0/16, except: [172.{}.{n}.0/24]}}\n    ports:\n    - port: http\n  egress:\n  - to:\n    - podSelector: {{}}\n    - namespaceSelector: {{}}\n      podSelector: {{matchLabels: {{role: r{}}}}}\n    - ipBlock: {{cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}\n    ports:\n    - port: http\n    - port: 443",
            (role + 1) % 5,
            (n + p) % 20,
            16 + p,
            16 + p,
            (role + 2) % 5
        );
    }
    text
}
