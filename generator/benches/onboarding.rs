//! The generator as a whole process against a real API server: the one that `KUBECONFIG` names, else that of `make cluster`. Prints a
//! table, and writes one object a figure to `target/bench/results.jsonl`.
//!
//! `RINGFENCE_BENCH_NAMESPACES` says how many namespaces it restarts among (10,000), `RINGFENCE_BENCH_GENERATOR` names another build of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // no part of the product: it may just stop

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config, ResourceExt};
use ringfence_bench::{Report, kubeconfig, memory, percentile};
use serde_json::json;
use tokio::sync::mpsc;

/// Where the generators of one run answer for their health.
const HEALTH: [&str; 2] = ["127.0.0.1:18099", "127.0.0.1:18098"];
const LABEL: &str = "ringfence.dev/baseline=bench";
const SAMPLES: usize = 200;
const BURST: usize = 500;
const CRASH: usize = 900;
const POLICIES: usize = 3;
/// As many at a time as the generator has by default.
const WRITES: usize = 16;

const BASELINE: &str = "
apiVersion: ringfence.dev/v1alpha1
kind: NamespaceBaseline
metadata: {name: bench}
spec:
  namespaceSelector: {matchLabels: {bench: ringfence}}
  policies:
    - {name: default-deny, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}
    - {name: allow-dns, spec: {podSelector: {}, policyTypes: [Egress], egress: [{fact: dns}]}}
    - {name: allow-ingress-controllers, spec: {podSelector: {}, policyTypes: [Ingress], ingress: [{fact: ingressControllers}]}}
";

/// A figure, its unit and its bound.
type Figure = (&'static str, f64, &'static str, Option<f64>);

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn kubectl(kubeconfig: &Path, arguments: &[&str], input: &str) {
    let own = repository().join("target/cluster/bin/kubectl");
    let program = if own.exists() { own } else { "kubectl".into() };
    let mut child = Command::new(program)
        .args(arguments)
        .env("KUBECONFIG", kubeconfig)
        .current_dir(repository())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "kubectl {arguments:?}");
}

/// The generator, as a process.
struct Generator {
    process: Child,
    health: &'static str,
}

