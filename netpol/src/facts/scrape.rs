//! Where Prometheus runs: who scrapes must reach every pod that it scrapes.
//!
//! As with ingress controllers, a label alone makes nobody Prometheus, since anyone who can label a pod could otherwise reach every
//! namespace: the pods count in the namespaces in which it is usually installed, and elsewhere if they are pinned.

use crate::api::baseline::FactRule;
use crate::cluster::{Cluster, Key, Pod};
use crate::selector::Selector;

use super::{Finding, Findings, peers, pods_of};

const NAMESPACES: [&str; 7] = [
    "cattle-monitoring-system",
    "kube-prometheus-stack",
    "monitoring",
    "observability",
    "openshift-monitoring",
    "openshift-user-workload-monitoring",
    "prometheus",
];

/// The labels of its pods: the operator's and the charts'; older charts'.
const PODS: [&[(&str, &str)]; 2] = [
    &[("app.kubernetes.io/name", "prometheus")],
    &[("app", "prometheus"), ("component", "server")],
];

pub(super) fn find(cluster: &Cluster) -> Findings {
    let mut found = Findings {
        forget_gone: true,
        ..Findings::default()
    };
    for namespace in NAMESPACES {
        if cluster.namespaces.get(&Key::cluster(namespace)).is_none() {
            continue;
        }
        let mut rule = FactRule::default();
        for labels in PODS {
            let labels: Vec<(String, String)> = labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect();
            let selector: Selector = labels.iter().cloned().collect();
            let pods: Vec<&Pod> = pods_of(cluster, namespace, &selector).collect();
            if !pods.is_empty() {
                rule.peers.extend(peers(namespace, &labels, pods.into_iter()));
            }
        }
        found.findings.push(Finding {
            origin: format!("Prometheus in {namespace}"),
            found: match rule.peers.is_empty() {
                true => Err("none of its pods is there".to_owned()),
                false => Ok(rule),
            },
        });
    }
    // A namespace that is there and has none is worth a word only where nothing else is found.
    if found.findings.is_empty() {
        found.remarks.push(format!(
            "none of {} is there; name its pods in spec.facts.prometheus.rules",
            NAMESPACES.join(", ")
        ));
    }
    found
}
