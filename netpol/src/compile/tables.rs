//! The tables of a node: peers in use, classes of addresses, rulesets of pods.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::decide::{Met, Rows, decide, named_by};
use super::names::{NamedPort, NamesId};
use super::{
    ANYONE, Class, ClassIx, Decisions, Endpoint, OpenRule, PeerGroup, PeerIx, Ruleset, RulesetIx, Selected,
};
use crate::cluster::{Cluster, Key, Pod};
use crate::policy::{Direction, IpBlock, Namespaces, Peer, Peers, Policy, Port, Ports, Rule};
use crate::port::{PortRange, PortSet, Protocol};
use crate::selector::Selector;

/// The peers and port names in use, numbered canonically.
pub(super) struct Tables<'a> {
    pub(super) peers: Vec<PeerGroup>,
    /// Which of them the list of a rule is, sorted.
    lists: BTreeMap<&'a [Peer], Vec<PeerIx>>,
    egress_names: BTreeSet<(Protocol, &'a str)>,
}

pub(super) struct Classes {
    pub(super) all: Vec<Class>,
    pub(super) addresses: BTreeMap<IpAddr, ClassIx>,
    pub(super) blocks: BTreeMap<IpNet, ClassIx>,
}

impl<'a> Tables<'a> {
    pub(super) fn collect(policies: impl Iterator<Item = &'a Policy>) -> Self {
        let mut lists: BTreeMap<&[Peer], Vec<PeerGroup>> = BTreeMap::new();
        let mut egress_names = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for policy in policies.filter(|policy| seen.insert(&policy.key)) {
            for (direction, rule) in rules_of(policy) {
                if let Peers::Of(list) = &rule.peers {
                    lists.entry(list).or_insert_with(|| PeerGroup::of(list));
                }
                if let (Direction::Egress, Ports::Of(ports)) = (direction, &rule.ports) {
                    egress_names.extend(ports.iter().filter_map(|port| match port {
                        Port::Named(protocol, name) => Some((*protocol, name.as_str())),
                        Port::Range(_) => None,
                    }));
                }
            }
        }
        let all: BTreeSet<&PeerGroup> = lists.values().flatten().collect();
        let indices: BTreeMap<&PeerGroup, PeerIx> = all.iter().copied().zip(0..).collect();
        let index = |groups: &Vec<PeerGroup>| groups.iter().map(|group| indices[group]).collect();
        let numbered = lists.iter().map(|(list, groups)| (*list, index(groups)));
        Self {
            lists: numbered.collect(),
            peers: all.into_iter().cloned().collect(),
            egress_names,
        }
    }

