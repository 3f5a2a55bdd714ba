//! How the ports are cut into classes: ports that every set in use treats alike share one, and a set is then a
//! bitmap over classes, which a packet looks up at one place.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use ringfence_netpol::port::PortSet;

use super::Overflow;
use super::state::{PORT_CLASSES, PORTS, PortBits, State, Write, has_bit, port_index, put_bit};

/// Neighbouring ports that all sets treat alike.
struct Interval {
    ports: Range<usize>,
    /// The class that they have now.
    class: u16,
    /// The new sets that hold them.
    sets: Vec<u32>,
}

/// What tells classes apart: the sets that were there before, and the new ones, that hold the ports.
type Signature = (Vec<u32>, Vec<u32>);

/// The writes that add port sets. None of them changes what a set that is there already holds: where a class is split, the
/// new class is first put into every set that holds the old one, and then given to ports.
pub fn plan<'a>(
    state: &State,
    wanted: impl Iterator<Item = (u32, &'a PortSet)>,
) -> Result<Vec<Write>, Overflow> {
    let fresh: BTreeMap<u32, &PortSet> = wanted
        .filter(|(id, _)| !state.port_sets.contains_key(id))
        .collect();
    if fresh.is_empty() {
        return Ok(Vec::new());
    }
    let intervals = cut(&state.port_classes, &fresh);
    let groups = group(state, &intervals);
    let classes = assign(&intervals, &groups)?;

    let mut rows: BTreeMap<u32, PortBits> = state.port_sets.clone();
    rows.extend(fresh.keys().map(|id| (*id, PortBits::default())));
    for ((old, new), class) in groups.keys().zip(&classes) {
        for (id, bits) in &mut rows {
            put_bit(
                bits,
                *class,
                old.binary_search(id).is_ok() || new.binary_search(id).is_ok(),
            );
        }
    }
    let mut writes: Vec<Write> = rows
        .into_iter()
        .filter(|(id, bits)| state.port_sets.get(id) != Some(bits))
        .map(|(id, bits)| Write::PortSet(id, Box::new(bits)))
        .collect();
    for (members, class) in groups.values().zip(&classes) {
        let moved = members
            .iter()
            .filter_map(|index| intervals.get(*index))
            .filter(|i| i.class != *class);
        writes.extend(moved.map(|interval| Write::PortClass(interval.ports.clone(), *class)));
    }
    Ok(writes)
}

/// Cuts the ports wherever the class or the membership in a new set changes.
fn cut(classes: &[u16], fresh: &BTreeMap<u32, &PortSet>) -> Vec<Interval> {
    let ranges: Vec<(u32, Range<usize>)> = fresh
        .iter()
        .flat_map(|(id, set)| {
            set.ranges().iter().map(|range| {
                let first = port_index(range.protocol, range.first);
                (*id, first..port_index(range.protocol, range.last) + 1)
            })
        })
        .collect();
    let mut cuts: BTreeSet<usize> = BTreeSet::from([0, PORTS]);
    cuts.extend(
        classes
            .windows(2)
            .zip(1..)
            .filter(|(pair, _)| pair[0] != pair[1])
            .map(|(_, at)| at),
    );
    cuts.extend(ranges.iter().flat_map(|(_, range)| [range.start, range.end]));

    let cuts: Vec<usize> = cuts.into_iter().collect();
    let mut intervals: Vec<Interval> = cuts
        .windows(2)
        .map(|pair| Interval {
            ports: pair[0]..pair[1],
            class: classes.get(pair[0]).copied().unwrap_or_default(),
            sets: Vec::new(),
        })
        .collect();
    for (id, range) in ranges {
        let first = intervals.partition_point(|interval| interval.ports.start < range.start);
        let inside = intervals
            .iter_mut()
            .skip(first)
            .take_while(|interval| interval.ports.end <= range.end);
        inside.for_each(|interval| interval.sets.push(id));
    }
    intervals
}

fn group(state: &State, intervals: &[Interval]) -> BTreeMap<Signature, Vec<usize>> {
    let mut of_class: BTreeMap<u16, Vec<u32>> = BTreeMap::new();
    let mut groups: BTreeMap<Signature, Vec<usize>> = BTreeMap::new();
    for (index, interval) in intervals.iter().enumerate() {
        let old = of_class.entry(interval.class).or_insert_with(|| {
            let holding = state
                .port_sets
                .iter()
                .filter(|(_, bits)| has_bit(bits, interval.class));
            holding.map(|(id, _)| *id).collect()
        });
        groups
            .entry((old.clone(), interval.sets.clone()))
            .or_default()
            .push(index);
    }
    groups
}

