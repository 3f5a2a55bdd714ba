//! Which ports each ruleset opens to each class, kept as rulesets and classes come and go.
//!
//! There may be half a million such decisions, and none of them is stored here: which there are of a ruleset or a class follows
//! from whom it meets, so it is worked out once when it comes to be told, and once more when it goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Ruleset;
use super::contents::{Contents, Settled};
use super::decide::{Rows, decide};
use super::delta::{ANYONE, ClassId, Delta, PODS, PortSetId, RulesetId};
use super::fallback::{Fallback, Fallbacks, Opened, most};
use super::meetings::Meetings;
use super::names::{Names, NamesId};
use super::places::Amended;
use super::signature::Signature;
use super::spread::IdMap;
use crate::port::PortSet;

#[derive(Debug)]
pub(super) struct Grants {
    meetings: Meetings,
    port_sets: Contents<PortSet>,
    /// How many decisions each ruleset has with each set of ports.
    counts: IdMap<BTreeMap<PortSetId, usize>>,
    fallbacks: Fallbacks,
}

impl Default for Grants {
    fn default() -> Self {
        Self {
            meetings: Meetings::default(),
            port_sets: Contents::new(0),
            counts: IdMap::default(),
            fallbacks: Fallbacks::default(),
        }
    }
}

/// What decides on the ports that a ruleset opens to a class: the ruleset, those of its rules that concern the class, its named ports.
type Ground = (RulesetId, Vec<u32>, NamesId);

impl Grants {
    /// What a ruleset opens to anyone, that first, and to each class to which it opens something else; sorted.
    pub(super) fn opened(&self, ruleset: &Ruleset) -> Opened {
        let Rows { anyone, others } = self.look_up(ruleset);
        let anyone = anyone.map(|set| (ANYONE, set)).into_iter();
        anyone.chain(others).collect()
    }

    fn look_up(&self, ruleset: &Ruleset) -> Rows {
        let met = self.meetings.classes_met(ruleset);
        let number = |ports: &PortSet| self.port_sets.id(ports).unwrap_or_default();
        decide(ruleset, met, |id| self.meetings.names.get(id), number)
    }

    /// The decisions of a ruleset; sorted.
    fn decisions(&self, Rows { anyone, others }: Rows, fallback: Option<Fallback>) -> Opened {
        let pods = fallback.map(|fallback| fallback.pods).or(anyone);
        let plain = anyone.map(|set| (ANYONE, set)).into_iter();
        let plain = plain.chain(pods.map(|set| (PODS, set)));
        let others = match fallback {
            Some(fallback) => fallback.decisions(others, self.meetings.pods()),
            None => others,
        };
        plain.chain(others).collect()
    }

    pub(super) fn names(&self) -> &Names {
        &self.meetings.names
    }

    pub(super) fn names_mut(&mut self) -> &mut Names {
        &mut self.meetings.names
    }

    pub(super) fn port_sets(&self) -> impl Iterator<Item = (PortSetId, &PortSet)> {
        self.port_sets.iter()
    }

