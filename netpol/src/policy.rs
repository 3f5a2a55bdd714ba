//! A NetworkPolicy, typed.
//!
//! [`Policy::parse`] is the one door from Kubernetes's object to ours. It never fails as a whole: a part that
//! cannot be understood is left out in the direction that closes (a peer or port then matches nothing; a policy
//! whose `podSelector` is unreadable isolates its whole namespace), and is named in [`Policy::defects`], for
//! the webhook to refuse and for the enforcer to count and say.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1 as k8s;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::cluster::Key;
use crate::port::{PortRange, Protocol};
use crate::selector::{self, Selector};

/// Which way a connection is opened, seen from the pod that a policy selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    pub const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    /// The field of the specification that holds this direction's rules.
    pub fn field(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    /// The field of a rule that holds its peers.
    pub fn peers_field(self) -> &'static str {
        match self {
            Self::Ingress => "from",
            Self::Egress => "to",
        }
    }
}

/// A NetworkPolicy. Equal policies mean the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub key: Key,
    /// Which pods of the policy's namespace it isolates.
    pub pods: Selector,
    /// `None`: says nothing about ingress. `Some`: isolates for ingress, these rules allow.
    pub ingress: Option<Vec<Rule>>,
    /// `None`: says nothing about egress. `Some`: isolates for egress, these rules allow.
    pub egress: Option<Vec<Rule>>,
    /// What could not be understood, and therefore allows nothing.
    pub defects: Vec<Defect>,
}

/// One rule: a peer that matches AND a port that matches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    pub peers: Peers,
    pub ports: Ports,
}

/// Who the other side may be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peers {
    /// Anyone, also from outside of the cluster.
    Any,
    /// Any of these; nobody, if empty.
    Of(Vec<Peer>),
}

/// One peer of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// Pods with such labels in such namespaces.
    Pods { namespaces: Namespaces, pods: Selector },
    /// Addresses, whoever has them.
    Block(IpBlock),
}

/// Which namespaces a peer looks in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespaces {
    /// The policy's own namespace, by name: the peer had no `namespaceSelector`.
    Own(String),
    Selected(Selector),
}

/// Addresses in `cidr` but in none of `except`. Host bits are cleared on arrival.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpBlock {
    pub cidr: IpNet,
    pub except: Vec<IpNet>,
}

/// Which ports a rule allows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ports {
    /// All ports of all protocols, also of protocols without ports.
    Any,
    /// Any of these; none, if empty.
    Of(Vec<Port>),
}

/// One port of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// A number, a range, or all ports of a protocol.
    Range(PortRange),
    /// The port of that name on the destination pod; grants nothing where the pod has none.
    Named(Protocol, String),
}

/// A part of a policy that could not be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defect {
    /// Where, as `spec.ingress[0].from[1].ipBlock.cidr`.
    pub field: String,
    pub error: Error,
}

/// Why a part of a policy could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Selector(#[from] selector::Error),
    #[error("{0:?} is no CIDR; write an address and a prefix length, as 10.0.0.0/8 or 2001:db8::/32")]
    NotACidr(String),
    #[error("{except} is not inside of {cidr}, so there is nothing to except")]
    ExceptOutside { except: IpNet, cidr: IpNet },
    #[error("ipBlock stands alone: it cannot be combined with podSelector or namespaceSelector")]
    BlockWithSelector,
    #[error("a peer needs one of podSelector, namespaceSelector or ipBlock")]
    EmptyPeer,
    #[error("unknown protocol {0:?}; use TCP, UDP or SCTP")]
    UnknownProtocol(String),
    #[error("port {0} is not between 1 and 65535")]
    PortOutOfRange(i32),
    #[error("endPort needs a numeric port before it")]
    EndPortAlone,
    #[error("endPort {end} is below port {port}")]
    EndPortBelow { port: u16, end: i32 },
    #[error("unknown policy type {0:?}; use Ingress or Egress")]
    UnknownType(String),
}

impl Error {
    /// The class of this error, as a metric's label.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Selector(_) => "selector",
            Self::NotACidr(_) | Self::ExceptOutside { .. } | Self::BlockWithSelector => "ip_block",
            Self::EmptyPeer => "peer",
            Self::UnknownProtocol(_)
            | Self::PortOutOfRange(_)
            | Self::EndPortAlone
            | Self::EndPortBelow { .. } => "port",
            Self::UnknownType(_) => "policy_type",
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.error)
    }
}

