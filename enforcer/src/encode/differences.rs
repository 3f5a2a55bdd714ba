//! From one state of compiled rules to the next by comparing them whole: what a compiler that follows a cluster says at the cost of
//! what changes. For tests that have states.

use std::collections::{BTreeMap, BTreeSet};

use ringfence_netpol::cluster::Key;
use ringfence_netpol::compile::delta::{ANYONE, ClassId, Delta, PODS, RulesetId};
use ringfence_netpol::compile::{ClassIx, Endpoint, NodeRules, OpenRule, PeerGroup, PeerIx, RulesetIx};
use ringfence_netpol::policy::Direction;
use ringfence_netpol::port::{PortSet, Protocol};

type ClassContent = (Vec<u32>, Vec<(Protocol, String, u16)>);
type Rule = (Option<Vec<u32>>, PortSet, Vec<(Protocol, String)>);

/// Numbers contents, and no two ever alike.
#[derive(Default)]
pub struct Differences {
    peers: BTreeMap<PeerGroup, u32>,
    /// Those of pods' addresses, and others.
    classes: BTreeMap<(bool, ClassContent), ClassId>,
    rulesets: BTreeMap<(Direction, Vec<Rule>), RulesetId>,
    sets: BTreeMap<PortSet, u32>,
    last: u32,
    /// By their indices in the rules.
    names: Vec<RulesetId>,
    everything: Delta,
    /// What each ruleset opens to a pod for which it says nothing else, as long as it is there.
    fallbacks: BTreeMap<RulesetId, PortSet>,
    decisions: BTreeMap<(RulesetId, ClassId), u32>,
}

impl Differences {
    /// What changes from the rules before to these.
    pub fn to(&mut self, rules: &NodeRules) -> Delta {
        let peers: Vec<u32> = rules
            .peers
            .iter()
            .map(|peer| number(&mut self.peers, &mut self.last, peer.clone()))
            .collect();
        let named = |indices: &[PeerIx]| {
            let mut named: Vec<u32> = indices.iter().map(|index| peers[*index as usize]).collect();
            named.sort_unstable();
            named
        };
        let mut place = |pod: bool, placed: BTreeSet<ClassIx>| -> BTreeMap<ClassIx, ClassId> {
            let placed = placed.into_iter().filter(|class| *class != 0);
            let numbered = placed.map(|class| {
                let content = &rules.classes[class as usize];
                let content = (named(&content.peers), content.named_ports.clone());
                (class, number(&mut self.classes, &mut self.last, (pod, content)))
            });
            numbered.collect()
        };
        let pods = place(true, rules.addresses.values().copied().collect());
        let mut others = place(false, rules.blocks.values().copied().collect());
        others.insert(0, ANYONE);
        self.names.clear();
        for ruleset in &rules.rulesets {
            let content = |rule: &OpenRule| {
                (
                    rule.peers.as_deref().map(named),
                    rule.ports.clone(),
                    rule.named_ports.clone(),
                )
            };
            let content = (ruleset.direction, ruleset.rules.iter().map(content).collect());
            self.names
                .push(number(&mut self.rulesets, &mut self.last, content));
        }
        let mut now = Delta {
            addresses: rules
                .addresses
                .iter()
                .map(|(at, class)| (*at, Some(pods[class])))
                .collect(),
            prefixes: rules
                .blocks
                .iter()
                .map(|(at, class)| (*at, Some(others[class])))
                .collect(),
            services: rules.service_ports.iter().map(|port| (*port, true)).collect(),
            ..Delta::default()
        };
        let mut decisions = BTreeMap::new();
        for (name, index) in self.names.iter().zip(0..) {
            let mut decide = |class: ClassId, ports: &PortSet| {
                let set = number(&mut self.sets, &mut self.last, ports.clone());
                now.port_sets.insert(set, Some(ports.clone()));
                decisions.insert((*name, class), set);
            };
            for (class, id) in &others {
                if let Some(ports) = rules.decisions.get(&(index, *class)) {
                    decide(*id, ports);
                }
            }
            let opened = |class: ClassIx| {
                let ports = rules.decisions.get(&(index, class));
                ports.or_else(|| rules.decisions.get(&(index, 0)))
            };
            let opened = |class: ClassIx| opened(class).cloned().unwrap_or_default();
            let first = || opened(pods.keys().next().copied().unwrap_or_default());
            let fallback = self.fallbacks.entry(*name).or_insert_with(first);
            if !fallback.is_empty() {
                decide(PODS, fallback);
            }
            for (class, id) in &pods {
                let ports = opened(*class);
                if ports != *fallback {
                    decide(*id, &ports);
                }
            }
        }
        // Each ruleset is some pod's.
        for name in &self.names {
            let endpoint = Endpoint {
                uid: String::new(),
                addresses: Vec::new(),
                ingress: Some(*name),
                egress: None,
            };
            now.endpoints
                .insert(Key::cluster(name.to_string()), Some(endpoint));
        }
        self.rulesets.retain(|_, name| self.names.contains(name));
        self.fallbacks.retain(|name, _| self.names.contains(name));
        self.classes
            .retain(|_, name| pods.values().chain(others.values()).any(|class| class == name));
        self.sets.retain(|_, name| now.port_sets.contains_key(name));
        now.granted = decisions.iter().map(|(pair, set)| (*pair, *set)).collect();
        let mut delta = difference(&self.everything, &now);
        let before = std::mem::replace(&mut self.decisions, decisions);
        let come = self
            .decisions
            .iter()
            .filter(|(pair, _)| !before.contains_key(pair));
        delta.granted = come.map(|(pair, set)| (*pair, *set)).collect();
        let gone = before.keys().filter(|pair| !self.decisions.contains_key(pair));
        let gone = gone.filter(|(ruleset, _)| !delta.rulesets_gone.contains(ruleset));
        delta.revoked = gone.copied().collect();
        self.everything = now;
        delta
    }

