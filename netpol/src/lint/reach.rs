//! What policies open between ends that are in view, with the benefit of the doubt.
//!
//! [`crate::evaluate`] says what is; a lint that cannot know (a pod whose address is not known, and a block) must not complain. So
//! here a block matches a pod without an address.

use crate::cluster::Cluster;
use crate::evaluate::Endpoint;
use crate::policy::{Direction, Namespaces, Peer, Peers, Policy, Port, Ports, Rule};
use crate::port::Transport;

/// Whether policies that all select one pod isolate it, and whether they let a connection through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passage {
    /// None of them isolates.
    Free,
    Allowed,
    Denied,
}

/// What policies say about a connection of the pod that they select with `peer`, towards `destination`.
pub(super) fn passage(
    cluster: &Cluster,
    policies: &[&Policy],
    direction: Direction,
    peer: Endpoint<'_>,
    destination: Endpoint<'_>,
    transport: Transport,
) -> Passage {
    let mut isolated = false;
    for rules in policies.iter().filter_map(|policy| policy.rules(direction)) {
        isolated = true;
        if rules
            .iter()
            .any(|rule| is_peer(cluster, rule, peer) && is_port(rule, destination, transport))
        {
            return Passage::Allowed;
        }
    }
    if isolated { Passage::Denied } else { Passage::Free }
}

/// Whether the other end may be a peer of the rule.
pub(super) fn is_peer(cluster: &Cluster, rule: &Rule, end: Endpoint<'_>) -> bool {
    match &rule.peers {
        Peers::Any => true,
        Peers::Of(list) => list.iter().any(|peer| may_be(cluster, peer, end)),
    }
}

/// Whether an end may be that peer.
pub(super) fn may_be(cluster: &Cluster, peer: &Peer, end: Endpoint<'_>) -> bool {
    match (peer, end) {
        (Peer::Block(block), Endpoint::Address(address)) => block.contains(address),
        (Peer::Block(block), Endpoint::Pod { pod, .. }) => {
            pod.addresses.is_empty() || pod.addresses.iter().any(|address| block.contains(*address))
        }
        (Peer::Pods { .. }, Endpoint::Address(_)) => false,
        (Peer::Pods { namespaces, pods }, Endpoint::Pod { key, pod }) => {
            pods.matches(&pod.labels) && looks_in(cluster, namespaces, &key.namespace)
        }
    }
}

/// Whether a peer looks in a namespace.
pub(super) fn looks_in(cluster: &Cluster, namespaces: &Namespaces, name: &str) -> bool {
    match namespaces {
        Namespaces::Own(own) => own == name,
        Namespaces::Selected(selector) => cluster
            .namespace_labels(name)
            .is_some_and(|labels| selector.matches(labels)),
    }
}

/// Whether the rule opens a port of a destination.
pub(super) fn is_port(rule: &Rule, destination: Endpoint<'_>, transport: Transport) -> bool {
    let Ports::Of(ports) = &rule.ports else {
        return true;
    };
    let Transport::Port(protocol, number) = transport else {
        return false;
    };
    ports.iter().any(|port| match port {
        Port::Range(range) => range.contains(protocol, number),
        Port::Named(named, name) => match destination {
            Endpoint::Pod { pod, .. } => {
                *named == protocol && pod.named_ports(protocol, name).any(|resolved| resolved == number)
            }
            Endpoint::Address(_) => false,
        },
    })
}
