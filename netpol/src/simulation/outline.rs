//! What each namespace as a whole lets through, and where names are resolved, kept from one change to the next.
//!
//! A policy that changes may be about the pods of every other namespace. Most of these are closed but for a few rules, and none of the rules
//! names the policy's namespace, or none on a port that changes: then nothing that happens there needs a look at any of their pods.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::dns::{Endpoint, Resolvers};
use super::far::{Gate, Opening, opens};
use crate::cluster::{Changes, Cluster, Key};
use crate::policy::{Direction, Namespaces, Peer, Peers, Policy, Port, Ports};
use crate::port::{PortRange, PortSet, Protocol};
use crate::selector::{Labels, Selector};

/// How many selectors of namespaces may be remembered for nothing, before all is made anew.
const FORGOTTEN: usize = 1024;

/// What is known of all namespaces. It follows one cluster, at the cost of what changes there.
#[derive(Debug, Default)]
pub struct Outline {
    /// Of policies and pods.
    revisions: [u64; 2],
    selectors: Selectors,
    /// How many selectors there were when all was made anew.
    fresh: usize,
    wholes: BTreeMap<String, Whole>,
    resolvers: Resolvers,
}

/// One namespace.
#[derive(Debug, Default)]
pub(super) struct Whole {
    ingress: Openness,
    egress: Openness,
    names: PortNames,
}

/// What a namespace lets through in one direction.
#[derive(Debug, Default)]
struct Openness {
    /// Whether all pods are isolated, whichever there are.
    closed: bool,
    isolating: Vec<Arc<Policy>>,
    /// Towards other namespaces.
    openings: Vec<Towards>,
}

/// Where a peer stands that may be of another namespace.
#[derive(Debug)]
struct Towards {
    policy: usize,
    rule: usize,
    /// `None`: the rule is for anyone.
    peer: Option<usize>,
    /// The selector of its namespaces; `None`: all of them.
    namespaces: Option<usize>,
}

/// Each selector once.
#[derive(Debug, Default)]
struct Selectors {
    list: Vec<Arc<Selector>>,
    numbers: BTreeMap<Arc<Selector>, usize>,
}

/// The numbers behind the names that the pods of a namespace give their ports.
#[derive(Debug, Default)]
pub(super) struct PortNames(Vec<(Protocol, String, PortSet)>);

/// The names of the ports where nothing is known.
pub(super) const NO_NAMES: &PortNames = &PortNames(Vec::new());

/// Which selectors select one namespace, as far as it was asked.
pub(super) struct Selected<'a> {
    outline: &'a Outline,
    labels: Option<&'a Labels>,
    known: Vec<Option<bool>>,
}

impl Outline {
    /// Of a cluster as it is now.
    pub fn of(cluster: &Cluster) -> Self {
        let mut outline = Self::default();
        outline.follow(cluster);
        outline
    }

    /// Whether it holds still. The cluster must be the one that it follows.
    pub fn holds(&self, cluster: &Cluster) -> bool {
        self.revisions == [cluster.policies.revision(), cluster.pods.revision()]
            && self.resolvers.holds(cluster)
    }

    /// Takes up what changed since.
    pub fn follow(&mut self, cluster: &Cluster) {
        let [policies, pods] = self.revisions;
        match cluster.policies.changes(policies) {
            Changes::Keys(keys) if self.selectors.list.len() <= 2 * self.fresh + FORGOTTEN => {
                for namespace in namespaces(keys) {
                    self.read_policies(cluster, namespace);
                }
            }
            _ => {
                self.selectors = Selectors::default();
                let gone: Vec<String> = self.wholes.keys().cloned().collect();
                let all = namespaces(cluster.policies.keys().collect());
                for namespace in all.into_iter().chain(gone.iter().map(String::as_str)) {
                    self.read_policies(cluster, namespace);
                }
                self.fresh = self.selectors.list.len();
            }
        }
        match cluster.pods.changes(pods) {
            Changes::Keys(keys) => {
                for namespace in namespaces(keys) {
                    self.read_pods(cluster, namespace);
                }
            }
            Changes::Everything => {
                let gone: Vec<String> = self.wholes.keys().cloned().collect();
                let all = namespaces(cluster.pods.keys().collect());
                for namespace in all.into_iter().chain(gone.iter().map(String::as_str)) {
                    self.read_pods(cluster, namespace);
                }
            }
        }
        self.wholes.retain(|_, whole| !whole.is_empty());
        self.revisions = [cluster.policies.revision(), cluster.pods.revision()];
        if !self.resolvers.holds(cluster) {
            self.resolvers = Resolvers::of(cluster);
        }
    }