impl Policy {
    /// Reads Kubernetes's form; see the module for what happens to parts that cannot be understood.
    pub fn parse(object: &k8s::NetworkPolicy) -> Self {
        let key = Key::new(
            object.metadata.namespace.as_deref().unwrap_or("default"),
            object.metadata.name.as_deref().unwrap_or_default(),
        );
        let empty = k8s::NetworkPolicySpec::default();
        let spec = object.spec.as_ref().unwrap_or(&empty);
        let mut parser = Parser {
            namespace: &key.namespace,
            defects: Vec::new(),
        };

        let pods = match spec
            .pod_selector
            .as_ref()
            .map_or(Ok(Selector::everything()), Selector::parse)
        {
            Ok(pods) => pods,
            Err(error) => {
                parser.defect("spec.podSelector".to_owned(), error.into());
                let defects = parser.defects;
                // Whom it meant to isolate is unknown, so it isolates all, for both directions.
                return Self {
                    key,
                    pods: Selector::everything(),
                    ingress: Some(vec![]),
                    egress: Some(vec![]),
                    defects,
                };
            }
        };
        let (isolates_ingress, isolates_egress) = parser.policy_types(spec);
        let ingress = isolates_ingress.then(|| {
            let rules = spec.ingress.iter().flatten().enumerate();
            rules
                .map(|(i, rule)| {
                    parser.rule(Direction::Ingress, i, rule.from.as_deref(), rule.ports.as_deref())
                })
                .collect()
        });
        let egress = isolates_egress.then(|| {
            let rules = spec.egress.iter().flatten().enumerate();
            rules
                .map(|(i, rule)| parser.rule(Direction::Egress, i, rule.to.as_deref(), rule.ports.as_deref()))
                .collect()
        });
        let defects = parser.defects;
        Self {
            key,
            pods,
            ingress,
            egress,
            defects,
        }
    }

    /// The rules of one direction; `None` if the policy does not isolate for it.
    pub fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

impl IpBlock {
    pub fn contains(&self, address: IpAddr) -> bool {
        self.cidr.contains(&address) && !self.except.iter().any(|except| except.contains(&address))
    }
}

/// Collects defects while it walks the specification.
struct Parser<'a> {
    namespace: &'a str,
    defects: Vec<Defect>,
}

