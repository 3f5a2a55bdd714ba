//! The maps, as the writes that plans are made of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapMut};
use ringfence_netpol::compile::ANYONE;
use ringfence_netpol::port::Protocol;

use super::flows::Flows;
use super::row::{REASONS, Row, TALLIES, bytes, is_recorded, read};
use super::words::Words;
use super::{EndpointRow, Error};
use crate::addresses::Addresses;
use crate::encode::plan::Room;
use crate::encode::state::{GENERATIONS, PORTS, PortBits, State, Word, Write};
use crate::encode::tables::{EVERYTHING, PORT_SETS, RULESETS};
use crate::skeleton::DatapathMaps;
use crate::skeleton::types::{
    rf_address, rf_class, rf_decision, rf_decision_key, rf_endpoint_flags, rf_prefix_key, rf_service_key,
};
use crate::sync::Store;

/// As declared in maps.h.
pub const ROOM: Room = Room {
    addresses: 131_072,
    prefixes: 65_536,
    decisions: 1_048_576,
    services: 65_536,
};
pub(super) const ENDPOINTS: usize = 65_536;
/// An element of `ep` in words, and the place of an endpoint's word in it.
const ENDPOINT_WORDS: usize = size_of::<EndpointRow>() / 8;
const ENDPOINT_WORD: usize = 1;
/// The places of the words that say whose an endpoint is: interface and IPv4 address, way and flags, IPv6 address.
const ENDPOINT_ADDRESS4: usize = 0;
const ENDPOINT_VIA: usize = 2;
const ENDPOINT_ADDRESS6: usize = 3;
const SET_WORDS: usize = size_of::<PortBits>() / 8;
const LAX: u32 = rf_endpoint_flags::RF_ENDPOINT_LAX.0;

pub struct KernelMaps {
    ep: MapHandle,
    pod: Families,
    cidr: Families,
    dec: MapHandle,
    vip: Families,
    local: Families,
    cnt: MapHandle,
    pub flows: Flows,
    endpoints: Words,
    port_classes: Words,
    port_sets: Words,
    /// Held while an element of `ep` is read and then written: two threads do.
    rows: Mutex<()>,
    /// Every map, to ask how much memory it takes up.
    all: Vec<(&'static str, MapHandle)>,
}

/// The interface of the proof that all of this works, in a namespace of its own: none that a node's interfaces get to.
pub const CANARY: u32 = 0x7fff_0000;

/// What the pod of the proof may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CanaryRules {
    Deny,
    Allow,
}

impl CanaryRules {
    /// Rulesets beyond those that pods get.
    fn ruleset(self) -> u32 {
        match self {
            Self::Deny => RULESETS,
            Self::Allow => RULESETS + 1,
        }
    }
}

/// The maps of one kind for each family.
struct Families {
    v4: (&'static str, MapHandle),
    v6: (&'static str, MapHandle),
}

impl Families {
    /// An IPv4 key is the beginning of an IPv6 one; the map for an address, and a key cut to its length.
    fn of<'a, K: Row>(&self, address: IpAddr, key: &'a K) -> (&'static str, &MapHandle, &'a [u8]) {
        let (name, map) = match address {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        };
        let key = bytes(key);
        (name, map, key.get(..map.key_size() as usize).unwrap_or(key))
    }

    fn put<K: Row, V: Row>(&self, address: IpAddr, key: &K, value: &V) -> Result<(), Error> {
        let (name, map, key) = self.of(address, key);
        put_bytes(name, map, key, bytes(value))
    }

    fn get<K: Row, V: Row>(&self, address: IpAddr, key: &K) -> Result<Option<V>, Error> {
        let (name, map, key) = self.of(address, key);
        get_bytes(name, map, key)
    }

    fn delete<K: Row>(&self, address: IpAddr, key: &K) -> Result<(), Error> {
        let (name, map, key) = self.of(address, key);
        delete_bytes(name, map, key)
    }

    /// Hands out each entry, and whether it is one of IPv6.
    fn each<K: Row, V: Row>(&self, mut take: impl FnMut(bool, K, V)) -> Result<(), Error> {
        for ((name, map), six) in [(&self.v4, false), (&self.v6, true)] {
            each(name, map, |key, value| take(six, key, value))?;
        }
        Ok(())
    }
}

/// The host's end of a pod's veth, as the kernel side knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    pub ifindex: u32,
    /// None while the pod is not known.
    pub addresses: Addresses,
    /// Where the node receives the pod's packets.
    pub via: u32,
    /// While nothing isolates the pod, it may send from any address.
    pub lax: bool,
}

