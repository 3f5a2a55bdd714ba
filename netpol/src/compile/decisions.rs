//! The decisions of a node's rules, as a table.

use std::collections::BTreeMap;

use super::{ClassIx, RulesetIx};
use crate::port::PortSet;

/// Which ports rulesets open to classes. A large node has half a million of these entries, so a row knows its ports by their number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decisions {
    /// By ruleset; each sorted by class.
    rows: Vec<Vec<(ClassIx, u32)>>,
    /// Every set of ports that a row refers to, sorted.
    sets: Vec<PortSet>,
}

impl Decisions {
    /// By ruleset its rows, sorted; and every set of ports that they refer to, with the number by which they do.
    pub(super) fn new(mut rows: Vec<Vec<(ClassIx, u32)>>, sets: BTreeMap<PortSet, u32>) -> Self {
        let canonical: BTreeMap<u32, u32> = sets.values().copied().zip(0..).collect();
        for (_, set) in rows.iter_mut().flatten() {
            *set = canonical.get(set).copied().unwrap_or(u32::MAX);
        }
        let sets = sets.into_keys().collect();
        Self { rows, sets }
    }

    pub fn get(&self, (ruleset, class): &(RulesetIx, ClassIx)) -> Option<&PortSet> {
        let rows = self.rows.get(*ruleset as usize)?;
        let at = rows.binary_search_by_key(class, |(class, _)| *class).ok()?;
        self.set(rows.get(at)?.1)
    }

    /// All of them, sorted.
    pub fn iter(&self) -> impl Iterator<Item = ((RulesetIx, ClassIx), &PortSet)> {
        let rows = self.rows.iter().zip(0..);
        let all =
            rows.flat_map(|(rows, ruleset)| rows.iter().map(move |(class, set)| (ruleset, *class, *set)));
        all.filter_map(|(ruleset, class, set)| Some(((ruleset, class), self.set(set)?)))
    }

    pub fn len(&self) -> usize {
        self.rows.iter().map(Vec::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.iter().all(Vec::is_empty)
    }

    fn set(&self, number: u32) -> Option<&PortSet> {
        self.sets.get(number as usize)
    }
}

impl FromIterator<((RulesetIx, ClassIx), PortSet)> for Decisions {
    fn from_iter<I: IntoIterator<Item = ((RulesetIx, ClassIx), PortSet)>>(decisions: I) -> Self {
        let (mut rows, mut sets) = (Vec::<Vec<(ClassIx, u32)>>::new(), BTreeMap::new());
        for ((ruleset, class), ports) in decisions {
            let next = sets.len() as u32;
            let set = *sets.entry(ports).or_insert(next);
            if rows.len() <= ruleset as usize {
                rows.resize(ruleset as usize + 1, Vec::new());
            }
            if let Some(rows) = rows.get_mut(ruleset as usize) {
                rows.push((class, set));
            }
        }
        rows.iter_mut().for_each(|rows| rows.sort_unstable());
        Self::new(rows, sets)
    }
}
