//! Which ports each ruleset opens to each class.

use std::collections::{BTreeMap, BTreeSet};

use super::{ANYONE, Class, ClassIx, OpenRule, PeerIx, Ruleset, RulesetIx};
use crate::port::{PortRange, PortSet};

pub(super) fn decide(rulesets: &[Ruleset], classes: &[Class]) -> BTreeMap<(RulesetIx, ClassIx), PortSet> {
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

impl OpenRule {
    /// What it opens to a class that is among its peers.
    pub(super) fn ports_for(&self, class: &Class) -> PortSet {
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
