//! Where the cluster has what every pod may need, as ends that a policy can be asked about.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::baseline::FactRule;
use crate::cluster::{Cluster, Key, NAMESPACE_NAME};
use crate::evaluate::Endpoint;
use crate::facts;
use crate::port::Protocol;
use crate::selector::Selector;

use super::cover::only_value;

/// How the fact of a cache on each node calls itself.
const NODE_LOCAL: &str = "NodeLocal DNSCache";

/// One origin of a fact, of which something is in view.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// As `Service kube-system/kube-dns`.
    pub origin: String,
    /// What is there; never empty.
    pub ends: Vec<Endpoint<'a>>,
    /// The ports on which it answers; empty for what only asks.
    pub ports: BTreeSet<(Protocol, u16)>,
    /// The peers and ports for a rule.
    pub rule: FactRule,
    /// It is asked in place of the others, on the pod's own node.
    pub node_local: bool,
}

/// The places of a fact, as the generator would find them: what is pinned in a baseline counts before what is found.
pub(super) fn find<'a>(cluster: &'a Cluster, fact: &str) -> Vec<Place<'a>> {
    let wanted = BTreeSet::from([fact.to_owned()]);
    let pinned = cluster
        .baselines
        .values()
        .filter_map(|baseline| baseline.spec.facts.get(fact));
    let sources = pinned
        .map(|source| (fact.to_owned(), source.clone()))
        .take(1)
        .collect();
    let facts = facts::resolve(cluster, &wanted, &sources, &[]);
    let rules = facts.into_values().flat_map(|fact| fact.rules);
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

fn ends<'a>(cluster: &'a Cluster, rule: &FactRule) -> Vec<Endpoint<'a>> {
    let mut ends = Vec::new();
    for peer in &rule.peers {
        if let Some(block) = &peer.ip_block {
            ends.extend(
                block
                    .cidr
                    .parse()
                    .map(|net: ipnet::IpNet| Endpoint::Address(net.addr())),
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
        let all = cluster.pods.in_namespace(name);
        ends.extend(
            all.filter(|(_, pod)| pod.is_governed() && pods.matches(&pod.labels))
                .map(|(key, pod)| Endpoint::Pod { key, pod }),
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

impl Place<'_> {
    /// Whether this pod itself is there.
    pub fn is(&self, key: &Key) -> bool {
        self.ends
            .iter()
            .any(|end| matches!(end, Endpoint::Pod { key: other, .. } if *other == key))
    }

    /// The numbers of the ports of a protocol.
    pub fn numbers(&self, protocol: Protocol) -> impl Iterator<Item = u16> {
        let of = move |(other, number): &(Protocol, u16)| (*other == protocol).then_some(*number);
        self.ports.iter().filter_map(of)
    }
}