impl KernelMaps {
    pub(super) fn new(maps: &DatapathMaps<'_>) -> Result<Self, Error> {
        let families = |v4: (&'static str, &MapMut<'_>), v6: (&'static str, &MapMut<'_>)| {
            Ok::<_, Error>(Families {
                v4: (v4.0, handle(v4.0, v4.1)?),
                v6: (v6.0, handle(v6.0, v6.1)?),
            })
        };
        Ok(Self {
            endpoints: Words::map("ep", maps.ep.as_fd(), ENDPOINTS * ENDPOINT_WORDS)?,
            port_classes: Words::map("pcls", maps.pcls.as_fd(), PORTS)?,
            port_sets: Words::map("pset", maps.pset.as_fd(), PORT_SETS as usize * SET_WORDS)?,
            ep: handle("ep", &maps.ep)?,
            pod: families(("pod4", &maps.pod4), ("pod6", &maps.pod6))?,
            cidr: families(("cidr4", &maps.cidr4), ("cidr6", &maps.cidr6))?,
            dec: handle("dec", &maps.dec)?,
            vip: families(("vip4", &maps.vip4), ("vip6", &maps.vip6))?,
            local: families(("local4", &maps.local4), ("local6", &maps.local6))?,
            cnt: handle("cnt", &maps.cnt)?,
            flows: Flows::new(maps)?,
            rows: Mutex::new(()),
            all: every(maps)?,
        })
    }

    /// Makes the endpoint of the proof, of which nothing is known yet. It is none of the pods, so its address is not looked up by anybody.
    pub fn begin_canary(&self, address: Ipv4Addr) -> Result<(), Error> {
        self.end_canary()?;
        self.admit(CANARY)?;
        let first = slot(CANARY) as usize * ENDPOINT_WORDS;
        self.endpoints.store(
            first + ENDPOINT_ADDRESS4,
            u64::from(CANARY) | u64::from(u32::from_ne_bytes(address.octets())) << 32,
        );
        put(
            "dec",
            &self.dec,
            &decision_key((CanaryRules::Allow.ruleset(), ANYONE)),
            &rf_decision {
                port_set: EVERYTHING,
                ..rf_decision::default()
            },
        )
    }

    /// Brings rules into force for what the pod of the proof opens.
    pub fn pose_canary(&self, rules: CanaryRules, generation: u32) {
        let word = Word {
            ingress: CanaryRules::Deny.ruleset(),
            egress: rules.ruleset(),
            generation: 1 + generation % (GENERATIONS - 1),
        };
        let first = slot(CANARY) as usize * ENDPOINT_WORDS;
        self.endpoints.store(first + ENDPOINT_WORD, word.pack());
    }

    /// Takes all of it away.
    pub fn end_canary(&self) -> Result<(), Error> {
        self.evict(CANARY)?;
        delete(
            "dec",
            &self.dec,
            &decision_key((CanaryRules::Allow.ruleset(), ANYONE)),
        )
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
                    addresses: addresses(&row),
                    via: row.via,
                    lax: row.flags & LAX != 0,
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
        if endpoint.addresses.is_empty() {
            return Ok(());
        }
        let _alone = self.alone();
        let index = slot(endpoint.ifindex);
        let row = get::<u32, EndpointRow>("ep", &self.ep, &index)?.unwrap_or_default();
        let before = addresses(&row);
        for gone in before
            .iter()
            .filter(|old| endpoint.addresses.iter().all(|new| new != *old))
        {
            self.forget_local(gone, endpoint.ifindex)?;
        }
        // In words, so that the programs never meet half of one; and only those that change.
        let first = index as usize * ENDPOINT_WORDS;
        let v4 = endpoint
            .addresses
            .v4
            .map_or(0, |v4| u32::from_ne_bytes(v4.octets()));
        let v6 = endpoint.addresses.v6.map_or([0; 16], |v6| v6.octets());
        let (low, high) = v6.split_at(8);
        let word = |octets: &[u8]| {
            octets
                .first_chunk::<8>()
                .map_or(0, |chunk| u64::from_ne_bytes(*chunk))
        };
        let flags = if endpoint.lax { LAX } else { 0 };
        for (at, value) in [
            (
                ENDPOINT_ADDRESS4,
                u64::from(endpoint.ifindex) | u64::from(v4) << 32,
            ),
            (ENDPOINT_VIA, u64::from(endpoint.via) | u64::from(flags) << 32),
            (ENDPOINT_ADDRESS6, word(low)),
            (ENDPOINT_ADDRESS6 + 1, word(high)),
        ] {
            if self.endpoints.load(first + at) != value {
                self.endpoints.store(first + at, value);
            }
        }
        for address in endpoint.addresses.iter() {
            self.local.put(address, &wire(address), &endpoint.ifindex)?;
        }
        Ok(())
    }

