//! Who meets whom: a peer knows the rules that name it and the classes that it is of, so that only those rules and classes meet which
//! have a peer in common.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::contents::{Contents, Settled};
use super::decide::{Met, named_by};
use super::delta::{ClassId, RulesetId};
use super::names::{Names, NamesId};
use super::places::Amended;
use super::{Class, PeerIx, Ruleset};

/// A rule by its place in its ruleset.
type RuleAt = (RulesetId, u32);

#[derive(Debug, Default)]
pub(super) struct Meetings {
    peers: BTreeMap<PeerIx, Meeting>,
    /// What meets by the names of ports: rules that are open to anyone, and classes that have ports with names.
    by_name: Meeting,
    pub(super) names: Names,
}

/// Rules and classes that have something in common; both sorted.
#[derive(Debug, Default)]
struct Meeting {
    rules: Vec<RuleAt>,
    classes: Vec<(ClassId, NamesId)>,
}

impl Meetings {
    /// The classes that a ruleset concerns.
    pub(super) fn classes_met(&self, ruleset: &Ruleset) -> Vec<Met> {
        let mut met = Vec::new();
        for (peer, rule) in named_by(ruleset) {
            let meeting = match peer {
                Some(peer) => self.peers.get(&peer),
                None => Some(&self.by_name),
            };
            let classes = meeting.into_iter().flat_map(|meeting| &meeting.classes);
            met.extend(classes.map(|(class, names)| (*class, *names, rule)));
        }
        met
    }

    /// The rules that may open to a class what is not open to anyone, of such rulesets; sorted.
    pub(super) fn rules_met(&self, class: &Class, of: impl Fn(RulesetId) -> bool) -> Vec<RuleAt> {
        let by_peer = class.peers.iter().filter_map(|peer| self.peers.get(peer));
        let by_name = by_names(class).map(|_| &self.by_name);
        let met = by_peer.chain(by_name).flat_map(|meeting| &meeting.rules);
        let mut rules: Vec<RuleAt> = met.filter(|(ruleset, _)| of(*ruleset)).copied().collect();
        rules.sort();
        rules.dedup();
        rules
    }

    /// Takes note of classes that gained and lost peers as a whole.
    pub(super) fn amend(&mut self, amended: &[Amended], classes: &Contents<Class>) {
        for Amended { class, gained, lost } in amended {
            for peer in lost {
                remove(&mut self.meeting(Some(*peer)).classes, |(id, _)| id.cmp(class));
                self.part(Some(*peer));
            }
            let named = classes.get(*class).map_or(&[][..], |class| &class.named_ports);
            let names = self.names.id(named);
            for peer in gained {
                insert(&mut self.meeting(Some(*peer)).classes, (*class, names));
            }
        }
    }

    pub(super) fn enter(&mut self, rulesets: &Settled<Ruleset>, classes: &Settled<Class>) {
        for (id, ruleset) in &rulesets.born {
            for (peer, rule) in named_by(ruleset) {
                insert(&mut self.meeting(peer).rules, (*id, rule));
            }
        }
        for (id, class) in &classes.born {
            let names = self.names.hold(&class.named_ports);
            for peer in class.peers.iter().copied().map(Some).chain(by_names(class)) {
                insert(&mut self.meeting(peer).classes, (*id, names));
            }
        }
    }

    /// The ruleset is no more.
    pub(super) fn leave_ruleset(&mut self, (id, ruleset): &(RulesetId, Arc<Ruleset>)) {
        for (peer, rule) in named_by(ruleset) {
            remove(&mut self.meeting(peer).rules, |at| at.cmp(&(*id, rule)));
            self.part(peer);
        }
    }

    /// The class is no more.
    pub(super) fn leave_class(&mut self, (id, class): &(ClassId, Arc<Class>)) {
        for peer in class.peers.iter().copied().map(Some).chain(by_names(class)) {
            remove(&mut self.meeting(peer).classes, |(other, _)| other.cmp(id));
            self.part(peer);
        }
        self.names.release(&class.named_ports);
    }

    /// Those that have a peer in common; of no peer, those that meet by the names of ports.
    fn meeting(&mut self, peer: Option<PeerIx>) -> &mut Meeting {
        match peer {
            Some(peer) => self.peers.entry(peer).or_default(),
            None => &mut self.by_name,
        }
    }

    /// Forgets a peer that nobody names any more.
    fn part(&mut self, peer: Option<PeerIx>) {
        let Some(peer) = peer else { return };
        let empty = |meeting: &Meeting| meeting.rules.is_empty() && meeting.classes.is_empty();
        if self.peers.get(&peer).is_some_and(empty) {
            self.peers.remove(&peer);
        }
    }
}

/// Whether the class meets rules by the names of its ports.
fn by_names(class: &Class) -> Option<Option<PeerIx>> {
    (!class.named_ports.is_empty()).then_some(None)
}

/// New identifiers are the highest, so this mostly appends.
fn insert<T: Ord>(list: &mut Vec<T>, one: T) {
    if list.last().is_none_or(|last| *last < one) {
        list.push(one);
    } else if let Err(place) = list.binary_search(&one) {
        list.insert(place, one);
    }
}

fn remove<T>(list: &mut Vec<T>, compare: impl FnMut(&T) -> std::cmp::Ordering) {
    if let Ok(place) = list.binary_search_by(compare) {
        list.remove(place);
    }
}
