//! Which ports a ruleset opens to each class.
//!
//! That depends on which of its rules name a peer of the class, and on the class's named ports; of either there are few kinds among
//! ever so many classes. So it is worked out once for each kind, and a row costs no more than to find its kind.

use std::collections::BTreeMap;

use super::names::{NamedPort, NamesId};
use super::{OpenRule, PeerIx, Ruleset};
use crate::port::{PortRange, PortSet};

/// A class that a rule concerns: the class, its named ports, the place of the rule in the ruleset.
pub(super) type Met = (u32, NamesId, u32);

/// The decisions of a ruleset, with sets of ports by number.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// What is open to anyone, if anything is.
    pub(super) anyone: Option<u32>,
    /// What is open to a class, where that is not what is open to anyone; sorted.
    pub(super) others: Vec<(u32, u32)>,
}

/// Decides for the classes that were met, in any order. `number` gives a set of ports its number.
pub(super) fn decide<'a>(
    ruleset: &Ruleset,
    mut met: Vec<Met>,
    named: impl Fn(NamesId) -> &'a [NamedPort],
    mut number: impl FnMut(&PortSet) -> u32,
) -> Rows {
    let anyone = ruleset.ports_for_anyone();
    let mut rows = Rows::default();
    if !anyone.is_empty() {
        rows.anyone = Some(number(&anyone));
    }
    // Each peer's classes came sorted, so that a sort which merges runs has little to do.
    met.sort();
    met.dedup();
    let mut kinds = Kinds::default();
    let mut rules: Vec<u32> = Vec::new();
    rows.others.reserve_exact(met.len());
    for of_class in met.chunk_by(|(a, ..), (b, ..)| a == b) {
        let Some((class, names, _)) = of_class.first().copied() else {
            continue;
        };
        rules.clear();
        rules.extend(of_class.iter().map(|(_, _, rule)| *rule));
        let decided = kinds.of(&rules, names).get_or_insert_with(|| {
            let ports = ruleset.ports_for(named(names), &rules, &anyone);
            (ports != anyone).then(|| number(&ports))
        });
        rows.others.extend(decided.map(|set| (class, set)));
    }
    rows
}

/// A set of ports by number; nothing, if it is what is open to anyone.
type Decided = Option<u32>;

/// What was decided for each kind of class.
#[derive(Debug, Default)]
struct Kinds {
    /// By the rules, the place of what was decided for each named ports.
    places: BTreeMap<Vec<u32>, usize>,
    decided: Vec<Vec<Option<Decided>>>,
    /// The rules that were asked for last; mostly they are asked for again.
    last: Option<(Vec<u32>, usize)>,
}

impl Kinds {
    fn of(&mut self, rules: &[u32], names: NamesId) -> &mut Option<Decided> {
        let place = match &self.last {
            Some((last, place)) if last == rules => *place,
            _ => {
                let place = self.places.get(rules).copied().unwrap_or_else(|| {
                    self.decided.push(Vec::new());
                    let place = self.decided.len() - 1;
                    self.places.insert(rules.to_vec(), place);
                    place
                });
                self.last = Some((rules.to_vec(), place));
                place
            }
        };
        let decided = &mut self.decided[place];
        let names = names as usize;
        if decided.len() <= names {
            decided.resize(names + 1, None);
        }
        &mut decided[names]
    }
}

/// The peers that rules name, with the place of the rule; no peer where a rule opens ports by name to anyone.
pub(super) fn named_by(ruleset: &Ruleset) -> impl Iterator<Item = (Option<PeerIx>, u32)> + '_ {
    ruleset.rules.iter().zip(0..).flat_map(|(rule, place)| {
        let peers = rule.peers.iter().flatten().map(move |peer| (Some(*peer), place));
        let by_name = rule.peers.is_none() && !rule.named_ports.is_empty();
        peers.chain(by_name.then_some((None, place)))
    })
}

impl Ruleset {
    /// What it opens to whoever comes.
    pub(super) fn ports_for_anyone(&self) -> PortSet {
        let to_anyone = self.rules.iter().filter(|rule| rule.peers.is_none());
        to_anyone.fold(PortSet::empty(), |ports, rule| ports.union(&rule.ports))
    }

    /// What it opens to a class that these rules concern, of which `anyone` is open to anyone.
    pub(super) fn ports_for(&self, named: &[NamedPort], rules: &[u32], anyone: &PortSet) -> PortSet {
        let rules = rules.iter().filter_map(|rule| self.rules.get(*rule as usize));
        rules.fold(anyone.clone(), |ports, rule| ports.union(&rule.ports_for(named)))
    }
}

impl OpenRule {
    /// What it opens to a class that is among its peers and has these ports by name.
    fn ports_for(&self, named: &[NamedPort]) -> PortSet {
        if self.named_ports.is_empty() {
            return self.ports.clone();
        }
        let resolved = named
            .iter()
            .filter(|(protocol, name, _)| self.named_ports.iter().any(|(p, n)| p == protocol && n == name))
            .map(|(protocol, _, number)| PortRange::single(*protocol, *number));
        self.ports.union(&resolved.collect())
    }
}
