//! The classes of pods' addresses and of prefixes.
//!
//! A change says of each address and prefix either which peers it gained and lost, or that it is to be looked at anew. The former
//! costs next to nothing, since those that were of one class, and gained and lost the same, are of one class again. If that is all
//! of the class, it stays the class that it is: a peer that is gained was not in use before, and one that is lost is no more, so
//! nothing that was decided for the class has to do with either. However many addresses a new peer matches, only those move that it
//! tells apart from others of their class.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use slab::Slab;

use super::PeerIx;
use super::blocks::{Blocks, edges};
use super::claimants::Claimants;
use super::contents::Contents;
use super::delta::{ANYONE, ClassId, Delta};
use super::population::PodId;
use super::signature::Signature;
use super::spread::IdMap;
use super::tables::covers;
use super::turns::{ANEW, NOT, Turn, TurnIx, Turns};
use crate::policy::IpBlock;

/// Classes that gained and lost peers as wholes; sorted, those that turned alike together.
#[derive(Debug, Default)]
pub(super) struct Amended(pub(super) Vec<(Turn, Vec<ClassId>)>);

#[derive(Debug, Default)]
pub(super) struct Places {
    all: Slab<Place>,
    addresses: BTreeMap<IpAddr, PlaceIx>,
    prefixes: BTreeMap<IpNet, PlaceIx>,
    blocks: Blocks,
    turns: Turns,
    /// Those that turn.
    turning: Vec<PlaceIx>,
}

type PlaceIx = u32;

/// What has a class.
#[derive(Debug)]
struct Place {
    at: At,
    class: ClassId,
    turn: TurnIx,
}

#[derive(Debug)]
enum At {
    /// An address that pods have.
    Address(IpAddr, Claimants),
    /// A prefix at which the membership in so many blocks changes; whether who follows knows of it.
    Prefix { prefix: IpNet, blocks: u32, told: bool },
}

impl Places {
    pub(super) fn claim(&mut self, address: IpAddr, pod: PodId) {
        let (all, turning) = (&mut self.all, &mut self.turning);
        let at = *self.addresses.entry(address).or_insert_with(|| {
            let at = At::Address(address, Claimants::None);
            all.insert(Place::new(at)) as PlaceIx
        });
        if let Some(place) = all.get_mut(at as usize) {
            if let At::Address(_, claimants) = &mut place.at {
                claimants.add(pod);
            }
            place.turn_to(ANEW, at, turning);
        }
    }

    pub(super) fn disclaim(&mut self, address: IpAddr, pod: PodId) {
        if let Some(at) = self.addresses.get(&address)
            && let Some(place) = self.all.get_mut(*at as usize)
        {
            if let At::Address(_, claimants) = &mut place.at {
                claimants.remove(pod);
            }
            place.turn_to(ANEW, *at, &mut self.turning);
        }
    }

    /// Has the address looked at anew.
    pub(super) fn look_at(&mut self, address: IpAddr) {
        if let Some(at) = self.addresses.get(&address)
            && let Some(place) = self.all.get_mut(*at as usize)
        {
            place.turn_to(ANEW, *at, &mut self.turning);
        }
    }

    /// Whether so much is to be looked at anew that it is not worth knowing what the rest gains and loses.
    pub(super) fn is_mostly_anew(&self) -> bool {
        self.turning.len() > self.addresses.len() / 2
    }

    pub(super) fn look_at_all(&mut self) {
        for (at, place) in &mut self.all {
            place.turn_to(ANEW, at as PlaceIx, &mut self.turning);
        }
    }

    /// A peer matches the address now.
    pub(super) fn gain(&mut self, address: IpAddr, peer: PeerIx) {
        if let Some(at) = self.addresses.get(&address).copied() {
            self.turn(at, peer, true);
        }
    }

    /// A peer does not match the address any more.
    pub(super) fn lose(&mut self, address: IpAddr, peer: PeerIx) {
        if let Some(at) = self.addresses.get(&address).copied() {
            self.turn(at, peer, false);
        }
    }

    /// Takes a peer into account that is these blocks. `tell`: whether to say which places gain it.
    pub(super) fn admit(&mut self, peer: PeerIx, blocks: &[IpBlock], tell: bool) {
        if tell {
            self.turn_within(blocks, peer, true);
        }
        for block in blocks {
            for prefix in edges(block) {
                let (all, turning) = (&mut self.all, &mut self.turning);
                let at = *self.prefixes.entry(prefix).or_insert_with(|| {
                    let (blocks, told) = (0, false);
                    all.insert(Place::new(At::Prefix { prefix, blocks, told })) as PlaceIx
                });
                if let Some(place) = all.get_mut(at as usize)
                    && let At::Prefix { blocks, .. } = &mut place.at
                {
                    *blocks += 1;
                    if *blocks == 1 {
                        place.turn_to(ANEW, at, turning);
                    }
                }
            }
            self.blocks.enter(peer, block);
        }
    }

