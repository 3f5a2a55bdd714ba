//! What a change of one policy does to the cluster as it is: which connections it opens and which it cuts.
//!
//! [`crate::connections`] knows everything about a cluster at once, and takes as long as that takes. Here one policy changes, so
//! only pods that it selects, before or after, can be affected, and only by whom the rules on their side tell apart otherwise than
//! before. Namespaces for whose pods these rules say the same before and after are passed over whole, and what remains is looked at
//! up to a [bound](Bounds): a policy that a tenant writes must not make the admission of all others slow.
//!
//! A connection needs both ends. So what the change allows on its side counts only as far as the policies of the other end
//! allow it too. Blocks of addresses are about what is outside, as in [`crate::connections`].

mod catalogue;
mod dns;
mod effort;
mod outlook;
mod side;
#[cfg(test)]
mod tests;
mod words;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

use crate::cluster::{Cluster, Key, Pod};
use crate::connections::Workload;
use crate::policy::{Direction, Policy};
use crate::port::{PortRange, PortSet, Transport};
use crate::selector::{Condition, Selector};
pub use catalogue::CATALOGUE;
use effort::Effort;
use outlook::{Outlook, Outlooks, Place};
use side::{Local, Side};
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
    /// Connections that are told, of however many.
    pub told: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            pairs: 4096,
            pods: 512,
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

/// Ports that make a difference.
#[derive(Debug, Clone, PartialEq)]
pub enum Ports {
    These(PortSet),
    /// Everything but these.
    AllBut(PortSet),
}

/// Pods of one namespace that policies cannot tell apart, and that belong together.
struct Group<'a> {
    key: &'a Key,
    pod: &'a Pod,
    pods: usize,
}

/// Works out what a change does.
pub fn simulate(cluster: &Cluster, change: Change<'_>, bounds: Bounds) -> Effect {
    let mut effect = Effect::default();
    if change.before == change.after {
        return effect;
    }
    let around = Around::new(cluster, change, bounds.told);
    let mut effort = Effort::of(bounds);
    let groups = groups(cluster, change.key.namespace.as_str());
    let affected: Vec<usize> = (0..groups.len())
        .filter(|index| groups.get(*index).is_some_and(|group| around.selected(group.pod)))
        .collect();
    let mut outlooks = Outlooks::new(&around);
    let mut looks: Vec<(Direction, usize, Rc<Outlook<'_>>)> = Vec::new();
    for direction in Direction::BOTH {
        // A policy may be there before its pods: what it means for these is worked out first, and in any case.
        let to_come: Vec<Rc<Outlook<'_>>> = around
            .to_come
            .iter()
            .map(|(_, pod)| outlooks.surely(pod, direction, &mut effort))
            .collect();
        for index in &affected {
            let Some(group) = groups.get(*index) else { continue };
            let Some(outlook) = outlooks.of(group.pod, direction, &mut effort) else {
                effect.incomplete = true;
                break;
            };
            if outlook.opens {
                effect.world.entry(direction).or_default().insert(group.name());
            }
            if outlook.cuts_dns {
                effect.without_dns.insert(group.name());
            }
            if outlook.changes {
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
    let mut fars = Fars::default();
    for (direction, index, outlook) in looks.iter().filter(|(_, index, _)| looked_at.contains(index)) {
        let Some(group) = groups.get(*index) else { continue };
        let look = Look {
            around: &around,
            direction: *direction,
            outlook,
            group,
            index: *index,
        };
        if !look.at_everyone(&groups, &mut seen, &mut fars, &mut effort, &mut effect) {
            effect.incomplete = true;
            break;
        }
    }
    effect
}

/// The groups of a namespace.
fn groups<'a>(cluster: &'a Cluster, namespace: &str) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let governed = cluster.pods.in_namespace(namespace);
    for (key, pod) in governed.filter(|(_, pod)| pod.is_governed()) {
        // The pods of a workload stand beside each other by their names.
        if let Some(last) = groups.last_mut().filter(|last| same(last.pod, pod)) {
            last.pods += 1;
        } else {
            groups.push(Group { key, pod, pods: 1 });
        }
    }
    groups
}

/// Whether two pods belong to one workload, and policies cannot tell them apart.
fn same(a: &Pod, b: &Pod) -> bool {
    a.owner.is_some() && a.owner == b.owner && a.labels == b.labels && a.ports == b.ports
}

impl Group<'_> {
    /// As `shop/web[Deployment]`. A ReplicaSet is called as the Deployment that made it, which is what people know.
    fn name(&self) -> String {
        let mut workload = Workload::of(self.key, self.pod);
        if let Some(hash) = self.pod.labels.get("pod-template-hash")
            && workload.kind == "ReplicaSet"
            && let Some(name) = workload.name.strip_suffix(&format!("-{hash}"))
        {
            workload.name = name.to_owned();
            workload.kind = "Deployment".to_owned();
        }
        workload.to_string()
    }
}

/// The policies before and after.
struct Around<'a> {
    cluster: &'a Cluster,
    change: Change<'a>,
    /// The policies of the namespace, without the one that changes.
    others: Vec<&'a Policy>,
    /// Pods that may come, as the policy selects them before or after, by what they are called.
    to_come: Vec<(String, Pod)>,
    told: usize,
}

