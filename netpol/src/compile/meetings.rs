//! Who meets whom: a peer knows the rules that name it and the classes that it is of, so that only those rules and classes meet which
//! have a peer in common.

use std::sync::Arc;

use super::contents::{Contents, Settled};
use super::decide::{Met, named_by};
use super::delta::{ClassId, RulesetId};
use super::names::{NONE, Names, NamesId};
use super::places::Amended;
use super::signature::Signature;
use super::spread::IdMap;
use super::{PeerIx, Ruleset};

/// A rule by its place in its ruleset.
type RuleAt = (RulesetId, u32);

#[derive(Debug, Default)]
pub(super) struct Meetings {
    peers: IdMap<Meeting>,
    /// What meets by the names of ports: rules that are open to anyone, and classes that have ports with names.
    by_name: Meeting,
    pub(super) names: Names,
    /// The classes of pods, sorted.
    pods: Vec<ClassId>,
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

    pub(super) fn pods(&self) -> &[ClassId] {
        &self.pods
    }

    /// The rules that may open to a class what is not open to anyone, of such rulesets; sorted.
    pub(super) fn rules_met(&self, class: &Signature, of: impl Fn(RulesetId) -> bool) -> Vec<RuleAt> {
        let by_peer = class.peers.iter().filter_map(|peer| self.peers.get(peer));
        let by_name = by_names(class).map(|_| &self.by_name);
        let met = by_peer.chain(by_name).flat_map(|meeting| &meeting.rules);
        let mut rules: Vec<RuleAt> = met.filter(|(ruleset, _)| of(*ruleset)).copied().collect();
        rules.sort();
        rules.dedup();
        rules
    }

    /// Takes note of classes that gained and lost peers as wholes.
    pub(super) fn amend(&mut self, Amended(amended): &Amended, classes: &Contents<Signature>) {
        for (turn, turned) in amended {
            for peer in &turn.lost {
                remove_all(&mut self.meeting(Some(*peer)).classes, turned);
                self.part(Some(*peer));
            }
            let names = |class: &ClassId| classes.get(*class).map_or(NONE, |signature| signature.names);
            for peer in &turn.gained {
                let meeting = self.meeting(Some(*peer));
                meeting
                    .classes
                    .extend(turned.iter().map(|class| (*class, names(class))));
                meeting.classes.sort();
            }
        }
    }

    pub(super) fn enter(&mut self, rulesets: &Settled<Ruleset>, classes: &Settled<Signature>) {
        for (id, ruleset) in &rulesets.born {
            for (peer, rule) in named_by(ruleset) {
                insert(&mut self.meeting(peer).rules, (*id, rule));
            }
        }
        for (id, class) in &classes.born {
            self.names.hold(class.names);
            if class.pod {
                insert(&mut self.pods, *id);
            }
            for peer in class.peers.iter().copied().map(Some).chain(by_names(class)) {
                insert(&mut self.meeting(peer).classes, (*id, class.names));
            }
        }
    }

    /// The ruleset is no more.
    pub(super) fn leave_ruleset(&mut self, id: RulesetId, ruleset: &Ruleset) {
        for (peer, rule) in named_by(ruleset) {
            remove(&mut self.meeting(peer).rules, |at| at.cmp(&(id, rule)));
            self.part(peer);
        }
    }

    /// These classes, which are sorted, are no more.
    pub(super) fn leave_classes(&mut self, gone: &[(ClassId, Arc<Signature>)]) {
        let mut leaving: IdMap<Vec<ClassId>> = IdMap::default();
        let mut by_name = Vec::new();
        for (id, class) in gone {
            for peer in &class.peers {
                leaving.entry(*peer).or_default().push(*id);
            }
            by_name.extend(by_names(class).map(|_| *id));
            self.names.release(class.names);
        }
        let mut pods = gone
            .iter()
            .filter(|(_, class)| class.pod)
            .map(|(id, _)| *id)
            .peekable();
        if pods.peek().is_some() {
            self.pods.retain(|pod| {
                while pods.next_if(|gone| gone < pod).is_some() {}
                pods.peek() != Some(pod)
            });
        }
        remove_all(&mut self.by_name.classes, &by_name);
        for (peer, classes) in leaving {
            remove_all(&mut self.meeting(Some(peer)).classes, &classes);
            self.part(Some(peer));
        }
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
fn by_names(class: &Signature) -> Option<Option<PeerIx>> {
    (class.names != NONE).then_some(None)
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

/// Removes classes, which are sorted as the list is.
fn remove_all(list: &mut Vec<(ClassId, NamesId)>, classes: &[ClassId]) {
    if let [class] = classes {
        remove(list, |(other, _)| other.cmp(class));
        return;
    }
    let mut gone = classes.iter().peekable();
    list.retain(|(class, _)| {
        while gone.next_if(|gone| *gone < class).is_some() {}
        gone.peek() != Some(&class)
    });
}