impl Parser<'_> {
    fn defect(&mut self, field: String, error: Error) {
        self.defects.push(Defect { field, error });
    }

    /// Which directions are isolated. Absent: Ingress always, Egress only if there are egress rules.
    fn policy_types(&mut self, spec: &k8s::NetworkPolicySpec) -> (bool, bool) {
        let Some(types) = spec.policy_types.as_ref().filter(|types| !types.is_empty()) else {
            return (true, spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()));
        };
        let (mut ingress, mut egress) = (false, false);
        for (index, name) in types.iter().enumerate() {
            match name.as_str() {
                "Ingress" => ingress = true,
                "Egress" => egress = true,
                other => {
                    // A type that is not known here might isolate for anything: close both.
                    (ingress, egress) = (true, true);
                    self.defect(
                        format!("spec.policyTypes[{index}]"),
                        Error::UnknownType(other.to_owned()),
                    );
                }
            }
        }
        (ingress, egress)
    }

    fn rule(
        &mut self,
        direction: Direction,
        index: usize,
        peers: Option<&[k8s::NetworkPolicyPeer]>,
        ports: Option<&[k8s::NetworkPolicyPort]>,
    ) -> Rule {
        let rule = format!("spec.{}[{index}]", direction.field());
        let peers = match peers {
            None | Some([]) => Peers::Any,
            Some(list) => {
                let field = format!("{rule}.{}", direction.peers_field());
                let indexed = list.iter().enumerate();
                Peers::Of(
                    indexed
                        .filter_map(|(i, peer)| self.peer(format!("{field}[{i}]"), peer))
                        .collect(),
                )
            }
        };
        let ports = match ports {
            None | Some([]) => Ports::Any,
            Some(list) => {
                let indexed = list.iter().enumerate();
                Ports::Of(
                    indexed
                        .filter_map(|(i, port)| self.port(format!("{rule}.ports[{i}]"), port))
                        .collect(),
                )
            }
        };
        Rule { peers, ports }
    }

    /// `None` is a peer that matches nothing.
    fn peer(&mut self, field: String, peer: &k8s::NetworkPolicyPeer) -> Option<Peer> {
        let result = match (&peer.ip_block, &peer.namespace_selector, &peer.pod_selector) {
            (Some(block), None, None) => return self.block(&format!("{field}.ipBlock"), block),
            (Some(_), _, _) => Err((field, Error::BlockWithSelector)),
            (None, None, None) => Err((field, Error::EmptyPeer)),
            (None, namespaces, pods) => self.pods_peer(field, namespaces.as_ref(), pods.as_ref()),
        };
        result.map_err(|(field, error)| self.defect(field, error)).ok()
    }

    fn pods_peer(
        &self,
        field: String,
        namespaces: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector>,
        pods: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector>,
    ) -> Result<Peer, (String, Error)> {
        let namespaces = match namespaces {
            None => Namespaces::Own(self.namespace.to_owned()),
            Some(selector) => Namespaces::Selected(
                Selector::parse(selector).map_err(|e| (format!("{field}.namespaceSelector"), e.into()))?,
            ),
        };
        let pods = match pods {
            None => Selector::everything(),
            Some(selector) => {
                Selector::parse(selector).map_err(|e| (format!("{field}.podSelector"), e.into()))?
            }
        };
        Ok(Peer::Pods { namespaces, pods })
    }

    /// An unreadable `except` voids the whole block: to leave it out would open what it meant to close.
    fn block(&mut self, field: &str, block: &k8s::IPBlock) -> Option<Peer> {
        let parse = |text: &str| text.parse::<IpNet>().map(|net| net.trunc());
        let Ok(cidr) = parse(&block.cidr) else {
            self.defect(format!("{field}.cidr"), Error::NotACidr(block.cidr.clone()));
            return None;
        };
        let mut excepts = Vec::new();
        for (index, text) in block.except.iter().flatten().enumerate() {
            let field = format!("{field}.except[{index}]");
            let error = match parse(text) {
                Err(_) => Error::NotACidr(text.clone()),
                Ok(except) if !cidr.contains(&except) => Error::ExceptOutside { except, cidr },
                Ok(except) => {
                    excepts.push(except);
                    continue;
                }
            };
            self.defect(field, error);
            return None;
        }
        excepts.sort_unstable();
        excepts.dedup();
        Some(Peer::Block(IpBlock {
            cidr,
            except: excepts,
        }))
    }

    /// `None` is a port that matches nothing.
    fn port(&mut self, field: String, port: &k8s::NetworkPolicyPort) -> Option<Port> {
        let parsed = self
            .protocol(port)
            .map_err(|e| (".protocol", e))
            .and_then(|protocol| {
                let end = port.end_port;
                match &port.port {
                    None if end.is_some() => Err((".endPort", Error::EndPortAlone)),
                    None => Ok(Port::Range(PortRange::whole(protocol))),
                    Some(IntOrString::String(_)) if end.is_some() => Err((".endPort", Error::EndPortAlone)),
                    Some(IntOrString::String(name)) => Ok(Port::Named(protocol, name.clone())),
                    Some(IntOrString::Int(number)) => {
                        let first = number_of_port(*number).map_err(|e| (".port", e))?;
                        let last = match end {
                            None => first,
                            Some(end) => match number_of_port(end) {
                                Ok(last) if last >= first => last,
                                Ok(_) => return Err((".endPort", Error::EndPortBelow { port: first, end })),
                                Err(error) => return Err((".endPort", error)),
                            },
                        };
                        Ok(Port::Range(PortRange {
                            protocol,
                            first,
                            last,
                        }))
                    }
                }
            });
        parsed
            .map_err(|(part, error)| self.defect(format!("{field}{part}"), error))
            .ok()
    }

    fn protocol(&self, port: &k8s::NetworkPolicyPort) -> Result<Protocol, Error> {
        let name = port.protocol.as_deref().unwrap_or("TCP");
        Protocol::parse(name).ok_or_else(|| Error::UnknownProtocol(name.to_owned()))
    }
}

