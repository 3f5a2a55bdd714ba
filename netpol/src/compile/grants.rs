//! Which ports each ruleset opens to each class, kept as rulesets and classes come and go.
//!
//! A peer knows the rules that name it and the classes that it is of, so that only those rules and classes meet which have a peer in
//! common.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::contents::{Contents, Settled};
use super::delta::{ANYONE, ClassId, Delta, PortSetId, RulesetId};
use super::places::Amended;
use super::{Class, PeerIx, Ruleset};
use crate::port::{PortSet, Protocol};

/// A rule by its place in its ruleset.
type RuleAt = (RulesetId, usize);

#[derive(Debug)]
pub(super) struct Grants {
    decisions: BTreeMap<(RulesetId, ClassId), PortSetId>,
    port_sets: Contents<PortSet>,
    peers: BTreeMap<PeerIx, Meeting>,
    /// What meets by the names of ports: rules that are open to anyone, and classes that have ports with names.
    names: Meeting,
}

/// Rules and classes that have something in common.
#[derive(Debug, Default)]
struct Meeting {
    rules: BTreeSet<RuleAt>,
    classes: BTreeSet<ClassId>,
}

/// What decides on the ports that a ruleset opens to a class: the rules that name one of its peers, and its ports' names.
type Ground<'a> = (Vec<usize>, &'a [(Protocol, String, u16)]);

impl Default for Grants {
    fn default() -> Self {
        Self {
            decisions: BTreeMap::new(),
            port_sets: Contents::new(0),
            peers: BTreeMap::new(),
            names: Meeting::default(),
        }
    }
}

impl Grants {
    pub(super) fn iter(&self) -> impl Iterator<Item = ((RulesetId, ClassId), &PortSet)> {
        self.decisions
            .iter()
            .filter_map(|(pair, set)| Some((*pair, self.port_sets.get(*set)?.as_ref())))
    }

    /// Follows what became of rulesets and classes. Nothing was decided for a class because of a peer by which it is amended.
    pub(super) fn settle(
        &mut self,
        (rulesets, classes): (&mut Contents<Ruleset>, &mut Contents<Class>),
        amended: &[Amended],
        delta: &mut Delta,
    ) {
        for Amended { class, gained, lost } in amended {
            for peer in lost {
                self.meeting(Some(*peer)).classes.remove(class);
                self.part(Some(*peer));
            }
            for peer in gained {
                self.meeting(Some(*peer)).classes.insert(*class);
            }
        }
        let (changed_rulesets, changed_classes) = (rulesets.settle(), classes.settle());
        self.forget(&changed_rulesets, &changed_classes, delta);
        for (id, ruleset) in &changed_rulesets.born {
            for (peer, rule) in named_by(ruleset) {
                self.meeting(peer).rules.insert((*id, rule));
            }
        }
        for (id, class) in &changed_classes.born {
            for peer in class.peers.iter().copied().map(Some).chain(by_names(class)) {
                self.meeting(peer).classes.insert(*id);
            }
        }
        for (id, ruleset) in &changed_rulesets.born {
            self.decide_ruleset(*id, ruleset, classes, delta);
        }
        let fresh = |id: RulesetId| {
            let born = &changed_rulesets.born;
            born.binary_search_by_key(&id, |(id, _)| *id).is_ok()
        };
        self.decide_classes(&changed_classes.born, rulesets, fresh, delta);

        let Settled { born, gone } = self.port_sets.settle();
        let gone = gone.into_iter().map(|(id, _)| (id, None));
        delta.port_sets.extend(gone);
        let born = born.into_iter();
        delta
            .port_sets
            .extend(born.map(|(id, ports)| (id, Some(ports.as_ref().clone()))));
        delta.rulesets_gone = changed_rulesets.gone.into_iter().map(|(id, _)| id).collect();
        delta.classes_gone = changed_classes.gone.into_iter().map(|(id, _)| id).collect();
    }

    /// Everything, as the difference from nothing.
    pub(super) fn snapshot(&self, delta: &mut Delta) {
        let decisions = self.decisions.iter();
        delta.decisions = decisions.map(|(pair, set)| (*pair, Some(*set))).collect();
        let sets = self.port_sets.iter();
        delta.port_sets = sets.map(|(id, ports)| (id, Some(ports.clone()))).collect();
    }

    /// Those that have a peer in common; of no peer, those that meet by the names of ports.
    fn meeting(&mut self, peer: Option<PeerIx>) -> &mut Meeting {
        match peer {
            Some(peer) => self.peers.entry(peer).or_default(),
            None => &mut self.names,
        }
    }

    fn forget(&mut self, rulesets: &Settled<Ruleset>, classes: &Settled<Class>, delta: &mut Delta) {
        for (id, ruleset) in &rulesets.gone {
            let rows = self.decisions.range((*id, 0)..=(*id, u32::MAX));
            let rows: Vec<_> = rows.map(|(pair, _)| *pair).collect();
            rows.into_iter().for_each(|pair| self.revoke(pair, delta));
            for (peer, rule) in named_by(ruleset) {
                self.meeting(peer).rules.remove(&(*id, rule));
                self.part(peer);
            }
        }
        for (id, class) in &classes.gone {
            for (ruleset, _) in self.rules_that_meet(class) {
                self.revoke((ruleset, *id), delta);
            }
            for peer in class.peers.iter().copied().map(Some).chain(by_names(class)) {
                self.meeting(peer).classes.remove(id);
                self.part(peer);
            }
        }
    }

