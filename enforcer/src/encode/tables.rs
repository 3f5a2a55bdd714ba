//! What the maps shall hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use ringfence_netpol::compile::Delta;
use ringfence_netpol::compile::delta::{ANYONE, ClassId, PODS, PortSetId, RulesetId};
use ringfence_netpol::port::{PortSet, Protocol};

use super::Overflow;
use super::decisions::Row;
use super::ids::{Epoch, Ids};
use super::pending::Pending;
use super::state::State;

/// What stands for "not isolated" in an endpoint.
pub const OPEN: u32 = 0;
/// The port set that holds everything, also protocols without ports.
pub const EVERYTHING: u32 = 0;
/// How many rulesets there can be: as many as an endpoint's word can name, but two that are never a pod's (datapath/maps.rs).
pub const RULESETS: u32 = (1 << 20) - 2;
/// How many port sets there are.
pub const PORT_SETS: u32 = 16_384;
/// Above every class: stands for "no entry".
pub const CLASSES: u32 = u32::MAX - 1;

/// The address and port of a Service.
pub type Service = (IpAddr, Protocol, u16);

/// What the maps shall hold, by identifiers that stand for contents; but for the decisions. Of those there are so many that they are
/// kept once: those that are in the maps, and where they shall be others ([`Moves`](super::pending::Moves)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    pub addresses: BTreeMap<IpAddr, u32>,
    pub prefixes: BTreeMap<IpNet, u32>,
    pub port_sets: BTreeMap<u32, PortSet>,
    pub services: BTreeSet<Service>,
}

/// Keeps the tables as the compiler's rules change, and numbers their contents.
#[derive(Debug)]
pub struct Encoder {
    classes: Ids,
    rulesets: Ids,
    port_sets: Ids,
    /// What the compiler calls the set of everything.
    everything: Option<PortSetId>,
    pub tables: Tables,
    pub pending: Pending,
    /// That of what is taken now.
    epoch: Epoch,
    news: bool,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            classes: Ids::new("the table of classes", PODS + 1, CLASSES),
            rulesets: Ids::new("the table of rulesets", OPEN + 1, RULESETS),
            port_sets: Ids::new("the table of port sets", EVERYTHING + 1, PORT_SETS),
            everything: None,
            tables: Tables::default(),
            pending: Pending::default(),
            epoch: 0,
            news: false,
        }
    }
}

impl Encoder {
    /// Takes what changed.
    ///
    /// # Errors
    /// If there is no identifier left. The tables are then of no use until [`Self::replace`].
    pub fn take(&mut self, delta: &Delta) -> Result<(), Overflow> {
        let epoch = self.epoch;
        self.news |= !delta.is_empty();
        for key in &delta.revoked {
            if let Some(pair) = self.pair(*key) {
                self.pending.decisions.drop_one(pair, epoch);
            }
        }
        for name in &delta.rulesets_gone {
            if let Some(ruleset) = self.rulesets.get(*name) {
                self.pending.decisions.drop_ruleset(ruleset, epoch);
            }
        }
        for (name, set) in &delta.port_sets {
            match set {
                Some(PortSet::All) => self.everything = Some(*name),
                Some(ports) => {
                    let id = self.port_sets.number(*name)?;
                    self.tables.port_sets.insert(id, ports.clone());
                    self.pending.port_sets.insert(id, epoch);
                }
                None if self.everything == Some(*name) => self.everything = None,
                None => {
                    if let Some(id) = self.port_sets.get(*name) {
                        self.tables.port_sets.remove(&id);
                        self.pending.port_sets.insert(id, epoch);
                    }
                    self.port_sets.retire(*name, epoch);
                }
            }
        }
        for (address, class) in &delta.addresses {
            match class {
                Some(class) => {
                    let class = self.class(*class)?;
                    self.tables.addresses.insert(*address, class);
                }
                None => drop(self.tables.addresses.remove(address)),
            }
            self.pending.addresses.insert(*address, epoch);
        }
        for (prefix, class) in &delta.prefixes {
            match class {
                Some(class) => {
                    let class = self.class(*class)?;
                    self.tables.prefixes.insert(*prefix, class);
                }
                None => drop(self.tables.prefixes.remove(prefix)),
            }
            self.pending.prefixes.insert(*prefix, epoch);
        }
        for endpoint in delta.endpoints.values().flatten() {
            for name in [endpoint.ingress, endpoint.egress].into_iter().flatten() {
                self.rulesets.number(name)?;
            }
        }
        for of_ruleset in delta.granted.chunk_by(|((a, _), _), ((b, _), _)| a == b) {
            let Some(((ruleset, _), _)) = of_ruleset.first() else {
                continue;
            };
            let ruleset = self.rulesets.number(*ruleset)?;
            let mut rows: Vec<Row> = Vec::with_capacity(of_ruleset.len());
            // Most rows open what the one before them opens.
            let mut last = None;
            for ((_, class), name) in of_ruleset {
                let set = match last {
                    Some((same, set)) if same == *name => set,
                    _ if self.everything == Some(*name) => EVERYTHING,
                    _ => self.port_sets.number(*name)?,
                };
                last = Some((*name, set));
                rows.push((self.class(*class)?, set));
            }
            rows.sort_unstable();
            self.pending.decisions.bring(ruleset, rows);
        }
        for (service, there) in &delta.services {
            match there {
                true => drop(self.tables.services.insert(*service)),
                false => drop(self.tables.services.remove(service)),
            }
            self.pending.services.insert(*service, epoch);
        }
        for name in &delta.rulesets_gone {
            self.rulesets.retire(*name, epoch);
        }
        for name in &delta.classes_gone {
            self.classes.retire(*name, epoch);
        }
        Ok(())
    }

