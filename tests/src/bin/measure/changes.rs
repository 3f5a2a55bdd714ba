//! Within a node: how soon a change at the API server is in force for packets, and what the agent takes up meanwhile.
//!
//! A pod sends numbered datagrams to another one all the time, four a millisecond. A change opens or closes the way between them, so the first that arrives, or
//! the last, tells when it came into force.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use ringfence_bench::{Figure, memory, percentile};
use serde_json::{Value, from_value, json};

use crate::agent::{Agent, each, metric};
use crate::crowd::{self, NODE, unless_there};
use crate::veths::{Veths, within};

/// Where the two pods are: among policies of others.
const NAMESPACE: &str = "team-003";
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 2);
const PORT: u16 = 9999;
const EVERY: Duration = Duration::from_micros(250);
const ROUNDS: usize = 40;
/// Nothing more arrives in this time: it is closed.
const SILENCE: Duration = Duration::from_millis(60);
const PATIENCE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(30);
const CHURN: usize = 5_000;

pub async fn measure(kubeconfig: &Path, enforcer: &Path) -> anyhow::Result<()> {
    let options = KubeConfigOptions::default();
    let client = Client::try_from(
        Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &options).await?,
    )?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    for (name, address) in [("client", CLIENT), ("server", SERVER)] {
        crowd::pod(&client, probe(name, address)?).await?;
    }
    let every: Api<Pod> = Api::all(client.clone());
    let local = every
        .list(&kube::api::ListParams::default().fields(&format!("spec.nodeName={NODE}")))
        .await?;
    let addresses: Vec<Ipv4Addr> = local
        .iter()
        .filter_map(|pod| pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok())
        .collect();
    eprintln!("making {} veths …", addresses.len());
    let _veths = Veths::make(&addresses)?;

    let start = Instant::now();
    let mut agent = Agent::start(enforcer, kubeconfig)?;
    agent.ready(Duration::from_secs(120)).await?;
    say(Figure::new(
        "from its start to every pod of the node under its rules",
        milliseconds(start.elapsed()),
        "ms",
    ));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (before, began) = (agent.cpu()?, Instant::now());
    tokio::time::sleep(IDLE).await;
    let idle = (agent.cpu()? - before).as_secs_f64() / began.elapsed().as_secs_f64();
    say(Figure::new("idle CPU", idle * 100.0, "%").at_most(0.5));
    // By now it has given back what it needed once.
    resident(&agent, "at rest")?;
    kernel_memory()?;

    let way = Way::start(client.clone())?;
    let mut opened = Vec::new();
    for kind in kinds(&client, &pods) {
        opened.extend(follow(&way, kind).await?);
    }
    say(figure("one change of any of these kinds", &opened).at_most(20.0));
    way.stop.store(true, Ordering::Relaxed);

    churn(&client).await?;
    tokio::time::sleep(IDLE).await;
    resident(&agent, &format!("after {CHURN} more changes"))?;
    say(Figure::new(
        "at its highest",
        memory(agent.pid(), "VmHWM")?,
        "MiB",
    ));
    let failures = metric("ringfence_enforcer_failures_total", "")?;
    say(Figure::new("failures that it counted", failures, "").at_most(0.0));
    Ok(())
}

fn say(figure: Figure) {
    println!("{}", json!(figure));
}

fn resident(agent: &Agent, when: &str) -> anyhow::Result<()> {
    let of = |which| memory(agent.pid(), which);
    let figure = Figure::new(format!("resident memory {when}"), of("VmRSS")?, "MiB").at_most(60.0);
    // The kernel's maps that are mapped into it count as shared memory here, and as the kernel's own once more.
    say(figure
        .beside("its own", of("RssAnon")?)
        .beside("of files", of("RssFile")?)
        .beside("of maps", of("RssShmem")?));
    Ok(())
}

fn kernel_memory() -> anyhow::Result<()> {
    let maps = each("ringfence_enforcer_map_memory_bytes")?;
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let mut figure = Figure::new(
        "kernel memory of all maps",
        mib(maps.iter().map(|(_, bytes)| bytes).sum()),
        "MiB",
    )
    .at_most(128.0);
    for (map, bytes) in maps {
        figure = figure.beside(map, mib(bytes));
    }
    say(figure);
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn probe(name: &str, address: Ipv4Addr) -> anyhow::Result<Pod> {
    Ok(from_value(json!({
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name, "role": "r1"}},
        "spec": {"nodeName": NODE, "containers": [{"name": "main"}]},
        "status": {"podIPs": [{"ip": address}]},
    }))?)
}

