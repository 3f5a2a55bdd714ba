//! The policy under judgement, with what several rules want to know of it.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::dead::{self, DeadPeer};
use super::peers::{self, PeerAt};
use super::survey::Survey;
use crate::baseline::object::{BASELINE, MANAGED_BY, MANAGER};
use crate::cluster::{Cluster, Key, Pod};
use crate::policy::{Direction, Policy};
use crate::selector::{Condition, Labels};

/// How many peers are compared with the cluster: a policy of the largest size that is stored has some ten thousand,
/// and a cluster as many pods.
pub(super) const EXAMINED: usize = 256;
/// For how many that match nothing a near miss is looked for.
const GUESSED: usize = 16;
/// How many different pods are asked what becomes of them: those of one owner are alike.
const SAMPLES: usize = 16;

/// A policy as it was written and as it was understood, and what it is judged against.
pub struct Subject<'a, 'c> {
    pub object: &'a NetworkPolicy,
    pub policy: &'a Policy,
    pub survey: Option<&'a Survey<'c>>,
    pub cluster: Option<&'c Cluster>,
    /// The policy before it was typed, where it is at hand; at admission the API server has pruned it already.
    pub written: Option<&'a serde_json::Value>,
    peers: OnceCell<Vec<PeerAt>>,
    dead: OnceCell<Vec<DeadPeer>>,
    others: OnceCell<Vec<&'c Policy>>,
    selected: OnceCell<Vec<(&'c Key, &'c Pod)>>,
    samples: OnceCell<Vec<(&'c Key, &'c Pod)>>,
}

impl<'a, 'c> Subject<'a, 'c> {
    pub fn new(
        object: &'a NetworkPolicy,
        policy: &'a Policy,
        survey: Option<&'a Survey<'c>>,
        written: Option<&'a serde_json::Value>,
    ) -> Self {
        Self {
            object,
            policy,
            survey,
            cluster: survey.map(|survey| survey.cluster),
            written,
            peers: OnceCell::new(),
            dead: OnceCell::new(),
            others: OnceCell::new(),
            selected: OnceCell::new(),
            samples: OnceCell::new(),
        }
    }

    /// The policy's own namespace.
    pub fn namespace(&self) -> &'a str {
        &self.policy.key.namespace
    }

    /// Whether the generator made it: the platform team wrote its template, and answers for it there.
    pub(super) fn is_generated(&self) -> bool {
        let labels = self.object.metadata.labels.as_ref();
        labels.is_some_and(|labels| {
            labels.get(MANAGED_BY).is_some_and(|manager| manager == MANAGER) && labels.contains_key(BASELINE)
        })
    }

    /// The other policies of its namespace; none without a cluster.
    pub(super) fn others(&self) -> &[&'c Policy] {
        self.others.get_or_init(|| {
            let Some(cluster) = self.cluster else {
                return Vec::new();
            };
            let all = cluster.policies.in_namespace(self.namespace());
            all.filter(|(key, _)| **key != self.policy.key)
                .map(|(_, policy)| policy)
                .collect()
        })
    }

    /// The policies, this one among them, that select a pod of the namespace with these labels.
    pub(super) fn policies_of(&self, labels: &Labels) -> Vec<&Policy> {
        let all = self.others().iter().copied().chain([self.policy]);
        all.filter(|policy| policy.pods.matches(labels)).collect()
    }

    /// The pods in view that it governs.
    pub(super) fn selected(&self) -> &[(&'c Key, &'c Pod)] {
        self.selected.get_or_init(|| {
            let Some(cluster) = self.cluster else {
                return Vec::new();
            };
            let own = cluster.pods.in_namespace(self.namespace());
            own.filter(|(_, pod)| pod.is_governed() && self.policy.pods.matches(&pod.labels))
                .collect()
        })
    }

    /// The first of [`Self::selected`] that differ in owner or labels.
    pub(super) fn samples(&self) -> &[(&'c Key, &'c Pod)] {
        self.samples.get_or_init(|| {
            let mut owners = BTreeSet::new();
            let mut labels = HashSet::new();
            let selected = self.selected().iter().copied();
            selected
                .filter(|(_, pod)| match &pod.owner {
                    Some(owner) => owners.insert(owner),
                    None => labels.insert(&pod.labels),
                })
                .take(SAMPLES)
                .collect()
        })
    }

    /// A pod as it must be for the policy to select it, where none is in view. It may have more labels.
    pub(super) fn imagined(&self) -> (Key, Pod) {
        let labels = self
            .policy
            .pods
            .requirements()
            .filter_map(|requirement| match &requirement.condition {
                Condition::In(values) => Some((requirement.key.clone(), values.first()?.clone())),
                Condition::Exists => Some((requirement.key.clone(), String::new())),
                Condition::NotIn(_) | Condition::DoesNotExist => None,
            })
            .collect();
        let pod = Pod {
            labels: Arc::new(labels),
            ..Pod::default()
        };
        (Key::new(self.namespace(), ""), pod)
    }

    /// Whether others isolate, for a direction, every pod that this one selects.
    pub(super) fn others_isolate(&self, direction: Direction) -> bool {
        let isolating: Vec<&Policy> = self
            .others()
            .iter()
            .copied()
            .filter(|other| other.rules(direction).is_some())
            .collect();
        if isolating
            .iter()
            .any(|other| self.policy.pods.implies(&other.pods))
        {
            return true;
        }
        let by_any = |pod: &Pod| isolating.iter().any(|other| other.pods.matches(&pod.labels));
        !self.samples().is_empty() && self.samples().iter().all(|(_, pod)| by_any(pod))
    }

    /// The peers with selectors that can be understood, and that have an effect.
    pub(super) fn peers(&self) -> &[PeerAt] {
        self.peers
            .get_or_init(|| peers::collect(self.object, self.policy))
    }

    /// The peers that match nothing in the live cluster, of the first [`EXAMINED`]; none without a cluster.
    pub(super) fn dead_peers(&self) -> &[DeadPeer] {
        self.dead.get_or_init(|| {
            let Some(cluster) = self.cluster else {
                return Vec::new();
            };
            let mut dead = Vec::new();
            for peer in self.peers().iter().take(EXAMINED) {
                let guess = dead.len() < GUESSED;
                dead.extend(dead::examine(peer, self.namespace(), cluster, guess));
            }
            dead
        })
    }

    /// How many peers are left out of [`Self::dead_peers`].
    pub(super) fn peers_not_examined(&self) -> usize {
        self.peers().len().saturating_sub(EXAMINED)
    }
}
