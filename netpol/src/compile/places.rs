//! The classes of pods' addresses and of prefixes.
//!
//! A change says of each address and prefix either which peers it gained and lost, or that it is to be looked at anew. The former
//! costs next to nothing, since those that were of one class, and gained and lost the same, are of one class again. If that is all
//! of the class, it stays the class that it is: a peer that is gained was not in use before, and one that is lost is no more, so
//! nothing that was decided for the class has to do with either. However many addresses a new peer matches, only those move that it
//! tells apart from others of their class.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::contents::Contents;
use super::delta::{ANYONE, ClassId, Delta};
use super::population::PodId;
use super::tables::covers;
use super::{Class, PeerIx};
use crate::policy::IpBlock;

/// A class that gained and lost peers as a whole.
#[derive(Debug)]
pub(super) struct Amended {
    pub(super) class: ClassId,
    pub(super) gained: Vec<PeerIx>,
    pub(super) lost: Vec<PeerIx>,
}

/// What has a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Address(IpAddr),
    Prefix(IpNet),
}

#[derive(Debug)]
enum Turn {
    /// Peers that match now and did not, and the other way round; each sorted.
    Peers {
        gained: Vec<PeerIx>,
        lost: Vec<PeerIx>,
    },
    Anew,
}

#[derive(Debug, Default)]
pub(super) struct Places {
    addresses: BTreeMap<IpAddr, Claimed>,
    prefixes: BTreeMap<IpNet, Edge>,
    /// The blocks, by their `cidr`, with the peer that each is of.
    blocks: BTreeMap<IpNet, Vec<(PeerIx, IpBlock)>>,
    /// How many keys of [`Self::blocks`] are of each family and length.
    lengths: BTreeMap<(bool, u8), usize>,
    turns: BTreeMap<Place, Turn>,
}

/// An address that pods have.
#[derive(Debug, Default)]
struct Claimed {
    /// Only for a moment more than one.
    pods: Vec<PodId>,
    class: ClassId,
}

/// A prefix at which the membership in some block changes.
#[derive(Debug, Default)]
struct Edge {
    blocks: usize,
    class: ClassId,
    /// Whether who follows knows of it.
    told: bool,
}

impl Places {
    pub(super) fn claim(&mut self, address: IpAddr, pod: PodId) {
        let pods = &mut self.addresses.entry(address).or_default().pods;
        if !pods.contains(&pod) {
            pods.push(pod);
        }
        self.look_at(address);
    }

    pub(super) fn disclaim(&mut self, address: IpAddr, pod: PodId) {
        if let Some(claimed) = self.addresses.get_mut(&address) {
            claimed.pods.retain(|other| *other != pod);
        }
        self.look_at(address);
    }

    /// Has the address looked at anew.
    pub(super) fn look_at(&mut self, address: IpAddr) {
        self.turns.insert(Place::Address(address), Turn::Anew);
    }

    /// Whether so much is to be looked at anew that it is not worth knowing what the rest gains and loses.
    pub(super) fn is_mostly_anew(&self) -> bool {
        self.turns.len() > self.addresses.len() / 2
    }

    pub(super) fn look_at_all(&mut self) {
        let addresses = self.addresses.keys().copied().map(Place::Address);
        let prefixes = self.prefixes.keys().copied().map(Place::Prefix);
        self.turns = addresses
            .chain(prefixes)
            .map(|place| (place, Turn::Anew))
            .collect();
    }

    /// A peer matches the address now.
    pub(super) fn gain(&mut self, address: IpAddr, peer: PeerIx) {
        if self.is_contested(address) {
            self.look_at(address);
        } else {
            self.turn(Place::Address(address), Some(peer), None);
        }
    }

    /// A peer does not match the address any more.
    pub(super) fn lose(&mut self, address: IpAddr, peer: PeerIx) {
        if self.is_contested(address) {
            self.look_at(address);
        } else {
            self.turn(Place::Address(address), None, Some(peer));
        }
    }

    /// Takes a peer into account that is these blocks. `tell`: whether to say which places gain it.
    pub(super) fn admit(&mut self, peer: PeerIx, blocks: &[IpBlock], tell: bool) {
        if tell {
            self.each_place_in(blocks, |places, place| match place {
                Place::Address(address) => places.gain(address, peer),
                Place::Prefix(_) => places.turn(place, Some(peer), None),
            });
        }
        blocks.iter().for_each(|block| self.enter(peer, block));
    }

    pub(super) fn dismiss(&mut self, peer: PeerIx, blocks: &[IpBlock], tell: bool) {
        blocks.iter().for_each(|block| self.leave(peer, block));
        if tell {
            self.each_place_in(blocks, |places, place| match place {
                Place::Address(address) => places.lose(address, peer),
                Place::Prefix(_) => places.turn(place, None, Some(peer)),
            });
        }
    }

    fn each_place_in(&mut self, blocks: &[IpBlock], mut act: impl FnMut(&mut Self, Place)) {
        for block in blocks {
            self.places_in(block)
                .into_iter()
                .for_each(|place| act(self, place));
        }
    }

