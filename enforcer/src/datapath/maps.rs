//! The maps, as the writes that plans are made of.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::Ipv4Net;
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapMut};
use ringfence_netpol::port::Protocol;

use super::row::{REASONS, Row, bytes, read};
use super::words::Words;
use super::{EndpointRow, Error};
use crate::encode::plan::Room;
use crate::encode::state::{PORTS, PortBits, State, Word, Write};
use crate::encode::tables::{EVERYTHING, PORT_SETS};
use crate::skeleton::DatapathMaps;
use crate::skeleton::types::{rf_class, rf_decision, rf_decision_key, rf_prefix_key, rf_service_key};
use crate::sync::Store;

/// As declared in maps.h.
pub const ROOM: Room = Room {
    addresses: 131_072,
    prefixes: 65_536,
    decisions: 1_048_576,
    services: 65_536,
};
const ENDPOINTS: usize = 65_536;
/// An element of `ep` in words, and the place of an endpoint's word in it.
const ENDPOINT_WORDS: usize = size_of::<EndpointRow>() / 8;
const ENDPOINT_WORD: usize = 1;
const SET_WORDS: usize = size_of::<PortBits>() / 8;

pub struct KernelMaps {
    ep: MapHandle,
    pod4: MapHandle,
    cidr4: MapHandle,
    dec: MapHandle,
    vip: MapHandle,
    local4: MapHandle,
    cnt: MapHandle,
    endpoints: Words,
    port_classes: Words,
    port_sets: Words,
    /// Held while an element of `ep` is read and then written: two threads do.
    rows: Mutex<()>,
}

/// The host's end of a pod's veth, as the kernel side knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    pub ifindex: u32,
    /// `None` while the pod is not known.
    pub address: Option<Ipv4Addr>,
    /// Where the node receives the pod's packets.
    pub via: u32,
}

impl KernelMaps {
    pub(super) fn new(maps: &DatapathMaps<'_>) -> Result<Self, Error> {
        let handle = |map: &'static str, of: &MapMut<'_>| {
            MapHandle::try_from(of).map_err(|source| Error::Map { map, source })
        };
        Ok(Self {
            endpoints: Words::map("ep", maps.ep.as_fd(), ENDPOINTS * ENDPOINT_WORDS)?,
            port_classes: Words::map("pcls", maps.pcls.as_fd(), PORTS)?,
            port_sets: Words::map("pset", maps.pset.as_fd(), PORT_SETS as usize * SET_WORDS)?,
            ep: handle("ep", &maps.ep)?,
            pod4: handle("pod4", &maps.pod4)?,
            cidr4: handle("cidr4", &maps.cidr4)?,
            dec: handle("dec", &maps.dec)?,
            vip: handle("vip", &maps.vip)?,
            local4: handle("local4", &maps.local4)?,
            cnt: handle("cnt", &maps.cnt)?,
            rows: Mutex::new(()),
        })
    }

