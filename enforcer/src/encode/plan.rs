//! The way from what the maps hold to what they shall hold, in single writes, such that a packet is judged wholly by the old
//! rules or wholly by the new ones:
//!
//! 1. **Make** what the new rules need beside what the old ones use. Decisions are new rows, since their keys stand for
//!    contents. The class of an address has two sides, of which an endpoint's generation says which counts: the new class goes to
//!    the side that does not.
//! 2. **Flip** endpoint by endpoint: one word names the rulesets, the generation and by that the side.
//! 3. **Sweep**, a while after: remove what nothing refers to any more, and make both sides equal.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Overflow;
use super::decisions::Row;
use super::ids::Epoch;
use super::pending::Pending;
use super::ports;
use super::state::{GENERATIONS, NONE, Sides, State, Word, Write, side};
use super::tables::{PORT_SETS, Service, Tables};

/// How many entries the maps have room for; of addresses, prefixes and Services there is a map for each family.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    pub addresses: usize,
    pub prefixes: usize,
    pub decisions: usize,
    pub services: usize,
}

impl Room {
    /// Only half of the room for decisions is for what is in force at one time: while all of them change, those of before stay beside
    /// them, and an agent that begins anew gives all new keys, beside those of the agent before. What would be too much then is too
    /// much now.
    pub fn decisions_at_once(&self) -> usize {
        self.decisions / 2
    }

    /// The same of port sets.
    pub fn port_sets_at_once() -> usize {
        PORT_SETS as usize / 2
    }
}

/// The rulesets of an endpoint, for ingress and for egress; by its interface.
pub type Endpoints = BTreeMap<u32, (u32, u32)>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub make: Vec<Write>,
    pub flip: Vec<Write>,
    /// The generation after the flip.
    pub generation: u32,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.make.is_empty() && self.flip.is_empty()
    }
}

/// What to write so that `tables` hold for `endpoints`, where what is not `pending` holds already; the generation is that of the
/// last flip.
pub fn plan(
    state: &State,
    (tables, pending): (&Tables, &Pending),
    endpoints: &Endpoints,
    generation: u32,
    room: &Room,
) -> Result<Plan, Overflow> {
    let old = side(generation);
    let sets = pending.port_sets.keys();
    let sets = sets.filter_map(|id| Some((*id, tables.port_sets.get(id)?)));
    let mut make = ports::plan(state, sets)?;
    let mut fresh = 0;
    for (ruleset, rows) in pending.decisions.come() {
        let there = state.decisions.of(ruleset);
        let missing: Vec<Row> = match there {
            [] => rows.to_vec(),
            _ => rows
                .iter()
                .filter(|row| there.binary_search(row).is_err())
                .copied()
                .collect(),
        };
        let anew = missing
            .iter()
            .filter(|(class, _)| !state.decisions.contains_key(&(ruleset, *class)));
        fresh += if there.is_empty() {
            missing.len()
        } else {
            anew.count()
        };
        match missing[..] {
            [] => {}
            [(class, set)] => make.push(Write::Decision((ruleset, class), set)),
            _ => make.push(Write::Decisions(ruleset, missing)),
        }
    }
    let services = pending.services.keys();
    let services =
        services.filter(|service| tables.services.contains(service) && !state.services.contains(service));
    make.extend(services.map(|service| Write::Service(*service)));

    let addresses = moved_addresses(state, (tables, pending), old);
    let prefixes = moved_prefixes(state, (tables, pending), old);
    check(state, (tables, pending), fresh, room)?;
    let turn = addresses.iter().any(|(_, sides)| sides[0] != sides[1])
        || prefixes.iter().any(|(_, sides)| sides[0] != sides[1]);
    let changed = addresses
        .into_iter()
        .filter(|(at, sides)| turn && state.addresses.get(at) != Some(sides));
    make.extend(changed.map(|(address, sides)| Write::Address(address, sides)));
    // A prefix that says what the next shorter one says changes nothing now, but must be there when that one changes.
    let changed = prefixes
        .into_iter()
        .filter(|(at, sides)| match state.prefixes.get(at) {
            Some(there) => turn && there != sides,
            None => true,
        });
    make.extend(changed.map(|(prefix, sides)| Write::Prefix(prefix, sides)));
    let (flip, generation) = flip(state, endpoints, generation, turn);
    Ok(Plan {
        make,
        flip,
        generation,
    })
}

