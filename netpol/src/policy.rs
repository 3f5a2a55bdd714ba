//! A NetworkPolicy, typed.
//!
//! [`Policy::parse`] is the one door from Kubernetes's object to ours. It never fails as a whole: a part that
//! cannot be understood is left out in the direction that closes (a peer or port then matches nothing; a policy
//! whose `podSelector` is unreadable isolates its whole namespace), and is named in [`Policy::defects`], for
//! the webhook to refuse and for the enforcer to count and say.

mod parse;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::key::Key;
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

    /// Which way it is, seen from the other end.
    pub fn opposite(self) -> Self {
        match self {
            Self::Ingress => Self::Egress,
            Self::Egress => Self::Ingress,
        }
    }

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
    Selector(#[from] selector::Reason),
    #[error("{0:?} is no CIDR; write an address and a prefix length, as 10.0.0.0/8 or 2001:db8::/32")]
    NotACidr(String),
    #[error("{except} is not inside of {cidr}, so there is nothing to except")]
    ExceptOutside { except: IpNet, cidr: IpNet },
    #[error("{0} is the whole block, so that nothing would be left of it")]
    ExceptWhole(IpNet),
    #[error("ipBlock stands alone: it cannot be combined with podSelector or namespaceSelector")]
    BlockWithSelector,
    #[error("a peer needs one of podSelector, namespaceSelector or ipBlock")]
    EmptyPeer,
    #[error("unknown protocol {0:?}; use TCP, UDP or SCTP")]
    UnknownProtocol(String),
    #[error("{0:?} is no port name; at most 15 of a-z, 0-9 and '-', with a letter")]
    NotAPortName(String),
    #[error("port {0} is not between 1 and 65535")]
    PortOutOfRange(i32),
    #[error("endPort needs a numeric port before it")]
    EndPortAlone,
    #[error("endPort {end} is below port {port}")]
    EndPortBelow { port: u16, end: i32 },
    #[error("unknown policy type {0:?}; use Ingress or Egress")]
    UnknownType(String),
    #[error("{0} policy types are given, and there are two")]
    TooManyTypes(usize),
}

impl Error {
    /// The class of this error, as a metric's label.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Selector(_) => "selector",
            Self::NotACidr(_)
            | Self::ExceptOutside { .. }
            | Self::ExceptWhole(_)
            | Self::BlockWithSelector => "ip_block",
            Self::EmptyPeer => "peer",
            Self::UnknownProtocol(_)
            | Self::NotAPortName(_)
            | Self::PortOutOfRange(_)
            | Self::EndPortAlone
            | Self::EndPortBelow { .. } => "port",
            Self::UnknownType(_) | Self::TooManyTypes(_) => "policy_type",
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.error)
    }
}

impl Policy {
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
