//! Groups, rulesets and peers, numbered and indexed from both ends.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use super::peers::PeerTable;
use super::{Options, Workload};
use crate::cluster::{Cluster, ContainerPort};
use crate::policy::{Direction, IpBlock, Peer, Peers, Policy, Port, Ports, Rule};
use crate::port::{PortRange, PortSet, Protocol};
use crate::selector::Labels;

pub(super) type GroupIx = usize;
type RulesetIx = usize;
pub(super) type PeerIx = usize;

#[derive(Debug)]
pub(super) struct Tables {
    pub groups: Vec<Group>,
    pub rulesets: [Vec<Ruleset>; 2],
    /// The groups that each peer matches, sorted.
    members: Vec<Vec<GroupIx>>,
    /// The blocks among the peers.
    pub blocks: HashMap<PeerIx, IpBlock>,
    /// Which ingress rules name a peer: ruleset and index of the rule.
    naming: Vec<Vec<(RulesetIx, usize)>>,
    /// The groups that are isolated for ingress by each ruleset.
    guarded: Vec<Vec<GroupIx>>,
    /// The groups that are not isolated for ingress.
    open: Vec<GroupIx>,
    /// The ingress rulesets with a rule for anyone.
    to_anyone: Vec<RulesetIx>,
    pub has_ipv6: bool,
}

/// Pods of one workload that policies cannot tell apart.
#[derive(Debug)]
pub(super) struct Group {
    pub workload: Workload,
    /// By direction; `None`: not isolated.
    pub rulesets: [Option<RulesetIx>; 2],
    ports: Vec<ContainerPort>,
    /// The peers that match it, sorted.
    peers: Vec<PeerIx>,
}

/// What is open to the pods that have it in one direction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ruleset {
    pub rules: Vec<OpenRule>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OpenRule {
    /// `None`: anyone.
    pub peers: Option<Vec<PeerIx>>,
    pub ports: PortSet,
    /// Still to be resolved at the destination; ingress rules have none.
    named: Vec<(Protocol, String)>,
}

/// What tells pods apart.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Profile<'a> {
    pub workload: Workload,
    pub labels: &'a Labels,
    ports: BTreeSet<&'a ContainerPort>,
    pub address: Option<IpAddr>,
}

pub(super) const fn slot(direction: Direction) -> usize {
    match direction {
        Direction::Ingress => 0,
        Direction::Egress => 1,
    }
}

impl Tables {
    pub fn build(cluster: &Cluster, options: Options) -> Self {
        let profiles = profiles(cluster, options);
        let mut peers = PeerTable::default();
        let mut interned: [BTreeMap<Ruleset, RulesetIx>; 2] = Default::default();
        let mut groups: Vec<Group> = Vec::with_capacity(profiles.len());
        for profile in &profiles {
            let namespace = profile.workload.namespace.as_str();
            let selecting: Vec<&Policy> = cluster
                .policies
                .in_namespace(namespace)
                .map(|(_, policy)| policy)
                .filter(|policy| policy.pods.matches(profile.labels))
                .collect();
            let rulesets = Direction::BOTH.map(|direction| {
                let ruleset = ruleset(direction, profile, &selecting, &mut peers)?;
                let table = &mut interned[slot(direction)];
                let next = table.len();
                Some(*table.entry(ruleset).or_insert(next))
            });
            groups.push(Group {
                workload: profile.workload.clone(),
                rulesets,
                ports: profile.ports.iter().map(|port| (*port).clone()).collect(),
                peers: Vec::new(),
            });
        }
        let rulesets = interned.map(in_order);
        let members = peers.members(cluster, &profiles);
        for (peer, matched) in members.iter().enumerate() {
            matched.iter().for_each(|group| groups[*group].peers.push(peer));
        }
        let mut naming = vec![Vec::new(); members.len()];
        let mut to_anyone = Vec::new();
        for (ruleset, Ruleset { rules }) in rulesets[0].iter().enumerate() {
            for (at, rule) in rules.iter().enumerate() {
                match &rule.peers {
                    Some(list) => list.iter().for_each(|peer| naming[*peer].push((ruleset, at))),
                    None if to_anyone.last() == Some(&ruleset) => {}
                    None => to_anyone.push(ruleset),
                }
            }
        }
        let mut guarded = vec![Vec::new(); rulesets[0].len()];
        let mut open = Vec::new();
        for (index, group) in groups.iter().enumerate() {
            match group.rulesets[0] {
                Some(ruleset) => guarded[ruleset].push(index),
                None => open.push(index),
            }
        }
        let has_ipv6 = options.ipv6 || cluster.policies.values().any(names_ipv6);
        Self {
            groups,
            rulesets,
            members,
            blocks: peers.blocks(),
            naming,
            guarded,
            open,
            to_anyone,
            has_ipv6,
        }
    }