    /// Forgets a peer that nobody names any more.
    fn part(&mut self, peer: Option<PeerIx>) {
        let Some(peer) = peer else { return };
        let empty = |meeting: &Meeting| meeting.rules.is_empty() && meeting.classes.is_empty();
        if self.peers.get(&peer).is_some_and(empty) {
            self.peers.remove(&peer);
        }
    }

    /// The rules that may open to a class what is not open to anyone, sorted.
    fn rules_that_meet(&self, class: &Class) -> Vec<RuleAt> {
        let by_peer = class.peers.iter().filter_map(|peer| self.peers.get(peer));
        let by_name = by_names(class).map(|_| &self.names);
        let mut rules: Vec<RuleAt> = by_peer
            .chain(by_name)
            .flat_map(|meeting| &meeting.rules)
            .copied()
            .collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }

    /// Decides between a new ruleset and all classes.
    fn decide_ruleset(
        &mut self,
        id: RulesetId,
        ruleset: &Ruleset,
        classes: &Contents<Class>,
        delta: &mut Delta,
    ) {
        let anyone = ruleset.ports_for_anyone();
        if !anyone.is_empty() {
            let set = self.port_sets.intern(&anyone);
            self.decide((id, ANYONE), set, delta);
        }
        let mut met: Vec<(ClassId, usize)> = Vec::new();
        for (peer, rule) in named_by(ruleset) {
            let meeting = match peer {
                Some(peer) => self.peers.get(&peer),
                None => Some(&self.names),
            };
            let classes = meeting.into_iter().flat_map(|meeting| &meeting.classes);
            met.extend(classes.map(|class| (*class, rule)));
        }
        met.sort_unstable();
        met.dedup();
        let mut known: BTreeMap<Ground<'_>, Option<PortSetId>> = BTreeMap::new();
        for rules in met.chunk_by(|(a, _), (b, _)| a == b) {
            let Some((class, content)) = rules.first().and_then(|(id, _)| Some((*id, classes.get(*id)?)))
            else {
                continue;
            };
            let rules: Vec<usize> = rules.iter().map(|(_, rule)| *rule).collect();
            let set = *known
                .entry((rules, &content.named_ports))
                .or_insert_with_key(|(rules, _)| {
                    let ports = ruleset.ports_for(content, rules, &anyone);
                    (ports != anyone).then(|| self.port_sets.intern(&ports))
                });
            if let Some(set) = set {
                self.decide((id, class), set, delta);
            }
        }
    }

    /// Decides between new classes and the rulesets that are not `fresh`, and so have not met them.
    fn decide_classes(
        &mut self,
        born: &[(ClassId, Arc<Class>)],
        rulesets: &Contents<Ruleset>,
        fresh: impl Fn(RulesetId) -> bool,
        delta: &mut Delta,
    ) {
        let mut known: BTreeMap<(RulesetId, Ground<'_>), Option<PortSetId>> = BTreeMap::new();
        for (class, content) in born {
            let met = self.rules_that_meet(content);
            for rules in met.chunk_by(|(a, _), (b, _)| a == b) {
                let found = rules.first().filter(|(id, _)| !fresh(*id));
                let Some((id, ruleset)) = found.and_then(|(id, _)| Some((*id, rulesets.get(*id)?))) else {
                    continue;
                };
                let rules: Vec<usize> = rules.iter().map(|(_, rule)| *rule).collect();
                let set = *known
                    .entry((id, (rules, &content.named_ports)))
                    .or_insert_with_key(|(_, (rules, _))| {
                        let anyone = ruleset.ports_for_anyone();
                        let ports = ruleset.ports_for(content, rules, &anyone);
                        (ports != anyone).then(|| self.port_sets.intern(&ports))
                    });
                if let Some(set) = set {
                    self.decide((id, *class), set, delta);
                }
            }
        }
    }

    fn decide(&mut self, pair: (RulesetId, ClassId), set: PortSetId, delta: &mut Delta) {
        self.port_sets.hold(set);
        self.decisions.insert(pair, set);
        delta.decisions.insert(pair, Some(set));
    }

    fn revoke(&mut self, pair: (RulesetId, ClassId), delta: &mut Delta) {
        if let Some(set) = self.decisions.remove(&pair) {
            self.port_sets.release(set);
            delta.decisions.insert(pair, None);
        }
    }
}

impl Ruleset {
    /// What it opens to whoever comes.
    fn ports_for_anyone(&self) -> PortSet {
        let to_anyone = self.rules.iter().filter(|rule| rule.peers.is_none());
        to_anyone.fold(PortSet::empty(), |ports, rule| ports.union(&rule.ports))
    }

    /// What it opens to a class that these rules concern, of which `anyone` is open to anyone.
    fn ports_for(&self, class: &Class, rules: &[usize], anyone: &PortSet) -> PortSet {
        let rules = rules.iter().filter_map(|rule| self.rules.get(*rule));
        rules.fold(anyone.clone(), |ports, rule| ports.union(&rule.ports_for(class)))
    }
}

/// The peers that rules name, with the place of the rule; no peer where a rule opens ports by name to anyone.
fn named_by(ruleset: &Ruleset) -> impl Iterator<Item = (Option<PeerIx>, usize)> + '_ {
    ruleset.rules.iter().enumerate().flat_map(|(place, rule)| {
        let peers = rule.peers.iter().flatten().map(move |peer| (Some(*peer), place));
        let by_name = rule.peers.is_none() && !rule.named_ports.is_empty();
        peers.chain(by_name.then_some((None, place)))
    })
}

fn by_names(class: &Class) -> Option<Option<PeerIx>> {
    (!class.named_ports.is_empty()).then_some(None)
}
