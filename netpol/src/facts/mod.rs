//! What the cluster says about itself, as peers and ports that rules can use: where its DNS really listens, where its
//! ingress controllers really run.
//!
//! A fact is a list of *groups*, each with an origin (a Service, an IngressClass), its peers and the ports on which these
//! listen; peers and ports are never mixed between groups. Peers are selectors and no addresses wherever that is possible, so
//! that pods which roll change no policy.
//!
//! Facts are pure: from the objects as they are now, and from what was last known. What cannot be said at the moment (the pods
//! that have the named port are all restarting) stays as it was last known; what never could be said stands for nothing,
//! and the rules that use it are left out. Nothing is ever guessed, and no fact ever stands for everyone.

mod address;
mod dns;
mod ingress;
mod mesh;
mod scrape;
mod service;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::baseline::{Fact, FactRule, FactSource, FactState};
use crate::cluster::{Cluster, Key, Pod};
use crate::port::Protocol;
use crate::selector::Selector;

pub const DNS: &str = "dns";
pub const INGRESS_CONTROLLERS: &str = "ingressControllers";
pub const API_SERVER: &str = "apiServer";
pub const NODES: &str = "nodes";
pub const POD_RANGES: &str = "podRanges";
pub const SERVICE_RANGES: &str = "serviceRanges";
pub const PROMETHEUS: &str = "prometheus";
pub const ISTIO: &str = "istio";
pub const LINKERD: &str = "linkerd";

/// The facts that are looked for in every cluster, unless they are pinned.
pub const FOUND: [&str; 9] = [
    DNS,
    INGRESS_CONTROLLERS,
    API_SERVER,
    NODES,
    POD_RANGES,
    SERVICE_RANGES,
    PROMETHEUS,
    ISTIO,
    LINKERD,
];

/// How many peers a rule of a fact has at most, as the schema of a status says.
const PEERS: usize = 256;

/// The label that the API server gives each namespace.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// The values of facts, by name.
pub type Facts = BTreeMap<String, Fact>;

/// One origin of a fact, and what it stands for now, or why that cannot be said now.
struct Finding {
    origin: String,
    found: Result<FactRule, String>,
}

/// Everything that was found for a fact.
#[derive(Default)]
struct Findings {
    findings: Vec<Finding>,
    /// What else a reader of the status should know.
    remarks: Vec<String>,
    /// Whether what was last known is dropped once its origin is gone, even if nothing else is found.
    forget_gone: bool,
}

/// What the wanted facts stand for.
pub fn resolve(
    cluster: &Cluster,
    wanted: &BTreeSet<String>,
    sources: &BTreeMap<String, FactSource>,
    last_known: &[Fact],
) -> Facts {
    let resolve = |name: &String| {
        let last = last_known.iter().find(|fact| fact.name == *name);
        let findings = match (sources.get(name), name.as_str()) {
            (
                Some(FactSource {
                    rules: Some(rules), ..
                }),
                _,
            ) => return Some(pinned(name, rules)),
            (
                Some(FactSource {
                    services: Some(services),
                    ..
                }),
                _,
            ) => service::find(cluster, services),
            (_, DNS) => dns::find(cluster),
            (_, INGRESS_CONTROLLERS) => ingress::find(cluster),
            (_, API_SERVER) => address::api_server(cluster),
            (_, NODES) => address::nodes(cluster),
            (_, POD_RANGES) => address::pod_ranges(cluster),
            (_, SERVICE_RANGES) => address::service_ranges(cluster),
            (_, PROMETHEUS) => scrape::find(cluster),
            (_, ISTIO) => mesh::istio(cluster),
            (_, LINKERD) => mesh::linkerd(cluster),
            _ => return None,
        };
        Some(settle(name, findings, last.map_or(&[], |fact| &fact.rules)))
    };
    wanted
        .iter()
        .filter_map(resolve)
        .map(|fact| (fact.name.clone(), fact))
        .collect()
}

/// What a fact stands for in a cluster: what is pinned in a baseline counts before what is found.
pub fn rules(cluster: &Cluster, fact: &str) -> Vec<FactRule> {
    let mut baselines = cluster.baselines.values();
    let pinned = baselines.find_map(|baseline| baseline.spec.facts.get(fact));
    let pinned = pinned.map(|source| (fact.to_owned(), source.clone()));
    let wanted = BTreeSet::from([fact.to_owned()]);
    let facts = resolve(cluster, &wanted, &pinned.into_iter().collect(), &[]);
    facts.into_values().flat_map(|fact| fact.rules).collect()
}

fn pinned(name: &str, rules: &[FactRule]) -> Fact {
    Fact {
        name: name.to_owned(),
        state: FactState::Pinned,
        message: "written by hand in spec.facts".to_owned(),
        rules: rules.to_vec(),
    }
}

