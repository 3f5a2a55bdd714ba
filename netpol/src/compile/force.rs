//! The policies, and which of them are in force: those that select a pod of this node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::contents::Contents;
use super::index::Selectors;
use super::{OpenRule, PeerGroup, PeerIx, Ruleset};
use crate::cluster::{Key, Pod};
use crate::policy::{Direction, Peers, Policy, Port, Ports, Rule};
use crate::port::{PortRange, PortSet, Protocol};
use crate::selector::Labels;

/// Stands for one version of one policy; never given out twice.
pub(super) type PolicyId = u64;

#[derive(Debug, Default)]
pub(super) struct Force {
    /// The versions that count.
    ids: BTreeMap<Key, PolicyId>,
    versions: BTreeMap<PolicyId, Version>,
    next: PolicyId,
    by_namespace: BTreeMap<String, Selectors<PolicyId>>,
    /// Versions that began or ceased to select a pod.
    touched: BTreeSet<PolicyId>,
    /// Versions in force with parts that could not be understood.
    defective: BTreeSet<PolicyId>,
    /// How many rules in force ask for a port by that name on the other side.
    names: BTreeMap<(Protocol, String), usize>,
}

#[derive(Debug)]
struct Version {
    policy: Arc<Policy>,
    /// Whether it still counts.
    current: bool,
    /// How many pods of this node it selects.
    selects: usize,
    force: Option<InForce>,
}

/// A policy's rules with the peers numbered.
#[derive(Debug, Default)]
struct InForce {
    ingress: Option<Vec<NumberedRule>>,
    egress: Option<Vec<NumberedRule>>,
    /// All that it holds, as often as it holds it.
    peers: Vec<PeerIx>,
    names: Vec<(Protocol, String)>,
}

#[derive(Debug)]
struct NumberedRule {
    peers: Option<Vec<PeerIx>>,
    ports: PortSet,
    /// Sorted.
    named_ports: Vec<(Protocol, String)>,
}

impl Force {
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.ids.keys()
    }

    pub(super) fn policy(&self, key: &Key) -> Option<(PolicyId, &Arc<Policy>)> {
        let id = self.ids.get(key)?;
        Some((*id, &self.versions.get(id)?.policy))
    }

    /// Takes another version of a policy, or that there is none any more.
    pub(super) fn replace(&mut self, key: &Key, policy: Option<&Arc<Policy>>) {
        if let Some(id) = self.ids.remove(key)
            && let Some(version) = self.versions.get_mut(&id)
        {
            version.current = false;
            self.touched.insert(id);
            if let Some(selectors) = self.by_namespace.get_mut(&key.namespace) {
                selectors.remove(&version.policy.pods, id);
                if selectors.is_empty() {
                    self.by_namespace.remove(&key.namespace);
                }
            }
        }
        let Some(policy) = policy else { return };
        let id = self.next;
        self.next += 1;
        self.ids.insert(key.clone(), id);
        let selectors = self.by_namespace.entry(key.namespace.clone()).or_default();
        selectors.insert(&policy.pods, id);
        let version = Version {
            policy: Arc::clone(policy),
            current: true,
            selects: 0,
            force: None,
        };
        self.versions.insert(id, version);
    }

    /// The policies that select a pod of these labels, sorted.
    pub(super) fn selecting(&self, namespace: &str, labels: &Labels) -> Vec<PolicyId> {
        let selectors = self.by_namespace.get(namespace).into_iter();
        let candidates = selectors.flat_map(|selectors| selectors.candidates(labels));
        let matching = |id: &PolicyId| {
            let version = self.versions.get(id);
            version.is_some_and(|version| version.policy.pods.matches(labels))
        };
        let mut selecting: Vec<PolicyId> = candidates.filter(matching).collect();
        selecting.sort_unstable();
        selecting
    }

    /// Takes note that a pod of this node is no more selected by the ones and is by the others.
    pub(super) fn select(&mut self, before: &[PolicyId], after: &[PolicyId]) {
        for id in after {
            if let Some(version) = self.versions.get_mut(id) {
                version.selects += 1;
                self.touched.insert(*id);
            }
        }
        for id in before {
            if let Some(version) = self.versions.get_mut(id) {
                version.selects = version.selects.saturating_sub(1);
                self.touched.insert(*id);
            }
        }
    }

    /// Puts into force what selects a pod, and out of it what does not; the port names that came into use or went out of it.
    pub(super) fn settle(&mut self, peers: &mut Contents<PeerGroup>) -> BTreeSet<(Protocol, String)> {
        let mut names = BTreeSet::new();
        let touched = std::mem::take(&mut self.touched);
        // First what comes, so that what both hold stays.
        for id in &touched {
            let Some(version) = self.versions.get_mut(id) else {
                continue;
            };
            if version.selects > 0 && version.force.is_none() {
                let force = InForce::of(&version.policy, peers);
                for name in &force.names {
                    let count = self.names.entry(name.clone()).or_default();
                    *count += 1;
                    if *count == 1 {
                        names.insert(name.clone());
                    }
                }
                if !version.policy.defects.is_empty() {
                    self.defective.insert(*id);
                }
                version.force = Some(force);
            }
        }
        for id in touched {
            let Some(version) = self.versions.get_mut(&id) else {
                continue;
            };
            if version.selects > 0 {
                continue;
            }
            self.defective.remove(&id);
            let force = version.force.take().unwrap_or_default();
            force.peers.iter().for_each(|peer| peers.release(*peer));
            for name in force.names {
                if let Some(count) = self.names.get_mut(&name) {
                    *count -= 1;
                    if *count == 0 {
                        self.names.remove(&name);
                        names.insert(name);
                    }
                }
            }
            if !version.current {
                self.versions.remove(&id);
            }
        }
        names
    }

    /// The rules that are open to a pod of this node in one direction; `None` if no policy isolates it.
    pub(super) fn ruleset(&self, direction: Direction, policies: &[PolicyId], pod: &Pod) -> Option<Ruleset> {
        let force = policies
            .iter()
            .filter_map(|id| self.versions.get(id)?.force.as_ref());
        let mut isolating = force.filter_map(|force| force.rules(direction)).peekable();
        isolating.peek()?;
        let rules: BTreeSet<OpenRule> = isolating
            .flatten()
            .map(|rule| rule.open(direction, pod))
            .filter(|rule| !rule.is_void())
            .collect();
        Some(Ruleset {
            direction,
            rules: rules.into_iter().collect(),
        })
    }

    /// Whether the rules of a direction ask for the pod's ports by their names.
    pub(super) fn asks_for_names(&self, direction: Direction, policies: &[PolicyId]) -> bool {
        let force = policies
            .iter()
            .filter_map(|id| self.versions.get(id)?.force.as_ref());
        let mut rules = force.filter_map(|force| force.rules(direction)).flatten();
        direction == Direction::Ingress && rules.any(|rule| !rule.named_ports.is_empty())
    }

    /// Whether an egress rule in force asks for such a port.
    pub(super) fn is_asked_for(&self, protocol: Protocol, name: &str) -> bool {
        !self.names.is_empty() && self.names.contains_key(&(protocol, name.to_owned()))
    }

    /// Policies in force with parts that could not be understood.
    pub(super) fn defective(&self) -> impl Iterator<Item = &Policy> {
        let versions = self.defective.iter().filter_map(|id| self.versions.get(id));
        versions.map(|version| version.policy.as_ref())
    }
}