    /// All endpoints that the kernel side knows.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>, Error> {
        let mut found = Vec::new();
        for slot in 0..ENDPOINTS {
            // Its first word is the interface and the address: not 0 if there is one.
            if self.endpoints.load(slot * ENDPOINT_WORDS) == 0 {
                continue;
            }
            if let Some(row) = get::<u32, EndpointRow>("ep", &self.ep, &(slot as u32))? {
                found.push(Endpoint {
                    ifindex: row.ifindex,
                    address: (row.address != 0).then(|| address(row.address)),
                    via: row.via,
                });
            }
        }
        Ok(found)
    }

    fn alone(&self) -> MutexGuard<'_, ()> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an endpoint, closed until it gets its word. One that is there stays as it is.
    pub fn admit(&self, ifindex: u32) -> Result<(), Error> {
        let _alone = self.alone();
        let slot = slot(ifindex);
        match get::<u32, EndpointRow>("ep", &self.ep, &slot)? {
            Some(row) if row.ifindex == ifindex => Ok(()),
            Some(row) if row.ifindex != 0 => Err(Error::Taken {
                ifindex,
                taken: row.ifindex,
            }),
            _ => put(
                "ep",
                &self.ep,
                &slot,
                &EndpointRow {
                    ifindex,
                    via: ifindex,
                    ..EndpointRow::default()
                },
            ),
        }
    }

    /// Says whose the endpoint is. Its word is kept; an endpoint whose pod changes must be closed before.
    pub fn bind(&self, endpoint: Endpoint) -> Result<(), Error> {
        let Endpoint {
            ifindex,
            address: Some(address),
            via,
        } = endpoint
        else {
            return Ok(());
        };
        let _alone = self.alone();
        let index = slot(ifindex);
        let mut row = get::<u32, EndpointRow>("ep", &self.ep, &index)?.unwrap_or_default();
        let wire = u32::from_ne_bytes(address.octets());
        if (row.ifindex, row.address, row.via) != (ifindex, wire, via) {
            (row.ifindex, row.address, row.via) = (ifindex, wire, via);
            put("ep", &self.ep, &index, &row)?;
        }
        put("local4", &self.local4, &address.octets(), &ifindex)
    }

    /// Forgets an endpoint whose interface is gone or is not a pod's.
    pub fn evict(&self, ifindex: u32) -> Result<(), Error> {
        let _alone = self.alone();
        let index = slot(ifindex);
        let Some(row) = get::<u32, EndpointRow>("ep", &self.ep, &index)?.filter(|row| row.ifindex == ifindex)
        else {
            return Ok(());
        };
        let octets = row.address.to_ne_bytes();
        if get::<[u8; 4], u32>("local4", &self.local4, &octets)? == Some(ifindex) {
            delete("local4", &self.local4, &octets)?;
        }
        put("ep", &self.ep, &index, &EndpointRow::default())
    }

    /// How many packets there were for each of [`REASONS`].
    pub fn counts(&self) -> Result<Vec<u64>, Error> {
        (0..REASONS.len() as u32)
            .map(|index| {
                let per_cpu = self.cnt.lookup_percpu(bytes(&index), MapFlags::ANY);
                let per_cpu = per_cpu
                    .map_err(|source| Error::Map { map: "cnt", source })?
                    .unwrap_or_default();
                Ok(per_cpu.iter().filter_map(|count| read::<u64>(count)).sum())
            })
            .collect()
    }

    fn put_one(&self, write: &Write) -> Result<(), Error> {
        match write {
            Write::Address(address, side) => {
                put("pod4", &self.pod4, &address.octets(), &rf_class { side: *side })
            }
            Write::Prefix(prefix, side) => put(
                "cidr4",
                &self.cidr4,
                &prefix_key(prefix),
                &rf_class { side: *side },
            ),
            Write::Decision(key, set) => put(
                "dec",
                &self.dec,
                &decision_key(*key),
                &rf_decision {
                    port_set: *set,
                    ..rf_decision::default()
                },
            ),
            Write::Service(service) => put("vip", &self.vip, &service_key(*service), &1_u32),
            Write::PortSet(id, bits) => {
                for (word, index) in bits.iter().zip(*id as usize * SET_WORDS..) {
                    self.port_sets.store(index, *word);
                }
                Ok(())
            }
            Write::PortClass(ports, class) => {
                ports
                    .clone()
                    .for_each(|port| self.port_classes.store(port, u64::from(*class)));
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
            Write::DropAddress(address) => delete("pod4", &self.pod4, &address.octets()),
            Write::DropPrefix(prefix) => delete("cidr4", &self.cidr4, &prefix_key(prefix)),
            Write::DropDecision(key) => delete("dec", &self.dec, &decision_key(*key)),
            Write::DropService(service) => delete("vip", &self.vip, &service_key(*service)),
        }
    }
}

impl Store for Arc<KernelMaps> {
    type Error = Error;

