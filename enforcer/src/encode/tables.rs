//! What the maps shall hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use ringfence_netpol::compile::{ANYONE, ClassIx, NodeRules, OpenRule, PeerIx, RulesetIx};
use ringfence_netpol::policy::{Direction, Peer};
use ringfence_netpol::port::{PortSet, Protocol};

use super::Overflow;
use super::ids::Ids;
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

/// What the maps shall hold, by identifiers that stand for contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    pub addresses: BTreeMap<IpAddr, u32>,
    pub prefixes: BTreeMap<IpNet, u32>,
    pub decisions: BTreeMap<(u32, u32), u32>,
    pub port_sets: BTreeMap<u32, PortSet>,
    pub services: BTreeSet<(IpAddr, Protocol, u16)>,
    /// The identifier of each ruleset of the rules that this was made of.
    rulesets: Vec<u32>,
}

impl Tables {
    /// The identifier of a ruleset of the rules that this was made of.
    pub fn ruleset(&self, index: Option<RulesetIx>) -> u32 {
        index
            .and_then(|index| self.rulesets.get(index as usize))
            .copied()
            .unwrap_or(OPEN)
    }
}

type Names = Vec<(Protocol, String, u16)>;
type Rule = (Option<Vec<u64>>, PortSet, Vec<(Protocol, String)>);

/// Numbers the contents of compiled rules.
#[derive(Debug)]
pub struct Encoder {
    /// Never given out twice, so that contents which name a peer that is gone can't come to mean another.
    peers: BTreeMap<Peer, u64>,
    next_peer: u64,
    classes: Ids<(Vec<u64>, Names)>,
    rulesets: Ids<(Direction, Vec<Rule>)>,
    port_sets: Ids<PortSet>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            peers: BTreeMap::new(),
            next_peer: 0,
            classes: Ids::new("the table of classes", ANYONE + 1, CLASSES),
            rulesets: Ids::new("the table of rulesets", OPEN + 1, RULESETS),
            port_sets: Ids::new("the table of port sets", EVERYTHING + 1, PORT_SETS),
        }
    }
}

impl Encoder {
    pub fn encode(&mut self, rules: &NodeRules) -> Result<Tables, Overflow> {
        let peers = self.number_peers(&rules.peers);
        let mut tables = Tables {
            services: rules.service_ports.iter().copied().collect(),
            ..Tables::default()
        };

        let mut classes = BTreeMap::from([(ANYONE, ANYONE)]);
        for (address, class) in &rules.addresses {
            tables
                .addresses
                .insert(*address, self.class(rules, &peers, &mut classes, *class)?);
        }
        for (prefix, class) in &rules.blocks {
            tables
                .prefixes
                .insert(*prefix, self.class(rules, &peers, &mut classes, *class)?);
        }
        for ruleset in &rules.rulesets {
            let content = ruleset
                .rules
                .iter()
                .map(|rule| rule_content(rule, &peers))
                .collect();
            tables
                .rulesets
                .push(self.rulesets.intern(&(ruleset.direction, content))?);
        }
        for ((ruleset, class), ports) in &rules.decisions {
            // A class without an entry here belongs to no address.
            let (Some(class), ruleset) = (classes.get(class), tables.ruleset(Some(*ruleset))) else {
                continue;
            };
            let set = match ports {
                PortSet::All => EVERYTHING,
                PortSet::Ranges(_) => {
                    let id = self.port_sets.intern(ports)?;
                    tables.port_sets.entry(id).or_insert_with(|| ports.clone());
                    id
                }
            };
            tables.decisions.insert((ruleset, *class), set);
        }
        Ok(tables)
    }

    /// Takes note of identifiers that maps refer to.
    pub fn reserve(&mut self, state: &State) {
        self.classes.reserve(state.classes());
        self.rulesets.reserve(state.rulesets());
        self.port_sets.reserve(state.decisions.values().copied());
    }

    /// Frees the identifiers that neither the maps nor the wanted tables refer to.
    pub fn retain(&mut self, state: &State, tables: &Tables) {
        let wanted = tables.addresses.values().chain(tables.prefixes.values()).copied();
        self.classes.retain(&state.classes().chain(wanted).collect());
        self.rulesets
            .retain(&state.rulesets().chain(tables.rulesets.iter().copied()).collect());
        let sets = state.decisions.values().chain(tables.decisions.values());
        self.port_sets.retain(&sets.copied().collect());
    }

    fn number_peers(&mut self, peers: &[Peer]) -> Vec<u64> {
        let mut current = BTreeMap::new();
        let numbers = peers
            .iter()
            .map(|peer| {
                let number = self.peers.get(peer).copied().unwrap_or_else(|| {
                    self.next_peer += 1;
                    self.next_peer
                });
                current.insert(peer.clone(), number);
                number
            })
            .collect();
        self.peers = current;
        numbers
    }

    fn class(
        &mut self,
        rules: &NodeRules,
        peers: &[u64],
        known: &mut BTreeMap<ClassIx, u32>,
        class: ClassIx,
    ) -> Result<u32, Overflow> {
        if let Some(id) = known.get(&class) {
            return Ok(*id);
        }
        let Some(content) = rules.classes.get(class as usize) else {
            return Ok(ANYONE);
        };
        let id = self
            .classes
            .intern(&(numbers(&content.peers, peers), content.named_ports.clone()))?;
        known.insert(class, id);
        Ok(id)
    }
}

fn rule_content(rule: &OpenRule, peers: &[u64]) -> Rule {
    let of = rule.peers.as_ref().map(|indices| numbers(indices, peers));
    (of, rule.ports.clone(), rule.named_ports.clone())
}

fn numbers(indices: &[PeerIx], peers: &[u64]) -> Vec<u64> {
    let mut numbers: Vec<u64> = indices
        .iter()
        .filter_map(|index| peers.get(*index as usize))
        .copied()
        .collect();
    numbers.sort_unstable();
    numbers
}