    fn enter(&mut self, peer: PeerIx, block: &IpBlock) {
        for prefix in edges(block) {
            let edge = self.prefixes.entry(prefix).or_default();
            edge.blocks += 1;
            if edge.blocks == 1 {
                self.turns.insert(Place::Prefix(prefix), Turn::Anew);
            }
        }
        let of_cidr = self.blocks.entry(block.cidr).or_default();
        if of_cidr.is_empty() {
            *self.lengths.entry(length(block.cidr)).or_default() += 1;
        }
        of_cidr.push((peer, block.clone()));
    }

    fn leave(&mut self, peer: PeerIx, block: &IpBlock) {
        if let Some(of_cidr) = self.blocks.get_mut(&block.cidr) {
            of_cidr.retain(|(of, other)| *of != peer || other != block);
            if of_cidr.is_empty() {
                self.blocks.remove(&block.cidr);
                let length = length(block.cidr);
                if let Some(count) = self.lengths.get_mut(&length) {
                    *count -= 1;
                    if *count == 0 {
                        self.lengths.remove(&length);
                    }
                }
            }
        }
        for prefix in edges(block) {
            if let Some(edge) = self.prefixes.get_mut(&prefix) {
                edge.blocks = edge.blocks.saturating_sub(1);
                if edge.blocks == 0 {
                    self.turns.insert(Place::Prefix(prefix), Turn::Anew);
                }
            }
        }
    }

    /// The peers of the blocks whose `cidr` holds all of a prefix, and of which this is true; some more than once.
    pub(super) fn blocks_around(
        &self,
        net: IpNet,
        holds: impl Fn(&IpBlock) -> bool,
    ) -> impl Iterator<Item = PeerIx> {
        let (six, longest) = length(net);
        let lengths = self.lengths.range((six, 0)..=(six, longest));
        let around = lengths.filter_map(move |((_, length), _)| {
            let around = IpNet::new(net.addr(), *length).ok()?.trunc();
            self.blocks.get(&around)
        });
        let holding = around.flatten().filter(move |(_, block)| holds(block));
        holding.map(|(peer, _)| *peer)
    }

    /// Gives every place its class; the classes that changed as a whole. `of_address` says what an address has that these pods claim,
    /// `of_prefix` what a prefix.
    pub(super) fn classify(
        &mut self,
        classes: &mut Contents<Class>,
        delta: &mut Delta,
        of_address: impl Fn(&Self, IpAddr, &[PodId]) -> Class,
        of_prefix: impl Fn(&Self, IpNet) -> Class,
    ) -> Vec<Amended> {
        let turns = std::mem::take(&mut self.turns);
        let amended = self.amend(&turns, classes);
        let whole: BTreeSet<ClassId> = amended.iter().map(|amended| amended.class).collect();
        let mut known: BTreeMap<(ClassId, Vec<PeerIx>, Vec<PeerIx>), ClassId> = BTreeMap::new();
        for (place, turn) in turns {
            let Some(before) = self.class_of(place) else {
                continue;
            };
            let after = match turn {
                // Its class turned as it does.
                Turn::Peers { .. } if whole.contains(&before) => before,
                Turn::Peers { gained, lost } => {
                    *known
                        .entry((before, gained, lost))
                        .or_insert_with_key(|(_, gained, lost)| {
                            number(classes, &turned(classes, before, gained, lost))
                        })
                }
                Turn::Anew => {
                    let class = match place {
                        Place::Address(address) => self
                            .addresses
                            .get(&address)
                            .filter(|claimed| !claimed.pods.is_empty())
                            .map(|claimed| of_address(self, address, &claimed.pods)),
                        Place::Prefix(prefix) => self
                            .prefixes
                            .get(&prefix)
                            .filter(|edge| edge.blocks > 0)
                            .map(|_| of_prefix(self, prefix)),
                    };
                    let Some(class) = class else {
                        classes.release(before);
                        self.remove(place, before, delta);
                        continue;
                    };
                    number(classes, &class)
                }
            };
            classes.hold(after);
            classes.release(before);
            self.place(place, (before, after), delta);
        }
        amended
    }

    fn class_of(&self, place: Place) -> Option<ClassId> {
        match place {
            Place::Address(address) => self.addresses.get(&address).map(|claimed| claimed.class),
            Place::Prefix(prefix) => self.prefixes.get(&prefix).map(|edge| edge.class),
        }
    }