impl<'a> Around<'a> {
    fn new(cluster: &'a Cluster, change: Change<'a>, told: usize) -> Self {
        let policies = cluster.policies.in_namespace(&change.key.namespace);
        Self {
            cluster,
            change,
            others: policies
                .filter(|(key, _)| *key != change.key)
                .map(|(_, policy)| policy)
                .collect(),
            to_come: to_come(change),
            told,
        }
    }

    /// Whether the policy selects the pod, before or after.
    fn selected(&self, pod: &Pod) -> bool {
        let selects = |policy: Option<&Policy>| policy.is_some_and(|policy| policy.pods.matches(&pod.labels));
        selects(self.change.before) || selects(self.change.after)
    }

    /// The policies of a namespace, before and after.
    fn policies(&self, namespace: &str) -> [Vec<&'a Policy>; 2] {
        if namespace == self.change.key.namespace {
            [self.change.before, self.change.after]
                .map(|changed| self.others.iter().copied().chain(changed).collect())
        } else {
            let policies = self.cluster.policies.in_namespace(namespace);
            let policies: Vec<&Policy> = policies.map(|(_, policy)| policy).collect();
            [policies.clone(), policies]
        }
    }

    /// All namespaces, the policy's own first.
    fn namespaces(&self) -> impl Iterator<Item = &'a str> {
        let own = self.change.key.namespace.as_str();
        let all = self.cluster.namespaces.iter().map(|(key, _)| key.name.as_str());
        std::iter::once(own).chain(all.filter(move |name| *name != own))
    }
}

/// Pods that the policy would select, before or after: one without labels if it selects that, and one with just the labels that it asks for.
fn to_come(change: Change<'_>) -> Vec<(String, Pod)> {
    let mut pods: Vec<(String, Pod)> = Vec::new();
    for policy in [change.before, change.after].into_iter().flatten() {
        let bare = Pod::default();
        let (name, pod) = if policy.pods.matches(&bare.labels) {
            (FUTURE.to_owned(), bare)
        } else {
            (format!("{FUTURE} with {}", policy.pods), imagined(&policy.pods))
        };
        if policy.pods.matches(&pod.labels) && !pods.iter().any(|(other, _)| *other == name) {
            pods.push((name, pod));
        }
    }
    pods.sort_by_key(|(name, _)| name != FUTURE); // what is told of all says it of these too
    pods
}

fn imagined(selector: &Selector) -> Pod {
    let labels = selector
        .requirements()
        .filter_map(|requirement| match &requirement.condition {
            Condition::In(values) => Some((requirement.key.clone(), values.first()?.clone())),
            Condition::Exists => Some((requirement.key.clone(), String::new())),
            Condition::NotIn(_) | Condition::DoesNotExist => None,
        });
    Pod {
        labels: labels.collect::<crate::selector::Labels>().into(),
        ..Pod::default()
    }
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
        fars: &mut Fars<'a>,
        effort: &mut Effort,
        effect: &mut Effect,
    ) -> bool {
        let cluster = self.around.cluster;
        let own = self.group.key.namespace.as_str();
        let (places, all) = self.outlook.places(self.around, effort);
        for place in places {
            if place.namespace == own {
                for (index, other) in own_groups.iter().enumerate() {
                    let alone = index == self.index && other.pods < 2;
                    let pair = match self.direction {
                        Direction::Ingress => (index, self.index),
                        Direction::Egress => (self.index, index),
                    };
                    if !alone && seen.insert(pair) && !self.at(other, place, fars, effort, effect) {
                        return false;
                    }
                }
            } else {
                let mut last: Option<&Pod> = None;
                for (key, pod) in cluster.pods.in_namespace(place.namespace) {
                    if !pod.is_governed() || last.is_some_and(|last| same(last, pod)) {
                        continue;
                    }
                    last = Some(pod);
                    if !self.at(&Group { key, pod, pods: 1 }, place, fars, effort, effect) {
                        return false;
                    }
                }
            }
        }
        *all
    }

    fn at(
        &self,
        other: &Group<'_>,
        place: &Place<'a>,
        fars: &mut Fars<'a>,
        effort: &mut Effort,
        effect: &mut Effect,
    ) -> bool {
        let Some(far) = fars.of(self.around, self.direction, place.namespace, effort) else {
            return false;
        };
        if !effort.pair(place.size + far.size) {
            return false;
        }
        let destination = match self.direction {
            Direction::Ingress => self.group.pod,
            Direction::Egress => other.pod,
        };
        let near = [&place.near[0], &place.near[1]].map(|local| local.ports(other.pod, destination));
        if near[0] == near[1] && !far.changes {
            return true;
        }
        let [before, after] = [0, 1].map(|when| {
            if near[when].is_empty() {
                PortSet::empty()
            } else {
                near[when].intersection(&far.ports(when, other.pod, self.group.pod, destination))
            }
        });
        let connection = |ports: Ports| {
            let (from, to) = match self.direction {
                Direction::Ingress => (other, self.group),
                Direction::Egress => (self.group, other),
            };
            Connection {
                from: from.name(),
                to: to.name(),
                ports,
            }
        };
        if let Some(opened) = Ports::beyond(&after, &before) {
            effect.opened.add(self.around.told, || connection(opened));
        }
        if let Some(cut) = Ports::beyond(&before, &after) {
            effect.cut.add(self.around.told, || connection(cut));
        }
        true
    }
}