    /// All of the rules that were given last.
    pub fn everything(&self) -> Delta {
        self.everything.clone()
    }

    /// What a ruleset of the rules that were given last is called.
    pub fn ruleset(&self, index: Option<RulesetIx>) -> Option<RulesetId> {
        index.map(|index| self.names[index as usize])
    }
}

fn number<T: Ord>(numbers: &mut BTreeMap<T, u32>, last: &mut u32, content: T) -> u32 {
    *numbers.entry(content).or_insert_with(|| {
        *last = (*last).max(PODS) + 1;
        *last
    })
}

fn difference(before: &Delta, after: &Delta) -> Delta {
    fn of<K: Ord + Clone, V: PartialEq + Clone>(
        before: &BTreeMap<K, Option<V>>,
        after: &BTreeMap<K, Option<V>>,
    ) -> BTreeMap<K, Option<V>> {
        let gone = before.keys().filter(|key| !after.contains_key(key));
        let set = after.iter().filter(|(key, value)| before.get(key) != Some(value));
        gone.map(|key| (key.clone(), None))
            .chain(set.map(|(key, value)| (key.clone(), value.clone())))
            .collect()
    }
    fn rulesets(of: &Delta) -> BTreeSet<RulesetId> {
        let endpoints = of.endpoints.values().flatten();
        endpoints.filter_map(|endpoint| endpoint.ingress).collect()
    }
    fn classes(of: &Delta) -> BTreeSet<ClassId> {
        of.addresses
            .values()
            .chain(of.prefixes.values())
            .flatten()
            .copied()
            .collect()
    }
    let gone = before
        .services
        .keys()
        .filter(|port| !after.services.contains_key(port));
    let come = after
        .services
        .keys()
        .filter(|port| !before.services.contains_key(port));
    Delta {
        endpoints: of(&before.endpoints, &after.endpoints),
        addresses: of(&before.addresses, &after.addresses),
        prefixes: of(&before.prefixes, &after.prefixes),
        port_sets: of(&before.port_sets, &after.port_sets),
        services: gone
            .map(|port| (*port, false))
            .chain(come.map(|port| (*port, true)))
            .collect(),
        granted: Vec::new(),
        revoked: Vec::new(),
        rulesets_gone: rulesets(before).difference(&rulesets(after)).copied().collect(),
        classes_gone: classes(before)
            .difference(&classes(after))
            .copied()
            .filter(|class| *class != ANYONE)
            .collect(),
    }
}
