//! What the policies that select a pod say in one direction.

use crate::cluster::Pod;
use crate::policy::{Direction, Namespaces, Peer, Peers, Policy, Port, Ports, Rule};
use crate::port::{PortRange, PortSet};
use crate::selector::{Labels, Selector};

/// Whether a pod is isolated, and the rules that allow.
#[derive(Debug, PartialEq)]
pub(super) struct Side<'a> {
    pub isolated: bool,
    pub rules: Vec<&'a Rule>,
}

/// The same, as far as it is about the pods of one namespace.
#[derive(Debug, PartialEq)]
pub(super) struct Local<'a> {
    isolated: bool,
    /// The ports that are open, and to whom; no selector: to all of them.
    open: Vec<(&'a Ports, Option<Vec<&'a Selector>>)>,
}

impl<'a> Side<'a> {
    pub fn of(policies: impl Iterator<Item = &'a Policy>, direction: Direction) -> Self {
        let mut side = Self {
            isolated: false,
            rules: Vec::new(),
        };
        for rules in policies.filter_map(|policy| policy.rules(direction)) {
            side.isolated = true;
            side.rules.extend(rules);
        }
        side
    }

    /// How much there is to look through.
    pub fn size(&self) -> usize {
        let of = |rule: &&Rule| match &rule.peers {
            Peers::Any => 1,
            Peers::Of(peers) => 1 + peers.len(),
        };
        1 + self
            .rules
            .iter()
            .map(|rule| of(rule) + listed(&rule.ports))
            .sum::<usize>()
    }

    /// What it says about the pods of a namespace; `labels` are the namespace's, `None` while it is not known.
    pub fn towards(&self, namespace: &str, labels: Option<&Labels>) -> Local<'a> {
        let mut open = Vec::new();
        for rule in &self.rules {
            let Peers::Of(peers) = &rule.peers else {
                open.push((&rule.ports, None));
                continue;
            };
            let here = peers.iter().filter_map(|peer| match peer {
                Peer::Pods { namespaces, pods } => is_of(namespaces, namespace, labels).then_some(pods),
                Peer::Block(_) => None,
            });
            let selectors: Vec<&Selector> = here.collect();
            if selectors.iter().any(|selector| selector.is_everything()) {
                open.push((&rule.ports, None));
            } else if !selectors.is_empty() {
                open.push((&rule.ports, Some(selectors)));
            }
        }
        Local {
            isolated: self.isolated,
            open,
        }
    }
}

pub(super) fn is_of(namespaces: &Namespaces, name: &str, labels: Option<&Labels>) -> bool {
    match namespaces {
        Namespaces::Own(own) => own == name,
        Namespaces::Selected(selector) => labels.is_some_and(|labels| selector.matches(labels)),
    }
}

/// How many ports are named.
pub(super) fn listed(ports: &Ports) -> usize {
    match ports {
        Ports::Any => 0,
        Ports::Of(list) => list.len(),
    }
}

impl Local<'_> {
    /// How much there is to look through for each pod.
    pub fn size(&self) -> usize {
        let open = self.open.iter();
        1 + open
            .map(|(ports, selectors)| listed(ports) + selectors.as_ref().map_or(1, Vec::len))
            .sum::<usize>()
    }

    /// The ports that are open to a pod, by rule.
    fn opening(&self, peer: &Pod) -> impl Iterator<Item = &Ports> {
        let matches =
            |selectors: &Vec<&Selector>| selectors.iter().any(|selector| selector.matches(&peer.labels));
        let open = self.open.iter();
        open.filter_map(move |(ports, selectors)| selectors.as_ref().is_none_or(matches).then_some(*ports))
    }

    /// What is open between the side's pod and this one of the namespace.
    pub fn ports(&self, peer: &Pod, destination: &Pod) -> PortSet {
        if !self.isolated {
            return PortSet::All;
        }
        let mut open = PortSet::empty();
        for ports in self.opening(peer) {
            open = open.union(&resolved(ports, destination));
            if open == PortSet::All {
                break;
            }
        }
        open
    }
}

/// The ports as they are on this pod.
pub(super) fn resolved(ports: &Ports, destination: &Pod) -> PortSet {
    let Ports::Of(list) = ports else {
        return PortSet::All;
    };
    let mut ranges = Vec::with_capacity(list.len());
    for port in list {
        match port {
            Port::Range(range) => ranges.push(*range),
            Port::Named(protocol, name) => {
                let numbers = destination.named_ports(*protocol, name);
                ranges.extend(numbers.map(|number| PortRange::single(*protocol, number)));
            }
        }
    }
    ranges.into_iter().collect()
}
