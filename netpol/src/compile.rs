//! The ruleset of one node, in the form that a kernel can look up at constant cost.
//!
//! NetworkPolicy is allow-only, so the verdict on a packet needs no walk over rules. Every address that some rule
//! tells apart from "anyone" gets a **class** (which of the peers in use match it), every pod gets one **ruleset** a
//! direction (which rules are open to it), and for each pair of the two there is one **decision**: the set of
//! ports. A packet costs the look-up of the class, of the decision and of the port, however many rules there are.
//!
//! The output depends on the cluster's state only. Its indices are canonical (tables are sorted), so that two equal
//! states compile to `==` rules; they mean nothing beyond one [`NodeRules`].
//!
//! There are two ways to these rules. [`compile`] makes them from scratch, and is the plain one. [`Compiler`] follows a cluster and
//! says what each change changes, as a [`Delta`] in identifiers that outlive it: for who programs a kernel. Tests hold both equal.

mod blocks;
mod canonical;
mod claimants;
mod compiler;
mod contents;
mod decide;
mod decisions;
pub mod delta;
mod fallback;
mod force;
mod grants;
mod group;
mod index;
mod meetings;
mod names;
mod places;
mod population;
mod signature;
mod spread;
mod tables;
mod turns;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::cluster::{Cluster, Key, Pod, Service};
use crate::policy::{Direction, Policy};
use crate::port::{PortSet, Protocol, Transport};

pub use compiler::Compiler;
pub use decisions::Decisions;
pub use delta::Delta;
pub use group::PeerGroup;
pub use verdict::verdict;

use tables::Tables;

/// Index into [`NodeRules::peers`].
pub type PeerIx = u32;
/// Index into [`NodeRules::classes`].
pub type ClassIx = u32;
/// Index into [`NodeRules::rulesets`].
pub type RulesetIx = u32;

/// The class of every address that no peer in use matches. Always the first.
pub const ANYONE: ClassIx = 0;

/// What one node has to enforce.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeRules {
    /// The pods of this node that policies can select, with what applies to them.
    pub endpoints: BTreeMap<Key, Endpoint>,
    /// Every group of peers that a rule of this node's rulesets names.
    pub peers: Vec<PeerGroup>,
    /// Every class in use; [`ANYONE`] first, the others sorted.
    pub classes: Vec<Class>,
    /// The class of each pod address that is not [`ANYONE`], pods of all nodes. Looked up before [`Self::blocks`].
    pub addresses: BTreeMap<IpAddr, ClassIx>,
    /// The class of all other addresses, by longest prefix. Holds every `cidr` and every `except`, so that the longest match
    /// tells the membership in every block exactly.
    pub blocks: BTreeMap<IpNet, ClassIx>,
    /// Every ruleset in use, sorted.
    pub rulesets: Vec<Ruleset>,
    /// Which ports a ruleset opens to a class. Where there is no entry for the pair, that of [`ANYONE`] counts; where there is
    /// none either, nothing is open.
    pub decisions: Decisions,
    /// Addresses and ports of Services, which a node translates before a packet reaches a pod: to be judged after that.
    pub service_ports: BTreeSet<(IpAddr, Protocol, u16)>,
    /// How many parts of policies that select pods of this node could not be understood, and so are closed.
    pub defects: usize,
}

/// A local pod. A direction without a ruleset is not isolated: everything is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint<R = RulesetIx> {
    /// Tells a pod from a later one of the same name.
    pub uid: String,
    /// Empty while the pod has none.
    pub addresses: Vec<IpAddr>,
    pub ingress: Option<R>,
    pub egress: Option<R>,
}

/// A set of addresses that every rule of this node treats alike.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    /// The peers that match, sorted.
    pub peers: Vec<PeerIx>,
    /// Where the port names that egress rules use are found on this pod, sorted.
    pub named_ports: Vec<(Protocol, String, u16)>,
}

/// The rules that are open to a pod in one direction, sorted and without repetition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ruleset {
    pub direction: Direction,
    pub rules: Vec<OpenRule>,
}

/// One rule of a ruleset. Ingress rules' port names are resolved (the destination is the pod that has the ruleset); egress rules'
/// are resolved against the class of the destination.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpenRule {
    /// `None`: anyone.
    pub peers: Option<Vec<PeerIx>>,
    pub ports: PortSet,
    /// Names still to be resolved, sorted. Always empty for ingress.
    pub named_ports: Vec<(Protocol, String)>,
}

impl NodeRules {
    /// The class of an address: its own entry, else the longest prefix that holds it.
    pub fn class_of(&self, address: IpAddr) -> ClassIx {
        if let Some(class) = self.addresses.get(&address) {
            return *class;
        }
        let holding = self.blocks.iter().filter(|(prefix, _)| prefix.contains(&address));
        holding
            .max_by_key(|(prefix, _)| prefix.prefix_len())
            .map_or(ANYONE, |(_, class)| *class)
    }

    /// Whether a ruleset opens a transport to a class; no ruleset opens everything.
    pub fn opens(&self, ruleset: Option<RulesetIx>, class: ClassIx, transport: Transport) -> bool {
        let Some(ruleset) = ruleset else { return true };
        let decision = self
            .decisions
            .get(&(ruleset, class))
            .or_else(|| self.decisions.get(&(ruleset, ANYONE)));
        decision.is_some_and(|ports| ports.contains(transport))
    }
}

/// Compiles what the node of that name has to enforce.
pub fn compile(cluster: &Cluster, node: &str) -> NodeRules {
    let local = local_pods(cluster, node);
    let selecting = select(cluster, &local);
    let tables = Tables::collect(
        selecting
            .iter()
            .flat_map(|(_, policies)| policies.iter().copied()),
    );
    let mut classes = tables.classes(cluster);
    let (rulesets, endpoints) = tables.rulesets(&selecting);
    let decisions = tables::decisions(&rulesets, &classes.all);
    classes.addresses.retain(|_, class| *class != ANYONE);

    let policies: BTreeMap<&Key, &Policy> = selecting
        .iter()
        .flat_map(|(_, policies)| policies)
        .map(|policy| (&policy.key, *policy))
        .collect();
    NodeRules {
        endpoints,
        peers: tables.peers,
        classes: classes.all,
        addresses: classes.addresses,
        blocks: classes.blocks,
        rulesets,
        decisions,
        service_ports: service_ports(cluster),
        defects: policies.values().map(|policy| policy.defects.len()).sum(),
    }
}

/// A local pod with the policies that select it.
type Selected<'a> = ((&'a Key, &'a Pod), Vec<&'a Policy>);

fn local_pods<'a>(cluster: &'a Cluster, node: &str) -> Vec<(&'a Key, &'a Pod)> {
    cluster
        .pods
        .iter()
        .filter(|(_, pod)| pod.node.as_deref() == Some(node) && pod.is_governed())
        .collect()
}

fn select<'a>(cluster: &'a Cluster, local: &[(&'a Key, &'a Pod)]) -> Vec<Selected<'a>> {
    let selecting = |key: &Key, pod: &Pod| {
        let candidates = cluster
            .policies
            .in_namespace(&key.namespace)
            .map(|(_, policy)| policy);
        candidates
            .filter(|policy| policy.pods.matches(&pod.labels))
            .collect()
    };
    local
        .iter()
        .map(|&(key, pod)| ((key, pod), selecting(key, pod)))
        .collect()
}

fn service_ports(cluster: &Cluster) -> BTreeSet<(IpAddr, Protocol, u16)> {
    cluster
        .services
        .values()
        .flat_map(Service::addressed_ports)
        .collect()
}
