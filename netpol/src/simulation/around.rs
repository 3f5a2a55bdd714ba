//! What is around a change: the policies beside it, and the pods that may come.

use std::cell::RefCell;

use super::dns::Endpoint;
use super::far::Gate;
use super::outline::{NO_NAMES, Outline, PortNames, Selected, Whole};
use super::{Bounds, Change, FUTURE};
use crate::cluster::{Cluster, Pod};
use crate::policy::{Direction, Policy, Port};
use crate::selector::{Condition, Labels, Selector};

/// The policies before and after.
pub struct Around<'a> {
    pub cluster: &'a Cluster,
    pub change: Change<'a>,
    /// The policies of the namespace, without the one that changes.
    pub others: Vec<&'a Policy>,
    /// Pods that may come, as the policy selects them before or after, by what they are called.
    pub to_come: Vec<(String, Pod)>,
    /// All namespaces, the policy's own first.
    pub neighbours: Vec<Neighbour<'a>>,
    /// Where names are resolved.
    pub dns: &'a [Endpoint],
    pub bounds: Bounds,
    /// Which selectors of namespaces select the policy's own.
    selected: RefCell<Selected<'a>>,
}

/// A namespace, with what is known of it as a whole.
#[derive(Clone, Copy)]
pub struct Neighbour<'a> {
    pub name: &'a str,
    pub labels: Option<&'a Labels>,
    whole: Option<&'a Whole>,
}

impl<'a> Neighbour<'a> {
    /// What the names of ports stand for on its pods.
    pub fn names(&self) -> &'a PortNames {
        self.whole.map_or(NO_NAMES, Whole::names)
    }

    /// How much there is to look through in a direction.
    pub fn size(&self, direction: Direction) -> usize {
        self.whole.map_or(1, |whole| whole.size(direction))
    }
}

impl<'a> Around<'a> {
    pub fn new(cluster: &'a Cluster, outline: &'a Outline, change: Change<'a>, bounds: Bounds) -> Self {
        let own = change.key.namespace.as_str();
        let labels = cluster.namespace_labels(own);
        let first = Neighbour {
            name: own,
            labels,
            whole: outline.whole(own),
        };
        let mut neighbours = vec![first];
        // Both are in the order of their names.
        let mut wholes = outline.wholes().peekable();
        for (key, namespace) in cluster.namespaces.iter() {
            let name = key.name.as_str();
            if name == own {
                continue;
            }
            while wholes.next_if(|(other, _)| *other < name).is_some() {}
            neighbours.push(Neighbour {
                name,
                labels: Some(&namespace.labels),
                whole: wholes
                    .next_if(|(other, _)| *other == name)
                    .map(|(_, whole)| whole),
            });
        }
        let policies = cluster.policies.in_namespace(own);
        Self {
            cluster,
            change,
            others: policies
                .filter(|(key, _)| *key != change.key)
                .map(|(_, policy)| policy)
                .collect(),
            to_come: to_come(change),
            neighbours,
            dns: outline.dns(),
            bounds,
            selected: RefCell::new(Selected::of(outline, labels)),
        }
    }

    /// Whether the policy selects the pod, before or after.
    pub fn selected(&self, pod: &Pod) -> bool {
        let selects = |policy: Option<&Policy>| policy.is_some_and(|policy| policy.pods.matches(&pod.labels));
        selects(self.change.before) || selects(self.change.after)
    }

    /// Whether another namespace as a whole is closed in a direction to what changes.
    pub fn is_shut(
        &self,
        neighbour: &Neighbour<'a>,
        direction: Direction,
        changed: &[Option<&[&Port]>],
        names: &PortNames,
    ) -> bool {
        let whole = neighbour
            .whole
            .filter(|_| neighbour.name != self.change.key.namespace);
        let selected = &mut self.selected.borrow_mut();
        whole.is_some_and(|whole| whole.is_shut(direction, selected, changed, names))
    }

    /// What a namespace lets through in a direction of the policy's own.
    pub fn gate(&self, neighbour: &Neighbour<'a>, direction: Direction) -> Gate<'a> {
        if neighbour.name == self.change.key.namespace {
            return Gate::own(self, direction);
        }
        let selected = &mut self.selected.borrow_mut();
        let whole = neighbour.whole.map(|whole| whole.towards(direction, selected));
        whole.unwrap_or_default()
    }

    /// What the names of ports stand for on the pods of the policy's own namespace.
    pub fn names(&self) -> &'a PortNames {
        self.neighbours.first().map_or(NO_NAMES, Neighbour::names)
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
        labels: labels.collect::<Labels>().into(),
        ..Pod::default()
    }
}
