//! What a mend would open besides, so that the smallest is shown.

use k8s_openapi::api::networking::v1 as k8s;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::mend::{selector, stable};
use super::{Miss, Side};
use crate::cluster::{Cluster, Key, Pod};
use crate::evaluate::Endpoint;
use crate::policy::{Direction, Namespaces, Peer, Peers, Policy, Port, Ports, Rule};
use crate::port::Transport;
use crate::selector::Selector;

/// Whether the rule, extended by what it lacks, opens this port from and to such pods, and nothing besides.
pub(super) fn is_just(
    cluster: &Cluster,
    miss: &Miss,
    subject: Endpoint<'_>,
    peer: Endpoint<'_>,
    transport: Transport,
) -> bool {
    let Some(policy) = cluster.policies.get(&miss.rule.policy) else {
        return false;
    };
    let rule = policy
        .rules(miss.rule.direction)
        .and_then(|rules| rules.get(miss.rule.index));
    let (true, Some(rule)) = (miss.is_near(), rule) else {
        return false;
    };
    let selected = cluster.pods.in_namespace(&policy.key.namespace);
    let mut selected = selected.filter(|(_, pod)| policy.pods.matches(&pod.labels));
    if !selected.all(|(key, pod)| is_like(key, pod, subject)) {
        return false;
    }
    match &miss.port {
        Some(_) => peers_are(cluster, rule, peer),
        None => opens_only(cluster, policy, rule, miss.rule.direction, peer, transport),
    }
}

/// Whether a pod is one that a mend for this end is for: of its namespace, with its labels.
fn is_like(key: &Key, pod: &Pod, end: Endpoint<'_>) -> bool {
    match end {
        Endpoint::Pod { key: own, pod: meant } => {
            let has = |(key, value): (&String, &String)| pod.labels.get(key) == Some(value);
            key.namespace == own.namespace && stable(&meant.labels).iter().all(has)
        }
        Endpoint::Address(_) => false,
    }
}

/// Whether the peers of the rule are no more than pods like this one.
fn peers_are(cluster: &Cluster, rule: &Rule, end: Endpoint<'_>) -> bool {
    let Peers::Of(peers) = &rule.peers else {
        return false;
    };
    let in_namespace = |namespaces: &Namespaces, name: &str| match namespaces {
        Namespaces::Own(own) => own == name,
        Namespaces::Selected(selector) => cluster
            .namespace_labels(name)
            .is_some_and(|labels| selector.matches(labels)),
    };
    peers.iter().all(|peer| match peer {
        Peer::Block(block) => {
            matches!(end, Endpoint::Address(_)) && block.cidr.prefix_len() == block.cidr.max_prefix_len()
        }
        Peer::Pods { namespaces, pods } => cluster.pods.iter().all(|(key, pod)| {
            !pods.matches(&pod.labels) || !in_namespace(namespaces, &key.namespace) || is_like(key, pod, end)
        }),
    })
}

/// Whether all that the rule opens is this port, on whichever pod.
fn opens_only(
    cluster: &Cluster,
    policy: &Policy,
    rule: &Rule,
    direction: Direction,
    peer: Endpoint<'_>,
    transport: Transport,
) -> bool {
    let (Ports::Of(ports), Transport::Port(protocol, number)) = (&rule.ports, transport) else {
        return false;
    };
    // Where names are resolved: on the pods that are reached.
    let is_reached = |(key, pod): &(&Key, &Pod)| match direction {
        Direction::Ingress => key.namespace == policy.key.namespace && policy.pods.matches(&pod.labels),
        Direction::Egress => is_like(key, pod, peer),
    };
    ports.iter().all(|port| match port {
        Port::Range(range) => range.protocol == protocol && range.first == number && range.last == number,
        Port::Named(named, name) => {
            *named == protocol
                && cluster
                    .pods
                    .iter()
                    .filter(is_reached)
                    .all(|(_, pod)| pod.named_ports(*named, name).all(|found| found == number))
        }
    })
}

/// The pods that a policy of its own should select: those with the labels of this one, if all of them are isolated already, since
/// one that is not would lose all its other connections. Else those of the policy that isolates the fewest.
pub(super) fn isolated_alike(
    cluster: &Cluster,
    side: &Side,
    subject: Endpoint<'_>,
    stored: &impl Fn(&Key) -> Option<k8s::NetworkPolicy>,
) -> Option<LabelSelector> {
    let Endpoint::Pod { key, pod } = subject else {
        return None;
    };
    let alike: Selector = stable(&pod.labels).into_iter().collect();
    let in_namespace = || cluster.pods.in_namespace(&key.namespace);
    let policies = || cluster.policies.in_namespace(&key.namespace);
    let is_isolated = |pod: &Pod| {
        policies()
            .any(|(_, policy)| policy.rules(side.direction).is_some() && policy.pods.matches(&pod.labels))
    };
    let mut others = in_namespace().filter(|(_, pod)| alike.matches(&pod.labels));
    if others.all(|(_, pod)| is_isolated(pod)) {
        return Some(selector(&pod.labels));
    }
    let count = |policy: &&Key| {
        let policy = cluster.policies.get(policy);
        let selected = |pod: &Pod| policy.is_some_and(|policy| policy.pods.matches(&pod.labels));
        in_namespace().filter(|(_, pod)| selected(pod)).count()
    };
    let fewest = side.isolating.iter().min_by_key(count)?;
    stored(fewest)?
        .spec?
        .pod_selector
        .or_else(|| Some(LabelSelector::default()))
}