/// A class for each group: that of its widest interval, unless a wider group has it; else one that no port has.
fn assign(intervals: &[Interval], groups: &BTreeMap<Signature, Vec<usize>>) -> Result<Vec<u16>, Overflow> {
    let in_use: BTreeSet<u16> = intervals.iter().map(|interval| interval.class).collect();
    let mut claims: Vec<(usize, usize, u16)> = Vec::new();
    for (group, members) in groups.values().enumerate() {
        let members = members.iter().filter_map(|index| intervals.get(*index));
        claims.extend(members.map(|interval| (interval.ports.len(), group, interval.class)));
    }
    claims.sort_unstable_by(|a, b| b.cmp(a));
    let mut assigned: Vec<Option<u16>> = vec![None; groups.len()];
    let mut claimed: BTreeSet<u16> = BTreeSet::new();
    for (_, group, class) in claims {
        if let Some(slot) = assigned.get_mut(group).filter(|slot| slot.is_none())
            && claimed.insert(class)
        {
            *slot = Some(class);
        }
    }
    let mut free = (0..PORT_CLASSES as u16).filter(|class| !in_use.contains(class));
    let missing = assigned.iter().filter(|slot| slot.is_none()).count();
    let classes = assigned
        .into_iter()
        .map(|slot| slot.or_else(|| free.next()))
        .collect::<Option<_>>();
    classes.ok_or(Overflow {
        table: "the table of port classes",
        room: PORT_CLASSES,
        needed: in_use.len() + missing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfence_netpol::port::{PortRange, Protocol, Transport};

    fn set(ranges: &[(Protocol, u16, u16)]) -> PortSet {
        ranges
            .iter()
            .map(|(protocol, first, last)| PortRange {
                protocol: *protocol,
                first: *first,
                last: *last,
            })
            .collect()
    }

    fn apply(state: &mut State, sets: &BTreeMap<u32, PortSet>) {
        let known: Vec<(u32, PortSet)> = sets
            .iter()
            .filter(|(id, _)| state.port_sets.contains_key(id))
            .map(|(id, set)| (*id, set.clone()))
            .collect();
        for write in plan(state, sets.iter().map(|(id, set)| (*id, set))).unwrap() {
            state.take(write);
            known.iter().for_each(|(id, set)| assert_holds(state, *id, set));
        }
        sets.iter().for_each(|(id, set)| assert_holds(state, *id, set));
    }

    fn assert_holds(state: &State, id: u32, set: &PortSet) {
        let ports = [0, 1, 79, 80, 81, 443, 8079, 8080, 8090, 8091, 65534, 65535];
        for (protocol, port) in Protocol::ALL
            .into_iter()
            .flat_map(|p| ports.map(|port| (p, port)))
        {
            let class = state.port_classes[port_index(protocol, port)];
            let expected = set.contains(Transport::Port(protocol, port));
            assert_eq!(
                has_bit(&state.port_sets[&id], class),
                expected,
                "{protocol}/{port} in {set}"
            );
        }
    }

    #[test]
    fn sets_hold_their_ports_also_while_others_are_added() {
        let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
        let mut state = State::default();
        let mut sets = BTreeMap::from([(1, set(&[(tcp, 80, 80)]))]);
        apply(&mut state, &sets);
        sets.insert(2, set(&[(tcp, 0, 65535)]));
        sets.insert(3, set(&[(tcp, 80, 8080), (udp, 8080, 8090)]));
        apply(&mut state, &sets);
        sets.insert(4, set(&[(udp, 0, 65535), (Protocol::Sctp, 65535, 65535)]));
        apply(&mut state, &sets);
        let classes: BTreeSet<u16> = state.port_classes.iter().copied().collect();
        assert_eq!(classes.len(), 6, "as many classes as kinds of ports");
    }

    #[test]
    fn classes_that_nothing_tells_apart_any_more_are_merged() {
        let tcp = Protocol::Tcp;
        let mut state = State::default();
        for round in 0..3000_u16 {
            apply(
                &mut state,
                &BTreeMap::from([(u32::from(round) + 1, set(&[(tcp, round, round + 7)]))]),
            );
            state.port_sets.clear();
        }
    }

    #[test]
    fn too_many_kinds_of_ports_are_refused_before_anything_is_written() {
        let sets: BTreeMap<u32, PortSet> = (1..1100)
            .map(|id| (id, set(&[(Protocol::Tcp, id as u16 * 2, id as u16 * 2)])))
            .collect();
        let sets = sets.iter().map(|(id, set)| (*id, set));
        let overflow = plan(&State::default(), sets).unwrap_err();
        assert_eq!((overflow.room, overflow.needed), (1024, 1100));
    }
}
