//! Policy cases between real pods: what a [`Case`] says, played on the project's own cluster.
//!
//! The field keeps its pods from case to case and changes only what differs; their labels and policies come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::future::try_join_all;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use ringfence_netpol::cluster::Key;
use ringfence_netpol::port::{Protocol, Transport};
use serde_json::{Value, json};

use crate::case::{Case, PodOfCase, Verdict};
use crate::probe::{Answer, Probers, Question, Wire};
use crate::target::{Target, until};
use crate::workload::image;

/// How long a connection may take that is allowed. All connections of a case are opened at once.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long rules may take to be in force. Far above what they take, since the machine may be busy with other tests.
const SETTLE: Duration = Duration::from_secs(10);
const STARTS: Duration = Duration::from_secs(60);
const MANAGER: &str = "ringfence-tests";

/// Namespaces and pods on the project's own cluster that a case can be played with.
pub struct Field<'a> {
    target: &'a Target,
    probers: Probers,
    /// The namespaces that were applied.
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    pods: BTreeMap<Key, Player>,
    policies: BTreeSet<Key>,
}

/// A pod that runs.
#[derive(Debug, Clone)]
pub struct Player {
    pub node: String,
    /// One, or one of each family.
    pub addresses: Vec<IpAddr>,
    applied: Value,
}

/// A connection that went otherwise than the case says.
#[derive(Debug, Clone)]
pub struct Miss {
    pub verdict: Verdict,
    pub question: Question,
    pub answer: Answer,
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict {
            from,
            to,
            transport,
            allowed,
        } = &self.verdict;
        let expected = if *allowed { "open" } else { "closed" };
        let (source, destination) = (self.question.from, self.question.to);
        let answer = &self.answer;
        write!(
            f,
            "{from} -> {to} {transport} ({source} -> {destination}): must be {expected}, is {answer:?}"
        )
    }
}

