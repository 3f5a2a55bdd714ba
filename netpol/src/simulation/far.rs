//! What the other end of a connection says about it.

use super::around::Around;
use super::delta::Here;
use super::outline::PortNames;
use super::side::{is_of, listed, resolved};
use crate::cluster::{Key, Pod};
use crate::policy::{Direction, Peer, Peers, Policy, Port, Ports};
use crate::port::{PortRange, PortSet};
use crate::selector::Selector;

/// How often ports of a change are compared with those of one rule. Beyond, they are taken to meet.
const COMPARED: usize = 256;

/// What the policies of one namespace let through in one direction, as far as it is about the pods of another, or about its own. Where
/// there is none, everything gets through.
#[derive(Default)]
pub(super) struct Gate<'a> {
    /// Whether all pods are isolated, whichever there are.
    pub closed: bool,
    /// Where not all are: the policies that isolate, but for the one that changes.
    pub isolating: Vec<&'a Policy>,
    /// The one that changes, before and after, where it is here and isolates.
    pub changing: [Option<&'a Policy>; 2],
    pub openings: Vec<Opening<'a>>,
}

/// Some ports that a rule opens to some pods.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opening<'a> {
    /// Whose rule it is, and so for which pods at this end.
    policy: &'a Policy,
    /// Pods of the other end; `None`: all of them.
    peers: Option<&'a Selector>,
    ports: &'a Ports,
    /// Whether it is there before, and after.
    when: [bool; 2],
}

/// A pod at the other end, with what may let its connections through.
pub(super) struct Far<'a> {
    pub key: &'a Key,
    pub pod: &'a Pod,
    /// Before and after.
    isolated: [bool; 2],
    openings: Vec<Opening<'a>>,
    pub size: usize,
}

impl<'a> Opening<'a> {
    /// One that is there before and after.
    pub fn always(policy: &'a Policy, peers: Option<&'a Selector>, ports: &'a Ports) -> Self {
        Self {
            policy,
            peers,
            ports,
            when: [true, true],
        }
    }
}

/// Whether ports that a rule opens may be among those that a change is about; `None`: any may.
pub(super) fn opens(ports: &Ports, changed: Option<&[&Port]>, names: &PortNames) -> bool {
    let (Some(changed), Ports::Of(own)) = (changed, ports) else {
        return !matches!(ports, Ports::Of(own) if own.is_empty());
    };
    let among = |port: &Port| changed.iter().any(|changed| meet(port, changed, names));
    changed.len().saturating_mul(own.len()) > COMPARED || own.iter().any(among)
}

/// Whether two ports may be one on some pod.
fn meet(a: &Port, b: &Port, names: &PortNames) -> bool {
    let overlap =
        |a: &PortRange, b: &PortRange| a.protocol == b.protocol && a.first <= b.last && b.first <= a.last;
    let ranges = |port: &'_ Port| -> &[PortRange] {
        match port {
            Port::Range(_) => &[],
            Port::Named(protocol, name) => names.ranges(*protocol, name),
        }
    };
    match (a, b) {
        (Port::Range(a), Port::Range(b)) => overlap(a, b),
        (Port::Range(range), named) | (named, Port::Range(range)) => {
            ranges(named).iter().any(|number| overlap(range, number))
        }
        (a, b) => ranges(a).iter().any(|a| ranges(b).iter().any(|b| overlap(a, b))),
    }
}

impl<'a> Gate<'a> {
    /// That of the policy's own namespace, which changes itself.
    pub fn own(around: &Around<'a>, direction: Direction) -> Self {
        let own = around.change.key.namespace.as_str();
        let labels = around.cluster.namespace_labels(own);
        let changing = [around.change.before, around.change.after]
            .map(|policy| policy.filter(|policy| policy.rules(direction).is_some()));
        let others = around.others.iter().map(|policy| (*policy, [true, true]));
        let once = changing.iter().zip([[true, false], [false, true]]);
        let once = once.filter_map(|(policy, when)| Some(((*policy)?, when)));
        let mut openings = Vec::new();
        for (policy, when) in others.chain(once) {
            for rule in policy.rules(direction).unwrap_or_default() {
                let mut push = |peers| {
                    openings.push(Opening {
                        policy,
                        peers,
                        ports: &rule.ports,
                        when,
                    });
                };
                let Peers::Of(peers) = &rule.peers else {
                    push(None);
                    continue;
                };
                for peer in peers {
                    if let Peer::Pods { namespaces, pods } = peer
                        && is_of(namespaces, own, labels)
                    {
                        push(Some(pods));
                    }
                }
            }
        }
        let isolating = around.others.iter().copied();
        let isolating: Vec<&Policy> = isolating
            .filter(|policy| policy.rules(direction).is_some())
            .collect();
        Self {
            closed: isolating.iter().any(|policy| policy.pods.is_everything()),
            isolating,
            changing,
            openings,
        }
    }

    /// How much there is to look through for one pod.
    pub fn size(&self) -> usize {
        1 + self.isolating.len() + self.openings.len()
    }

    /// A pod of the namespace; `None` if none of its connections with the other one can get through by what changes.
    pub fn at(
        &self,
        key: &'a Key,
        pod: &'a Pod,
        here: &[&Here<'_, '_>],
        names: &PortNames,
    ) -> Option<Far<'a>> {
        let selects = |policy: &Policy| policy.pods.matches(&pod.labels);
        let always = self.closed || self.isolating.iter().any(|policy| selects(policy));
        let isolated = self.changing.map(|policy| always || policy.is_some_and(selects));
        let openings = self.openings.iter().filter(|opening| selects(opening.policy));
        let meets = |opening: &Opening<'_>| here.iter().any(|here| opens(opening.ports, here.ports, names));
        if isolated == [true, true] && !openings.clone().any(meets) {
            return None;
        }
        let openings: Vec<Opening<'a>> = openings.copied().collect();
        Some(Far {
            key,
            pod,
            isolated,
            size: 1 + openings
                .iter()
                .map(|opening| 1 + listed(opening.ports))
                .sum::<usize>(),
            openings,
        })
    }
}

impl Far<'_> {
    /// What it lets through, before or after, of the connections with another pod.
    pub fn ports(&self, when: usize, peer: &Pod, destination: &Pod) -> PortSet {
        if !self.isolated[when] {
            return PortSet::All;
        }
        let mut open = PortSet::empty();
        for opening in self.openings.iter().filter(|opening| opening.when[when]) {
            if opening.peers.is_none_or(|peers| peers.matches(&peer.labels)) {
                open = open.union(&resolved(opening.ports, destination));
                if open == PortSet::All {
                    break;
                }
            }
        }
        open
    }
}
