//! Which nodes run something that enforces policies, as far as pods show it.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::{Cluster, Key, Pod};

/// Labels of what is known to enforce NetworkPolicy on its node, ours first.
const ENFORCING: &[(&str, &str)] = &[
    ("app.kubernetes.io/name", "ringfence-enforcer"),
    ("k8s-app", "calico-node"),
    ("k8s-app", "canal"),
    ("k8s-app", "cilium"),
    ("app.kubernetes.io/name", "cilium-agent"),
    ("k8s-app", "kube-router"),
    ("component", "antrea-agent"),
    ("app", "ovnkube-node"),
    ("name", "weave-net"),
    ("k8s-app", "azure-npm"),
    ("k8s-app", "kube-network-policies"),
    ("app", "kube-network-policies"),
];
/// Labels of what is known to connect pods and to leave policies to others.
const CONNECTING: &[(&str, &str)] = &[("app", "flannel"), ("k8s-app", "flannel")];

/// The nodes with what runs on them.
#[derive(Debug, Default)]
pub(super) struct Agents {
    /// Something enforces that is on no node yet: a DaemonSet in manifests.
    pub anywhere: bool,
    pub enforcing: BTreeSet<String>,
    /// A network that enforces nothing itself, by node.
    pub connecting: BTreeMap<String, Key>,
}

pub(super) fn find(cluster: &Cluster) -> Agents {
    let mut agents = Agents::default();
    for (key, pod) in cluster.pods.iter() {
        match (&pod.node, is_any(pod, ENFORCING)) {
            (Some(node), true) => {
                agents.enforcing.insert(node.clone());
            }
            (None, true) => agents.anywhere = true,
            (Some(node), false) if pod.host_network && is_any(pod, CONNECTING) => {
                agents.connecting.insert(node.clone(), key.clone());
            }
            _ => {}
        }
    }
    agents
}

fn is_any(pod: &Pod, labels: &[(&str, &str)]) -> bool {
    // Pods have few labels, and most of them none of these keys.
    pod.labels.iter().any(|label| {
        labels
            .iter()
            .any(|(key, value)| label.0 == key && label.1 == value)
    })
}
