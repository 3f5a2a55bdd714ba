//! What the maps hold, and the single writes that change it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;
use ringfence_netpol::port::Protocol;

use super::decisions::{Decisions, Pair, Row};

/// "No entry here, see the prefixes", for an address that has one on the other side only.
pub const NONE: u32 = u32::MAX;
/// How many port classes there can be.
pub const PORT_CLASSES: usize = 1024;
/// One for each port of TCP, UDP and SCTP.
pub const PORTS: usize = 3 << 16;

const RULESET_BITS: u32 = 20;
const RULESET_MASK: u64 = (1 << RULESET_BITS) - 1;
/// Generations count to here, and begin again; 0 is none.
pub const GENERATIONS: u32 = 1 << 24;

/// A class before and after an update; an endpoint's generation says which of the two counts.
pub type Sides = [u32; 2];
/// Which port classes a port set holds.
pub type PortBits = [u64; PORT_CLASSES / 64];

/// Everything that a verdict depends on, as one word that is stored at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    pub ingress: u32,
    pub egress: u32,
    pub generation: u32,
}

impl Word {
    pub fn pack(self) -> u64 {
        u64::from(self.egress) & RULESET_MASK
            | (u64::from(self.ingress) & RULESET_MASK) << RULESET_BITS
            | u64::from(self.generation) << (2 * RULESET_BITS)
    }

    /// `None` for an endpoint whose pod is not known.
    pub fn unpack(word: u64) -> Option<Self> {
        (word != 0).then_some(Self {
            ingress: ((word >> RULESET_BITS) & RULESET_MASK) as u32,
            egress: (word & RULESET_MASK) as u32,
            generation: (word >> (2 * RULESET_BITS)) as u32,
        })
    }

    pub fn side(self) -> usize {
        side(self.generation)
    }
}

pub fn side(generation: u32) -> usize {
    (generation & 1) as usize
}

/// The place of a port among [`PORTS`].
pub fn port_index(protocol: Protocol, port: u16) -> usize {
    let base = match protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1 << 16,
        Protocol::Sctp => 2 << 16,
    };
    base + usize::from(port)
}

pub fn has_bit(bits: &PortBits, class: u16) -> bool {
    bits.get(usize::from(class) / 64)
        .is_some_and(|word| word >> (class % 64) & 1 == 1)
}

pub fn put_bit(bits: &mut PortBits, class: u16, value: bool) {
    if let Some(word) = bits.get_mut(usize::from(class) / 64) {
        *word = *word & !(1 << (class % 64)) | u64::from(value) << (class % 64);
    }
}

/// One write to one map, which a packet sees whole or not at all; or many of one kind, of which each is a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    Address(IpAddr, Sides),
    Prefix(IpNet, Sides),
    Decision(Pair, u32),
    /// Of a ruleset, sorted by class: each is a write.
    Decisions(u32, Vec<Row>),
    PortSet(u32, Box<PortBits>),
    /// Ports that come to be of a class: each is a write.
    PortClass(Range<usize>, u16),
    Service((IpAddr, Protocol, u16)),
    /// By the interface. `None`: the pod is not known.
    Word(u32, Option<Word>),
    DropAddress(IpAddr),
    DropPrefix(IpNet),
    DropDecision(Pair),
    /// Of a ruleset those of these classes, which are sorted: each is a write.
    DropDecisions(u32, Vec<u32>),
    DropService((IpAddr, Protocol, u16)),
}

impl Write {
    /// How many rows it is. Ports that come to be of another class are counted together.
    pub fn len(&self) -> usize {
        match self {
            Self::Decisions(_, rows) => rows.len(),
            Self::DropDecisions(_, classes) => classes.len(),
            _ => 1,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What the maps hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub addresses: BTreeMap<IpAddr, Sides>,
    pub prefixes: BTreeMap<IpNet, Sides>,
    pub decisions: Decisions,
    /// Those that decisions refer to.
    pub port_sets: BTreeMap<u32, PortBits>,
    /// The class of each of the [`PORTS`].
    pub port_classes: Box<[u16]>,
    pub services: BTreeSet<(IpAddr, Protocol, u16)>,
    /// The endpoints whose pod is known.
    pub words: BTreeMap<u32, Word>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            addresses: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            decisions: Decisions::default(),
            port_sets: BTreeMap::new(),
            port_classes: vec![0; PORTS].into_boxed_slice(),
            services: BTreeSet::new(),
            words: BTreeMap::new(),
        }
    }
}

impl State {
    /// How many classes of ports there are.
    pub fn port_classes_in_use(&self) -> usize {
        let mut in_use = [false; PORT_CLASSES];
        for class in &self.port_classes {
            if let Some(class) = in_use.get_mut(usize::from(*class)) {
                *class = true;
            }
        }
        in_use.into_iter().filter(|used| *used).count()
    }

    /// Takes note of a write that was made.
    pub fn take(&mut self, write: Write) {
        match write {
            Write::Address(address, sides) => drop(self.addresses.insert(address, sides)),
            Write::Prefix(prefix, sides) => drop(self.prefixes.insert(prefix, sides)),
            Write::Decision(key, set) => drop(self.decisions.insert(key, set)),
            Write::Decisions(ruleset, rows) => self.decisions.insert_all(ruleset, rows),
            Write::PortSet(id, bits) => drop(self.port_sets.insert(id, *bits)),
            Write::PortClass(ports, class) => {
                if let Some(ports) = self.port_classes.get_mut(ports) {
                    ports.fill(class);
                }
            }
            Write::Service(service) => drop(self.services.insert(service)),
            Write::Word(ifindex, Some(word)) => drop(self.words.insert(ifindex, word)),
            Write::Word(ifindex, None) => drop(self.words.remove(&ifindex)),
            Write::DropAddress(address) => drop(self.addresses.remove(&address)),
            Write::DropPrefix(prefix) => drop(self.prefixes.remove(&prefix)),
            Write::DropDecision(key) => drop(self.decisions.remove(&key)),
            Write::DropDecisions(ruleset, classes) => self.decisions.remove_all(ruleset, &classes),
            Write::DropService(service) => drop(self.services.remove(&service)),
        }
    }

    /// Classes that anything refers to.
    pub fn classes(&self) -> impl Iterator<Item = u32> {
        let sides = self.addresses.values().chain(self.prefixes.values()).flatten();
        sides
            .copied()
            .chain(self.decisions.keys().map(|(_, class)| class))
    }

    /// Rulesets that anything refers to.
    pub fn rulesets(&self) -> impl Iterator<Item = u32> {
        let words = self.words.values().flat_map(|word| [word.ingress, word.egress]);
        words.chain(self.decisions.rulesets().map(|(ruleset, _)| ruleset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_what_was_packed_and_no_word_is_an_unknown_pod() {
        let word = Word {
            ingress: 0xabcde,
            egress: 0x12345,
            generation: 0xfedcba,
        };
        assert_eq!(Word::unpack(word.pack()), Some(word));
        assert_eq!(Word::unpack(0), None);
    }

    #[test]
    fn bits_are_put_and_cleared() {
        let mut bits = PortBits::default();
        put_bit(&mut bits, 1023, true);
        put_bit(&mut bits, 0, true);
        put_bit(&mut bits, 0, false);
        assert!(has_bit(&bits, 1023) && !has_bit(&bits, 0) && !has_bit(&bits, 1022));
    }
}
