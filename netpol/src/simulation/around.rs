//! What is around a change: the policies beside it, and the pods that may come.

use super::{Bounds, Change, FUTURE};
use crate::cluster::{Cluster, Pod};
use crate::policy::Policy;
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
    pub namespaces: Vec<&'a str>,
    pub bounds: Bounds,
}

impl<'a> Around<'a> {
    pub fn new(cluster: &'a Cluster, change: Change<'a>, bounds: Bounds) -> Self {
        let own = change.key.namespace.as_str();
        let all = cluster.namespaces.keys().map(|key| key.name.as_str());

        let policies = cluster.policies.in_namespace(&change.key.namespace);
        Self {
            cluster,
            change,
            others: policies
                .filter(|(key, _)| *key != change.key)
                .map(|(_, policy)| policy)
                .collect(),
            to_come: to_come(change),
            namespaces: std::iter::once(own)
                .chain(all.filter(|name| *name != own))
                .collect(),
            bounds,
        }
    }

    /// Whether the policy selects the pod, before or after.
    pub fn selected(&self, pod: &Pod) -> bool {
        let selects = |policy: Option<&Policy>| policy.is_some_and(|policy| policy.pods.matches(&pod.labels));
        selects(self.change.before) || selects(self.change.after)
    }

    /// The policies of a namespace, before and after.
    pub fn policies(&self, namespace: &str) -> [Vec<&'a Policy>; 2] {
        if namespace == self.change.key.namespace {
            [self.change.before, self.change.after]
                .map(|changed| self.others.iter().copied().chain(changed).collect())
        } else {
            let policies = self.cluster.policies.in_namespace(namespace);
            let policies: Vec<&Policy> = policies.map(|(_, policy)| policy).collect();
            [policies.clone(), policies]
        }
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
