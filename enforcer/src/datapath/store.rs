//! The rules in the maps: written as plans say, and read back.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use libbpf_rs::ErrorKind;
use ringfence_netpol::port::Protocol;

use super::Error;
use super::batch::{self, Batch};
use super::endpoints::{ENDPOINT_WORD, ENDPOINT_WORDS, ENDPOINTS, slot};
use super::maps::KernelMaps;
use super::proof::CANARY;
use super::row::bytes;
use super::table::{address, delete, each, put, wire};
use super::words::Words;
use crate::encode::state::{PORTS, PortBits, State, Word, Write};
use crate::encode::tables::{EVERYTHING, PORT_SETS, RULESETS};
use crate::skeleton::types::{rf_address, rf_class, rf_decision, rf_decision_key, rf_service_key};
use crate::sync::Store;

const SET_WORDS: usize = size_of::<PortBits>() / 8;

/// What is said of ports, in memory for as long as it is needed: 3.5 MiB that seldom change.
struct PortTables {
    classes: Words,
    sets: Words,
}

impl KernelMaps {
    fn port_tables(&self) -> Result<PortTables, Error> {
        Ok(PortTables {
            classes: Words::map("pcls", self.pcls.as_fd(), PORTS)?,
            sets: Words::map("pset", self.pset.as_fd(), PORT_SETS as usize * SET_WORDS)?,
        })
    }

    fn put_one(&self, write: &Write, ports: Option<&PortTables>) -> Result<(), Error> {
        match write {
            Write::Address(address, side) => {
                self.note_near(*address);
                self.pod.put(*address, &wire(*address), &rf_class { side: *side })
            }
            Write::Prefix(..) | Write::DropPrefix(_) => self.write_prefixes(std::slice::from_ref(write)),
            Write::Decision(key, set) => put("dec", &self.dec, &decision_key(*key), &decision(*set)),
            Write::Decisions(..) => self.put_many(Many::Decisions, std::slice::from_ref(write)),
            Write::Service(service) => self.vip.put(service.0, &service_key(*service), &1_u32),
            Write::PortSet(id, bits) => {
                for (word, index) in bits.iter().zip(*id as usize * SET_WORDS..) {
                    ports.iter().for_each(|tables| tables.sets.store(index, *word));
                }
                Ok(())
            }
            Write::PortClass(range, class) => {
                for port in range.clone() {
                    let class = u64::from(*class);
                    ports.iter().for_each(|tables| tables.classes.store(port, class));
                }
                Ok(())
            }
            Write::Word(ifindex, word) => {
                let index = slot(*ifindex) as usize * ENDPOINT_WORDS;
                // An interface that went in the meantime has nothing to be told.
                if self.endpoints.load(index) as u32 == *ifindex {
                    self.endpoints
                        .store(index + ENDPOINT_WORD, word.map_or(0, Word::pack));
                }
                Ok(())
            }
            Write::DropAddress(address) => self.pod.delete(*address, &wire(*address)),
            Write::DropDecision(key) => delete("dec", &self.dec, &decision_key(*key)),
            Write::DropDecisions(ruleset, classes) => classes
                .iter()
                .try_for_each(|class| delete("dec", &self.dec, &decision_key((*ruleset, *class)))),
            Write::DropService(service) => self.vip.delete(service.0, &service_key(*service)),
        }
    }
}

impl Store for Arc<KernelMaps> {
    type Error = Error;

    fn dump(&self) -> Result<State, Error> {
        let mut state = State::default();
        self.pod.each(|six, key: rf_address, class: rf_class| {
            state.addresses.insert(address(&key, six), class.side);
        })?;
        self.resume_near(state.addresses.keys());
        state.prefixes = self.prefixes()?;
        self.resume_tree(&state.prefixes)?;
        let mut decisions = Vec::new();
        each("dec", &self.dec, |key: rf_decision_key, decision: rf_decision| {
            if key.ruleset < RULESETS {
                decisions.push(((key.ruleset, key.class), decision.port_set));
            }
        })?;
        state.decisions = decisions.into_iter().collect();
        self.vip.each(|six, key: rf_service_key, _: u32| {
            let protocol = Protocol::ALL
                .into_iter()
                .find(|protocol| number(*protocol) == key.protocol);
            if let Some(protocol) = protocol {
                state
                    .services
                    .insert((address(&key.address, six), protocol, u16::from_be(key.port)));
            }
        })?;
        let ports = self.port_tables()?;
        for set in state.decisions.values().filter(|set| **set != EVERYTHING) {
            state.port_sets.entry(*set).or_insert_with(|| {
                std::array::from_fn(|word| ports.sets.load(*set as usize * SET_WORDS + word))
            });
        }
        for (port, class) in state.port_classes.iter_mut().enumerate() {
            *class = ports.classes.load(port) as u16;
        }
        for slot in 0..ENDPOINTS {
            let ifindex = self.endpoints.load(slot * ENDPOINT_WORDS) as u32;
            let word = Word::unpack(self.endpoints.load(slot * ENDPOINT_WORDS + ENDPOINT_WORD));
            if let Some(word) = word.filter(|_| ifindex != 0 && ifindex != CANARY) {
                state.words.insert(ifindex, word);
            }
        }
        Ok(state)
    }