    /// Changes the classes of which all that have them turn alike.
    fn amend(&self, turns: &BTreeMap<Place, Turn>, classes: &mut Contents<Class>) -> Vec<Amended> {
        // How each class turns, and how much of it; nothing, if not alike.
        type Whole<'a> = Option<(&'a [PeerIx], &'a [PeerIx], usize)>;
        let mut turning: BTreeMap<ClassId, Whole<'_>> = BTreeMap::new();
        for (place, turn) in turns {
            let Some(class) = self.class_of(*place).filter(|class| *class != ANYONE) else {
                continue;
            };
            let Turn::Peers { gained, lost } = turn else {
                turning.insert(class, None);
                continue;
            };
            let whole = turning.entry(class).or_insert(Some((gained, lost, 0)));
            *whole = whole
                .filter(|(more, less, _)| more == gained && less == lost)
                .map(|(more, less, count)| (more, less, count + 1));
        }
        let whole = turning.into_iter().filter_map(|(class, whole)| {
            let (gained, lost, _) = whole.filter(|(_, _, count)| *count == classes.holders(class))?;
            let after = turned(classes, class, gained, lost);
            (after != Class::default() && classes.amend(class, after)).then(|| Amended {
                class,
                gained: gained.to_vec(),
                lost: lost.to_vec(),
            })
        });
        whole.collect()
    }

    /// Everything, as the difference from nothing.
    pub(super) fn snapshot(&self, delta: &mut Delta) {
        let addresses = self
            .addresses
            .iter()
            .filter(|(_, claimed)| claimed.class != ANYONE);
        delta.addresses = addresses
            .map(|(address, claimed)| (*address, Some(claimed.class)))
            .collect();
        let prefixes = self.prefixes.iter();
        delta.prefixes = prefixes
            .map(|(prefix, edge)| (*prefix, Some(edge.class)))
            .collect();
    }

    fn place(&mut self, place: Place, (before, after): (ClassId, ClassId), delta: &mut Delta) {
        match place {
            Place::Address(address) => {
                if let Some(claimed) = self.addresses.get_mut(&address) {
                    claimed.class = after;
                }
                if before != after {
                    let class = (after != ANYONE).then_some(after);
                    delta.addresses.insert(address, class);
                }
            }
            Place::Prefix(prefix) => {
                if let Some(edge) = self.prefixes.get_mut(&prefix) {
                    // It must be there even if it has the class of anyone.
                    let fresh = !std::mem::replace(&mut edge.told, true);
                    edge.class = after;
                    if fresh || before != after {
                        delta.prefixes.insert(prefix, Some(after));
                    }
                }
            }
        }
    }

    fn remove(&mut self, place: Place, before: ClassId, delta: &mut Delta) {
        match place {
            Place::Address(address) => {
                self.addresses.remove(&address);
                if before != ANYONE {
                    delta.addresses.insert(address, None);
                }
            }
            Place::Prefix(prefix) => {
                if self.prefixes.remove(&prefix).is_some_and(|edge| edge.told) {
                    delta.prefixes.insert(prefix, None);
                }
            }
        }
    }

    fn is_contested(&self, address: IpAddr) -> bool {
        self.addresses
            .get(&address)
            .is_some_and(|claimed| claimed.pods.len() > 1)
    }

    fn turn(&mut self, place: Place, gained: Option<PeerIx>, lost: Option<PeerIx>) {
        let turn = self.turns.entry(place).or_insert(Turn::Peers {
            gained: Vec::new(),
            lost: Vec::new(),
        });
        if let Turn::Peers {
            gained: more,
            lost: less,
        } = turn
        {
            insert(more, gained);
            insert(less, lost);
        }
    }

    /// Addresses and prefixes that a block holds.
    fn places_in(&self, block: &IpBlock) -> Vec<Place> {
        let addresses = self
            .addresses
            .range(block.cidr.network()..=block.cidr.broadcast())
            .map(|(address, _)| *address)
            .filter(|address| block.contains(*address))
            .map(Place::Address);
        let last = IpNet::from(block.cidr.broadcast());
        let prefixes = self
            .prefixes
            .range(block.cidr..=last)
            .map(|(prefix, _)| *prefix)
            .filter(|prefix| covers(block, *prefix))
            .map(Place::Prefix);
        addresses.chain(prefixes).collect()
    }
}

/// The identifier of a class.
fn number(classes: &mut Contents<Class>, class: &Class) -> ClassId {
    if *class == Class::default() {
        ANYONE
    } else {
        classes.intern(class)
    }
}

/// What becomes of a class by gaining and losing peers.
fn turned(classes: &Contents<Class>, before: ClassId, gained: &[PeerIx], lost: &[PeerIx]) -> Class {
    let mut class = classes
        .get(before)
        .map_or_else(Class::default, |class| class.as_ref().clone());
    class.peers.retain(|peer| lost.binary_search(peer).is_err());
    class.peers.extend(gained);
    class.peers.sort_unstable();
    class.peers.dedup();
    class
}

fn insert(list: &mut Vec<PeerIx>, peer: Option<PeerIx>) {
    if let Some(peer) = peer
        && let Err(place) = list.binary_search(&peer)
    {
        list.insert(place, peer);
    }
}

fn edges(block: &IpBlock) -> impl Iterator<Item = IpNet> + '_ {
    std::iter::once(block.cidr).chain(block.except.iter().copied())
}

fn length(net: IpNet) -> (bool, u8) {
    (matches!(net, IpNet::V6(_)), net.prefix_len())
}
