//! Whether pods can resolve names.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicySpec};

use super::side::{Side, is_of, resolved};
use crate::cluster::{Cluster, Pod};
use crate::facts;
use crate::policy::{Peer, Peers, Policy, Ports};
use crate::port::{PortRange, Protocol, Transport};

/// How many pods of one DNS Service are asked about: they are all selected by the same labels.
const ASKED: usize = 4;

/// The cluster's real DNS, kept from one change to the next.
#[derive(Debug, Default)]
pub(super) struct Resolvers {
    /// Of all that it is found by.
    revisions: [u64; 5],
    endpoints: Vec<Endpoint>,
}

/// Where names are resolved.
#[derive(Debug)]
pub(super) struct Endpoint {
    at: At,
    port: u16,
}

#[derive(Debug)]
enum At {
    Pod { namespace: String, pod: Arc<Pod> },
    Address(IpAddr),
}

impl Resolvers {
    pub fn of(cluster: &Cluster) -> Self {
        Self {
            revisions: Self::revisions(cluster),
            endpoints: endpoints(cluster),
        }
    }

    /// Whether they are still the cluster's. It must be the one that they are of.
    pub fn holds(&self, cluster: &Cluster) -> bool {
        self.revisions == Self::revisions(cluster)
    }

    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    fn revisions(cluster: &Cluster) -> [u64; 5] {
        [
            cluster.namespaces.revision(),
            cluster.pods.revision(),
            cluster.services.revision(),
            cluster.endpoint_slices.revision(),
            cluster.baselines.revision(), // it can be pinned there
        ]
    }
}

/// The cluster's real DNS, on the ports where it listens by UDP; empty if it is not known.
fn endpoints(cluster: &Cluster) -> Vec<Endpoint> {
    let rules = facts::rules(cluster, facts::DNS).into_iter();
    // What a fact says is read by the parser of policies, so that it means the same.
    let egress = rules.map(|rule| NetworkPolicyEgressRule {
        to: Some(rule.peers),
        ports: Some(rule.ports),
    });
    let policy = Policy::parse(&NetworkPolicy {
        spec: Some(NetworkPolicySpec {
            egress: Some(egress.collect()),
            policy_types: Some(vec!["Egress".to_owned()]),
            ..NetworkPolicySpec::default()
        }),
        ..NetworkPolicy::default()
    });
    let mut found = Vec::new();
    for rule in policy.egress.unwrap_or_default() {
        let (Peers::Of(peers), Ports::Of(_)) = (&rule.peers, &rule.ports) else {
            continue;
        };
        let numbers = |pod: &Pod| {
            let ports = resolved(&rule.ports, pod);
            let by_udp = |range: &&PortRange| range.protocol == Protocol::Udp;
            ports
                .ranges()
                .iter()
                .filter(by_udp)
                .map(|range| range.first)
                .collect::<Vec<u16>>()
        };
        for peer in peers {
            match peer {
                Peer::Block(block) => {
                    found.extend(numbers(&Pod::default()).into_iter().map(|port| Endpoint {
                        at: At::Address(block.cidr.addr()),
                        port,
                    }))
                }
                Peer::Pods { namespaces, pods } => {
                    let holding = cluster
                        .namespaces
                        .iter()
                        .filter(|(key, namespace)| is_of(namespaces, &key.name, Some(&namespace.labels)));
                    let matching = holding
                        .flat_map(|(key, _)| cluster.pods.shared_in_namespace(&key.name))
                        .filter(|(_, pod)| pod.is_governed() && pods.matches(&pod.labels));
                    for (key, pod) in matching.take(ASKED) {
                        found.extend(numbers(pod).into_iter().map(|port| Endpoint {
                            at: At::Pod {
                                namespace: key.namespace.clone(),
                                pod: Arc::clone(pod),
                            },
                            port,
                        }));
                    }
                }
            }
        }
    }
    found
}

/// Whether a side lets queries out to some of these by UDP. Where none is known, there is nothing to cut.
pub(super) fn reached(cluster: &Cluster, endpoints: &[Endpoint], side: &Side<'_>) -> bool {
    endpoints.iter().any(|endpoint| {
        let query = Transport::Port(Protocol::Udp, endpoint.port);
        match &endpoint.at {
            At::Pod { namespace, pod } => {
                let local = side.towards(namespace, cluster.namespace_labels(namespace));
                local.ports(pod, pod).contains(query) || by_block(side, pod.addresses.first(), query)
            }
            At::Address(address) => by_block(side, Some(address), query),
        }
    })
}

/// Whether a rule for anyone, or for a block of addresses, lets this address through.
fn by_block(side: &Side<'_>, address: Option<&IpAddr>, transport: Transport) -> bool {
    let Some(address) = address else {
        return false;
    };
    !side.isolated
        || side.rules.iter().any(|rule| {
            let peer = match &rule.peers {
                Peers::Any => true,
                Peers::Of(peers) => peers
                    .iter()
                    .any(|peer| matches!(peer, Peer::Block(block) if block.contains(*address))),
            };
            peer && resolved(&rule.ports, &Pod::default()).contains(transport)
        })
}