    fn write(&self, writes: &[Write]) -> Result<(), Error> {
        let of_ports = |write: &Write| matches!(write, Write::PortSet(..) | Write::PortClass(..));
        let ports = match writes.iter().any(of_ports) {
            true => Some(self.port_tables()?),
            false => None,
        };
        let alike = |one: &Write, next: &Write| Many::of(one) == Many::of(next);
        writes
            .chunk_by(alike)
            .try_for_each(|run| match run.first().and_then(Many::of) {
                Some(many) if run.iter().map(Write::len).sum::<usize>() > 1 => self.put_many(many, run),
                _ => run
                    .iter()
                    .try_for_each(|write| self.put_one(write, ports.as_ref())),
            })?;
        self.settle_tree()
    }
}

/// Writes that cost less together: most of them since the kernel takes many at once, at a third of what they cost by themselves. Their order among each other is of no
/// account: none of them is in force before a word refers to it, or after none does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Many {
    Decisions,
    DropDecisions,
    Addresses { six: bool },
    Prefixes,
}

impl Many {
    fn of(write: &Write) -> Option<Self> {
        match write {
            Write::Decision(..) | Write::Decisions(..) => Some(Self::Decisions),
            Write::DropDecision(_) | Write::DropDecisions(..) => Some(Self::DropDecisions),
            Write::Address(address, _) => Some(Self::Addresses {
                six: address.is_ipv6(),
            }),
            Write::Prefix(..) | Write::DropPrefix(_) => Some(Self::Prefixes),
            _ => None,
        }
    }
}

impl KernelMaps {
    fn put_many(&self, many: Many, run: &[Write]) -> Result<(), Error> {
        let fail = |source| Error::Map { map: "dec", source };
        match many {
            Many::Decisions => {
                let mut batch = Batch::new(&self.dec);
                for write in run {
                    match write {
                        Write::Decision(key, set) => {
                            batch.put(bytes(&decision_key(*key)), bytes(&decision(*set)))
                        }
                        Write::Decisions(ruleset, rows) => rows.iter().try_for_each(|(class, set)| {
                            let key = decision_key((*ruleset, *class));
                            batch.put(bytes(&key), bytes(&decision(*set)))
                        }),
                        _ => Ok(()),
                    }
                    .map_err(fail)?;
                }
                batch.end().map_err(fail)
            }
            Many::DropDecisions => {
                let mut keys = Vec::new();
                for write in run {
                    match write {
                        Write::DropDecision(key) => keys.extend_from_slice(bytes(&decision_key(*key))),
                        Write::DropDecisions(ruleset, classes) => classes.iter().for_each(|class| {
                            keys.extend_from_slice(bytes(&decision_key((*ruleset, *class))));
                        }),
                        _ => {}
                    }
                }
                match batch::delete(&self.dec, &keys) {
                    // One was gone already, and ended the batch.
                    Err(source) if source.kind() == ErrorKind::NotFound => {
                        run.iter().try_for_each(|write| self.put_one(write, None))
                    }
                    other => other.map_err(fail),
                }
            }
            Many::Addresses { .. } => {
                let entries = run.iter().filter_map(|write| match write {
                    Write::Address(address, side) => {
                        self.note_near(*address);
                        Some((*address, wire(*address), rf_class { side: *side }))
                    }
                    _ => None,
                });
                self.pod.put_all(&entries.collect::<Vec<_>>())
            }
            Many::Prefixes => self.write_prefixes(run),
        }
    }
}

fn decision(set: u32) -> rf_decision {
    rf_decision {
        port_set: set,
        ..rf_decision::default()
    }
}

pub(super) fn decision_key((ruleset, class): (u32, u32)) -> rf_decision_key {
    rf_decision_key { ruleset, class }
}

fn service_key((address, protocol, port): (IpAddr, Protocol, u16)) -> rf_service_key {
    rf_service_key {
        address: wire(address),
        port: port.to_be(),
        protocol: number(protocol),
        ..rf_service_key::default()
    }
}

/// As in an IP header.
fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}