    pub(super) fn dismiss(&mut self, peer: PeerIx, blocks: &[IpBlock], tell: bool) {
        for block in blocks {
            self.blocks.leave(peer, block);
            for prefix in edges(block) {
                if let Some(at) = self.prefixes.get(&prefix).copied()
                    && let Some(place) = self.all.get_mut(at as usize)
                    && let At::Prefix { blocks, .. } = &mut place.at
                {
                    *blocks = blocks.saturating_sub(1);
                    if *blocks == 0 {
                        place.turn_to(ANEW, at, &mut self.turning);
                    }
                }
            }
        }
        if tell {
            self.turn_within(blocks, peer, false);
        }
    }

    /// The peers of the blocks whose `cidr` holds all of a prefix, and of which this is true; some more than once.
    pub(super) fn blocks_around(
        &self,
        net: IpNet,
        holds: impl Fn(&IpBlock) -> bool,
    ) -> impl Iterator<Item = PeerIx> {
        self.blocks.around(net, holds)
    }

    /// Gives every place its class; the classes that changed as a whole. `of_address` says what an address has that these pods claim,
    /// `of_prefix` what a prefix.
    pub(super) fn classify(
        &mut self,
        classes: &mut Contents<Signature>,
        delta: &mut Delta,
        mut of_address: impl FnMut(&Self, IpAddr, &[PodId]) -> Signature,
        of_prefix: impl Fn(&Self, IpNet) -> Signature,
    ) -> Amended {
        let (turning, turns) = (std::mem::take(&mut self.turning), std::mem::take(&mut self.turns));
        let whole = self.amend(&turning, &turns, classes);
        let mut known: HashMap<(ClassId, TurnIx, bool), ClassId> = HashMap::new();
        for at in turning {
            let Some((before, turn)) = self.all.get_mut(at as usize).map(Place::turned) else {
                continue;
            };
            let after = match turns.get(turn) {
                // Its class turned as it does.
                Some(_) if whole.contains_key(&before) => continue,
                Some(Turn { gained, lost }) => {
                    let pod = self.all.get(at as usize).is_some_and(Place::is_pods);
                    *known.entry((before, turn, pod)).or_insert_with(|| {
                        let signature = classes.get(before).map(|before| before.turned(gained, lost));
                        let of_anyone = || Signature::of_no_peer(pod).turned(gained, lost);
                        number(classes, &signature.unwrap_or_else(of_anyone))
                    })
                }
                None if turn == NOT => continue,
                None => {
                    let signature = self.all.get(at as usize).and_then(|place| match &place.at {
                        At::Address(address, claimants) => match claimants.pods() {
                            [] => None,
                            pods => Some(of_address(self, *address, pods)),
                        },
                        At::Prefix { blocks: 0, .. } => None,
                        At::Prefix { prefix, .. } => Some(of_prefix(self, *prefix)),
                    });
                    let Some(signature) = signature else {
                        classes.release(before);
                        self.remove(at, delta);
                        continue;
                    };
                    number(classes, &signature)
                }
            };
            classes.hold(after);
            classes.release(before);
            self.place(at, (before, after), delta);
        }
        let mut amended: BTreeMap<TurnIx, Vec<ClassId>> = BTreeMap::new();
        for (class, turn) in whole {
            amended.entry(turn).or_default().push(class);
        }
        let amended = amended.into_iter().filter_map(|(turn, mut classes)| {
            classes.sort_unstable();
            Some((turns.get(turn)?.clone(), classes))
        });
        Amended(amended.collect())
    }