    /// What a group may open to other groups, itself included if its pods may reach each other.
    pub fn reach(&self, source: GroupIx) -> Vec<(GroupIx, PortSet)> {
        let admitting = self.admitting(source);
        let admitted: usize =
            self.open.len() + admitting.keys().map(|r| self.guarded[*r].len()).sum::<usize>();
        let let_in = || {
            let open = self.open.iter().map(|target| (*target, &PortSet::All));
            let guarded = admitting.iter().flat_map(|(ruleset, ports)| {
                self.guarded[*ruleset].iter().map(move |target| (*target, ports))
            });
            open.chain(guarded)
        };
        let Some(egress) = self.groups[source].rulesets[1] else {
            return let_in().map(|(target, ports)| (target, ports.clone())).collect();
        };
        let egress = &self.rulesets[1][egress];
        let selected: Option<usize> = egress.rules.iter().try_fold(0, |sum: usize, rule| {
            let peers = rule.peers.as_ref()?;
            Some(sum + peers.iter().map(|peer| self.members[*peer].len()).sum::<usize>())
        });
        let meet = |(target, ingress): (GroupIx, &PortSet)| {
            let ports = self.let_out(egress, target)?.intersection(ingress);
            (!ports.is_empty()).then_some((target, ports))
        };
        match selected {
            Some(selected) if selected < admitted => {
                let mut targets: Vec<GroupIx> = egress
                    .rules
                    .iter()
                    .flat_map(|rule| rule.peers.iter().flatten())
                    .flat_map(|peer| self.members[*peer].iter().copied())
                    .collect();
                targets.sort_unstable();
                targets.dedup();
                let ingress = |target: &GroupIx| match self.groups[*target].rulesets[0] {
                    None => Some((*target, &PortSet::All)),
                    Some(ruleset) => admitting.get(&ruleset).map(|ports| (*target, ports)),
                };
                targets.iter().filter_map(ingress).filter_map(meet).collect()
            }
            _ => let_in().filter_map(meet).collect(),
        }
    }

    /// What each ingress ruleset that lets a group in opens to it.
    fn admitting(&self, source: GroupIx) -> HashMap<RulesetIx, PortSet> {
        let mut opened: HashMap<RulesetIx, PortSet> = HashMap::new();
        let mut open = |ruleset: RulesetIx, ports: &PortSet| {
            let set = opened.entry(ruleset).or_default();
            if set != ports {
                *set = set.union(ports);
            }
        };
        for ruleset in &self.to_anyone {
            let rules = self.rulesets[0][*ruleset].rules.iter();
            rules
                .filter(|rule| rule.peers.is_none())
                .for_each(|rule| open(*ruleset, &rule.ports));
        }
        for peer in &self.groups[source].peers {
            for (ruleset, rule) in &self.naming[*peer] {
                open(*ruleset, &self.rulesets[0][*ruleset].rules[*rule].ports);
            }
        }
        opened
    }

    /// What an egress ruleset opens to a group; `None` for nothing.
    fn let_out(&self, egress: &Ruleset, target: GroupIx) -> Option<PortSet> {
        let target = &self.groups[target];
        let matching = |rule: &&OpenRule| match &rule.peers {
            None => true,
            Some(peers) => peers.iter().any(|peer| target.peers.binary_search(peer).is_ok()),
        };
        let mut opened: Option<PortSet> = None;
        for rule in egress.rules.iter().filter(matching) {
            let ports = rule.ports_at(&target.ports);
            opened = Some(match opened {
                None => ports,
                Some(set) => set.union(&ports),
            });
        }
        opened
    }
}