impl<'a> Field<'a> {
    /// # Errors
    /// If the probers cannot be started, as on somebody else's cluster.
    pub async fn new(target: &'a Target, prober: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            target,
            probers: Probers::start(target, prober).await?,
            namespaces: BTreeMap::new(),
            pods: BTreeMap::new(),
            policies: BTreeSet::new(),
        })
    }

    /// Makes the cluster as the case says, and measures until every connection goes as it must or [`SETTLE`] is over; how many were
    /// measured, and those that still do not.
    ///
    /// # Errors
    /// If the cluster cannot be made so, or not be measured.
    pub async fn play(&mut self, case: &Case) -> anyhow::Result<(usize, Vec<Miss>)> {
        self.retract().await?;
        self.namespaces(case).await?;
        self.pods(case).await?;
        self.apply_policies(case).await?;
        let verdicts = case.verdicts()?;
        let asked: Vec<(&Verdict, String, Question)> = verdicts
            .iter()
            .filter_map(|verdict| Some((verdict, self.questions(verdict)?)))
            .flat_map(|(verdict, questions)| {
                questions
                    .into_iter()
                    .map(move |(node, question)| (verdict, node, question))
            })
            .collect();
        let questions: Vec<(String, Question)> = asked
            .iter()
            .map(|(_, node, question)| (node.clone(), *question))
            .collect();
        let of: BTreeMap<Question, &Verdict> = asked
            .iter()
            .map(|(verdict, _, question)| (*question, *verdict))
            .collect();
        let start = Instant::now();
        loop {
            let measured = self.probers.ask(&questions, PATIENCE).await?;
            let misses: Vec<Miss> = measured
                .answers
                .into_iter()
                .filter_map(|(question, answer)| {
                    let verdict = (*of.get(&question)?).clone();
                    let differs = verdict.allowed != (answer == Answer::Open);
                    differs.then_some(Miss {
                        verdict,
                        question,
                        answer,
                    })
                })
                .collect();
            if misses.is_empty() || start.elapsed() > SETTLE {
                return Ok((questions.len(), misses));
            }
        }
    }

    /// Removes everything.
    ///
    /// # Errors
    /// If namespaces do not go.
    pub async fn clear(self) -> anyhow::Result<()> {
        let names: Vec<&str> = self.namespaces.keys().map(String::as_str).collect();
        self.target.delete_namespaces(&names).await
    }

    /// The connections that a verdict is about: one for each family that both pods have; `None` for a protocol without sockets here.
    fn questions(&self, verdict: &Verdict) -> Option<Vec<(String, Question)>> {
        let (protocol, port) = match verdict.transport {
            Transport::Port(Protocol::Tcp, port) => (Wire::Tcp, port),
            Transport::Port(Protocol::Udp, port) => (Wire::Udp, port),
            _ => return None,
        };
        let (from, to) = (self.pods.get(&verdict.from)?, self.pods.get(&verdict.to)?);
        let pairs = from.addresses.iter().flat_map(|source| {
            let same = to
                .addresses
                .iter()
                .filter(|destination| destination.is_ipv4() == source.is_ipv4());
            same.map(|destination| (*source, *destination))
        });
        Some(
            pairs
                .map(|(from_address, to_address)| {
                    let question = Question {
                        from: from_address,
                        protocol,
                        to: SocketAddr::new(to_address, port),
                    };
                    (from.node.clone(), question)
                })
                .collect(),
        )
    }

    async fn namespaces(&mut self, case: &Case) -> anyhow::Result<()> {
        let api: Api<Namespace> = Api::all(self.target.client.clone());
        let surplus: Vec<String> = self
            .namespaces
            .keys()
            .filter(|name| !case.namespaces.contains_key(*name))
            .cloned()
            .collect();
        let names: Vec<&str> = surplus.iter().map(String::as_str).collect();
        self.target.delete_namespaces(&names).await?;
        for name in &surplus {
            self.namespaces.remove(name);
            self.pods.retain(|key, _| key.namespace != *name);
        }
        for (name, labels) in &case.namespaces {
            if self.namespaces.get(name) != Some(labels) {
                let object = json!({
                    "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels},
                });
                api.patch(name, &params(), &Patch::Apply(object)).await?;
                self.namespaces.insert(name.clone(), labels.clone());
            }
        }
        Ok(())
    }

    async fn pods(&mut self, case: &Case) -> anyhow::Result<()> {
        let nodes = self.target.nodes().await?;
        let wanted: BTreeMap<Key, Value> = case
            .pods
            .iter()
            .zip(nodes.iter().cycle())
            .map(|(pod, node)| (Key::new(&pod.ns, &pod.name), manifest(pod, node)))
            .collect();
        for key in self.pods.keys().filter(|key| !wanted.contains_key(*key)) {
            let api: Api<Pod> = Api::namespaced(self.target.client.clone(), &key.namespace);
            api.delete(&key.name, &DeleteParams::default().grace_period(0))
                .await?;
        }
        self.pods.retain(|key, _| wanted.contains_key(key));
        let changed: Vec<(Key, Value)> = wanted
            .into_iter()
            .filter(|(key, manifest)| {
                self.pods
                    .get(key)
                    .is_none_or(|player| player.applied != *manifest)
            })
            .collect();
        let target = self.target;
        let started = try_join_all(changed.into_iter().map(|(key, manifest)| async move {
            let player = start(target, &key, manifest).await?;
            anyhow::Ok((key, player))
        }))
        .await?;
        self.pods.extend(started);
        let all: Vec<(String, IpAddr)> = self
            .pods
            .values()
            .flat_map(|player| {
                player
                    .addresses
                    .iter()
                    .map(|address| (player.node.clone(), *address))
            })
            .collect();
        let ports: BTreeSet<(Wire, u16)> = case
            .pods
            .iter()
            .flat_map(|pod| &pod.ports)
            .filter_map(|port| Some((wire(&port.protocol)?, port.port)))
            .collect();
        self.probers
            .serve(&all, &ports.into_iter().collect::<Vec<_>>())
            .await
    }

    async fn apply_policies(&mut self, case: &Case) -> anyhow::Result<()> {
        for policy in &case.policies {
            let policy = self.translate(case, policy);
            let namespace = policy.namespace().unwrap_or_else(|| "default".to_owned());
            let name = policy.name_any();
            let api: Api<NetworkPolicy> = Api::namespaced(self.target.client.clone(), &namespace);
            let mut object = serde_json::to_value(&policy)?;
            object["apiVersion"] = json!("networking.k8s.io/v1");
            object["kind"] = json!("NetworkPolicy");
            api.patch(&name, &params(), &Patch::Apply(object))
                .await
                .with_context(|| format!("policy {namespace}/{name}"))?;
            self.policies.insert(Key::new(namespace, name));
        }
        Ok(())
    }

    async fn retract(&mut self) -> anyhow::Result<()> {
        for key in std::mem::take(&mut self.policies) {
            let api: Api<NetworkPolicy> = Api::namespaced(self.target.client.clone(), &key.namespace);
            api.delete(&key.name, &DeleteParams::default()).await?;
        }
        Ok(())
    }

    /// A policy's blocks are about the addresses that the case gives to its pods; real pods have others. Each block becomes blocks of
    /// both families that hold the very pods which it holds in the case, with the others as exceptions.
    fn translate(&self, case: &Case, policy: &NetworkPolicy) -> NetworkPolicy {
        let mut policy = policy.clone();
        let Some(spec) = &mut policy.spec else {
            return policy;
        };
        let from = spec
            .ingress
            .iter_mut()
            .flatten()
            .filter_map(|rule| rule.from.as_mut());
        let to = spec
            .egress
            .iter_mut()
            .flatten()
            .filter_map(|rule| rule.to.as_mut());
        for peers in from.chain(to) {
            *peers = peers
                .iter()
                .flat_map(|peer| match &peer.ip_block {
                    None => vec![peer.clone()],
                    Some(block) => self.real_blocks(case, block),
                })
                .collect();
        }
        policy
    }

    fn real_blocks(&self, case: &Case, block: &IPBlock) -> Vec<NetworkPolicyPeer> {
        let holds =
            |cidr: &str, address: IpAddr| cidr.parse::<IpNet>().is_ok_and(|cidr| cidr.contains(&address));
        let excepted = |address| block.except.iter().flatten().any(|cidr| holds(cidr, address));
        let inside = |pod: &PodOfCase| holds(&block.cidr, pod.ip) && !excepted(pod.ip);
        let addresses = |inside_wanted: bool| {
            let pods = case.pods.iter().filter(move |pod| inside(pod) == inside_wanted);
            pods.filter_map(|pod| self.pods.get(&Key::new(&pod.ns, &pod.name)))
                .flat_map(|player| player.addresses.iter().copied())
        };
        let block = |cidr: &str| {
            let family: IpNet = cidr.parse().ok()?;
            let outside: Vec<String> = addresses(false)
                .filter(|address| family.contains(address))
                .map(|address| IpNet::from(address).to_string())
                .collect();
            Some(NetworkPolicyPeer {
                ip_block: Some(IPBlock {
                    cidr: cidr.to_owned(),
                    except: (!outside.is_empty()).then_some(outside),
                }),
                ..NetworkPolicyPeer::default()
            })
        };
        if addresses(true).next().is_none() {
            return vec![NetworkPolicyPeer {
                ip_block: Some(IPBlock {
                    cidr: "192.0.2.0/24".to_owned(), // nobody's (RFC 5737)
                    except: None,
                }),
                ..NetworkPolicyPeer::default()
            }];
        }
        ["0.0.0.0/0", "::/0"].into_iter().filter_map(block).collect()
    }
}

