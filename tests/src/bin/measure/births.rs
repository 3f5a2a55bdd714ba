//! Pods that are started under a standing default deny: what each gets out, at one try a millisecond from the first instant. Beside them
//! pods that nothing closes, by which it is seen that what gets out is seen, and pods whose policy allows it, which must not wait: these are
//! tried from when their network is there.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use ringfence_bench::{Figure, Report, percentile};
use ringfence_tests::install;
use ringfence_tests::probe::{Probers, Wire};
use ringfence_tests::target::{Target, repository, until};
use ringfence_tests::workload::{self, Wanted, pause};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::newborn::{Birth, From};

/// So many pods start at once, all over the cluster: more than two cores can serve at a time.
const AT_ONCE: usize = 8;
/// So many where what counts is how soon the agent opens them, and not how long all of them wait for a processor.
const FEW: usize = 2;
const PORT: u16 = 7;
const OPEN: usize = 40;
const ALLOWED: usize = 200;
const ALLOWED_FEW: usize = 100;
const NAMESPACES: [&str; 4] = ["births-target", "births-open", "births-allowed", "births-closed"];
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn measure(starts: usize) -> anyhow::Result<()> {
    let target = Target::connect().await?;
    install::without_baselines(&target).await?;
    install::install(&target).await?;
    target.delete_namespaces(&NAMESPACES).await?;
    for namespace in NAMESPACES {
        target.kubectl(&["create", "namespace", namespace]).await?;
    }
    let wanted = Wanted {
        namespace: NAMESPACES[0],
        name: "server",
        port: 8080,
    };
    let server = workload::run(&target, &[wanted])
        .await?
        .pop()
        .context("a server was asked for")?;
    for namespace in ["births-allowed", "births-closed"] {
        target.apply(&format!(
            "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: deny, namespace: {namespace}}}, \
             spec: {{podSelector: {{}}, policyTypes: [Ingress, Egress]}}}}"
        )).await?;
    }
    target.apply(
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: allow, namespace: births-allowed}, \
         spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: births-target}}}]}]}}",
    ).await?;
    let prober = std::env::current_exe()?.with_file_name("prober");
    let mut probers = Probers::start(&target, &prober).await?;
    let to = SocketAddr::new(server.address.parse()?, PORT);
    probers
        .serve(&[(server.node.clone(), to.ip())], &[(Wire::Tcp, PORT)])
        .await?;
    let mut report = Report::new("enforcer")?;
    report.title(format_args!(
        "Pods that start, one connection tried a millisecond for 300 ms"
    ));
    for (namespace, count, at_once, from) in [
        ("births-open", OPEN, AT_ONCE, From::Birth),
        ("births-allowed", ALLOWED_FEW, FEW, From::Network),
        ("births-allowed", ALLOWED, AT_ONCE, From::Network),
        ("births-closed", starts, AT_ONCE, From::Birth),
    ] {
        let watchers = Watchers::start(&target, to, from).await?;
        let births = start(&target, &watchers, namespace, count, at_once).await?;
        let connected: Vec<f64> = births.iter().map(|birth| birth.connected as f64).collect();
        let got_out = births.iter().filter(|birth| birth.connected > 0).count() as f64;
        let tries: usize = births.iter().map(|birth| birth.tries).sum();
        let opened: Vec<f64> = births.iter().filter_map(|birth| birth.opened_after).collect();
        let lost: usize = births.iter().map(|birth| birth.lost_later).sum();
        let (what, said) = match namespace {
            "births-open" => (
                "no policy",
                Figure::new(
                    "connections a pod got out without any policy, least",
                    percentile(&connected, 0.0),
                    "",
                )
                .at_least(1.0),
            ),
            "births-closed" => (
                "default deny",
                Figure::new(
                    "connections that all pods got out under a default deny",
                    connected.iter().sum(),
                    "",
                )
                .at_most(0.0),
            ),
            _ => (
                "allowed",
                Figure::new(
                    "tries lost later than 50 ms after the plugins' answer though policy allows them",
                    lost as f64,
                    "",
                )
                .at_most(0.0),
            ),
        };
        report.say(
            said.beside("starts", births.len())
                .beside("at once", at_once)
                .beside("tries", tries)
                .beside("pods that got any out", got_out),
        )?;
        if namespace != "births-closed" {
            let since = match from {
                From::Birth => "from the way out",
                From::Network => "from the plugins' answer",
            };
            let figure = Figure::new(
                format!("{since} to a pod's first connection, {what}, p50"),
                percentile(&opened, 50.0),
                "ms",
            );
            report.say(
                figure
                    .beside("p99", percentile(&opened, 99.0))
                    .beside("longest", percentile(&opened, 100.0))
                    .beside("never", births.len() - opened.len()),
            )?;
        }
    }
    target.delete_namespaces(&NAMESPACES).await
}

