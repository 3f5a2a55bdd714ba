//! Where the maps may hold something else than they shall, and since which epoch. All else is as it shall be, on both sides.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::decisions::{Decisions, Pair, Row};
use super::ids::Epoch;
use super::state::State;
use super::tables::{Service, Tables};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pending {
    pub addresses: BTreeMap<IpAddr, Epoch>,
    pub prefixes: BTreeMap<IpNet, Epoch>,
    pub decisions: Moves,
    pub port_sets: BTreeMap<u32, Epoch>,
    pub services: BTreeMap<Service, Epoch>,
}

impl Pending {
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
            && self.prefixes.is_empty()
            && self.decisions.is_empty()
            && self.port_sets.is_empty()
            && self.services.is_empty()
    }

    /// Everything that is in either; decisions shall be those that came.
    pub(super) fn all(state: &State, tables: &Tables, mut decisions: Moves, epoch: Epoch) -> Self {
        let addresses = state.addresses.keys().chain(tables.addresses.keys());
        let prefixes = state.prefixes.keys().chain(tables.prefixes.keys());
        let port_sets = state.port_sets.keys().chain(tables.port_sets.keys());
        let services = state.services.iter().chain(&tables.services);
        decisions.drop_all_others(&state.decisions, epoch);
        Self {
            addresses: addresses.map(|key| (*key, epoch)).collect(),
            prefixes: prefixes.map(|key| (*key, epoch)).collect(),
            decisions,
            port_sets: port_sets.map(|key| (*key, epoch)).collect(),
            services: services.map(|key| (*key, epoch)).collect(),
        }
    }

    /// Forgets what is of that epoch or before; of addresses and prefixes only if `sides` are equal now.
    pub(super) fn forget(&mut self, epoch: Epoch, sides: bool) {
        let stays = |since: &Epoch| *since > epoch;
        if sides {
            self.addresses.retain(|_, since| stays(since));
            self.prefixes.retain(|_, since| stays(since));
        }
        self.decisions.forget(epoch);
        self.port_sets.retain(|_, since| stays(since));
        self.services.retain(|_, since| stays(since));
    }
}

/// Decisions that come and that go. No row is ever both, nor changes: each stands for a pair of contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moves {
    /// By ruleset those that shall be in the map, sorted by class; in force they are no more here.
    come: BTreeMap<u32, Vec<Row>>,
    /// Rulesets that shall have no rows, since when.
    rulesets: BTreeMap<u32, Epoch>,
    /// By ruleset the classes for which it shall have no row, since when.
    classes: BTreeMap<u32, BTreeMap<u32, Epoch>>,
}

impl Moves {
    pub fn is_empty(&self) -> bool {
        self.come.is_empty() && self.rulesets.is_empty() && self.classes.is_empty()
    }

    /// By ruleset the rows that shall be there, sorted by class.
    pub fn come(&self) -> impl Iterator<Item = (u32, &[Row])> {
        self.come
            .iter()
            .map(|(ruleset, rows)| (*ruleset, rows.as_slice()))
    }

    /// Rows that shall be there, sorted by class.
    pub(super) fn bring(&mut self, ruleset: u32, rows: Vec<Row>) {
        if rows.is_empty() {
            return;
        }
        let there = self.come.entry(ruleset).or_default();
        if there.is_empty() {
            *there = rows;
        } else {
            there.extend(rows);
            there.sort_by_key(|(class, _)| *class);
        }
    }

    /// A row that shall not be there any more.
    pub(super) fn drop_one(&mut self, (ruleset, class): Pair, epoch: Epoch) {
        if let Some(rows) = self.come.get_mut(&ruleset) {
            if let Ok(at) = rows.binary_search_by_key(&class, |(class, _)| *class) {
                rows.remove(at);
            }
            if rows.is_empty() {
                self.come.remove(&ruleset);
            }
        }
        self.classes.entry(ruleset).or_default().insert(class, epoch);
    }

    /// A ruleset that shall have no rows any more.
    pub(super) fn drop_ruleset(&mut self, ruleset: u32, epoch: Epoch) {
        self.come.remove(&ruleset);
        self.classes.remove(&ruleset);
        self.rulesets.insert(ruleset, epoch);
    }

    /// What is there and did not come shall not be there.
    fn drop_all_others(&mut self, there: &Decisions, epoch: Epoch) {
        for (ruleset, rows) in there.rulesets() {
            let Some(come) = self.come.get(&ruleset) else {
                self.rulesets.insert(ruleset, epoch);
                continue;
            };
            let others = rows
                .iter()
                .filter(|(class, _)| come.binary_search_by_key(class, |(class, _)| *class).is_err());
            let others: BTreeMap<u32, Epoch> = others.map(|(class, _)| (*class, epoch)).collect();
            if !others.is_empty() {
                self.classes.insert(ruleset, others);
            }
        }
    }

    /// How many rows of those that are there shall not be.
    pub fn going(&self, there: &Decisions) -> usize {
        let of_rulesets = self.rulesets.keys().map(|ruleset| there.of(*ruleset).len());
        let of_classes = self.classes.iter().flat_map(|(ruleset, classes)| {
            let pairs = classes.keys().map(|class| (*ruleset, *class));
            pairs.filter(|pair| there.contains_key(pair))
        });
        of_rulesets.sum::<usize>() + of_classes.count()
    }

    /// The rulesets that shall have had no rows since that epoch or before, with those that there are.
    pub fn rulesets_due<'a>(
        &'a self,
        there: &'a Decisions,
        epoch: Epoch,
    ) -> impl Iterator<Item = (u32, &'a [Row])> {
        let due = self.rulesets.iter().filter(move |(_, since)| **since <= epoch);
        let due = due.map(|(ruleset, _)| (*ruleset, there.of(*ruleset)));
        due.filter(|(_, rows)| !rows.is_empty())
    }

    /// The rows that are there and shall not have been since that epoch or before, but for those of such rulesets.
    pub fn pairs_due<'a>(&'a self, there: &'a Decisions, epoch: Epoch) -> impl Iterator<Item = Pair> + 'a {
        let due = self.classes.iter().flat_map(move |(ruleset, classes)| {
            let due = classes.iter().filter(move |(_, since)| **since <= epoch);
            due.map(|(class, _)| (*ruleset, *class))
        });
        due.filter(|pair| there.contains_key(pair))
    }

    /// The rows that are there and shall not be.
    pub(super) fn held<'a>(&'a self, there: &'a Decisions) -> impl Iterator<Item = (Pair, u32)> + 'a {
        let whole = self.rulesets.keys().flat_map(|ruleset| {
            let rows = there.of(*ruleset).iter();
            rows.map(|(class, set)| ((*ruleset, *class), *set))
        });
        let of_classes = self.classes.iter().flat_map(|(ruleset, classes)| {
            let pairs = classes.keys().map(|class| (*ruleset, *class));
            pairs.filter_map(|pair| Some((pair, *there.get(&pair)?)))
        });
        whole.chain(of_classes)
    }

    /// All that came is there.
    pub(super) fn arrived(&mut self) {
        self.come.clear();
    }

    fn forget(&mut self, epoch: Epoch) {
        self.rulesets.retain(|_, since| *since > epoch);
        self.classes.retain(|_, classes| {
            classes.retain(|_, since| *since > epoch);
            !classes.is_empty()
        });
    }
}
