//! What of the stored objects does not meet a standard. Admission sees changes only; what was there before it does not.

use std::collections::BTreeMap;

use super::judge::{Asked, holds};
use crate::api::{Kind, LabelStandard, LabelStandardSpec, LabelStandardStatus};
use crate::cluster::{Cluster, Pod};
use crate::selector::Labels;

/// How many violating objects are named.
const NAMED: usize = 10;

/// What to say of each standard, by its name.
pub fn audit(cluster: &Cluster) -> BTreeMap<String, LabelStandardStatus> {
    let standards = cluster.standards.iter();
    standards
        .map(|(key, standard)| (key.name.clone(), audit_one(cluster, standard)))
        .collect()
}

/// What to say of one standard: namespaces and pods are looked at; what makes pods is, through the pods that it made.
pub fn audit_one(cluster: &Cluster, standard: &LabelStandard) -> LabelStandardStatus {
    let mut status = LabelStandardStatus {
        observed_generation: standard.metadata.generation,
        ..LabelStandardStatus::default()
    };
    look(cluster, &standard.spec, &mut status);
    status
}

fn look(cluster: &Cluster, spec: &LabelStandardSpec, status: &mut LabelStandardStatus) {
    let asked: Vec<Asked<'_>> = spec.labels.iter().map(Asked::new).collect();
    let mut take = |kind: Kind, name: String, labels: &Labels| {
        status.checked += 1;
        if asked.iter().all(|asked| asked.is_met(labels)) {
            return;
        }
        status.violating += 1;
        if status.examples.len() < NAMED {
            status.examples.push(format!("{} {name}", kind.as_str()));
        }
    };
    let pods = spec.kinds.iter().any(|kind| *kind != Kind::Namespace);
    for (key, namespace) in cluster.namespaces.iter() {
        if namespace.terminating || !holds(spec, &key.name, Some(&namespace.labels)) {
            continue;
        }
        if spec.kinds.contains(&Kind::Namespace) {
            take(Kind::Namespace, key.name.clone(), &namespace.labels);
        }
        let pods = cluster.pods.in_namespace(&key.name).filter(|_| pods);
        for (key, pod) in pods.filter(|(_, pod)| is_held(pod, &spec.kinds)) {
            take(Kind::Pod, key.to_string(), &pod.labels);
        }
    }
}

/// Whether a pod is held to a standard for such kinds: as a pod, or by the template that it was made from.
fn is_held(pod: &Pod, kinds: &[Kind]) -> bool {
    let maker = |kind: Kind| match &pod.owner {
        None => false,
        Some(owner) => match kind {
            // What a Deployment makes, a ReplicaSet makes for it, and marks it so.
            Kind::Deployment => owner.kind == "ReplicaSet" && pod.labels.contains_key("pod-template-hash"),
            // The same for jobs, which end in the time that they were made for.
            Kind::CronJob => owner.kind == "Job" && is_timed(&owner.name),
            other => owner.kind == other.as_str(),
        },
    };
    kinds.iter().any(|kind| *kind == Kind::Pod || maker(*kind))
}

fn is_timed(name: &str) -> bool {
    let time = name.rsplit_once('-').map_or("", |(_, time)| time);
    time.len() >= 8 && time.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Key, Namespace, Owner};

    #[test]
    fn a_standard_for_what_makes_pods_is_looked_at_through_the_pods() {
        let mut cluster = Cluster::default();
        cluster
            .namespaces
            .apply(Key::cluster("shop"), Namespace::default());
        for (name, kind, owner, labels) in [
            ("web", "ReplicaSet", "web-7", vec![("pod-template-hash", "7")]),
            ("old", "ReplicaSet", "old", vec![("team", "x")]),
            ("night", "Job", "night-29300160", vec![]),
            ("once", "Job", "once", vec![]),
        ] {
            let labels = labels.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned()));
            let pod = Pod {
                labels: labels.collect::<Labels>().into(),
                owner: Some(Owner {
                    name: owner.to_owned(),
                    kind: kind.to_owned(),
                }),
                ..Pod::default()
            };
            cluster.pods.apply(Key::new("shop", name), pod);
        }
        cluster.pods.apply(Key::new("shop", "bare"), Pod::default());
        for (kinds, checked, violating) in [
            ("Deployment", 1, 1),
            ("ReplicaSet", 2, 1),
            ("Job", 2, 2),
            ("CronJob", 1, 1),
            ("StatefulSet", 0, 0),
            ("Pod", 5, 4),
            ("Pod, Deployment", 5, 4),
            ("Namespace", 1, 1),
        ] {
            let spec = format!("{{kinds: [{kinds}], labels: [{{key: team, pattern: '[a-z]+'}}]}}");
            let standard = LabelStandard::new("teams", serde_yaml_ng::from_str(&spec).unwrap());
            let status = audit_one(&cluster, &standard);
            assert_eq!(
                (status.checked, status.violating),
                (checked, violating),
                "{kinds}"
            );
        }
    }
}