/// What to write once no packet is under way that began before the flip of that epoch.
pub fn sweep(
    state: &State,
    (tables, pending): (&Tables, &Pending),
    generation: u32,
    epoch: Epoch,
) -> Vec<Write> {
    fn due<K>(pending: &BTreeMap<K, Epoch>, epoch: Epoch) -> impl Iterator<Item = &K> {
        let due = pending.iter().filter(move |(_, since)| **since <= epoch);
        due.map(|(key, _)| key)
    }
    let mut writes = Vec::new();
    for (ruleset, rows) in pending.decisions.rulesets_due(&state.decisions, epoch) {
        let classes = rows.iter().map(|(class, _)| *class).collect();
        writes.push(Write::DropDecisions(ruleset, classes));
    }
    let decisions = pending.decisions.pairs_due(&state.decisions, epoch);
    writes.extend(decisions.map(Write::DropDecision));
    let services = due(&pending.services, epoch)
        .filter(|service| state.services.contains(service) && !tables.services.contains(service));
    writes.extend(services.map(|service| Write::DropService(*service)));
    if is_turned(state, generation) {
        for address in due(&pending.addresses, epoch) {
            match (state.addresses.get(address), tables.addresses.get(address)) {
                (Some(_), None) => writes.push(Write::DropAddress(*address)),
                (Some(sides), Some(class)) if *sides != [*class; 2] => {
                    writes.push(Write::Address(*address, [*class; 2]));
                }
                _ => {}
            }
        }
        for prefix in due(&pending.prefixes, epoch) {
            match (state.prefixes.get(prefix), tables.prefixes.get(prefix)) {
                (Some(_), None) => writes.push(Write::DropPrefix(*prefix)),
                (Some(sides), Some(class)) if *sides != [*class; 2] => {
                    writes.push(Write::Prefix(*prefix, [*class; 2]));
                }
                _ => {}
            }
        }
    }
    writes
}

/// Whether all endpoints read the side of that generation. One that could not be flipped still reads the other.
pub fn is_turned(state: &State, generation: u32) -> bool {
    state.words.values().all(|word| word.side() == side(generation))
}

/// The generation after this one on the same side, or on the other.
pub fn next_generation(generation: u32, turn: bool) -> u32 {
    let next = generation + if turn { 1 } else { 2 };
    if next < GENERATIONS { next } else { 2 + next % 2 }
}

fn flip(state: &State, endpoints: &Endpoints, generation: u32, turn: bool) -> (Vec<Write>, u32) {
    let next = next_generation(generation, turn);
    let mut writes = Vec::new();
    for (ifindex, (ingress, egress)) in endpoints {
        let (ingress, egress) = (*ingress, *egress);
        let stays = state.words.get(ifindex).is_some_and(|word| {
            !turn && (word.ingress, word.egress) == (ingress, egress) && word.side() == side(generation)
        });
        if !stays {
            writes.push(Write::Word(
                *ifindex,
                Some(Word {
                    ingress,
                    egress,
                    generation: next,
                }),
            ));
        }
    }
    let gone = state
        .words
        .keys()
        .filter(|ifindex| !endpoints.contains_key(ifindex));
    writes.extend(gone.map(|ifindex| Write::Word(*ifindex, None)));
    let used = turn
        || writes
            .iter()
            .any(|write| matches!(write, Write::Word(_, Some(_))));
    (writes, if used { next } else { generation })
}

fn sides(old: usize, before: u32, after: u32) -> Sides {
    let mut sides = [after; 2];
    if let Some(slot) = sides.get_mut(old) {
        *slot = before;
    }
    sides
}

fn at(sides: &Sides, side: usize) -> u32 {
    sides.get(side).copied().unwrap_or(NONE)
}

/// Every address that may have moved, with its class before and after.
fn moved_addresses(
    state: &State,
    (tables, pending): (&Tables, &Pending),
    old: usize,
) -> Vec<(IpAddr, Sides)> {
    let addresses = pending.addresses.keys();
    addresses
        .map(|address| {
            let before = state.addresses.get(address).map_or(NONE, |sides| at(sides, old));
            let after = tables.addresses.get(address).copied().unwrap_or(NONE);
            (*address, sides(old, before, after))
        })
        .collect()
}

