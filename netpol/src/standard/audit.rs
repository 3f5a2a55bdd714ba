//! What of the stored objects does not meet a standard. Admission sees changes only; what was there before it does not.

use std::collections::BTreeMap;

use super::judge::{holds, is_met};
use crate::api::{Kind, LabelStandardSpec, LabelStandardStatus};
use crate::cluster::Cluster;
use crate::selector::Labels;

/// How many violating objects are named.
const NAMED: usize = 10;

/// What to say of each standard, by its name: namespaces and pods are looked at; templates are, through their pods.
pub fn audit(cluster: &Cluster) -> BTreeMap<String, LabelStandardStatus> {
    let standards = cluster.standards.iter();
    standards
        .map(|(key, standard)| {
            let mut status = LabelStandardStatus {
                observed_generation: standard.metadata.generation,
                ..LabelStandardStatus::default()
            };
            look(cluster, &standard.spec, &mut status);
            (key.name.clone(), status)
        })
        .collect()
}

fn look(cluster: &Cluster, spec: &LabelStandardSpec, status: &mut LabelStandardStatus) {
    let mut take = |kind: Kind, name: String, labels: &Labels| {
        status.checked += 1;
        if spec.labels.iter().all(|asked| is_met(asked, labels)) {
            return;
        }
        status.violating += 1;
        if status.examples.len() < NAMED {
            status.examples.push(format!("{} {name}", kind.as_str()));
        }
    };
    let pods = spec.kinds.contains(&Kind::Pod);
    for (key, namespace) in cluster.namespaces.iter() {
        if namespace.terminating || !holds(spec, &key.name, Some(&namespace.labels)) {
            continue;
        }
        if spec.kinds.contains(&Kind::Namespace) {
            take(Kind::Namespace, key.name.clone(), &namespace.labels);
        }
        if pods {
            for (key, pod) in cluster.pods.in_namespace(&key.name) {
                take(Kind::Pod, key.to_string(), &pod.labels);
            }
        }
    }
}