    /// Follows what became of rulesets and classes. Nothing was decided for a class because of a peer by which it is amended.
    pub(super) fn settle(
        &mut self,
        (rulesets, classes): (&mut Contents<Ruleset>, &mut Contents<Signature>),
        amended: &Amended,
        delta: &mut Delta,
    ) {
        let (changed_rulesets, changed_classes) = (rulesets.settle(), classes.settle());
        // What goes meets whom it met when it was decided for, so it goes before anything else changes.
        for (id, ruleset) in &changed_rulesets.gone {
            for (set, rows) in self.counts.remove(id).unwrap_or_default() {
                self.port_sets.release_by(set, rows);
            }
            if let Some(fallback) = self.fallbacks.remove(*id) {
                self.port_sets.release(fallback.anyone);
            }
            self.meetings.leave_ruleset(*id, ruleset);
        }
        self.revoke_classes(&changed_classes.gone, rulesets, &changed_rulesets, delta);
        self.meetings.leave_classes(&changed_classes.gone);
        self.meetings.amend(amended, classes);
        self.meetings.enter(&changed_rulesets, &changed_classes);
        for (id, ruleset) in &changed_rulesets.born {
            self.grant_ruleset(*id, ruleset, delta);
        }
        self.grant_classes(&changed_classes.born, rulesets, &changed_rulesets, delta);
        self.meetings.names.settle();
        // Each of both halves is sorted.
        delta.granted.sort();

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
            let rows = self.decisions(self.look_up(ruleset), self.fallbacks.get(id));
            let rows = rows.into_iter();
            delta.granted.extend(rows.map(|(class, set)| ((id, class), set)));
        }
        let sets = self.port_sets.iter();
        delta.port_sets = sets.map(|(id, ports)| (id, Some(ports.clone()))).collect();
    }

    fn grant_ruleset(&mut self, id: RulesetId, ruleset: &Ruleset, delta: &mut Delta) {
        let met = self.meetings.classes_met(ruleset);
        let sets = &mut self.port_sets;
        let names = |id| self.meetings.names.get(id);
        let rows = decide(ruleset, met, names, |ports| sets.intern(ports));
        let fallback = most(&rows.others, self.meetings.pods()).map(|pods| {
            let anyone = rows.anyone.unwrap_or_else(|| sets.intern(&PortSet::empty()));
            // There may be no decision that says so yet.
            sets.hold(anyone);
            Fallback { pods, anyone }
        });
        if let Some(fallback) = fallback {
            self.fallbacks.insert(id, fallback);
        }
        let decisions = self.decisions(rows, fallback);
        let mut counts: BTreeMap<PortSetId, usize> = BTreeMap::new();
        for alike in decisions.chunk_by(|(_, a), (_, b)| a == b) {
            if let Some((_, set)) = alike.first() {
                *counts.entry(*set).or_default() += alike.len();
            }
        }
        for (set, rows) in &counts {
            self.port_sets.hold_by(*set, *rows);
        }
        self.counts.insert(id, counts);
        let decisions = decisions.into_iter();
        delta
            .granted
            .extend(decisions.map(|(class, set)| ((id, class), set)));
    }

    /// Takes note of one decision more.
    fn hold(&mut self, ruleset: RulesetId, set: PortSetId) {
        self.port_sets.hold(set);
        let of_ruleset = self.counts.entry(ruleset).or_default();
        *of_ruleset.entry(set).or_default() += 1;
    }

    /// Takes note of one decision less.
    fn release(&mut self, ruleset: RulesetId, set: PortSetId) {
        self.port_sets.release(set);
        let of_ruleset = self.counts.entry(ruleset).or_default();
        if let Some(rows) = of_ruleset.get_mut(&set) {
            *rows -= 1;
            if *rows == 0 {
                of_ruleset.remove(&set);
            }
        }
    }

    /// Decides between new classes and the rulesets that have not met them.
    fn grant_classes(
        &mut self,
        born: &[(ClassId, Arc<Signature>)],
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
                self.hold(ruleset, set);
                delta.granted.push(((ruleset, *id), set));
            }
        }
        delta.granted[first..].sort_unstable();
    }

    /// Undoes what was decided between classes that are no more and the rulesets that stay.
    fn revoke_classes(
        &mut self,
        gone: &[(ClassId, Arc<Signature>)],
        rulesets: &Contents<Ruleset>,
        changed: &Settled<Ruleset>,
        delta: &mut Delta,
    ) {
        // A new ruleset has met nobody yet.
        let fresh = |id: RulesetId| changed.born.binary_search_by_key(&id, |(id, _)| *id).is_ok();
        let mut known = BTreeMap::new();
        for (id, class) in gone {
            for (ruleset, set) in self.met_by((class, rulesets), |id| !fresh(id), &mut known) {
                self.release(ruleset, set);
                delta.revoked.push((ruleset, *id));
            }
        }
        delta.revoked.sort_unstable();
    }

    /// The decisions of such rulesets for a class; sorted.
    fn met_by(
        &mut self,
        (class, rulesets): (&Signature, &Contents<Ruleset>),
        of: impl Fn(RulesetId) -> bool,
        known: &mut BTreeMap<Ground, Option<PortSetId>>,
    ) -> Vec<(RulesetId, PortSetId)> {
        let names = class.names;
        let met = self.meetings.rules_met(class, &of);
        let mut found = Vec::new();
        for rules in met.chunk_by(|(a, _), (b, _)| a == b) {
            let Some(id) = rules.first().map(|(id, _)| *id) else {
                continue;
            };
            let rules: Vec<u32> = rules.iter().map(|(_, rule)| *rule).collect();
            let set = known
                .entry((id, rules, names))
                .or_insert_with_key(|(_, rules, names)| {
                    let ruleset = rulesets.get(id)?;
                    let anyone = ruleset.ports_for_anyone();
                    let ports = ruleset.ports_for(self.meetings.names.get(*names), rules, &anyone);
                    (ports != anyone).then(|| self.port_sets.intern(&ports))
                });
            found.extend(set.map(|set| (id, set)));
        }
        match class.pod {
            true => self.fallbacks.decisions(found, of),
            false => found,
        }
    }
}