impl InForce {
    fn of(policy: &Policy, peers: &mut Contents<PeerGroup>) -> Self {
        let mut force = Self::default();
        force.ingress = policy.ingress.as_ref().map(|rules| {
            let numbered = rules.iter().map(|rule| force.number(rule, peers));
            numbered.collect()
        });
        force.egress = policy.egress.as_ref().map(|rules| {
            let numbered = rules.iter().map(|rule| force.number(rule, peers));
            numbered.collect()
        });
        let asked = force.egress.iter().flatten().flat_map(|rule| &rule.named_ports);
        force.names = asked.cloned().collect();
        force
    }

    fn number(&mut self, rule: &Rule, peers: &mut Contents<PeerGroup>) -> NumberedRule {
        let numbered = match &rule.peers {
            Peers::Any => None,
            Peers::Of(list) => {
                let groups = PeerGroup::of(list).into_iter();
                let mut ids: Vec<PeerIx> = groups.map(|group| peers.intern(&group)).collect();
                ids.iter().for_each(|id| peers.hold(*id));
                self.peers.extend(&ids);
                ids.sort_unstable();
                Some(ids)
            }
        };
        let (mut ranges, mut named_ports) = (Vec::new(), Vec::new());
        if let Ports::Of(ports) = &rule.ports {
            for port in ports {
                match port {
                    Port::Range(range) => ranges.push(*range),
                    Port::Named(protocol, name) => named_ports.push((*protocol, name.clone())),
                }
            }
        }
        named_ports.sort_unstable();
        named_ports.dedup();
        NumberedRule {
            peers: numbered,
            ports: match rule.ports {
                Ports::Any => PortSet::All,
                Ports::Of(_) => ranges.into_iter().collect(),
            },
            named_ports,
        }
    }

    fn rules(&self, direction: Direction) -> Option<&[NumberedRule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

impl NumberedRule {
    /// The rule as it is open to a pod.
    fn open(&self, direction: Direction, pod: &Pod) -> OpenRule {
        let (ports, named_ports) = match direction {
            Direction::Egress => (self.ports.clone(), self.named_ports.clone()),
            Direction::Ingress if self.named_ports.is_empty() => (self.ports.clone(), Vec::new()),
            Direction::Ingress => {
                let names = self.named_ports.iter();
                let resolved = names.flat_map(|(protocol, name)| {
                    let numbers = pod.named_ports(*protocol, name);
                    numbers.map(|number| PortRange::single(*protocol, number))
                });
                (self.ports.union(&resolved.collect()), Vec::new())
            }
        };
        OpenRule {
            peers: self.peers.clone(),
            ports,
            named_ports,
        }
    }
}