    /// Takes all of the rules, told as the difference from none, of which what the maps hold may be any.
    ///
    /// # Errors
    /// If there is no identifier left.
    pub fn replace(&mut self, rules: &Delta, state: &State) -> Result<(), Overflow> {
        let endpoints = rules.endpoints.values().flatten();
        let rulesets = endpoints.flat_map(|endpoint| [endpoint.ingress, endpoint.egress]);
        self.rulesets.retain(&rulesets.flatten().collect(), self.epoch);
        let classes = rules.addresses.values().chain(rules.prefixes.values());
        self.classes
            .retain(&classes.flatten().copied().collect(), self.epoch);
        self.port_sets
            .retain(&rules.port_sets.keys().copied().collect(), self.epoch);
        self.everything = None;
        self.tables = Tables::default();
        self.pending = Pending::default();
        let taken = self.take(rules);
        self.news = true;
        let decisions = std::mem::take(&mut self.pending.decisions);
        // Also if not all could be numbered: what is in the maps stays pending, and so its identifiers are not given out again.
        self.pending = Pending::all(state, &self.tables, decisions, self.epoch);
        taken
    }

    /// Takes note of what the maps were found to hold. What they shall hold is to be told anew, by [`Self::replace`].
    pub fn reserve(&mut self, state: &State) {
        self.classes.reserve(state.classes(), self.epoch);
        self.rulesets.reserve(state.rulesets(), self.epoch);
        self.port_sets
            .reserve(state.decisions.values().copied(), self.epoch);
    }

    /// Takes note that what was taken so far is in force now; its epoch.
    pub fn turn(&mut self) -> Epoch {
        self.pending.decisions.arrived();
        let epoch = self.epoch;
        self.epoch += 1;
        self.news = false;
        epoch
    }

    /// Whether anything was taken that is not in force yet.
    pub fn is_news(&self) -> bool {
        self.news
    }

    /// Takes note that the maps, which hold this now, were swept of all that is of that epoch or before; of addresses and prefixes only
    /// if `sides` are equal now.
    pub fn swept(&mut self, epoch: Epoch, sides: bool, state: &mut State) {
        let sets = self.pending.port_sets.iter();
        for (id, _) in sets.filter(|(id, since)| **since <= epoch && !self.tables.port_sets.contains_key(id))
        {
            state.port_sets.remove(id);
        }
        self.pending.forget(epoch, sides);
        self.free(epoch, state);
    }

    /// Frees the identifiers that were retired in that epoch or before, unless what is still pending refers to them.
    fn free(&mut self, epoch: Epoch, state: &State) {
        let addresses = self.pending.addresses.keys();
        let addresses = addresses.filter_map(|address| state.addresses.get(address));
        let prefixes = self.pending.prefixes.keys();
        let prefixes = prefixes.filter_map(|prefix| state.prefixes.get(prefix));
        let decisions = || self.pending.decisions.held(&state.decisions);
        let classes = addresses.chain(prefixes).flatten().copied();
        self.classes
            .free(epoch, classes.chain(decisions().map(|((_, class), _)| class)));
        let words = state.words.values().flat_map(|word| [word.ingress, word.egress]);
        self.rulesets
            .free(epoch, words.chain(decisions().map(|((ruleset, _), _)| ruleset)));
        self.port_sets.free(epoch, decisions().map(|(_, set)| set));
    }

    /// The identifier of a ruleset.
    pub fn ruleset(&self, name: Option<RulesetId>) -> Option<u32> {
        match name {
            None => Some(OPEN),
            Some(name) => self.rulesets.get(name),
        }
    }

    fn class(&mut self, name: ClassId) -> Result<u32, Overflow> {
        match name {
            plain @ (ANYONE | PODS) => Ok(plain),
            name => self.classes.number(name),
        }
    }

    fn pair(&self, (ruleset, class): (RulesetId, ClassId)) -> Option<(u32, u32)> {
        let class = match class {
            ANYONE | PODS => class,
            name => self.classes.get(name)?,
        };
        Some((self.rulesets.get(ruleset)?, class))
    }

    /// The row of a decision.
    #[cfg(test)]
    pub fn row(&self, pair: (RulesetId, ClassId), set: PortSetId) -> Option<((u32, u32), u32)> {
        let set = match self.everything {
            Some(everything) if everything == set => EVERYTHING,
            _ => self.port_sets.get(set)?,
        };
        Some((self.pair(pair)?, set))
    }
}
