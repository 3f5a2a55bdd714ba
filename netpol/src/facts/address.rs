//! Facts that are addresses: the API server's endpoints, the nodes, and the ranges that pods and Services have theirs from.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::api::baseline::FactRule;
use crate::cluster::{Cluster, Key};

use super::{Finding, Findings, address_peer, ports};

/// The Service in front of the API server, and the slice of its endpoints, which it writes itself.
const SERVICE: (&str, &str) = ("default", "kubernetes");

/// Where the API server really listens: policies see its endpoints, and not the Service in front of them.
pub(super) fn api_server(cluster: &Cluster) -> Findings {
    // Under this name nobody else's endures. Any other slice that names the Service is one that somebody wrote who may write to
    // that namespace.
    let key = Key::new(SERVICE.0, SERVICE.1);
    let Some(slice) = cluster.endpoint_slices.get(&key) else {
        return Findings {
            remarks: vec![
                "the Service default/kubernetes has no EndpointSlice; pin it in spec.facts.apiServer.rules"
                    .to_owned(),
            ],
            ..Findings::default()
        };
    };
    let found = match slice.addresses.is_empty() || slice.ports.is_empty() {
        true => Err("it has no endpoints at the moment".to_owned()),
        false => Ok(FactRule {
            origin: String::new(),
            peers: slice
                .addresses
                .iter()
                .map(|ip| address_peer(IpNet::from(*ip)))
                .collect(),
            ports: ports(
                &slice
                    .ports
                    .iter()
                    .map(|port| (port.protocol, port.number))
                    .collect(),
            ),
        }),
    };
    Findings {
        findings: vec![Finding {
            origin: format!("EndpointSlice {key}"),
            found,
        }],
        ..Findings::default()
    }
}

/// The addresses of all nodes, on all ports.
pub(super) fn nodes(cluster: &Cluster) -> Findings {
    let addresses = cluster.nodes.values().flat_map(|node| &node.addresses);
    let addresses: BTreeSet<IpNet> = addresses.map(|ip| IpNet::from(*ip)).collect();
    let origin = format!("the addresses of {} Nodes", cluster.nodes.len());
    ranges(
        origin,
        addresses,
        "no Node has an address; pin them in spec.facts.nodes.rules",
    )
}

/// The ranges that Kubernetes assigned to the nodes for their pods, neighbours put together.
pub(super) fn pod_ranges(cluster: &Cluster) -> Findings {
    let ranges_of_nodes = cluster.nodes.values().flat_map(|node| &node.pod_ranges);
    let all: Vec<IpNet> = ranges_of_nodes.copied().collect();
    ranges(
        "spec.podCIDRs of the Nodes".to_owned(),
        IpNet::aggregate(&all),
        "no Node has spec.podCIDRs (the network plugin assigns addresses by itself); pin them in spec.facts.podRanges.rules",
    )
}

/// The ranges that Services have their addresses from.
pub(super) fn service_ranges(cluster: &Cluster) -> Findings {
    let all: Vec<IpNet> = cluster.service_ranges.values().flatten().copied().collect();
    ranges(
        "the ServiceCIDRs".to_owned(),
        IpNet::aggregate(&all),
        "the cluster has no ServiceCIDR (they came with Kubernetes 1.33); pin them in spec.facts.serviceRanges.rules",
    )
}

fn ranges(origin: String, blocks: impl IntoIterator<Item = IpNet>, otherwise: &str) -> Findings {
    let peers: Vec<_> = blocks.into_iter().map(address_peer).collect();
    if peers.is_empty() {
        return Findings {
            remarks: vec![otherwise.to_owned()],
            ..Findings::default()
        };
    }
    let rule = FactRule {
        origin: String::new(),
        peers,
        ports: Vec::new(),
    };
    Findings {
        findings: vec![Finding {
            origin,
            found: Ok(rule),
        }],
        ..Findings::default()
    }
}