impl OpenRule {
    /// What it opens to a pod with these ports.
    fn ports_at(&self, ports: &[ContainerPort]) -> PortSet {
        if self.named.is_empty() {
            return self.ports.clone();
        }
        let resolved = self.named.iter().flat_map(|(protocol, name)| {
            let found =
                move |port: &&ContainerPort| port.protocol == *protocol && port.name.as_ref() == Some(name);
            let single = |port: &ContainerPort| PortRange::single(*protocol, port.number);
            ports.iter().filter(found).map(single)
        });
        self.ports.union(&resolved.collect())
    }

    fn is_void(&self) -> bool {
        self.peers.as_ref().is_some_and(Vec::is_empty) || (self.ports.is_empty() && self.named.is_empty())
    }
}

fn profiles(cluster: &Cluster, options: Options) -> Vec<Profile<'_>> {
    let distinct: BTreeSet<Profile<'_>> = cluster
        .pods
        .iter()
        .filter(|(_, pod)| pod.is_governed())
        .map(|(key, pod)| Profile {
            workload: Workload::of(key, pod),
            labels: &pod.labels,
            ports: pod.ports.iter().collect(),
            address: pod
                .addresses
                .first()
                .copied()
                .filter(|_| options.blocks_match_pods),
        })
        .collect();
    distinct.into_iter().collect()
}

fn ruleset<'a>(
    direction: Direction,
    profile: &Profile<'_>,
    selecting: &[&'a Policy],
    peers: &mut PeerTable<'a>,
) -> Option<Ruleset> {
    let mut isolating = selecting
        .iter()
        .filter_map(|policy| policy.rules(direction))
        .peekable();
    isolating.peek()?;
    let rules: BTreeSet<OpenRule> = isolating
        .flatten()
        .map(|rule| open_rule(direction, profile, rule, peers))
        .filter(|rule| !rule.is_void())
        .collect();
    Some(Ruleset {
        rules: rules.into_iter().collect(),
    })
}

fn open_rule<'a>(
    direction: Direction,
    profile: &Profile<'_>,
    rule: &'a Rule,
    peers: &mut PeerTable<'a>,
) -> OpenRule {
    let numbers = match &rule.peers {
        Peers::Any => None,
        Peers::Of(list) => Some(
            list.iter()
                .map(|peer| peers.number(peer))
                .collect::<BTreeSet<_>>(),
        ),
    };
    let (mut ranges, mut named) = (Vec::new(), BTreeSet::new());
    let ports = match &rule.ports {
        Ports::Any => PortSet::All,
        Ports::Of(list) => {
            for port in list {
                match (port, direction) {
                    (Port::Range(range), _) => ranges.push(*range),
                    (Port::Named(protocol, name), Direction::Ingress) => {
                        let found = |port: &&&ContainerPort| {
                            port.protocol == *protocol && port.name.as_ref() == Some(name)
                        };
                        let found = profile.ports.iter().filter(found);
                        ranges.extend(found.map(|port| PortRange::single(*protocol, port.number)));
                    }
                    (Port::Named(protocol, name), Direction::Egress) => {
                        named.insert((*protocol, name.clone()));
                    }
                }
            }
            ranges.into_iter().collect()
        }
    };
    OpenRule {
        peers: numbers.map(|numbers| numbers.into_iter().collect()),
        ports,
        named: named.into_iter().collect(),
    }
}

fn in_order(table: BTreeMap<Ruleset, RulesetIx>) -> Vec<Ruleset> {
    let mut entries: Vec<(Ruleset, RulesetIx)> = table.into_iter().collect();
    entries.sort_by_key(|(_, index)| *index);
    entries.into_iter().map(|(ruleset, _)| ruleset).collect()
}

fn names_ipv6(policy: &Policy) -> bool {
    let rules = Direction::BOTH
        .into_iter()
        .filter_map(|direction| policy.rules(direction));
    rules.flatten().any(|rule| match &rule.peers {
        Peers::Any => false,
        Peers::Of(peers) => peers
            .iter()
            .any(|peer| matches!(peer, Peer::Block(block) if block.cidr.addr().is_ipv6())),
    })
}