/// What the policies of each namespace say about the changing policy's, as far as it was asked.
#[derive(Default)]
struct Fars<'a>(BTreeMap<(Direction, &'a str), Rc<Far<'a>>>);

impl<'a> Fars<'a> {
    /// `None` if it would take too long to know.
    fn of(
        &mut self,
        around: &Around<'a>,
        direction: Direction,
        namespace: &'a str,
        effort: &mut Effort,
    ) -> Option<Rc<Far<'a>>> {
        if let Some(known) = self.0.get(&(direction, namespace)) {
            return Some(Rc::clone(known));
        }
        let far = Rc::new(Far::new(around, direction, namespace, effort)?);
        self.0.insert((direction, namespace), Rc::clone(&far));
        Some(far)
    }
}

/// What the policies of one namespace say about one group elsewhere, before and after.
struct Far<'a> {
    /// Each policy that isolates in that direction: whom it selects, and what its rules say about the group's namespace.
    policies: [Vec<(&'a Policy, Local<'a>)>; 2],
    size: usize,
    changes: bool,
}

impl<'a> Far<'a> {
    fn new(around: &Around<'a>, direction: Direction, namespace: &str, effort: &mut Effort) -> Option<Self> {
        let direction = match direction {
            Direction::Ingress => Direction::Egress,
            Direction::Egress => Direction::Ingress,
        };
        let own = around.change.key.namespace.as_str();
        let labels = around.cluster.namespace_labels(own);
        let isolating = around.policies(namespace).map(|policies| {
            let sides = policies
                .into_iter()
                .filter(|policy| policy.rules(direction).is_some())
                .map(|policy| (policy, Side::of(std::iter::once(policy), direction)));
            sides.collect::<Vec<_>>()
        });
        let sizes = isolating.iter().flatten().map(|(_, side)| side.size());
        if !effort.work(sizes.sum()) {
            return None;
        }
        let policies = isolating.map(|sides| {
            let towards = |(policy, side): (&'a Policy, Side<'a>)| (policy, side.towards(own, labels));
            sides.into_iter().map(towards).collect::<Vec<_>>()
        });
        let size = policies.iter().flatten().map(|(_, local)| local.size()).sum();
        Some(Self {
            policies,
            size,
            changes: namespace == own,
        })
    }

    fn ports(&self, when: usize, pod: &Pod, peer: &Pod, destination: &Pod) -> PortSet {
        let mut isolated = false;
        let mut ports = PortSet::empty();
        for (policy, local) in &self.policies[when] {
            if policy.pods.matches(&pod.labels) {
                isolated = true;
                ports = ports.union(&local.ports(peer, destination));
            }
        }
        if isolated { ports } else { PortSet::All }
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

impl Ports {
    /// What is in one set and not in the other; `None` if that is nothing.
    fn beyond(set: &PortSet, other: &PortSet) -> Option<Self> {
        match (set, other) {
            (_, PortSet::All) => None,
            (PortSet::All, other) if other.is_empty() => Some(Self::These(PortSet::All)),
            (PortSet::All, other) => Some(Self::AllBut(other.clone())),
            (PortSet::Ranges(ranges), PortSet::Ranges(others)) => {
                let mut left = Vec::new();
                for range in ranges {
                    let mut rest = Some(*range);
                    // Both are sorted: each of the others cuts something off at the front.
                    for other in others.iter().filter(|other| other.protocol == range.protocol) {
                        let Some(at) = rest.filter(|at| other.first <= at.last && at.first <= other.last)
                        else {
                            continue;
                        };
                        if at.first < other.first {
                            left.push(PortRange {
                                last: other.first - 1,
                                ..at
                            });
                        }
                        rest = (other.last < at.last).then(|| PortRange {
                            first: other.last + 1,
                            ..at
                        });
                    }
                    left.extend(rest);
                }
                (!left.is_empty()).then(|| Self::These(left.into_iter().collect()))
            }
        }
    }
}

impl Ports {
    pub fn contains(&self, transport: Transport) -> bool {
        match self {
            Self::These(ports) => ports.contains(transport),
            Self::AllBut(ports) => !ports.contains(transport),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::These(ports) => ports.fmt(f),
            Self::AllBut(ports) => write!(f, "everything but {ports}"),
        }
    }
}
