//! What a change of one policy does to the cluster as it is: which connections it opens and which it cuts.
//!
//! [`crate::connections`] knows everything about a cluster at once, and takes as long as that takes. Here one policy changes, so
//! only pods that it selects, before or after, can be affected, and only by whom the rules on their side tell apart otherwise than
//! before: by what is their [`delta`]. A connection needs both ends. So what changes on one side counts only as far as the policies of
//! the other end let it through too; where a namespace as a whole is closed to it (the [`outline`] says so), or one of its pods, it is passed over.
//! What remains is looked at pair by pair, up to a [bound](Bounds): a policy that a tenant writes must not make the admission of all
//! others slow.
//!
//! Blocks of addresses are about what is outside, as in [`crate::connections`].

mod around;
mod catalogue;
mod delta;
mod dns;
mod effort;
mod far;
mod group;
mod outline;
mod outlook;
mod ports;
mod side;
#[cfg(test)]
mod tests;
mod words;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::cluster::{Cluster, Key};
use crate::policy::{Direction, Policy};
use crate::port::PortSet;
use around::Around;
pub use catalogue::CATALOGUE;
use effort::Effort;
use far::Far;
use group::{Group, groups};
pub use outline::Outline;
use outlook::{Next, Outlook, Outlooks, Place};
pub use ports::Ports;
pub use words::findings;

/// Connections are opened.
pub const OPENS: &str = "SM001";
/// Connections are cut.
pub const CUTS: &str = "SM002";
/// Pods can no longer resolve names.
pub const CUTS_DNS: &str = "SM003";
/// Pods become reachable from anywhere.
pub const FROM_WORLD: &str = "SM004";
/// Pods may reach anything outside.
pub const TO_WORLD: &str = "SM005";

/// How many workloads are named that lose their DNS, or are open to the world.
const NAMED: usize = 5;

/// One policy, as it is and as it will be; `None` where there is none.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    pub key: &'a Key,
    pub before: Option<&'a Policy>,
    pub after: Option<&'a Policy>,
}

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Pairs of pods that are told apart by nothing.
    pub pairs: usize,
    /// Kinds of pods in the policy's namespace whose connections are looked at.
    pub pods: usize,
    /// Connections that are counted, opened and cut together. Beyond so many, how many there are says nothing more.
    pub counted: usize,
    /// Connections that are told, of however many.
    pub told: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            pairs: 4096,
            pods: 512,
            counted: 500,
            told: 3,
        }
    }
}

/// What a change does.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Effect {
    pub opened: Tally,
    pub cut: Tally,
    /// There was more to look at than the bounds allow: the counts are those of what was looked at.
    pub incomplete: bool,
    /// Workloads that could resolve names, and cannot any more; pods to come, where the change is for none that is there.
    pub without_dns: BTreeSet<String>,
    /// By direction, the workloads that become open to addresses at large. [`FUTURE`] stands for pods to come.
    pub world: BTreeMap<Direction, BTreeSet<String>>,
}

/// Stands for pods that nothing but a policy for all pods selects.
pub const FUTURE: &str = "every pod to come";

/// Connections: the first few, and how many.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    pub count: usize,
    pub first: Vec<Connection>,
}

/// What is opened or cut between two workloads.
#[derive(Debug, Clone, PartialEq)]
pub struct Connection {
    pub from: String,
    pub to: String,
    pub ports: Ports,
}

