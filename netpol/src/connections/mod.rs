//! Who reaches whom, for a whole cluster at once.
//!
//! To ask [`crate::evaluate`] for every pair costs the square of the workloads times the policies. Here pods that no policy
//! could tell apart become one **group**, equal sets of rules one **ruleset**, and the pairs are found from whichever
//! end names fewer of them: what the sender's rules select, or what the receivers' rules select of the sender. The cost
//! follows the connections that exist. A property test holds the result equal to the evaluator's.
//!
//! A node is a workload (all its pods together: what some pod of it can do) or a range of addresses outside.

mod exposure;
mod ingress;
mod outside;
mod peers;
mod tables;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::net::IpAddr;

use crate::cluster::{Cluster, Key};
use crate::policy::Direction;
use crate::port::PortSet;
pub use exposure::{Exposure, Who, exposure};
pub use ingress::by_ingress_controllers;
use outside::Segments;
use tables::{GroupIx, Tables};

/// How connections are looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// An `ipBlock` matches pods whose address it holds, as it does for packets. Otherwise blocks are about what is
    /// outside, which is how people mean them, and all that manifests without addresses can tell.
    pub blocks_match_pods: bool,
    /// List IPv6 even if no policy has a block of it, to compare with a list that has it.
    pub ipv6: bool,
}

/// All connections that a cluster's policies allow.
#[derive(Debug)]
pub struct Connections {
    nodes: Vec<Node>,
    tables: Tables,
    /// Which node each group is of.
    node_of: Vec<usize>,
}

/// A workload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Workload {
    pub namespace: String,
    pub name: String,
    /// `Pod` for a pod that nothing owns.
    pub kind: String,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}[{}]", self.namespace, self.name, self.kind)
    }
}

#[derive(Debug)]
struct Node {
    workload: Workload,
    groups: Vec<GroupIx>,
}

/// Addresses from `first` to `last`, of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    pub first: IpAddr,
    pub last: IpAddr,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End<'a> {
    /// Whoever has an address of this range and is no pod.
    Outside(Range),
    /// Whatever serves the Ingress objects.
    IngressController,
    Workload(&'a Workload),
}

impl fmt::Display for End<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside(range) => range.fmt(f),
            Self::IngressController => f.write_str("{ingress-controller}"),
            Self::Workload(workload) => workload.fmt(f),
        }
    }
}

/// What one end may open towards another: at least one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection<'a> {
    pub from: End<'a>,
    pub to: End<'a>,
    pub ports: PortSet,
}

impl Connections {
    pub fn of(cluster: &Cluster, options: Options) -> Self {
        let tables = Tables::build(cluster, options);
        let mut by_workload: BTreeMap<Workload, Vec<GroupIx>> = BTreeMap::new();
        for (index, group) in tables.groups.iter().enumerate() {
            by_workload.entry(group.workload.clone()).or_default().push(index);
        }
        let mut node_of = vec![0; tables.groups.len()];
        let nodes: Vec<Node> = by_workload
            .into_iter()
            .enumerate()
            .map(|(index, (workload, groups))| {
                groups.iter().for_each(|group| node_of[*group] = index);
                Node { workload, groups }
            })
            .collect();
        Self {
            nodes,
            tables,
            node_of,
        }
    }

    /// The workloads, sorted by their names as shown; pods on their node's network and finished ones are none.
    pub fn workloads(&self) -> impl ExactSizeIterator<Item = &Workload> {
        self.nodes.iter().map(|node| &node.workload)
    }

    /// Whether ranges of IPv6 are listed.
    pub fn lists_ipv6(&self) -> bool {
        self.tables.has_ipv6
    }

    /// Every connection, once: from outside first, then by source; each source's by destination.
    pub fn iter(&self) -> impl Iterator<Item = Connection<'_>> {
        let mut egress = Segments::new(&self.tables, Direction::Egress);
        let from_workloads =
            (0..self.nodes.len()).flat_map(move |source| self.opened_by(source, &mut egress));
        self.opened_from_outside().into_iter().chain(from_workloads)
    }

    fn opened_from_outside(&self) -> Vec<Connection<'_>> {
        let mut segments = Segments::new(&self.tables, Direction::Ingress);
        let mut all: Vec<Connection<'_>> = Vec::new();
        for node in &self.nodes {
            let to = End::Workload(&node.workload);
            all.extend(segments.of(&node.groups).iter().map(|(range, ports)| Connection {
                from: End::Outside(*range),
                to,
                ports: ports.clone(),
            }));
        }
        all.sort_by_key(|connection| connection.from); // stable: destinations stay in their order
        all
    }

    fn opened_by(&self, source: usize, egress: &mut Segments<'_>) -> Vec<Connection<'_>> {
        let node = &self.nodes[source];
        let from = End::Workload(&node.workload);
        let mut found: Vec<Connection<'_>> = egress
            .of(&node.groups)
            .iter()
            .map(|(range, ports)| Connection {
                from,
                to: End::Outside(*range),
                ports: ports.clone(),
            })
            .collect();
        let mut reached: BTreeMap<usize, PortSet> = BTreeMap::new();
        for group in &node.groups {
            for (target, ports) in self.tables.reach(*group) {
                let target = self.node_of[target];
                if target == source {
                    continue;
                }
                match reached.entry(target) {
                    Entry::Vacant(entry) => {
                        entry.insert(ports);
                    }
                    Entry::Occupied(mut entry) => {
                        let union = entry.get().union(&ports);
                        entry.insert(union);
                    }
                }
            }
        }
        found.extend(reached.into_iter().map(|(target, ports)| Connection {
            from,
            to: End::Workload(&self.nodes[target].workload),
            ports,
        }));
        found
    }
}

impl Workload {
    /// The workload that a pod belongs to, or the pod itself.
    pub fn of(key: &Key, pod: &crate::cluster::Pod) -> Self {
        let (name, kind) = match &pod.owner {
            Some(owner) => (owner.name.as_str(), owner.kind.as_str()),
            None => (key.name.as_str(), "Pod"),
        };
        Self {
            namespace: key.namespace.clone(),
            name: name.to_owned(),
            kind: kind.to_owned(),
        }
    }
}