    /// Forgets an endpoint whose interface is gone or is not a pod's.
    pub fn evict(&self, ifindex: u32) -> Result<(), Error> {
        let _alone = self.alone();
        let index = slot(ifindex);
        let Some(row) = get::<u32, EndpointRow>("ep", &self.ep, &index)?.filter(|row| row.ifindex == ifindex)
        else {
            return Ok(());
        };
        for address in addresses(&row).iter() {
            self.forget_local(address, ifindex)?;
        }
        put("ep", &self.ep, &index, &EndpointRow::default())?;
        self.flows.forget(ifindex);
        Ok(())
    }

    /// An address may be another endpoint's by now.
    fn forget_local(&self, address: IpAddr, ifindex: u32) -> Result<(), Error> {
        let key = wire(address);
        if self.local.get::<_, u32>(address, &key)? == Some(ifindex) {
            self.local.delete(address, &key)?;
        }
        Ok(())
    }

    /// How many packets there were for each of [`REASONS`], and then how much of each of [`TALLIES`].
    pub fn counts(&self) -> Result<Vec<u64>, Error> {
        (0..(REASONS.len() + TALLIES.len()) as u32)
            .map(|index| {
                let per_cpu = self.cnt.lookup_percpu(bytes(&index), MapFlags::ANY);
                let per_cpu = per_cpu
                    .map_err(|source| Error::Map { map: "cnt", source })?
                    .unwrap_or_default();
                Ok(per_cpu.iter().filter_map(|count| read::<u64>(count)).sum())
            })
            .collect()
    }

    /// How many packets fell of which it is known what they were.
    pub fn recorded_drops(&self) -> Result<u64, Error> {
        let counts = self.counts()?;
        let recorded = REASONS.into_iter().zip(counts);
        Ok(recorded
            .filter(|((why, ..), _)| is_recorded(*why))
            .map(|(_, count)| count)
            .sum())
    }

    /// The addresses of the pod behind a veth.
    pub fn addresses_of(&self, ifindex: u32) -> Result<Addresses, Error> {
        let row = get::<u32, EndpointRow>("ep", &self.ep, &slot(ifindex))?;
        Ok(row
            .filter(|row| row.ifindex == ifindex)
            .map(|row| addresses(&row))
            .unwrap_or_default())
    }

    /// How much of the kernel's memory each map takes up, in bytes.
    pub fn memory(&self) -> Result<Vec<(&'static str, u64)>, Error> {
        let memory = self.all.iter().map(|(name, map)| {
            let info = map
                .query_fdinfo()
                .map_err(|source| Error::Map { map: name, source })?;
            Ok((*name, info.memlock.unwrap_or_default()))
        });
        memory.collect()
    }

    fn put_one(&self, write: &Write) -> Result<(), Error> {
        match write {
            Write::Address(address, side) => {
                self.pod.put(*address, &wire(*address), &rf_class { side: *side })
            }
            Write::Prefix(prefix, side) => {
                self.cidr
                    .put(prefix.addr(), &prefix_key(prefix), &rf_class { side: *side })
            }
            Write::Decision(key, set) => put(
                "dec",
                &self.dec,
                &decision_key(*key),
                &rf_decision {
                    port_set: *set,
                    ..rf_decision::default()
                },
            ),
            Write::Service(service) => self.vip.put(service.0, &service_key(*service), &1_u32),
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
            Write::DropAddress(address) => self.pod.delete(*address, &wire(*address)),
            Write::DropPrefix(prefix) => self.cidr.delete(prefix.addr(), &prefix_key(prefix)),
            Write::DropDecision(key) => delete("dec", &self.dec, &decision_key(*key)),
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
        self.cidr.each(|six, key: rf_prefix_key, class: rf_class| {
            if let Ok(prefix) = IpNet::new(address(&key.address, six), key.length as u8) {
                state.prefixes.insert(prefix, class.side);
            }
        })?;
        each("dec", &self.dec, |key: rf_decision_key, decision: rf_decision| {
            if key.ruleset < RULESETS {
                state
                    .decisions
                    .insert((key.ruleset, key.class), decision.port_set);
            }
        })?;
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
            if let Some(word) = word.filter(|_| ifindex != 0 && ifindex != CANARY) {
                state.words.insert(ifindex, word);
            }
        }
        Ok(state)
    }