    /// Where names are resolved.
    pub(super) fn dns(&self) -> &[Endpoint] {
        self.resolvers.endpoints()
    }

    fn read_policies(&mut self, cluster: &Cluster, namespace: &str) {
        let policies: Vec<Arc<Policy>> = cluster
            .policies
            .shared_in_namespace(namespace)
            .map(|(_, policy)| Arc::clone(policy))
            .collect();
        let [ingress, egress] = Direction::BOTH.map(|direction| {
            let isolating = policies.iter().filter(|policy| policy.rules(direction).is_some());
            Openness::of(isolating.cloned().collect(), direction, &mut self.selectors)
        });
        let whole = self.wholes.entry(namespace.to_owned()).or_default();
        (whole.ingress, whole.egress) = (ingress, egress);
    }

    fn read_pods(&mut self, cluster: &Cluster, namespace: &str) {
        let names = PortNames::of(cluster, namespace);
        self.wholes.entry(namespace.to_owned()).or_default().names = names;
    }

    /// The namespaces of which something is known, in the order of their names.
    pub(super) fn wholes(&self) -> impl Iterator<Item = (&str, &Whole)> {
        self.wholes.iter().map(|(name, whole)| (name.as_str(), whole))
    }

    pub(super) fn whole(&self, namespace: &str) -> Option<&Whole> {
        self.wholes.get(namespace)
    }
}

/// The namespaces of objects, each once.
fn namespaces(keys: Vec<&Key>) -> BTreeSet<&str> {
    keys.into_iter().map(|key| key.namespace.as_str()).collect()
}

impl Whole {
    pub fn names(&self) -> &PortNames {
        &self.names
    }

    fn is_empty(&self) -> bool {
        self.ingress.isolating.is_empty() && self.egress.isolating.is_empty() && self.names.0.is_empty()
    }

    /// Whether it is closed in a direction to all that changes for the pods of one other namespace, on ports that are named here.
    pub fn is_shut(
        &self,
        direction: Direction,
        selected: &mut Selected<'_>,
        changed: &[Option<&[&Port]>],
        names: &PortNames,
    ) -> bool {
        let openness = self.openness(direction);
        let mut opened = openness.towards(direction, selected);
        let gets_through = |ports: &Ports| changed.iter().any(|changed| opens(ports, *changed, names));
        openness.closed && !opened.any(|(_, _, ports)| gets_through(ports))
    }

    /// What it lets through in a direction, as far as it is about the pods of one other namespace.
    pub fn towards<'a>(&'a self, direction: Direction, selected: &mut Selected<'_>) -> Gate<'a> {
        let openness = self.openness(direction);
        let openings = openness.towards(direction, selected);
        let openings = openings.map(|(policy, pods, ports)| Opening::always(policy, pods, ports));
        Gate {
            closed: openness.closed,
            isolating: match openness.closed {
                true => Vec::new(),
                false => openness.isolating.iter().map(Arc::as_ref).collect(),
            },
            changing: [None, None],
            openings: openings.collect(),
        }
    }

    /// How many peers there are in a direction that may be of another namespace.
    pub fn size(&self, direction: Direction) -> usize {
        1 + self.openness(direction).openings.len()
    }