/// Works out what a change does. The outline must [hold](Outline::holds) of the cluster.
pub fn simulate(cluster: &Cluster, outline: &Outline, change: Change<'_>, bounds: Bounds) -> Effect {
    let mut effect = Effect::default();
    if change.before == change.after {
        return effect;
    }
    let around = Around::new(cluster, outline, change, bounds);
    let mut effort = Effort::of(bounds);
    let groups = groups(cluster, change.key.namespace.as_str());
    let mut outlooks = Outlooks::new(&around);
    let affected: Vec<usize> = (0..groups.len())
        .filter(|index| groups.get(*index).is_some_and(|group| around.selected(group.pod)))
        .collect();
    let mut selecting = Vec::with_capacity(affected.len());
    for group in affected.iter().filter_map(|index| groups.get(*index)) {
        match outlooks.selecting(group.pod, &mut effort) {
            Some(policies) => selecting.push(policies),
            None => {
                effect.incomplete = true;
                break;
            }
        }
    }
    let mut looks: Vec<(Direction, usize, Rc<Outlook<'_>>)> = Vec::new();
    for direction in Direction::BOTH {
        // A policy may be there before its pods: what it means for these is worked out first, and in any case.
        let to_come: Vec<Rc<Outlook<'_>>> = around
            .to_come
            .iter()
            .map(|(_, pod)| outlooks.surely(pod, direction, &mut effort))
            .collect();
        for (index, policies) in affected.iter().zip(&selecting) {
            let Some(group) = groups.get(*index) else { continue };
            let Some(outlook) = outlooks.of(policies, direction, &mut effort) else {
                effect.incomplete = true;
                break;
            };
            if outlook.opens {
                effect.world.entry(direction).or_default().insert(group.name());
            }
            if outlook.cuts_dns {
                effect.without_dns.insert(group.name());
            }
            if outlook.changes() {
                looks.push((direction, *index, outlook));
            }
        }
        for ((name, _), outlook) in around.to_come.iter().zip(to_come) {
            // Of pods like some that are there it is told by these.
            let of_all = name == FUTURE;
            if outlook.opens && (of_all || !effect.world.contains_key(&direction)) {
                effect.world.entry(direction).or_default().insert(name.clone());
            }
            if outlook.cuts_dns && affected.is_empty() {
                effect.without_dns.insert(name.clone());
            }
        }
    }
    let looked_at: BTreeSet<usize> = affected.iter().copied().take(bounds.pods).collect();
    effect.incomplete |= affected.len() > looked_at.len();
    let mut seen: BTreeSet<(usize, usize)> = BTreeSet::new();
    for (direction, index, outlook) in looks.iter().filter(|(_, index, _)| looked_at.contains(index)) {
        let Some(group) = groups.get(*index) else { continue };
        let look = Look {
            around: &around,
            direction: *direction,
            outlook,
            group,
            index: *index,
        };
        if !look.at_everyone(&groups, &mut seen, &mut effort, &mut effect) {
            effect.incomplete = true;
            break;
        }
    }
    effect
}

/// One group, looking at everyone that its side tells apart otherwise than before.
struct Look<'a, 'b> {
    around: &'b Around<'a>,
    direction: Direction,
    outlook: &'b Outlook<'a>,
    group: &'b Group<'a>,
    index: usize,
}

impl<'a> Look<'a, '_> {
    /// `false` if there was more than may be looked at.
    fn at_everyone(
        &self,
        own_groups: &[Group<'_>],
        seen: &mut BTreeSet<(usize, usize)>,
        effort: &mut Effort,
        effect: &mut Effect,
    ) -> bool {
        for number in 0.. {
            let place = match self.outlook.place(number, self.around, effort) {
                Next::Place(place) => place,
                Next::End => break,
                Next::TooMany => return false,
            };
            let mut groups = own_groups.iter().enumerate();
            for far in &place.fars {
                if place.own {
                    // Both are in the order of their names, and each group is called by its first pod.
                    let Some((index, other)) = groups.find(|(_, group)| group.key == far.key) else {
                        continue;
                    };
                    let alone = index == self.index && other.pods < 2;
                    let pair = match self.direction {
                        Direction::Ingress => (index, self.index),
                        Direction::Egress => (self.index, index),
                    };
                    if alone || !seen.insert(pair) {
                        continue;
                    }
                }
                if !self.at(far, &place, effort, effect) {
                    return false;
                }
            }
        }
        true
    }

    fn at(&self, far: &Far<'_>, place: &Place<'a>, effort: &mut Effort, effect: &mut Effect) -> bool {
        if !effort.work(far.size) {
            return false;
        }
        let destination = match self.direction {
            Direction::Ingress => self.group.pod,
            Direction::Egress => far.pod,
        };
        let through = [0, 1].map(|when| far.ports(when, self.group.pod, destination));
        if through.iter().all(PortSet::is_empty) {
            return true; // mostly it is here that nothing gets through, and that is soon seen
        }
        let counted = effect.opened.count + effect.cut.count;
        if counted >= self.around.bounds.counted || !effort.pair(place.size) {
            return false;
        }
        let [before, after] = [0, 1].map(|when| match through[when].is_empty() {
            true => PortSet::empty(),
            false => place.near[when]
                .ports(far.pod, destination)
                .intersection(&through[when]),
        });
        let other = Group {
            key: far.key,
            pod: far.pod,
            pods: 1,
        };
        let connection = |ports: Ports| {
            let (from, to) = match self.direction {
                Direction::Ingress => (&other, self.group),
                Direction::Egress => (self.group, &other),
            };
            Connection {
                from: from.name(),
                to: to.name(),
                ports,
            }
        };
        if let Some(opened) = Ports::beyond(&after, &before) {
            effect.opened.add(self.around.bounds.told, || connection(opened));
        }
        if let Some(cut) = Ports::beyond(&before, &after) {
            effect.cut.add(self.around.bounds.told, || connection(cut));
        }
        true
    }
}

impl Tally {
    fn add(&mut self, told: usize, connection: impl FnOnce() -> Connection) {
        self.count += 1;
        if self.first.len() < told {
            self.first.push(connection());
        }
    }
}
