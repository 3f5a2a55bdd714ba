//! From Kubernetes's NetworkPolicy to ours. What cannot be understood becomes a [`Defect`], and opens nothing.

use ipnet::IpNet;
use k8s_openapi::api::networking::v1 as k8s;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Defect, Direction, Error, IpBlock, Namespaces, Peer, Peers, Policy, Port, Ports, Rule};
use crate::key::Key;
use crate::port::{PortRange, Protocol};
use crate::selector::Selector;
use crate::syntax::is_port_name;

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

        let pods = spec
            .pod_selector
            .as_ref()
            .map_or(Ok(Selector::everything()), Selector::parse);
        let pods = pods.map_err(|error| {
            parser.defect(format!("spec.podSelector.{}", error.at), error.reason.into());
        });
        let (isolates_ingress, isolates_egress) = parser.policy_types(spec);
        // Also rules that have no effect are read: the API server refuses what is wrong in them all the same.
        let ingress = spec.ingress.iter().flatten().enumerate();
        let ingress: Vec<Rule> = ingress
            .map(|(i, rule)| parser.rule(Direction::Ingress, i, rule.from.as_deref(), rule.ports.as_deref()))
            .collect();
        let egress = spec.egress.iter().flatten().enumerate();
        let egress: Vec<Rule> = egress
            .map(|(i, rule)| parser.rule(Direction::Egress, i, rule.to.as_deref(), rule.ports.as_deref()))
            .collect();
        let defects = parser.defects;
        let (pods, ingress, egress) = match pods {
            Ok(pods) => (
                pods,
                isolates_ingress.then_some(ingress),
                isolates_egress.then_some(egress),
            ),
            // Whom it meant to isolate is unknown, so it isolates all, for both directions.
            Err(()) => (Selector::everything(), Some(vec![]), Some(vec![])),
        };
        Self {
            key,
            pods,
            ingress,
            egress,
            defects,
        }
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
        if types.len() > Direction::BOTH.len() {
            self.defect("spec.policyTypes".to_owned(), Error::TooManyTypes(types.len()));
        }
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
        namespaces: Option<&LabelSelector>,
        pods: Option<&LabelSelector>,
    ) -> Result<Peer, (String, Error)> {
        let parse = |part: &str, selector: &LabelSelector| {
            Selector::parse(selector)
                .map_err(|error| (format!("{field}.{part}.{}", error.at), error.reason.into()))
        };
        let namespaces = match namespaces {
            None => Namespaces::Own(self.namespace.to_owned()),
            Some(selector) => Namespaces::Selected(parse("namespaceSelector", selector)?),
        };
        let pods = match pods {
            None => Selector::everything(),
            Some(selector) => parse("podSelector", selector)?,
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
                Ok(except) if except == cidr => Error::ExceptWhole(cidr),
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
                    Some(IntOrString::String(name)) if !is_port_name(name) => {
                        Err((".port", Error::NotAPortName(name.clone())))
                    }
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