    fn openness(&self, direction: Direction) -> &Openness {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

impl Openness {
    /// What is about the pods of one other namespace: whose rule it is, for which pods there (`None`: all), and on which ports.
    fn towards<'a>(
        &'a self,
        direction: Direction,
        selected: &mut Selected<'_>,
    ) -> impl Iterator<Item = (&'a Policy, Option<&'a Selector>, &'a Ports)> {
        let openings = self.openings.iter();
        let about = openings.filter(|opening| opening.namespaces.is_none_or(|number| selected.is(number)));
        about.filter_map(move |opening| {
            let policy = self.isolating.get(opening.policy)?;
            let rule = policy.rules(direction)?.get(opening.rule)?;
            let pods = match (&rule.peers, opening.peer) {
                (Peers::Of(peers), Some(peer)) => match peers.get(peer)? {
                    Peer::Pods { pods, .. } => Some(pods),
                    Peer::Block(_) => return None,
                },
                _ => None,
            };
            Some((policy.as_ref(), pods, &rule.ports))
        })
    }

    fn of(isolating: Vec<Arc<Policy>>, direction: Direction, selectors: &mut Selectors) -> Self {
        let mut openings = Vec::new();
        for (policy, isolates) in isolating.iter().enumerate() {
            for (rule, opened) in isolates.rules(direction).unwrap_or_default().iter().enumerate() {
                let mut push = |peer, namespaces| {
                    openings.push(Towards {
                        policy,
                        rule,
                        peer,
                        namespaces,
                    });
                };
                let Peers::Of(peers) = &opened.peers else {
                    push(None, None);
                    continue;
                };
                for (peer, looks) in peers.iter().enumerate() {
                    if let Peer::Pods {
                        namespaces: Namespaces::Selected(selector),
                        ..
                    } = looks
                    {
                        let all = selector.is_everything();
                        push(Some(peer), (!all).then(|| selectors.number(selector)));
                    }
                }
            }
        }
        openings.shrink_to_fit();
        Self {
            closed: isolating.iter().any(|policy| policy.pods.is_everything()),
            isolating,
            openings,
        }
    }
}

impl Selectors {
    fn number(&mut self, selector: &Selector) -> usize {
        if let Some(number) = self.numbers.get(selector) {
            return *number;
        }
        let (selector, number) = (Arc::new(selector.clone()), self.list.len());
        self.list.push(Arc::clone(&selector));
        self.numbers.insert(selector, number);
        number
    }
}

impl<'a> Selected<'a> {
    /// `labels` are those of the namespace; `None` while it is not known.
    pub fn of(outline: &'a Outline, labels: Option<&'a Labels>) -> Self {
        Self {
            outline,
            labels,
            known: vec![None; outline.selectors.list.len()],
        }
    }

    fn is(&mut self, number: usize) -> bool {
        let (Some(known), Some(selector)) = (
            self.known.get_mut(number),
            self.outline.selectors.list.get(number),
        ) else {
            return false;
        };
        *known.get_or_insert_with(|| self.labels.is_some_and(|labels| selector.matches(labels)))
    }
}

impl PortNames {
    fn of(cluster: &Cluster, namespace: &str) -> Self {
        let mut ranges: BTreeMap<(Protocol, &str), Vec<PortRange>> = BTreeMap::new();
        let pods = cluster.pods.in_namespace(namespace);
        for port in pods
            .filter(|(_, pod)| pod.is_governed())
            .flat_map(|(_, pod)| &pod.ports)
        {
            if let Some(name) = &port.name {
                let numbers = ranges.entry((port.protocol, name)).or_default();
                numbers.push(PortRange::single(port.protocol, port.number));
            }
        }
        let names = ranges.into_iter();
        Self(
            names
                .map(|((protocol, name), ranges)| (protocol, name.to_owned(), ranges.into_iter().collect()))
                .collect(),
        )
    }

    /// The numbers behind a name.
    pub fn ranges(&self, protocol: Protocol, name: &str) -> &[PortRange] {
        let found = self
            .0
            .iter()
            .find(|(of, called, _)| *of == protocol && called == name);
        found.map_or(&[], |(_, _, numbers)| numbers.ranges())
    }
}