fn wire(protocol: &str) -> Option<Wire> {
    match protocol {
        "TCP" => Some(Wire::Tcp),
        "UDP" => Some(Wire::Udp),
        _ => None,
    }
}

pub(crate) fn params() -> PatchParams {
    PatchParams::apply(MANAGER).force()
}

fn manifest(pod: &PodOfCase, node: &str) -> Value {
    let ports: Vec<Value> = pod
        .ports
        .iter()
        .map(|port| json!({"name": port.name, "containerPort": port.port, "protocol": port.protocol}))
        .collect();
    idle(&Key::new(&pod.ns, &pod.name), &pod.labels, node, &ports)
}

/// A pod that does nothing itself: the prober serves and connects in its stead.
pub(crate) fn idle(key: &Key, labels: &BTreeMap<String, String>, node: &str, ports: &[Value]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": key.name, "namespace": key.namespace, "labels": labels},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "containers": [{
                "name": "idle", "image": image(), "imagePullPolicy": "IfNotPresent", "args": ["pause"], "ports": ports,
            }],
        },
    })
}

/// Applies a pod and waits until it runs.
pub(crate) async fn start(target: &Target, key: &Key, manifest: Value) -> anyhow::Result<Player> {
    let api: Api<Pod> = Api::namespaced(target.client.clone(), &key.namespace);
    api.patch(&key.name, &params(), &Patch::Apply(&manifest))
        .await
        .with_context(|| format!("pod {key}"))?;
    let what = format!("pod {key} to run");
    let (node, addresses) = until(&what, STARTS, || async {
        let Some(pod) = api.get_opt(&key.name).await? else {
            return Ok(None);
        };
        let (Some(status), Some(spec)) = (pod.status, pod.spec) else {
            return Ok(None);
        };
        let addresses: Vec<IpAddr> = status
            .pod_ips
            .iter()
            .flatten()
            .filter_map(|address| address.ip.parse().ok())
            .collect();
        let runs = status.phase.as_deref() == Some("Running") && !addresses.is_empty();
        Ok(spec.node_name.filter(|_| runs).map(|node| (node, addresses)))
    })
    .await?;
    Ok(Player {
        node,
        addresses,
        applied: manifest,
    })
}
