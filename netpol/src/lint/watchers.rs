//! What must reach pods, or be reached by them, though no application asks for it: Prometheus, and the control planes of meshes.

use std::collections::BTreeMap;

use crate::cluster::{Cluster, Key, Mesh, Pod};

/// Labels of what fetches metrics: the Prometheus of its chart, of its operator and of older manifests, its agent, and
/// VictoriaMetrics's.
const PROMETHEUS: &[(&str, &str)] = &[
    ("app.kubernetes.io/name", "prometheus"),
    ("app.kubernetes.io/name", "prometheus-agent"),
    ("app.kubernetes.io/name", "vmagent"),
    ("app", "prometheus"),
    ("k8s-app", "prometheus"),
];
/// Other parts of the same installations carry the same name.
const COMPONENT: &str = "app.kubernetes.io/component";
const SERVERS: &[&str] = &["server", "prometheus", "monitoring"];

pub(super) fn prometheus(cluster: &Cluster) -> Vec<(&Key, &Pod)> {
    let fetches = |pod: &Pod| {
        let named = |(key, value): &(&str, &str)| pod.labels.get(*key).is_some_and(|label| label == value);
        let component = pod.labels.get(COMPONENT);
        PROMETHEUS.iter().any(named) && component.is_none_or(|it| SERVERS.contains(&it.as_str()))
    };
    let all = cluster.pods.iter();
    all.filter(|(_, pod)| pod.is_governed() && fetches(pod)).collect()
}

/// What proxies of a mesh ask for, and where: the label of the pods that answer, and their port.
pub(super) const CONTROL: &[(Mesh, (&str, &str), u16)] = &[
    (Mesh::Istio, ("app", "istiod"), 15012),
    (
        Mesh::Linkerd,
        ("linkerd.io/control-plane-component", "destination"),
        8086,
    ),
    (
        Mesh::Linkerd,
        ("linkerd.io/control-plane-component", "identity"),
        8080,
    ),
];

/// Pods of a mesh's control plane, with the port that each answers proxies on.
pub(super) type ControlPlane<'a> = Vec<(&'a Key, &'a Pod, u16)>;

pub(super) fn control_planes(cluster: &Cluster) -> BTreeMap<Mesh, ControlPlane<'_>> {
    let mut found: BTreeMap<Mesh, ControlPlane<'_>> = BTreeMap::new();
    for (key, pod) in cluster.pods.iter().filter(|(_, pod)| pod.is_governed()) {
        for (mesh, (label, value), port) in CONTROL {
            if pod.labels.get(*label).is_some_and(|it| it == value) {
                found.entry(*mesh).or_default().push((key, pod, *port));
            }
        }
    }
    found
}