impl Generator {
    /// One that calls itself by a number, as a pod by its name.
    fn start(kubeconfig: &Path, number: usize) -> Self {
        let health = HEALTH[number % HEALTH.len()];
        let program = std::env::var_os("RINGFENCE_BENCH_GENERATOR")
            .unwrap_or_else(|| env!("CARGO_BIN_EXE_ringfence-generator").into());
        let child = Command::new(program)
            .env("KUBECONFIG", kubeconfig)
            .env("RINGFENCE_GENERATOR_HEALTH", health)
            .env(
                "RINGFENCE_GENERATOR_ELECTION__IDENTITY",
                format!("bench-{number}"),
            )
            .env("RINGFENCE_GENERATOR_LOG__LEVEL", "warn")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            process: child,
            health,
        }
    }

    fn metric(&self, name: &str) -> f64 {
        metric(self.health, name)
    }

    fn writes(&self) -> f64 {
        self.metric("ringfence_generator_writes_total{verb=\"apply\"}")
            + self.metric("ringfence_generator_writes_total{verb=\"delete\"}")
    }

    /// Waits until it leads and has looked; how long that took.
    async fn ready(&self, start: Instant) -> Duration {
        loop {
            if self.metric("ringfence_generator_leader") >= 1.0
                && self.metric("ringfence_generator_pass_seconds_count") >= 1.0
            {
                return start.elapsed();
            }
            assert!(
                start.elapsed() < Duration::from_secs(120),
                "it does not come to lead"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The most memory that it ever had, in MiB.
    fn memory(&self) -> f64 {
        memory(self.process.id(), "VmHWM").unwrap()
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn metric(health: &str, name: &str) -> f64 {
    let Ok(mut stream) = TcpStream::connect(health) else {
        return 0.0;
    };
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text); // what is cut off is asked for again
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

async fn create(client: &Client, names: &[String]) {
    let api: Api<Namespace> = Api::all(client.clone());
    let api = &api;
    stream::iter(names)
        .map(|name| async move {
            let namespace =
                serde_json::from_value(json!({"metadata": {"name": name, "labels": {"bench": "ringfence"}}}));
            match api.create(&PostParams::default(), &namespace.unwrap()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 409 => {} // of an earlier run
                Err(error) => panic!("{name}: {error}"),
            }
        })
        .buffer_unordered(50)
        .collect::<()>()
        .await;
}

/// A namespace that no baseline takes.
async fn create_bare(client: &Client, name: &str) {
    let api: Api<Namespace> = Api::all(client.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    api.create(&PostParams::default(), &namespace).await.unwrap();
}

/// What the generator stored in a namespace, as anybody could: it does not say where it is from, so the generator lets it be.
async fn bare_policies(client: &Client, namespace: &str) -> Vec<NetworkPolicy> {
    let api: Api<NetworkPolicy> = Api::namespaced(client.clone(), namespace);
    let stored = api.list(&ListParams::default().labels(LABEL)).await.unwrap();
    let bare = stored.items.into_iter().map(|policy| {
        let mut bare = NetworkPolicy::default();
        bare.metadata.name = policy.metadata.name;
        bare.metadata.annotations = policy.metadata.annotations;
        bare.spec = policy.spec;
        bare
    });
    bare.collect()
}

async fn apply_bare(client: &Client, namespace: &str, policies: &[NetworkPolicy]) {
    let api: Api<NetworkPolicy> = Api::namespaced(client.clone(), namespace);
    for policy in policies {
        let parameters = PatchParams::apply("bench");
        api.patch(&policy.name_any(), &parameters, &Patch::Apply(policy))
            .await
            .unwrap();
    }
}

/// Waits until there are so many policies of the bench.
async fn stored(client: &Client, count: usize) {
    let api: Api<NetworkPolicy> = Api::all(client.clone());
    let start = Instant::now();
    loop {
        // Counting is the API server's work: one object, and how many there are beside it.
        let page = api
            .list_metadata(&ListParams::default().labels(LABEL))
            .await
            .unwrap();
        if page.items.len() >= count {
            return;
        }
        assert!(
            start.elapsed() < Duration::from_secs(1800),
            "{} of {count} policies",
            page.items.len()
        );
        tokio::time::sleep(Duration::from_millis(50 + count as u64 / 20)).await;
    }
}

#[tokio::main]
async fn main() {
    let kubeconfig = kubeconfig().unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(Kubeconfig::read_from(&kubeconfig).unwrap(), &options)
        .await
        .unwrap();
    let client = Client::try_from(config).unwrap();
    let crds = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "-f",
        "deploy/parts/namespace.yaml",
        "-f",
        "deploy/crds",
    ];
    kubectl(&kubeconfig, &crds, "");
    let wait = [
        "wait",
        "--for=condition=established",
        "crd/namespacebaselines.ringfence.dev",
        "--timeout=30s",
    ];
    kubectl(&kubeconfig, &wait, "");
    kubectl(&kubeconfig, &["apply", "-f", "-"], BASELINE);
    let many: usize =
        std::env::var("RINGFENCE_BENCH_NAMESPACES").map_or(10_000, |many| many.parse().unwrap());
    let mut figures: Vec<Figure> = Vec::new();

    let generator = Generator::start(&kubeconfig, 0);
    generator.ready(Instant::now()).await;
    let (sender, mut seen) = mpsc::unbounded_channel();
    let policies = watcher(
        Api::<NetworkPolicy>::all(client.clone()),
        watcher::Config::default().labels(LABEL),
    );
    tokio::spawn(
        policies
            .default_backoff()
            .applied_objects()
            .try_for_each(move |policy| {
                let _ = sender.send((
                    policy.namespace().unwrap_or_default(),
                    policy.name_any(),
                    Instant::now(),
                ));
                futures::future::ready(Ok(()))
            }),
    );

    // One after the other: created → three policies stored, as another watcher sees it.
    let singles: Vec<String> = (0..SAMPLES).map(|n| format!("bench-single-{n}")).collect();
    let mut times = Vec::new();
    for name in &singles {
        create(&client, std::slice::from_ref(name)).await;
        let (created, mut missing) = (Instant::now(), POLICIES);
        while missing > 0 {
            let (namespace, _, at) = seen.recv().await.unwrap();
            if namespace == *name {
                missing -= 1;
                if missing == 0 {
                    times.push(at.saturating_duration_since(created).as_secs_f64() * 1000.0);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    figures.push((
        "namespace created → three policies stored, p50",
        percentile(&times, 50.0),
        "ms",
        Some(15.0),
    ));
    figures.push((
        "namespace created → three policies stored, p99",
        percentile(&times, 99.0),
        "ms",
        Some(50.0),
    ));

    // The same writes by a client that knows beforehand what to write, and does nothing else: what the API server needs for them.
    let like = bare_policies(&client, &singles[0]).await;
    let mut times = Vec::new();
    for n in 0..SAMPLES {
        let name = format!("bench-bare-{n}");
        create_bare(&client, &name).await;
        let created = Instant::now();
        apply_bare(&client, &name, &like).await;
        times.push(created.elapsed().as_secs_f64() * 1000.0);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    figures.push((
        "... three policies stored by a client that does nothing else, p50",
        percentile(&times, 50.0),
        "ms",
        None,
    ));
    figures.push((
        "... three policies stored by a client that does nothing else, p99",
        percentile(&times, 99.0),
        "ms",
        None,
    ));

    // Drift: deleted → back.
    let mut times = Vec::new();
    for name in &singles {
        while seen.try_recv().is_ok() {}
        let api: Api<NetworkPolicy> = Api::namespaced(client.clone(), name);
        api.delete("allow-dns", &DeleteParams::default()).await.unwrap();
        let deleted = Instant::now();
        loop {
            let (namespace, policy, at) = seen.recv().await.unwrap();
            if namespace == *name && policy == "allow-dns" {
                times.push(at.saturating_duration_since(deleted).as_secs_f64() * 1000.0);
                break;
            }
        }
    }
    figures.push(("drift repaired, p50", percentile(&times, 50.0), "ms", None));
    figures.push(("drift repaired, p99", percentile(&times, 99.0), "ms", Some(50.0)));

    let burst: Vec<String> = (0..BURST).map(|n| format!("bench-burst-{n}")).collect();
    create(&client, &burst).await;
    let accepted = Instant::now();
    stored(&client, POLICIES * (SAMPLES + BURST)).await;
    figures.push((
        "500 namespaces at once: all done after the last",
        accepted.elapsed().as_secs_f64(),
        "s",
        Some(3.0),
    ));

    let bare: Vec<String> = (0..BURST).map(|n| format!("bench-bare-burst-{n}")).collect();
    stream::iter(&bare)
        .for_each_concurrent(50, |name| create_bare(&client, name))
        .await;
    let accepted = Instant::now();
    stream::iter(&bare)
        .for_each_concurrent(WRITES, |name| apply_bare(&client, name, &like))
        .await;
    figures.push((
        "... the same policies stored by a client that does nothing else, once all namespaces are there",
        accepted.elapsed().as_secs_f64(),
        "s",
        None,
    ));

    // A crash among 900: another pod takes over, and has a namespace to serve that was created meanwhile.
    let more: Vec<String> = (0..CRASH - SAMPLES - BURST)
        .map(|n| format!("bench-more-{n}"))
        .collect();
    create(&client, &more).await;
    stored(&client, POLICIES * CRASH).await;
    while seen.try_recv().is_ok() {}
    generator.kill();
    let crashed = Instant::now();
    let generator = Generator::start(&kubeconfig, 1);
    create(&client, &["bench-orphan".to_owned()]).await;
    let led = generator.ready(crashed).await;
    let mut missing = POLICIES;
    let mut served = Duration::ZERO;
    while missing > 0 {
        let (namespace, _, at) = seen.recv().await.unwrap();
        if namespace == "bench-orphan" {
            missing -= 1;
            served = at.saturating_duration_since(crashed + led);
        }
    }
    figures.push((
        "crash among 900 namespaces: a new leader after",
        led.as_secs_f64(),
        "s",
        Some(3.0),
    ));
    figures.push((
        "crash among 900 namespaces: one created meanwhile is served, after the leader",
        served.as_secs_f64(),
        "s",
        Some(1.0),
    ));

    // Restarted among many that are as they must be.
    let rest: Vec<String> = (0..many.saturating_sub(CRASH + 1))
        .map(|n| format!("bench-many-{n}"))
        .collect();
    let start = Instant::now();
    create(&client, &rest).await;
    stored(&client, POLICIES * (CRASH + 1 + rest.len())).await;
    println!("{many} namespaces took {:.0} s", start.elapsed().as_secs_f64());
    generator.kill();
    let start = Instant::now();
    let generator = Generator::start(&kubeconfig, 1);
    let ready = generator.ready(start).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    figures.push((
        "restart among converged namespaces: ready",
        ready.as_secs_f64(),
        "s",
        Some(10.0),
    ));
    figures.push((
        "restart among converged namespaces: writes",
        generator.writes(),
        "",
        Some(0.0),
    ));
    figures.push((
        "restart among converged namespaces: peak of memory",
        generator.memory(),
        "MiB",
        Some(100.0),
    ));
    let passes = generator.metric("ringfence_generator_pass_seconds_sum")
        / generator
            .metric("ringfence_generator_pass_seconds_count")
            .max(1.0);
    figures.push((
        "a look, on average since the restart",
        passes * 1000.0,
        "ms",
        None,
    ));

    // And one more, among many.
    let mut times = Vec::new();
    for n in 0..50 {
        let name = format!("bench-last-{n}");
        create(&client, std::slice::from_ref(&name)).await;
        let (created, mut missing) = (Instant::now(), POLICIES);
        while missing > 0 {
            let (namespace, _, at) = seen.recv().await.unwrap();
            if namespace == name {
                missing -= 1;
                if missing == 0 {
                    times.push(at.saturating_duration_since(created).as_secs_f64() * 1000.0);
                }
            }
        }
    }
    figures.push((
        "among many: created → three policies stored, p50",
        percentile(&times, 50.0),
        "ms",
        Some(15.0),
    ));
    figures.push((
        "among many: created → three policies stored, p99",
        percentile(&times, 99.0),
        "ms",
        Some(50.0),
    ));
    generator.kill();
    write(&figures, many);

    let last = std::iter::once("bench-orphan".to_owned()).chain((0..50).map(|n| format!("bench-last-{n}")));
    let all: Vec<String> = singles
        .into_iter()
        .chain(burst)
        .chain(more)
        .chain(rest)
        .chain(last)
        .chain(bare)
        .chain((0..SAMPLES).map(|n| format!("bench-bare-{n}")))
        .collect();
    let api: Api<Namespace> = Api::all(client.clone());
    let api = &api;
    stream::iter(&all)
        .for_each_concurrent(50, |name| async move {
            let _ = api.delete(name, &DeleteParams::background()).await; // the cluster may be thrown away as well
        })
        .await;
    kubectl(&kubeconfig, &["delete", "namespacebaseline", "bench"], "");
}

fn write(figures: &[Figure], namespaces: usize) {
    let mut report = Report::new("generator").unwrap();
    for (name, value, unit, bound) in figures {
        let figure = ringfence_bench::Figure::new(*name, *value, unit).at_most(*bound);
        report.say(figure.beside("namespaces", namespaces)).unwrap();
    }
}
