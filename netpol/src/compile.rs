//! The ruleset of one node, in the form that a kernel can look up at constant cost.
//!
//! NetworkPolicy is allow-only, so the verdict on a packet needs no walk over rules. Every address that some rule
//! tells apart from "anyone" gets a **class** (which of the peers in use match it), every pod gets one **ruleset** a
//! direction (which rules are open to it), and for each pair of the two there is one **decision**: the set of
//! ports. A packet costs the look-up of the class, of the decision and of the port, however many rules there are.
//!
//! The output depends on the cluster's state only. Its indices are canonical (tables are sorted), so that two equal
//! states compile to `==` rules; they mean nothing beyond one [`NodeRules`]. What programs a kernel, and so needs
//! identifiers that outlive one compilation, numbers the *contents* of the tables.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::cluster::{Cluster, Key, Pod};
use crate::policy::{Direction, Namespaces, Peer, Peers, Policy, Port, Ports, Rule};
use crate::port::{PortRange, PortSet, Protocol, Transport};

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
    /// Every peer that a rule of this node's rulesets names.
    pub peers: Vec<Peer>,
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
    pub decisions: BTreeMap<(RulesetIx, ClassIx), PortSet>,
    /// Addresses and ports of Services, which a node translates before a packet reaches a pod: to be judged after that.
    pub service_ports: BTreeSet<(IpAddr, Protocol, u16)>,
    /// How many parts of policies that select pods of this node could not be understood, and so are closed.
    pub defects: usize,
}

