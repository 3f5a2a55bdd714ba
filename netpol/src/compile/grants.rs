//! Which ports each ruleset opens to each class, kept as rulesets and classes come and go.
//!
//! There may be half a million such decisions, and none of them is stored here: which there are of a ruleset or a class follows
//! from whom it meets, so it is worked out once when it comes to be told, and once more when it goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::contents::{Contents, Settled};
use super::decide::{Rows, decide};
use super::delta::{ANYONE, ClassId, Delta, PortSetId, RulesetId};
use super::meetings::Meetings;
use super::names::NamesId;
use super::places::Amended;
use super::{Class, Ruleset};
use crate::port::PortSet;

#[derive(Debug)]
pub(super) struct Grants {
    meetings: Meetings,
    port_sets: Contents<PortSet>,
}

impl Default for Grants {
    fn default() -> Self {
        Self {
            meetings: Meetings::default(),
            port_sets: Contents::new(0),
        }
    }
}

/// What decides on the ports that a ruleset opens to a class: the ruleset, those of its rules that concern the class, its named ports.
type Ground = (RulesetId, Vec<u32>, NamesId);

impl Grants {
    /// The decisions of a ruleset, by class, that of [`ANYONE`] first; sorted.
    pub(super) fn rows(&self, ruleset: &Ruleset) -> Vec<(ClassId, PortSetId)> {
        let met = self.meetings.classes_met(ruleset);
        let number = |ports: &PortSet| self.port_sets.id(ports).unwrap_or_default();
        let Rows { anyone, others, .. } = decide(ruleset, met, |id| self.meetings.names.get(id), number);
        anyone
            .map(|set| (ANYONE, set))
            .into_iter()
            .chain(others)
            .collect()
    }

    pub(super) fn port_sets(&self) -> impl Iterator<Item = (PortSetId, &PortSet)> {
        self.port_sets.iter()
    }