fn number_of_port(number: i32) -> Result<u16, Error> {
    u16::try_from(number)
        .ok()
        .filter(|port| *port != 0)
        .ok_or(Error::PortOutOfRange(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> Policy {
        let spec = serde_yaml_ng::from_str(yaml).unwrap();
        let mut object = k8s::NetworkPolicy {
            spec: Some(spec),
            ..Default::default()
        };
        object.metadata.name = Some("p".to_owned());
        object.metadata.namespace = Some("ns".to_owned());
        Policy::parse(&object)
    }

    fn defects(yaml: &str) -> Vec<String> {
        parse(yaml).defects.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn policy_types_default_to_ingress_and_to_egress_only_with_egress_rules() {
        let table = [
            ("{podSelector: {}}", (true, false)),
            ("{podSelector: {}, egress: []}", (true, false)),
            ("{podSelector: {}, egress: [{}]}", (true, true)),
            ("{podSelector: {}, policyTypes: []}", (true, false)),
            ("{podSelector: {}, policyTypes: [Egress]}", (false, true)),
            (
                "{podSelector: {}, policyTypes: [Ingress], egress: [{}]}",
                (true, false),
            ),
            ("{podSelector: {}, policyTypes: [Ingress, Egress]}", (true, true)),
        ];
        for (yaml, expected) in table {
            let policy = parse(yaml);
            assert_eq!(
                (policy.ingress.is_some(), policy.egress.is_some()),
                expected,
                "{yaml}"
            );
        }
    }

    #[test]
    fn absent_and_empty_peers_and_ports_mean_any() {
        for rule in ["{}", "{from: [], ports: []}"] {
            let policy = parse(&format!("{{podSelector: {{}}, ingress: [{rule}]}}"));
            assert_eq!(
                policy.ingress.unwrap(),
                [Rule {
                    peers: Peers::Any,
                    ports: Ports::Any
                }]
            );
        }
    }

    #[test]
    fn a_bare_pod_selector_looks_in_the_policys_own_namespace() {
        let policy = parse("{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}");
        let expected = Peer::Pods {
            namespaces: Namespaces::Own("ns".to_owned()),
            pods: Selector::everything(),
        };
        assert_eq!(policy.ingress.unwrap()[0].peers, Peers::Of(vec![expected]));
    }

    #[test]
    fn an_unreadable_pod_selector_isolates_the_namespace() {
        let policy = parse(
            "{podSelector: {matchExpressions: [{key: a, operator: Like}]}, policyTypes: [Egress], egress: [{}]}",
        );
        assert!(policy.pods.is_everything());
        assert_eq!((policy.ingress, policy.egress), (Some(vec![]), Some(vec![])));
        assert_eq!(policy.defects.len(), 1);
    }

    #[test]
    fn an_unreadable_part_matches_nothing_and_is_named() {
        let table = [
            (
                "from: [{ipBlock: {cidr: 10.0.0.0}}]",
                "spec.ingress[0].from[0].ipBlock.cidr: ",
            ),
            (
                "from: [{ipBlock: {cidr: 10.0.0.0/8, except: [x]}}]",
                "spec.ingress[0].from[0].ipBlock.except[0]: ",
            ),
            (
                "from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]",
                "spec.ingress[0].from[0].ipBlock.except[0]: 11.0.0.0/16 is not inside of 10.0.0.0/8",
            ),
            ("from: [{}]", "spec.ingress[0].from[0]: "),
            (
                "from: [{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]",
                "spec.ingress[0].from[0]: ipBlock stands",
            ),
            (
                "from: [{namespaceSelector: {matchExpressions: [{key: a, operator: In}]}}]",
                "spec.ingress[0].from[0].namespaceSelector: matchExpressions[0].values: In needs",
            ),
            (
                "ports: [{port: 0}]",
                "spec.ingress[0].ports[0].port: port 0 is not",
            ),
            (
                "ports: [{port: 80, endPort: 70}]",
                "spec.ingress[0].ports[0].endPort: endPort 70 is below",
            ),
            (
                "ports: [{port: http, endPort: 70}]",
                "spec.ingress[0].ports[0].endPort: endPort needs",
            ),
            (
                "ports: [{endPort: 70}]",
                "spec.ingress[0].ports[0].endPort: endPort needs",
            ),
            (
                "ports: [{protocol: ICMP}]",
                "spec.ingress[0].ports[0].protocol: unknown protocol",
            ),
        ];
        for (rule, expected) in table {
            let yaml = format!("{{podSelector: {{}}, ingress: [{{{rule}}}]}}");
            let found = defects(&yaml);
            assert!(
                found.len() == 1 && found[0].starts_with(expected),
                "{rule}: {found:?}"
            );
            let rule = &parse(&yaml).ingress.unwrap()[0];
            assert!(
                rule.peers == Peers::Of(vec![]) || rule.ports == Ports::Of(vec![]),
                "what cannot be understood opens nothing: {rule:?}"
            );
        }
    }

    #[test]
    fn an_unknown_policy_type_closes_both_directions() {
        let policy = parse("{podSelector: {}, policyTypes: [Sideways]}");
        assert!(policy.ingress.is_some() && policy.egress.is_some());
    }

    #[test]
    fn host_bits_are_cleared() {
        let policy = parse("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.1.2.3/8}}]}]}");
        let block = IpBlock {
            cidr: "10.0.0.0/8".parse().unwrap(),
            except: vec![],
        };
        assert_eq!(
            policy.ingress.unwrap()[0].peers,
            Peers::Of(vec![Peer::Block(block)])
        );
    }
}
