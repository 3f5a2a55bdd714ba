//! What policies allow, whoever comes: also towards pods and namespaces that are not there yet.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Workload;
use crate::cluster::Cluster;
use crate::policy::{Direction, IpBlock, Namespaces, Peer, Peers, Port, Ports, Rule};
use crate::port::{PortRange, PortSet};

/// What one workload is open to in one direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    pub workload: Workload,
    pub direction: Direction,
    pub who: Who,
    pub ports: PortSet,
    /// Ports of the other end that are known by name only.
    pub named: BTreeSet<String>,
}

/// Whom a rule is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The cluster and what is outside.
    Anyone,
    /// Pods that match, or addresses.
    Peer(Peer),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone => f.write_str("anyone"),
            Self::Peer(Peer::Block(IpBlock { cidr, except })) => {
                write!(f, "{cidr}")?;
                for (index, except) in except.iter().enumerate() {
                    write!(f, "{}{except}", if index == 0 { " except " } else { ", " })?;
                }
                Ok(())
            }
            Self::Peer(Peer::Pods { namespaces, pods }) => {
                if pods.is_everything() {
                    f.write_str("every pod")?;
                } else {
                    write!(f, "pods {pods}")?;
                }
                match namespaces {
                    Namespaces::Own(name) => write!(f, " of namespace {name}"),
                    Namespaces::Selected(selector) if selector.is_everything() => {
                        f.write_str(" of the cluster")
                    }
                    Namespaces::Selected(selector) => write!(f, " of namespaces {selector}"),
                }
            }
        }
    }
}

type Open = (PortSet, BTreeSet<String>);

/// What every workload is open to; a workload that nothing isolates is open to anyone. Sorted by workload.
pub fn exposure(cluster: &Cluster) -> Vec<Exposure> {
    let mut found: BTreeMap<(Workload, Direction, Who), Open> = BTreeMap::new();
    for (key, pod) in cluster.pods.iter().filter(|(_, pod)| pod.is_governed()) {
        let policies = cluster.policies.in_namespace(&key.namespace);
        let selecting: Vec<_> = policies
            .filter(|(_, policy)| policy.pods.matches(&pod.labels))
            .collect();
        for direction in Direction::BOTH {
            let mut open = |who: Who, (ports, named): Open| {
                if !ports.is_empty() || !named.is_empty() {
                    let known = found.entry((Workload::of(key, pod), direction, who)).or_default();
                    known.0 = known.0.union(&ports);
                    known.1.extend(named);
                }
            };
            let mut isolating = selecting
                .iter()
                .filter_map(|(_, policy)| policy.rules(direction))
                .peekable();
            if isolating.peek().is_none() {
                open(Who::Anyone, (PortSet::All, BTreeSet::new()));
            }
            for rule in isolating.flatten() {
                let ports = ports(rule, |port| match (port, direction) {
                    (Port::Range(range), _) => Ok(vec![*range]),
                    (Port::Named(protocol, name), Direction::Ingress) => {
                        let numbers = pod.named_ports(*protocol, name);
                        Ok(numbers
                            .map(|number| PortRange::single(*protocol, number))
                            .collect())
                    }
                    (Port::Named(protocol, name), Direction::Egress) => Err(format!("{protocol} {name}")),
                });
                match &rule.peers {
                    Peers::Any => open(Who::Anyone, ports),
                    Peers::Of(peers) => peers
                        .iter()
                        .for_each(|peer| open(Who::Peer(peer.clone()), ports.clone())),
                }
            }
        }
    }
    let exposures = found.into_iter();
    exposures
        .map(|((workload, direction, who), (ports, named))| Exposure {
            workload,
            direction,
            who,
            ports,
            named,
        })
        .collect()
}

fn ports(rule: &Rule, resolve: impl Fn(&Port) -> Result<Vec<PortRange>, String>) -> Open {
    let Ports::Of(list) = &rule.ports else {
        return (PortSet::All, BTreeSet::new());
    };
    let (mut ranges, mut named) = (Vec::new(), BTreeSet::new());
    for port in list {
        match resolve(port) {
            Ok(found) => ranges.extend(found),
            Err(name) => {
                named.insert(name);
            }
        }
    }
    (ranges.into_iter().collect(), named)
}