    fn write(&self, writes: &[Write]) -> Result<(), Error> {
        writes.iter().try_for_each(|write| self.put_one(write))
    }
}

pub(super) fn handle(map: &'static str, of: &MapMut<'_>) -> Result<MapHandle, Error> {
    MapHandle::try_from(of).map_err(|source| Error::Map { map, source })
}

macro_rules! every_map {
    ($maps:ident: $($name:ident)*) => { vec![$((stringify!($name), handle(stringify!($name), &$maps.$name)?)),*] };
}

fn every(maps: &DatapathMaps<'_>) -> Result<Vec<(&'static str, MapHandle)>, Error> {
    Ok(
        every_map!(maps: ep ct4 ct6 over4 over6 quota share pod4 pod6 cidr4 cidr6 dec pcls pset vip4 vip6 local4 local6 frag denied events pace cnt),
    )
}

pub(super) fn slot(ifindex: u32) -> u32 {
    ifindex % ENDPOINTS as u32
}

/// As the programs have it: an IPv4 address is the first word.
fn wire(address: IpAddr) -> rf_address {
    let mut wire = rf_address::default();
    match address {
        IpAddr::V4(v4) => wire.word = [u32::from_ne_bytes(v4.octets()), 0, 0, 0],
        IpAddr::V6(v6) => {
            for (word, octets) in wire.word.iter_mut().zip(v6.octets().chunks_exact(4)) {
                *word = octets
                    .first_chunk::<4>()
                    .map_or(0, |chunk| u32::from_ne_bytes(*chunk));
            }
        }
    }
    wire
}

pub(super) fn address(wire: &rf_address, six: bool) -> IpAddr {
    if six {
        let mut octets = [0; 16];
        octets.copy_from_slice(bytes(wire));
        IpAddr::V6(Ipv6Addr::from(octets))
    } else {
        let [first, ..] = wire.word;
        IpAddr::V4(Ipv4Addr::from(first.to_ne_bytes()))
    }
}

fn addresses(row: &EndpointRow) -> Addresses {
    let v4 = (row.address4 != 0).then(|| Ipv4Addr::from(row.address4.to_ne_bytes()));
    let v6 = (row.address6.word != [0; 4]).then(|| address(&row.address6, true));
    v4.map(IpAddr::V4).into_iter().chain(v6).collect()
}

fn prefix_key(prefix: &IpNet) -> rf_prefix_key {
    rf_prefix_key {
        length: u32::from(prefix.prefix_len()),
        address: wire(prefix.network()),
    }
}

fn decision_key((ruleset, class): (u32, u32)) -> rf_decision_key {
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

fn get<K: Row, V: Row>(map: &'static str, of: &MapHandle, key: &K) -> Result<Option<V>, Error> {
    get_bytes(map, of, bytes(key))
}

fn get_bytes<V: Row>(map: &'static str, of: &MapHandle, key: &[u8]) -> Result<Option<V>, Error> {
    let value = of
        .lookup(key, MapFlags::ANY)
        .map_err(|source| Error::Map { map, source })?;
    Ok(value.and_then(|value| read(&value)))
}

fn put<K: Row, V: Row>(map: &'static str, of: &MapHandle, key: &K, value: &V) -> Result<(), Error> {
    put_bytes(map, of, bytes(key), bytes(value))
}

fn put_bytes(map: &'static str, of: &MapHandle, key: &[u8], value: &[u8]) -> Result<(), Error> {
    of.update(key, value, MapFlags::ANY)
        .map_err(|source| Error::Map { map, source })
}

fn delete<K: Row>(map: &'static str, of: &MapHandle, key: &K) -> Result<(), Error> {
    delete_bytes(map, of, bytes(key))
}

/// It is no error if it is gone.
fn delete_bytes(map: &'static str, of: &MapHandle, key: &[u8]) -> Result<(), Error> {
    match of.delete(key) {
        Err(source) if source.kind() != libbpf_rs::ErrorKind::NotFound => Err(Error::Map { map, source }),
        _ => Ok(()),
    }
}

/// Hands out each entry. A key that is shorter than its type, as one of IPv4, is filled up with zeros.
fn each<K: Row, V: Row>(map: &'static str, of: &MapHandle, mut take: impl FnMut(K, V)) -> Result<(), Error> {
    for mut key in of.keys() {
        let value = of
            .lookup(&key, MapFlags::ANY)
            .map_err(|source| Error::Map { map, source })?;
        key.resize(size_of::<K>(), 0);
        if let (Some(key), Some(value)) = (read(&key), value.and_then(|value| read(&value))) {
            take(key, value);
        }
    }
    Ok(())
}
