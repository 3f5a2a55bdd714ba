//! Where the cluster has what every pod may need, as ends that a policy can be asked about.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::baseline::FactRule;
use crate::cluster::{Cluster, Key, NAMESPACE_NAME, Pod};
use crate::evaluate::Endpoint;
use crate::facts;
use crate::port::Protocol;
use crate::selector::Selector;

use super::cover::only_value;

/// How the fact of a cache on each node calls itself.
const NODE_LOCAL: &str = "NodeLocal DNSCache";

/// One origin of a fact, of which something is in view.
#[derive(Debug)]
pub(crate) struct Place {
    /// As `Service kube-system/kube-dns`.
    pub origin: String,
    /// What is there; never empty.
    ends: Vec<End>,
    /// The ports on which it answers; empty for what only asks.
    pub ports: BTreeSet<(Protocol, u16)>,
    /// The peers and ports for a rule.
    pub rule: FactRule,
    /// It is asked in place of the others, on the pod's own node.
    pub node_local: bool,
}

#[derive(Debug)]
enum End {
    Pod { key: Key, pod: Arc<Pod> },
    Address(IpAddr),
}

/// The places of a fact, as the generator would find them.
pub(super) fn find(cluster: &Cluster, fact: &str) -> Vec<Place> {
    let rules = facts::rules(cluster, fact).into_iter();
    rules
        .map(|rule| Place {
            origin: rule.origin.clone(),
            ends: ends(cluster, &rule),
            ports: ports(&rule),
            node_local: rule.origin.starts_with(NODE_LOCAL),
            rule,
        })
        .filter(|place| !place.ends.is_empty())
        .collect()
}

fn ends(cluster: &Cluster, rule: &FactRule) -> Vec<End> {
    let mut ends = Vec::new();
    for peer in &rule.peers {
        if let Some(block) = &peer.ip_block {
            ends.extend(
                block
                    .cidr
                    .parse()
                    .map(|net: ipnet::IpNet| End::Address(net.addr())),
            );
        }
        let parse = |selector: &Option<_>| selector.as_ref().and_then(|s| Selector::parse(s).ok());
        let (Some(namespace), Some(pods)) = (parse(&peer.namespace_selector), parse(&peer.pod_selector))
        else {
            continue;
        };
        // Facts name namespaces by their names.
        let Some(name) = only_value(&namespace, NAMESPACE_NAME) else {
            continue;
        };
        let all = cluster.pods.shared_in_namespace(name);
        ends.extend(
            all.filter(|(_, pod)| pod.is_governed() && pods.matches(&pod.labels))
                .map(|(key, pod)| End::Pod {
                    key: key.clone(),
                    pod: Arc::clone(pod),
                }),
        );
    }
    ends
}

fn ports(rule: &FactRule) -> BTreeSet<(Protocol, u16)> {
    let number = |port: &IntOrString| match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(_) => None,
    };
    let ports = rule.ports.iter();
    ports
        .filter_map(|port| {
            let protocol = Protocol::parse(port.protocol.as_deref().unwrap_or("TCP"))?;
            Some((protocol, number(port.port.as_ref()?)?))
        })
        .collect()
}

impl Place {
    /// What is there; never empty.
    pub fn ends(&self) -> impl Iterator<Item = Endpoint<'_>> + Clone {
        self.ends.iter().map(|end| match end {
            End::Pod { key, pod } => Endpoint::Pod { key, pod },
            End::Address(address) => Endpoint::Address(*address),
        })
    }

    /// Whether this pod itself is there.
    pub fn is(&self, key: &Key) -> bool {
        self.ends()
            .any(|end| matches!(end, Endpoint::Pod { key: other, .. } if other == key))
    }

    /// The numbers of the ports of a protocol.
    pub fn numbers(&self, protocol: Protocol) -> impl Iterator<Item = u16> {
        let of = move |(other, number): &(Protocol, u16)| (*other == protocol).then_some(*number);
        self.ports.iter().filter_map(of)
    }
}
