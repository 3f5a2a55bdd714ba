//! From one state of compiled rules to the next by comparing them whole: what a compiler that follows a cluster says at the cost of
//! what changes. For tests that have states.

use std::collections::{BTreeMap, BTreeSet};

use ringfence_netpol::cluster::Key;
use ringfence_netpol::compile::delta::{ANYONE, ClassId, Delta, RulesetId};
use ringfence_netpol::compile::{ClassIx, Endpoint, NodeRules, OpenRule, PeerGroup, PeerIx, RulesetIx};
use ringfence_netpol::policy::Direction;
use ringfence_netpol::port::{PortSet, Protocol};

type ClassContent = (Vec<u32>, Vec<(Protocol, String, u16)>);
type Rule = (Option<Vec<u32>>, PortSet, Vec<(Protocol, String)>);

/// Numbers contents, and no two ever alike.
#[derive(Default)]
pub struct Differences {
    peers: BTreeMap<PeerGroup, u32>,
    classes: BTreeMap<ClassContent, ClassId>,
    rulesets: BTreeMap<(Direction, Vec<Rule>), RulesetId>,
    sets: BTreeMap<PortSet, u32>,
    last: u32,
    /// By their indices in the rules.
    names: Vec<RulesetId>,
    everything: Delta,
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
        let placed: BTreeSet<ClassIx> = rules
            .addresses
            .values()
            .chain(rules.blocks.values())
            .copied()
            .collect();
        let mut classes = BTreeMap::from([(0, ANYONE)]);
        for class in placed.into_iter().filter(|class| *class != 0) {
            let content = &rules.classes[class as usize];
            let content = (named(&content.peers), content.named_ports.clone());
            classes.insert(class, number(&mut self.classes, &mut self.last, content));
        }
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
                .map(|(at, class)| (*at, Some(classes[class])))
                .collect(),
            prefixes: rules
                .blocks
                .iter()
                .map(|(at, class)| (*at, Some(classes[class])))
                .collect(),
            services: rules.service_ports.iter().map(|port| (*port, true)).collect(),
            ..Delta::default()
        };
        let mut decisions = BTreeMap::new();
        for ((ruleset, class), ports) in rules.decisions.iter() {
            if let Some(class) = classes.get(&class) {
                let set = number(&mut self.sets, &mut self.last, ports.clone());
                now.port_sets.insert(set, Some(ports.clone()));
                decisions.insert((self.names[ruleset as usize], *class), set);
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
        self.classes
            .retain(|_, name| classes.values().any(|class| class == name));
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
        *last += 1;
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