    /// Follows what became of rulesets and classes. Nothing was decided for a class because of a peer by which it is amended.
    pub(super) fn settle(
        &mut self,
        (rulesets, classes): (&mut Contents<Ruleset>, &mut Contents<Class>),
        amended: &[Amended],
        delta: &mut Delta,
    ) {
        let (changed_rulesets, changed_classes) = (rulesets.settle(), classes.settle());
        // What goes meets whom it met when it was decided for, so it goes before anything else changes.
        for gone in &changed_rulesets.gone {
            self.revoke_ruleset(gone, delta);
            self.meetings.leave_ruleset(gone);
        }
        self.revoke_classes(&changed_classes.gone, rulesets, &changed_rulesets, delta);
        for gone in &changed_classes.gone {
            self.meetings.leave_class(gone);
        }
        self.meetings.amend(amended, classes);
        self.meetings.enter(&changed_rulesets, &changed_classes);
        for (id, ruleset) in &changed_rulesets.born {
            self.grant_ruleset(*id, ruleset, delta);
        }
        self.grant_classes(&changed_classes.born, rulesets, &changed_rulesets, delta);
        // Each of both halves is sorted.
        delta.granted.sort();
        delta.revoked.sort();

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
    pub(super) fn snapshot(&self, rulesets: &Contents<Ruleset>, delta: &mut Delta) {
        for (id, ruleset) in rulesets.iter() {
            let rows = self.rows(ruleset).into_iter();
            delta.granted.extend(rows.map(|(class, set)| ((id, class), set)));
        }
        let sets = self.port_sets.iter();
        delta.port_sets = sets.map(|(id, ports)| (id, Some(ports.clone()))).collect();
    }

    fn grant_ruleset(&mut self, id: RulesetId, ruleset: &Ruleset, delta: &mut Delta) {
        let Rows {
            anyone,
            others,
            counts,
        } = self.decide(ruleset);
        counts
            .iter()
            .for_each(|(set, rows)| self.port_sets.hold_by(*set, *rows));
        let rows = anyone.map(|set| (ANYONE, set)).into_iter().chain(others);
        delta.granted.extend(rows.map(|(class, set)| ((id, class), set)));
    }

    fn revoke_ruleset(&mut self, (id, ruleset): &(RulesetId, Arc<Ruleset>), delta: &mut Delta) {
        let Rows {
            anyone,
            others,
            counts,
        } = self.decide(ruleset);
        counts
            .iter()
            .for_each(|(set, rows)| self.port_sets.release_by(*set, *rows));
        let classes = anyone.map(|_| ANYONE).into_iter();
        let classes = classes.chain(others.into_iter().map(|(class, _)| class));
        delta.revoked.extend(classes.map(|class| (*id, class)));
    }

    fn decide(&mut self, ruleset: &Ruleset) -> Rows {
        let met = self.meetings.classes_met(ruleset);
        let sets = &mut self.port_sets;
        decide(
            ruleset,
            met,
            |id| self.meetings.names.get(id),
            |ports| sets.intern(ports),
        )
    }

    /// Decides between new classes and the rulesets that have not met them.
    fn grant_classes(
        &mut self,
        born: &[(ClassId, Arc<Class>)],
        rulesets: &Contents<Ruleset>,
        changed: &Settled<Ruleset>,
        delta: &mut Delta,
    ) {
        if changed.born.len() == rulesets.len() {
            return;
        }
        let fresh = |id: RulesetId| changed.born.binary_search_by_key(&id, |(id, _)| *id).is_ok();
        let first = delta.granted.len();
        let mut known = BTreeMap::new();
        for (id, class) in born {
            for (ruleset, set) in self.met_by((class, rulesets), |id| !fresh(id), &mut known) {
                self.port_sets.hold(set);
                delta.granted.push(((ruleset, *id), set));
            }
        }
        delta.granted[first..].sort_unstable();
    }

    /// Undoes what was decided between classes that are no more and the rulesets that stay.
    fn revoke_classes(
        &mut self,
        gone: &[(ClassId, Arc<Class>)],
        rulesets: &Contents<Ruleset>,
        changed: &Settled<Ruleset>,
        delta: &mut Delta,
    ) {
        // A new ruleset has met nobody yet.
        let fresh = |id: RulesetId| changed.born.binary_search_by_key(&id, |(id, _)| *id).is_ok();
        let first = delta.revoked.len();
        let mut known = BTreeMap::new();
        for (id, class) in gone {
            for (ruleset, set) in self.met_by((class, rulesets), |id| !fresh(id), &mut known) {
                self.port_sets.release(set);
                delta.revoked.push((ruleset, *id));
            }
        }
        delta.revoked[first..].sort_unstable();
    }

    /// What such rulesets open to a class beyond what they open to anyone.
    fn met_by(
        &mut self,
        (class, rulesets): (&Class, &Contents<Ruleset>),
        of: impl Fn(RulesetId) -> bool,
        known: &mut BTreeMap<Ground, Option<PortSetId>>,
    ) -> Vec<(RulesetId, PortSetId)> {
        let names = self.meetings.names.id(&class.named_ports);
        let met = self.meetings.rules_met(class, of);
        let mut found = Vec::new();
        for rules in met.chunk_by(|(a, _), (b, _)| a == b) {
            let Some(id) = rules.first().map(|(id, _)| *id) else {
                continue;
            };
            let rules: Vec<u32> = rules.iter().map(|(_, rule)| *rule).collect();
            let set = known
                .entry((id, rules, names))
                .or_insert_with_key(|(_, rules, _)| {
                    let ruleset = rulesets.get(id)?;
                    let anyone = ruleset.ports_for_anyone();
                    let ports = ruleset.ports_for(&class.named_ports, rules, &anyone);
                    (ports != anyone).then(|| self.port_sets.intern(&ports))
                });
            found.extend(set.map(|set| (id, set)));
        }
        found
    }
}