/// A local pod. A direction without a ruleset is not isolated: everything is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Tells a pod from a later one of the same name.
    pub uid: String,
    /// Empty while the pod has none.
    pub addresses: Vec<IpAddr>,
    pub ingress: Option<RulesetIx>,
    pub egress: Option<RulesetIx>,
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
    let decisions = decide(&rulesets, &classes.all);
    classes.addresses.retain(|_, class| *class != ANYONE);

    let policies: BTreeMap<&Key, &Policy> = selecting
        .iter()
        .flat_map(|(_, policies)| policies)
        .map(|policy| (&policy.key, *policy))
        .collect();
    NodeRules {
        endpoints,
        peers: tables.peers.into_iter().cloned().collect(),
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

/// The peers and port names in use, numbered canonically.
struct Tables<'a> {
    peers: Vec<&'a Peer>,
    indices: BTreeMap<&'a Peer, PeerIx>,
    egress_names: BTreeSet<(Protocol, &'a str)>,
}

struct Classes {
    all: Vec<Class>,
    addresses: BTreeMap<IpAddr, ClassIx>,
    blocks: BTreeMap<IpNet, ClassIx>,
}

impl<'a> Tables<'a> {
    fn collect(policies: impl Iterator<Item = &'a Policy>) -> Self {
        let mut peers = BTreeSet::new();
        let mut egress_names = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for policy in policies.filter(|policy| seen.insert(&policy.key)) {
            for (direction, rule) in rules_of(policy) {
                if let Peers::Of(list) = &rule.peers {
                    peers.extend(list);
                }
                if let (Direction::Egress, Ports::Of(ports)) = (direction, &rule.ports) {
                    egress_names.extend(ports.iter().filter_map(|port| match port {
                        Port::Named(protocol, name) => Some((*protocol, name.as_str())),
                        Port::Range(_) => None,
                    }));
                }
            }
        }
        let peers: Vec<&Peer> = peers.into_iter().collect();
        let indices = peers
            .iter()
            .zip(0..)
            .map(|(peer, index)| (*peer, index))
            .collect();
        Self {
            peers,
            indices,
            egress_names,
        }
    }

    fn peers_matching(&self, mut matches: impl FnMut(&Peer) -> bool) -> Vec<PeerIx> {
        self.peers
            .iter()
            .zip(0..)
            .filter(|(peer, _)| matches(peer))
            .map(|(_, index)| index)
            .collect()
    }

    fn classes(&self, cluster: &Cluster) -> Classes {
        let mut addresses: BTreeMap<IpAddr, Class> = BTreeMap::new();
        for (key, pod) in cluster.pods.iter().filter(|(_, pod)| pod.is_governed()) {
            for address in &pod.addresses {
                let class = self.class_of_pod(cluster, key, pod, *address);
                addresses
                    .entry(*address)
                    // Two pods claim one address: until that is over it has only what both would have.
                    .and_modify(|other| *other = intersection(other, &class))
                    .or_insert(class);
            }
        }
        let blocks: BTreeMap<IpNet, Class> = self
            .prefixes()
            .into_iter()
            .map(|prefix| {
                let peers =
                    self.peers_matching(|peer| matches!(peer, Peer::Block(block) if covers(block, prefix)));
                (
                    prefix,
                    Class {
                        peers,
                        named_ports: Vec::new(),
                    },
                )
            })
            .collect();

        let distinct: BTreeSet<&Class> = addresses.values().chain(blocks.values()).collect();
        let mut all = vec![Class::default()];
        all.extend(
            distinct
                .into_iter()
                .filter(|class| **class != Class::default())
                .cloned(),
        );
        let indices: BTreeMap<&Class, ClassIx> = all.iter().zip(0..).collect();
        Classes {
            addresses: addresses
                .iter()
                .map(|(address, class)| (*address, indices[class]))
                .collect(),
            blocks: blocks
                .iter()
                .map(|(prefix, class)| (*prefix, indices[class]))
                .collect(),
            all,
        }
    }

    fn class_of_pod(&self, cluster: &Cluster, key: &Key, pod: &Pod, address: IpAddr) -> Class {
        let labels = cluster.namespace_labels(&key.namespace);
        let peers = self.peers_matching(|peer| match peer {
            Peer::Block(block) => block.contains(address),
            Peer::Pods { namespaces, pods } => {
                let namespace = match namespaces {
                    Namespaces::Own(name) => *name == key.namespace,
                    Namespaces::Selected(selector) => labels.is_some_and(|labels| selector.matches(labels)),
                };
                namespace && pods.matches(&pod.labels)
            }
        });
        let mut named_ports: Vec<(Protocol, String, u16)> = self
            .egress_names
            .iter()
            .flat_map(|(protocol, name)| {
                pod.named_ports(*protocol, name)
                    .map(|number| (*protocol, (*name).to_owned(), number))
            })
            .collect();
        named_ports.sort_unstable();
        named_ports.dedup();
        Class { peers, named_ports }
    }

    /// Every prefix at which the membership in some block changes.
    fn prefixes(&self) -> BTreeSet<IpNet> {
        let blocks = self.peers.iter().filter_map(|peer| match peer {
            Peer::Block(block) => Some(block),
            Peer::Pods { .. } => None,
        });
        blocks
            .flat_map(|block| std::iter::once(block.cidr).chain(block.except.iter().copied()))
            .collect()
    }

    /// The distinct rulesets, and which of them each local pod has.
    fn rulesets(&self, selecting: &[Selected<'_>]) -> (Vec<Ruleset>, BTreeMap<Key, Endpoint>) {
        let of_pod = |(_, pod): (&Key, &Pod), policies: &[&Policy]| {
            Direction::BOTH.map(|direction| self.ruleset(direction, pod, policies))
        };
        let per_pod: Vec<_> = selecting
            .iter()
            .map(|(subject, policies)| (*subject, of_pod(*subject, policies)))
            .collect();
        let all: Vec<Ruleset> = per_pod
            .iter()
            .flat_map(|(_, rulesets)| rulesets.iter().flatten())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .cloned()
            .collect();
        let indices: BTreeMap<&Ruleset, RulesetIx> = all.iter().zip(0..).collect();
        let endpoints = per_pod
            .iter()
            .map(|((key, pod), [ingress, egress])| {
                let index = |ruleset: &Option<Ruleset>| ruleset.as_ref().map(|ruleset| indices[ruleset]);
                let endpoint = Endpoint {
                    uid: pod.uid.clone(),
                    addresses: pod.addresses.clone(),
                    ingress: index(ingress),
                    egress: index(egress),
                };
                ((*key).clone(), endpoint)
            })
            .collect();
        (all, endpoints)
    }

    /// `None` if no policy isolates the pod in this direction.
    fn ruleset(&self, direction: Direction, pod: &Pod, policies: &[&Policy]) -> Option<Ruleset> {
        let mut isolating = policies
            .iter()
            .filter_map(|policy| policy.rules(direction))
            .peekable();
        isolating.peek()?;
        let rules: BTreeSet<OpenRule> = isolating
            .flatten()
            .map(|rule| self.open_rule(direction, pod, rule))
            .filter(|rule| !rule.is_void())
            .collect();
        Some(Ruleset {
            direction,
            rules: rules.into_iter().collect(),
        })
    }

    fn open_rule(&self, direction: Direction, pod: &Pod, rule: &Rule) -> OpenRule {
        let peers = match &rule.peers {
            Peers::Any => None,
            Peers::Of(list) => {
                let mut indices: Vec<PeerIx> = list.iter().map(|peer| self.indices[peer]).collect();
                indices.sort_unstable();
                indices.dedup();
                Some(indices)
            }
        };
        let Ports::Of(ports) = &rule.ports else {
            return OpenRule {
                peers,
                ports: PortSet::All,
                named_ports: Vec::new(),
            };
        };
        let mut ranges = Vec::new();
        let mut named_ports = Vec::new();
        for port in ports {
            match (port, direction) {
                (Port::Range(range), _) => ranges.push(*range),
                (Port::Named(protocol, name), Direction::Ingress) => {
                    ranges.extend(
                        pod.named_ports(*protocol, name)
                            .map(|number| PortRange::single(*protocol, number)),
                    );
                }
                (Port::Named(protocol, name), Direction::Egress) => {
                    named_ports.push((*protocol, name.clone()))
                }
            }
        }
        named_ports.sort_unstable();
        named_ports.dedup();
        OpenRule {
            peers,
            ports: ranges.into_iter().collect(),
            named_ports,
        }
    }
}

impl OpenRule {
    /// Whether it can never open anything.
    fn is_void(&self) -> bool {
        self.peers.as_ref().is_some_and(Vec::is_empty)
            || (self.ports.is_empty() && self.named_ports.is_empty())
    }

    /// What it opens to a class that is among its peers.
    fn ports_for(&self, class: &Class) -> PortSet {
        if self.named_ports.is_empty() {
            return self.ports.clone();
        }
        let resolved = class
            .named_ports
            .iter()
            .filter(|(protocol, name, _)| self.named_ports.iter().any(|(p, n)| p == protocol && n == name))
            .map(|(protocol, _, number)| PortRange::single(*protocol, *number));
        self.ports.union(&resolved.collect())
    }
}

fn rules_of(policy: &Policy) -> impl Iterator<Item = (Direction, &Rule)> {
    Direction::BOTH.into_iter().flat_map(|direction| {
        policy
            .rules(direction)
            .unwrap_or_default()
            .iter()
            .map(move |rule| (direction, rule))
    })
}

/// Whether a block holds the addresses of `prefix` that are in no longer prefix of the table.
fn covers(block: &crate::policy::IpBlock, prefix: IpNet) -> bool {
    block.cidr.contains(&prefix) && !block.except.iter().any(|except| except.contains(&prefix))
}

fn intersection(a: &Class, b: &Class) -> Class {
    Class {
        peers: a
            .peers
            .iter()
            .filter(|peer| b.peers.contains(peer))
            .copied()
            .collect(),
        named_ports: a
            .named_ports
            .iter()
            .filter(|port| b.named_ports.contains(port))
            .cloned()
            .collect(),
    }
}

fn decide(rulesets: &[Ruleset], classes: &[Class]) -> BTreeMap<(RulesetIx, ClassIx), PortSet> {
    let mut members: BTreeMap<PeerIx, Vec<ClassIx>> = BTreeMap::new();
    for (class, index) in classes.iter().zip(0..) {
        for peer in &class.peers {
            members.entry(*peer).or_default().push(index);
        }
    }
    let mut decisions = BTreeMap::new();
    for (ruleset, index) in rulesets.iter().zip(0..) {
        for (class, ports) in decide_ruleset(ruleset, classes, &members) {
            decisions.insert((index, class), ports);
        }
    }
    decisions
}

/// The decisions of one ruleset: that of [`ANYONE`] if anything is open to anyone, and those that differ from it.
fn decide_ruleset(
    ruleset: &Ruleset,
    classes: &[Class],
    members: &BTreeMap<PeerIx, Vec<ClassIx>>,
) -> BTreeMap<ClassIx, PortSet> {
    let to_anyone = ruleset.rules.iter().filter(|rule| rule.peers.is_none());
    let anyone = to_anyone.fold(PortSet::empty(), |ports, rule| ports.union(&rule.ports));
    // A class without named ports and beyond every rule's peers has the decision of ANYONE, and needs no entry.
    let mut open: BTreeMap<ClassIx, PortSet> = BTreeMap::new();
    for rule in &ruleset.rules {
        let concerned: BTreeSet<ClassIx> = match &rule.peers {
            Some(peers) => peers
                .iter()
                .filter_map(|peer| members.get(peer))
                .flatten()
                .copied()
                .collect(),
            None if rule.named_ports.is_empty() => continue,
            None => classes
                .iter()
                .zip(0..)
                .filter(|(class, _)| !class.named_ports.is_empty())
                .map(|(_, i)| i)
                .collect(),
        };
        for class in concerned {
            let ports = open.entry(class).or_insert_with(|| anyone.clone());
            *ports = ports.union(&rule.ports_for(&classes[class as usize]));
        }
    }
    open.retain(|class, ports| *class != ANYONE && *ports != anyone);
    if !anyone.is_empty() {
        open.insert(ANYONE, anyone);
    }
    open
}

fn service_ports(cluster: &Cluster) -> BTreeSet<(IpAddr, Protocol, u16)> {
    let services = cluster.services.values();
    services
        .flat_map(|service| {
            let ports = service.ports.iter();
            ports.flat_map(|port| {
                service
                    .cluster_ips
                    .iter()
                    .map(|ip| (*ip, port.protocol, port.port))
            })
        })
        .collect()
}