/// Puts together what is found now and what was last known.
fn settle(name: &str, found: Findings, last_known: &[FactRule]) -> Fact {
    let (mut rules, mut kept, mut messages) = (Vec::new(), false, Vec::new());
    for finding in &found.findings {
        match &finding.found {
            Ok(rule) => {
                messages.push(finding.origin.clone());
                rules.push(FactRule {
                    origin: finding.origin.clone(),
                    ..rule.clone()
                });
            }
            Err(why) => {
                let before: Vec<_> = last_known
                    .iter()
                    .filter(|rule| rule.origin == finding.origin)
                    .collect();
                let suffix = if before.is_empty() {
                    ""
                } else {
                    "; kept as last known"
                };
                kept |= !before.is_empty();
                messages.push(format!("{}: {why}{suffix}", finding.origin));
                rules.extend(before.into_iter().cloned());
            }
        }
    }
    messages.extend(found.remarks);
    // No origin is there at all: perhaps it is being replaced.
    if rules.is_empty() && !found.forget_gone && !last_known.is_empty() {
        rules = last_known.to_vec();
        kept = true;
        messages.push("kept as last known".to_owned());
    }
    let mut seen: Vec<FactRule> = Vec::new();
    rules.retain(|rule| {
        let same = |other: &FactRule| other.peers == rule.peers && other.ports == rule.ports;
        let fresh = !seen.iter().any(same);
        seen.push(rule.clone());
        fresh
    });
    let rules: Vec<FactRule> = rules.iter().flat_map(within_limits).collect();
    Fact {
        name: name.to_owned(),
        state: match (rules.is_empty(), kept) {
            (true, _) => FactState::Unresolved,
            (false, true) => FactState::LastKnown,
            (false, false) => FactState::Resolved,
        },
        message: messages.join("; "),
        rules,
    }
}

/// The same rule as several, if it has more peers than one may have.
fn within_limits(rule: &FactRule) -> impl Iterator<Item = FactRule> {
    rule.peers.chunks(PEERS).map(|peers| FactRule {
        peers: peers.to_vec(),
        ..rule.clone()
    })
}

/// The peers that stand for some pods of a namespace: a selector, and for those on their node's network the node's addresses.
/// Without a pod to look at, the selector.
fn peers<'a>(
    namespace: &str,
    labels: &[(String, String)],
    pods: impl Iterator<Item = &'a Pod>,
) -> Vec<NetworkPolicyPeer> {
    let (mut any, mut own_network, mut nodes) = (false, false, BTreeSet::new());
    for pod in pods {
        any = true;
        own_network |= !pod.host_network;
        if pod.host_network {
            nodes.extend(pod.addresses.iter().copied());
        }
    }
    let mut peers = Vec::new();
    if own_network || !any {
        peers.push(NetworkPolicyPeer {
            namespace_selector: Some(match_labels([(NAMESPACE_NAME.to_owned(), namespace.to_owned())])),
            pod_selector: Some(match_labels(labels.iter().cloned())),
            ip_block: None,
        });
    }
    peers.extend(
        nodes
            .into_iter()
            .map(|address| address_peer(ipnet::IpNet::from(address))),
    );
    peers
}

fn address_peer(block: ipnet::IpNet) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        ip_block: Some(IPBlock {
            cidr: block.to_string(),
            except: None,
        }),
        ..NetworkPolicyPeer::default()
    }
}

fn match_labels(labels: impl IntoIterator<Item = (String, String)>) -> LabelSelector {
    LabelSelector {
        match_labels: Some(labels.into_iter().collect()),
        match_expressions: None,
    }
}

fn ports(numbers: &BTreeSet<(Protocol, u16)>) -> Vec<NetworkPolicyPort> {
    let port = |(protocol, number): &(Protocol, u16)| NetworkPolicyPort {
        protocol: Some(protocol.to_string()),
        port: Some(IntOrString::Int(i32::from(*number))),
        end_port: None,
    };
    numbers.iter().map(port).collect()
}

/// The pods of a namespace that a selector selects, finished ones left out.
fn pods_of<'a>(
    cluster: &'a Cluster,
    namespace: &str,
    selector: &'a Selector,
) -> impl Iterator<Item = &'a Pod> {
    use crate::cluster::Phase::{Failed, Succeeded};
    let selected = move |(_, pod): (&Key, &'a Pod)| {
        let running = !matches!(pod.phase, Succeeded | Failed);
        (running && selector.matches(&pod.labels)).then_some(pod)
    };
    cluster.pods.in_namespace(namespace).filter_map(selected)
}

#[cfg(test)]
mod tests;
