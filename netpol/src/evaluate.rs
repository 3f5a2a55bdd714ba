//! Who may reach whom, as the specification of NetworkPolicy says it.
//!
//! This evaluator is naive on purpose: it walks policies and rules in the words of the specification and shares
//! nothing with [`crate::compile`] beyond the typed model. Property tests hold the two equal.

use std::net::IpAddr;

use crate::cluster::{Cluster, Key, Pod};
use crate::policy::{Direction, Namespaces, Peer, Peers, Port, Ports, Rule};
use crate::port::Transport;

/// One side of a connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Endpoint<'a> {
    /// A pod, at its first address.
    Pod { key: &'a Key, pod: &'a Pod },
    /// Whatever has this address and is no governed pod: a host, a hostNetwork pod, the world.
    Address(IpAddr),
}

/// Whether a connection may be opened, with what either side says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The sender's policies let it out.
    pub egress: bool,
    /// The receiver's policies let it in.
    pub ingress: bool,
}

impl Verdict {
    /// A connection needs the sender's egress and the receiver's ingress.
    pub fn allowed(self) -> bool {
        self.egress && self.ingress
    }
}

impl<'a> Endpoint<'a> {
    /// The pod of that key as an endpoint: itself, or its node's address if it is on the host's network.
    /// `None` if there is no such pod, it is finished, or it has no address where one is needed.
    pub fn of(cluster: &'a Cluster, key: &'a Key) -> Option<Self> {
        let pod = cluster.pods.get(key)?;
        if pod.is_governed() {
            Some(Self::Pod { key, pod })
        } else if pod.host_network {
            pod.addresses.first().copied().map(Self::Address)
        } else {
            None
        }
    }

    /// Its first address; a pod may have none yet.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Pod { pod, .. } => pod.addresses.first().copied(),
            Self::Address(address) => Some(*address),
        }
    }
}

/// Whether `from` may open a connection to `to`.
pub fn evaluate(cluster: &Cluster, from: Endpoint<'_>, to: Endpoint<'_>, transport: Transport) -> Verdict {
    if let (Endpoint::Pod { key: a, .. }, Endpoint::Pod { key: b, .. }) = (from, to)
        && a == b
    {
        return Verdict {
            egress: true,
            ingress: true,
        };
    }
    Verdict {
        egress: side(cluster, Direction::Egress, from, to, to, transport),
        ingress: side(cluster, Direction::Ingress, to, from, to, transport),
    }
}

/// What the policies of `subject` say in one direction about a connection with `peer` towards `destination`.
fn side(
    cluster: &Cluster,
    direction: Direction,
    subject: Endpoint<'_>,
    peer: Endpoint<'_>,
    destination: Endpoint<'_>,
    transport: Transport,
) -> bool {
    let Endpoint::Pod { key, pod } = subject else {
        return true; // policies select pods only
    };
    let selecting = || {
        cluster
            .policies
            .values()
            .filter(|policy| policy.key.namespace == key.namespace && policy.pods.matches(&pod.labels))
    };
    let mut isolated = false;
    for rules in selecting().filter_map(|policy| policy.rules(direction)) {
        isolated = true;
        if rules
            .iter()
            .any(|rule| rule_allows(cluster, rule, peer, destination, transport))
        {
            return true;
        }
    }
    !isolated
}

fn rule_allows(
    cluster: &Cluster,
    rule: &Rule,
    peer: Endpoint<'_>,
    destination: Endpoint<'_>,
    transport: Transport,
) -> bool {
    let peer_matches = match &rule.peers {
        Peers::Any => true,
        Peers::Of(peers) => peers.iter().any(|candidate| peer_is(cluster, candidate, peer)),
    };
    let port_matches = match &rule.ports {
        Ports::Any => true,
        Ports::Of(ports) => ports.iter().any(|port| port_is(port, destination, transport)),
    };
    peer_matches && port_matches
}

fn peer_is(cluster: &Cluster, peer: &Peer, endpoint: Endpoint<'_>) -> bool {
    match (peer, endpoint) {
        (Peer::Block(block), endpoint) => endpoint.address().is_some_and(|address| block.contains(address)),
        (Peer::Pods { .. }, Endpoint::Address(_)) => false,
        (Peer::Pods { namespaces, pods }, Endpoint::Pod { key, pod }) => {
            let namespace = match namespaces {
                Namespaces::Own(name) => *name == key.namespace,
                Namespaces::Selected(selector) => cluster
                    .namespace_labels(&key.namespace)
                    .is_some_and(|labels| selector.matches(labels)),
            };
            namespace && pods.matches(&pod.labels)
        }
    }
}

fn port_is(port: &Port, destination: Endpoint<'_>, transport: Transport) -> bool {
    let Transport::Port(protocol, number) = transport else {
        return false; // a rule that names ports says nothing about protocols without them
    };
    match port {
        Port::Range(range) => range.contains(protocol, number),
        Port::Named(named, name) => match destination {
            Endpoint::Pod { pod, .. } => {
                *named == protocol && pod.named_ports(protocol, name).any(|resolved| resolved == number)
            }
            Endpoint::Address(_) => false,
        },
    }
}
