//! The addresses outside, cut where some block begins or ends.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Range;
use super::tables::{GroupIx, Ruleset, Tables, slot};
use crate::policy::{Direction, IpBlock};
use crate::port::PortSet;

/// What is open between some rulesets and the addresses outside: only ranges with something open, adjacent ones with equal
/// ports merged.
type Cut = Vec<(Range, PortSet)>;

/// Cuts the outside for sets of groups, each distinct set of rulesets once.
pub(super) struct Segments<'a> {
    tables: &'a Tables,
    direction: Direction,
    /// By rulesets; `None`: one of the groups is not isolated.
    known: HashMap<Option<Vec<usize>>, Cut>,
}

impl<'a> Segments<'a> {
    pub fn new(tables: &'a Tables, direction: Direction) -> Self {
        Self {
            tables,
            direction,
            known: HashMap::new(),
        }
    }

    /// What is open between the outside and some pod of these groups.
    pub fn of(&mut self, groups: &[GroupIx]) -> &Cut {
        let slot = slot(self.direction);
        let rulesets: Option<BTreeSet<usize>> = groups
            .iter()
            .map(|group| self.tables.groups[*group].rulesets[slot])
            .collect();
        let rulesets: Option<Vec<usize>> = rulesets.map(|set| set.into_iter().collect());
        let tables = self.tables;
        self.known
            .entry(rulesets)
            .or_insert_with_key(|rulesets| match rulesets {
                None => families(tables).map(|whole| (whole, PortSet::All)).collect(),
                Some(list) => {
                    let list: Vec<&Ruleset> =
                        list.iter().map(|index| &tables.rulesets[slot][*index]).collect();
                    families(tables)
                        .flat_map(|whole| cut(tables, &list, whole))
                        .collect()
                }
            })
    }
}

/// IPv6 is of interest only where some policy names it.
fn families(tables: &Tables) -> impl Iterator<Item = Range> + use<> {
    let ipv4 = Range {
        first: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        last: IpAddr::V4(Ipv4Addr::BROADCAST),
    };
    let ipv6 = Range {
        first: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        last: IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)),
    };
    std::iter::once(ipv4).chain(tables.has_ipv6.then_some(ipv6))
}

fn cut(tables: &Tables, rulesets: &[&Ruleset], whole: Range) -> Cut {
    let rules = || rulesets.iter().flat_map(|ruleset| &ruleset.rules);
    let block = |peer: &usize| tables.blocks.get(peer);
    let mut starts: BTreeSet<u128> = BTreeSet::from([bits(whole.first)]);
    for block in rules()
        .flat_map(|rule| rule.peers.iter().flatten())
        .filter_map(block)
    {
        for net in std::iter::once(&block.cidr).chain(&block.except) {
            if net.network().is_ipv4() == whole.first.is_ipv4() {
                starts.insert(bits(net.network()));
                starts.extend(bits(net.broadcast()).checked_add(1));
            }
        }
    }
    let last = bits(whole.last);
    let starts: Vec<u128> = starts.into_iter().filter(|start| *start <= last).collect();
    let mut merged: Cut = Vec::new();
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).map_or(last, |next| next - 1);
        let address = |bits| address(bits, whole);
        let first = address(*start);
        let holds = |block: &IpBlock| block.contains(first);
        let open = rules().filter(|rule| match &rule.peers {
            None => true,
            Some(peers) => peers.iter().filter_map(block).any(holds),
        });
        let ports = open.fold(PortSet::empty(), |ports, rule| ports.union(&rule.ports));
        if ports.is_empty() {
            continue;
        }
        match merged.last_mut() {
            Some((range, same)) if *same == ports && bits(range.last).checked_add(1) == Some(*start) => {
                range.last = address(end);
            }
            _ => merged.push((
                Range {
                    first,
                    last: address(end),
                },
                ports,
            )),
        }
    }
    merged
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The address of the same family as `whole`, which holds it.
fn address(bits: u128, whole: Range) -> IpAddr {
    match u32::try_from(bits) {
        Ok(bits) if whole.first.is_ipv4() => IpAddr::V4(Ipv4Addr::from_bits(bits)),
        _ => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}