async fn start(
    target: &Target,
    watchers: &Watchers,
    namespace: &str,
    count: usize,
    at_once: usize,
) -> anyhow::Result<Vec<Birth>> {
    let pods: Api<Pod> = Api::namespaced(target.client.clone(), namespace);
    let mut births = Vec::new();
    while births.len() < count {
        let now = at_once.min(count - births.len());
        for number in births.len()..births.len() + now {
            let pod = pause(&format!("born-{number}"))?;
            pods.create(&PostParams::default(), &pod).await?;
        }
        // By the address: a kubelet may make more than one namespace for a pod, of which only the last is the pod's.
        births.extend(
            until("pods to start", PATIENCE, || async {
                let started = pods.list(&ListParams::default()).await?;
                let address = |pod: &Pod| pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok();
                let addresses: Vec<IpAddr> = started.iter().filter_map(address).collect();
                Ok((addresses.len() == now)
                    .then(|| watchers.of(&addresses))
                    .flatten())
            })
            .await?,
        );
        let no_grace = DeleteParams::default().grace_period(0);
        pods.delete_collection(&no_grace, &ListParams::default()).await?;
        until("pods to be gone", PATIENCE, || async {
            Ok(pods
                .list(&ListParams::default())
                .await?
                .items
                .is_empty()
                .then_some(()))
        })
        .await?;
        eprint!("\r{namespace}: {} of {count}", births.len());
    }
    eprintln!();
    Ok(births)
}

/// This program in each node.
struct Watchers {
    births: Arc<Mutex<BTreeMap<IpAddr, Birth>>>,
    // Killed with their handles.
    _children: Vec<Child>,
}

impl Watchers {
    async fn start(target: &Target, to: SocketAddr, from: From) -> anyhow::Result<Self> {
        ensure!(
            target.own,
            "the nodes of a cluster given by KUBECONFIG are not entered"
        );
        let births: Arc<Mutex<BTreeMap<IpAddr, Birth>>> = Arc::default();
        let mut children = Vec::new();
        for node in target.nodes().await? {
            let mut child = Command::new(repository().join("tests/cluster/node"))
                .args([node.as_str()])
                .arg(std::env::current_exe()?)
                .arg("within-births")
                .arg(to.to_string())
                .arg(match from {
                    From::Birth => "birth",
                    From::Network => "network",
                })
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()?;
            let mut lines: Lines<BufReader<ChildStdout>> =
                BufReader::new(child.stdout.take().context("no way from the node")?).lines();
            ensure!(
                lines.next_line().await?.as_deref() == Some("watching"),
                "nothing is watched on {node}"
            );
            let births = Arc::clone(&births);
            tokio::spawn(async move {
                while let Ok(Some(line)) = lines.next_line().await {
                    if let Ok(birth) = serde_json::from_str::<Birth>(&line) {
                        births
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .insert(birth.address, birth);
                    }
                }
            });
            children.push(child);
        }
        Ok(Self {
            births,
            _children: children,
        })
    }

    /// What was seen of these pods, once it is all of them.
    fn of(&self, addresses: &[IpAddr]) -> Option<Vec<Birth>> {
        let mut births = self.births.lock().unwrap_or_else(PoisonError::into_inner);
        let all = addresses.iter().all(|address| births.contains_key(address));
        all.then(|| {
            addresses
                .iter()
                .filter_map(|address| births.remove(address))
                .collect()
        })
    }
}