/// A change that opens the way, and one that closes it.
struct Kind<'a> {
    name: &'static str,
    /// What has to be there before.
    standing: Vec<NetworkPolicy>,
    turn: Box<dyn Fn(bool) -> futures::future::BoxFuture<'a, anyhow::Result<()>> + 'a>,
}

fn policy(name: &str, spec: Value) -> NetworkPolicy {
    let mut policy = NetworkPolicy {
        spec: from_value(spec).ok(),
        ..NetworkPolicy::default()
    };
    policy.metadata.name = Some(name.to_owned());
    policy
}

fn lets_in(name: &str, whom: &Value, pod: &Value) -> NetworkPolicy {
    policy(
        name,
        json!({"podSelector": {"matchLabels": pod}, "ingress": [{"from": [whom], "ports": [{"port": PORT, "protocol": "UDP"}]}]}),
    )
}

fn kinds<'a>(client: &'a Client, pods: &'a Api<Pod>) -> Vec<Kind<'a>> {
    let label = |pod: &'static str, key: &'static str| {
        move |open: bool| {
            let patch = json!({"metadata": {"labels": {key: open.then_some("yes")}}});
            Box::pin(async move {
                done(
                    pods.patch(pod, &PatchParams::default(), &Patch::Merge(patch))
                        .await,
                )
            }) as futures::future::BoxFuture<'a, _>
        }
    };
    let comes = |allowed: NetworkPolicy| {
        move |open: bool| {
            let (allowed, api) = (allowed.clone(), policies(client));
            Box::pin(async move {
                let name = allowed.name_any();
                if open {
                    unless_there(api.create(&PostParams::default(), &allowed).await)
                } else {
                    done(api.delete(&name, &DeleteParams::default()).await)
                }
            }) as futures::future::BoxFuture<'a, _>
        }
    };
    let server = json!({"app": "server"});
    let named = json!({"podSelector": {"matchLabels": {"app": "client"}}});
    let friends = json!({"podSelector": {"matchLabels": {"friend": "yes"}}});
    let gate = json!({"namespaceSelector": {"matchLabels": {"gate": "yes"}}});
    vec![
        Kind {
            name: "a policy",
            standing: vec![],
            turn: Box::new(comes(lets_in("open", &named, &server))),
        },
        Kind {
            name: "a label of the peer",
            standing: vec![lets_in("standing", &friends, &server)],
            turn: Box::new(label("client", "friend")),
        },
        Kind {
            name: "a label of the pod",
            standing: vec![lets_in("standing", &named, &json!({"served": "yes"}))],
            turn: Box::new(label("server", "served")),
        },
        Kind {
            name: "a label of the namespace",
            standing: vec![lets_in("standing", &gate, &server)],
            turn: Box::new(|open| {
                let api: Api<Namespace> = Api::all(client.clone());
                let patch = json!({"metadata": {"labels": {"gate": open.then_some("yes")}}});
                Box::pin(async move {
                    done(
                        api.patch(NAMESPACE, &PatchParams::default(), &Patch::Merge(patch))
                            .await,
                    )
                })
            }),
        },
        Kind {
            name: "a policy that lets in every pod of the cluster",
            standing: vec![],
            turn: Box::new(comes(lets_in("open", &json!({"namespaceSelector": {}}), &server))),
        },
    ]
}

fn policies(client: &Client) -> Api<NetworkPolicy> {
    Api::namespaced(client.clone(), NAMESPACE)
}