    fn dump(&self) -> Result<State, Error> {
        let mut state = State::default();
        each("pod4", &self.pod4, |key: [u8; 4], class: rf_class| {
            state.addresses.insert(Ipv4Addr::from(key), class.side);
        })?;
        each("cidr4", &self.cidr4, |key: rf_prefix_key, class: rf_class| {
            if let Ok(prefix) = Ipv4Net::new(address(key.address), key.length as u8) {
                state.prefixes.insert(prefix, class.side);
            }
        })?;
        each("dec", &self.dec, |key: rf_decision_key, decision: rf_decision| {
            state
                .decisions
                .insert((key.ruleset, key.class), decision.port_set);
        })?;
        each("vip", &self.vip, |key: rf_service_key, _: u32| {
            let protocol = Protocol::ALL
                .into_iter()
                .find(|protocol| number(*protocol) == key.protocol);
            if let Some(protocol) = protocol {
                state
                    .services
                    .insert((address(key.address), protocol, u16::from_be(key.port)));
            }
        })?;
        for set in state.decisions.values().filter(|set| **set != EVERYTHING) {
            state.port_sets.entry(*set).or_insert_with(|| {
                std::array::from_fn(|word| self.port_sets.load(*set as usize * SET_WORDS + word))
            });
        }
        for (port, class) in state.port_classes.iter_mut().enumerate() {
            *class = self.port_classes.load(port) as u16;
        }
        for slot in 0..ENDPOINTS {
            let ifindex = self.endpoints.load(slot * ENDPOINT_WORDS) as u32;
            let word = Word::unpack(self.endpoints.load(slot * ENDPOINT_WORDS + ENDPOINT_WORD));
            if let Some(word) = word.filter(|_| ifindex != 0) {
                state.words.insert(ifindex, word);
            }
        }
        Ok(state)
    }

    fn write(&self, writes: &[Write]) -> Result<(), Error> {
        writes.iter().try_for_each(|write| self.put_one(write))
    }
}

fn slot(ifindex: u32) -> u32 {
    ifindex % ENDPOINTS as u32
}

fn address(wire: u32) -> Ipv4Addr {
    Ipv4Addr::from(wire.to_ne_bytes())
}

fn prefix_key(prefix: &Ipv4Net) -> rf_prefix_key {
    rf_prefix_key {
        length: u32::from(prefix.prefix_len()),
        address: u32::from_ne_bytes(prefix.network().octets()),
    }
}

fn decision_key((ruleset, class): (u32, u32)) -> rf_decision_key {
    rf_decision_key { ruleset, class }
}

fn service_key((address, protocol, port): (Ipv4Addr, Protocol, u16)) -> rf_service_key {
    rf_service_key {
        address: u32::from_ne_bytes(address.octets()),
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

fn get<K: Row, V: Row>(map: &'static str, of: &MapHandle, key: &K) -> Result<Option<V>, Error> {
    let value = of
        .lookup(bytes(key), MapFlags::ANY)
        .map_err(|source| Error::Map { map, source })?;
    Ok(value.and_then(|value| read(&value)))
}

fn put<K: Row, V: Row>(map: &'static str, of: &MapHandle, key: &K, value: &V) -> Result<(), Error> {
    of.update(bytes(key), bytes(value), MapFlags::ANY)
        .map_err(|source| Error::Map { map, source })
}

/// It is no error if it is gone.
fn delete<K: Row>(map: &'static str, of: &MapHandle, key: &K) -> Result<(), Error> {
    match of.delete(bytes(key)) {
        Err(source) if source.kind() != libbpf_rs::ErrorKind::NotFound => Err(Error::Map { map, source }),
        _ => Ok(()),
    }
}

fn each<K: Row, V: Row>(map: &'static str, of: &MapHandle, mut take: impl FnMut(K, V)) -> Result<(), Error> {
    for key in of.keys() {
        let value = of
            .lookup(&key, MapFlags::ANY)
            .map_err(|source| Error::Map { map, source })?;
        if let (Some(key), Some(value)) = (read(&key), value.and_then(|value| read(&value))) {
            take(key, value);
        }
    }
    Ok(())
}
