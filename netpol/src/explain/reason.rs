//! What keeps a rule from allowing a connection.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::cluster::Cluster;
use crate::evaluate::Endpoint;
use crate::policy::{Namespaces, Peer, Port};
use crate::port::Transport;
use crate::selector::{Condition, Labels, Requirement};

/// One thing that would have to be different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A bare podSelector, and the other end is in another namespace.
    OwnNamespaceOnly {
        policy: String,
        peer: String,
    },
    NamespaceUnknown {
        name: String,
    },
    NamespaceLabel {
        namespace: String,
        wants: Requirement,
        has: Option<String>,
    },
    PodLabel {
        pod: String,
        wants: Requirement,
        has: Option<String>,
    },
    /// The peer selects pods, and the other end is an address.
    NoPod {
        address: IpAddr,
    },
    OutsideBlock {
        address: IpAddr,
        cidr: IpNet,
    },
    Excepted {
        address: IpAddr,
        except: IpNet,
    },
    /// The peer is a block, and the address of the pod is not known.
    NoAddress {
        pod: String,
        cidr: IpNet,
    },
    /// No peer of the rule could be understood.
    NoPeer,
    Port {
        wanted: Transport,
        open: Vec<String>,
    },
}

impl Reason {
    /// How far it is from being met, so that the nearest can be told. A value that differs is nearer than a key that is absent; what an
    /// ipBlock was written for is hardly ever a pod.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Port { .. } | Self::OwnNamespaceOnly { .. } => 2,
            Self::NamespaceLabel { has, .. } | Self::PodLabel { has, .. } => {
                if has.is_some() {
                    3
                } else {
                    4
                }
            }
            Self::OutsideBlock { .. } | Self::Excepted { .. } => 5,
            Self::NamespaceUnknown { .. } => 6,
            Self::NoPod { .. } | Self::NoAddress { .. } => 9,
            Self::NoPeer => 12,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label =
            |f: &mut fmt::Formatter<'_>, object: &str, wants: &Requirement, has: &Option<String>| match has {
                None if wants.condition == Condition::DoesNotExist => {
                    write!(f, "{object} must not have {}", wants.key)
                }
                None => write!(f, "{object} has no label {}; the rule wants {wants}", wants.key),
                Some(value) => write!(f, "{object} has {}={value}; the rule wants {wants}", wants.key),
            };
        match self {
            Self::OwnNamespaceOnly { policy, peer } => write!(
                f,
                "a podSelector alone looks in the policy's own namespace {policy} only, and the other end is in {peer}"
            ),
            Self::NamespaceUnknown { name } => write!(f, "the namespace {name} is not known, nor its labels"),
            Self::NamespaceLabel {
                namespace,
                wants,
                has,
            } => label(f, &format!("namespace {namespace}"), wants, has),
            Self::PodLabel { pod, wants, has } => label(f, &format!("pod {pod}"), wants, has),
            Self::NoPod { address } => write!(f, "the rule selects pods, and {address} is none"),
            Self::OutsideBlock { address, cidr } => write!(f, "{address} is not in {cidr}"),
            Self::Excepted { address, except } => {
                write!(f, "{address} is in {except}, which the rule excepts")
            }
            Self::NoAddress { pod, cidr } => {
                write!(
                    f,
                    "the rule is for {cidr}, and the address of pod {pod} is not known"
                )
            }
            Self::NoPeer => f.write_str("no peer of the rule can be understood"),
            Self::Port { wanted, open } if open.is_empty() => {
                write!(f, "the rule opens no port; {wanted} is wanted")
            }
            Self::Port { wanted, open } => {
                write!(f, "the rule is for {}; {wanted} is wanted", open.join(", "))
            }
        }
    }
}

/// Why an end is not that peer; empty if it is.
pub(super) fn of_peer(cluster: &Cluster, peer: &Peer, end: Endpoint<'_>) -> Vec<Reason> {
    match (peer, end) {
        (Peer::Block(block), end) => {
            let address = match end {
                Endpoint::Address(address) => address,
                Endpoint::Pod { key, pod } => match pod.addresses.first() {
                    Some(address) => *address,
                    None => {
                        return vec![Reason::NoAddress {
                            pod: key.to_string(),
                            cidr: block.cidr,
                        }];
                    }
                },
            };
            let except = block.except.iter().find(|except| except.contains(&address));
            match except {
                _ if !block.cidr.contains(&address) => vec![Reason::OutsideBlock {
                    address,
                    cidr: block.cidr,
                }],
                Some(except) => vec![Reason::Excepted {
                    address,
                    except: *except,
                }],
                None => Vec::new(),
            }
        }
        (Peer::Pods { .. }, Endpoint::Address(address)) => vec![Reason::NoPod { address }],
        (Peer::Pods { namespaces, pods }, Endpoint::Pod { key, pod }) => {
            let mut reasons = Vec::new();
            match (namespaces, cluster.namespace_labels(&key.namespace)) {
                (Namespaces::Own(name), _) if *name != key.namespace => {
                    reasons.push(Reason::OwnNamespaceOnly {
                        policy: name.clone(),
                        peer: key.namespace.clone(),
                    })
                }
                (Namespaces::Own(_), _) => {}
                (Namespaces::Selected(_), None) => reasons.push(Reason::NamespaceUnknown {
                    name: key.namespace.clone(),
                }),
                (Namespaces::Selected(selector), Some(labels)) => {
                    reasons.extend(unmet(selector.requirements(), labels).map(|(wants, has)| {
                        Reason::NamespaceLabel {
                            namespace: key.namespace.clone(),
                            wants,
                            has,
                        }
                    }));
                }
            }
            reasons.extend(
                unmet(pods.requirements(), &pod.labels).map(|(wants, has)| Reason::PodLabel {
                    pod: key.to_string(),
                    wants,
                    has,
                }),
            );
            reasons
        }
    }
}

fn unmet<'a>(
    requirements: impl Iterator<Item = &'a Requirement>,
    labels: &'a Labels,
) -> impl Iterator<Item = (Requirement, Option<String>)> {
    requirements
        .filter(|requirement| !requirement.holds(labels))
        .map(|requirement| (requirement.clone(), labels.get(&requirement.key).cloned()))
}

/// Why none of these ports is the wanted one.
pub(super) fn of_ports(ports: &[Port], destination: Endpoint<'_>, wanted: Transport) -> Option<Reason> {
    let mut open = Vec::new();
    for port in ports {
        match port {
            Port::Range(range) => match wanted {
                Transport::Port(protocol, number) if range.contains(protocol, number) => return None,
                _ => open.push(range.to_string()),
            },
            Port::Named(named, name) => {
                let numbers: Vec<u16> = match destination {
                    Endpoint::Pod { pod, .. } => pod.named_ports(*named, name).collect(),
                    Endpoint::Address(_) => Vec::new(),
                };
                if let Transport::Port(protocol, number) = wanted
                    && *named == protocol
                    && numbers.contains(&number)
                {
                    return None;
                }
                let numbers: Vec<String> = numbers.iter().map(u16::to_string).collect();
                open.push(match numbers.as_slice() {
                    [] => format!("{named}/{name} (a name that no port there has)"),
                    _ => format!("{named}/{name} ({} there)", numbers.join(", ")),
                });
            }
        }
    }
    Some(Reason::Port { wanted, open })
}