/// How long each change took, from before it was sent to the API server.
async fn follow(way: &Way, kind: Kind<'_>) -> anyhow::Result<Vec<(f64, f64)>> {
    let api = policies(&way.client);
    let out = policy(
        "out",
        json!({"podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Egress"], "egress": [{}]}),
    );
    unless_there(api.create(&PostParams::default(), &out).await)?;
    for policy in &kind.standing {
        unless_there(api.create(&PostParams::default(), policy).await)?;
    }
    way.silent().await?;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        for open in [true, false] {
            let sent = Instant::now();
            (kind.turn)(open).await?;
            let stored = Instant::now();
            let in_force = if open {
                way.first_since(sent).await?
            } else {
                way.silent().await?
            };
            // What came through before it was closed may have been the last that came before it was asked for.
            let since =
                |from: Instant| milliseconds(in_force.unwrap_or(from).saturating_duration_since(from));
            times.push((since(sent), since(stored)));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    for policy in &kind.standing {
        api.delete(&policy.name_any(), &DeleteParams::default()).await?;
    }
    say(figure(kind.name, &times));
    Ok(times)
}

fn figure(name: &str, times: &[(f64, f64)]) -> Figure {
    let (sent, stored): (Vec<f64>, Vec<f64>) = times.iter().copied().unzip();
    Figure::new(
        format!("{name}: sent to the API server → in force, p99"),
        percentile(&sent, 99.0),
        "ms",
    )
    .beside("p50", percentile(&sent, 50.0))
    .beside("longest", percentile(&sent, 100.0))
    .beside("from the API server's answer, p50", percentile(&stored, 50.0))
    .beside("from the API server's answer, p99", percentile(&stored, 99.0))
    .beside("changes", times.len())
}

/// Datagrams from one pod to the other.
struct Way {
    client: Client,
    arrived: Arc<Mutex<Vec<Instant>>>,
    stop: Arc<AtomicBool>,
}

impl Way {
    fn start(client: Client) -> anyhow::Result<Self> {
        let (arrived, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let receiver = within(SERVER, || Ok(UdpSocket::bind((SERVER, PORT))?))?;
        let sender = within(CLIENT, || Ok(UdpSocket::bind((CLIENT, 0))?))?;
        let taking = Arc::clone(&arrived);
        thread::spawn(move || {
            let mut datagram = [0; 16];
            while receiver.recv(&mut datagram).is_ok() {
                taking
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(Instant::now());
            }
        });
        let stopped = Arc::clone(&stop);
        thread::spawn(move || {
            let to = SocketAddr::from((SERVER, PORT));
            let mut number = 0_u64;
            while !stopped.load(Ordering::Relaxed) {
                let _ = sender.send_to(&number.to_be_bytes(), to); // what is denied may be told as an error
                number += 1;
                thread::sleep(EVERY);
            }
        });
        Ok(Self {
            client,
            arrived,
            stop,
        })
    }

    fn take(&self) -> Vec<Instant> {
        std::mem::take(&mut self.arrived.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn first_since(&self, since: Instant) -> anyhow::Result<Option<Instant>> {
        while since.elapsed() < PATIENCE {
            if let Some(first) = self.take().into_iter().find(|at| *at >= since) {
                return Ok(Some(first));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        bail!("what was opened stays closed")
    }

    /// When the last one arrived before nothing more did.
    async fn silent(&self) -> anyhow::Result<Option<Instant>> {
        let start = Instant::now();
        let mut last = None;
        while start.elapsed() < PATIENCE {
            last = self.take().last().copied().or(last);
            if last.unwrap_or(start).elapsed() > SILENCE {
                return Ok(last);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bail!("what was closed stays open")
    }
}

/// What the API server answered is of no account.
fn done<T>(result: kube::Result<T>) -> anyhow::Result<()> {
    Ok(result.map(drop)?)
}

/// Labels of pods all over the cluster change, many at once.
async fn churn(client: &Client) -> anyhow::Result<()> {
    let pods = Api::<Pod>::all(client.clone())
        .list_metadata(&Default::default())
        .await?
        .items;
    let changes = (0..CHURN).map(|n| {
        let pod = &pods[n * 7919 % pods.len()];
        let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        let patch = json!({"metadata": {"labels": {"role": format!("r{}", n % 5)}}});
        async move {
            done(
                api.patch(&pod.name_any(), &PatchParams::default(), &Patch::Merge(patch))
                    .await,
            )
        }
    });
    stream::iter(changes)
        .buffer_unordered(16)
        .try_collect::<()>()
        .await
        .context("the labels of the crowd")
}