/// Every prefix that may have moved, with its class before and after. The longest match finds a prefix whichever side it was made
/// for, so where it is not of a side, it says there what the next shorter one says.
fn moved_prefixes(state: &State, (tables, pending): (&Tables, &Pending), old: usize) -> Vec<(IpNet, Sides)> {
    let prefixes = pending.prefixes.keys();
    let prefixes =
        prefixes.filter(|prefix| state.prefixes.contains_key(prefix) || tables.prefixes.contains_key(prefix));
    prefixes
        .map(|prefix| {
            let before = match state.prefixes.get(prefix) {
                Some(sides) => at(sides, old),
                None => longest(*prefix, |shorter| {
                    state.prefixes.get(shorter).map(|sides| at(sides, old))
                }),
            };
            let after = match tables.prefixes.get(prefix) {
                Some(class) => *class,
                None => longest(*prefix, |shorter| tables.prefixes.get(shorter).copied()),
            };
            (*prefix, sides(old, before, after))
        })
        .collect()
}

/// What the longest prefix around `prefix` says.
fn longest(prefix: IpNet, class: impl Fn(&IpNet) -> Option<u32>) -> u32 {
    std::iter::successors(prefix.supernet(), IpNet::supernet)
        .find_map(|shorter| class(&shorter))
        .unwrap_or(0)
}

/// Whether everything has room, until the sweep also beside what is there already.
fn check(
    state: &State,
    (tables, pending): (&Tables, &Pending),
    fresh_decisions: usize,
    room: &Room,
) -> Result<(), Overflow> {
    let fresh = pending.addresses.keys();
    let fresh = fresh.filter(|key| tables.addresses.contains_key(key) && !state.addresses.contains_key(key));
    check_families(
        [
            "the table of IPv4 pod addresses",
            "the table of IPv6 pod addresses",
        ],
        room.addresses,
        (state.addresses.len(), state.addresses.keys().map(IpAddr::is_ipv6)),
        fresh.map(IpAddr::is_ipv6),
    )?;
    let fresh = pending.prefixes.keys();
    let fresh = fresh.filter(|key| tables.prefixes.contains_key(key) && !state.prefixes.contains_key(key));
    let is_six = |prefix: &IpNet| prefix.addr().is_ipv6();
    check_families(
        ["the table of IPv4 prefixes", "the table of IPv6 prefixes"],
        room.prefixes,
        (state.prefixes.len(), state.prefixes.keys().map(is_six)),
        fresh.map(is_six),
    )?;
    let fresh = pending.services.keys();
    let fresh =
        fresh.filter(|service| tables.services.contains(service) && !state.services.contains(service));
    let is_six = |(address, ..): &Service| address.is_ipv6();
    check_families(
        ["the table of IPv4 Services", "the table of IPv6 Services"],
        room.services,
        (state.services.len(), state.services.iter().map(is_six)),
        fresh.map(is_six),
    )?;
    let decisions = state.decisions.len() + fresh_decisions;
    Overflow::check("the table of decisions", room.decisions, decisions)?;
    let at_once = decisions - pending.decisions.going(&state.decisions);
    Overflow::check("the table of decisions", room.decisions_at_once(), at_once)?;
    let port_sets = tables.port_sets.len();
    Overflow::check("the table of port sets", Room::port_sets_at_once(), port_sets)
}

/// Of each entry whether it is of IPv6. What is there is counted by families only where that could matter.
fn check_families(
    tables: [&'static str; 2],
    room: usize,
    (len, there): (usize, impl Iterator<Item = bool>),
    fresh: impl Iterator<Item = bool>,
) -> Result<(), Overflow> {
    let fresh: Vec<bool> = fresh.collect();
    if len + fresh.len() <= room {
        return Ok(());
    }
    let mut counts = [0, 0];
    for six in there.chain(fresh) {
        counts[usize::from(six)] += 1;
    }
    for (table, count) in tables.into_iter().zip(counts) {
        Overflow::check(table, room, count)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
