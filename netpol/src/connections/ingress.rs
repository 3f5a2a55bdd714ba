//! What ingress controllers and gateways reach through Ingress objects and routes, as far as policies let them.
//!
//! Which pods the controller is, is not known here: it is some pod of some namespace. So only rules that are open to every pod let it in.

use std::collections::BTreeMap;

use super::Workload;
use crate::cluster::{Cluster, Pod, Routing};
use crate::policy::{Direction, Namespaces, Peer, Peers, Policy, Port, Ports, Rule};
use crate::port::{PortRange, PortSet};

/// The workloads that ingress controllers and gateways lead to, and the ports at which these reach them.
pub fn by_ingress_controllers(cluster: &Cluster, routing: &Routing) -> BTreeMap<Workload, PortSet> {
    let mut reached: BTreeMap<Workload, PortSet> = BTreeMap::new();
    for routed in &routing.routed {
        let Some(service) = cluster.services.get(&routed.service) else {
            continue;
        };
        let Some(selector) = &service.selector else {
            continue;
        };
        let pods = cluster.pods.in_namespace(&routed.service.namespace);
        for (key, pod) in pods.filter(|(_, pod)| pod.is_governed() && selector.matches(&pod.labels)) {
            let policies = cluster.policies.in_namespace(&key.namespace);
            let policies = policies.map(|(_, policy)| policy);
            let policies: Vec<&Policy> = policies
                .filter(|policy| policy.pods.matches(&pod.labels))
                .collect();
            let ports = routed
                .ports(service, pod)
                .intersection(&open_to_every_pod(&policies, pod));
            if !ports.is_empty() {
                let known = reached.entry(Workload::of(key, pod)).or_default();
                *known = known.union(&ports);
            }
        }
    }
    reached
}

fn open_to_every_pod(policies: &[&Policy], pod: &Pod) -> PortSet {
    let mut isolating = policies
        .iter()
        .filter_map(|policy| policy.rules(Direction::Ingress))
        .peekable();
    if isolating.peek().is_none() {
        return PortSet::All;
    }
    let open = isolating.flatten().filter(|rule| is_for_every_pod(rule));
    open.fold(PortSet::empty(), |ports, rule| ports.union(&ports_of(rule, pod)))
}

fn is_for_every_pod(rule: &Rule) -> bool {
    match &rule.peers {
        Peers::Any => true,
        Peers::Of(peers) => peers.iter().any(|peer| match peer {
            Peer::Pods {
                namespaces: Namespaces::Selected(namespaces),
                pods,
            } => namespaces.is_everything() && pods.is_everything(),
            Peer::Pods { .. } | Peer::Block(_) => false,
        }),
    }
}

fn ports_of(rule: &Rule, pod: &Pod) -> PortSet {
    let Ports::Of(ports) = &rule.ports else {
        return PortSet::All;
    };
    let ranges = ports.iter().flat_map(|port| match port {
        Port::Range(range) => vec![*range],
        Port::Named(protocol, name) => {
            let numbers = pod.named_ports(*protocol, name);
            numbers
                .map(|number| PortRange::single(*protocol, number))
                .collect()
        }
    });
    ranges.collect()
}
