//! Why a connection is allowed or denied: which policies isolate, which rules allow, and which rule nearly did.

mod mend;
mod reach;
mod reason;

use crate::cluster::{Cluster, Key};
use crate::evaluate::Endpoint;
use crate::policy::{Direction, Peers, Policy, Ports, Rule};
use crate::port::Transport;

pub use mend::mends;
pub use reason::Reason;

/// What both sides say about one connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    pub egress: Side,
    pub ingress: Side,
}

/// What the policies of one end say about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    pub direction: Direction,
    /// The policies that isolate this end; none: everything is allowed.
    pub isolating: Vec<Key>,
    pub allowing: Vec<RuleAt>,
    /// If denied: every rule, the nearest first.
    pub missed: Vec<Miss>,
}

/// A rule of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleAt {
    pub policy: Key,
    pub direction: Direction,
    pub index: usize,
}

/// Why a rule does not allow the connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Miss {
    pub rule: RuleAt,
    /// What keeps the other end from being a peer, of the nearest peer; empty if it is one.
    pub peer: Vec<Reason>,
    /// What is wrong with the port; `None` if nothing is.
    pub port: Option<Reason>,
}

impl RuleAt {
    /// As `spec.ingress[0]`.
    pub fn field(&self) -> String {
        format!("spec.{}[{}]", self.direction.field(), self.index)
    }
}

impl Side {
    pub fn allowed(&self) -> bool {
        self.isolating.is_empty() || !self.allowing.is_empty()
    }
}

impl Explanation {
    pub fn allowed(&self) -> bool {
        self.egress.allowed() && self.ingress.allowed()
    }

    /// The sides that deny.
    pub fn denying(&self) -> impl Iterator<Item = &Side> {
        [&self.egress, &self.ingress]
            .into_iter()
            .filter(|side| !side.allowed())
    }
}

impl Miss {
    /// How much would have to be different.
    fn distance(&self) -> usize {
        let weigh = |reasons: &[Reason]| reasons.iter().map(Reason::weight).sum::<usize>();
        weigh(&self.peer) + self.port.as_ref().map_or(0, Reason::weight)
    }

    /// Whether only the peer or only the port missed.
    pub fn is_near(&self) -> bool {
        self.peer.is_empty() != self.port.is_none()
    }
}

/// Explains what [`crate::evaluate::evaluate`] says.
pub fn explain(cluster: &Cluster, from: Endpoint<'_>, to: Endpoint<'_>, transport: Transport) -> Explanation {
    let itself = matches!((from, to), (Endpoint::Pod { key: a, .. }, Endpoint::Pod { key: b, .. }) if a == b);
    let side = |direction, subject, peer| {
        if itself {
            return Side {
                direction,
                isolating: Vec::new(),
                allowing: Vec::new(),
                missed: Vec::new(),
            };
        }
        Question {
            cluster,
            peer,
            destination: to,
            transport,
        }
        .side(direction, subject)
    };
    Explanation {
        egress: side(Direction::Egress, from, to),
        ingress: side(Direction::Ingress, to, from),
    }
}

/// What is asked of the rules of one end.
struct Question<'a> {
    cluster: &'a Cluster,
    peer: Endpoint<'a>,
    destination: Endpoint<'a>,
    transport: Transport,
}

impl Question<'_> {
    fn side(&self, direction: Direction, subject: Endpoint<'_>) -> Side {
        let mut side = Side {
            direction,
            isolating: Vec::new(),
            allowing: Vec::new(),
            missed: Vec::new(),
        };
        let Endpoint::Pod { key, pod } = subject else {
            return side;
        };
        for (_, policy) in self.cluster.policies.in_namespace(&key.namespace) {
            if policy.pods.matches(&pod.labels) {
                self.ask(policy, &mut side);
            }
        }
        if side.allowed() {
            side.missed.clear();
        } else {
            side.missed.sort_by_key(Miss::distance);
        }
        side
    }

    fn ask(&self, policy: &Policy, side: &mut Side) {
        let Some(rules) = policy.rules(side.direction) else {
            return;
        };
        side.isolating.push(policy.key.clone());
        for (index, rule) in rules.iter().enumerate() {
            let at = RuleAt {
                policy: policy.key.clone(),
                direction: side.direction,
                index,
            };
            let miss = self.miss(at, rule);
            if miss.peer.is_empty() && miss.port.is_none() {
                side.allowing.push(miss.rule);
            } else {
                side.missed.push(miss);
            }
        }
    }

    fn miss(&self, rule: RuleAt, written: &Rule) -> Miss {
        let peer = match &written.peers {
            Peers::Any => Vec::new(),
            Peers::Of(peers) => {
                let each = peers
                    .iter()
                    .map(|peer| reason::of_peer(self.cluster, peer, self.peer));
                let nearest = each.min_by_key(|reasons| reasons.iter().map(Reason::weight).sum::<usize>());
                nearest.unwrap_or_else(|| vec![Reason::NoPeer])
            }
        };
        let port = match &written.ports {
            Ports::Any => None,
            Ports::Of(ports) => reason::of_ports(ports, self.destination, self.transport),
        };
        Miss { rule, peer, port }
    }
}

#[cfg(test)]
mod tests;
