//! The scheduling gate: where nothing enforces a baseline before it is stored, a pod waits until it is.
//!
//! A pod waits while a policy that its namespace must have is not stored. Policies that cannot be rendered are not waited for, nor those whose name
//! somebody else's object has: nobody will store them before a person has looked, and a status says so. A policy for what
//! routes name opens, and can wait.

use std::collections::BTreeMap;

use super::membership::ALWAYS_EXCLUDED;
use super::render::Place;
use super::wanted::wanted;
use super::{Baseline, Baselines};
use crate::cluster::{Cluster, Key};
use crate::facts::Facts;

/// The name of the gate in `spec.schedulingGates`.
pub const GATE: &str = "ringfence.dev/baseline";

/// The baselines of a cluster, to know what must be stored and not what it says: nothing is looked up for them.
pub fn baselines(cluster: &Cluster) -> Baselines {
    let read = |(key, object): (&Key, _)| (key.name.clone(), Baseline::read(object, |_| Facts::new()));
    Baselines(cluster.baselines.iter().map(read).collect::<BTreeMap<_, _>>())
}

/// Whether pods of a namespace wait. One that is not known yet may be taken by any baseline. `stored` says whether there is a
/// policy of that name.
pub fn holds(cluster: &Cluster, baselines: &Baselines, name: &str, stored: impl Fn(&Key) -> bool) -> bool {
    if ALWAYS_EXCLUDED.contains(&name) {
        return false;
    }
    let Some(namespace) = cluster.namespaces.get(&Key::cluster(name)) else {
        return baselines.iter().any(|(_, baseline)| match baseline {
            Baseline::Valid { template, .. } => !template.suspended && !template.excluded.contains(name),
            Baseline::Invalid { .. } => false,
        });
    };
    // What is stored needs no look at who made it: whatever is held under a name is stored under it.
    let wanted = wanted(Place::of(name, namespace), baselines).policies;
    wanted
        .iter()
        .any(|(policy, _)| !stored(&Key::new(name, policy.as_str())))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use k8s_openapi::api::core::v1 as core;
    use serde_json::json;

    use super::super::testing::baseline;
    use super::*;

    const CLOSED: &str = "{namespaceSelector: {matchLabels: {team: red}}, excludedNamespaces: [legacy], policies: [
        {name: deny, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}},
        {name: dns, spec: {podSelector: {}, policyTypes: [Egress], egress: [{fact: dns}]}},
        {name: own, spec: {podSelector: {matchLabels: {of: '${namespace.labels.owner}'}}, policyTypes: [Egress]}}]}";

    fn cluster(spec: &str, namespaces: &[(&str, &str)]) -> Cluster {
        let mut cluster = Cluster::default();
        cluster.baselines.apply(Key::cluster("b"), baseline("b", spec));
        for (name, team) in namespaces {
            let namespace: core::Namespace =
                serde_json::from_value(json!({"metadata": {"name": name, "labels": {"team": team}}}))
                    .unwrap();
            cluster.apply(&namespace);
        }
        cluster
    }

    fn held(cluster: &Cluster, namespace: &str, stored: &[&str]) -> bool {
        let stored: BTreeSet<&str> = stored.iter().copied().collect();
        holds(cluster, &baselines(cluster), namespace, |key| {
            key.namespace == namespace && stored.contains(key.name.as_str())
        })
    }

    #[test]
    fn a_pod_waits_until_every_policy_that_can_be_rendered_is_stored() {
        let cluster = cluster(CLOSED, &[("shop", "red"), ("lab", "blue")]);
        assert!(held(&cluster, "shop", &[]));
        assert!(held(&cluster, "shop", &["deny"]));
        assert!(
            !held(&cluster, "shop", &["deny", "dns"]),
            "the third cannot be rendered without a label"
        );
        assert!(!held(&cluster, "lab", &[]), "no baseline takes it");
    }

    #[test]
    fn a_namespace_that_is_not_known_yet_may_be_any_baseline_s() {
        let cluster = cluster(CLOSED, &[]);
        assert!(held(&cluster, "new", &[]));
        assert!(!held(&cluster, "legacy", &[]));
        assert!(!held(&cluster, "kube-system", &[]));
        assert!(!held(&Cluster::default(), "new", &[]), "there is no baseline");
    }

    #[test]
    fn for_a_suspended_or_invalid_baseline_nobody_waits() {
        let suspended = CLOSED.replacen('{', "{suspend: true, ", 1);
        let invalid = CLOSED.replace("fact: dns", "fact: dnss");
        for spec in [suspended, invalid] {
            let cluster = cluster(&spec, &[("shop", "red")]);
            assert!(
                !held(&cluster, "shop", &[]) && !held(&cluster, "new", &[]),
                "{spec}"
            );
        }
    }
}