    /// Changes the classes of which all that have them turn alike; these, with how.
    fn amend(&self, turning: &[PlaceIx], turns: &Turns, classes: &mut Contents<Signature>) -> IdMap<TurnIx> {
        // How each class turns, and how much of it; anew, if not alike.
        let mut whole: IdMap<(TurnIx, usize)> = IdMap::default();
        for place in turning.iter().filter_map(|at| self.all.get(*at as usize)) {
            let (turn, count) = whole.entry(place.class).or_insert((place.turn, 0));
            if *turn != place.turn {
                *turn = ANEW;
            }
            *count += 1;
        }
        whole.remove(&ANYONE);
        let mut amended: Vec<(ClassId, TurnIx)> = whole
            .into_iter()
            .filter(|(class, (_, count))| *count == classes.holders(*class))
            .map(|(class, (turn, _))| (class, turn))
            .collect();
        amended.sort_unstable();
        amended.retain(|(class, turn)| {
            let after = turns.get(*turn).zip(classes.get(*class));
            let after = after.map(|(turn, signature)| signature.turned(&turn.gained, &turn.lost));
            after.is_some_and(|after| !after.is_anyones() && classes.amend(*class, after))
        });
        amended.into_iter().collect()
    }

    /// Everything, as the difference from nothing.
    pub(super) fn snapshot(&self, delta: &mut Delta) {
        let class = |at: &PlaceIx| self.all.get(*at as usize).map_or(ANYONE, |place| place.class);
        let addresses = self.addresses.iter().map(|(address, at)| (*address, class(at)));
        delta.addresses = addresses
            .filter(|(_, class)| *class != ANYONE)
            .map(|(address, class)| (address, Some(class)))
            .collect();
        let prefixes = self.prefixes.iter();
        delta.prefixes = prefixes.map(|(prefix, at)| (*prefix, Some(class(at)))).collect();
    }

    fn place(&mut self, at: PlaceIx, (before, after): (ClassId, ClassId), delta: &mut Delta) {
        let Some(place) = self.all.get_mut(at as usize) else {
            return;
        };
        place.class = after;
        match &mut place.at {
            At::Address(address, _) => {
                if before != after {
                    let class = (after != ANYONE).then_some(after);
                    delta.addresses.insert(*address, class);
                }
            }
            At::Prefix { prefix, told, .. } => {
                // It must be there even if it has the class of anyone.
                let fresh = !std::mem::replace(told, true);
                if fresh || before != after {
                    delta.prefixes.insert(*prefix, Some(after));
                }
            }
        }
    }

    fn remove(&mut self, at: PlaceIx, delta: &mut Delta) {
        let Some(place) = self.all.try_remove(at as usize) else {
            return;
        };
        match place.at {
            At::Address(address, _) => {
                self.addresses.remove(&address);
                if place.class != ANYONE {
                    delta.addresses.insert(address, None);
                }
            }
            At::Prefix { prefix, told, .. } => {
                self.prefixes.remove(&prefix);
                if told {
                    delta.prefixes.insert(prefix, None);
                }
            }
        }
    }

    fn turn(&mut self, at: PlaceIx, peer: PeerIx, gained: bool) {
        if let Some(place) = self.all.get_mut(at as usize) {
            let turn = match &place.at {
                At::Address(_, claimants) if claimants.are_many() => ANEW,
                _ => self.turns.step(place.turn, peer, gained),
            };
            place.turn_to(turn, at, &mut self.turning);
        }
    }

    /// Has all that is in any of the blocks gain or lose a peer.
    fn turn_within(&mut self, blocks: &[IpBlock], peer: PeerIx, gained: bool) {
        for block in blocks {
            let addresses = self
                .addresses
                .range(block.cidr.network()..=block.cidr.broadcast())
                .filter(|(address, _)| block.contains(**address))
                .map(|(_, at)| *at);
            let last = IpNet::from(block.cidr.broadcast());
            let prefixes = self
                .prefixes
                .range(block.cidr..=last)
                .filter(|(prefix, _)| covers(block, **prefix))
                .map(|(_, at)| *at);
            let within: Vec<PlaceIx> = addresses.chain(prefixes).collect();
            within.into_iter().for_each(|at| self.turn(at, peer, gained));
        }
    }
}

impl Place {
    fn new(at: At) -> Self {
        Self {
            at,
            class: ANYONE,
            turn: NOT,
        }
    }

    fn turn_to(&mut self, turn: TurnIx, at: PlaceIx, turning: &mut Vec<PlaceIx>) {
        if self.turn == NOT && turn != NOT {
            turning.push(at);
        }
        self.turn = turn;
    }

    fn is_pods(&self) -> bool {
        matches!(self.at, At::Address(..))
    }

    /// Its class and its turn, which is over by that.
    fn turned(&mut self) -> (ClassId, TurnIx) {
        (self.class, std::mem::replace(&mut self.turn, NOT))
    }
}

/// The identifier of a class.
fn number(classes: &mut Contents<Signature>, signature: &Signature) -> ClassId {
    if signature.is_anyones() {
        ANYONE
    } else {
        classes.intern(signature)
    }
}