    pub(super) fn classes(&self, cluster: &Cluster) -> Classes {
        let mut addresses: BTreeMap<IpAddr, Class> = BTreeMap::new();
        let blocks = self.blocks();
        // Pods come by namespace, and what peers ask of a namespace is asked once.
        let mut here: Option<(&str, Vec<(PeerIx, &Selector)>)> = None;
        for (key, pod) in cluster.pods.iter().filter(|(_, pod)| pod.is_governed()) {
            if here
                .as_ref()
                .is_none_or(|(namespace, _)| *namespace != key.namespace)
            {
                here = Some((&key.namespace, self.selectors(cluster, &key.namespace)));
            }
            let selectors = here.as_ref().map_or(&[][..], |(_, selectors)| selectors);
            for address in &pod.addresses {
                let class = self.class_of_pod(selectors, &blocks, pod, *address);
                addresses
                    .entry(*address)
                    // Two pods claim one address: until that is over it has only what both would have.
                    .and_modify(|other| *other = intersection(other, &class))
                    .or_insert(class);
            }
        }
        let prefixes: BTreeMap<IpNet, Class> = self
            .prefixes()
            .into_iter()
            .map(|prefix| {
                let class = Class {
                    peers: blocks.around(prefix, |block| covers(block, prefix)),
                    named_ports: Vec::new(),
                };
                (prefix, class)
            })
            .collect();

        let distinct: BTreeSet<&Class> = addresses.values().chain(prefixes.values()).collect();
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
            blocks: prefixes
                .iter()
                .map(|(prefix, class)| (*prefix, indices[class]))
                .collect(),
            all,
        }
    }

    fn class_of_pod(
        &self,
        selectors: &[(PeerIx, &Selector)],
        blocks: &Blocks<'_>,
        pod: &Pod,
        address: IpAddr,
    ) -> Class {
        let selecting = selectors.iter().filter(|(_, pods)| pods.matches(&pod.labels));
        let mut peers: Vec<PeerIx> = selecting.map(|(peer, _)| *peer).collect();
        peers.extend(blocks.around(address.into(), |block| block.contains(address)));
        peers.sort_unstable();
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

    /// The selectors of pods of the peers that look in a namespace.
    fn selectors(&self, cluster: &Cluster, namespace: &str) -> Vec<(PeerIx, &Selector)> {
        let labels = cluster.namespace_labels(namespace);
        let looks_here = |namespaces: &Namespaces| match namespaces {
            Namespaces::Own(name) => name == namespace,
            Namespaces::Selected(selector) => labels.is_some_and(|labels| selector.matches(labels)),
        };
        let peers = self.peers.iter().zip(0..);
        peers
            .filter_map(|(peer, index)| match peer {
                PeerGroup::Pods { namespaces, pods } => looks_here(namespaces).then_some((index, pods)),
                PeerGroup::Blocks(_) => None,
            })
            .collect()
    }

    fn blocks(&self) -> Blocks<'_> {
        let mut blocks = Blocks::default();
        for (peer, index) in self.peers.iter().zip(0..) {
            let PeerGroup::Blocks(of_peer) = peer else {
                continue;
            };
            for block in of_peer {
                let length = (block.cidr.addr().is_ipv6(), block.cidr.prefix_len());
                blocks.lengths.insert(length);
                let of_cidr = blocks.by_cidr.entry(block.cidr).or_default();
                of_cidr.push((index, block));
            }
        }
        blocks
    }

    /// Every prefix at which the membership in some block changes.
    fn prefixes(&self) -> BTreeSet<IpNet> {
        let blocks = self.peers.iter().flat_map(|peer| match peer {
            PeerGroup::Blocks(blocks) => &blocks[..],
            PeerGroup::Pods { .. } => &[],
        });
        blocks
            .flat_map(|block| std::iter::once(block.cidr).chain(block.except.iter().copied()))
            .collect()
    }

    /// The distinct rulesets, and which of them each local pod has.
    pub(super) fn rulesets(&self, selecting: &[Selected<'_>]) -> (Vec<Ruleset>, BTreeMap<Key, Endpoint>) {
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
            Peers::Of(list) => Some(self.lists[&list[..]].clone()),
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

/// The blocks among the peers, to be found by what their `cidr` holds.
#[derive(Default)]
struct Blocks<'a> {
    by_cidr: BTreeMap<IpNet, Vec<(PeerIx, &'a IpBlock)>>,
    /// The lengths that there are, with whether they are of IPv6.
    lengths: BTreeSet<(bool, u8)>,
}

impl Blocks<'_> {
    /// Those whose `cidr` holds all of a prefix, and of which this is true; sorted.
    fn around(&self, net: IpNet, holds: impl Fn(&IpBlock) -> bool) -> Vec<PeerIx> {
        let six = net.addr().is_ipv6();
        let lengths = self.lengths.range((six, 0)..=(six, net.prefix_len()));
        let cidrs = lengths.filter_map(|(_, length)| Some(IpNet::new(net.addr(), *length).ok()?.trunc()));
        let blocks = cidrs.filter_map(|cidr| self.by_cidr.get(&cidr)).flatten();
        let holding = blocks.filter(|(_, block)| holds(block));
        let mut around: Vec<PeerIx> = holding.map(|(peer, _)| *peer).collect();
        around.sort_unstable();
        around.dedup();
        around
    }
}

impl OpenRule {
    /// Whether it can never open anything.
    pub(super) fn is_void(&self) -> bool {
        self.peers.as_ref().is_some_and(Vec::is_empty)
            || (self.ports.is_empty() && self.named_ports.is_empty())
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

/// Which ports each ruleset opens to each class.
pub(super) fn decisions(rulesets: &[Ruleset], classes: &[Class]) -> Decisions {
    let mut names: BTreeMap<&[NamedPort], NamesId> = BTreeMap::from([(&[][..], 0)]);
    let mut members: BTreeMap<Option<PeerIx>, Vec<(ClassIx, NamesId)>> = BTreeMap::new();
    for (class, index) in classes.iter().zip(0..) {
        let next = names.len() as NamesId;
        let named = *names.entry(&class.named_ports).or_insert(next);
        let by_name = (named != 0).then_some(None);
        for peer in class.peers.iter().copied().map(Some).chain(by_name) {
            members.entry(peer).or_default().push((index, named));
        }
    }
    let mut contents: Vec<&[NamedPort]> = vec![&[]; names.len()];
    names
        .iter()
        .for_each(|(content, id)| contents[*id as usize] = content);

    let mut sets: BTreeMap<PortSet, u32> = BTreeMap::new();
    let mut rows = Vec::with_capacity(rulesets.len());
    for ruleset in rulesets {
        let concerned = |(peer, rule)| {
            let classes = members.get(&peer).into_iter().flatten();
            classes.map(move |(class, names)| (*class, *names, rule))
        };
        let met: Vec<Met> = named_by(ruleset).flat_map(concerned).collect();
        let named = |id: NamesId| contents[id as usize];
        let number = |ports: &PortSet| match sets.get(ports) {
            Some(number) => *number,
            None => {
                let next = sets.len() as u32;
                sets.insert(ports.clone(), next);
                next
            }
        };
        let Rows { anyone, others, .. } = decide(ruleset, met, named, number);
        rows.push(
            anyone
                .map(|set| (ANYONE, set))
                .into_iter()
                .chain(others)
                .collect(),
        );
    }
    Decisions::new(rows, sets)
}

/// Whether a block holds the addresses of `prefix` that are in no longer prefix of the table.
pub(super) fn covers(block: &IpBlock, prefix: IpNet) -> bool {
    block.cidr.contains(&prefix) && !block.except.iter().any(|except| except.contains(&prefix))
}

pub(super) fn intersection(a: &Class, b: &Class) -> Class {
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
