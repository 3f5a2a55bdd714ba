//! What the maps shall hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use ringfence_netpol::compile::Delta;
use ringfence_netpol::compile::delta::{ANYONE, ClassId, PortSetId, RulesetId};
use ringfence_netpol::port::{PortSet, Protocol};

use super::Overflow;
use super::decisions::{Decisions, Pair};
use super::ids::{Epoch, Ids};
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

/// What the maps shall hold, by identifiers that stand for contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    pub addresses: BTreeMap<IpAddr, u32>,
    pub prefixes: BTreeMap<IpNet, u32>,
    pub decisions: Decisions,
    pub port_sets: BTreeMap<u32, PortSet>,
    pub services: BTreeSet<Service>,
}

/// Where the maps may hold something else than they shall, and since which epoch. All else is as it shall be, on both sides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pending {
    pub addresses: BTreeMap<IpAddr, Epoch>,
    pub prefixes: BTreeMap<IpNet, Epoch>,
    pub decisions: BTreeMap<Pair, Epoch>,
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

    /// Everything that is in either.
    pub fn all(state: &State, tables: &Tables, epoch: Epoch) -> Self {
        let addresses = state.addresses.keys().chain(tables.addresses.keys());
        let prefixes = state.prefixes.keys().chain(tables.prefixes.keys());
        let decisions = state.decisions.keys().chain(tables.decisions.keys());
        let port_sets = state.port_sets.keys().chain(tables.port_sets.keys());
        let services = state.services.iter().chain(&tables.services);
        Self {
            addresses: addresses.map(|key| (*key, epoch)).collect(),
            prefixes: prefixes.map(|key| (*key, epoch)).collect(),
            decisions: decisions.map(|pair| (pair, epoch)).collect(),
            port_sets: port_sets.map(|key| (*key, epoch)).collect(),
            services: services.map(|key| (*key, epoch)).collect(),
        }
    }

    /// Forgets what is of that epoch or before; of addresses and prefixes only if `sides` are equal now.
    fn forget(&mut self, epoch: Epoch, sides: bool) {
        let stays = |since: &Epoch| *since > epoch;
        if sides {
            self.addresses.retain(|_, since| stays(since));
            self.prefixes.retain(|_, since| stays(since));
        }
        self.decisions.retain(|_, since| stays(since));
        self.port_sets.retain(|_, since| stays(since));
        self.services.retain(|_, since| stays(since));
    }
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
            classes: Ids::new("the table of classes", ANYONE + 1, CLASSES),
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
        let granted = self.take_all(delta)?;
        let epoch = self.epoch;
        let granted = granted.into_iter().map(|(pair, _)| (pair, epoch));
        self.pending.decisions.extend(granted);
        Ok(())
    }

    /// The same, but for saying that the decisions that came, which are returned, are pending.
    fn take_all(&mut self, delta: &Delta) -> Result<Vec<(Pair, u32)>, Overflow> {
        let epoch = self.epoch;
        self.news |= !delta.is_empty();
        let mut revoked: Vec<Pair> = delta.revoked.iter().filter_map(|key| self.pair(*key)).collect();
        revoked.sort();
        self.tables.decisions.remove_all(&revoked);
        let revoked = revoked.into_iter().map(|pair| (pair, epoch));
        self.pending.decisions.extend(revoked);
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
        let mut granted: Vec<(Pair, u32)> = Vec::with_capacity(delta.granted.len());
        for of_ruleset in delta.granted.chunk_by(|((a, _), _), ((b, _), _)| a == b) {
            let Some(((ruleset, _), _)) = of_ruleset.first() else {
                continue;
            };
            let ruleset = self.rulesets.number(*ruleset)?;
            for ((_, class), set) in of_ruleset {
                let set = match self.everything {
                    Some(everything) if everything == *set => EVERYTHING,
                    _ => self.port_sets.number(*set)?,
                };
                granted.push(((ruleset, self.class(*class)?), set));
            }
        }
        granted.sort_by_key(|(pair, _)| *pair);
        self.tables.decisions.insert_all(&granted);
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
        Ok(granted)
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
        self.take_all(rules)?;
        self.doubt(state);
        Ok(())
    }

    /// Takes note of what the maps were found to hold.
    pub fn reserve(&mut self, state: &State) {
        self.classes.reserve(state.classes(), self.epoch);
        self.rulesets.reserve(state.rulesets(), self.epoch);
        self.port_sets
            .reserve(state.decisions.values().copied(), self.epoch);
        self.doubt(state);
    }

    /// Takes note that what was taken so far is in force now; its epoch.
    pub fn turn(&mut self) -> Epoch {
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
        let decisions = self
            .pending
            .decisions
            .keys()
            .filter_map(|pair| Some((*pair, state.decisions.get(pair)?)));
        let (mut classes, mut rulesets, mut sets) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        classes.extend(addresses.chain(prefixes).flatten().copied());
        for ((ruleset, class), set) in decisions {
            rulesets.insert(ruleset);
            classes.insert(class);
            sets.insert(*set);
        }
        rulesets.extend(state.words.values().flat_map(|word| [word.ingress, word.egress]));
        self.classes.free(epoch, &classes);
        self.rulesets.free(epoch, &rulesets);
        self.port_sets.free(epoch, &sets);
    }

    /// The identifier of a ruleset.
    pub fn ruleset(&self, name: Option<RulesetId>) -> Option<u32> {
        match name {
            None => Some(OPEN),
            Some(name) => self.rulesets.get(name),
        }
    }

    fn doubt(&mut self, state: &State) {
        self.news = true;
        self.pending = Pending::all(state, &self.tables, self.epoch);
    }

    fn class(&mut self, name: ClassId) -> Result<u32, Overflow> {
        match name {
            ANYONE => Ok(ANYONE),
            name => self.classes.number(name),
        }
    }

    fn pair(&self, (ruleset, class): (RulesetId, ClassId)) -> Option<(u32, u32)> {
        let class = match class {
            ANYONE => ANYONE,
            name => self.classes.get(name)?,
        };
        Some((self.rulesets.get(ruleset)?, class))
    }
}
